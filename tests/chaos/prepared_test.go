package chaos_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/program"
)

// Transactions that are prepared and committed later, whatever happens meanwhile, have their effects once;
// those that are rolled back have none.
func TestPreparedTransactionsAreSeenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: map[string]string{"max_prepared_transactions": "10"}})
	w.add("a")
	w.add("b")
	var kept, gone []string
	prepared := func(name string, meanwhile func()) fault {
		return fault{"prepared, " + name, func(w *world) {
			number := len(kept)
			kept = append(kept, w.prepare(fmt.Sprint("kept", number)))
			gone = append(gone, w.prepare(fmt.Sprint("gone", number)))
			meanwhile()
			w.exec(fmt.Sprintf("commit prepared 'kept%d'", number))
			w.exec(fmt.Sprintf("rollback prepared 'gone%d'", number))
		}}
	}
	w.storm(120, []fault{
		prepared("and nothing else", func() { w.pass(500 * time.Millisecond) }),
		prepared("kill -9 of the leader", func() { w.leader().strike() }),
		prepared("Postgres crashes", w.crashPostgres),
		prepared("the cursor is lost", faultNamed("the cursor is lost").withIn(w)),
		prepared("the slot is dropped", func() { // a new one waits for them: the leader polls meanwhile
			w.dropSlot()
			w.leader()
			w.pass(time.Second) // of the load
		}),
		prepared("all sidecars and the slot are gone", func() { // until the end: the cursor alone knows
			w.leader()
			w.insert(alice, w.functions(5)...)
			program.Eventually(t, "the cursor has passed what is prepared", func() bool {
				passed, err := ask[bool](w, `select bool_and(exists (
						select from engine.cursor where pg_snapshot_xmax(snapshot) > transaction::text::xid8
					)) from pg_prepared_xacts`)
				return err == nil && passed
			})
			w.killAll()
			w.dropSlot() // where a dead one's session still makes it, that waits for what is prepared: it is ended
		}),
	})
	w.conclude()
	for i := range kept {
		if ran, alsoRan := w.runsOf(kept[i]), w.runsOf(gone[i]); ran != 1 || alsoRan != 0 {
			t.Errorf("seed %d: %d runs of function %d, whose transaction was committed, and %d of the one beside it",
				w.seed, ran, i, alsoRan)
		}
	}
}

// withIn is the fault in a world.
func (f fault) withIn(w *world) func() { return func() { f.do(w) } }

// prepare prepares a transaction of alice with a function, which it returns, and an order.
func (w *world) prepare(name string) string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(w.t.Context())) }()
	tx, err := conn.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	function := w.scheduled(w.random, alice, 1).rows[0]
	for _, c := range []columns{function, spanOf(w.random, "order", nil)} {
		c["owner_id"], c["tenant_id"], c["who"] = alice.sub, alice.tenant, "user:alice"
		if err := insertIn(w.t.Context(), tx, c); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := tx.Exec(w.t.Context(), "prepare transaction '"+name+"'"); err != nil {
		w.t.Fatalf("prepare a transaction: %v", err)
	}
	return fmt.Sprint(function["id"])
}
