package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const policyHelp = `Usage: logline policy COMMAND

    try     show past spans to a policy before it is published, and write nothing

` + "`logline policy try --help` says more." + `

Example:

    logline policy try flag_large.js --since 24h --as alice --tenant acme
`

func policyCommands() []subcommand {
	return []subcommand{{"try", "show past spans to a policy, and write nothing", policyTryHelp, runPolicyTry}}
}

func runPolicy(s signals, args []string, out, errOut io.Writer) error {
	return runSub("policy", policyHelp, s, args, out, errOut)
}

const policyTryHelp = `Usage: logline policy try FILE --since D [flags]

Shows the spans of the last 7d, 24h, 30m … to the policy of a file (.js or .ts), as if it had been in force:
the same matching, kernel, rights and limits. It prints which spans match, what each would have led to (a
span that is emitted or moved on, a function that runs), and errors. Nothing is written: the sessions
cannot. What one span would lead to is not there for the next. A policy that goes by time (metadata.every) is
shown the ticks that were due, each for those whom it was about; what it finds in the ledger is what stands
there now, not what stood there then, and {again: true} is named and not followed.

    --since D        spans whose time is at most so long ago
    --when JSON      what it asks for, as metadata.when; @FILE reads it; default: that of your policy of the
                     file's name, else every span
    --metadata JSON  its whole metadata instead, such as '{"every": "hour"}' of one by time; or @FILE
    --limit N        show it at most so many spans or ticks (1000), at most 100000
    --errors N       end after so many errors (20)
    --sign FILE      sign it with this private key, where the manifest wants policies signed
    --quiet          print the sum alone
    --json           one object a span: {span, emits, error}; the last one is {summary}

` + actorHelp + `    --as-owner       try it as a policy of the system, on every tenant

Exit codes: 0 done, 1 it failed for a span, or cannot be tried, 2 wrong use.

Examples:

    logline policy try flag_large.js --since 24h --when '{"entity_type": "order"}' --as alice --tenant acme
    logline policy try open_tasks.js --since 6h --metadata '{"every": "hour"}' --as alice --tenant acme
    logline policy try flag_large.js --since 1h --json | jq 'select(.error)'
`

func runPolicyTry(s signals, args []string, out, errOut io.Writer) error {
	who := actorFlags{name: "policy try", mayBeOwner: true}
	try := app.PolicyTry{TrustRoot: config.TrustRoot()}
	var when, metadata, keyFile string
	var isQuiet, asJSON bool
	path, err := parseOne(who.name, policyTryHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		since(flags, &try.Since)
		flags.StringVar(&when, "when", "", "")
		flags.StringVar(&metadata, "metadata", "", "")
		flags.IntVar(&try.Judged, "limit", 1000, "")
		flags.IntVar(&try.Errors, "errors", 20, "")
		stated(flags, &keyFile, "sign")
		flags.BoolVar(&isQuiet, "quiet", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	switch {
	case err != nil:
		return err
	case try.Since <= 0:
		return wrongUse(who.name, "say how far to go back: --since 24h")
	case when != "" && metadata != "":
		return wrongUse(who.name, "--metadata is the whole, with when: give one of both")
	case try.Judged < 1 || try.Judged > 100_000 || try.Errors < 1:
		return wrongUse(who.name, "--limit may be 1 to 100000, --errors 1 and more")
	}
	if try.When, err = readStatedJSON(s.stop, who.name, when); err != nil {
		return err
	}
	if try.Metadata, err = readStatedJSON(s.stop, who.name, metadata); err != nil {
		return err
	}
	if try.File, err = app.ReadFunctionFile(path); err != nil {
		return wrongUse(who.name, "the policy: %s", err)
	}
	if keyFile != "" {
		if try.Signer, err = sign.ReadKeyFile(keyFile); err != nil {
			return err
		}
	}
	url, err := who.url()
	if err != nil {
		return err
	}
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	at, stop := progressOn(errOut, who.name)
	defer stop()
	try.Tell = func(read, shown int) { at(fmt.Sprintf("%d read, %d shown", read, shown)) }
	sum, err := app.TryPolicy(s.stop, url, owner, actor, try, func(t app.PolicyTried) error {
		if isQuiet {
			return nil
		}
		return printTried(out, path, t, asJSON)
	})
	stop()
	if err != nil {
		return namedAsGiven(explainRights(err), who.database)
	}
	return printPolicySummary(out, sum, try.Since, asJSON)
}

// printTried prints what became of one span.
func printTried(out io.Writer, path string, t app.PolicyTried, asJSON bool) error {
	if asJSON {
		line := map[string]any{"span": t.Span, "emits": append([]*span.Span{}, t.Emits...)}
		if t.Err != nil {
			line["error"] = t.Err
		}
		if t.Tick != nil {
			line["tick"], line["again"] = t.Tick, t.Again
		}
		return printJSON(out, line, true)
	}
	color := paintFor(out)
	if t.Tick != nil {
		fmt.Fprintf(out, "tick  %s  for %s of %s\n", t.Span.At.UTC().Format(time.RFC3339),
			plainText(t.Span.OwnerID, 60), plainText(t.Span.TenantID, 60))
	} else {
		fmt.Fprintf(out, "%s  %s version %d  %s\n", plainText(t.Span.EntityType, 30), t.Span.ID, t.Span.Seq,
			plainText(gist(t.Span, ""), 100))
	}
	for _, row := range t.Emits {
		fmt.Fprintf(out, "    %s %s  %s  %s\n", color.green(fmt.Sprintf("%-8s", app.ActionOf(row))),
			plainText(row.EntityType, 30), plainText(gist(row, ""), 100),
			plainText(string(app.StatedMetadata(row)), 300))
	}
	if t.Err != nil {
		place := path
		if t.Err.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", path, t.Err.Line, t.Err.Column)
		}
		fmt.Fprintf(out, "    %s %s: %s\n", color.red("error   "), place,
			plainText(string(t.Err.Code)+": "+t.Err.Message, 2000))
	}
	if t.Again {
		fmt.Fprintf(out, "    %s\n", color.yellow("asks for one more turn, which is not tried"))
	}
	if t.Err == nil && len(t.Emits) == 0 && !t.Again {
		fmt.Fprintf(out, "    %s\n", color.dim("nothing"))
	}
	return nil
}

func printPolicySummary(out io.Writer, sum *app.PolicySummary, since time.Duration, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = printJSON(out, map[string]any{"summary": sum}, true)
	case sum.IsTimed:
		_, err = fmt.Fprintf(out, "%d ticks of the last %s, shown for %d: %d would be appended, %d errors; "+
			"nothing is written\n", sum.Ticks, durationText(since), sum.Shown, sum.Emitted, sum.Errors)
	default:
		_, err = fmt.Fprintf(out, "%d of %d spans of the last %s match: %d would be appended, %d errors; nothing "+
			"is written\n", sum.Shown, sum.Read, durationText(since), sum.Emitted, sum.Errors)
	}
	if err == nil && sum.Stopped != "" && !asJSON {
		_, err = fmt.Fprintf(out, "stopped %s\n", sum.Stopped)
	}
	if err == nil && sum.Errors > 0 {
		return errSaid
	}
	return err
}

// tookText is how long a run took; the ledger keeps whole milliseconds.
func tookText(ms int) string {
	if ms == 0 {
		return "<1ms"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// durationText is a duration without its zeros: 24h, 90m.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
