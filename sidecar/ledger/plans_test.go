package ledger

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A plan that was made while the ledger was small does not outlive that, in any session, and without
// statistics.
func TestPlansAreMadeAnewAsTheLedgerGrows(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	exec(t, conn, "alter table ledger.universal_registry set (autovacuum_enabled = off)")
	// eachSession asks every session of the pool; what one prepares stays there.
	eachSession := func(ask func(tx pgx.Tx)) {
		t.Helper()
		for range 2 {
			tx, err := l.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			ask(tx)
		}
	}
	run := func(tx pgx.Tx, statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if _, err := tx.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	const scan = "set local enable_seqscan = on; set local enable_indexscan = off; " +
		"set local enable_indexonlyscan = off; set local enable_bitmapscan = off"
	plan := func(tx pgx.Tx) string { return explained(t, tx, "'alice'") }
	eachSession(func(tx pgx.Tx) {
		run(tx, scan, `prepare looked(text) as
			select from ledger.universal_registry r where r.owner_id = $1 order by r.at desc limit 1`)
		if got := plan(tx); !strings.Contains(got, "Seq Scan") {
			t.Fatalf("the plan to begin with: %s", got)
		}
	})
	l.Grew(smallLedger - 1)
	eachSession(func(tx pgx.Tx) {
		if got := plan(tx); !strings.Contains(got, "Seq Scan") {
			t.Errorf("in a ledger that is small: %s; want the plan that was kept", got)
		}
	})
	for _, rows := range []int{1, 3 * smallLedger, 12 * smallLedger} {
		l.Grew(rows)
		eachSession(func(tx pgx.Tx) {
			if got := plan(tx); strings.Contains(got, "Seq Scan") {
				t.Errorf("after %d more rows: %s", rows, got)
			}
			run(tx, "discard plans", scan)
			if got := plan(tx); !strings.Contains(got, "Seq Scan") {
				t.Fatalf("the plan to go on with: %s", got)
			}
		})
	}
}
