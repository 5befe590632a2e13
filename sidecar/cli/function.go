package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const functionHelp = `Usage: logline function COMMAND

Functions, from the first line to the log (docs/functions.md).

    new        write a function that runs, with types for the editor
    dev        run a file in the sandbox at each save, before anything is published
    publish    append it to the ledger, as the next version where it is there
    call       call one and wait for what it returns
    logs       list its executions, and follow them

` + "`logline function COMMAND --help` says more." + `

Example:

    export APP_USER_ID=alice APP_TENANT_ID=acme
    logline function new greet
    logline function dev greet.ts --once
    logline function publish greet.ts
    logline function call greet --input '{"name": "Ada"}'
    logline function logs greet
`

func functionCommands() []subcommand {
	return []subcommand{
		{"new", "write a function that runs, with types for the editor", functionNewHelp, runFunctionNew},
		{"dev", "run a file in the sandbox at each save", functionDevHelp, runFunctionDev},
		{"publish", "append a file as the next version of a function", functionPublishHelp, runFunctionPublish},
		{"call", "call a function and wait for what it returns", functionCallHelp, runFunctionCall},
		{"logs", "list the executions of a function", functionLogsHelp, runFunctionLogs},
	}
}

func runFunction(s signals, args []string, out, errOut io.Writer) error {
	return runSub("function", functionHelp, s, args, out, errOut)
}

const functionNewHelp = `Usage: logline function new NAME [--dir DIR] [--json]

Writes NAME.ts, a function that runs, and beside it what an editor needs to know its types: kernel.d.ts,
globals.d.ts and, where there is none, tsconfig.json. A function that is there is not touched.

    --dir DIR        where; default: here
    --json           print {files}

Exit codes: 0 done, 1 it is there, or cannot be written, 2 wrong use.

Examples:

    logline function new greet
    logline function new nightly_report --dir functions
`

func runFunctionNew(_ signals, args []string, out, _ io.Writer) error {
	var folder string
	var asJSON bool
	name, err := parseOne("function new", functionNewHelp, args, out, func(flags *flag.FlagSet) {
		flags.StringVar(&folder, "dir", ".", "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	written, err := app.NewFunction(folder, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, map[string]any{"files": written}, true)
	}
	for _, path := range written {
		fmt.Fprintf(out, "wrote  %s\n", path)
	}
	if isTerminal(out) {
		fmt.Fprintf(out, "try it: logline function dev %s\n", written[0])
	}
	return nil
}

const functionDevHelp = `Usage: logline function dev FILE [--input JSON|@FILE|-] [--once] [flags]

Runs the function of a file (.ts or .js) in the sandbox, as a sidecar would, with the limits of the manifest,
and again at each save. It prints output, log, what the function would append, the time, and errors with file,
line and column. Nothing is written, and no database is needed.

    --input JSON     ctx.input; @FILE reads a file, at each run, - standard input, once; default: the comment
                     "// input: JSON" of the file, else null
    --once           run once, and exit with 1 where the run fails
    --fetch HOST     a host:port that ctx.fetch may reach (several times); default: none
    --json           one object a run: {file, ok, output, error, logs, spans, duration_ms}
    --database URL   let ctx.find and ctx.summarize read this ledger, as the user; without it they are refused
                     (denied). Its manifest's limits hold then
    --as USER        whose function it is: ctx.env.APP_USER_ID; default: APP_USER_ID, else dev
    --tenant TENANT  ctx.env.APP_TENANT_ID; default: APP_TENANT_ID, else dev

Exit codes: 0 done (Ctrl-C), 1 with --once the run failed, or it cannot be run, 2 wrong use.

Examples:

    logline function dev greet.ts
    logline function dev greet.ts --input '{"name": "Ada"}' --once
    logline function dev report.ts --input @day.json --database "$DATABASE_URL" --as alice --tenant acme
`

// devCall is one call of logline function dev.
type devCall struct {
	out, errOut io.Writer
	path, input string
	asJSON      bool
	actor       ledger.Actor
	bench       *app.Workbench
}

func runFunctionDev(s signals, args []string, out, errOut io.Writer) error {
	d := &devCall{out: out, errOut: errOut}
	who := actorFlags{name: "function dev"}
	var isOnce bool
	var hosts texts
	path, err := parseOne("function dev", functionDevHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		flags.StringVar(&d.input, "input", "", "")
		flags.BoolVar(&isOnce, "once", false, "")
		flags.Var(&hosts, "fetch", "")
		flags.BoolVar(&d.asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	d.path = path
	for _, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return wrongUse(who.name, "--fetch %q: want host:port, such as api.example.com:443", host)
		}
	}
	if d.actor, err = who.actor(); err != nil {
		// Half of an identity is a slip, wherever it stands.
		if user, tenant := config.ActAs(); who.database+who.user+who.tenant+user+tenant != "" {
			return err
		}
		d.actor = ledger.Actor{User: "dev", Tenant: "dev"}
	}
	if err := d.check(s.stop); err != nil {
		return err
	}
	if d.bench, err = app.NewWorkbench(s.stop, who.database, hosts); err != nil {
		return namedAsGiven(err, who.database)
	}
	defer d.bench.Close()
	if isOnce {
		isGood, err := d.run(s.stop)
		if err == nil && !isGood {
			return errSaid
		}
		return err
	}
	watched := []string{path}
	if strings.HasPrefix(d.input, "@") {
		watched = append(watched, d.input[1:])
	}
	return app.OnEachSave(s.stop, watched, func(ctx context.Context) {
		if _, err := d.run(ctx); err != nil && ctx.Err() == nil {
			complain(errOut, err)
		}
		if ctx.Err() == nil && isTerminal(errOut) {
			fmt.Fprintln(errOut, paintFor(errOut).dim("waiting for the next save of "+path))
		}
	})
}

// check reads what the first run needs, standard input for all of them, before a sandbox is made.
func (d *devCall) check(ctx context.Context) error {
	if d.input == "-" {
		raw, err := readJSON(ctx, "function dev", d.input)
		if err != nil {
			return err
		}
		d.input = string(raw)
	}
	_, _, err := d.read(ctx)
	var wrong *usageError
	if err == nil || errors.Is(err, errStopped) || errors.As(err, &wrong) {
		return err
	}
	return wrongUse("function dev", "%s", err)
}

// texts is a flag that may be given several times.
type texts []string

// String implements flag.Value.
func (t *texts) String() string { return strings.Join(*t, ",") }

// Set implements flag.Value.
func (t *texts) Set(text string) error {
	*t = append(*t, text)
	return nil
}

// read reads the function, and its input: --input, else the comment.
func (d *devCall) read(ctx context.Context) (*app.FunctionFile, json.RawMessage, error) {
	file, err := app.ReadFunctionFile(d.path)
	if err != nil || d.input == "" {
		if file == nil {
			return nil, nil, err
		}
		return file, file.SampleInput, err
	}
	input, err := readJSON(ctx, "function dev", d.input)
	return file, input, err
}

// run runs the function once and prints what it gave.
func (d *devCall) run(ctx context.Context) (isGood bool, err error) {
	file, input, err := d.read(ctx)
	if err != nil {
		return false, err
	}
	tried, err := d.bench.Try(ctx, file, input, d.actor)
	if err != nil {
		return false, err
	}
	if d.asJSON {
		report := map[string]any{"file": d.path, "ok": tried.Err == nil,
			"logs": append([]app.LogLine{}, tried.Logs...), "spans": append([]*span.Span{}, tried.Spans...),
			"duration_ms": float64(tried.Duration.Microseconds()) / 1000}
		if report["error"] = tried.Err; tried.Err == nil {
			delete(report, "error")
			report["output"] = tried.Output
		}
		return tried.Err == nil, printJSON(d.out, report, true)
	}
	return tried.Err == nil, d.print(input, tried)
}

// print is the report of one run for people.
func (d *devCall) print(input json.RawMessage, tried *app.Tried) error {
	color := paintFor(d.out)
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s\n", color.dim("input "), oneLine(input, 500))
	for _, line := range tried.Logs {
		fmt.Fprintf(&text, "%s %s\n", color.dim(fmt.Sprintf("%-6s", line.Level)), plainText(line.Message, 2000))
	}
	for _, s := range tried.Spans {
		name := ""
		if s.Name != nil {
			name = " " + *s.Name
		}
		fmt.Fprintf(&text, "%s %s%s %s\n", color.dim("span  "), plainText(s.EntityType, 30), plainText(name, 100),
			strings.TrimPrefix(oneLine(app.StatedMetadata(s), 500), "null"))
	}
	if tried.Err == nil {
		fmt.Fprintf(&text, "%s %s\n", color.dim("output"), oneLine(tried.Output, 10_000))
		fmt.Fprintf(&text, "%s in %s\n", color.green("ok    "), tried.Duration.Round(10*time.Microsecond))
		_, err := d.out.Write(text.Bytes())
		return err
	}
	e := tried.Err
	place := d.path
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", d.path, e.Line, e.Column)
	}
	fmt.Fprintf(&text, "%s %s: %s\n", color.red("error "), place, plainText(string(e.Code)+": "+e.Message, 4000))
	for line := range strings.Lines(e.Stack) {
		fmt.Fprintf(&text, "       %s\n", plainText(strings.TrimSpace(line), 300))
	}
	fmt.Fprintf(&text, "%s in %s\n", color.red("failed"), tried.Duration.Round(10*time.Microsecond))
	_, err := d.out.Write(text.Bytes())
	return err
}

// oneLine is JSON on one line, of at most n letters.
func oneLine(raw json.RawMessage, n int) string {
	if raw == nil {
		return "null"
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return plainText(string(raw), n)
	}
	return plainText(compact.String(), n)
}

// readSource reads a file as `function publish` takes it.
func readSource(path string) (*app.FunctionFile, error) {
	file, err := app.ReadFunctionFile(path)
	if err != nil {
		err = wrongUse("function publish", "%s", err)
	}
	return file, err
}

// parseFunctionID reads an id; nil where text is a name.
func parseFunctionID(text string) *span.ID {
	id, err := span.ParseID(text)
	if err != nil {
		return nil
	}
	return &id
}
