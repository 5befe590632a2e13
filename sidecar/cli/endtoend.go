package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/sign"
)

const e2eHelp = `Usage: logline e2e [--within D] [--tenant T] [--key FILE] [--json] [--database URL]

Runs the whole flow against a running system, and takes the time of each step: a user of its own appends a
scheduled function, as PostgREST would; a request and an execution appear; the versions tell who ran what; the
user calls the function with other input; a stranger sees nothing, and nobody may change what is there. Then
the function is tombstoned, and nothing is left open: after a failure and Ctrl-C, too. What a killed run has
left is put away by one after its deadline (four times --within and two minutes); nothing else of the tenant
is touched. Spans stay, as spans do: eight in the tenant logline-e2e.

The login must own the database, or be able to act as a user (set role authenticated).

    --within D       how long each wait may last, such as 5s (15s)
    --tenant T       run in this tenant, with its limits and policies (logline-e2e)
    --key FILE       sign the function, where the manifest wants functions signed
    --json           one object: ok, ms, open, user, tenant, function, trace_id, steps
    --database URL   default: DATABASE_URL

Exit codes: 0 all steps are ok, 1 one has failed, 2 wrong use.

Examples:

    logline e2e
    logline e2e --within 5s --json | jq '.steps[] | {step, ms}'
    logline e2e --key function.key
`

func runE2E(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var asJSON bool
	var keyFile string
	options := app.E2EOptions{Slot: config.Slot(), Tenant: app.E2ETenant}
	url, err := parseOwner("e2e", e2eHelp, args, out, func(flags *flag.FlagSet) {
		flags.DurationVar(&options.Within, "within", app.E2EWithin, "")
		stated(flags, &options.Tenant, "tenant")
		stated(flags, &keyFile, "key")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if options.Within <= 0 || options.Within > time.Hour {
		return &usageError{"--within wants a time such as 5s, of an hour at most; see `logline help e2e`"}
	}
	if keyFile != "" {
		if options.Key, err = sign.ReadKeyFile(keyFile); err != nil {
			return err
		}
	}
	owner, err := openSession(ctx, url)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	progress := out
	if asJSON {
		progress = io.Discard
		if isTerminal(errOut) {
			progress = errOut
		}
	}
	color := paintFor(progress)
	options.Tell = func(step app.E2EStep) {
		fmt.Fprintf(progress, "%s %-10s %9.1f ms  %s\n", color.status(fmt.Sprintf("%-6s", step.Level)), step.Step,
			step.Ms, plainText(step.Found, causeWidth))
		if step.Mend != "" {
			fmt.Fprintf(progress, "%31s mend: %s\n", "", plainText(step.Mend, causeWidth))
		}
	}
	report, err := app.E2E(ctx, owner, options)
	if err != nil {
		return explainRights(err)
	}
	if asJSON {
		err = printJSON(out, report, false)
	} else {
		_, err = fmt.Fprintf(out, "\n%d steps in %.1f ms in %s (Postgres %s); trace %s\n", len(report.Steps),
			report.Ms, report.Database, report.Server, report.TraceID)
	}
	if err == nil && !report.OK {
		return errors.New("a step has failed")
	}
	return err
}
