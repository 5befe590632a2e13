package chaos_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/tests/program"
)

// defense is one thing that keeps the ledger exact, and a scenario in which nothing else does.
type defense struct {
	name  string
	prove func(w *world)
	// broken are the invariants of which at least one must fail without it.
	broken []string
}

var defenses = []defense{
	{failpoint.Fence, aZombieWakes, []string{"I3 nothing is left of a run that lost",
		"I3 what a run emits is there once, in its transaction",
		"I3 executions and the ends of attempts are one to one, in one transaction",
		"I3 each attempt of a request has one execution at most"}},
	{failpoint.Derived, whatCausedARequestComesAgain,
		[]string{"I1 each scheduled version of a function has exactly one request"}},
	{failpoint.Sorted, twoLead, []string{"I13 batches never deadlock"}},
	{failpoint.Snapshot, anOldTransactionCommitsLate,
		[]string{"I1 each scheduled version of a function has exactly one request",
			"I5 policies emit for each span what they say, once"}},
}

// Each defense holds its scenario, and without it the oracle goes red. What was seen stands in docs/chaos.md.
func TestEachDefenseIsNeeded(t *testing.T) {
	t.Parallel()
	for _, d := range defenses {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			d.prove(w)
			w.conclude()
		})
		t.Run("without "+d.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{more: []string{"LOGLINE_DISABLE=" + d.name}})
			d.prove(w)
			var found map[string][]string
			program.Eventually(t, "the oracle goes red", func() bool {
				found = w.judge()
				return slices.ContainsFunc(d.broken, func(name string) bool { return len(found[name]) > 0 })
			})
			for _, name := range d.broken {
				if len(found[name]) > 0 {
					t.Logf("without %s: %s: %d rows, the first: %s", d.name, name, len(found[name]), found[name][0])
				}
			}
		})
	}
}

// functions are n scheduled functions of one transaction that emit a note each.
func (w *world) functions(n int) []columns {
	var rows []columns
	for range n {
		rows = append(rows, w.scheduled(w.random, alice, 1).rows[0])
	}
	return rows
}

// awaitEnded returns when n requests have ended.
func (w *world) awaitEnded(n int) {
	w.t.Helper()
	program.Eventually(w.t, "requests have ended", func() bool {
		ended, err := ask[int](w, `select count(*) from ledger.universal_registry
			where entity_type = 'request' and status in ('complete', 'error', 'cancelled', 'dead')`)
		return err == nil && ended >= n
	})
}

// aZombieWakes: a leader is frozen between a run and its commit, another one takes over and dies, and then
// the first one commits what it has: awake it waits for that until it leads again. The runs last, so that
// their requests stand by then: what nobody has seen is not committed by a zombie at all.
func aZombieWakes(w *world) {
	w.plan(0)
	zombie := w.add("zombie", "LOGLINE_FAILPOINTS="+failpoint.RunEnded+"=stop")
	w.leader()
	heir := w.add("heir")
	rows := w.functions(5)
	for _, c := range rows {
		c["code"] = "for (let i = 0, n = 0; i < 3e6; i++) n += i;\n" + c["code"].(string)
	}
	w.insert(alice, rows...)
	program.Eventually(w.t, "the zombie is frozen", func() bool { return zombie.said("does=stop") > 0 })
	zombie.sql.reset() // the server learns at once what it would find out in seconds
	zombie.replication.reset()
	w.awaitEnded(5)
	heir.Kill()
	zombie.Send(syscall.SIGCONT)
	program.Eventually(w.t, "the zombie loses a fence, and counts it", func() bool {
		return zombie.metric("logline_fences_lost_total") > 0
	})
	zombie.more = nil
}

// whatCausedARequestComesAgain: a sidecar is killed after it has made a request, before the cursor says so.
func whatCausedARequestComesAgain(w *world) {
	w.plan(0)
	s := w.add("a")
	w.leader()
	s.Kill()
	s.start("LOGLINE_FAILPOINTS=" + failpoint.RequestCommitted + "=kill")
	w.leader()
	w.insert(alice, w.functions(5)...)
	program.Eventually(w.t, "it is killed", s.HasEnded)
	s.start()
	w.awaitEnded(5)
	w.awaitProbe()
}

// twoLead: two sidecars read the whole ledger at once, each by a slot of its own, and do the same.
func twoLead(w *world) {
	// Each row of the engine's takes a moment, so that the two write at the same time and not in turn.
	w.exec(`create function public.take_a_moment() returns trigger language plpgsql as $$
		begin perform pg_sleep(0.002); return new; end $$`)
	w.exec(`create trigger zz_take_a_moment before insert on ledger.universal_registry for each row
		when (new.who like 'kernel:%') execute function public.take_a_moment()`)
	// The sidecars wait less long for a lock than the server waits before it looks for a deadlock.
	w.exec(`do $$ begin
		execute format('alter database %I set deadlock_timeout = %L', current_database(), '10ms');
	end $$`)
	w.add("a")
	w.add("b", "LOGLINE_SLOT=other")
	program.Eventually(w.t, "both lead", func() bool {
		return w.sidecars[0].leads() && w.sidecars[1].leads()
	})
	w.plan(60).start()
	for range 3 {
		w.insert(alice, w.functions(50)...)
	}
	w.load.wait()
	w.awaitEnded(150)
}

// anOldTransactionCommitsLate: a transaction is older than what the cursor has seen, and commits when the
// slot is gone.
func anOldTransactionCommitsLate(w *world) {
	w.plan(0)
	s := w.add("a")
	w.leader()
	var xid string
	err := w.as(w.t.Context(), alice, func(tx pgx.Tx) error {
		if err := tx.QueryRow(w.t.Context(), "select pg_current_xact_id()::text").Scan(&xid); err != nil {
			return err
		}
		for _, c := range append(w.functions(1), spanOf(w.random, "order", nil)) {
			if err := insertIn(w.t.Context(), tx, c); err != nil {
				return err
			}
		}
		w.insert(alice, w.functions(5)...)
		program.Eventually(w.t, "the cursor has passed it", func() bool {
			passed, err := ask[bool](w, `select exists (select from engine.cursor
				where pg_snapshot_xmax(snapshot) > $1::xid8)`, xid)
			return err == nil && passed
		})
		s.Kill()
		w.awaitSlotFree()
		w.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.start()
	w.awaitEnded(5)
	w.awaitProbe()
}

// A sidecar may be frozen for longer than anybody waits for it: it loses all that it had under way.
func TestAFrozenLeaderLosesEveryFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.leader()
	w.add("b")
	l := w.plan(40)
	l.release(0.5)
	l.start()
	w.insert(alice, w.scheduled(w.random, alice, 0, columns{"code": slow}).rows[0])
	frozen := w.leader()
	frozen.Send(syscall.SIGSTOP)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil && !w.isLedWithout(frozen) {
		pass(ctx, pollEvery)
	}
	t.Logf("taken over from a frozen leader in %d ms", time.Since(began).Milliseconds())
	w.awaitProbe()
	// What the frozen one has left open must not hold up its heir. Others share the machine: the bound is wide.
	took := time.Since(began)
	if t.Logf("the next run ended after %d ms", took.Milliseconds()); took > 20*time.Second {
		t.Errorf("the next run after a frozen leader ended after %s", took)
	}
	l.release(1)
	frozen.Send(syscall.SIGCONT)
	w.conclude()
}

// isLedWithout reports whether a sidecar other than this one leads.
func (w *world) isLedWithout(but *sidecar) bool {
	return slices.ContainsFunc(w.sidecars, func(s *sidecar) bool { return s != but && s.leads() })
}
