package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// runTarget is the first argument of ctx.run.
type runTarget struct {
	ID    span.ID         `json:"id"`
	Seq   *int            `json:"seq"`
	Input json.RawMessage `json:"input"`
	Cause *keyText        `json:"cause"`
	// Causes, where a kernel is run for several at once.
	Causes []keyText `json:"causes"`
}

// RunResult is what ctx.run answers (docs/contract.md §5).
type RunResult struct {
	OK         bool            `json:"ok"`
	Output     json.RawMessage `json:"output,omitempty"`
	Input      json.RawMessage `json:"input,omitempty"`
	Error      *span.RunError  `json:"error,omitempty"`
	DurationMs int64           `json:"duration_ms"`
	Spans      []*span.Span    `json:"spans"`
	// Reserved is the answer to options.reserve, Settings what the function's metadata says about its runs,
	// RetryAt when the request is to be tried again after this failure, GivenUp how many attempts have failed
	// where there is none more.
	Reserved *Reservation `json:"reserved,omitempty"`
	Settings *settings    `json:"settings,omitempty"`
	RetryAt  *span.Time   `json:"retry_at,omitempty"`
	GivenUp  int          `json:"given_up,omitempty"`
}

// runOptions are the second argument of ctx.run.
type runOptions struct {
	TimeoutMs int             `json:"timeout_ms"`
	Reserve   json.RawMessage `json:"reserve"` // as ctx.reserve takes it: the run is one of what is reserved
}

// run answers ctx.run: a kernel, a function or a policy, on behalf of one cause.
func (inv *invocation) run(ctx context.Context, rawTarget, rawOptions json.RawMessage) (*RunResult, error) {
	if !inv.manifest.Allows(inv.kernel.name, span.ActionRun, "") {
		return nil, notGranted(inv.kernel.name, span.ActionRun, "")
	}
	target, err := readTarget(rawTarget)
	if err != nil {
		return nil, err
	}
	options, err := readOptions(rawOptions)
	if err != nil {
		return nil, err
	}
	causes, err := inv.causesOf(target)
	if err != nil {
		return nil, err
	}
	for name, id := range inv.manifest.Kernels {
		if id == target.ID {
			if len(causes) > 1 {
				return inv.runForMany(ctx, name, target, causes, options)
			}
			return inv.runKernel(ctx, name, target, causes[0], options)
		}
	}
	if len(causes) > 1 {
		return nil, denied("run: a function is run for one cause")
	}
	return inv.runCode(ctx, target, causes[0], options)
}

// runCode runs a function or a policy in a code worker, with limits and as strangers' code.
func (inv *invocation) runCode(ctx context.Context, target runTarget, cause *span.Span,
	options runOptions) (*RunResult, error) {
	row, newest, err := inv.load(ctx, target)
	if err != nil {
		return nil, err
	}
	started := span.NewTime(time.Now())
	record := &runRecord{StartedAt: &started}
	answer := &RunResult{Spans: []*span.Span{}, Input: present(target.Input)}
	defer inv.keepRecord(cause.Key(), record)

	refusal := inv.verifyTarget(row, newest, target, cause)
	if refusal == nil {
		if refusal, err = inv.verifyRequest(ctx, cause); err != nil {
			return nil, err
		}
	}
	if refusal != nil {
		answer.Error = refusal
		return answer, nil
	}
	record.Function, record.Manifest = functionRef(row), new(inv.manifest.key.Seq)
	if inv.rests(row, cause, answer) || inv.refusesInput(cause, row, answer) {
		return answer, nil
	}
	if answer.Input == nil && row.EntityType == "function" {
		answer.Input = row.Input
	}
	answer.Settings = new(settingsOf(row))
	if options.Reserve != nil {
		if answer.Reserved, err = inv.reserve(ctx, options.Reserve, cause, row); err != nil ||
			answer.Reserved.Granted == 0 {
			return answer, err
		}
	}
	code := &codeRun{inv: inv, cause: cause, row: row, record: record,
		calls: fetch.NewRun(inv.manifest.Limits.NetCalls)}
	run := code.prepare(answer.Input, options.TimeoutMs)
	inv.stage0.quotas.note(cause.ID, *record)
	runCtx, stop := inv.cancellable(ctx, cause.Key())
	defer stop()
	result := inv.stage0.config.Pool.RunCode(runCtx, run)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if result.Cause != nil {
		return nil, result.Cause
	}
	record.Logs, record.Calls = result.Logs, keptCalls(result.Calls, cause.Visibility)
	inv.judged(row, cause, &result)
	inv.noteRun(ctx, row, cause, result.Err)
	inv.noteRetry(ctx, row, cause, answer.Settings.fault, result.Err)
	answer.DurationMs = result.Duration.Milliseconds()
	if result.Err != nil {
		answer.Error = runError(result.Err)
		answer.RetryAt, answer.GivenUp, err = inv.stage0.retried(ctx, answer.Settings.Retry, cause, answer.Error)
		return answer, err
	}
	answer.OK, answer.Output = true, result.Output
	answer.Spans = append(answer.Spans, code.spans...)
	if answer.Output == nil {
		answer.Output = json.RawMessage("null")
	}
	inv.issue(cause.Key(), code)
	return answer, nil
}

// verifyTarget decides whether this cause may run row. A policy runs only where the router matched it
// with the cause; who may read it does not matter then. newest is the version that would run without a pin.
func (inv *invocation) verifyTarget(row, newest *span.Span, target runTarget,
	cause *span.Span) *span.RunError {
	owner, tenant := cause.OwnerID, cause.TenantID
	if row != nil && row.EntityType == "policy" {
		if !inv.matched[[2]span.Key{row.Key(), cause.Key()}] {
			return refuse(span.RunNotAllowed, "policy %s was not matched with %s", row.ID, cause.ID)
		}
		owner, tenant = row.OwnerID, row.TenantID
	} else if refusal := verifyPin(row, newest, target, cause); refusal != nil {
		return refusal
	}
	return inv.stage0.verifyTarget(inv.manifest, row, target.ID, owner, tenant, inv.stage0.now())
}

// verifyPin decides whether cause may run this version of a function: none but newest, unless its owner asks
// or the request was made for it; and none where newest cannot be called.
func verifyPin(row, newest *span.Span, target runTarget, cause *span.Span) *span.RunError {
	if row == nil || newest != nil && row.Key() == newest.Key() {
		return nil
	}
	if refusal := verifyCallable(newest, target.ID, cause.OwnerID, cause.TenantID); refusal != nil {
		return refusal
	}
	_, isDerived := cause.Engine()
	if row.Seq > newest.Seq || isDerived || sameOwner(cause, newest) {
		return nil
	}
	return refuse(span.RunNotAllowed, "version %d of the function is an older one, which its owner alone may "+
		"call: leave metadata.function out", row.Seq)
}

// load reads the version that target names, and the one that runs where it names none.
func (inv *invocation) load(ctx context.Context, target runTarget) (row, newest *span.Span, err error) {
	if target.Seq == nil {
		row, err = inv.current(ctx, target.ID)
		return row, row, err
	}
	row, err = inv.stage0.versions.pinned(ctx, span.Key{ID: target.ID, Seq: *target.Seq})
	if err != nil {
		return nil, nil, err
	}
	if row != nil && row.EntityType == "policy" {
		return row, row, nil // which version is in force, the router knows
	}
	newest, err = inv.current(ctx, target.ID)
	return row, newest, err
}

// current returns the newest version of a function whose time has come; where there is none, the oldest,
// which says when.
func (inv *invocation) current(ctx context.Context, id span.ID) (*span.Span, error) {
	row, err := inv.stage0.versions.current(ctx, id)
	for err == nil && row != nil && row.Seq > 0 && row.EffectiveAt != nil &&
		row.EffectiveAt.After(inv.stage0.now()) {
		var before []*span.Span
		if before, err = inv.stage0.versions.load(ctx, []span.Key{{ID: id, Seq: row.Seq - 1}}, true); err == nil {
			row = before[0]
		}
	}
	return row, err
}

func (inv *invocation) keepRecord(cause span.Key, record *runRecord) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.group(cause).record = record
}

// issue notes which spans a function emitted, so that the kernel may insert exactly these, and for which
// buckets a policy asked.
func (inv *invocation) issue(cause span.Key, code *codeRun) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause)
	for _, s := range code.spans {
		group.issued[s.ID] = s
	}
	if code.row.EntityType == "policy" {
		for id := range code.buckets {
			group.buckets[bucketKey{code.row.ID, id}] = true
		}
	}
}

// cancellable is ctx that also ends when this cause alone is cancelled.
func (inv *invocation) cancellable(ctx context.Context, cause span.Key) (context.Context, func()) {
	if inv.cancel == nil {
		return ctx, func() {}
	}
	runCtx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(inv.cancel(cause), cancel)
	return runCtx, func() {
		release()
		cancel()
	}
}

// refusesInput refuses an input that JavaScript would change, such as a number that no double is exactly.
func (inv *invocation) refusesInput(cause, row *span.Span, answer *RunResult) bool {
	if row.EntityType == "policy" {
		return false
	}
	input := cause.Input
	if cause.EntityType != "request" || input == nil {
		input = row.Input
	}
	err := span.CheckJSON(input)
	if input == nil || err == nil {
		return false
	}
	answer.Input, answer.Error = nil, refuse(span.RunNotSerializable, "input: %s", err.Error())
	return true
}

// codeRun is the host side of one run of a stranger's code.
type codeRun struct {
	inv    *invocation
	cause  *span.Span
	row    *span.Span
	record *runRecord

	mu      sync.Mutex
	spans   []*span.Span
	calls   *fetch.Run
	reads   int
	buckets map[span.ID]bool // that this run has asked for
}

func (c *codeRun) prepare(input json.RawMessage, timeoutMs int) sandbox.Run {
	manifest := c.inv.manifest
	seed := seedOf("run "+c.row.ID.String(), []*span.Span{c.cause})
	c.record.Seed = seedText(seed)
	run := sandbox.Run{
		Program: programOf(c.row, c.row.EntityType+" "+c.row.ID.String()),
		Data:    contextJSON(input, []*span.Span{c.cause}, nil), Lazy: manifest.lazy,
		SyncCalls:  []string{"insertSpan", "bucket"},
		AsyncCalls: []string{"find", "summarize", "fetch"}, ReadCalls: readCalls,
		Now: c.record.StartedAt.Time, Seed: seed, Host: c.host,
		Tenant: c.cause.TenantID, Alone: manifest.Features.StrictMode,
		Limits: limitsOf(manifest.Manifest, c.row, timeoutMs), RecordBytes: recordBytes,
	}
	if c.row.EntityType == "policy" { // it answers with actions, and appends nothing by itself
		run.Entry, run.SyncCalls = sandbox.EntryPolicy, []string{"bucket"}
		// No fetch: what it answers follows from what it sees.
		run.AsyncCalls = []string{"find", "summarize"}
		run.RecordBytes = 0 // nobody would keep it
		boundPolicy(&run.Limits, c.row, c.cause)
	}
	return run
}

// readCalls are the calls that read the ledger.
var readCalls = []string{"find", "summarize", "sql"}

// callsSpare is how often a run may go on calling after a refusal, and how often it may call what has no
// limit of its own.
const callsSpare = 100

// limitsOf is the manifest's limits, and the function's own time limit where that is shorter.
func limitsOf(m *span.Manifest, row *span.Span, timeoutMs int) sandbox.Limits {
	timeout := m.Policy.TimeoutMs
	if row.TimeoutMs != nil && *row.TimeoutMs > 0 {
		timeout = min(timeout, *row.TimeoutMs)
	}
	if timeoutMs > 0 {
		timeout = min(timeout, timeoutMs)
	}
	limits := sandbox.DefaultLimits()
	limits.Timeout = time.Duration(timeout) * time.Millisecond
	limits.IOTimeout = time.Duration(m.Limits.IOTimeoutMs) * time.Millisecond
	limits.MemoryBytes = int64(m.Limits.MemoryMB) << 20
	limits.SourceBytes, limits.OutputBytes = m.Limits.SourceBytes, m.Limits.OutputBytes
	limits.LogBytes, limits.FrameBytes = m.Limits.LogBytes, m.Limits.FrameBytes
	// Each kind of call has its own limit, counted here; this one ends a run that goes on nevertheless.
	limits.HostCalls = m.Limits.SQLCalls + m.Limits.Spans + m.Limits.NetCalls + callsSpare
	return limits
}

// What a policy may wait, for answers and for timers: spans of its tenant wait behind it.
const (
	policyWait = 2 * time.Second  // with one span; with policyTimeout it makes 5 s of the clock
	tickWait   = 10 * time.Second // of a tenant's policy with a tick, behind which no span waits
)

// boundPolicy narrows limits to what policy may take for this cause.
func boundPolicy(limits *sandbox.Limits, policy, cause *span.Span) {
	limits.Timeout = min(limits.Timeout, policyTimeout)
	switch {
	case !isTick(cause):
		limits.IOTimeout = min(limits.IOTimeout, policyWait)
	case policy.TenantID != "system":
		limits.IOTimeout = min(limits.IOTimeout, tickWait)
	}
}

// host answers the calls of a function or a policy: it may emit and read, nothing else.
func (c *codeRun) host(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(args, &list); err != nil {
		return nil, denied("the arguments of %s are malformed", name)
	}
	list = append(list, nil, nil, nil)
	var answer any
	var err error
	switch name {
	case "insertSpan":
		answer, err = c.insertSpan(ctx, list[0])
	case "find":
		if err = c.countRead(ctx); err == nil {
			answer, err = c.inv.find(ctx, c.scope(), list[0], list[1])
		}
	case "summarize":
		if err = c.countRead(ctx); err == nil {
			answer, err = c.inv.summarize(ctx, c.scope(), list[0], list[1])
		}
	case "bucket":
		answer, err = c.bucket(list[0])
	case "fetch":
		answer, err = c.fetch(ctx, list)
	default:
		err = denied("ctx.%s is not part of a function's ctx", name)
	}
	return encodeAnswer(answer, err)
}

// insertSpan settles a function's own span: it is handed to the kernel, which inserts or drops it.
func (c *codeRun) insertSpan(ctx context.Context, raw json.RawMessage) (*span.Span, error) {
	s, err := readPartial(raw)
	if err != nil {
		return nil, err
	}
	if s.EntityType == "" {
		return nil, denied("insertSpan: state entity_type")
	}
	if span.IsEngineType(s.EntityType) || s.EntityType == "manifest" || s.EntityType == "key" {
		return nil, denied("a function may not write spans of type %s", s.EntityType)
	}
	if span.IsGoverning(s.EntityType) && !sameOwner(c.row, c.cause) {
		return nil, denied("a %s may be appended by its owner's own code only, and this run is %s's",
			s.EntityType, c.cause.OwnerID)
	}
	s.PolicyID = nil // the engine's to state
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) >= c.inv.manifest.Limits.Spans {
		return nil, &sandbox.HostError{Code: string(span.RunLimitSpans),
			Message: fmt.Sprintf("more than %d spans in one run", c.inv.manifest.Limits.Spans)}
	}
	if !s.ID.IsZero() {
		return c.fill(ctx, s)
	}
	attempt := int64(c.cause.Seq)
	if c.cause.Attempt != nil {
		attempt = int64(*c.cause.Attempt)
	}
	id := span.Derive("function", acceptedAt(c.cause), []span.ID{c.cause.ID, c.row.ID}, attempt,
		int64(len(c.spans)))
	if s.At.IsZero() { // by the run's start, in the order of the calls: the same again when it is repeated
		s.At = span.NewTime(c.record.StartedAt.Add(time.Duration(len(c.spans)) * time.Microsecond))
	}
	if wider(s.Visibility, c.cause.Visibility) {
		return nil, denied("insertSpan: %s is wider than the request of this run, which is %s: leave visibility "+
			"out, or make the request %s", s.Visibility, c.cause.Visibility, s.Visibility)
	}
	if err := c.inv.complete(s, c.cause, "function", id, "client:function:"+c.row.ID.String()); err != nil {
		return nil, err
	}
	c.spans = append(c.spans, s)
	return s, nil
}

func sameOwner(a, b *span.Span) bool { return a.OwnerID == b.OwnerID && a.TenantID == b.TenantID }

// present turns JSON null and absence into nil.
func present(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}
