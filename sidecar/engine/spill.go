package engine

import (
	"context"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// However many requests stand open, memory holds a bounded number: of each tenant its share, which run or
// may run next. Of a tenant that has more, new requests are passed over (it is spilled), and when half of its
// share is free, passes through the ledger give the next, in the order of their transactions.
//
//	a row ──► room in the share? ── yes ──► loading, queue
//	                             └─ no ───► missed ─► pass: from the first that was missed on, a page each time
//	                                          ▲        half of the share is free ─► … the end: none missed?
//	                                          └── what the pass's first page did not see yet ◄──┘   not spilled
//
// Nothing falls between a pass and the stream. A pass begins at the first transaction that was passed over,
// so it gives all that its first page can see. What was passed over before it and cannot be seen yet (a
// commit is in the WAL before its rows are visible), and what is passed over later, is for the next pass. The
// snapshot of the page decides, not a time.
const (
	openMax       = 20_000                 // requests in memory that may run, of all tenants
	openTenantMax = 1000                   // and of one
	openTenantMin = 4                      // which any tenant may have, however many there are
	refillsMax    = 3                      // pages that are read at once
	refillPause   = 2 * time.Millisecond   // before what could not be seen is read once more, and longer
	refillPauses  = 100 * time.Millisecond // each time, up to this
	tenantsPage   = 1000                   // of the tenants with open requests, at a take-over
	ownMax        = 50_000
	marksEvery    = 10 * time.Second
)

// tenant is what is known of the open requests of one tenant. One that has none, and is not spilled, is
// forgotten.
type tenant struct {
	name      string
	known     int  // requests in memory, but for those that wait for their time
	isSpilled bool // the ledger may have open ones that memory has not
	isBegun   bool // a pass is under way
	isNear    bool // it is one for few
	isReading bool // a page is
	isWanting bool // it waits for its turn to read one
	isPaused  bool
	hidden    int              // passes in a row that found nothing but what cannot be seen yet
	after     ledger.OpenPlace // up to where the pass has come
	covers    unseen           // what was passed over before the pass, until its first page is there
	missed    unseen           // what was passed over since
	due       *duePass
	isDueNext bool // of the two passes that one has its turn
}

// duePass is a pass through a tenant's delayed requests that were passed over when they were due.
type duePass struct {
	after   ledger.DuePlace
	isFreed bool // through the blocked ones that are to come, too: the limits have changed
}

// memory is what the loop knows of the requests that it holds, and of those that it does not.
type memory struct {
	known   int // of open: without those that wait for their time
	tenants map[string]*tenant
	wanting []*tenant // that want a page of their open requests
	refills int       // pages that are being read
	later   later
	leads   int           // how often leading began or ended
	lead    span.Snapshot // when it began: what it sees, another sidecar may have run
	leadAt  time.Time     // of the database's clock
	freed   freed
	told    int64 // requests that had ended when the ledger was told last
}

// newMemory knows nothing. Until somebody leads, all that is due later is kept.
func newMemory() memory {
	return memory{tenants: map[string]*tenant{}, later: later{target: time.Now().AddDate(100, 0, 0)}}
}

// restart begins to read all that stands open: this sidecar leads from now on. The caller has let go of what
// waits in memory.
func (e *Engine) restart(snapshot span.Snapshot) {
	e.leads++
	e.lead, e.leadAt, e.wanting = snapshot, e.now(), nil
	e.later = later{isArmed: e.later.isArmed}
	for name, t := range e.tenants {
		if e.tenants[name] = (&tenant{name: name, known: t.known}); t.known == 0 {
			delete(e.tenants, name)
		}
	}
	e.listTenants("")
	e.extend()
	e.freeAtLead(snapshot)
}

// listTenants has every tenant with open requests read, page after page.
func (e *Engine) listTenants(after string) {
	leads := e.leads
	e.start(func(ctx context.Context) {
		names, err := e.config.Ledger.TenantsWithOpenRequests(ctx, after, tenantsPage)
		e.do(func() {
			switch {
			case e.leads != leads || e.isDeposed:
			case err != nil:
				e.config.Log.Warn("tenants with open requests not read, trying again", "error", err)
				e.after(backoffMin, func() {
					if e.leads == leads {
						e.listTenants(after)
					}
				})
			default:
				for _, name := range names {
					t := e.tenantOf(name)
					t.isSpilled = true
					t.missed.add(0)
					e.want(t)
				}
				if len(names) == tenantsPage {
					e.listTenants(names[len(names)-1])
				}
			}
		})
	})
}

// keepMarks tells the ledger from time to time that requests have ended: nobody walks over them again.
func (e *Engine) keepMarks() {
	e.after(marksEvery, func() {
		if ended := e.stats.Executed.Load(); ended != e.told && !e.isDeposed && !e.lead.IsZero() && !e.draining {
			e.told = ended
			e.start(func(ctx context.Context) {
				if err := e.config.Ledger.AdvanceMarks(ctx); err != nil && ctx.Err() == nil {
					e.config.Log.Warn("what has ended is walked over once more", "error", err)
				}
			})
		}
		e.keepMarks()
	})
}

// hold keeps an open request of a tenant in memory.
func (e *Engine) hold(r *request, name string) {
	r.tenant = name
	e.open[r.id] = r
	if !r.isCounted {
		r.isCounted = true
		e.known++
		e.tenantOf(name).known++
	}
}

// forget lets go of it.
func (e *Engine) forget(r *request) {
	if e.open[r.id] == r {
		delete(e.open, r.id)
	}
	e.uncount(r)
}

// uncount takes a request out of its tenant's share.
func (e *Engine) uncount(r *request) {
	if !r.isCounted {
		return
	}
	r.isCounted = false
	e.known--
	if t := e.tenants[r.tenant]; t != nil {
		t.known--
		e.want(t)
	}
}

func (e *Engine) tenantOf(name string) *tenant {
	t := e.tenants[name]
	if t == nil {
		t = &tenant{name: name}
		e.tenants[name] = t
	}
	return t
}

// share is how many requests one tenant may have in memory now.
func (e *Engine) share() int {
	return min(openTenantMax, max(openTenantMin, openMax/max(len(e.tenants), 1)))
}

// room is how many more t may have.
func (e *Engine) room(t *tenant) int {
	return max(0, min(e.share()-t.known, max(openMax-e.known, openTenantMin-t.known)))
}

// hasRoom reports whether a new request of a tenant is taken as it comes, and not behind others that memory
// has not.
func (e *Engine) hasRoom(name string) bool {
	t := e.tenantOf(name)
	if !t.isSpilled {
		return e.room(t) > 0
	}
	return t.isNear && 2*t.known < e.share() && e.room(t) > 0
}

// spill leaves a request to the next pass. xact wrote it; 0 is unknown.
func (e *Engine) spill(name string, xact uint64) {
	e.stats.PassedOver.Add(1)
	t := e.tenantOf(name)
	t.isSpilled = true
	t.missed.add(xact)
	e.want(t)
}

// want lines t up for the next page where it needs one, and forgets a tenant of which nothing is known.
func (e *Engine) want(t *tenant) {
	switch {
	case !t.isSpilled && t.due == nil:
		if t.known == 0 && !t.isReading && !t.isWanting {
			delete(e.tenants, t.name)
		}
	case t.isWanting, t.isReading, t.isPaused, e.isDeposed, 2*t.known > e.share(), e.room(t) == 0:
	default:
		t.isWanting = true
		e.wanting = append(e.wanting, t)
	}
}

// refill starts to read pages, for one tenant after the other.
func (e *Engine) refill() {
	for !e.draining && !e.isDeposed && e.refills < refillsMax && len(e.wanting) > 0 {
		t := e.wanting[0]
		e.wanting = e.wanting[1:]
		t.isWanting = false
		switch room := e.room(t); {
		case room == 0: // it is lined up again when it has some
		case t.due != nil && (!t.isSpilled || t.isDueNext):
			t.isDueNext = false
			e.readDue(t, room)
		case t.isSpilled:
			t.isDueNext = true
			e.readOpen(t, room)
		}
	}
}

// readOpen reads the next page of a pass.
func (e *Engine) readOpen(t *tenant, room int) {
	if !t.isBegun {
		t.isBegun, t.after = true, ledger.OpenPlace{Xact: t.missed.from()}
		t.isNear = t.isNearBy(room)
		t.covers, t.missed = t.missed, unseen{}
	}
	after := t.after
	e.readPage(t, func(ctx context.Context) (func(), error) {
		rows, snapshot, err := e.config.Ledger.OpenRequestsOf(ctx, t.name, after, room)
		return func() { e.openRead(t, rows, snapshot, len(rows) < room) }, err
	})
}

// isNearBy reports whether the next pass is for n requests at most.
func (t *tenant) isNearBy(n int) bool { return t.missed.n <= n && t.missed.from() > 0 }

// readPage reads a page for t and has the loop take it, where nobody else has come to lead meanwhile.
func (e *Engine) readPage(t *tenant, read func(context.Context) (take func(), err error)) {
	t.isReading = true
	e.refills++
	e.stats.Refills.Add(1)
	leads := e.leads
	e.start(func(ctx context.Context) {
		take, err := read(ctx)
		e.do(func() {
			e.refills--
			if e.leads != leads || e.isDeposed {
				return
			}
			t.isReading = false
			if err != nil {
				e.config.Log.Warn("open requests not read, trying again", "tenant", t.name, "error", err)
				e.pause(t, backoffMin)
				return
			}
			take()
			e.want(t)
		})
	})
}

// hiddenPause grows with the passes in a row that were for what cannot be seen: a transaction may stay open
// for hours.
func hiddenPause(passes int) time.Duration { return min(refillPause<<min(passes, 10), refillPauses) }

func (e *Engine) pause(t *tenant, d time.Duration) {
	t.isPaused = true
	e.after(d, func() {
		t.isPaused = false
		if e.tenants[t.name] == t {
			e.want(t)
		}
	})
}

// openRead takes a page of a pass, and ends the pass with the last one.
func (e *Engine) openRead(t *tenant, rows []*span.Published, snapshot span.Snapshot, isLast bool) {
	hidden := t.covers.hiddenFrom(snapshot)
	t.covers = unseen{}
	t.missed.join(hidden)
	for _, row := range rows {
		t.after = ledger.PlaceOf(row)
		e.found(row)
	}
	if !isLast {
		return
	}
	t.isBegun, t.isSpilled = false, t.missed.n > 0
	t.isNear = t.isSpilled && t.isNearBy(e.share()/2)
	if hidden.n == 0 || t.missed.n > hidden.n {
		t.hidden = 0
	}
	if hidden.n > 0 { // mostly it is visible soon
		e.pause(t, hiddenPause(t.hidden))
		t.hidden++
	}
}

// found takes a request that stands open in the ledger. Its body is read in its turn.
func (e *Engine) found(row *span.Published) {
	if e.open[row.ID] != nil {
		return
	}
	s := row.Span()
	kernel, ok := e.kernelOf(s)
	status := s.StatusText()
	if !ok && status != "cancel_requested" {
		return
	}
	r := &request{id: row.ID, kernel: kernel, span: s, isSlim: true, seqSeen: row.Seq}
	isFromBefore := e.lead.Sees(row.Xact) && (row.ScheduledAt == nil || !row.ScheduledAt.After(e.leadAt))
	switch {
	case status == "cancel_requested", status == "running" && !isFromBefore:
		r.span, r.isSlim = nil, false
		e.read(r, row.TenantID)
	case status == "blocked", status == "retry", // nobody was running it
		row.ScheduledAt != nil && row.ScheduledAt.After(e.now()):
		e.place(r)
	default:
		e.hold(r, row.TenantID)
		r.isOrphan = isFromBefore
		e.enqueue(r)
	}
}

// unseen says which transactions wrote what was passed over: exactly those, while they are few.
type unseen struct {
	n      int // 0: none
	lo, hi uint64
	few    []uint64 // nil where they are too many
}

// unseenMax is how many transactions are known one by one.
const unseenMax = 256

func (u *unseen) add(xact uint64) {
	switch {
	case u.n == 0:
		*u = unseen{n: 1, lo: xact, hi: xact, few: []uint64{xact}}
		return
	case u.few != nil && !slices.Contains(u.few, xact):
		if u.few = append(u.few, xact); len(u.few) > unseenMax {
			u.few = nil
		}
	}
	u.n++
	u.lo, u.hi = min(u.lo, xact), max(u.hi, xact)
}

func (u *unseen) join(other unseen) {
	switch {
	case other.n == 0:
	case other.few == nil:
		if u.n == 0 {
			u.lo, u.hi = other.lo, other.hi
		}
		u.n, u.few = u.n+other.n, nil
		u.lo, u.hi = min(u.lo, other.lo), max(u.hi, other.hi)
	default:
		for _, xact := range other.few {
			u.add(xact)
		}
	}
}

// from is the first of them.
func (u *unseen) from() uint64 {
	if u.n == 0 {
		return 0
	}
	return u.lo
}

// hiddenFrom returns those that s does not see: where they are known by their bounds alone, whichever between
// is under way. What was written by an unknown transaction (0) was visible.
func (u *unseen) hiddenFrom(s span.Snapshot) unseen {
	var hidden unseen
	if u.few == nil && u.n > 0 {
		if u.hi >= s.Max() { // some are to come, and nobody knows which
			return *u
		}
		for _, xact := range s.Unseen(u.hi) {
			if xact >= u.lo {
				hidden.add(xact)
			}
		}
		return hidden
	}
	for _, xact := range u.few {
		if !s.Sees(xact) {
			hidden.add(xact)
		}
	}
	return hidden
}
