package sqlrules

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var update = flag.Bool("update", false, "write sql/src/84_walls.sql anew from a new ledger")

const wallsHead = `-- 84 walls: what guard_check expects to stand. Generated from a new ledger; do not edit. After a change of a
-- table, view, function, trigger, policy, index or grant:
--     go run ./scripts/sqlbuild && go test ./tests/sqlrules -run TestWallsAreAsBuilt -update
--     go run ./scripts/sqlbuild

create or replace function ledger_private.built_walls()
returns table (kind text, name text, stands text)
language plpgsql
stable
security invoker
set search_path = ''
as $$
begin
    return query
    values
`

const wallsTail = `;
end
$$;

comment on function ledger_private.built_walls() is
    'Every wall of the ledger as it was built, in the form of standing_walls. For guard_check.';
`

// What guard_check compares with is what a new ledger is, on every version of Postgres.
func TestWallsAreAsBuilt(t *testing.T) {
	t.Parallel()
	l := setup(t)
	rows, err := l.conn.Query(t.Context(), `select kind, name, stands from ledger_private.standing_walls()
		order by kind, name collate "C"`)
	if err != nil {
		t.Fatalf("query walls: %v", err)
	}
	walls, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var wall [3]string
		if err := row.Scan(&wall[0], &wall[1], &wall[2]); err != nil {
			return "", err
		}
		for i := range wall {
			wall[i] = "'" + strings.ReplaceAll(wall[i], "'", "''") + "'"
		}
		return fmt.Sprintf("        (%s, %s, %s)", wall[0], wall[1], wall[2]), nil
	})
	if err != nil {
		t.Fatalf("read walls: %v", err)
	}
	const path = "../../sql/src/84_walls.sql"
	text := wallsHead + strings.Join(walls, ",\n") + wallsTail
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if committed := string(read(t, path)); committed != text {
		t.Errorf("%s is stale; its head says what to type\n%s", path, diff(committed, text))
	}
}

// diff lists the lines that only one of two texts has.
func diff(want, got string) string {
	before, after := strings.Split(want, "\n"), strings.Split(got, "\n")
	return "missing:\n" + strings.Join(difference(before, after), "\n") +
		"\nextra:\n" + strings.Join(difference(after, before), "\n")
}
