package engine

import (
	"context"
	"maps"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A blocked request waits until it is due, as one with scheduled_at does: it costs no query. A manifest with
// other limits makes all of them due at once, and those that are still over one wait on. One that took force
// while nobody led is seen by whoever leads next, who asks those again that were blocked before it.

// freedMargin is how far behind the ledger a leader may have been that blocked a request by the manifest
// before: an hour later the rows of the new one have reached it.
const freedMargin = time.Hour

// freed says which blocked requests may run, though they are not due: those that a snapshot sees.
type freed struct {
	snapshot span.Snapshot
	before   time.Time // and that were blocked before it; zero is at any time
}

func (f *freed) has(row *span.Published) bool {
	return *row.Status == "blocked" && f.snapshot.Sees(row.Xact) &&
		(f.before.IsZero() || row.AcceptedAt.Before(f.before))
}

// noteLimits sees whether a manifest with other limits has taken force.
func (e *Engine) noteLimits() {
	manifest, before := e.config.Manifest(), e.manifest
	if manifest == before {
		return
	}
	e.manifest = manifest
	if manifest == nil || before == nil || manifest.Throttle == before.Throttle &&
		maps.Equal(manifest.RateLimits, before.RateLimits) {
		return
	}
	e.limits++
	for _, r := range e.due.takeIf(func(r *request) bool { return r.span.StatusText() == "blocked" }) {
		if !e.hasRoom(r.tenant) { // the ledger gives it again, as those that memory has not
			e.forget(r)
			continue
		}
		r.isFreed, r.phase = true, reading
		e.hold(r, r.tenant)
		e.loading.push(r)
	}
	e.free()
}

// free finds the tenants that have blocked requests in the ledger, and has a pass made through each one's.
func (e *Engine) free() {
	if e.isDeposed || e.lead.IsZero() {
		return // who comes to lead reads them all
	}
	leads, limits := e.leads, e.limits
	isOver := func() bool { return e.leads != leads || e.isDeposed || e.limits != limits }
	e.start(func(ctx context.Context) {
		snapshot, err := e.config.Ledger.Snapshot(ctx)
		e.do(func() {
			switch {
			case isOver():
			case err != nil:
				e.config.Log.Warn("blocked requests not read, trying again", "error", err)
				e.after(backoffMin, func() {
					if !isOver() {
						e.free()
					}
				})
			default:
				e.freed = freed{snapshot: snapshot}
				e.freeAfter(ledger.DuePlace{}, isOver)
			}
		})
	})
}

// freeAtLead does so where the last one who led may not have known the manifest. The caller's snapshot sees
// all that he has blocked.
func (e *Engine) freeAtLead(snapshot span.Snapshot) {
	e.freed = freed{snapshot: snapshot}
	if e.config.ManifestSince != nil {
		if since := e.config.ManifestSince(); !since.IsZero() {
			e.freed.before = since.Add(freedMargin)
		}
	}
	leads, limits := e.leads, e.limits
	e.freeAfter(ledger.DuePlace{}, func() bool { return e.leads != leads || e.isDeposed || e.limits != limits })
}

// freeAfter looks through the requests that are due later, one page after the other.
func (e *Engine) freeAfter(after ledger.DuePlace, isOver func() bool) {
	until := e.now().AddDate(100, 0, 0)
	e.start(func(ctx context.Context) {
		rows, _, err := e.config.Ledger.DueBefore(ctx, until, "", after, laterPage)
		e.do(func() {
			if isOver() {
				return
			}
			if err != nil {
				e.config.Log.Warn("blocked requests not read, trying again", "error", err)
				e.after(backoffMin, func() { e.freeAfter(after, isOver) })
				return
			}
			for _, row := range rows {
				if !e.freed.has(row) || e.askAgain(row) {
					continue
				}
				if t := e.tenantOf(row.TenantID); t.due == nil || !t.due.isFreed {
					e.mergeDue(t, duePass{ledger.DuePlace{At: *row.ScheduledAt}, true})
					e.want(t)
				}
			}
			if len(rows) == laterPage {
				e.freeAfter(ledger.DueOf(rows[len(rows)-1]), isOver)
			}
		})
	})
}

// foundFreed takes a blocked request that is not due, and may run because the limits have changed.
func (e *Engine) foundFreed(row *span.Published) {
	if kernel, ok := e.kernelOf(row.Span()); ok && !e.askAgain(row) {
		e.read(&request{id: row.ID, kernel: kernel, seqSeen: row.Seq, isFreed: true}, row.TenantID)
	}
}

// askAgain has one that is in memory run, and reports whether it is: the stream may just have named it, as a
// gap scan does, and would let it wait for its time.
func (e *Engine) askAgain(row *span.Published) bool {
	r := e.open[row.ID]
	if r == nil {
		return false
	}
	switch r.phase {
	case reading:
		r.isFreed = true
	case waiting:
		e.takeOut(r)
		r.isFreed, r.phase = true, reading
		e.read(r, row.TenantID)
	case queued, running, committing: // block sees to it
	}
	return true
}

// Look has the engine see what has changed without a row: a manifest that took force by the clock.
func (e *Engine) Look(ctx context.Context) {
	// An error says that the engine has stopped: then there is nothing to see.
	_ = e.tell(ctx, func() {})
}

// block puts a request away that has ended a run and is due later: blocked or retry. Where the limits have
// changed since that run began, it is due now. A wish to cancel that came while it ran, or while its end was
// committed, has taken no fence from it: it is read now.
func (e *Engine) block(r *request) {
	if r.isMarked = false; e.readWish(r) {
		return
	}
	r.isFreed = r.span.StatusText() == "blocked" && r.limits != e.limits
	e.place(r)
}

// isBlockedAsBefore reports whether a run of a blocked request says no more than that it still is: that is in
// the ledger already.
func isBlockedAsBefore(r *request, group ledger.Group) bool {
	return r.span.StatusText() == "blocked" && group.Fence.StatusText() == "blocked" &&
		sameTime(r.span.ScheduledAt, group.Fence.ScheduledAt)
}

func sameTime(a, b *span.Time) bool { return a != nil && b != nil && a.Equal(b.Time) }

// settled tells how the run of a request ended.
func (e *Engine) settled(request span.ID, isKept bool) {
	if e.config.Settled != nil {
		e.config.Settled(request, isKept)
	}
}
