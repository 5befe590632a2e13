package engine

import (
	"context"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
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
			if !e.hasRoom(row.TenantID) {
				e.passOwn(row)
				return
			}
			r := &request{id: row.ID, kernel: trigger.Kernel, span: row}
			if !wasThere {
				e.place(r)
				return
			}
			e.hold(r, row.TenantID)
			e.loading.push(r)
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
	at := row.ScheduledAt
	switch isDelayed := at != nil && at.After(row.AcceptedAt.Time); {
	case isDelayed && at.After(e.later.target) && at.After(e.now()):
		e.later.pass(at.Time, row.Xact)
		e.extend()
	case isDelayed || e.hasRoom(row.TenantID):
		e.read(&request{id: row.ID, kernel: kernel, seqSeen: row.Seq}, row.TenantID)
	default:
		e.spill(row.TenantID, row.Xact)
	}
}

// passOwn leaves a request that this sidecar has just committed to the ledger. Where its row is still to
// come, that names the transaction.
func (e *Engine) passOwn(row *span.Span) {
	switch at := row.ScheduledAt; {
	case at != nil && at.After(row.AcceptedAt.Time):
		e.later.pass(at.Time, 0)
		e.extend()
	case e.own[row.Key()]:
		delete(e.own, row.Key())
	default:
		e.spill(row.TenantID, 0)
	}
}

// read opens a request whose body is still to be read.
func (e *Engine) read(r *request, tenant string) {
	e.hold(r, tenant)
	e.loading.push(r)
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
	case status == "cancel_requested" && r == nil && e.tenantOf(row.TenantID).known > 2*openTenantMax:
		e.spill(row.TenantID, row.Xact)
	case status == "cancel_requested" && r == nil: // at once, room or not
		e.read(&request{id: row.ID, seqSeen: row.Seq}, row.TenantID)
	case status == "cancel_requested" && r.phase == running:
		r.isCancelled, r.wishedSeq = true, row.Seq
		r.cancel() // its result would lose the fence anyway
	case status == "cancel_requested" && (r.phase == queued || r.phase == waiting):
		e.takeOut(r)
		e.hold(r, row.TenantID)
		r.phase, r.seqSeen = reading, row.Seq
		e.loading.push(r)
	case status == "cancel_requested": // its body, or its mark, is on the way
		r.wishedSeq = row.Seq
	}
}

// readWish reads a request whose owner wants it to end, in the place of running it.
func (e *Engine) readWish(r *request) bool {
	if r.wishedSeq <= r.span.Seq {
		return false
	}
	r.phase, r.seqSeen = reading, r.wishedSeq
	e.loading.push(r)
	return true
}

// load reads the bodies of requests that others committed, many at once.
func (e *Engine) load() {
	if e.isLoading || e.loading.n == 0 || e.draining || e.isDeposed {
		return
	}
	batch := e.loading.take(loadBatchMax)
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
		e.after(backoffMin, func() { e.loading.push(batch...) })
		return
	}
	for _, r := range batch {
		if r.isDisowned {
			continue
		}
		row := found[r.id]
		if row == nil || row.Seq < max(r.seqSeen, r.wishedSeq) { // committed, and not visible yet
			e.after(time.Millisecond, func() { e.loading.push(r) })
			continue
		}
		// Who deletes while he cancels ends the run, too: it is cancelled, with what that leaves.
		if span.IsTerminal(row.StatusText()) || row.IsDeleted && row.StatusText() != "cancel_requested" {
			e.forget(r) // finished meanwhile: a late row of the stream
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
	e.hold(r, r.span.TenantID)
	switch r.span.StatusText() {
	case "cancel_requested":
		e.endCancelled(r)
		return
	case "running":
		if r.isMarked && r.span.Seq == r.markSeq {
			e.enqueue(r) // our own mark: this is one more try of the same attempt
			return
		}
		e.takeOver(r)
		return
	}
	if at := r.span.ScheduledAt; at != nil && at.After(e.now()) && !r.isFreed {
		e.waitLater(r, at.Time)
		return
	}
	e.enqueue(r)
}

// wake reads the requests that have come due.
func (e *Engine) wake() {
	for _, r := range e.due.take(e.now()) {
		switch {
		case r.phase != waiting:
		case e.hasRoom(r.tenant): // nobody need ask whether it stands as it stood: the fence will tell
			e.hold(r, r.tenant)
			e.enqueue(r)
		default:
			e.forget(r)
			e.passDue(r.tenant, r.span.ScheduledAt.Time)
		}
	}
	e.extend()
}

// remove forgets a request, wherever it waits.
func (e *Engine) remove(r *request) {
	e.takeOut(r)
	e.settled(r.id, false)
}

func (e *Engine) takeOut(r *request) {
	e.forget(r)
	e.queueOf(r).remove(r)
	e.due.remove(r)
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
