package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const spanHelp = `Usage: logline span COMMAND

Appends and reads single spans, as a user.

    append     append one, from a file, standard input or the command line
    get        print the current version of one, or another
    history    list all versions of one, and what each changed

` + "`logline span COMMAND --help` says more." + `

Examples:

    logline span append '{"entity_type": "note", "name": "hello"}' --as alice --tenant acme
    logline span history 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --as alice --tenant acme
`

func spanCommands() []subcommand {
	return []subcommand{
		{"append", "append a span", spanAppendHelp, runSpanAppend},
		{"get", "print a span", spanGetHelp, runSpanGet},
		{"history", "list the versions of a span", spanHistoryHelp, runSpanHistory},
	}
}

func runSpan(s signals, args []string, out, errOut io.Writer) error {
	return runSub("span", spanHelp, s, args, out, errOut)
}

const spanAppendHelp = `Usage: logline span append JSON|@FILE|- [flags]

Appends a span by ledger.append: an object whose keys are columns (docs/reference/ledger.md). What it leaves
out (id, seq, owner_id, tenant_id, who, at, visibility) is filled in. The next version of a span states its
id and seq. The same span again is no error, and no second one.

    --sign FILE      hash it and sign it with this private key
    --json           print {id, seq, is_new}

` + actorHelp + `
Exit codes: 0 done, 1 it was refused, 2 wrong use.

Examples:

    logline span append '{"entity_type": "note", "name": "hello"}' --as alice --tenant acme
    logline span append @order.json --as alice --tenant acme --json | jq -r .id
    jq -c '.[0]' orders.json | logline span append - --as alice --tenant acme
`

func runSpanAppend(s signals, args []string, out, _ io.Writer) error {
	who := actorFlags{name: "span append"}
	var keyFile string
	var asJSON bool
	given, err := parseOne("span append", spanAppendHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		stated(flags, &keyFile, "sign")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	document, err := readJSON(s.stop, "span append", given)
	if err != nil {
		return err
	}
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	if keyFile != "" {
		key, err := sign.ReadKeyFile(keyFile)
		if err != nil {
			return err
		}
		if document, err = app.SignDocument(document, key, actor.User, actor.Tenant, false); err != nil {
			return err
		}
	}
	var added ledger.Appended
	err = owner.Act(s.stop, actor, func(user *ledger.User) (err error) {
		added, err = user.Add(s.stop, document)
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, added, true)
	}
	state := "appended"
	if !added.IsNew {
		state = "was there"
	}
	_, err = fmt.Fprintf(out, "%s  %s version %d\n", state, added.ID, added.Seq)
	return err
}

// readJSON reads a value that is given as JSON, as @FILE, or as - for standard input.
func readJSON(ctx context.Context, name, given string) (json.RawMessage, error) {
	raw := []byte(given)
	var err error
	switch {
	case given == "-":
		raw, err = readInput(ctx, os.Stdin)
	case strings.HasPrefix(given, "@"):
		raw, err = readInput(ctx, &lateFile{path: given[1:]})
	}
	switch {
	case errors.Is(err, errStopped):
		return nil, err
	case err != nil:
		return nil, wrongUse(name, "read the JSON: %s", err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, wrongUse(name, "%.60q is no JSON (%s): want JSON, @FILE or -", given, err)
	}
	return raw, nil
}

// readStatedJSON is readJSON of a flag; nil where it is not given.
func readStatedJSON(ctx context.Context, name, given string) (json.RawMessage, error) {
	if given == "" {
		return nil, nil
	}
	return readJSON(ctx, name, given)
}

// inputBytesMax bounds what is read from a file or standard input; the ledger takes spans of 1 MiB.
const inputBytesMax = 4 << 20

// errStopped ends a command that was asked to stop while it read.
var errStopped = errors.New("stopped while it read; nothing was done")

// lateFile is a file that is opened when it is read: to open a pipe is to wait for who writes to it.
type lateFile struct {
	path string
	file *os.File
}

// Read implements io.Reader.
func (l *lateFile) Read(p []byte) (int, error) {
	if l.file == nil {
		file, err := os.Open(l.path)
		if err != nil {
			return 0, err // "open PATH: no such file or directory"
		}
		l.file = file
	}
	n, err := l.file.Read(p)
	if err != nil {
		_ = l.file.Close() // it was only read
	}
	return n, err
}

// readInput reads all of r, or ends with ctx: a terminal or a pipe may say nothing for long. The goroutine
// that reads ends with the process then.
func readInput(ctx context.Context, r io.Reader) ([]byte, error) {
	type input struct {
		raw []byte
		err error
	}
	done := make(chan input, 1)
	go func() {
		raw, err := io.ReadAll(io.LimitReader(r, inputBytesMax+1))
		done <- input{raw, err}
	}()
	select {
	case <-ctx.Done():
		return nil, errStopped
	case read := <-done:
		switch {
		case read.err != nil:
			return nil, fmt.Errorf("read the span: %w", read.err)
		case len(read.raw) > inputBytesMax:
			return nil, fmt.Errorf("it has more than %d MiB; the ledger takes spans of 1 MiB", inputBytesMax>>20)
		}
		return read.raw, nil
	}
}

const spanGetHelp = `Usage: logline span get ID [--seq N] [flags]

Prints what a span states, a column a line: its current version, or the one that --seq names.

    --seq N          this version, also of a span that is deleted
    --json           the span as JSON

` + readerHelp + `
Exit codes: 0 done, 1 there is none that you may read, 2 wrong use.

Examples:

    logline span get 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --as alice --tenant acme
    logline span get 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --seq 0 --as-owner --json | jq .metadata
`

func runSpanGet(s signals, args []string, out, _ io.Writer) error {
	who := actorFlags{name: "span get", mayBeOwner: true}
	var seq int
	var asJSON bool
	id, owner, actor, err := openSpan(s.stop, &who, spanGetHelp, args, out, func(flags *flag.FlagSet) {
		flags.IntVar(&seq, "seq", -1, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	var found *span.Span
	err = owner.Look(s.stop, actor, func(user *ledger.User) (err error) {
		if seq < 0 {
			found, err = user.Current(s.stop, id)
			return err
		}
		found, err = user.Version(s.stop, span.Key{ID: id, Seq: seq})
		return err
	})
	switch {
	case err != nil:
		return explainRights(err)
	case found == nil && seq < 0:
		return fmt.Errorf("get %s: %s may read no such span, or it is deleted (`logline span history`)", id, actor)
	case found == nil:
		return fmt.Errorf("get %s: %s may read no version %d of it", id, actor, seq)
	case asJSON:
		return printJSON(out, found, false)
	}
	return printSpan(out, found)
}

// openSpan parses the flags of a command about one span, and opens the session.
func openSpan(ctx context.Context, who *actorFlags, help string, args []string, out io.Writer,
	define func(*flag.FlagSet)) (id span.ID, owner *ledger.Owner, actor ledger.Actor, err error) {
	given, err := parseOne(who.name, help, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		define(flags)
	})
	if err != nil {
		return id, nil, actor, err
	}
	if id, err = span.ParseID(given); err != nil {
		return id, nil, actor, wrongUse(who.name, "%q is no id of a span: it is a UUID", given)
	}
	actor, owner, err = who.open(ctx)
	return id, owner, actor, err
}

// printSpan prints the columns that are stated, and the code below them.
func printSpan(out io.Writer, s *span.Span) error {
	color := paintFor(out)
	var text strings.Builder
	for _, column := range span.Columns {
		value, isStated := column.Text(s)
		if !isStated || column.Name == "code" {
			continue
		}
		value = plainText(value, len(value)+1)
		if column.Name == "status" {
			value = color.status(value)
		}
		fmt.Fprintf(&text, "%s  %s\n", color.dim(fmt.Sprintf("%-15s", column.Name)), value)
	}
	if s.Code != nil {
		fmt.Fprintf(&text, "%s\n", color.dim("code"))
		for line := range strings.SplitSeq(strings.TrimRight(*s.Code, "\n"), "\n") {
			line = strings.ReplaceAll(line, "\t", "    ")
			fmt.Fprintf(&text, "    %s\n", plainText(line, len(line)+1))
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

const spanHistoryHelp = `Usage: logline span history ID [flags]

Lists every version of a span that you may read, the first one first, and the columns in which each differs
from the one before it.

    --json           the versions as JSON

` + readerHelp + `
Exit codes: 0 done, 1 there is none that you may read, 2 wrong use.

Examples:

    logline span history 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --as alice --tenant acme
    logline span history 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11 --as-owner --json | jq '.[].who'
`

func runSpanHistory(s signals, args []string, out, _ io.Writer) error {
	who := actorFlags{name: "span history", mayBeOwner: true}
	var asJSON bool
	id, owner, actor, err := openSpan(s.stop, &who, spanHistoryHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	var versions []*span.Span
	err = owner.Look(s.stop, actor, func(user *ledger.User) (err error) {
		versions, err = user.Versions(s.stop, id)
		return err
	})
	switch {
	case err != nil:
		return explainRights(err)
	case len(versions) == 0:
		return fmt.Errorf("history of %s: %s may read no such span", id, actor)
	case asJSON:
		return printJSON(out, versions, false)
	}
	list := table{status: 1}
	list.add("SEQ", "STATUS", "ACCEPTED", "WHO", "HASH", "CHANGED")
	for i, version := range versions {
		status, hash, accepted := version.StatusText(), "-", "-"
		if version.IsDeleted {
			status = strings.TrimSpace(status + " deleted")
		}
		if version.CurrHash != nil {
			hash = (*version.CurrHash)[:12]
		}
		if version.AcceptedAt != nil {
			accepted = momentText(*version.AcceptedAt)
		}
		changed := version.EntityType
		if i > 0 {
			changed = strings.Join(app.ChangedColumns(versions[i-1], version), ", ")
		}
		list.add(fmt.Sprint(version.Seq), plainText(status, 30), accepted, plainText(version.Who, 40), hash,
			changed)
	}
	return list.print(out)
}
