package engine

import (
	"context"
	"errors"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A request that a kernel has made need not stand in the ledger before it runs. Where it can run at once, it
// does so unborn, and is committed together with its result: version 0 is the fence of version 1, the
// execution and the rest. Whatever another sidecar has put there before, this group vanishes as a whole.
//
//	made ─┬─ runs unborn ──► result ──► versions 0 and 1 and the execution, in one commit
//	      │       └── after bearAfter, a read, or a fault ──► version 0 is committed by itself (bear)
//	      └─ otherwise ──────────────► version 0 is committed, and then it runs
//
// Until one of the two commits its cause is not disposed of: who is killed before leaves nothing, and the row
// comes again. Under load requests are committed together, before they run: that is cheaper.
const (
	bearAfter = 10 * time.Millisecond // most runs last 2 ms
	unbornMax = 8                     // at once, and as many again may be in flight
	birthAge  = time.Second           // of a row that may come for the first time; older ones may come again

	begottenMax = 2000
)

// birth is what is known of a request that may not stand in the ledger yet.
type birth struct {
	lane      *lane
	items     []*item // its cause, each time that it came: disposed of when the request is born
	isBearing bool    // version 0 is being committed by itself
	waiting   []chan struct{}
}

// isAwaited reports whether the request that a kernel has made for an item runs unborn already: the row has
// come twice.
func (e *Engine) isAwaited(it *item, group ledger.Group) bool {
	if len(group.Rows) != 1 || e.unborn[group.Rows[0].ID] == nil {
		return false
	}
	b := e.unborn[group.Rows[0].ID].birth
	b.items = append(b.items, it)
	return true
}

// beget returns the request that a kernel has made for an item, where it can run unborn, else nil.
func (e *Engine) beget(l *lane, it *item, group ledger.Group) *request {
	if l.places != nil || it.tick != nil || group.Fence != nil || len(group.Rows) != 1 || len(group.Parts) > 0 ||
		group.Again || e.draining || e.isDeposed || len(e.unborn) >= unbornMax || !e.mayBeget(it.row.TenantID) ||
		e.now().Sub(it.row.AcceptedAt.Time) > birthAge {
		return nil
	}
	row, manifest := group.Rows[0], e.config.Manifest()
	if row.EntityType != "request" || row.Seq > 0 || row.StatusText() != "scheduled" || row.ParentID == nil ||
		row.ScheduledAt != nil || row.CurrHash == nil || manifest == nil || manifest.HasNetwork(*row.ParentID) ||
		e.open[row.ID] != nil || !e.hasRoom(row.TenantID) || e.begotten.has(row.ID) {
		return nil
	}
	kernel, found := e.kernelOf(row)
	if !found {
		return nil
	}
	unborn := *row
	unborn.AcceptedAt = &it.row.AcceptedAt // as far as anybody knows
	r := &request{id: row.ID, kernel: kernel, span: &unborn, birth: &birth{lane: l, items: []*item{it}}}
	e.hold(r, row.TenantID)
	e.unborn[r.id] = r
	e.begotten.add(r.id)
	return r
}

// mayBeget reports whether a request of a tenant may run at once: when there is little to do, or when the
// tenant had no run of late, so that it waits for nobody's.
func (e *Engine) mayBeget(tenant string) bool {
	if e.paces.isRare(tenant, time.Now()) && e.ready.tenants[tenant] == nil {
		return len(e.inFlight) < e.config.InFlightMax
	}
	return e.ready.empty() && len(e.inFlight) < 2*unbornMax
}

// begotten are the last requests that were run unborn: a row that comes twice runs none of them again.
type begotten struct{ last, before map[span.ID]bool }

func (b *begotten) has(id span.ID) bool { return b.last[id] || b.before[id] }

func (b *begotten) add(id span.ID) {
	if b.last == nil || len(b.last) >= begottenMax {
		b.before, b.last = b.last, map[span.ID]bool{}
	}
	b.last[id] = true
}

// bootUnborn starts requests that have just been made.
func (e *Engine) bootUnborn(made []*request) {
	if len(made) == 0 {
		return
	}
	failpoint.Hit(failpoint.BirthBegun)
	e.bootRequests(made)
	e.armBirths()
}

// armBirths sees to it that no request stays unborn for long.
func (e *Engine) armBirths() {
	if e.birthsArmed {
		return
	}
	e.birthsArmed = true
	e.after(bearAfter, func() {
		e.birthsArmed = false
		now, rest := time.Now(), false
		for _, r := range e.unborn {
			switch {
			case r.phase != running || r.birth.isBearing:
			case now.Sub(r.startedAt) >= bearAfter:
				e.bear(r)
			default:
				rest = true
			}
		}
		if rest {
			e.armBirths()
		}
	})
}

// withBirth is the group that ends r, and before that makes it, where it does not stand yet.
func (r *request) withBirth(group ledger.Group) ledger.Group {
	if r.birth == nil {
		return group
	}
	return ledger.Group{Fence: r.firstVersion(), Rows: append([]*span.Span{group.Fence}, group.Rows...)}
}

// firstVersion is a copy that the commit may complete.
func (r *request) firstVersion() *span.Span {
	first := *r.span
	first.AcceptedAt = nil
	return &first
}

// bear commits an unborn request by itself.
func (e *Engine) bear(r *request) {
	if r.birth == nil || r.birth.isBearing {
		return
	}
	r.birth.isBearing = true
	first := r.firstVersion()
	e.submit(ledger.Group{Rows: []*span.Span{first}}, func(outcome ledger.Outcome) { e.born(r, first, outcome) })
}

func (e *Engine) born(r *request, first *span.Span, outcome ledger.Outcome) {
	isRunning := r.phase == running
	switch {
	case r.isDisowned:
	case errors.Is(outcome.Err, errTermOver):
		e.disown(r)
	case outcome.Err != nil:
		if isRunning {
			r.cancel()
		}
		r.runs++ // what it gives counts no more
		e.abandon(r, outcome.Err)
	case len(outcome.Existing) > 0: // another sidecar's, or the row came twice
		e.delivered(r)
		if isRunning {
			r.cancel()
			r.runs, r.held = r.runs+1, nil
			e.lost(r)
		}
	default:
		e.delivered(r)
		next := *r.span
		next.AcceptedAt = first.AcceptedAt
		r.span = &next
		if r.held != nil {
			e.finish(r, *r.held)
		}
	}
}

// delivered notes that a request stands in the ledger, and disposes of its cause.
func (e *Engine) delivered(r *request) {
	if b := e.unknown(r); b != nil {
		failpoint.Hit(failpoint.BirthCommitted)
		for _, it := range b.items {
			it.dispose()
		}
	}
}

// unknown ends the time in which r was unborn.
func (e *Engine) unknown(r *request) *birth {
	b := r.birth
	if b == nil {
		return nil
	}
	r.birth = nil
	delete(e.unborn, r.id)
	for _, waiting := range b.waiting {
		close(waiting)
	}
	return b
}

// stillborn ends the cause of a request that the ledger refuses.
func (e *Engine) stillborn(r *request, fault error) {
	if b := e.unknown(r); b != nil {
		for _, it := range b.items {
			e.laneFailed(b.lane, it, &span.RunError{Code: span.RunDenied, Message: fault.Error()})
		}
	}
}

// awaitBirth waits until a request stands in the ledger: what its run reads may be the request itself.
func (e *Engine) awaitBirth(ctx context.Context, of started) error {
	done := make(chan struct{})
	e.do(func() {
		if of.r == nil || of.r.birth == nil || of.r.runs != of.run {
			close(done)
			return
		}
		of.r.birth.waiting = append(of.r.birth.waiting, done)
		e.bear(of.r)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
