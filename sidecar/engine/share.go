package engine

import (
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of what policies may have under way and waiting.
const (
	policyRunsMax = 16              // runs of one kind of policies' work at once
	matchesMax    = 20              // policies that one run shows a span to
	runTarget     = time.Second     // what a run of policies should take: the next lane's turn comes then
	runFirst      = 8               // matches in the first run of a lane, whose pace nobody knows yet
	backlogMax    = 100_000         // spans that wait for policies, in all
	backlogFloor  = 100             // of one lane, whatever the others have
	backlogAge    = 5 * time.Second // that a span may wait, and the cursor for it; then its lane goes behind
)

// laneKey names a lane. The policies of each owner have one of their own in each tenant: what one owner's
// take of the clock is lost to nobody else. For policies of the system the owner is system.
type laneKey struct{ kernel, tenant, owner string }

// places are those of one kind of runs of policies. Lanes take turns, the tenant first that holds fewest;
// none may hold more than it leaves free, so that another's policy starts at once.
type places struct {
	free  int
	held  map[string]int // by tenant
	lanes []*lane        // with something that is not disposed of
	turn  int            // counts the runs
}

func newPlaces() *places { return &places{free: policyRunsMax, held: map[string]int{}} }

// kinds are the four kinds of policies' work. None takes another's places: rows are not held up by time, nor
// the system's policies by tenants'.
type kinds struct{ rows, ticks, systemRows, systemTicks *places }

func newKinds() kinds { return kinds{newPlaces(), newPlaces(), newPlaces(), newPlaces()} }

func (k *kinds) all() []*places { return []*places{k.rows, k.ticks, k.systemRows, k.systemTicks} }

// of returns the places for the policies of a lane.
func (k *kinds) of(key laneKey) *places {
	isTick, isSystem := key.kernel == tickLane, key.owner == systemLane
	switch {
	case key.kernel != policyKernel && !isTick:
		return nil
	case isTick && isSystem:
		return k.systemTicks
	case isTick:
		return k.ticks
	case isSystem:
		return k.systemRows
	}
	return k.rows
}

// systemLane is the owner of lanes of the system's policies; no client can be called so.
const systemLane = "\x00system"

// policyLane is the lane of p for work in a tenant.
func (e *Engine) policyLane(kernel, tenant string, p *policy) *lane {
	return e.lane(laneKey{kernel, tenant, p.laneOwner()})
}

func (p *policy) laneOwner() string {
	if p.isOfSystem() {
		return systemLane
	}
	return p.owner
}

// next takes the lane whose turn it is, or nil.
func (p *places) next() *lane {
	if p.free == 0 {
		return nil
	}
	var best *lane
	for _, l := range p.lanes {
		held := p.held[l.key.tenant]
		if !l.canRun() || held > 0 && held >= p.free {
			continue
		}
		if best == nil || held < p.held[best.key.tenant] ||
			held == p.held[best.key.tenant] && l.turn < best.turn {
			best = l
		}
	}
	return best
}

// dispatchLanes starts what can start.
func (e *Engine) dispatchLanes() {
	if e.draining || e.isDeposed {
		return
	}
	for _, l := range e.kernelLanes {
		for l.canRun() {
			batch := l.take()
			if len(batch) == 0 {
				break
			}
			l.crowd.entered(batch)
			e.bootLane(l, batch)
		}
	}
	for _, p := range e.kinds.all() {
		for l := p.next(); l != nil; l = p.next() {
			batch := l.take()
			p.turn++
			l.turn = p.turn
			p.free--
			p.held[l.key.tenant]++
			e.bootLane(l, batch)
		}
	}
}

// leave gives the place of a run back, and learns from it how much fits into the next.
func (l *lane) leave(batch []*item, took time.Duration, isJudged bool) {
	l.running--
	if l.places == nil {
		l.crowd.left(batch)
		return
	}
	l.places.free++
	if l.places.held[l.key.tenant]--; l.places.held[l.key.tenant] == 0 {
		delete(l.places.held, l.key.tenant)
	}
	if !isJudged {
		return
	}
	matches := 0
	for _, it := range batch {
		matches += len(it.matches)
	}
	fits := int(runTarget * time.Duration(matches) / max(took, time.Millisecond))
	l.fits = max(min(fits, 2*l.fits), 1)
}

// backlog counts the spans that wait for policies.
type backlog struct {
	free int
	held map[string]int // by tenant
}

// hasRoom reports whether one more span may wait in l. A tenant may have no more than it leaves free.
func (b *backlog) hasRoom(l *lane) bool {
	return l.open < backlogFloor || b.hasShare(l)
}

func (b *backlog) hasShare(l *lane) bool { return b.held[l.key.tenant] < b.free }

func (b *backlog) add(tenant string, n int) {
	b.free -= n
	if b.held[tenant] += n; b.held[tenant] == 0 {
		delete(b.held, tenant)
	}
}

// judge gives row to the lanes of the policies that match it. Rows that wait for policies hold no place among
// those taken from the tail, but in a backlog, and last counts when they are disposed of; a lane that finds
// no room in it goes behind (behind.go).
func (e *Engine) judge(row *span.Published, matches []*policy, it, last *item) {
	byLane := map[*lane][]*policy{}
	for _, p := range matches {
		l := e.policyLane(policyKernel, row.TenantID, p)
		byLane[l] = append(byLane[l], p)
	}
	for l, mine := range byLane {
		for _, one := range itemsOf(row, mine) {
			e.show(l, one, it, last)
		}
		e.dropIdle(l)
	}
}

// itemsOf shares out the policies of a lane that judge row, so that none of its runs is too long.
func itemsOf(row *span.Published, matches []*policy) (items []*item) {
	slices.SortFunc(matches, comparePolicies)
	for part := range slices.Chunk(matches, matchesMax) {
		items = append(items, &item{row: row, matches: part, left: newCount(1), came: time.Now()})
	}
	return items
}

// show has a lane judge what the tail has brought, or read it later.
func (e *Engine) show(l *lane, one, it, last *item) {
	if l.behind == nil && !e.backlog.hasRoom(l) {
		e.fallBehind(l)
	}
	b := l.behind
	switch {
	case b == nil:
		e.enlist(l, one, last)
		e.queue(l, one)
	case b.phase == leaving: // the tail waits a moment, until it is written down that the lane is behind
		it.left.Add(1)
		one.done = it.dispose
		b.held = append(b.held, one)
	case b.phase == joining && (len(b.joining) < backlogFloor || e.backlog.hasShare(l)):
		e.enlist(l, one, last)
		b.joining = append(b.joining, one)
	case b.phase == joining:
		e.stopJoining(l)
		fallthrough
	default:
		b.drop(one.row.Xact)
	}
}

// enlist gives an item its place in the backlog.
func (e *Engine) enlist(l *lane, one, last *item) {
	e.backlog.add(l.key.tenant, 1)
	last.left.Add(1)
	one.done = func() {
		e.backlog.add(l.key.tenant, -1)
		last.dispose()
	}
}

// queue adds an item to a lane of policies, which stays until it is disposed of.
func (e *Engine) queue(l *lane, it *item) {
	done := it.done
	it.done = func() {
		l.open--
		e.dropIdle(l)
		done()
	}
	l.open++
	l.waiting = append(l.waiting, it)
}

// dropIdle forgets a lane of policies that has nothing to do.
func (e *Engine) dropIdle(l *lane) {
	if l.places != nil && l.open == 0 && l.behind == nil && e.lanes[l.key] == l {
		delete(e.lanes, l.key)
		l.places.lanes = slices.DeleteFunc(l.places.lanes, func(other *lane) bool { return other == l })
	}
}
