package engine

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// still is an engine that does not run: what rings waits in its events.
func still(t *testing.T) *Engine {
	e := New(Config{Log: slog.New(slog.NewTextHandler(logWriter{t}, nil))})
	e.ctx = t.Context()
	t.Cleanup(e.clearAlarms)
	return e
}

// What is due comes in order of its time, and of its coming where that is the same; one that has left never.
func TestTheAgendaKeepsItsOrder(t *testing.T) {
	t.Parallel()
	e := still(t)
	start := e.now().Add(time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	var all []*request
	for i := range 1000 {
		r := &request{id: idOf(i), phase: waiting, runs: i}
		all = append(all, r)
		e.due.add(start.Add(time.Duration(random.IntN(50))*time.Second), r)
	}
	e.due.add(start.Add(100*time.Second), all[0]) // it gets another time
	for i := 1; i < 1000; i += 3 {
		e.due.remove(all[i])
		e.due.remove(all[i]) // is no fault
	}
	freed := e.due.takeIf(func(r *request) bool { return r.runs%3 == 2 })
	if len(freed) != 333 || e.due.len() != 334 {
		t.Fatalf("%d are taken and %d left, want 333 and 334", len(freed), e.due.len())
	}
	if got := e.due.take(start.Add(-time.Second)); len(got) != 0 {
		t.Errorf("%d are due before their time", len(got))
	}
	at := map[*request]time.Time{}
	for _, entry := range e.due.entries {
		at[entry.r] = entry.at
	}
	got := e.due.take(start.Add(200 * time.Second))
	if !slices.IsSortedFunc(got[:333], func(a, b *request) int {
		if c := at[a].Compare(at[b]); c != 0 {
			return c
		}
		return a.runs - b.runs
	}) || len(got) != 334 || got[333] != all[0] {
		t.Errorf("%d came, in another order", len(got))
	}
	if slices.ContainsFunc(all, func(r *request) bool { return r.place != 0 }) || e.due.len() != 0 {
		t.Error("one of them believes to be on the agenda")
	}
}

// Who adds ten thousand, and takes them off again, waits for neither a timer of each nor a walk over all.
func TestTheAgendaHasOneTimer(t *testing.T) {
	t.Parallel()
	e := still(t)
	start := e.now().Add(time.Hour)
	var all []*request
	for i := range 10_000 {
		r := &request{phase: waiting}
		all = append(all, r)
		e.due.add(start.Add(time.Duration(i)*time.Millisecond), r)
		if first := e.due.alarm; !first.at.Equal(start) {
			t.Fatal("the alarm is set for another than the first")
		}
	}
	for _, r := range all[1:] {
		e.due.remove(r)
	}
	if e.due.len() != 1 {
		t.Errorf("%d are left", e.due.len())
	}
}

func TestTheAgendaWakesForTheEarliest(t *testing.T) {
	t.Parallel()
	e := still(t)
	e.due.add(e.now().Add(time.Hour), &request{phase: waiting})
	e.due.add(e.now().Add(10*time.Millisecond), &request{phase: waiting}) // earlier than what it is set for
	woken := false
	e.due.alarm.ring = func() { woken = true }
	select {
	case event := <-e.events:
		event()
	case <-time.After(patience):
		t.Fatal("not woken")
	}
	if due := e.due.take(e.now()); len(due) != 1 || !woken {
		t.Errorf("%d are due", len(due))
	}
}

// The database's clock alone decides: where it jumps, what waits is due by its new time.
func TestAlarmsGoByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	e := still(t)
	rung := 0
	a := e.newAlarm(func() { rung++ })
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	e.setClock(databaseClock{noon, time.Now()})
	a.set(noon.Add(time.Hour))
	e.setClock(databaseClock{noon.Add(-time.Hour), time.Now()}) // back
	select {
	case <-e.events:
		t.Fatal("it rings before its time")
	case <-time.After(20 * time.Millisecond):
	}
	e.setClock(databaseClock{noon.Add(time.Hour), time.Now()}) // and ahead
	(<-e.events)()
	if rung != 1 || e.stats.ClockSteps.Load() != 2 {
		t.Errorf("it has rung %d times, and %d steps are counted, want 1 and 2", rung, e.stats.ClockSteps.Load())
	}
	// This machine's time of day is not looked at: only what its monotonic clock says has passed.
	e.clock = databaseClock{noon, time.Now().Add(-time.Minute)}
	if now := e.now().Sub(noon); now < time.Minute || now > time.Minute+time.Second {
		t.Errorf("a minute later it is %s later", now)
	}
}
