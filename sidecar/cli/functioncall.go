package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const functionPublishHelp = `Usage: logline function publish FILE [flags]

Appends the file as the next version of your function of that name, stated whole, or as its first version. It
shows what changes; where nothing does, it appends nothing. What no flag states stays as it is. The file is
compiled first, in a sandbox on this machine, as dev does it; one that does not compile is refused, with the
place. So is a metadata.schedule that would never tick; of a slip such as "schedul" it warns.

    --name NAME        default: the file's name without its end
    --id ID            this function, where several have the name, or to give it another one
    --status S         active, scheduled (run it at once), draft; default: as it is, active for a new one and
                       in place of scheduled
    --visibility V     private, tenant; default: as it is, private for a new one
    --description T    what it is for
    --timeout-ms N     how long it may run
    --metadata JSON    the whole metadata, such as {"schedule": {"cron": "0 9 * * *"}}; or @FILE
    --default-input JSON   its input where a request states none; or @FILE
    --sign FILE        hash it and sign it with this private key
    --try              show what would change, and append nothing
    --json             print {id, seq, name, status, changed, diff, is_new, warnings}

` + actorHelp + `
Exit codes: 0 done, 1 it was refused, 2 wrong use.

Examples:

    logline function publish greet.ts --as alice --tenant acme
    logline function publish greet.ts --visibility tenant --try
    logline function publish report.ts --metadata '{"schedule": {"cron": "0 2 * * *"}}' --sign alice.key
`

func runFunctionPublish(s signals, args []string, out, errOut io.Writer) error {
	who := actorFlags{name: "function publish"}
	var p app.PublishFunction
	var id, metadata, input, keyFile string
	var asJSON bool
	path, err := parseOne("function publish", functionPublishHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		flags.StringVar(&p.Name, "name", "", "")
		flags.StringVar(&id, "id", "", "")
		flags.StringVar(&p.Status, "status", "", "")
		flags.StringVar(&p.Visibility, "visibility", "", "")
		flags.StringVar(&p.Description, "description", "", "")
		flags.IntVar(&p.TimeoutMs, "timeout-ms", 0, "")
		flags.StringVar(&metadata, "metadata", "", "")
		flags.StringVar(&input, "default-input", "", "")
		stated(flags, &keyFile, "sign")
		flags.BoolVar(&p.IsTry, "try", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if id != "" {
		if p.ID = parseFunctionID(id); p.ID == nil {
			return wrongUse(who.name, "--id: %q is no id", id)
		}
	}
	if p.File, err = readSource(path); err != nil {
		return err
	}
	if p.Metadata, err = readStatedJSON(s.stop, who.name, metadata); err != nil {
		return err
	}
	if p.Input, err = readStatedJSON(s.stop, who.name, input); err != nil {
		return err
	}
	if keyFile != "" {
		if p.Signer, err = sign.ReadKeyFile(keyFile); err != nil {
			return err
		}
	}
	if _, err := who.actor(); err != nil {
		return err
	}
	if err := p.File.Compile(s.stop); err != nil {
		return err
	}
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	published, err := app.Publish(s.stop, owner, actor, p)
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(out, published, true)
	}
	for _, warning := range published.Warnings {
		fmt.Fprintln(errOut, "logline:", plainText(warning, causeWidth))
	}
	return printPublished(out, published, p.IsTry)
}

func printPublished(out io.Writer, p *app.PublishedFunction, isTry bool) error {
	color := paintFor(out)
	for line := range strings.Lines(p.Diff) {
		line = plainText(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    "), 500)
		switch {
		case strings.HasPrefix(line, "+"):
			line = color.green(line)
		case strings.HasPrefix(line, "-"):
			line = color.red(line)
		}
		fmt.Fprintln(out, line)
	}
	state := "published"
	switch {
	case len(p.Changed) == 0:
		state = "unchanged"
	case isTry:
		state = "would publish"
	}
	where := "a new function"
	if !p.ID.IsZero() {
		where = p.ID.String()
	}
	if len(p.Changed) > 0 && !p.IsNew {
		where += "  changes " + strings.Join(p.Changed, ", ")
	}
	_, err := fmt.Fprintf(out, "%s  %s version %d, %s  %s\n", color.green(state), plainText(p.Name, 100),
		p.Seq, p.Status, where)
	return err
}

const functionCallHelp = `Usage: logline function call NAME|ID [--input JSON|@FILE|-] [flags]

Appends a request for a function that you may read (of a name, your own before others') and waits for what it
returns, which it prints. Where the run fails, it prints the error and exits with 1.

    --input JSON     ctx.input; @FILE and - (standard input) read it; default: the function's own
    --wait D         wait at most so long: 10s, 5m; default: 30s
    --no-wait        print the request's id, and do not wait
    --visibility V   of the request and its execution: private (default), tenant
    --json           print {request_id, status, execution_id, output, error, duration_ms, …}

` + actorHelp + `
Exit codes: 0 done, 1 the run failed, was refused, or is still open, 2 wrong use.

Examples:

    logline function call greet --input '{"name": "Ada"}' --as alice --tenant acme
    logline function call 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --input @day.json --wait 5m
    logline function call greet --no-wait
`

func runFunctionCall(s signals, args []string, out, errOut io.Writer) error {
	who := actorFlags{name: "function call"}
	var given, visibility string
	var limit time.Duration
	var isAsync, asJSON bool
	name, err := parseOne(who.name, functionCallHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		flags.StringVar(&given, "input", "", "")
		flags.DurationVar(&limit, "wait", 30*time.Second, "")
		flags.BoolVar(&isAsync, "no-wait", false, "")
		flags.StringVar(&visibility, "visibility", "", "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if limit <= 0 {
		return wrongUse(who.name, "--wait is a time such as 30s; to wait for nothing give --no-wait")
	}
	input, err := readStatedJSON(s.stop, who.name, given)
	if err != nil {
		return err
	}
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	function, err := app.FindFunction(s.stop, owner, actor, name, parseFunctionID(name))
	if err != nil {
		return err
	}
	request, err := app.CallFunction(s.stop, owner, actor, function.ID, input, visibility)
	switch {
	case err != nil:
		return err
	case isAsync && asJSON:
		return printJSON(out, map[string]any{"request_id": request}, true)
	case isAsync:
		_, err = fmt.Fprintln(out, request)
		return err
	}
	result, err := app.AwaitResult(s.stop, owner, actor, request, limit)
	return printResult(out, errOut, request, result, err, asJSON)
}

// printResult prints the output of a call; or its error, and returns errSaid.
func printResult(out, errOut io.Writer, request span.ID, result *ledger.CallResult, fault error,
	asJSON bool) error {
	if fault != nil {
		if errors.Is(fault, app.ErrStillOpen) && result != nil {
			return fmt.Errorf("%w, and %s%s; `logline requests show %s` says more, and /readyz whether a sidecar "+
				"works", fault, result.Status, ofReason(result.Reason), request)
		}
		if errors.Is(fault, context.Canceled) {
			return fmt.Errorf("wait for %s: stopped; the request goes on", request)
		}
		return fault
	}
	var err error
	switch {
	case asJSON:
		err = printJSON(out, result, false)
	case result.Status == "complete" && isTerminal(out):
		err = printJSON(out, result.Output, false)
	case result.Status == "complete":
		_, err = fmt.Fprintln(out, string(result.Output))
	default:
		_, err = fmt.Fprintf(errOut, "%s  %s\n", paintFor(errOut).status(result.Status),
			plainText(failureText(result), 4000))
	}
	if err == nil && result.Status != "complete" {
		return errSaid
	}
	return err
}

func ofReason(reason *string) string {
	if reason == nil {
		return ""
	}
	return " (" + *reason + ")"
}

// failureText is the error of a result with its place, or the reason why there is none.
func failureText(result *ledger.CallResult) string {
	var failure span.RunError
	text := why(result.Reason, result.Error)
	if result.Error != nil && json.Unmarshal(result.Error, &failure) == nil && failure.Line > 0 {
		text += fmt.Sprintf(" (line %d, column %d)", failure.Line, failure.Column)
	}
	if result.Execution != nil {
		text += "; execution " + result.Execution.String()
	}
	return strings.TrimPrefix(text, "; ")
}

const functionLogsHelp = `Usage: logline function logs NAME|ID [--follow] [flags]

Lists the executions of a function that you may read, the newest last: when, state, how long, who called, the
output or the error, and below each what it logged.

    --limit N        the newest so many (20), at most 1000
    --since D        of the last 15m, 24h, 7d …
    --status S       complete or error
    --follow         go on with new ones, until Ctrl-C (as logline timeline --follow)
    --json           one execution a line, whole

` + readerHelp + `
Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline function logs greet --as alice --tenant acme
    logline function logs greet --follow --status error
    logline function logs 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --as-owner --json | jq .metadata.run.logs
`

func runFunctionLogs(s signals, args []string, out, _ io.Writer) error {
	who := actorFlags{name: "function logs", mayBeOwner: true}
	filter := ledger.RowFilter{Types: []string{"execution"}}
	var limit int
	var statuses string
	var isFollowed, asJSON bool
	name, err := parseOne(who.name, functionLogsHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		flags.IntVar(&limit, "limit", 20, "")
		since(flags, &filter.Since)
		flags.StringVar(&statuses, "status", "", "")
		flags.BoolVar(&isFollowed, "follow", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	filter.Statuses = listOf(statuses)
	switch {
	case limit < 1 || limit > timelineMax:
		return wrongUse(who.name, "--limit may be 1 to %d", timelineMax)
	case filter.Since < 0:
		return wrongUse(who.name, "--since is a time before now, such as 24h")
	case slices.ContainsFunc(filter.Statuses, func(s string) bool { return s != "complete" && s != "error" }):
		return wrongUse(who.name, "--status: an execution is complete or error")
	}
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	function, err := app.FindFunction(s.stop, owner, actor, name, parseFunctionID(name))
	if err != nil {
		return err
	}
	filter.Parent = &function.ID
	each := func(spans []*span.Span) error { return printExecutions(out, spans, asJSON) }
	if isFollowed {
		return app.Follow(s.stop, owner, actor, filter, limit, each)
	}
	return app.Recent(s.stop, owner, actor, filter, limit, orNone(out, "no execution", asJSON, each))
}

// printExecutions prints executions with what they logged.
func printExecutions(out io.Writer, spans []*span.Span, asJSON bool) error {
	color := paintFor(out)
	for _, s := range spans {
		if asJSON {
			if err := printJSON(out, s, true); err != nil {
				return fmt.Errorf("print an execution: %w", err)
			}
			continue
		}
		said, took := string(s.Output), "-"
		if s.Error != nil {
			said = failureText(&ledger.CallResult{Reason: s.Reason, Error: s.Error})
		}
		if s.DurationMs != nil {
			took = tookText(*s.DurationMs)
		}
		_, err := fmt.Fprintf(out, "%s  %s %8s  %-12s %s  %s\n", color.dim(momentText(*s.AcceptedAt)),
			color.status(fmt.Sprintf("%-8s", plainText(s.StatusText(), 8))), took, plainText(s.OwnerID, 12), s.ID,
			plainText(said, 500))
		if err != nil {
			return fmt.Errorf("print an execution: %w", err)
		}
		for _, line := range app.LogsOf(s) {
			text := fmt.Sprintf("%-5s %s", line.Level, plainText(line.Message, 2000))
			if _, err := fmt.Fprintf(out, "%26s%s\n", "", color.dim(text)); err != nil {
				return fmt.Errorf("print a log line: %w", err)
			}
		}
	}
	return nil
}
