package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of catching up.
const (
	missedMax   = 1000   // ticks of one schedule that are looked for
	probesMax   = 10_000 // ids in one question
	schedulesAt = 1000   // that are read at once

	schedulesHeld = 4 * schedulesMax // of one tenant, while they are read
	refusedMax    = 100              // schedules, or policies, of one tenant whose owners are told
)

// gap is a time in which a schedule may have ticked with nobody there, or with somebody whose ticks are in
// the ledger: only that can tell. late is where the ticks that are still on time begin.
type gap struct {
	s                 *schedule
	from, late, until time.Time

	older  []time.Time // the newest ticks that are late, oldest first
	isMore bool        // there are more of them
	recent []time.Time
	there  map[time.Time]bool

	hand   []time.Time // what is to be made up for, in order
	missed missed      // what is not
}

// leadSchedules takes the schedules of the ledger over. What they have ticked under others is looked for
// behind it.
func (e *Engine) leadSchedules(stated []ledger.Schedule, last map[span.ID]time.Time) {
	e.forgetSchedules()
	slices.SortFunc(stated, func(a, b ledger.Schedule) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	now := e.now()
	var behind []*schedule
	for _, of := range stated {
		s := e.readStated(of)
		if s == nil {
			continue
		}
		e.setSchedule(s)
		// A clock that was ahead may have noted what is still to come: it is asked for again.
		if at := minTime(last[of.ID], now); at.After(s.last) {
			s.last = at
		}
		if next := s.when.Next(s.last); !next.IsZero() && !next.After(now) {
			behind = append(behind, s)
			continue
		}
		e.plan(s)
	}
	e.makeUp(behind, now)
	e.armSchedules()
}

// readSchedules reads what leadSchedules takes, and when each of them and of these policies has ticked last.
func (e *Engine) readSchedules(ctx context.Context, policies []span.ID) (stated []ledger.Schedule,
	last map[span.ID]time.Time, err error) {
	tenants := map[string][]ledger.Schedule{}
	for after := (span.ID{}); ; {
		page, err := e.config.Ledger.Schedules(ctx, after, schedulesAt)
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].ID
		for _, s := range page {
			all := append(tenants[s.TenantID], s)
			if tenants[s.TenantID] = all; len(all) >= schedulesHeld && s.TenantID != "system" {
				tenants[s.TenantID] = mayBeInForce(all)
			}
		}
	}
	for tenant, all := range tenants {
		if tenant != "system" {
			all = mayBeInForce(all)
		}
		stated = append(stated, all...)
	}
	ids := make([]span.ID, 0, len(stated)+len(policies))
	for i := range stated {
		ids = append(ids, stated[i].ID)
	}
	ids = append(ids, policies...)
	last, err = e.config.Ledger.LastTicks(ctx, ids)
	return stated, last, err
}

// mayBeInForce leaves of a tenant's schedules those that readStated takes, and some of the others, whose
// owners it tells. What comes later can only be behind one of those that are left.
func mayBeInForce(all []ledger.Schedule) []ledger.Schedule {
	slices.SortFunc(all, func(a, b ledger.Schedule) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	of, taken, refused := map[string]int{}, 0, 0
	return slices.DeleteFunc(all, func(s ledger.Schedule) bool {
		_, err := readSchedule(s.Form)
		if err == nil && taken < schedulesMax && of[s.OwnerID] < schedulesPer {
			taken++
			of[s.OwnerID]++
			return false
		}
		refused++
		return refused > refusedMax
	})
}

// makeUp finds which ticks of these schedules, up to now, the ledger has not, and hands over what is to be
// made up for. Meanwhile they do not tick.
func (e *Engine) makeUp(behind []*schedule, now time.Time) {
	if len(behind) == 0 {
		return
	}
	all := e.schedules
	gaps := make([]*gap, len(behind))
	for i, s := range behind {
		gaps[i] = &gap{s: s, from: s.last, late: now.Add(-tickLate), until: now, there: map[time.Time]bool{}}
	}
	e.start(func(ctx context.Context) {
		err := e.probe(ctx, gaps)
		e.do(func() {
			switch {
			case all != e.schedules:
			case err != nil:
				e.config.Log.Warn("what has ticked is not known, trying again", "error", err)
				e.after(backoffMax, func() {
					if all == e.schedules {
						e.makeUp(e.stillIn(behind), e.now())
					}
				})
			default:
				for _, g := range gaps {
					if all.byID[g.s.ID] == g.s {
						e.close(g)
					}
				}
				e.armSchedules()
			}
		})
	})
}

// stillIn leaves out those that have been replaced.
func (e *Engine) stillIn(list []*schedule) []*schedule {
	return slices.DeleteFunc(slices.Clone(list), func(s *schedule) bool { return e.schedules.byID[s.ID] != s })
}

// close hands over what g found, and lets the schedule tick again.
func (e *Engine) close(g *gap) {
	s := g.s
	if g.missed.count > 0 {
		e.stats.TicksMissed.Add(int64(g.missed.count))
		e.config.Log.Warn("ticks were missed, and are not made up for", "function", s.ID.String(), "count",
			g.missed.count, "is_more", g.missed.isMore, "from", g.missed.from, "to", g.missed.to, "fill", s.fill.rule)
		s.missed = s.missed.and(g.missed)
	}
	for _, at := range g.hand {
		e.handTick(s, at, !at.After(g.late))
	}
	if g.until.After(s.last) {
		s.last = g.until
	}
	if s.open == 0 {
		e.keepTick(s.ID, s.last)
	}
	e.plan(s)
}

// and adds what was missed later.
func (m missed) and(later missed) missed {
	if m.count == 0 {
		return later
	}
	return missed{m.count + later.count, m.isMore || later.isMore, m.from, later.to}
}

// probe asks the ledger which ticks of the gaps it has. Of most schedules the newest one is there, and
// nothing else is asked; of the others it is looked for further and further back.
func (e *Engine) probe(ctx context.Context, gaps []*gap) error {
	for _, g := range gaps {
		g.enumerate()
	}
	looked := map[*gap]int{} // how many of the older ones, from the newest on
	for turn, depth := range []int{1, 16, 128, missedMax} {
		var asked []ask
		for _, g := range gaps {
			switch {
			case turn == 0:
				asked = append(asked, g.asks(g.recent)...)
			case g.s.fill.rule != fillAll && g.hasOlder():
				continue
			}
			from, to := max(len(g.older)-depth, 0), len(g.older)-looked[g]
			asked = append(asked, g.asks(g.older[from:to])...)
			looked[g] = len(g.older) - from
		}
		if err := e.answer(ctx, asked); err != nil {
			return err
		}
	}
	for _, g := range gaps {
		g.judge()
	}
	return nil
}

// ask is one tick that is looked for.
type ask struct {
	g  *gap
	at time.Time
}

func (g *gap) asks(ticks []time.Time) []ask {
	asked := make([]ask, len(ticks))
	for i, at := range ticks {
		asked[i] = ask{g, at}
	}
	return asked
}

func (e *Engine) answer(ctx context.Context, asked []ask) error {
	for part := range slices.Chunk(asked, probesMax) {
		ids := make([]span.ID, len(part))
		for i, a := range part {
			ids[i] = tickID(a.g.s.ID, a.at)
		}
		there, err := e.config.Ledger.Which(ctx, ids)
		if err != nil {
			return fmt.Errorf("look for ticks: %w", err)
		}
		for i, a := range part {
			if there[ids[i]] {
				a.g.there[a.at] = true
			}
		}
	}
	return nil
}

// tickID is the id of the request that a function's tick becomes.
func tickID(function span.ID, at time.Time) span.ID {
	return span.Derive(tickKind, at, []span.ID{function}, at.Unix())
}

// enumerate finds the ticks of the gap: those that are on time, and of the others the newest ones.
func (g *gap) enumerate() {
	when := g.s.when
	begin := g.from
	if g.late.After(begin) {
		begin = g.late
	}
	for at := when.Next(begin); !at.IsZero() && !at.After(g.until); at = when.Next(at) {
		g.recent = append(g.recent, at)
	}
	if !g.late.After(g.from) {
		return
	}
	// Back from the end, in windows that double: years of a schedule are not counted from their beginning.
	for window := time.Hour; ; window *= 2 {
		start, isWhole := g.late.Add(-window), false
		if !start.After(g.from) {
			start, isWhole = g.from, true
		}
		ring, count := g.older[:0], 0
		for at := when.Next(start); !at.IsZero() && !at.After(g.late); at = when.Next(at) {
			if count++; len(ring) == missedMax {
				ring = append(ring[:0], ring[1:]...)
			}
			ring = append(ring, at)
		}
		g.older = ring
		if g.isMore = count > missedMax || count == missedMax && !isWhole; g.isMore || isWhole {
			return
		}
	}
}

func (g *gap) hasOlder() bool {
	return slices.ContainsFunc(g.older, func(at time.Time) bool { return g.there[at] })
}

// judge decides what is made up for. What is older than a tick that is there was dealt with by whoever made
// that one; but all makes up for each that is not there, because several are under way at once.
func (g *gap) judge() {
	rule, most := g.s.fill.rule, g.s.fill.most
	isDone := func(at time.Time) bool { return g.there[at] }
	if rule == fillAll {
		candidates := g.older[max(len(g.older)-most, 0):]
		g.hand = slices.DeleteFunc(slices.Clone(candidates), isDone)
		g.older = g.older[:len(g.older)-len(candidates)]
		if slices.ContainsFunc(candidates, isDone) {
			g.older, g.isMore = nil, false
		}
	}
	after := 0 // the newest one that is there
	for i, at := range g.older {
		if isDone(at) {
			after, g.isMore = i+1, false
		}
	}
	passed := g.older[after:]
	if rule == fillLast && len(passed) > 0 {
		g.hand = append(g.hand, passed[len(passed)-1])
		passed = passed[:len(passed)-1]
	}
	g.hand = append(g.hand, slices.DeleteFunc(slices.Clone(g.recent), isDone)...)
	if len(passed) > 0 {
		g.missed = missed{len(passed), g.isMore, passed[0], passed[len(passed)-1]}
	}
}
