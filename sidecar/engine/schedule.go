package engine

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A function with metadata.schedule recurs. The engine knows when; a kernel decides what becomes of it: each
// tick is shown, as a span that stands in no ledger, to the kernels whose trigger takes the function where it
// is scheduled. What is made of it has an id derived from function and time: however often a tick comes, by
// whomever, there is one request.
//
//	heap ─► due ─► tick ─► lane of the kernel ─► request, derived id ─► as any request
//	  ▲       └─ late, or at a take-over ─► catchup.go: what does the ledger have of these?

// Bounds of schedules.
const (
	schedulesMax = 1000             // of one tenant
	schedulesPer = 250              // and of one owner in it
	ticksAtOnce  = 1000             // that are handed over before anything else has its turn
	tickLate     = time.Minute      // up to here a tick is on time, and from here on it was missed
	ticksKept    = 10 * time.Second // between two notes of what has ticked last
	tickKind     = "tick"           // of the requests that ticks of functions become
	ownTicksLane = "\x00tick"       // the owner of the lane of functions' ticks: they delay no row
)

// schedule is the version of a function whose schedule is in force.
type schedule struct {
	ledger.Schedule
	*scheduleForm
	last   time.Time // every tick up to here has been handed over, or passed over
	next   time.Time
	turn   int // among those of its tenant: tenants take turns at one moment
	place  int // in the heap, from 1; 0: it is being caught up
	open   int // ticks that are not disposed of
	missed missed
}

// missed says which ticks have been passed over since the last one that was handed over.
type missed struct {
	count    int
	isMore   bool // they were too many to count
	from, to time.Time
}

// schedules are those in force, by when they tick next.
type schedules struct {
	byID   map[span.ID]*schedule
	heap   scheduleHeap
	counts map[timerKey]int // of each tenant, and of each owner in it
	alarm  *alarm
	turn   map[string]int
	unread unread
	done   map[span.ID]time.Time
	isKept bool // they are about to be noted
}

func newSchedules(alarm *alarm) *schedules {
	return &schedules{byID: map[span.ID]*schedule{}, counts: map[timerKey]int{}, alarm: alarm,
		turn: map[string]int{}, unread: unread{wanted: map[span.ID]seen{}}, done: map[span.ID]time.Time{}}
}

type scheduleHeap []*schedule

func (h scheduleHeap) Len() int { return len(h) }
func (h scheduleHeap) Less(i, j int) bool {
	if h[i].next.Equal(h[j].next) {
		return h[i].turn < h[j].turn
	}
	return h[i].next.Before(h[j].next)
}
func (h scheduleHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}
func (h *scheduleHeap) Push(x any) {
	s := x.(*schedule)
	s.place = len(*h) + 1
	*h = append(*h, s)
}
func (h *scheduleHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	last.place = 0
	return last
}

// setFunction puts the schedule of a version that is in force in the place of the one before.
func (e *Engine) setFunction(stated ledger.Schedule) {
	known := e.schedules.byID[stated.ID]
	if known != nil && known.Seq >= stated.Seq {
		return
	}
	s := e.readStated(stated)
	if s == nil {
		return
	}
	switch {
	case known == nil:
	case known.when.String() == s.when.String() && known.when.Zone() == s.when.Zone():
		s.Since, s.last, s.missed = known.Since, known.last, known.missed
	default: // what the version before is owed, up to here
		e.tickDue(known, minTime(e.now(), s.AcceptedAt))
	}
	e.setSchedule(s)
	e.plan(s)
	e.armSchedules()
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// readStated reads a schedule; nil says that it is malformed, or one too many, and its owner is told.
func (e *Engine) readStated(stated ledger.Schedule) *schedule {
	form, err := readSchedule(stated.Form)
	known := e.schedules.byID[stated.ID]
	isSystem := stated.TenantID == "system" && stated.OwnerID == "system"
	if err == nil && known == nil && !isSystem {
		switch counts := e.schedules.counts; {
		case counts[timerKey{tenant: stated.TenantID}] >= schedulesMax:
			err = fmt.Errorf("the tenant has %d schedules already: archive one", schedulesMax)
		case counts[timerKey{stated.TenantID, stated.OwnerID}] >= schedulesPer:
			err = fmt.Errorf("you have %d schedules already: archive one", schedulesPer)
		}
	}
	if err != nil {
		e.dropSchedule(stated.ID)
		e.scheduleFault(stated, err)
		return nil
	}
	stated.Form = nil
	return &schedule{Schedule: stated, scheduleForm: form, last: stated.Since}
}

func (e *Engine) setSchedule(s *schedule) {
	e.dropSchedule(s.ID)
	all := e.schedules
	all.byID[s.ID] = s
	all.counts[timerKey{tenant: s.TenantID}]++
	all.counts[timerKey{s.TenantID, s.OwnerID}]++
	all.turn[s.TenantID]++
	s.turn = all.turn[s.TenantID]
	e.stats.Schedules.Store(int64(len(all.byID)))
}

// plan puts s where its next tick is due, after those that are dealt with.
func (e *Engine) plan(s *schedule) {
	if s.place > 0 {
		heap.Remove(&e.schedules.heap, s.place-1)
	}
	if s.next = s.when.Next(s.last); !s.next.IsZero() {
		heap.Push(&e.schedules.heap, s)
	}
}

func (e *Engine) dropSchedule(id span.ID) {
	all := e.schedules
	s := all.byID[id]
	if s == nil {
		return
	}
	delete(all.byID, id)
	for _, key := range []timerKey{{tenant: s.TenantID}, {s.TenantID, s.OwnerID}} {
		if all.counts[key]--; all.counts[key] == 0 {
			delete(all.counts, key)
		}
	}
	if all.counts[timerKey{tenant: s.TenantID}] == 0 {
		delete(all.turn, s.TenantID)
	}
	if s.place > 0 {
		heap.Remove(&all.heap, s.place-1)
	}
	e.stats.Schedules.Store(int64(len(all.byID)))
}

func (e *Engine) armSchedules() {
	if h := e.schedules.heap; len(h) > 0 {
		e.schedules.alarm.set(h[0].next)
	}
}

// ringSchedules hands over what is due.
func (e *Engine) ringSchedules() { e.tickSchedules(e.now()) }

func (e *Engine) tickSchedules(now time.Time) {
	if e.isDeposed || e.draining {
		return
	}
	all := e.schedules
	var behind []*schedule
	for handed := 0; len(all.heap) > 0 && !all.heap[0].next.After(now) && handed < ticksAtOnce; {
		s := all.heap[0]
		if now.Sub(s.next) > tickLate {
			heap.Remove(&all.heap, 0)
			behind = append(behind, s)
			continue
		}
		handed += e.tickDue(s, now)
		e.plan(s)
	}
	e.makeUp(behind, now)
	e.armSchedules()
}

// tickDue hands over each tick of s up to a moment, none of which was missed, and returns how many.
func (e *Engine) tickDue(s *schedule, until time.Time) int {
	for count := 0; ; count++ {
		at := s.when.Next(s.last)
		if at.IsZero() || at.After(until) || count == ticksAtOnce {
			return count
		}
		e.handTick(s, at, false)
	}
}

// handTick shows a tick to the kernels that take the function where it is scheduled.
func (e *Engine) handTick(s *schedule, at time.Time, isFill bool) {
	if at.After(s.last) {
		s.last = at
	}
	tick := e.functionTick(s, at, isFill)
	s.missed = missed{}
	manifest := e.config.Manifest()
	if tick == nil || manifest == nil {
		return
	}
	function := &span.Published{ID: s.ID, Seq: s.Seq, EntityType: "function", Status: new("scheduled"),
		OwnerID: s.OwnerID, TenantID: s.TenantID, Visibility: s.Visibility, At: span.NewTime(s.AcceptedAt),
		AcceptedAt: span.NewTime(s.AcceptedAt)}
	row := &span.Published{ID: tick.ID, Seq: tick.Seq, EntityType: tick.EntityType, OwnerID: tick.OwnerID,
		TenantID: tick.TenantID, Visibility: tick.Visibility, ParentID: tick.ParentID, At: tick.At,
		AcceptedAt: tick.At, ScheduledAt: tick.ScheduledAt, TraceID: tick.TraceID}
	all := e.schedules
	s.open++
	e.stats.Ticks.Add(1)
	it := &item{row: row, span: tick, tick: tick.Metadata, left: newCount(1), done: func() {
		if s.open--; s.open == 0 && all == e.schedules && all.byID[s.ID] == s && !e.isDeposed {
			e.keepTick(s.ID, s.last)
		}
	}}
	defer it.dispose()
	for i := range manifest.Triggers {
		if trigger := &manifest.Triggers[i]; trigger.Kernel != policyKernel && trigger.When.Matches(function) {
			it.left.Add(1)
			one := *it
			one.left, one.done = newCount(1), it.dispose
			e.lane(laneKey{kernel: trigger.Kernel, owner: ownTicksLane}).add(&one)
		}
	}
}

// noteSkipped counts a tick that the kernel made nothing of: that is its right.
func (e *Engine) noteSkipped(it *item) {
	if it.tick != nil && it.matches == nil {
		e.stats.TicksSkipped.Add(1)
	}
}

// functionTick is what a kernel is shown. It stands in no ledger; the request that is made of it has its id.
func (e *Engine) functionTick(s *schedule, at time.Time, isFill bool) *span.Span {
	told := map[string]any{"at": span.NewTime(at), "cron": s.when.String(), "tz": s.when.Zone()}
	if isFill {
		told["is_fill"] = true
	}
	if m := s.missed; m.count > 0 {
		told["missed"] = map[string]any{"count": m.count, "is_more": m.isMore, "from": span.NewTime(m.from),
			"to": span.NewTime(m.to)}
	}
	metadata, err := json.Marshal(map[string]any{"tick": told,
		"function": map[string]any{"id": s.ID, "seq": s.Seq}})
	if err != nil {
		panic(err) // of texts and numbers: never
	}
	id := tickID(s.ID, at)
	moment := span.NewTime(at)
	return &span.Span{ID: id, Seq: s.Seq, EntityType: "tick", Who: "sidecar:" + e.config.Node, At: moment,
		AcceptedAt: &moment, ScheduledAt: &moment, OwnerID: s.OwnerID, TenantID: s.TenantID,
		Visibility: s.Visibility, Status: new("scheduled"), ParentID: &s.ID, TraceID: new(id.String()),
		Input: s.input, Metadata: metadata}
}

// keepTick notes, a little later and with others, up to when a function or a policy has ticked: so that the
// next sidecar need not look further back.
func (e *Engine) keepTick(id span.ID, last time.Time) {
	all := e.schedules
	all.done[id] = last
	if all.isKept {
		return
	}
	all.isKept = true
	e.after(ticksKept, func() {
		if all != e.schedules {
			return
		}
		if all.isKept = false; e.isDeposed || e.draining {
			return
		}
		ticks := maps.Clone(all.done)
		clear(all.done)
		e.start(func(ctx context.Context) {
			if err := e.config.Ledger.KeepTicks(ctx, ticks); err != nil && ctx.Err() == nil {
				e.config.Log.Warn("what has ticked is not noted: a successor will look for it in the ledger",
					"error", err)
			}
		})
	})
}

// scheduleFault tells the owner of a function that its schedule is not in force: one incident of his own for
// each version.
func (e *Engine) scheduleFault(of ledger.Schedule, fault error) {
	failure, err := json.Marshal(&span.RunError{Code: span.RunSyntax, Message: fault.Error()})
	var metadata json.RawMessage
	if err == nil {
		metadata, err = span.SetEngine(nil, span.EngineMeta{Cause: span.Key{ID: of.ID, Seq: of.Seq}, Root: of.ID,
			Depth: 1, Kind: "incident:schedule"})
	}
	report := &span.Span{
		ID:         span.Derive("incident:schedule", of.AcceptedAt, []span.ID{of.ID}, int64(of.Seq)),
		EntityType: "incident", Who: "sidecar:" + e.config.Node, Did: new("refused"),
		This: new("function.schedule"), At: span.NewTime(of.AcceptedAt), OwnerID: of.OwnerID, TenantID: of.TenantID,
		Visibility: "private", Status: new("open"), ParentID: &of.ID, RelatedTo: []span.ID{of.ID}, Error: failure,
		Metadata: metadata,
	}
	if err == nil {
		err = e.config.Seal(report, nil)
	}
	if err != nil {
		e.config.Log.Error("incident not recorded", "function", of.ID.String(), "error", err)
		return
	}
	e.submit(ledger.Group{Rows: []*span.Span{report}}, func(outcome ledger.Outcome) {
		if outcome.Err != nil {
			e.config.Log.Error("incident not recorded", "function", of.ID.String(), "error", outcome.Err)
		}
	})
}
