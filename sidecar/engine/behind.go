package engine

import (
	"context"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A lane of policies that is slower than its spans come goes behind: it lets go of what the tail brings, so
// that the cursor moves on, and reads the ledger at its own pace. Nothing is passed over. It is written down
// (engine.lane, and each policy_cursor) up to which snapshot it has judged, so another sidecar goes on there.
//
//	live ── no room, or a span waits too long ──► leaving ── written down ──► catchingUp ◄── much came ──┐
//	  ▲                                                                           │ little is left       │
//	  └────── all that it let go is seen, and so judged ◄──────────────────── joining ───────────────────┘
//
// A pass goes up to the cursor that the tail has stored: all that its snapshot sees has gone by, versions of
// policies, too, so the same version judges a row here as there. What the lane has let go since then is left.
// So it holds on to what comes from now on (joining), and reads what it has let go by its transactions,
// until a snapshot sees them all: the tail may bring a row before any session sees it. Then it is live.
type behind struct {
	lane  *lane
	phase behindPhase
	since time.Time

	judged  span.Snapshot // all that it sees has been judged by the lane
	stored  string        // what is written down
	target  span.Snapshot // of the pass under way; zero: none is
	place   ledger.DeltaPlace
	window  uint64 // transactions that one read walks over
	pages   int    // of the pass
	reached uint64 // below it the pass under way has judged all
	isLast  bool   // nothing of the pass is left to read
	left    int    // items of the page that are not judged
	isBusy  bool   // it is being read, or waits for that
	tries   int
	keys    []span.Key // what is left of a large transaction

	dropped    map[uint64]bool // transactions of rows that were let go and that judged does not see
	droppedMax uint64          // where they are too many: they are below or equal to it
	held       []*item         // while it is leaving
	joining    []*item
}

type behindPhase int

const (
	leaving behindPhase = iota
	catchingUp
	joining
)

const (
	readersMax  = 2       // lanes that read the ledger at once
	pageMin     = 100     // rows that a lane reads at once: as many as it judges in pageWork
	pageMax     = 5000    // and at most
	pageWork    = 10      // seconds
	windowMax   = 1 << 20 // transactions that one read walks over
	windowMin   = 1 << 8
	keysMax     = 100_000                // keys of a large transaction that a lane holds
	keysAll     = 1_000_000              // and all lanes: 24 MB
	droppedMost = 10_000                 // transactions that are remembered one by one
	joinPause   = 100 * time.Millisecond // until a row that the tail has brought is looked for again
)

// drop lets a row go that the tail has brought.
func (b *behind) drop(xact uint64) {
	if len(b.dropped) >= droppedMost && !b.dropped[xact] {
		for known := range b.dropped {
			b.droppedMax = max(b.droppedMax, known)
		}
		clear(b.dropped)
		b.droppedMax = max(b.droppedMax, xact)
	}
	if b.droppedMax > 0 {
		b.droppedMax = max(b.droppedMax, xact)
		return
	}
	b.dropped[xact] = true
}

// see forgets what was let go and is seen by what is judged now.
func (b *behind) see(judged span.Snapshot) {
	for xact := range b.dropped {
		if judged.Sees(xact) {
			delete(b.dropped, xact)
		}
	}
	if b.droppedMax > 0 && b.droppedMax < judged.Max() {
		for _, xact := range judged.Unseen(b.droppedMax) {
			b.dropped[xact] = true // it may be one of them
		}
		b.droppedMax = 0
	}
}

// key is the lane's name in the ledger.
func (l *lane) place() ledger.Lane {
	if l.key.owner == systemLane {
		return ledger.Lane{Tenant: l.key.tenant}
	}
	return ledger.Lane{Tenant: l.key.tenant, Owner: l.key.owner}
}

// behind is the lanes that are behind, and up to where each has judged.
func (e *Engine) behind() map[ledger.Lane]span.Snapshot {
	lanes := map[ledger.Lane]span.Snapshot{}
	for _, p := range []*places{e.kinds.rows, e.kinds.systemRows} {
		for _, l := range p.lanes {
			if l.behind != nil {
				lanes[l.place()] = l.behind.upTo()
			}
		}
	}
	return lanes
}

// upTo is what the lane has judged, in the pass under way, too: whole transactions alone.
func (b *behind) upTo() span.Snapshot {
	if b.phase == joining || b.reached <= b.judged.Max() {
		return b.judged
	}
	return b.target.Before(b.reached)
}

// fallBehind lets a lane go behind that judges what the tail brings. What waits goes when that is written
// down.
func (e *Engine) fallBehind(l *lane) {
	b := &behind{lane: l, since: time.Now(), judged: e.judgedUpTo(), dropped: map[uint64]bool{},
		window: windowMax, held: l.waiting}
	l.behind, l.waiting = b, nil
	e.stats.LanesBehind.Add(1)
	e.config.Log.Warn("policies are slower than their spans come; they read the ledger at their own pace",
		"tenant", l.key.tenant, "owner", l.place().Owner, "waiting", len(b.held))
	e.storeLane(b, func() {
		b.phase = catchingUp
		held := b.held
		b.held = nil
		for _, it := range held {
			b.drop(it.row.Xact)
			it.dispose()
		}
		e.wantRead(b)
	})
}

// resume lets a lane go on that was behind under the sidecar before.
func (e *Engine) resume(key ledger.Lane, judged span.Snapshot) {
	owner := key.Owner
	if owner == "" {
		owner = systemLane
	}
	l := e.lane(laneKey{policyKernel, key.Tenant, owner})
	l.behind = &behind{lane: l, phase: catchingUp, since: time.Now(), judged: judged, window: windowMax,
		dropped: map[uint64]bool{}}
	e.stats.LanesBehind.Add(1)
	e.wantRead(l.behind)
}

// storeLane writes down up to where a lane has judged, and then does what follows, in the loop.
func (e *Engine) storeLane(b *behind, then func()) {
	all, leader, lane, upTo := e.behind(), e.judging.leader, b.lane.place(), b.upTo()
	b.stored = upTo.String()
	e.start(func(ctx context.Context) {
		err := e.config.Ledger.StoreLanes(ctx, leader, map[ledger.Lane]span.Snapshot{lane: upTo}, all)
		e.do(func() {
			switch {
			case !e.isBehind(b):
			case err != nil:
				e.config.Log.Warn("a lane that is behind is not written down, trying again", "error", err)
				e.after(backoffMin, func() {
					if e.isBehind(b) {
						e.storeLane(b, then)
					}
				})
			case then != nil:
				then()
			}
		})
	})
}

// isBehind reports whether b is still the state of its lane, and this sidecar works.
func (e *Engine) isBehind(b *behind) bool {
	return b.lane.behind == b && !e.isDeposed && !e.draining
}

// tendLanes lets those lanes go behind for which the cursor waits too long, and looks after the others.
func (e *Engine) tendLanes() {
	for _, p := range []*places{e.kinds.rows, e.kinds.systemRows} {
		for _, l := range slices.Clone(p.lanes) {
			switch {
			case l.behind != nil:
				e.tendBehind(l, l.behind)
			case len(l.waiting) > 0 && time.Since(l.waiting[0].came) > backlogAge:
				e.fallBehind(l)
			}
		}
	}
}

func (e *Engine) tendBehind(l *lane, b *behind) {
	if b.phase == leaving {
		return
	}
	if b.phase == joining && len(b.joining) > 0 && time.Since(b.joining[0].came) > backlogAge {
		e.stopJoining(l)
	}
	// What was under way when the lane fell behind, and did not end well, comes with a page.
	l.waiting = slices.DeleteFunc(l.waiting, func(it *item) bool {
		if !it.isRead {
			b.drop(it.row.Xact)
			it.dispose()
		}
		return !it.isRead
	})
	if b.upTo().String() != b.stored {
		e.storeLane(b, nil)
	}
	if b.left == 0 {
		e.wantRead(b)
	}
}

// wantRead has the next page of a lane read when its turn comes.
func (e *Engine) wantRead(b *behind) {
	if !e.isBehind(b) || b.isBusy || b.left > 0 || b.phase == leaving {
		return
	}
	b.isBusy = true
	e.judging.wanting = append(e.judging.wanting, b)
	e.readLanes()
}

func (e *Engine) readLanes() {
	for e.judging.readers < readersMax && len(e.judging.wanting) > 0 {
		b := e.judging.wanting[0]
		e.judging.wanting = e.judging.wanting[1:]
		if e.isBehind(b) {
			e.readDelta(b)
		}
	}
}

// readDelta reads what comes next of what a lane has still to judge.
func (e *Engine) readDelta(b *behind) {
	from, to, place, window := b.judged, b.target, b.place, b.window
	if to.IsZero() && b.phase == catchingUp {
		if to = e.judgedUpTo(); to.String() == from.String() {
			b.isBusy = false
			e.passJudged(b)
			return // until the tail has stored the next cursor
		}
	}
	limit := min(max(b.lane.fits*pageWork, pageMin), pageMax)
	e.judging.readers++
	if len(b.keys) > 0 {
		e.readKeys(b, min(limit, len(b.keys)))
		return
	}
	maxKeys := 0
	if b.phase == catchingUp {
		maxKeys = min(keysMax, keysAll-e.judging.keys)
	}
	e.start(func(ctx context.Context) {
		var err error
		if to.IsZero() {
			to, err = e.config.Ledger.Snapshot(ctx)
		}
		before := min(max(place.Xact, from.Min())+window, to.Max())
		var rows []*span.Published
		var keys []span.Key
		if err == nil {
			rows, err = e.config.Ledger.Delta(ctx, b.lane.key.tenant, from, to, place, before, limit)
		}
		if n := len(rows); err == nil && n == limit && rows[0].Xact == rows[n-1].Xact && maxKeys > 0 {
			keys, err = e.config.Ledger.KeysAfter(ctx, b.lane.key.tenant, rows[0].Xact, rows[n-1].Key(), maxKeys)
		}
		e.do(func() {
			e.judging.readers--
			b.isBusy = false
			defer e.readLanes()
			switch {
			case !e.isBehind(b):
			case err != nil:
				b.window = max(b.window/2, windowMin)
				b.tries++
				e.config.Log.Warn("what a lane has still to judge is not read, trying again", "error", err)
				e.after(backoff(b.tries), func() { e.wantRead(b) })
			case b.phase == catchingUp:
				b.tries = 0
				e.holdKeys(b, keys)
				e.judgePage(b, to, before, rows, len(rows) == limit)
			default:
				e.judgeDropped(b, to, rows, len(rows) < limit && before >= to.Max())
			}
		})
	})
}

// judgePage queues what a lane judges of a page.
func (e *Engine) judgePage(b *behind, to span.Snapshot, before uint64, rows []*span.Published, isFull bool) {
	b.target, b.place = to, ledger.DeltaPlace{Xact: before}
	if isFull {
		b.place = ledger.DeltaPlaceOf(rows[len(rows)-1])
	}
	b.isLast = !isFull && before >= to.Max()
	b.pages++
	e.judgeRows(b, rows, func() {
		b.reached = b.place.Xact
		if !b.isLast {
			e.wantRead(b)
			return
		}
		b.judged, b.target, b.place, b.reached = b.target, span.Snapshot{}, ledger.DeltaPlace{}, 0
		b.see(b.judged)
		isShort := b.pages == 1
		if b.pages = 0; isShort {
			e.passJudged(b)
		}
		e.wantRead(b)
	})
}

// judgeRows queues those rows that policies of the lane match, and then does what follows.
func (e *Engine) judgeRows(b *behind, rows []*span.Published, then func()) {
	l := b.lane
	b.left = 1
	judged := func() {
		if b.left--; b.left == 0 && e.isBehind(b) {
			then()
		}
	}
	for _, row := range rows {
		mine := slices.DeleteFunc(e.policies.match(row), func(p *policy) bool {
			return p.laneOwner() != l.key.owner
		})
		for _, one := range itemsOf(row, mine) {
			b.left++
			one.isRead, one.done = true, judged
			e.queue(l, one)
		}
	}
	judged()
}

// passJudged has a lane that has judged all up to the tail's cursor, or little less, join the stream.
func (e *Engine) passJudged(b *behind) {
	if b.phase != catchingUp || b.droppedMax > 0 {
		return
	}
	b.phase = joining
	e.join(b)
}

// judgeDropped judges what the lane has let go since the tail's cursor. isWhole says that rows are all that
// the snapshot sees of it.
func (e *Engine) judgeDropped(b *behind, to span.Snapshot, rows []*span.Published, isWhole bool) {
	if !isWhole {
		e.stopJoining(b.lane)
		return
	}
	rows = slices.DeleteFunc(rows, func(row *span.Published) bool { return !b.dropped[row.Xact] })
	e.judgeRows(b, rows, func() {
		if b.phase == joining {
			b.see(to)
			e.join(b)
		}
	})
}

// join lets a lane go live, when it has judged all that it has let go; else it reads on.
func (e *Engine) join(b *behind) {
	l := b.lane
	switch {
	case b.droppedMax > 0:
		e.stopJoining(l)
		return
	case len(b.dropped) > 0:
		pause := time.Duration(0)
		if b.tries++; b.tries > 1 {
			pause = min(time.Millisecond<<min(b.tries, 10), joinPause)
		}
		e.after(pause, func() { e.wantRead(b) })
		return
	}
	l.behind = nil
	for _, it := range b.joining {
		e.queue(l, it)
	}
	e.stats.LanesBehind.Add(-1)
	e.config.Log.Info("policies have caught up", "tenant", l.key.tenant, "owner", l.place().Owner,
		"after_ms", time.Since(b.since).Milliseconds())
	leader, lane := e.judging.leader, l.place()
	e.start(func(ctx context.Context) {
		if err := e.config.Ledger.DropLane(ctx, leader, lane); err != nil { // it is read once more, without effect
			e.config.Log.Warn("a lane that has caught up is still written down as behind", "error", err)
		}
	})
	e.dropIdle(l)
}

// stopJoining lets the stream go once more.
func (e *Engine) stopJoining(l *lane) {
	b := l.behind
	b.phase, b.tries = catchingUp, 0
	waiting := b.joining
	b.joining = nil
	for _, it := range waiting {
		b.drop(it.row.Xact)
		it.dispose()
	}
}

// forgetBehind forgets what lanes were behind with: another sidecar reads it.
func (e *Engine) forgetBehind() {
	for _, l := range e.lanes {
		b := l.behind
		if b == nil {
			continue
		}
		l.behind = nil
		e.stats.LanesBehind.Add(-1)
		for _, it := range slices.Concat(b.held, b.joining) {
			it.dispose()
		}
		e.holdKeys(b, nil)
		e.dropIdle(l)
	}
	e.judging.wanting = nil
}
