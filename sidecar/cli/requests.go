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
	"text/tabwriter"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const requestsHelp = `Usage: logline requests [COMMAND] [ID…] [flags]

Looks at requests, and moves them on, with the rights of the login that owns the database (on Supabase:
postgres). What it appends, an owner of the request could append himself; "who" says operator:<login>.

    list        how requests stand, the newest first (without a command, too)
    show ID     every version of one, its executions, and what caused it
    redrive     run dead requests once more: ID…, or --dead and filters; their attempts begin anew
    cancel      end open requests: ID…, or filters

Filters, of list, redrive and cancel:

    --status S         open (each that is not over), or states with commas: dead, blocked, running, scheduled,
                       retry, error, complete, cancelled, cancel_requested
    --dead             --status dead
    --tenant T         of this tenant
    --function ID      of this function
    --since D          changed within 90s, 15m, 24h, 7d …
    --reason-like T    with this text in the reason or the error, of the newest version or of an execution

    --limit N          list so many (50)
    --yes              with filters: do it; without, redrive and cancel count and change nothing
    --reason T         why, for the version that is appended
    --json             print JSON
    --database URL     default: DATABASE_URL

Exit codes: 0 done, 1 it failed, or an ID could not be redriven or cancelled, 2 wrong use.

Examples:

    logline requests --status open --tenant acme
    logline requests show 019a5f0e-8f0c-7d6e-8c55-0d9c2f6b1a11
    logline requests redrive --dead --function 019a5f0e-0000-7d6e-8c55-0d9c2f6b1a11 --since 24h
    logline requests redrive --dead --function 019a5f0e-0000-7d6e-8c55-0d9c2f6b1a11 --since 24h --yes
    logline requests cancel --status blocked --tenant acme --reason "the tenant has left" --yes
`

// requestsCall is one call of logline requests.
type requestsCall struct {
	out, errOut io.Writer
	command     string
	ids         []span.ID
	filter      ledger.RequestFilter
	limit       int
	reason      string
	database    string

	asJSON, isSure bool
}

func runRequests(s signals, args []string, out, errOut io.Writer) error {
	c := &requestsCall{out: out, errOut: errOut}
	if err := c.parse(args); err != nil {
		return err
	}
	owner, err := openSession(s.stop, c.database)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	return explainRights(c.do(s, owner))
}

func (c *requestsCall) do(s signals, owner *ledger.Owner) error {
	switch c.command {
	case "show":
		return c.show(s.stop, owner)
	case "redrive":
		return c.wish(s.stop, owner, app.Redrive(c.reason))
	case "cancel":
		return c.wish(s.stop, owner, app.Cancel(c.reason))
	}
	return c.list(s.stop, owner)
}

// parse reads a command, flags and ids in any order.
func (c *requestsCall) parse(args []string) error {
	var status, function string
	var isDead bool
	words, err := parseWords("requests", requestsHelp, args, c.out, func(flags *flag.FlagSet) {
		stated(flags, &status, "status")
		flags.BoolVar(&isDead, "dead", false, "")
		stated(flags, &c.filter.Tenant, "tenant")
		stated(flags, &function, "function")
		since(flags, &c.filter.Since)
		stated(flags, &c.filter.ReasonLike, "reason-like")
		flags.IntVar(&c.limit, "limit", 50, "")
		flags.BoolVar(&c.isSure, "yes", false, "")
		flags.StringVar(&c.reason, "reason", "", "")
		flags.BoolVar(&c.asJSON, "json", false, "")
		stated(flags, &c.database, "database")
	})
	if err != nil {
		return err
	}
	if c.command = "list"; len(words) > 0 {
		c.command, words = words[0], words[1:]
	}
	for _, word := range words {
		id, err := span.ParseID(word)
		if err != nil {
			return wrongRequests("%q is no id of a request", word)
		}
		if !slices.Contains(c.ids, id) {
			c.ids = append(c.ids, id)
		}
	}
	if function != "" {
		id, err := span.ParseID(function)
		if err != nil {
			return wrongRequests("--function: %q is no id", function)
		}
		c.filter.Function = &id
	}
	if isDead {
		status = strings.Trim(status+",dead", ",")
	}
	return c.check(status)
}

func wrongRequests(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...) + "; see `logline help requests`"}
}

// check refuses what makes no sense together.
func (c *requestsCall) check(status string) error {
	open := []string{"scheduled", "retry", "running", "blocked", "cancel_requested"}
	known := append(slices.Clone(open), "dead", "error", "complete", "cancelled")
	for name := range strings.SplitSeq(status, ",") {
		switch {
		case name == "":
		case name == "open":
			c.filter.Statuses = append(c.filter.Statuses, open...)
		case !slices.Contains(known, name):
			return wrongRequests("--status: %q is no state of a request", name)
		default:
			c.filter.Statuses = append(c.filter.Statuses, name)
		}
	}
	hasFilter := c.filter.Statuses != nil || c.filter.Tenant != "" || c.filter.Function != nil ||
		c.filter.Since != 0 || c.filter.ReasonLike != ""
	isWish := c.command == "redrive" || c.command == "cancel"
	switch {
	case !isWish && c.command != "list" && c.command != "show":
		return wrongRequests("there is no command %q%s", "requests "+c.command, didYouMean("requests", c.command))
	case c.command == "show" && len(c.ids) != 1:
		return wrongRequests("show takes one id")
	case c.command == "list" && len(c.ids) > 0:
		return wrongRequests("list takes filters, no id")
	case c.command == "show" && hasFilter, isWish && hasFilter == (len(c.ids) > 0):
		return wrongRequests("%s takes ids, or filters, one of both", c.command)
	case c.limit < 1 || c.limit > 100_000:
		return wrongRequests("--limit may be 1 to 100000")
	case c.filter.Since < 0:
		return wrongRequests("--since is a time before now, such as 24h")
	case !isWish && (c.isSure || c.reason != ""):
		return wrongRequests("--yes and --reason are for redrive and cancel")
	}
	return nil
}

func (c *requestsCall) print(value any) error {
	return printJSON(c.out, value, false)
}

func (c *requestsCall) list(ctx context.Context, owner *ledger.Owner) error {
	found, err := owner.RequestsWhere(ctx, c.filter, c.limit)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.print(append([]ledger.RequestState{}, found...))
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(c.out, "no request")
		return err
	}
	now, err := owner.Now(ctx)
	if err != nil {
		return err
	}
	list := table{status: 1}
	list.add("ID", "STATUS", "ATTEMPT", "AGE", "TENANT", "FUNCTION", "WHY")
	for _, r := range found {
		attempt, function := "-", r.Name
		if r.Attempt != nil {
			attempt = fmt.Sprint(*r.Attempt)
		}
		if function == "" && r.Function != nil {
			function = r.Function.String()
		}
		list.add(r.ID.String(), r.Status, attempt, age(now.Sub(r.AskedAt)), r.TenantID, plainText(function, 36),
			plainText(why(r.Reason, r.Error), 100))
	}
	return list.print(c.out)
}

// why is the reason of a version, and the error that goes with it.
func why(reason *string, failure json.RawMessage) string {
	var parts []string
	if reason != nil {
		parts = append(parts, *reason)
	}
	var known span.RunError
	if failure != nil && json.Unmarshal(failure, &known) == nil && known.Message != "" &&
		(reason == nil || !saysAlready(*reason, known)) {
		parts = append(parts, string(known.Code)+": "+known.Message)
	}
	return strings.Join(parts, "; ")
}

// saysAlready reports whether a reason quotes the error: the kernel's of a dead request ends with its code
// and so much of its message as a reason has place for.
func saysAlready(reason string, failure span.RunError) bool {
	if reason == failure.Message {
		return true
	}
	_, quoted, isQuoted := strings.Cut(reason, string(failure.Code)+": ")
	return isQuoted && quoted != "" && strings.HasPrefix(failure.Message, quoted)
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func (c *requestsCall) show(ctx context.Context, owner *ledger.Owner) error {
	detail, err := app.ReadRequest(ctx, owner, c.ids[0])
	if err != nil {
		return err
	}
	if detail == nil {
		return fmt.Errorf("show %s: the ledger has no such request", c.ids[0])
	}
	if c.asJSON {
		return c.print(detail)
	}
	first := detail.Versions[0]
	fmt.Fprintf(c.out, "request   %s  of %s in %s\n", first.ID, plainText(first.OwnerID, 100),
		plainText(first.TenantID, 100))
	if first.ParentID != nil {
		function := strings.TrimSpace(plainText(detail.Function, 100) + "  " + first.ParentID.String())
		fmt.Fprintf(c.out, "function  %s\n", function)
	}
	if detail.Cause != nil {
		fmt.Fprintf(c.out, "cause     %s version %d\n", detail.Cause.Cause.ID, detail.Cause.Cause.Seq)
	}
	fmt.Fprintln(c.out)
	list := table{status: 2}
	list.add("ACCEPTED", "WHAT", "STATUS", "ATTEMPT", "DUE", "WHO", "WHY")
	for _, event := range detail.Events() {
		s, what, attempt, due := event.Span, "execution "+event.Span.ID.String(), "-", "-"
		if s.EntityType == "request" {
			what = fmt.Sprintf("version %d", s.Seq)
			if s.ScheduledAt != nil {
				due = s.ScheduledAt.Format(time.RFC3339)
			}
		}
		if s.Attempt != nil {
			attempt = fmt.Sprint(*s.Attempt)
		}
		list.add(momentText(*s.AcceptedAt), what, s.StatusText(), attempt, due, plainText(s.Who, 40),
			plainText(why(s.Reason, event.Error), 120))
	}
	return list.print(c.out)
}

// wish redrives or cancels.
func (c *requestsCall) wish(ctx context.Context, owner *ledger.Owner, wish app.RequestWish) error {
	if len(c.ids) > 0 {
		done, refused, err := app.WishFor(ctx, owner, wish, c.ids)
		if err != nil {
			return err
		}
		if err := c.told(wish, done, len(c.ids)); err != nil {
			return err
		}
		return errors.Join(refused...)
	}
	if c.filter.Statuses == nil {
		c.filter.Statuses = wish.From
	}
	for _, status := range c.filter.Statuses {
		if !slices.Contains(wish.From, status) && !(wish.Verb == "cancel" && status == "cancel_requested") {
			return wrongRequests("%s is for requests that are %s, not %s", wish.Verb, strings.Join(wish.From, ", "),
				status)
		}
	}
	c.filter.Statuses = slices.DeleteFunc(c.filter.Statuses, func(status string) bool {
		return status == "cancel_requested"
	})
	if !c.isSure {
		return c.wouldDo(ctx, owner, wish)
	}
	done, err := owner.FollowRequests(ctx, c.filter, wish.Next, func(done, all int) {
		if all > 10_000 {
			fmt.Fprintf(c.errOut, "logline: %d of %d\n", done, all)
		}
	})
	if err != nil {
		return fmt.Errorf("%s after %d requests: %w", wish.Verb, done, err)
	}
	return c.told(wish, done, done)
}

func (c *requestsCall) told(wish app.RequestWish, done, all int) error {
	if c.asJSON {
		return c.print(map[string]any{"command": wish.Verb, "asked": all, "done": done})
	}
	_, err := fmt.Fprintf(c.out, "%s: %d of %d requests\n", wish.Verb, done, all)
	return err
}

// wouldDo counts what filters choose, and changes nothing.
func (c *requestsCall) wouldDo(ctx context.Context, owner *ledger.Owner, wish app.RequestWish) error {
	counts, err := owner.CountRequests(ctx, c.filter)
	if err != nil {
		return err
	}
	all := 0
	for _, count := range counts {
		all += count.Count
	}
	if c.asJSON {
		return c.print(map[string]any{"command": wish.Verb, "would": all,
			"of": append([]ledger.RequestCount{}, counts...)})
	}
	fmt.Fprintf(c.out, "would %s %d requests; nothing is changed: add --yes\n", wish.Verb, all)
	if len(counts) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REQUESTS\tTENANT\tFUNCTION\tOLDEST")
	for _, count := range counts[:min(len(counts), 20)] {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", count.Count, plainText(count.Tenant, 60), count.Function,
			count.Oldest.UTC().Format(time.RFC3339))
	}
	return table.Flush()
}
