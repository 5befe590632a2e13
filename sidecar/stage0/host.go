package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// invocation is the host side of one kernel run.
type invocation struct {
	stage0   *Stage0
	manifest *governed
	kernel   *kernel
	parent   *invocation // of a nested kernel
	causes   map[span.Key]*span.Span
	order    []span.Key
	matched  map[[2]span.Key]bool // (policy, cause) pairs that ctx.input names
	emit     func(span.Key, ledger.Group, *span.RunError)
	cancel   func(span.Key) context.Context
	born     func(context.Context, span.Key) error

	reads  atomic.Int32
	calls  *fetch.Run
	nested map[span.Key]int // by cause: which of its caller's runs of this kernel it is; nil: none is nested

	isBroken atomic.Bool // what it appends was refused once

	mu      sync.Mutex
	groups  map[span.Key]*draft
	started map[string]int      // nested runs, by kernel
	aliases map[span.ID]span.ID // ids that the kernel has stated → the ids of these spans
}

// draft is what a run has appended for one cause so far.
type draft struct {
	fence     *span.Span
	rows      []*span.Span
	hasRecord bool       // one of rows is the execution, or stands for it
	policies  []span.Key // per row: the policy version whose action it is, or zero
	ordinal   map[span.Key]int
	record    *runRecord              // of the last function that ran for this cause
	quota     *reservation            // of the execution
	refused   *violation              // why no run was reserved
	issued    map[span.ID]*span.Span  // spans that a function emitted, complete, and not yet inserted
	buckets   map[bucketKey]bool      // that policies have asked for
	again     bool                    // a time-driven policy asks for one more turn
	judges    map[span.Key]*span.Span // the policy versions that have acted
	loops     map[span.Key]bool       // those that were refused because something triggers itself
	isEmitted bool                    // it was handed on before the run's end: nothing is added
}

// bucketKey is a bucket, and the policy that has asked for it: nobody fills another's.
type bucketKey struct{ policy, bucket span.ID }

func newInvocation(s *Stage0, m *governed, k *kernel, job Job, parent *invocation) *invocation {
	inv := &invocation{
		stage0: s, manifest: m, kernel: k, parent: parent, emit: job.Emit, cancel: job.Cancel, born: job.Born,
		causes: make(map[span.Key]*span.Span, len(job.Batch)), groups: map[span.Key]*draft{},
		calls: fetch.NewRun(m.Limits.NetCalls), started: map[string]int{},
	}
	if parent == nil { // the engine's word; a nested kernel's input is anybody's
		inv.matched = matchesOf(job.Input)
	} else {
		inv.nested = make(map[span.Key]int, len(job.Batch))
		for _, cause := range job.Batch {
			inv.nested[cause.Key()] = parent.numberOf(k.name, cause)
		}
	}
	for _, cause := range job.Batch {
		inv.causes[cause.Key()] = cause
		inv.order = append(inv.order, cause.Key())
	}
	return inv
}

// numberOf tells apart the runs of one kernel that this one starts for a cause: their ids must differ.
func (inv *invocation) numberOf(kernel string, cause *span.Span) int {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	key := kernel + " " + cause.ID.String()
	n := inv.started[key]
	inv.started[key]++
	return inv.nested[cause.Key()]*nestedMax + n
}

// matchesOf reads which policy may act on which span: the router's word, not the kernel's.
func matchesOf(input json.RawMessage) map[[2]span.Key]bool {
	var routed struct {
		Matches []struct {
			Span   span.Key `json:"span"`
			Policy keyText  `json:"policy"`
		} `json:"matches"`
	}
	if input == nil || json.Unmarshal(input, &routed) != nil {
		return nil
	}
	pairs := make(map[[2]span.Key]bool, len(routed.Matches))
	for _, match := range routed.Matches {
		pairs[[2]span.Key{match.Policy.key(), match.Span}] = true
	}
	return pairs
}

// keyText is a key in the form {id, seq}.
type keyText struct {
	ID  span.ID `json:"id"`
	Seq int     `json:"seq"`
}

func (k *keyText) key() span.Key { return span.Key{ID: k.ID, Seq: k.Seq} }

// origin says on behalf of which cause a call acts.
type origin struct {
	Cause   *keyText `json:"cause"`
	Policy  *keyText `json:"policy"`
	Discard bool     `json:"discard"`
}

// host answers the calls of a kernel.
func (inv *invocation) host(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	list, err := argumentsOf(name, args)
	if err != nil {
		return nil, err
	}
	var answer any
	switch name {
	case "find":
		if err = inv.countRead(ctx); err == nil {
			answer, err = inv.find(ctx, inv.scope(), list[0], list[1])
		}
	case "summarize":
		if err = inv.countRead(ctx); err == nil {
			answer, err = inv.summarize(ctx, inv.scope(), list[0], list[1])
		}
	case "sql":
		if err = inv.countRead(ctx); err == nil {
			answer, err = inv.sql(ctx, list[0])
		}
	case "reserve":
		answer, err = inv.reserveCall(ctx, list[0], list[1])
	case "run":
		answer, err = inv.run(ctx, list[0], list[1])
	case "fetch":
		answer, err = inv.fetch(ctx, list)
	default:
		err = denied("ctx.%s is not part of a kernel's ctx", name)
	}
	return encodeAnswer(answer, err)
}

// argumentsOf splits the arguments of a kernel's call; those that were not given are nil. Whoever takes one
// reads it as JSON, and finds what is malformed.
func argumentsOf(name string, args json.RawMessage) ([]json.RawMessage, error) {
	list, isArray := span.Elements(args)
	if !isArray {
		return nil, fmt.Errorf("decode the arguments of %s: want an array, found %.80q", name, args)
	}
	return append(list, nil, nil, nil), nil
}

// later does what a kernel appends. The answers are seldom looked at, so they are encoded when they are: as
// the span was then, for it is sealed and committed meanwhile.
func (inv *invocation) later(ctx context.Context, name string, args json.RawMessage) (
	func() (json.RawMessage, error), error) {
	list, err := argumentsOf(name, args)
	if err != nil {
		return nil, err
	}
	var answer any
	var appended *span.Span
	switch name {
	case "insertSpan":
		appended, err = inv.insertSpan(ctx, list[0], list[1])
	case "version":
		appended, err = inv.version(ctx, list[0], list[1], list[2])
	case "again":
		answer, err = inv.again(list[0])
	default:
		err = denied("ctx.%s is not part of a kernel's ctx", name)
	}
	if err != nil {
		inv.isBroken.Store(true)
		return nil, explain(err)
	}
	if appended != nil {
		as := *appended
		answer = &as
	}
	return func() (json.RawMessage, error) { return encodeAnswer(answer, nil) }, nil
}

// wholeAnswer is an answer that the host itself has encoded: it may be large, and is not copied.
type wholeAnswer json.RawMessage

// encodeAnswer ends a host call.
func encodeAnswer(answer any, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, explain(err)
	}
	switch known := answer.(type) {
	case wholeAnswer:
		return json.RawMessage(known), nil
	case *RunResult:
		return known.encode()
	}
	return json.Marshal(answer)
}

// awaitBorn waits until the causes stand in the ledger: they may be what a read looks for.
func (inv *invocation) awaitBorn(ctx context.Context, causes ...span.Key) error {
	if inv.born == nil {
		return nil
	}
	for _, cause := range causes {
		if err := inv.born(ctx, cause); err != nil {
			return err
		}
	}
	return nil
}

// countRead counts a kernel's read against limits.sql_calls.
func (inv *invocation) countRead(ctx context.Context) error {
	if err := inv.awaitBorn(ctx, inv.order...); err != nil {
		return err
	}
	if most := inv.manifest.Limits.SQLCalls; int(inv.reads.Add(1)) > most {
		return refuse(span.RunLimitSQL, "more than %d reads in one run", most)
	}
	return nil
}

// explain turns a refusal into what JavaScript sees. Any other error is a fault on the way: the
// sandbox returns it as the run's Cause, and the run does not count.
func explain(err error) error {
	var refusal *span.Refusal
	var run *span.RunError
	switch {
	case errors.As(err, &refusal):
		return &sandbox.HostError{Code: string(span.RunDenied), Message: refusal.Error()}
	case errors.As(err, &run):
		return &sandbox.HostError{Code: string(run.Code), Message: run.Message}
	}
	return err
}

func denied(format string, args ...any) error {
	return &sandbox.HostError{Code: string(span.RunDenied), Message: fmt.Sprintf(format, args...)}
}

// notGranted refuses what the manifest does not grant to a kernel, and says what to run.
func notGranted(kernel, action, object string) error {
	if object != "" {
		action += ":" + object
	}
	return denied("the manifest does not grant %s to %s: a governor runs `logline manifest --give %s=%s`",
		action, kernel, kernel, action)
}

// causeOf returns the cause that raw ({id, seq} or null) names, or the only one.
func (inv *invocation) causeOf(named *keyText) (*span.Span, error) {
	if named == nil {
		if len(inv.order) == 1 {
			return inv.causes[inv.order[0]], nil
		}
		return nil, denied("the batch has %d spans: say which one is the cause", len(inv.order))
	}
	cause := inv.causes[named.key()]
	if cause == nil {
		return nil, denied("%s version %d is not in the batch", named.ID, named.Seq)
	}
	return cause, nil
}

// scope is the identity of ctx.find and ctx.sql: that of the only cause, or of the system.
func (inv *invocation) scope() ledger.Scope {
	causes := make([]*span.Span, 0, len(inv.order))
	for _, key := range inv.order {
		causes = append(causes, inv.causes[key])
	}
	owner, tenant := ownerOf(causes)
	return ledger.Scope{UserID: owner, TenantID: tenant}
}

func (inv *invocation) sql(ctx context.Context, raw json.RawMessage) (any, error) {
	if !inv.manifest.Allows(inv.kernel.name, span.ActionSQL, "") {
		return nil, notGranted(inv.kernel.name, span.ActionSQL, "")
	}
	var statement struct {
		Text   string `json:"text"`
		Values []any  `json:"values"`
	}
	if err := json.Unmarshal(raw, &statement); err != nil {
		return nil, denied("sql: use it as a template: ctx.sql`select …`")
	}
	rows, err := inv.stage0.config.Ledger.Query(ctx, inv.scope(), statement.Text, statement.Values,
		inv.manifest.Limits.SQLRows)
	switch {
	case errors.Is(err, ledger.ErrTooManyRows), errors.Is(err, ledger.ErrTooManyBytes):
		return nil, &sandbox.HostError{Code: string(span.RunLimitRows), Message: err.Error()}
	case ledger.IsRefusal(err), errors.Is(err, ledger.ErrStatementTimeout), errors.Is(err, ledger.ErrValue),
		errors.Is(err, ledger.ErrStatement):
		return nil, denied("sql: %s", err)
	case err != nil:
		return nil, err
	}
	if rows == nil {
		rows = []map[string]any{}
	}
	return map[string]any{"rows": rows}, nil
}
