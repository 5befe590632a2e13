package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
)

const verifyHelp = `Usage: logline verify [--strict] [--json] [--url URL] [--database URL]

Looks whether the ledger is whole, and changes nothing. What must not be possible is really tried, in
transactions that are rolled back: update, delete, truncate and upsert, as this login and as every role that
clients have; reading and writing what is another user's. Then: is a manifest in force, is the pinned root in
the ledger, do the five kernels hold (id, code, hash, signature), do the walls stand, which definer functions
may clients call, does a sidecar lead and its Stage-0 agree, is the slot in use. Each line says ok, warn,
fault, or skipped with what could not be checked and why, and the mend.

The login should own the database (on Supabase: postgres); any other sees a part. A truncate that is tried
holds the ledger for a millisecond; beside a long reader, such as pg_dump, it waits for 50 ms, twice at
most, others behind it, and is skipped. ` + "`logline doctor`" + ` looks at the way to the database and at the
server; this at what is in it.

    --strict         what could not be checked counts as a fault
    --json           one object: database, host, server, login, ledger, version, at, ok, failed,
                     unchecked, checks
    --url URL        of the sidecar that leads; default LOGLINE_URL, else LOGLINE_LISTEN on this machine
    --database URL   default: DATABASE_URL

LOGLINE_TRUST_ROOT says which signatures count; then a kernel that nobody signed and that is not shipped is a
fault. On a standby nothing can be tried: ask the primary.

Exit codes: 0 nothing has failed, 1 something has, 2 wrong use.

Examples:

    logline verify
    logline verify --json | jq '.checks[] | select(.level != "ok")'
    logline verify --strict --url http://10.0.0.5:8787
`

func runVerify(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var asJSON, isStrict bool
	options := app.VerifyOptions{TrustRoot: config.TrustRoot(), Slot: config.Slot(),
		Publication: config.Publication()}
	owner, err := openOwner(ctx, "verify", verifyHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&asJSON, "json", false, "")
		flags.BoolVar(&isStrict, "strict", false, "")
		flags.StringVar(&options.URL, "url", config.SidecarURL(), "")
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	at, stop := progressOn(errOut, "verify")
	defer stop()
	options.Tell = at
	v, err := app.Verify(ctx, owner, options)
	stop()
	if err != nil {
		return err
	}
	if isStrict && v.Unchecked > 0 {
		v.OK = false
	}
	if asJSON {
		err = printJSON(out, v, false)
	} else {
		err = tellVerification(out, v)
	}
	if err == nil && !v.OK {
		var failed []string
		for _, f := range v.Checks {
			if f.Level == app.Fault {
				failed = append(failed, f.Check)
			}
		}
		return errUnsound(failed, v.Unchecked)
	}
	return err
}

// errUnsound says why a check ends with 1: by the names of what has failed, once each.
func errUnsound(failed []string, unchecked int) error {
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(slices.Compact(failed), ", "))
	}
	return fmt.Errorf("not checked, and --strict wants all of it: %d", unchecked)
}

func tellVerification(out io.Writer, v *app.Verification) error {
	color := paintFor(out)
	width := 0
	for _, f := range v.Checks {
		width = max(width, len(f.Check))
	}
	for _, f := range v.Checks {
		level := fmt.Sprintf("%-8s", f.Level)
		fmt.Fprintf(out, "%s %-*s  %s\n", color.status(level), width, f.Check, plainText(f.Cause, causeWidth))
		if f.Mend != "" && f.Level != app.Fine {
			fmt.Fprintf(out, "%8s %-*s  mend: %s\n", "", width, "", plainText(f.Mend, causeWidth))
		}
	}
	warned := 0
	for _, f := range v.Checks {
		if f.Level == app.Warning {
			warned++
		}
	}
	_, err := fmt.Fprintf(out, "\n%d checks of %s (Postgres %s) as %s: %d ok, %d warn, %d fault, %d skipped\n",
		len(v.Checks), v.Database, v.Server, v.Login, len(v.Checks)-v.Failed-v.Unchecked-warned, warned, v.Failed,
		v.Unchecked)
	return err
}

// causeWidth is as much of what was found as is printed; --json has all.
const causeWidth = 600
