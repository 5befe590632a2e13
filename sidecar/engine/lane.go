package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// lane is the queue of one kernel that reacts to rows other than requests, or of an owner's policies in a
// tenant (share.go). What time brings to policies has lanes of its own: it never delays a row.
type lane struct {
	key      laneKey
	kernel   string
	batchMax int
	waiting  []*item
	running  int
	runsMax  int
	isPaused bool // after a fault on the way; nothing overtakes what failed

	crowd crowd // of another kernel than policy_agent: what waits behind waiting, whose turn has come

	// Of policies.
	places *places // nil: of another kernel
	open   int     // items that are not disposed of
	fits   int     // matches that make a run of runTarget, by the last one
	turn   int     // when it ran last
	behind *behind // nil: it judges what the tail brings
}

func (e *Engine) lane(key laneKey) *lane {
	l := e.lanes[key]
	if l != nil {
		return l
	}
	l = &lane{key: key, kernel: key.kernel, runsMax: laneRunsMax, batchMax: laneBatchMax,
		places: e.kinds.of(key)}
	switch {
	case l.places == nil:
		e.kernelLanes = append(e.kernelLanes, l)
	default:
		l.runsMax, l.fits = 1, runFirst // commit order
		l.places.lanes = append(l.places.lanes, l)
		if key.kernel == tickLane {
			l.kernel, l.batchMax = policyKernel, tickBatchMax
		}
	}
	e.lanes[key] = l
	return l
}

func (l *lane) add(it *item) {
	if l.places == nil {
		l.crowd.push(it)
		return
	}
	l.waiting = append(l.waiting, it)
}

func (l *lane) canRun() bool {
	return l.running < l.runsMax && len(l.waiting)+l.crowd.n > 0 && !l.isPaused
}

// take takes the next batch from what waits. A run shows each span once.
func (l *lane) take() []*item {
	most := l.batchMax
	if l.places == nil && len(l.waiting) == 0 {
		return l.crowd.take(most, l.running+1 == l.runsMax)
	}
	if of := l.waiting[0].most; of > 0 {
		most = min(most, of)
	}
	n, matches := 0, 0
	for _, it := range l.waiting[:min(len(l.waiting), most)] {
		matches += len(it.matches)
		if n > 0 && l.places != nil && (matches > l.fits || it.row == l.waiting[n-1].row) {
			break
		}
		n++
	}
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	return batch
}

// errTooLarge says that a batch is to be halved before it is run.
var errTooLarge = errors.New("the spans of the batch are too large for one run")

// laneResult is what a run of a lane's kernel gave.
type laneResult struct {
	groups   map[span.Key]ledger.Group
	failures map[span.Key]*span.RunError
	err      error
}

func (e *Engine) bootLane(l *lane, batch []*item) {
	l.running++
	for _, it := range batch {
		it.term = e.term.Load()
	}
	e.start(func(ctx context.Context) {
		began := time.Now()
		result := e.runLane(ctx, l.kernel, batch)
		took := time.Since(began)
		e.do(func() { e.laneEnded(l, batch, took, result) })
	})
}

func (e *Engine) runLane(ctx context.Context, kernel string, batch []*item) laneResult {
	result := laneResult{groups: map[span.Key]ledger.Group{}, failures: map[span.Key]*span.RunError{}}
	if result.err = e.loadBodies(ctx, kernel, batch); result.err != nil {
		return result
	}
	job := Job{Kernel: kernel}
	bytes := 0
	for _, it := range batch {
		job.Batch = append(job.Batch, it.span)
		bytes += len(it.span.Input) + len(it.span.Output) + len(it.span.Content) + len(it.span.Metadata)
	}
	if bytes > laneBytesMax && len(batch) > 1 {
		result.err = errTooLarge
		return result
	}
	if kernel == policyKernel {
		if job.Input, result.err = matchInput(batch); result.err != nil || job.Input == nil {
			return result
		}
	}
	var mu sync.Mutex
	job.Emit = func(cause span.Key, group ledger.Group, err *span.RunError) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			result.failures[cause] = err
			return
		}
		result.groups[cause] = group
	}
	e.stats.Boots.Add(1)
	result.err = e.config.Boot(ctx, job)
	switch {
	case batch[0].tick != nil:
		failpoint.Hit(failpoint.TickJudged)
	case kernel == policyKernel:
		failpoint.Hit(failpoint.PolicyJudged)
	}
	return result
}

// loadBodies reads the whole spans where the published columns do not do: for policies, and for
// derived spans, whose metadata tells how deep in a chain of causes they stand.
func (e *Engine) loadBodies(ctx context.Context, kernel string, batch []*item) error {
	var keys []span.Key
	var wanting []*item
	for _, it := range batch {
		if it.tick != nil {
			continue
		}
		it.span = it.row.Span()
		if kernel == policyKernel || it.row.ID.Version() == 8 {
			keys = append(keys, it.row.Key())
			wanting = append(wanting, it)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	found, err := e.config.Load(ctx, keys)
	if err != nil {
		return fmt.Errorf("load the spans of a batch: %w", err)
	}
	for i, it := range wanting {
		if found[i] != nil {
			it.span = found[i]
		}
	}
	return nil
}

// laneBooted commits what the run gave and disposes of its items. A failure that would come again is
// halved until the span at fault stands alone; that one ends as an incident, and costs no other.
func (e *Engine) laneBooted(l *lane, batch []*item, result laneResult) {
	var refusal *span.RunError
	switch {
	case result.err == nil:
	case len(batch) > 1 && (errors.As(result.err, &refusal) || errors.Is(result.err, errTooLarge) ||
		ledger.IsUnreadable(result.err)):
		for _, it := range batch { // back in front, in their order, and half as many at once
			it.most = (len(batch) + 1) / 2
		}
		l.waiting = append(slices.Clone(batch), l.waiting...)
		return
	case errors.As(result.err, &refusal) && refusal.Code == span.RunCrash && batch[0].tries < crashTries:
		e.laneRetry(l, batch, result.err) // the child may have died under somebody else's run
		return
	case errors.As(result.err, &refusal):
		e.laneFailed(l, batch[0], refusal)
		return
	case ledger.IsUnreadable(result.err):
		e.laneFailed(l, batch[0], &span.RunError{Code: span.RunException, Message: result.err.Error()})
		return
	default:
		e.laneRetry(l, batch, result.err)
		return
	}
	var made []*request
	for _, it := range batch {
		key := it.row.Key()
		if failure := result.failures[key]; failure != nil {
			e.laneFailed(l, it, failure)
			continue
		}
		group, emitted := result.groups[key]
		if !emitted {
			e.noteSkipped(it)
			it.dispose()
			continue
		}
		if e.isAwaited(it, group) {
			continue
		}
		if r := e.beget(l, it, group); r != nil {
			made = append(made, r)
			continue
		}
		e.settle(l, it, group)
	}
	e.bootUnborn(made)
}

// settle appends what a kernel gave for one item: one group, or one for each policy. The item is disposed of
// when each has its fate; those that lost a version to somebody else are judged anew before that.
func (e *Engine) settle(l *lane, it *item, group ledger.Group) {
	parts := group.Parts
	if group.Parts = nil; len(parts) == 0 || len(group.Rows) > 0 || group.Fence != nil {
		parts = append([]ledger.Group{group}, parts...)
	}
	if it.tick != nil && l.places == nil {
		failpoint.Hit(failpoint.TickMade)
	}
	it.parts, it.raced, it.race = len(parts), nil, nil
	for _, part := range parts {
		e.submit(part, func(outcome ledger.Outcome) { e.partCommitted(l, it, part, outcome) })
	}
}

// partCommitted takes the fate of one part of what a kernel gave for an item.
func (e *Engine) partCommitted(l *lane, it *item, part ledger.Group, outcome ledger.Outcome) {
	if l.places != nil {
		failpoint.Hit(failpoint.PolicyCommitted)
	}
	it.parts--
	var race *raceError
	p := it.policyOf(part)
	switch {
	case outcome.Err != nil && it.term != e.term.Load(): // disposed of below: it comes again
	case errors.As(outcome.Err, &race):
		it.race, it.raced = race, append(it.raced, p)
	case outcome.Err != nil && p != nil && !it.isReport(part):
		e.report(l, it, p, outcome.Err)
	case outcome.Err != nil:
		e.laneFailed(l, it, &span.RunError{Code: span.RunDenied, Message: outcome.Err.Error()})
		return
	case part.Again:
		e.nextRound(it)
	case outcome.WasThere, !outcome.Won:
		e.stats.Repeated.Add(1)
	}
	e.partEnded(l, it)
}

// partEnded ends an item of which no part is under way any more.
func (e *Engine) partEnded(l *lane, it *item) {
	switch {
	case it.parts > 0:
	case it.race != nil:
		e.laneRaced(l, it)
	default:
		it.dispose()
	}
}

// laneRetry puts a batch back in front of its lane after a fault on the way.
func (e *Engine) laneRetry(l *lane, batch []*item, fault error) {
	if e.draining {
		return // not disposed of: the slot brings it again
	}
	batch[0].tries++
	delay := backoff(batch[0].tries)
	e.config.Log.Warn("kernel run failed, trying again", "kernel", l.kernel, "error", fault, "in_ms",
		delay.Milliseconds())
	l.waiting = append(slices.Clone(batch), l.waiting...)
	l.isPaused = true
	e.after(delay, func() { l.isPaused = false })
}

// laneFailed records that a kernel could not deal with one span, and disposes of it when nothing else of it
// is under way.
func (e *Engine) laneFailed(l *lane, it *item, failure *span.RunError) {
	e.stats.Refused.Add(1)
	e.config.Log.Error("kernel failed on a span", "kernel", l.kernel, "id", it.row.ID.String(), "seq",
		it.row.Seq, "code", string(failure.Code), "error", failure.Message)
	it.parts++
	ended := func(err error) {
		if err != nil {
			e.config.Log.Error("incident not recorded", "error", err)
		}
		it.parts--
		e.partEnded(l, it)
	}
	incident, err := e.incident(it.row, l.kernel, failure)
	if err != nil {
		ended(err)
		return
	}
	e.submit(ledger.Group{Rows: []*span.Span{incident}}, func(outcome ledger.Outcome) { ended(outcome.Err) })
}

// incident is a span of the engine's own, private to system, about a row that a kernel failed on.
func (e *Engine) incident(row *span.Published, kernel string, failure *span.RunError) (*span.Span, error) {
	encoded, err := json.Marshal(failure)
	if err != nil {
		return nil, fmt.Errorf("encode the incident: %w", err)
	}
	metadata, err := span.SetEngine(nil,
		span.EngineMeta{Cause: row.Key(), Root: row.ID, Depth: 1, Kind: "incident:" + kernel})
	if err != nil {
		return nil, err
	}
	about := &row.ID
	if row.EntityType == "tick" && row.ParentID != nil {
		about = row.ParentID // a tick of a function stands in no ledger
	}
	incident := &span.Span{
		ID:         span.Derive("incident:"+kernel, row.AcceptedAt.Time, []span.ID{row.ID}, int64(row.Seq)),
		EntityType: "incident", Who: "sidecar:" + e.config.Node, Did: new("failed"), This: &kernel,
		At: row.At, OwnerID: "system", TenantID: "system", Visibility: "private", Status: new("open"),
		ParentID: about, TraceID: row.TraceID, Error: encoded, Metadata: metadata,
	}
	return incident, e.config.Seal(incident, nil)
}
