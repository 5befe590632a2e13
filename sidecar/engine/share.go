package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of what policies may have under way and waiting.
const (
	policyRunsMax = 16               // runs of one kind of policies' work at once
	matchesMax    = 20               // policies that one run shows a span to
	runTarget     = time.Second      // what a run of policies should take: the next lane's turn comes then
	runFirst      = 8                // matches in the first run of a lane, whose pace nobody knows yet
	backlogMax    = 100_000          // spans that wait for tenants' policies, in all
	backlogFloor  = 100              // of one lane, whatever the others have
	backlogWork   = 10 * time.Minute // that a lane has spent since a span came, after which it is passed over
	backlogSlow   = time.Minute      // likewise, where there is no room for one more
	tellEvery     = time.Hour        // that a policy has passed spans over
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
	if p.isOfSystem() {
		return e.lane(laneKey{kernel, tenant, systemLane})
	}
	return e.lane(laneKey{kernel, tenant, p.owner})
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
			e.bootLane(l, l.take())
		}
	}
	for _, p := range e.kinds.all() {
		for l := p.next(); l != nil; l = p.next() {
			batch := e.passOver(l, l.take())
			if len(batch) == 0 {
				continue
			}
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
		return
	}
	l.places.free++
	if l.places.held[l.key.tenant]--; l.places.held[l.key.tenant] == 0 {
		delete(l.places.held, l.key.tenant)
	}
	if !isJudged {
		return
	}
	l.worked += took
	matches := 0
	for _, it := range batch {
		matches += len(it.matches)
	}
	fits := int(runTarget * time.Duration(matches) / max(took, time.Millisecond))
	l.fits = max(min(fits, 2*l.fits), 1)
}

// backlog counts the spans that wait for tenants' policies.
type backlog struct {
	free int
	held map[string]int // by tenant
}

// hasRoom reports whether one more span may wait in l. A tenant may have no more than it leaves free.
func (b *backlog) hasRoom(l *lane) bool {
	return l.open < backlogFloor || b.held[l.key.tenant] < b.free
}

func (b *backlog) add(tenant string, n int) {
	b.free -= n
	if b.held[tenant] += n; b.held[tenant] == 0 {
		delete(b.held, tenant)
	}
}

// judge gives row to the lanes of the policies that match it. For the system's it keeps its place among the
// rows that are taken from the tail, by it; tenants' have a backlog, and last counts when it is disposed of.
// Where that is full, quick policies hold up the tail like the system's, and slow ones are not shown the row.
func (e *Engine) judge(row *span.Published, matches []*policy, it, last *item) {
	byLane := map[*lane][]*policy{}
	for _, p := range matches {
		l := e.policyLane(policyKernel, row.TenantID, p)
		byLane[l] = append(byLane[l], p)
	}
	for l, mine := range byLane {
		slices.SortFunc(mine, comparePolicies)
		for part := range slices.Chunk(mine, matchesMax) {
			one := &item{row: row, matches: part, left: newCount(1), since: l.worked}
			switch {
			case l.key.owner == systemLane, !e.backlog.hasRoom(l) && !l.isSlow():
				it.left.Add(1)
				one.done = it.dispose
			case !e.backlog.hasRoom(l):
				e.tellPassedOver(l, part)
				continue
			default:
				e.backlog.add(row.TenantID, 1)
				last.left.Add(1)
				one.done = func() {
					e.backlog.add(row.TenantID, -1)
					last.dispose()
				}
			}
			e.queue(l, one)
		}
		e.dropIdle(l)
	}
}

// isSlow reports whether what waits longest in l has waited for more of its work than others need wait for.
func (l *lane) isSlow() bool { return len(l.waiting) > 0 && l.worked-l.waiting[0].since > backlogSlow }

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
	if l.places != nil && l.open == 0 && e.lanes[l.key] == l {
		delete(e.lanes, l.key)
		l.places.lanes = slices.DeleteFunc(l.places.lanes, func(other *lane) bool { return other == l })
	}
}

// passOver disposes of the spans of a batch that have waited for too much work of tenants' policies: the
// cursor waits for them, and the log of the database with it.
func (e *Engine) passOver(l *lane, batch []*item) []*item {
	if l.places != e.kinds.rows {
		return batch
	}
	return slices.DeleteFunc(batch, func(it *item) bool {
		isOld := l.worked-it.since > backlogWork
		if isOld {
			e.tellPassedOver(l, it.matches)
			it.dispose()
		}
		return isOld
	})
}

// tellPassedOver tells the owner of policies, once an hour, that they are not shown everything.
func (e *Engine) tellPassedOver(l *lane, policies []*policy) {
	now := e.now()
	for _, p := range policies {
		if now.Sub(p.told) < tellEvery {
			continue
		}
		p.told = now
		report, err := e.passedOver(p, l.open, now)
		if err != nil {
			e.config.Log.Error("policy_error not recorded", "policy", p.id.String(), "error", err)
			continue
		}
		e.config.Log.Warn("a policy is too slow: spans are passed over", "policy", p.id.String(), "tenant",
			p.tenant, "waiting", l.open)
		e.submit(ledger.Group{Rows: []*span.Span{report}}, func(outcome ledger.Outcome) {
			if outcome.Err != nil {
				e.config.Log.Error("policy_error not recorded", "policy", p.id.String(), "error", outcome.Err)
			}
		})
	}
}

func (e *Engine) passedOver(p *policy, waiting int, now time.Time) (*span.Span, error) {
	failure, err := json.Marshal(&span.RunError{Code: span.RunTimeout, Message: fmt.Sprintf("%d spans wait for "+
		"your policies, which take too long for them: those that have waited for %s of their work, or find "+
		"no place, are passed over: make them faster, or name fewer spans in when", waiting, backlogWork)})
	if err != nil {
		return nil, err
	}
	metadata, err := span.SetEngine(nil, span.EngineMeta{Cause: span.Key{ID: p.id, Seq: p.seq}, Root: p.id,
		Depth: 1, Kind: "policy_error"})
	if err != nil {
		return nil, err
	}
	report := &span.Span{
		ID:         span.Derive("policy_error:passed", now, []span.ID{p.id}, int64(p.seq)),
		EntityType: "policy_error", Who: "sidecar:" + e.config.Node, Did: new("failed"), This: new("policy.eval"),
		At: span.NewTime(now), OwnerID: p.owner, TenantID: p.tenant, Visibility: "private",
		Status: new("error"), ParentID: &p.id, PolicyID: &p.id, RelatedTo: []span.ID{p.id}, Error: failure,
		Metadata: metadata,
	}
	return report, e.config.Seal(report, nil)
}
