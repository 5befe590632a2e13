package sqlrules

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/supabase"
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

// newestMigration is the one that guard_check means.
func newestMigration(t testing.TB) []byte {
	t.Helper()
	files, err := fs.Glob(supabase.Migrations, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("list migrations: %v, %d files", err, len(files))
	}
	return read(t, "../../supabase/"+slices.Max(files))
}

// The catalog says the same of a new ledger on every version of Postgres.
func TestWallsAreAsBuilt(t *testing.T) {
	t.Parallel()
	l := setup(t)
	wantLines(t, lines(l, `select concat_ws(' ', kind, name, 'built', b.stands, 'stands', s.stands)
		from ledger_private.built_walls() b full join ledger_private.standing_walls() s using (kind, name)
		where s.stands is distinct from b.stands order by 1`))
}
