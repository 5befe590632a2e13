package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// The clock of the database's machine goes two hours ahead, back, and ahead again, while timers and schedules
// are pending: what falls due runs once, nothing comes early, and nothing comes a second time.
func TestNothingIsLostOrDoubledByAClockThatJumps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	setClock := w.fakeClock()
	w.plan(0)
	w.add("a")
	w.leader()
	w.add("b")
	in := func(interval string) string {
		function := w.scheduled(w.random, alice, 0, columns{
			"scheduled_at": one[string](w, "select (now() + $1::text::interval)::text", interval)}).rows[0]
		w.insert(alice, function)
		return fmt.Sprint(function["id"])
	}
	began := one[string](w, "select now()::text")
	soon, late := in("1 hour"), in("3 hours")
	recurring := w.scheduled(w.random, alice, 0, columns{"status": "active", "metadata": columns{
		"schedule": columns{"cron": "*/5 * * * *", "fill": "all", "fill_max": 100}}}).rows[0]
	w.insert(alice, recurring)
	recurs := fmt.Sprint(recurring["id"])
	w.awaitProbe()

	setClock("+2h")
	w.awaitProbe() // a row of that time tells the leader
	ahead := one[string](w, "select now()::text")
	program.Eventually(t, "what fell due has run", func() bool {
		ticks, missed := w.ticksOf(recurs, began, ahead)
		return missed == 0 && w.runsOf(soon) == 1 && w.runsOf(recurs) == ticks
	})

	setClock("+0")
	w.awaitProbe()
	dead := w.leader()
	dead.Kill() // whose beats are of a time that is still to come
	program.Eventually(t, "the other one leads", func() bool { return w.isLedWithout(dead) })
	now, again := in("1 second"), in("1 hour")
	program.Eventually(t, "what falls due now runs", func() bool { return w.runsOf(now) == 1 })

	setClock("+2h") // over the same ticks once more
	w.awaitProbe()
	program.Eventually(t, "what falls due has run", func() bool { return w.runsOf(again) == 1 })

	recurring["seq"], recurring["status"] = 1, "archived"
	w.insert(alice, recurring)
	w.conclude()
	ticks, wrong := w.ticksOf(recurs, began, ahead)
	if n := w.runsOf(recurs); wrong > 0 || ticks < 24 || n < ticks || n > ticks+1 { // one is due while this runs
		t.Errorf("seed %d: of %d ticks %d have not one request; %d runs", w.seed, ticks, wrong, n)
	}
	if w.runsOf(soon) != 1 || w.runsOf(late) != 0 {
		t.Errorf("seed %d: %d runs of what was due in an hour, %d of what is due in three", w.seed, w.runsOf(soon),
			w.runsOf(late))
	}
}

// ticksOf counts the five minutes between two times, and those of them that have not one request of a
// function.
func (w *world) ticksOf(function, from, to string) (ticks, wrong int) {
	w.t.Helper()
	if err := w.owner.QueryRow(w.t.Context(), `select count(*), count(*) filter (where r.requests <> 1) from (
			select (
				select count(*) from ledger.universal_registry r
				where r.entity_type = 'request' and r.seq = 0 and r.parent_id = $1::text::uuid and r.at = tick
			) as requests
			from generate_series(date_bin('5 min', $2::text::timestamptz, 'epoch') + interval '5 min',
				$3::text::timestamptz, '5 min') as tick
		) as r`, function, from, to).Scan(&ticks, &wrong); err != nil {
		w.t.Fatal(err)
	}
	return ticks, wrong
}

// runsOf counts the executions of a function.
func (w *world) runsOf(function string) int {
	w.t.Helper()
	return one[int](w, `select count(*) from ledger.universal_registry
		where entity_type = 'execution' and parent_id = $1::text::uuid`, function)
}

// fakeClock has the server start anew with a clock that goes wrong by what the function that it returns is
// told.
func (w *world) fakeClock() (set func(offset string)) {
	w.t.Helper()
	program.Find(w.t, "faketime")
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(libraries) == 0 {
		program.Lacking(w.t, "libfaketime.so.1", "libfaketime")
	}
	dir := pgtest.Dir(w.t)
	offset, server := filepath.Join(dir, "offset"), w.cluster.Server
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			w.t.Fatal(err)
		}
	}
	set = func(by string) {
		write(offset+".new", by+"\n", 0o644)
		if err := os.Rename(offset+".new", offset); err != nil {
			w.t.Fatal(err)
		}
	}
	set("+0")
	write(filepath.Join(dir, "postgres"), fmt.Sprintf("#!/bin/sh\nexport LD_PRELOAD=%s "+
		"FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"+
		"exec %s/postgres \"$@\"\n", libraries[0], offset, server.Bin), 0o755)
	w.stopPostgres(syscall.SIGINT)
	server.Bin = dir
	w.restartPostgres()
	return set
}
