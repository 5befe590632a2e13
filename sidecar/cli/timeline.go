package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const timelineHelp = `Usage: logline timeline [--follow] [filters] [flags]

Prints versions of spans, one a line, the newest last: when, type, status, seq, who, id, and what it says;
of a request or an execution first the name of its function.

    --type LIST      of these types, with commas: request,execution
    --status LIST    in these states, with commas
    --trace ID       of this trace
    --in TENANT      of this tenant
    --since D        whose time is at most 90s, 15m, 24h, 7d … ago
    --limit N        the newest so many (20; with --follow 10), at most 1000
    --follow         go on with what is committed, until Ctrl-C
    --json           one span a line, whole; of requests and executions with function_name

--follow asks again and again, at least three times a second, for what a new snapshot of the database sees and
the last one did not: a transaction that began early and commits late is not missed, and nothing comes twice.

` + readerHelp + `
Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline timeline --as alice --tenant acme
    logline timeline --as alice --tenant acme --follow --type request,execution
    logline timeline --as-owner --in acme --status error --since 24h --json
`

// timelineMax bounds --limit.
const timelineMax = 1000

func runTimeline(s signals, args []string, out, _ io.Writer) error {
	who := actorFlags{name: "timeline", mayBeOwner: true}
	var filter ledger.RowFilter
	var types, statuses string
	var limit int
	var isFollowed, asJSON bool
	err := parse("timeline", timelineHelp, args, out, func(flags *flag.FlagSet) {
		who.define(flags)
		flags.StringVar(&types, "type", "", "")
		flags.StringVar(&statuses, "status", "", "")
		flags.StringVar(&filter.Trace, "trace", "", "")
		stated(flags, &filter.Tenant, "in")
		since(flags, &filter.Since)
		flags.IntVar(&limit, "limit", 0, "")
		flags.BoolVar(&isFollowed, "follow", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if limit == 0 && isFollowed {
		limit = 10
	} else if limit == 0 {
		limit = 20
	}
	if limit < 1 || limit > timelineMax {
		return wrongUse("timeline", "--limit may be 1 to %d", timelineMax)
	}
	if filter.Since < 0 {
		return wrongUse("timeline", "--since is a time before now, such as 24h")
	}
	filter.Types, filter.Statuses = listOf(types), listOf(statuses)
	actor, owner, err := who.open(s.stop)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	var names app.FunctionNames
	each := func(spans []*span.Span) error {
		err := names.Learn(s.stop, owner, actor, spans)
		if s.stop.Err() != nil { // Ctrl-C ends it, and is no fault
			return nil
		}
		if err != nil {
			return err
		}
		return printTimeline(out, spans, &names, asJSON)
	}
	if isFollowed {
		return explainRights(app.Follow(s.stop, owner, actor, filter, limit, each))
	}
	return explainRights(app.Recent(s.stop, owner, actor, filter, limit, orNone(out, "no span", asJSON, each)))
}

// orNone is each, but for none it says so to people.
func orNone(out io.Writer, none string, asJSON bool, each func([]*span.Span) error) func([]*span.Span) error {
	return func(spans []*span.Span) error {
		if len(spans) == 0 && !asJSON {
			_, err := fmt.Fprintln(out, none)
			return err
		}
		return each(spans)
	}
}

// listOf splits a list with commas; nil where it is empty.
func listOf(text string) []string {
	var list []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list
}

// momentText is how a time is printed: UTC, with milliseconds.
func momentText(at span.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// printTimeline prints a line for each span, in columns of a fixed width: more may follow.
func printTimeline(out io.Writer, spans []*span.Span, names *app.FunctionNames, asJSON bool) error {
	color := paintFor(out)
	for _, s := range spans {
		if asJSON {
			if err := printJSON(out, namedSpan{s, names.Of(s)}, true); err != nil {
				return fmt.Errorf("print a span: %w", err)
			}
			continue
		}
		at := s.At
		if s.AcceptedAt != nil {
			at = *s.AcceptedAt
		}
		status := s.StatusText()
		if s.IsDeleted {
			status = "deleted"
		}
		_, err := fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%s  %-14s %s %3d  %-22s %s  %s",
			color.dim(momentText(at)), plainText(s.EntityType, 14),
			color.status(fmt.Sprintf("%-10s", plainText(status, 10))), s.Seq, plainText(s.Who, 22), s.ID,
			plainText(gist(s, names.Label(s)), 120)), " "))
		if err != nil {
			return fmt.Errorf("print a span: %w", err)
		}
	}
	return nil
}

// namedSpan is a span with the name of the function whose request or execution it is.
type namedSpan struct {
	*span.Span
	Function string `json:"function_name,omitempty"`
}

// gist is what a span says in a few words: its function, name or topic, and what came of it.
func gist(s *span.Span, function string) string {
	var parts []string
	for _, text := range []*string{&function, s.Name, s.This} {
		if text != nil && *text != "" {
			parts = append(parts, *text)
			break
		}
	}
	if text := why(s.Reason, s.Error); text != "" {
		parts = append(parts, text)
	}
	if s.Output != nil {
		parts = append(parts, string(s.Output))
	}
	if s.DurationMs != nil {
		parts = append(parts, tookText(*s.DurationMs))
	}
	return strings.Join(parts, "  ")
}
