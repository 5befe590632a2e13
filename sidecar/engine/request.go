package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// request is one open request: the set of them is rebuilt from the ledger at every take-over.
type request struct {
	id     span.ID
	kernel string
	// span is the request as it stands: the first version's input, the latest one's seq, hash, status.
	// It is nil while the body is being read.
	span        *span.Span
	isSlim      bool // the large columns of span were let go of: they are read in its turn
	bytes       int  // that span's large columns have, while it is queued
	phase       phase
	isMarked    bool // a running version of this attempt is committed
	isMarking   bool // it is being committed
	foreignSeq  int  // the version of another sidecar that was seen standing
	markSeq     int  // the version of that mark
	isOutward   bool // it may reach the network: as of when it was queued
	isOrphan    bool // found open at a take-over: claimed before it runs, and not before its turn
	startedAt   time.Time
	isCancelled bool // its owner wants it to end
	cancel      context.CancelFunc
	held        *ledger.Group // result that waits for the mark
	tries       int           // runs that failed for no fault of the request
	runs        int           // tells a late result of an earlier run from that of this one
	seqSeen     int           // the version that the WAL has named; it may not be visible yet
	limits      int           // e.limits when it was run last
	isFreed     bool          // the limits have changed since it was blocked: it is due
}

type phase int

const (
	reading phase = iota // its body is on the way
	waiting              // due later
	queued
	running    // its kernel runs, or its result waits for the commit
	committing // its result is being committed
)

// admitOwn opens a request that this sidecar has just committed: no need to wait for its row. One that
// was there already may have moved on, and is read.
func (e *Engine) admitOwn(row *span.Span, wasThere bool) {
	manifest := e.config.Manifest()
	if manifest == nil || e.open[row.ID] != nil {
		return
	}
	published := &span.Published{ID: row.ID, Seq: row.Seq, EntityType: row.EntityType, Status: row.Status,
		OwnerID: row.OwnerID, TenantID: row.TenantID, Visibility: row.Visibility, ParentID: row.ParentID,
		At: row.At, ScheduledAt: row.ScheduledAt, TraceID: row.TraceID, CurrHash: row.CurrHash}
	for i := range manifest.Triggers {
		if trigger := &manifest.Triggers[i]; trigger.Kernel != policyKernel && trigger.When.Matches(published) {
			r := &request{id: row.ID, kernel: trigger.Kernel, span: row}
			if !wasThere {
				e.place(r)
				return
			}
			e.open[r.id] = r
			e.loading = append(e.loading, r)
			return
		}
	}
}

// admitRow opens a request that somebody else committed; its body has to be read.
func (e *Engine) admitRow(row *span.Published, kernel string) {
	if e.own[row.Key()] {
		delete(e.own, row.Key())
		return
	}
	if row.IsDeleted {
		return
	}
	if r := e.open[row.ID]; r != nil {
		r.seqSeen = max(r.seqSeen, row.Seq) // sent again while its end is being committed: see finished
		return
	}
	e.read(row.ID, kernel, row.Seq)
}

// read opens a request whose body is still to be read.
func (e *Engine) read(id span.ID, kernel string, seq int) {
	r := &request{id: id, kernel: kernel, seqSeen: seq}
	e.open[id] = r
	e.loading = append(e.loading, r)
}

// observeRequest notes versions that others append to open requests.
func (e *Engine) observeRequest(row *span.Published) {
	status := ""
	if row.Status != nil {
		status = *row.Status
	}
	r := e.open[row.ID]
	if e.own[row.Key()] {
		if row.Seq > 0 { // first versions are for admitRow to forget
			delete(e.own, row.Key())
		}
		return
	}
	switch {
	case status == "cancel_requested" && r == nil:
		r = &request{id: row.ID, seqSeen: row.Seq}
		e.open[row.ID] = r
		e.loading = append(e.loading, r)
	case status == "cancel_requested" && r.phase == running:
		r.isCancelled = true
		r.cancel() // its result would lose the fence anyway
	case status == "cancel_requested" && (r.phase == queued || r.phase == waiting):
		e.takeOut(r)
		e.open[row.ID] = r
		r.phase, r.seqSeen = reading, row.Seq
		e.loading = append(e.loading, r)
	}
}

// load reads the bodies of requests that others committed, many at once.
func (e *Engine) load() {
	if e.isLoading || len(e.loading) == 0 || e.draining || e.isDeposed {
		return
	}
	n := min(len(e.loading), loadBatchMax)
	batch := e.loading[:n:n]
	e.loading = e.loading[n:]
	e.isLoading = true
	e.start(func(ctx context.Context) {
		ids := make([]span.ID, len(batch))
		for i, r := range batch {
			ids[i] = r.id
		}
		found, err := e.config.Ledger.Requests(ctx, ids)
		e.do(func() {
			e.isLoading = false
			e.loaded(batch, found, err)
		})
	})
}

func (e *Engine) loaded(batch []*request, found map[span.ID]*span.Span, err error) {
	if err != nil {
		e.config.Log.Warn("requests not read, trying again", "error", err)
		e.after(backoffMin, func() { e.loading = append(e.loading, batch...) })
		return
	}
	for _, r := range batch {
		row := found[r.id]
		if row == nil || row.Seq < r.seqSeen { // committed, and not visible yet
			e.after(time.Millisecond, func() { e.loading = append(e.loading, r) })
			continue
		}
		// Who deletes while he cancels ends the run, too: it is cancelled, with what that leaves.
		if span.IsTerminal(row.StatusText()) || row.IsDeleted && row.StatusText() != "cancel_requested" {
			delete(e.open, r.id) // finished meanwhile: a late row of the stream
			e.settled(r.id, false)
			continue
		}
		r.span, r.isSlim = row, false
		e.place(r)
	}
}

// place puts a request whose body is known where it belongs.
func (e *Engine) place(r *request) {
	if e.isDeposed {
		e.remove(r)
		return
	}
	e.open[r.id] = r
	switch r.span.StatusText() {
	case "cancel_requested":
		e.endCancelled(r)
		return
	case "running":
		if r.isMarked && r.span.Seq == r.markSeq {
			e.enqueue(r) // our own mark: this is one more try of the same attempt
			return
		}
		e.placeForeign(r)
		return
	}
	now := time.Now().Add(e.clockOffset)
	if at := r.span.ScheduledAt; at != nil && at.After(now) && !r.isFreed {
		r.span, r.phase = slim(r.span), waiting // the body is read again when it is due
		e.due.add(at.Add(-e.clockOffset), r)
		return
	}
	if manifest := e.config.Manifest(); manifest != nil && r.span.ParentID != nil && !r.isMarked &&
		manifest.HasNetwork(*r.span.ParentID) {
		e.mark(r, attemptOf(r.span)) // what reaches outside leaves a trace before it starts
		return
	}
	e.enqueue(r)
}

// placeForeign deals with a version that another sidecar appended. Either this one no longer leads, and
// will learn it within seconds, or that one is a late riser, who is left alone for a while: taking the
// request at once would have two sidecars play it to and fro until its attempts are used up.
func (e *Engine) placeForeign(r *request) {
	if r.foreignSeq == r.span.Seq {
		e.takeOver(r)
		return
	}
	r.foreignSeq, r.phase = r.span.Seq, reading
	e.after(foreignWait, func() {
		if e.open[r.id] == r && r.phase == reading {
			e.loading = append(e.loading, r)
		}
	})
}

// wake reads the requests that have come due.
func (e *Engine) wake() {
	for _, r := range e.due.take(time.Now()) {
		if r.phase == waiting {
			r.phase = reading
			e.loading = append(e.loading, r)
		}
	}
}

// remove forgets a request, wherever it waits.
func (e *Engine) remove(r *request) {
	e.takeOut(r)
	e.settled(r.id, false)
}

func (e *Engine) takeOut(r *request) {
	delete(e.open, r.id)
	e.queueOf(r).remove(r)
	e.due.remove(r)
}

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

// enqueue puts a request among those that may run. Those that may reach the network have a queue and places
// of their own: they last as long as a stranger's server likes.
func (e *Engine) enqueue(r *request) {
	manifest := e.config.Manifest()
	r.phase = queued
	r.isOutward = manifest != nil && r.span.ParentID != nil && manifest.HasNetwork(*r.span.ParentID)
	queue := e.queueOf(r)
	if !r.isSlim && queue.bytes+bodyBytes(r.span) > queuedBytesMax {
		r.span, r.isSlim = slim(r.span), true
	}
	queue.push(r)
}

func (e *Engine) queueOf(r *request) *fair {
	if r.isOutward {
		return e.outward
	}
	return e.ready
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
	held, free := map[string]int{}, e.config.InFlightMax
	for _, r := range e.inFlight {
		if r.isOutward == isOutward {
			held[r.span.TenantID]++
			free--
		}
	}
	for free > 0 {
		batch := queue.pop(requestBatch, free, held)
		if len(batch) == 0 {
			return
		}
		for _, r := range batch {
			held[r.span.TenantID]++
			free--
		}
		batch = e.readBodies(batch)
		if batch = slices.DeleteFunc(slices.DeleteFunc(batch, e.claim), e.bootAlone); len(batch) > 0 {
			e.bootRequests(batch)
		}
	}
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
	delete(e.inFlight, r.id)
	r.phase = reading
	e.config.Log.Warn("request failed for no fault of its own, trying again", "id", r.id.String(), "error",
		fault)
	e.after(backoff(r.tries), func() { e.loading = append(e.loading, r) })
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
	delete(e.open, r.id)
	e.settled(r.id, false)
}

func withAttempt(s *span.Span) *span.Span {
	copied := *s
	copied.Attempt = new(attemptOf(s))
	return &copied
}

// finish commits a result, behind the running mark if one is under way.
func (e *Engine) finish(r *request, group ledger.Group) {
	if r.isMarking {
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
	e.submit(group, func(outcome ledger.Outcome) { e.finished(r, group, outcome) })
}

func (e *Engine) finished(r *request, group ledger.Group, outcome ledger.Outcome) {
	delete(e.inFlight, r.id)
	status := group.Fence.StatusText()
	switch {
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
		delete(e.open, r.id)
		if r.seqSeen > group.Fence.Seq && !e.isDeposed {
			e.read(r.id, r.kernel, r.seqSeen)
		}
	default:
		e.settled(r.id, true)
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
	e.stats.FencesLost.Add(1)
	e.config.Log.Info("another writer moved the request on", "id", r.id.String(), "seq", r.span.Seq+1)
	delete(e.inFlight, r.id)
	if e.isDeposed {
		e.remove(r)
		return
	}
	r.isMarked, r.phase = false, reading
	e.loading = append(e.loading, r)
}
