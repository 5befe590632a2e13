package sqlrules

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/supabase"
)

// finding is one row of guard_check.
type finding struct{ Wall, Problem, Mend string }

type querier interface {
	Query(ctx context.Context, statement string, arguments ...any) (pgx.Rows, error)
}

func guardCheck(t testing.TB, q querier) []finding {
	t.Helper()
	rows, err := q.Query(t.Context(), "select wall, problem, mend from ledger.guard_check()")
	if err != nil {
		t.Fatalf("check the walls: %v", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[finding])
	if err != nil {
		t.Fatalf("check the walls: %v", err)
	}
	return found
}

func wantWallsStand(t *testing.T, q querier) {
	t.Helper()
	for _, f := range guardCheck(t, q) {
		t.Errorf("%s %s\n\tmend: %s", f.Wall, f.Problem, f.Mend)
	}
}

// mend does what the findings say until there are none, at most three times: one mend may need another. A mend
// that ends with a full stop is for a person; of these the test can only run the migration again.
func mend(t *testing.T, tx pgx.Tx) {
	t.Helper()
	for range 3 {
		found := guardCheck(t, tx)
		again := slices.ContainsFunc(found, func(f finding) bool {
			return strings.Contains(f.Mend, "migration again")
		})
		if again {
			execute(t, tx.Conn(), newestMigration(t))
			continue
		}
		for _, f := range found {
			if !strings.HasSuffix(f.Mend, ".") {
				execute(t, tx.Conn(), []byte(f.Mend))
			}
		}
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

func TestNewLedgerStands(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, who := range []actor{engine, service, owner} {
		if err := l.in(who, func(tx pgx.Tx) error {
			wantWallsStand(t, tx)
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	for _, who := range []actor{anon, alice, governor, {role: "loglineos_kernel"}} {
		wantCode(t, l.do(who, "select ledger.guard_check()"), "42501")
	}
}

// The catalog says the same of a new ledger on every version of Postgres.
func TestWallsAreAsBuilt(t *testing.T) {
	t.Parallel()
	l := setup(t)
	wantLines(t, lines(l, `select concat_ws(' ', kind, name, 'built', b.stands, 'stands', s.stands)
		from ledger_private.built_walls() b full join ledger_private.standing_walls() s using (kind, name)
		where s.stands is distinct from b.stands order by 1`))
}

// attack is what the owner of the ledger, or a superuser, does to it; walls are those that must be named then.
type attack struct {
	name, do string
	walls    []string
	byHand   string // what mends it where guard_check can only say what to do
}

// attackAll runs each attack in a transaction of its own: it must be named, and the mends must mend it.
func attackAll(t *testing.T, conn *pgx.Conn, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			execute(t, conn, []byte(a.do))
			found := guardCheck(t, tx)
			for _, wall := range a.walls {
				if !slices.ContainsFunc(found, func(f finding) bool { return f.Wall == wall }) {
					t.Errorf("%s is not named, but %q", wall, found)
				}
			}
			if a.byHand != "" {
				execute(t, conn, []byte(a.byHand))
			}
			mend(t, tx)
			wantWallsStand(t, tx)
		})
	}
}
