package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// request is one open request: the set of them is rebuilt from the ledger at every take-over.
type request struct {
	id     span.ID
	kernel string
	tenant string
	// span is the request as it stands: the first version's input, the latest one's seq, hash, status.
	// It is nil while the body is being read.
	span        *span.Span
	isSlim      bool // the large columns of span were let go of: they are read in its turn
	bytes       int  // that span's large columns have, while it is queued
	phase       phase
	isMarked    bool // a running version of this attempt is committed
	isMarking   bool // it is being committed
	markSeq     int  // the version of that mark
	isOutward   bool // it may reach the network: as of when it was queued
	isOrphan    bool // found open at a take-over: claimed before it runs, and not before its turn
	startedAt   time.Time
	isDisowned  bool // see term.go
	isCancelled bool // its owner wants it to end
	cancel      context.CancelFunc
	birth       *birth        // nil: it stands in the ledger
	held        *ledger.Group // result that waits for the mark
	tries       int           // runs that failed for no fault of the request
	isCounted   bool          // it is one of its tenant's share
	runs        int           // tells a late result of an earlier run from that of this one
	wishedSeq   int           // the version by which its owner wants it to end, noted on the way to a run
	seqSeen     int           // the version that the WAL has named; it may not be visible yet
	limits      int           // e.limits when it was run last
	isFreed     bool          // the limits have changed since it was blocked: it is due
	place       int           // on the agenda, from 1; 0: it is not there
}

type phase int

const (
	reading phase = iota // its body is on the way
	waiting              // due later
	queued
	running    // its kernel runs, or its result waits for the commit
	committing // its result is being committed
)

// attemptOf is the attempt that the next run of s is.
func attemptOf(s *span.Span) int {
	if s.Attempt == nil {
		return 1
	}
	if s.StatusText() == "retry" {
		return *s.Attempt + 1
	}
	return *s.Attempt
}

// dispatchRequests starts what may run.
func (e *Engine) dispatchRequests() {
	if e.draining || e.isDeposed {
		return
	}
	e.dispatchFrom(e.ready, false)
	e.dispatchFrom(e.outward, true)
}

// dispatchFrom starts what may run of one queue, in the places of that queue.
func (e *Engine) dispatchFrom(queue *fair, isOutward bool) {
	if queue.empty() {
		return
	}
	free, ending := e.config.InFlightMax, 0
	for _, r := range e.inFlight {
		if r.isOutward == isOutward {
			free--
			if r.phase == committing {
				ending++
			}
		}
	}
	if free <= 0 {
		return
	}
	h := e.held(isOutward)
	for free > 0 {
		batch := queue.pop(requestBatch, free, h)
		// Those that start together share a run of their kernel. Where others are about to end, more of them can
		// soon start, and while nothing starts here, those become more. Who comes rarely waits for no others.
		isWaiting := len(batch) < requestBatch && ending > 0 && !queue.empty()
		if isWaiting {
			batch = queue.keepRare(batch)
		}
		if len(batch) == 0 {
			return
		}
		free -= len(batch)
		batch = e.readBodies(slices.DeleteFunc(batch, e.readWish))
		if batch = slices.DeleteFunc(slices.DeleteFunc(batch, e.claim), e.bootAlone); len(batch) > 0 {
			e.bootRequests(batch)
		}
		if isWaiting {
			return
		}
	}
}

// held counts the places of one queue that are taken.
func (e *Engine) held(isOutward bool) taken {
	h := newTaken()
	for _, r := range e.inFlight {
		if r.isOutward == isOutward {
			h.add(r)
		}
	}
	return h
}

// bootAlone runs a request on its own whose run has failed before: if that was its fault, it costs no other.
func (e *Engine) bootAlone(r *request) bool {
	if r.tries > 0 {
		e.bootRequests([]*request{r})
	}
	return r.tries > 0
}

// started tells the runs of a request apart: a late word of an earlier one does not count.
type started struct {
	r   *request
	run int
	ctx context.Context // ends when this run alone is to stop
}

// bootRequests runs the requests' kernel. Each request's result comes on its own, as soon as it is
// there; a slow one holds up no other.
func (e *Engine) bootRequests(batch []*request) {
	job := Job{Kernel: batch[0].kernel}
	byKey := make(map[span.Key]started, len(batch))
	ctx, cancel := context.WithCancel(e.ctx)
	for _, r := range batch {
		r.phase, r.startedAt, r.held, r.limits = running, time.Now(), nil, e.limits
		e.queueOf(r).paces.started(r.span.TenantID, r.startedAt)
		runCtx, stop := context.WithCancel(ctx)
		if r.cancel = stop; len(batch) == 1 {
			r.cancel = cancel // of the kernel, too
		}
		e.inFlight[r.id] = r
		cause := *r.span
		cause.Attempt = new(attemptOf(r.span))
		r.runs++
		byKey[cause.Key()] = started{r, r.runs, runCtx}
		job.Batch = append(job.Batch, &cause)
	}
	job.Emit = func(cause span.Key, group ledger.Group, failure *span.RunError) {
		of := byKey[cause]
		e.do(func() { e.emitted(of.r, of.run, group, failure) })
	}
	job.Cancel = func(cause span.Key) context.Context { return byKey[cause].ctx }
	job.Born = func(ctx context.Context, cause span.Key) error { return e.awaitBirth(ctx, byKey[cause]) }
	e.armLate()
	e.stats.Boots.Add(1)
	e.start(func(context.Context) {
		err := e.config.Boot(ctx, job)
		cancel()
		e.do(func() { e.requestsBooted(slices.Collect(maps.Values(byKey)), err) })
	})
}

// emitted takes the result of one request.
func (e *Engine) emitted(r *request, run int, group ledger.Group, failure *span.RunError) {
	if r == nil || r.runs != run || r.phase != running || r.held != nil {
		return
	}
	failpoint.Hit(failpoint.RunEnded)
	took := time.Since(r.startedAt)
	e.stats.Run.Took(took)
	e.queueOf(r).paces.note(r.span.TenantID, took)
	if failure != nil || group.Fence == nil {
		if failure == nil {
			failure = &span.RunError{
				Code:    span.RunException,
				Message: "the kernel ended without a new version of the request",
			}
		}
		e.fail(r, failure)
		return
	}
	e.finish(r, group)
}

// requestsBooted deals with the requests of a run that gave no result. Where the kernel failed on several,
// they are halved until the one at fault stands alone.
func (e *Engine) requestsBooted(batch []started, err error) {
	var left []*request
	for _, of := range batch {
		r := of.r
		if r.runs == of.run && r.phase == running && r.held == nil && e.inFlight[r.id] == r {
			left = append(left, r)
		}
	}
	var refusal *span.RunError
	isRefused := errors.As(err, &refusal)
	if isRefused && len(left) > 1 && !e.draining {
		e.bootRequests(left[:len(left)/2])
		e.bootRequests(left[len(left)/2:])
		return
	}
	for _, r := range left {
		switch {
		case r.isCancelled:
			e.lost(r)
		case err == nil:
			e.fail(r, &span.RunError{Code: span.RunException, Message: "the kernel passed the request over"})
		case isRefused && refusal.Code == span.RunCrash:
			e.again(r, refusal) // the child may have died under somebody else's run
		case isRefused && len(left) == 1:
			e.fail(r, refusal)
		case e.draining:
			delete(e.inFlight, r.id) // stays open in the ledger
		default:
			e.again(r, err)
		}
	}
}

// again runs a request once more after a fault that was not its own.
func (e *Engine) again(r *request, fault error) {
	r.tries++
	if r.tries > transientTries {
		e.fail(r, &span.RunError{Code: span.RunCrash, Message: fault.Error()})
		return
	}
	e.bear(r)
	delete(e.inFlight, r.id)
	r.phase = reading
	e.config.Log.Warn("request failed for no fault of its own, trying again", "id", r.id.String(), "error",
		fault)
	e.after(backoff(r.tries), func() { e.loading.push(r) })
}

// fail ends a request without its kernel.
func (e *Engine) fail(r *request, failure *span.RunError) {
	group, err := e.config.Failure(withAttempt(r.span), failure)
	if err != nil {
		e.abandon(r, err)
		return
	}
	e.stats.Refused.Add(1)
	e.finish(r, group)
}

// abandon forgets a request that this sidecar can neither run nor end: it stays open in the ledger, and
// the log says why.
func (e *Engine) abandon(r *request, fault error) {
	e.config.Log.Error("request cannot be moved on", "id", r.id.String(), "error", fault)
	delete(e.inFlight, r.id)
	e.forget(r)
	e.stillborn(r, fault)
	e.settled(r.id, false)
}

func withAttempt(s *span.Span) *span.Span {
	copied := *s
	copied.Attempt = new(attemptOf(s))
	return &copied
}

// finish commits a result, behind the running mark if one is under way.
func (e *Engine) finish(r *request, group ledger.Group) {
	if r.isMarking || r.birth != nil && r.birth.isBearing {
		r.held = &group
		return
	}
	r.held = nil
	if group.Fence.Seq != r.span.Seq+1 {
		group.Fence.Seq, group.Fence.PrevHash = r.span.Seq+1, r.span.CurrHash
		if err := e.config.Seal(group.Fence, group.Fence.PrevHash); err != nil {
			e.fail(r, &span.RunError{Code: span.RunNotSerializable, Message: err.Error()})
			return
		}
	}
	if isBlockedAsBefore(r, group) {
		delete(e.inFlight, r.id)
		e.block(r)
		return
	}
	r.phase = committing
	e.submit(r.withBirth(group), func(outcome ledger.Outcome) { e.finished(r, group, outcome) })
}

func (e *Engine) finished(r *request, group ledger.Group, outcome ledger.Outcome) {
	if r.isDisowned {
		return
	}
	delete(e.inFlight, r.id)
	if outcome.Err == nil {
		e.delivered(r)
	}
	status := group.Fence.StatusText()
	switch {
	case errors.Is(outcome.Err, errTermOver):
		e.disown(r)
	case outcome.Err != nil && r.tries > transientTries:
		e.abandon(r, outcome.Err)
	case outcome.Err != nil:
		// The ledger refuses what the run appended. The run is over; its end says why.
		r.tries = transientTries + 1
		r.phase = running
		e.inFlight[r.id] = r
		e.fail(r,
			&span.RunError{Code: span.RunDenied, Message: "the ledger refused the result: " + outcome.Err.Error()})
	case !outcome.Won:
		e.lost(r)
	case span.IsTerminal(status):
		e.settled(r.id, true)
		e.stats.Executed.Add(1)
		e.stats.ended(status)
		e.stats.took(r.span, e.now())
		e.forget(r)
		if r.seqSeen > group.Fence.Seq && !e.isDeposed {
			e.read(&request{id: r.id, kernel: r.kernel, seqSeen: r.seqSeen}, r.tenant)
		}
	default:
		e.settled(r.id, true)
		e.stats.ended(status)
		e.moved(r, group.Fence)
		e.block(r)
	}
}

// moved notes a version that this sidecar has appended.
func (e *Engine) moved(r *request, version *span.Span) {
	next := *r.span
	next.Seq, next.CurrHash, next.PrevHash = version.Seq, version.CurrHash, version.PrevHash
	next.Status, next.Attempt, next.AcceptedAt = version.Status, version.Attempt, version.AcceptedAt
	next.ScheduledAt = version.ScheduledAt
	r.span = &next
}

// lost reads a request again whose fence somebody else took. What its run has reserved is settled when it is
// known who that was: where its owner cancelled it, it counts.
func (e *Engine) lost(r *request) {
	e.bear(r)
	e.stats.FencesLost.Add(1)
	e.config.Log.Info("another writer moved the request on", "id", r.id.String(), "seq", r.span.Seq+1)
	delete(e.inFlight, r.id)
	if e.isDeposed {
		e.remove(r)
		return
	}
	r.isMarked, r.phase = false, reading
	e.loading.push(r)
}
