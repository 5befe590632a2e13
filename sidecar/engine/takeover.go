package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Lead makes the engine the one that works: it reads the database clock and the policies in force, and
// begins to read the open requests, page by page, however many there are. Those that were open under a
// sidecar before are claimed with a visible running version when their turn comes, and the attempt counts. It
// returns when the policies are known.
//
// since is the text of the snapshot up to which the tail has disposed of everything; "" is nothing.
func (e *Engine) Lead(ctx context.Context, since string) error {
	failpoint.Hit(failpoint.LeadBegun)
	clock, _, err := e.readClock(ctx)
	if err != nil {
		return err
	}
	policies, startPolicies, err := e.leadPolicies(ctx, since)
	if err != nil {
		return err
	}
	schedules, lastTicks, err := e.readSchedules(ctx, policies)
	if err != nil {
		return err
	}
	snapshot, err := e.config.Ledger.Snapshot(ctx)
	if err != nil {
		return err
	}
	err = e.tell(ctx, func() {
		e.isDeposed = false
		e.setClock(clock)
		clear(e.own) // their rows may have gone to another sidecar's stream
		startPolicies()
		e.leadSchedules(schedules, lastTicks)
		e.resumeTicks(lastTicks)
		e.tickAt(e.now()) // what nobody led for
		e.armTicks()
		// Where it stands now, the ledger says: another sidecar may have ended it meanwhile.
		for _, r := range e.open {
			if r.phase == queued || r.phase == waiting {
				e.remove(r)
			}
		}
		e.restart(snapshot)
	})
	failpoint.Hit(failpoint.LeadEnding)
	return err
}

// Lose is called when the slot is lost: another sidecar may lead from now on. What runs goes on, and the
// fence decides about its result; nothing new is started, and the rows that wait are forgotten: the slot
// brings them again, to whoever leads.
func (e *Engine) Lose(ctx context.Context) {
	// An error says that the engine has stopped: then there is nothing to forget.
	_ = e.tell(ctx, func() {
		e.isDeposed = true
		e.endTerm()
		for id, r := range e.open {
			if e.inFlight[id] == nil {
				e.remove(r)
			}
		}
		e.loading, e.ticks.queue, e.wanting = loads{}, nil, nil
		e.forgetSchedules()
		e.leads++
		e.forgetArrivals()
		e.forgetBehind()
		for _, l := range e.lanes {
			waiting := slices.Concat(l.waiting, l.crowd.drain())
			l.waiting = nil
			for _, it := range waiting {
				it.dispose()
			}
		}
	})
}

// tell runs event in the loop and waits for it.
func (e *Engine) tell(ctx context.Context, event func()) error {
	done := make(chan struct{})
	select {
	case e.events <- func() { event(); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// claim appends a running version when the turn of a request has come that needs one before it runs: an
// orphan, and what reaches outside, which leaves a trace before it starts. It keeps its place in flight until
// that is committed. One that only waits is not said to run, and costs no attempt when this sidecar is lost.
func (e *Engine) claim(r *request) bool {
	if !r.isOrphan {
		if !r.isOutward || r.isMarked {
			return false
		}
		r.phase = reading
		e.inFlight[r.id] = r
		e.mark(r, attemptOf(r.span))
		return true
	}
	failpoint.Hit(failpoint.ClaimBegun)
	r.isOrphan, r.phase = false, reading
	e.inFlight[r.id] = r
	e.takeOver(r)
	return true
}

// kernelOf returns the kernel that runs open requests like row: that of the trigger which matched it
// when it was scheduled.
func (e *Engine) kernelOf(row *span.Span) (string, bool) {
	manifest := e.config.Manifest()
	if manifest == nil {
		return "", false
	}
	published := &span.Published{
		ID:         row.ID,
		EntityType: row.EntityType,
		OwnerID:    row.OwnerID,
		TenantID:   row.TenantID,
		Visibility: row.Visibility,
		ParentID:   row.ParentID,
		At:         row.At,
		TraceID:    row.TraceID,
		Status:     new("scheduled"),
	}
	for i := range manifest.Triggers {
		if trigger := &manifest.Triggers[i]; trigger.Kernel != policyKernel && trigger.When.Matches(published) {
			return trigger.Kernel, true
		}
	}
	return "", false
}

// takeOver claims a request that another sidecar left open. A lost sidecar costs an attempt; a
// request that has outlived too many is dead. Whoever it is, he leads no more, or this sidecar does not: then
// its commits wait (IsTrusted), and no version of it comes between. A version of this very process, whose
// answer was lost, costs nothing.
func (e *Engine) takeOver(r *request) {
	if e.marks.have(r.span) {
		r.isMarked, r.markSeq = true, r.span.Seq
		e.claimed(r)
		return
	}
	e.stats.Takeovers.Add(1)
	attempt := attemptOf(r.span)
	if r.span.StatusText() == "running" && r.span.Attempt != nil {
		attempt++
	}
	if attempt > span.AttemptsMax {
		e.countLosses(r, attempt)
		return
	}
	e.claimAs(r, attempt)
}

// countLosses ends a request that has outlived too many sidecars, or claims it. Attempts that ended as retry
// or blocked were no losses, and a redrive begins anew.
func (e *Engine) countLosses(r *request, attempt int) {
	e.start(func(ctx context.Context) {
		losses, err := e.config.Ledger.CountLosses(ctx, r.id)
		e.do(func() {
			switch {
			case e.isDeposed:
				delete(e.inFlight, r.id)
				e.remove(r)
			case err != nil:
				e.again(r, err)
			case losses >= span.AttemptsMax:
				e.advance(r, "dead", fmt.Sprintf("%d sidecars were lost while it ran", span.AttemptsMax))
			default:
				e.claimAs(r, attempt)
			}
		})
	})
}

func (e *Engine) claimAs(r *request, attempt int) {
	if r.kernel == "" {
		r.kernel, _ = e.kernelOf(r.span)
	}
	e.mark(r, attempt)
}

// mark commits a running version and then queues the request, or, where it runs already, goes on
// with what it gave meanwhile.
func (e *Engine) mark(r *request, attempt int) {
	version := r.span.NextRequest("sidecar:"+e.config.Node, "running")
	version.Did, version.Attempt = new("claimed"), &attempt
	if err := e.config.Seal(version, version.PrevHash); err != nil {
		e.abandon(r, err)
		return
	}
	r.isMarking = true
	e.marks.add(version)
	e.submit(ledger.Group{Fence: version}, func(outcome ledger.Outcome) { e.marked(r, version, outcome) })
}

func (e *Engine) marked(r *request, version *span.Span, outcome ledger.Outcome) {
	r.isMarking = false
	if outcome.Err != nil || !outcome.Won {
		if r.phase == running && r.cancel != nil {
			r.cancel()
		}
		r.held = nil
		if outcome.Err != nil {
			e.abandon(r, outcome.Err)
			return
		}
		e.lost(r)
		return
	}
	failpoint.Hit(failpoint.MarkCommitted)
	e.moved(r, version)
	r.isMarked, r.markSeq = true, version.Seq
	switch {
	case r.held != nil:
		group := *r.held
		r.held = nil
		e.finish(r, group)
	case r.phase == running:
	default:
		e.claimed(r)
	}
}

// claimed queues a request whose running version stands: first, where its turn has come.
func (e *Engine) claimed(r *request) {
	if e.inFlight[r.id] != r {
		e.enqueue(r)
		return
	}
	delete(e.inFlight, r.id)
	r.phase = queued
	e.queueOf(r).pushFirst(r)
}

// marks are the last running versions that this process has sent to the ledger, by their hash.
type marks struct{ last, before map[span.Key]string }

const marksMax = 5000

func (m *marks) add(version *span.Span) {
	if version.CurrHash == nil {
		return
	}
	if m.last == nil || len(m.last) >= marksMax {
		m.before, m.last = m.last, map[span.Key]string{}
	}
	m.last[version.Key()] = *version.CurrHash
}

// have reports whether a version is one of them.
func (m *marks) have(version *span.Span) bool {
	hash := m.at(version.Key())
	return hash != "" && version.CurrHash != nil && *version.CurrHash == hash
}

func (m *marks) at(key span.Key) string {
	if hash, found := m.last[key]; found {
		return hash
	}
	return m.before[key]
}

// advance appends a version that ends a request without a run: dead.
func (e *Engine) advance(r *request, status, reason string) {
	version := r.span.NextRequest("sidecar:"+e.config.Node, status)
	var err error
	if reason != "" {
		version.Reason = &reason
		// An error in the form of a run's, so that readers need to know one form only.
		version.Error, err = json.Marshal(&span.RunError{Code: span.RunCrash, Message: reason})
	}
	if err == nil {
		err = e.config.Seal(version, version.PrevHash)
	}
	if err != nil {
		e.abandon(r, err)
		return
	}
	r.phase = committing
	group := ledger.Group{Fence: version}
	e.submit(group, func(outcome ledger.Outcome) { e.finished(r, group, outcome) })
}

// armLate sees to it that runs which last get a running version.
func (e *Engine) armLate() {
	if e.lateArmed {
		return
	}
	e.lateArmed = true
	e.after(lateAfter, func() {
		e.lateArmed = false
		now := time.Now()
		rest := false
		for _, r := range e.inFlight {
			if r.phase != running || r.isMarked || r.isMarking {
				continue
			}
			if r.birth != nil { // its first version comes first
				rest = true
				continue
			}
			if now.Sub(r.startedAt) >= lateAfter {
				e.mark(r, attemptOf(r.span))
			} else {
				rest = true
			}
		}
		if rest {
			e.armLate()
		}
	})
}
