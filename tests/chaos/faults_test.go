package chaos_test

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/program"
)

// fault is one thing that goes wrong. do returns when it is over, or heals itself by what survives.
type fault struct {
	name string
	do   func(w *world)
}

// faults are those that any scenario may meet at any moment.
var faults = []fault{
	{"kill -9 of the leader", func(w *world) { w.leader().strike() }},
	{"kill -9 of any sidecar", func(w *world) { w.any().strike() }},
	{"SIGTERM of any sidecar", func(w *world) { w.any().stop() }},
	{"freeze for 2 s", func(w *world) { w.freeze(2 * time.Second) }},
	{"pg_ctl stop -m immediate", (*world).crashPostgres},
	{"the walsender is terminated", func(w *world) { w.terminate("backend_type = 'walsender'") }},
	{"every backend of the sidecars is terminated", func(w *world) {
		w.terminate("usename = 'loglineos_sidecar'")
	}},
	{"the slot is dropped", func(w *world) { w.dropSlot() }},
	{"the slot is made anew ahead of the cursor", (*world).recreateSlot},
	{"the slot is advanced behind the sidecars' back", (*world).advanceSlot},
	{"the cursor is lost", func(w *world) {
		w.killAll()
		w.dropEngine()
		w.heal()
	}},
	{"the schema engine is dropped while the leader works", func(w *world) {
		if one[bool](w, "select to_regprocedure('ledger_private.make_engine()') is not null") {
			w.dropEngine()
		}
	}},
	{"connections are reset", func(w *world) {
		s := w.any()
		s.sql.reset()
		s.replication.reset()
	}},
	{"the network is slow", func(w *world) { w.weather(weather{delay: 20 * time.Millisecond}, 2*time.Second) }},
	{"a black hole of SQL", func(w *world) {
		s := w.leader()
		s.sql.set(weather{holdUp: true, holdDown: true})
		w.pass(2 * time.Second)
		s.sql.set(weather{})
	}},
	{"a black hole of replication", func(w *world) {
		s := w.leader()
		s.replication.set(weather{holdUp: true, holdDown: true})
		w.pass(2 * time.Second)
		s.replication.set(weather{})
	}},
	{"acknowledgements are lost", func(w *world) {
		s := w.leader()
		s.replication.set(weather{holdUp: true})
		w.pass(2 * time.Second)
		s.replication.reset()
		s.replication.set(weather{})
	}},
	{"answers of commits are lost", func(w *world) {
		s := w.leader()
		s.sql.set(weather{holdDown: true})
		w.pass(time.Second)
		s.sql.reset()
		s.sql.set(weather{})
	}},
	{"connections are half open", func(w *world) {
		s := w.leader()
		s.sql.halfOpen()
		s.replication.halfOpen()
		w.pass(2 * time.Second)
		s.sql.set(weather{})
		s.replication.set(weather{})
	}},
	{"the database refuses connections", func(w *world) {
		s := w.leader()
		for _, p := range []*proxy{s.sql, s.replication} {
			p.set(weather{refuse: true})
			p.reset()
		}
		w.pass(time.Second)
		s.sql.set(weather{})
		s.replication.set(weather{})
	}},
	{"a transaction stays open", func(w *world) { w.holdOpen(w.db.URL, 2*time.Second, nil) }},
	{"the slot is dropped while a transaction stays open", func(w *world) {
		w.holdOpen(w.db.URL, 3*time.Second, w.dropSlot)
	}},
	{"the slot is dropped while another database holds a transaction open", func(w *world) {
		w.holdOpen(w.cluster.Server.URL("postgres"), 7*time.Second, w.dropSlot)
	}},
	{"a large transaction", func(w *world) { w.bulk(20_000, true) }},
	{"a large transaction is rolled back", func(w *world) { w.bulk(20_000, false) }},
	{"the table changes", (*world).alterTable},
}

// faultNamed finds one of them.
func faultNamed(name string) fault {
	for _, f := range faults {
		if f.name == name {
			return f
		}
	}
	panic("there is no fault " + name)
}

func (w *world) pass(d time.Duration) { pass(w.t.Context(), d) }

func (w *world) any() *sidecar { return w.sidecars[w.random.IntN(len(w.sidecars))] }

// strike kills the process and starts it anew.
func (s *sidecar) strike() {
	s.Kill()
	s.start()
}

// stop ends the process as an orchestrator does, and starts it anew.
func (s *sidecar) stop() {
	s.world.t.Helper()
	wasReady := s.Readiness().Phase != ""
	s.Send(syscall.SIGTERM)
	if code := s.Wait(); code != 0 && wasReady {
		s.world.t.Errorf("seed %d: SIGTERM ends %s with %d", s.world.seed, s.name, code)
	}
	s.start()
}

func (w *world) killAll() {
	for _, s := range w.sidecars {
		s.Kill()
	}
}

// freeze stops the leader's process for a while: where there are others, one of them takes over, and the
// leader wakes up as one who does not know.
func (w *world) freeze(d time.Duration) {
	w.t.Helper()
	s := w.leader()
	s.Send(syscall.SIGSTOP)
	w.pass(d)
	s.Send(syscall.SIGCONT)
}

func (w *world) terminate(which string) {
	w.t.Helper()
	w.exec("select pg_terminate_backend(pid) from pg_stat_activity where " + which)
}

// dropSlot drops the slot, however quickly somebody takes it again.
func (w *world) dropSlot() {
	w.t.Helper()
	program.Eventually(w.t, "the slot is dropped", func() bool {
		_, err := w.owner.Exec(w.t.Context(), `select pg_terminate_backend(active_pid, 1000)
			from pg_replication_slots where slot_name = 'loglineos' and active`)
		if err == nil {
			_, err = w.owner.Exec(w.t.Context(), `select pg_drop_replication_slot('loglineos')
				from pg_replication_slots where slot_name = 'loglineos'`)
		}
		return err == nil
	})
}

// awaitSlotFree returns when the slot is there and nobody reads it.
func (w *world) awaitSlotFree() {
	w.t.Helper()
	program.Eventually(w.t, "the slot is free", func() bool {
		free, err := ask[bool](w, `select coalesce(bool_and(not active), true) from pg_replication_slots
			where slot_name = 'loglineos'`)
		return err == nil && free
	})
}

func (w *world) recreateSlot() {
	w.t.Helper()
	w.killAll()
	w.awaitSlotFree()
	w.dropSlot()
	w.pass(300 * time.Millisecond) // of the load
	w.exec("select pg_create_logical_replication_slot('loglineos', 'pgoutput')")
	w.heal()
}

func (w *world) advanceSlot() {
	w.t.Helper()
	w.killAll()
	w.awaitSlotFree()
	w.pass(300 * time.Millisecond) // of the load
	w.exec(`select pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) from pg_replication_slots
		where slot_name = 'loglineos'`)
	w.heal()
}

// loseSlot has the server invalidate the slot, because it holds back more WAL than is allowed.
func (w *world) loseSlot() {
	w.t.Helper()
	w.killAll()
	w.awaitSlotFree()
	w.exec("alter system set max_slot_wal_keep_size = '1MB'")
	w.exec("select pg_reload_conf()")
	program.Eventually(w.t, "the slot is lost", func() bool {
		w.exec("select pg_logical_emit_message(false, 'chaos', repeat('x', 1000000)), pg_switch_wal()")
		w.exec("checkpoint")
		return one[bool](w, `select coalesce(bool_and(wal_status = 'lost'), true) from pg_replication_slots
			where slot_name = 'loglineos'`)
	})
	w.exec("alter system reset max_slot_wal_keep_size")
	w.exec("select pg_reload_conf()")
	w.heal()
}

// weather sets all proxies for a while.
func (w *world) weather(state weather, d time.Duration) {
	for _, s := range w.sidecars {
		s.sql.set(state)
		s.replication.set(state)
	}
	w.pass(d)
	for _, s := range w.sidecars {
		s.sql.set(weather{})
		s.replication.set(weather{})
	}
}

// holdOpen keeps a transaction that has written open for a while; in the ledger's database, its rows are a
// function and an order, which commit at the end.
func (w *world) holdOpen(databaseURL string, d time.Duration, meanwhile func()) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), databaseURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	hold := func() error {
		return pgx.BeginFunc(w.t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(w.t.Context(), "select pg_current_xact_id()"); err != nil {
				return err
			}
			if databaseURL == w.db.URL {
				for _, c := range []columns{w.scheduled(w.random, alice, 1).rows[0], spanOf(w.random, "order", nil)} {
					c["owner_id"], c["tenant_id"], c["who"] = alice.sub, alice.tenant, "user:alice"
					if err := insertIn(w.t.Context(), tx, c); err != nil {
						return err
					}
				}
			}
			if meanwhile != nil {
				meanwhile()
			}
			w.pass(d)
			return nil
		})
	}
	if err := hold(); err != nil {
		w.t.Errorf("seed %d: hold a transaction open: %v", w.seed, err)
	}
}

// bulk appends n spans in one transaction, with a function and an order at its end.
func (w *world) bulk(n int, isKept bool) {
	w.t.Helper()
	err := w.as(w.t.Context(), bob, func(tx pgx.Tx) error {
		if _, err := tx.Exec(w.t.Context(), `insert into ledger.universal_registry (entity_type, name, visibility)
			select 'bulk', 'chaos', 'private' from generate_series(1, $1)`, n); err != nil {
			return err
		}
		for _, c := range []columns{w.scheduled(w.random, bob, 1).rows[0], spanOf(w.random, "order", nil)} {
			if err := insertIn(w.t.Context(), tx, c); err != nil {
				return err
			}
		}
		if !isKept {
			return errAborted
		}
		return nil
	})
	if err != nil && isKept {
		w.t.Errorf("seed %d: append %d spans: %v", w.seed, n, err)
	}
}

// alterTable changes the table under the tail as its owner may.
func (w *world) alterTable() {
	w.t.Helper()
	name := fmt.Sprintf("chaos_%d", w.random.IntN(1_000_000))
	for _, statement := range []string{
		"alter table ledger.universal_registry add column " + name + " text",
		"create index " + name + "_idx on ledger.universal_registry (" + name + ")",
		"alter table ledger.universal_registry drop column " + name,
	} {
		w.exec(statement)
		w.pass(200 * time.Millisecond) // of the load
	}
	if _, err := w.owner.Exec(w.t.Context(), "truncate ledger.universal_registry"); err == nil {
		w.t.Errorf("seed %d: the ledger can be truncated", w.seed)
	}
}

// storm runs a load, and the faults in it: a part of the load before each, and a part during it.
func (w *world) storm(transactions int, planned []fault) {
	w.t.Helper()
	w.recur()
	l := w.plan(transactions)
	l.release(0)
	l.start()
	parts := float64(len(planned) + 1)
	for i, f := range planned {
		l.release((float64(i) + 0.5) / parts)
		l.await(float64(i) / parts)
		l.release(float64(i+1) / parts)
		w.t.Logf("%d of %d: %s", l.done.Load(), l.total, f.name)
		f.do(w)
	}
}
