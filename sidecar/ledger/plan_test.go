package ledger

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// scanOfRows is a line of a plan that reads the rows r, by which index.
var scanOfRows = regexp.MustCompile(`(?m)^.*Scan.*?(?: using (\w+))? on universal_registry r(?:_\d+)?$`)

// planOf returns how the sidecar's sessions run a statement, after another.
func planOf(t *testing.T, l *Ledger, before, sql, types, args string) string {
	t.Helper()
	tx, err := l.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	for _, statement := range []string{before, "prepare looked" + types + " as " + sql} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = tx.Exec(context.Background(), "deallocate looked") }()
	return explained(t, tx, args)
}

// explained returns the plan of the prepared statement looked.
func explained(t *testing.T, tx pgx.Tx, args string) string {
	t.Helper()
	rows, err := tx.Query(t.Context(), "explain (costs off) execute looked ("+args+")")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// Whatever the statistics say, or where there are none: a walk through what others have, or a look at all
// that a tenant ever had, costs seconds in a large ledger.
func TestOpenRequestsAreReadByTheirIndexAlone(t *testing.T) {
	t.Parallel()
	lay := func(entityType, tenants, status, parent string) []string {
		return []string{`insert into ledger.universal_registry (id, entity_type, who, owner_id, tenant_id,
				visibility, status, name, language, code)
			values ('` + idOf(1).String() + `', 'function', 'user:alice', 'alice', 't1', 'public', 'active', 'f',
				'javascript', 'return 1;')`,
			`insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status, parent_id)
			select '` + entityType + `', 'user:alice', 'alice', 't' || n % ` + tenants + `, ` + status + `,
				` + parent + `
			from generate_series(1, 5000) n`,
			"analyze ledger.universal_registry"}
	}
	function := "'" + idOf(1).String() + "'"
	for name, statements := range map[string][]string{
		"no statistics":   nil,
		"one tenant":      lay("request", "1", "'scheduled'", function),
		"tenants in turn": lay("request", "1000", "'scheduled'", function),
		"no requests":     lay("note", "20", "null", "null"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, owner := setup(t, 2)
			for _, statement := range statements {
				exec(t, owner, statement)
			}
			if err := l.AdvanceMarks(t.Context()); err != nil { // makes them
				t.Fatal(err)
			}
			page := "'t1', '0', '" + idOf(0).String() + "', 20"
			for what, plan := range map[string]string{
				"a page":            planOf(t, l, byOrderSQL, openPageSQL, "(text, text, text, int)", page),
				"tenants":           planOf(t, l, byOrderSQL, openTenantsSQL(ownMark), "(text, int)", "'', 9"),
				"tenants, no marks": planOf(t, l, byOrderSQL, openTenantsSQL(noMark), "(text, int)", "'', 9"),
				"marks":             planOf(t, l, byOrderSQL, advanceSQL, "(text, int)", "'', 9"),
			} {
				scans := scanOfRows.FindAllStringSubmatch(plan, -1)
				isOther := func(scan []string) bool { return scan[1] != "universal_registry_open_idx" }
				if len(scans) == 0 || slices.ContainsFunc(scans, isOther) || strings.Contains(plan, "JIT") {
					t.Errorf("%s:\n%s", what, plan)
				}
			}
		})
	}
}

// A caller's first run of a function with a million open requests does not walk through those, nor through
// all that the caller ever had: a plan that was made in a new ledger is kept while that grows.
func TestTheLastRunsAreReadByTheirIndexAlone(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string]int{"an empty ledger": 0, "a new ledger": 200, "some": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, owner := setup(t, 2)
			exec(t, owner, fmt.Sprintf(`insert into ledger.universal_registry (entity_type, name, status, who,
					owner_id, tenant_id)
				select 'function', 'f', 'draft', 'user:alice', 'alice', 'acme' from generate_series(1, %d)`, rows))
			exec(t, owner, `insert into ledger.universal_registry (entity_type, status, who, owner_id, tenant_id,
					parent_id)
				select 'request', 'scheduled', 'user:alice', 'alice', 'acme', id
				from ledger.universal_registry where entity_type = 'function' and owner_id = 'alice'`)
			plan := planOf(t, l, byOrderSQL, lastRunsSQL, "(uuid[], text[], text[], int8[])", "'{}', '{}', '{}', '{}'")
			if !regexp.MustCompile(`Index Cond: .*parent_id.*owner_id.*entity_type`).MatchString(plan) {
				t.Error(plan)
			}
		})
	}
}

// Rows go in as they come from the arrays, sorted by their keys: nothing that may put them in another order
// lies between, whatever the server believes of how many there are.
func TestRowsAreWrittenInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	first := note(t, idOf(1), request)
	sql, args := newBatch([]Group{{Fence: first, Rows: []*span.Span{next(t, first, "complete")}}}).statement()
	for _, before := range []string{"select", "set local enable_hashjoin = off", "set local enable_sort = off",
		"set local work_mem = '64kB'"} {
		plan := planOf(t, l, before, sql, "", strings.Repeat("'{}', ", len(args)-1)+"'{}'")
		for _, step := range []string{"Join", "Nested Loop", "Sort", "Gather"} {
			if strings.Contains(plan, step) {
				t.Errorf("%s: a %s lies between: %s", before, step, plan)
			}
		}
		if strings.Count(plan, "Function Scan on i") != 2 {
			t.Errorf("%s: the arrays are not read twice: %s", before, plan)
		}
	}
}
