package sqlrules

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// finding is one row of guard_check.
type finding struct{ Wall, Problem, Mend string }

func guardCheck(l *ledger, who actor) []finding {
	l.t.Helper()
	var found []finding
	err := l.in(who, func(tx pgx.Tx) error {
		rows, err := tx.Query(l.t.Context(), "select wall, problem, mend from ledger.guard_check()")
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[finding])
		return err
	})
	if err != nil {
		l.t.Fatalf("check the walls: %v", err)
	}
	return found
}

func wantWallsStand(l *ledger) {
	l.t.Helper()
	for _, f := range guardCheck(l, engine) {
		l.t.Errorf("%s %s\n\tmend: %s", f.Wall, f.Problem, f.Mend)
	}
}

// mend does what the findings say, until there are none.
func mend(l *ledger, found []finding) {
	l.t.Helper()
	for _, f := range found {
		if strings.Contains(f.Mend, "migration again") {
			execute(l.t, l.conn, newestMigration(l.t))
			return
		}
	}
	for _, f := range found {
		execute(l.t, l.conn, []byte(f.Mend))
	}
}

func TestNewLedgerStands(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, who := range []actor{engine, service, owner} {
		if found := guardCheck(l, who); len(found) > 0 {
			t.Errorf("%s finds %v", who.role, found)
		}
	}
	for _, who := range []actor{anon, alice, governor, {role: "loglineos_kernel"}} {
		wantCode(t, l.do(who, "select ledger.guard_check()"), "42501")
	}
}

func newestMigration(t testing.TB) []byte { return nil }

func TestTiming(t *testing.T) {
	l := setup(t)
	for range 5 {
		t.Log(ask[string](l, owner, "select (select string_agg(t::text, '') from ledger.guard_check() t) || clock_timestamp()"))
	}
	rows, _ := l.conn.Query(t.Context(), "explain (analyze, timing on) select * from ledger.guard_check()")
	s, _ := pgx.CollectRows(rows, pgx.RowTo[string])
	t.Log(strings.Join(s, "\n"))
	rows, _ = l.conn.Query(t.Context(), "explain (analyze, timing on) select * from ledger.guard_check()")
	s, _ = pgx.CollectRows(rows, pgx.RowTo[string])
	t.Log(strings.Join(s, "\n"))
}
