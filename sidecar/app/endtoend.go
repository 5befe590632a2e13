package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	// E2ETenant is where the end-to-end test works, unless another tenant is named.
	E2ETenant = "logline-e2e"
	// E2EWithin bounds each wait, unless something else is stated.
	E2EWithin = 15 * time.Second

	e2eName     = "logline-e2e" // of its function, by which a later run finds what a killed one left
	e2ePoll     = 5 * time.Millisecond
	e2eWaits    = 4                // of a run, each of --within at most
	e2eSQL      = 10 * time.Second // for one transaction
	e2eCloseMax = 10 * time.Second // for a sidecar to end what was cancelled
	e2eSlack    = 2 * time.Minute  // for all of a run but its waits: its transactions, and to close it
	e2eMark     = "logline_e2e"    // the key in metadata of its function, with the run's deadline
)

const e2eCode = `export default async function main(ctx) {
  return { sum: ctx.input.a + ctx.input.b, tenant: ctx.env.APP_TENANT_ID };
}
`

// E2EOptions say how the end-to-end test runs.
type E2EOptions struct {
	Tenant string        // "": E2ETenant
	Within time.Duration // 0: E2EWithin
	Key    *sign.Key     // signs the function; nil leaves it unsigned
	Slot   string
	Tell   func(E2EStep) // is told of each step as it ends; nil: nobody
}

// E2EStep is one step and how long it took.
type E2EStep struct {
	Step  string  `json:"step"`
	Level Level   `json:"level"` // ok or fault; warn of what an earlier run has left
	Ms    float64 `json:"ms"`
	Found string  `json:"found"`
	Mend  string  `json:"mend,omitempty"`
}

// E2EReport is what an end-to-end test found.
type E2EReport struct {
	ledger.Whereabouts
	Version  string    `json:"version"` // of this program
	At       time.Time `json:"at"`
	OK       bool      `json:"ok"`
	Ms       float64   `json:"ms"`
	User     string    `json:"user"`
	Tenant   string    `json:"tenant"`
	Function span.ID   `json:"function"`
	TraceID  string    `json:"trace_id"`
	Open     int       `json:"open"` // what it has left open: 0, but where no sidecar ends what was cancelled
	Steps    []E2EStep `json:"steps"`
}

// stepError ends the test: what was found, and the mend.
type stepError struct{ found, mend string }

func (e *stepError) Error() string { return e.found }

// stepWarning is what the test goes on after.
type stepWarning struct{ found, mend string }

func (w *stepWarning) Error() string { return w.found }

// e2e is one run.
type e2e struct {
	owner   *ledger.Owner
	options E2EOptions
	report  E2EReport
	user    demoUser
	isMade  bool // the function is in the ledger
	// deadline is when a run of this function was killed, if it still stands; by the database's clock.
	deadline time.Time
}

// E2E runs the whole flow against a running system: a user of its own appends a scheduled function, it is
// run, called with other input, kept from a stranger, and put away. Whatever happens, also where ctx ends, it
// tombstones its function and cancels what is open. A step that fails is in the report; the error is for
// what could not even be begun.
func E2E(ctx context.Context, owner *ledger.Owner, options E2EOptions) (*E2EReport, error) {
	options.Tenant = cmp.Or(options.Tenant, E2ETenant)
	options.Within = cmp.Or(options.Within, E2EWithin)
	tag := randomHex(8)
	e := &e2e{owner: owner, options: options, user: demoUser{"e2e-" + tag, options.Tenant}}
	e.report = E2EReport{Version: Version(), At: time.Now().UTC(), User: e.user.sub, Tenant: options.Tenant,
		TraceID: "e2e-" + tag, Function: newID(time.Now())}
	var err error
	if e.report.Whereabouts, err = owner.Whereabouts(ctx); err != nil {
		return nil, err
	}
	now, err := owner.Now(ctx)
	if err != nil {
		return nil, err
	}
	e.deadline = now.Add(e2eWaits*options.Within + e2eSlack)
	left, err := owner.LeftBy(ctx, options.Tenant, e2eName, e2eMark)
	if err != nil {
		return nil, fmt.Errorf("look for what earlier runs have left: %w", err)
	}
	began := time.Now()
	err = e.run(ctx, left)
	e.report.OK = err == nil
	if e.isMade {
		if closing := e.step("cleanup", func() (string, error) { return e.cleanUp(ctx) }); closing != nil {
			e.report.OK = false
		}
	}
	e.report.Ms = milliseconds(time.Since(began))
	return &e.report, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// step takes the time of do, and notes what it says.
func (e *e2e) step(name string, do func() (string, error)) error {
	began := time.Now()
	found, err := do()
	step := E2EStep{Step: name, Level: Fine, Ms: milliseconds(time.Since(began)), Found: found}
	var known *stepError
	var harmless *stepWarning
	switch {
	case errors.As(err, &harmless):
		step.Level, step.Found, step.Mend = Warning, harmless.found, harmless.mend
	case errors.As(err, &known):
		step.Level, step.Found, step.Mend = Fault, known.found, known.mend
	case err != nil:
		step.Level, step.Found = Fault, err.Error()
	}
	e.report.Steps = append(e.report.Steps, step)
	if e.options.Tell != nil {
		e.options.Tell(step)
	}
	return err
}

// run makes the steps until one fails. left are functions of earlier runs.
func (e *e2e) run(ctx context.Context, left []*span.Span) error {
	e.sweep(ctx, left)
	var spans []*span.Span
	for _, step := range []struct {
		name string
		do   func() (string, error)
	}{
		{"sidecar", func() (string, error) { return e.led(ctx) }},
		{"function", func() (string, error) { return e.schedule(ctx) }},
		{"request", func() (found string, err error) {
			spans, err = e.await(ctx, "a request", isType("request"))
			return "the observer has made a request of it", err
		}},
		{"execution", func() (found string, err error) {
			spans, err = e.await(ctx, "an execution", isType("execution"))
			if err != nil {
				return "", err
			}
			return judgeRun(last(spans, "execution"), `{"sum":42,"tenant":"`+e.user.tenant+`"}`)
		}},
		{"versions", func() (string, error) { return e.judgeVersions(ctx) }},
		{"call", func() (string, error) { return e.call(ctx) }},
		{"refusals", func() (string, error) { return e.refusals(ctx) }},
	} {
		if err := e.step(step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// led looks whether a sidecar leads, so that nobody waits in vain. A login that may not see it goes on.
func (e *e2e) led(ctx context.Context) (string, error) {
	found, err := e.owner.Examination().Leadership(ctx, e.options.Slot, leaderLock)
	switch {
	case ctx.Err() != nil:
		return "", errInterrupted
	case err != nil:
		return "this login may not see who leads: " + unwrapped(err), nil
	case !found.IsHeld:
		return "", &stepError{"no sidecar leads: nothing would run", "start `logline serve`; `logline doctor`"}
	}
	return fmt.Sprintf("%s leads, by %s", found.Node, found.Source), nil
}

// as runs f as a user. It does not end with ctx, which would break the session that is to clean up.
func (e *e2e) as(ctx context.Context, user demoUser, f func(context.Context, *ledger.User) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e2eSQL)
	defer cancel()
	return e.owner.As(ctx, user.claims(), func(u *ledger.User) error { return f(ctx, u) })
}

func (e *e2e) append(ctx context.Context, user demoUser, document map[string]any, key *sign.Key) error {
	raw, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode the span: %w", err)
	}
	if key != nil {
		if raw, err = SignDocument(raw, key, user.sub, user.tenant, false); err != nil {
			return err
		}
	}
	return e.as(ctx, user, func(ctx context.Context, u *ledger.User) error { return u.Append(ctx, raw) })
}

// schedule appends the function as its user does.
func (e *e2e) schedule(ctx context.Context) (string, error) {
	if ctx.Err() != nil {
		return "", errInterrupted
	}
	e.isMade = true // it may be there even where the answer is lost
	err := e.append(ctx, e.user, map[string]any{"id": e.report.Function, "entity_type": "function",
		"name": e2eName, "description": "Made and put away by `logline e2e`.", "status": "scheduled",
		"language": "javascript", "code": e2eCode, "input": map[string]int{"a": 40, "b": 2},
		"metadata": map[string]any{e2eMark: map[string]any{
			"deadline": e.deadline.UTC().Format(ledger.DeadlineForm)}},
		"trace_id": e.report.TraceID}, e.options.Key)
	return fmt.Sprintf("user:%s in %s has appended %s, scheduled", e.user.sub, e.user.tenant,
		e.report.Function), err
}

// errInterrupted is a wish to stop.
var errInterrupted = &stepError{found: "interrupted"}

func isType(entityType string) func(*span.Span) bool {
	return func(s *span.Span) bool { return s.EntityType == entityType }
}

// last is the newest of a type in the order of acceptance; there is one.
func last(spans []*span.Span, entityType string) *span.Span {
	for _, s := range slices.Backward(spans) {
		if s.EntityType == entityType {
			return s
		}
	}
	return &span.Span{}
}

// trace reads, as the user, what has come of the run.
func (e *e2e) trace(ctx context.Context, user demoUser, traceID string) (spans []*span.Span, err error) {
	err = e.as(ctx, user, func(ctx context.Context, u *ledger.User) (err error) {
		spans, err = u.Trace(ctx, traceID)
		return err
	})
	return spans, err
}

// await reads the trace until a span is as wanted, for as long as a step may last.
func (e *e2e) await(ctx context.Context, what string, isWanted func(*span.Span) bool) ([]*span.Span, error) {
	ticker := time.NewTicker(e2ePoll)
	defer ticker.Stop()
	limit := time.NewTimer(e.options.Within)
	defer limit.Stop()
	for {
		spans, err := e.trace(ctx, e.user, e.report.TraceID)
		if err != nil {
			return nil, fmt.Errorf("read the trace: %w", err)
		}
		if slices.ContainsFunc(spans, isWanted) {
			return spans, nil
		}
		if request := last(spans, "request"); request.StatusText() == "blocked" {
			return nil, &stepError{"its request is blocked: " + *cmp.Or(request.Reason, new("")),
				"raise the manifest's limits, or give --tenant another"}
		}
		select {
		case <-ctx.Done():
			return nil, errInterrupted
		case <-limit.C:
			return nil, &stepError{fmt.Sprintf("%s has not appeared within %s", what, e.options.Within),
				"`logline verify` and `logline doctor` say what is wrong; --within waits longer"}
		case <-ticker.C:
		}
	}
}

// judgeRun looks whether an execution is complete with this output.
func judgeRun(execution *span.Span, want string) (string, error) {
	if execution.StatusText() != "complete" {
		var failure span.RunError
		mend := "docs/functions.md says what to do about each code"
		if json.Unmarshal(execution.Error, &failure) == nil && failure.Code == span.RunUnsigned {
			mend = "the manifest wants functions signed: give --key FILE, a key with the purpose function"
		}
		return "", &stepError{fmt.Sprintf("the execution is %s: %s", execution.StatusText(), execution.Error), mend}
	}
	var got, wanted struct {
		Sum    int    `json:"sum"`
		Tenant string `json:"tenant"`
	}
	if json.Unmarshal(execution.Output, &got) != nil || json.Unmarshal([]byte(want),
		&wanted) != nil || got != wanted {
		return "", &stepError{fmt.Sprintf("the output is %s, not %s", execution.Output, want), ""}
	}
	return "complete, " + string(execution.Output), nil
}
