package engine

import (
	"context"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Requests that are due later (scheduled_at, retry, blocked) wait in the agenda where they are due within the
// horizon and there is room for them; the others are read again by their time. What was passed over and could
// not be seen yet when its time was read is read once more, as in a pass through a tenant's (spill.go).
const (
	laterMax     = 20_000 // requests in the agenda
	laterPage    = 1000
	laterBody    = 1 << 10 // bytes of a body that is kept in the agenda: it costs no read when it is due
	laterHorizon = 5 * time.Minute
)

// later is what is known of the requests that are due later.
type later struct {
	target    time.Time // what is due until then is in the agenda, or missed
	until     time.Time // of the pass that is under way
	after     ledger.DuePlace
	isBegun   bool // a pass is under way
	isReading bool
	isPaused  bool
	isArmed   bool
	hidden    int // passes in a row that found nothing but what cannot be seen yet
	covers    unseen
	missed    unseen
	missedAt  time.Time // the first time of what was passed over
	coversAt  time.Time
}

// pass leaves a request that is due later to the pass that comes to its time.
func (l *later) pass(at time.Time, xact uint64) {
	if l.missed.n == 0 || at.Before(l.missedAt) {
		l.missedAt = at
	}
	l.missed.add(xact)
}

// waitLater has a request wait for its time, in the agenda or in the ledger. It was read, so who reads the
// ledger next sees it.
func (e *Engine) waitLater(r *request, at time.Time) {
	if at.After(e.later.target) {
		e.dropLater(r, at)
		e.extend()
		return
	}
	if r.phase = waiting; !r.isSlim && bodyBytes(r.span) > laterBody {
		r.span, r.isSlim = slim(r.span), true // it is read again in its turn
	}
	e.uncount(r)
	e.due.add(at, r)
	if e.due.len() > laterMax {
		e.later.stop()
		for _, far := range e.due.cut(laterMax / 2) {
			at := far.span.ScheduledAt.Time
			e.later.target = earlier(e.later.target, at)
			e.dropLater(far, at)
		}
	}
}

func (e *Engine) dropLater(r *request, at time.Time) {
	e.forget(r)
	e.settled(r.id, false)
	e.later.pass(at, 0)
}

// stop ends a pass where it is.
func (l *later) stop() {
	if l.isBegun {
		l.isBegun, l.target = false, earlier(l.target, l.after.At.Time)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// extend reads what comes to be due within the horizon, page by page while there is room.
func (e *Engine) extend() {
	l := &e.later
	if l.isReading || l.isPaused || e.isDeposed || e.draining || e.lead.IsZero() {
		return
	}
	if e.due.len() > laterMax/2 {
		l.stop()
	}
	if !l.isBegun && e.due.len() > laterMax/4 { // wake asks again
		return
	}
	if !l.isBegun {
		until := e.now().Add(laterHorizon)
		isMissed := l.missed.n > 0 && l.missedAt.Before(l.target)
		if !isMissed && until.Sub(l.target) < laterHorizon/2 {
			e.armExtend()
			return
		}
		from := l.target
		if isMissed {
			from = earlier(from, l.missedAt)
		}
		if l.after = (ledger.DuePlace{}); !from.IsZero() {
			l.after.At = span.NewTime(from)
		}
		l.isBegun, l.until = true, until
		l.covers, l.coversAt, l.missed = l.missed, l.missedAt, unseen{}
		l.target = until // from now on what comes with such a time is taken, or missed
	}
	l.isReading = true
	after, until, leads := l.after, l.until, e.leads
	e.start(func(ctx context.Context) {
		rows, snapshot, err := e.config.Ledger.DueBefore(ctx, until, "", after, laterPage)
		e.do(func() {
			if e.leads == leads && !e.isDeposed {
				l.isReading = false
				e.laterRead(rows, snapshot, err)
			}
		})
	})
}

// laterRead takes a page of the requests that are due within the horizon.
func (e *Engine) laterRead(rows []*span.Published, snapshot span.Snapshot, err error) {
	l := &e.later
	if err != nil {
		e.config.Log.Warn("requests that are due later not read, trying again", "error", err)
		e.pauseLater(backoffMin)
		return
	}
	hidden := l.covers.hiddenFrom(snapshot)
	l.covers = unseen{}
	if hidden.n > 0 {
		if l.missed.n == 0 || l.coversAt.Before(l.missedAt) {
			l.missedAt = l.coversAt
		}
		l.missed.join(hidden)
	}
	for _, row := range rows {
		l.after = ledger.DueOf(row)
		switch {
		case e.open[row.ID] != nil:
		case row.ScheduledAt.After(e.now()), e.hasRoom(row.TenantID):
			e.found(row)
		default:
			e.passDue(row.TenantID, row.ScheduledAt.Time)
		}
	}
	switch {
	case len(rows) == laterPage:
	case hidden.n > 0:
		l.isBegun = false
		if l.missed.n > hidden.n {
			l.hidden = 0
		}
		e.pauseLater(hiddenPause(l.hidden))
		l.hidden++
		return
	default:
		l.isBegun, l.hidden = false, 0
	}
	e.extend()
}

func (e *Engine) pauseLater(d time.Duration) {
	l, leads := &e.later, e.leads
	l.isPaused = true
	e.after(d, func() {
		if e.leads == leads {
			l.isPaused = false
			e.extend()
		}
	})
}

// armExtend looks again before the horizon is near.
func (e *Engine) armExtend() {
	if e.later.isArmed {
		return
	}
	e.later.isArmed = true
	e.after(laterHorizon/4, func() {
		e.later.isArmed = false
		e.extend()
	})
}

// passDue leaves a request that is due to a pass through those of its tenant: it has as many as it may have.
func (e *Engine) passDue(name string, at time.Time) {
	e.stats.PassedOver.Add(1)
	t := e.tenantOf(name)
	place := ledger.DuePlace{At: span.NewTime(at)}
	if t.due == nil {
		t.due = &duePass{after: place}
	} else if at.Before(t.due.after.At.Time) {
		t.due.after = place
	}
	e.want(t)
}

// readDue reads the next page of a tenant's delayed requests that are due.
func (e *Engine) readDue(t *tenant, room int) {
	pass, until := *t.due, e.now()
	if pass.isFreed {
		until = until.AddDate(100, 0, 0)
	}
	t.due = nil // what is passed over meanwhile makes it anew
	e.readPage(t, func(ctx context.Context) (func(), error) {
		rows, _, err := e.config.Ledger.DueBefore(ctx, until, t.name, pass.after, room)
		if err != nil {
			e.do(func() { e.mergeDue(t, pass) })
			return nil, err
		}
		return func() { e.dueRead(t, pass, rows, len(rows) < room) }, nil
	})
}

func (e *Engine) mergeDue(t *tenant, pass duePass) {
	if t.due == nil {
		t.due = &pass
		return
	}
	t.due.isFreed = t.due.isFreed || pass.isFreed
	if pass.after.At.Before(t.due.after.At.Time) {
		t.due.after = pass.after
	}
}

func (e *Engine) dueRead(t *tenant, pass duePass, rows []*span.Published, isLast bool) {
	for _, row := range rows {
		pass.after = ledger.DueOf(row)
		switch {
		case !row.ScheduledAt.After(e.now()):
			e.found(row)
		case pass.isFreed && e.freed.has(row):
			e.foundFreed(row)
		}
	}
	if !isLast {
		e.mergeDue(t, pass)
	}
}
