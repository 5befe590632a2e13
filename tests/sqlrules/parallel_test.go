package sqlrules

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A function that says it may run in a parallel worker calls none that may not, nor reads under policies,
// which do: the accessors of 10_identity open a subtransaction, which Postgres 15 and 16 refuse there.
func TestParallelSafeFunctionsCallNoOther(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const ours = `array['ledger'::regnamespace, 'ledger_private'::regnamespace]`
	wantLines(t, lines(l, `select a.oid::regprocedure || ' calls ' || b.oid::regprocedure
		from pg_proc a join pg_proc b on b.proparallel <> 's' and b.pronamespace = any(`+ours+`)
		where a.proparallel = 's' and a.pronamespace = any(`+ours+`)
			and a.prosrc ~ ('[.]' || b.proname || '[[:space:]]*[(]')
		union all
		select oid::regprocedure || ' reads the ledger' from pg_proc
		where proparallel = 's' and pronamespace = any(`+ours+`)
			and prosrc ~ 'ledger[.](universal_registry|visible_timeline|history|function_state)'
		order by 1`))
	if n := ask[int](l, owner, `select count(*) from pg_proc
		where proparallel = 's' and pronamespace = any(`+ours+`)`); n < 5 {
		t.Errorf("%d functions are safe: the test shows nothing", n)
	}
}

// What a planner that wants workers everywhere makes of the reading doors, for each reader.
func TestReadsUnderForcedParallelPlans(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "function", "status", "active", "visibility", "tenant")
	l.given(alice, "id", id(1), "seq", 1, "entity_type", "function", "status", "active", "visibility", "tenant")
	l.given(alice, "id", id(2), "entity_type", "request", "status", "scheduled", "parent_id", id(1))
	setting := "debug_parallel_query"
	if ask[int](l, owner, "select current_setting('server_version_num')::int / 10000") < 16 {
		setting = "force_parallel_mode"
	}
	for _, who := range []actor{alice, ann, service, engine, owner, kernelFor("alice", "t1")} {
		for _, query := range []string{"select * from ledger.as_of(now(), p_tenant_id => 't1')",
			"select * from ledger.result('" + id(2) + "')", "select * from ledger.visible_timeline",
			"select * from ledger.history", "select * from ledger.function_state",
			"select ledger_private.is_superseded(id, seq) from ledger.universal_registry",
			"select ledger.current_user_id(), ledger.current_tenant_id(), ledger.is_governor()"} {
			err := l.in(who, func(tx pgx.Tx) error {
				for _, statement := range []string{"set local " + setting + " = on", "set local parallel_setup_cost = 0",
					"set local min_parallel_table_scan_size = 0", query} {
					if _, err := tx.Exec(t.Context(), statement); err != nil {
						return fmt.Errorf("%s: %w", statement, err)
					}
				}
				return nil
			})
			wantCode(t, err, "")
		}
	}
}
