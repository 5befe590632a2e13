package ledger

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/supabase"
)

func TestWallsTellsWhatDoesNotStand(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	migrations, err := Migrations(supabase.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	newest := migrations[len(migrations)-1].SQL
	want := func(migration string, limit int, names ...string) {
		t.Helper()
		walls, n, err := l.Walls(t.Context(), migration, limit)
		if err != nil || len(walls) != min(limit, n) || n != len(names) {
			t.Fatalf("%d walls, %v, error %v; want %q", n, walls, err, names)
		}
		for i, wall := range walls {
			if wall.Name != names[i] || wall.Problem == "" || wall.Mend == "" {
				t.Errorf("wall %d is %+v, want %s", i, wall, names[i])
			}
		}
	}
	want(newest, 5)
	const row, statement = "universal_registry_before_change_row", "universal_registry_before_change_statement"
	exec(t, conn, "alter table ledger.universal_registry disable trigger "+row)
	exec(t, conn, "alter table ledger.universal_registry disable trigger "+statement)
	want(newest, 5, "trigger "+row, "trigger "+statement)
	want(newest, 1, "trigger "+row, "trigger "+statement)

	// What guard_check can not say of itself.
	exec(t, conn, `create or replace function ledger.guard_check() returns table (wall text, problem text, mend text)
		language plpgsql stable set search_path = pg_catalog, pg_temp as $$ begin end $$`)
	want(newest, 5, "function ledger.guard_check()")
	// A ledger of another version has other texts.
	want(strings.ReplaceAll(newest, "return '0.2.0';", "return '0.3.0';"), 5)
	exec(t, conn, "drop function ledger.guard_check()")
	if _, _, err := l.Walls(t.Context(), newest, 5); err == nil {
		t.Error("no error without ledger.guard_check")
	}
}
