package sqlrules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// doors are statements of a client that reach every guard, policy and view.
var doors = []string{
	`insert into ledger.universal_registry (id, entity_type, name, metadata, tags)
		values ('a0000000-0000-4000-9000-000000000001', 'note', 'x', '{"a":1}', '{a}')`,
	`insert into ledger.universal_registry (id, seq, entity_type, visibility)
		values ('a0000000-0000-4000-9000-000000000001', 1, 'note', 'tenant')`,
	`insert into ledger.universal_registry (entity_type, status, parent_id)
		values ('request', 'scheduled', 'a0000000-0000-4000-9000-000000000009')`,
	`select ledger.append(jsonb_build_object('when', now(), 'at', now()) || '{"entity_type":"note","seq":0,
		"idempotency_key":"k","tags":["a"],"metadata":{"device_id":"d"},"confidence":"0.5"}')`,
	`select ledger.append_batch('[{"entity_type":"note"},{"entity_type":"note","name":5},{"entity":"note"},
		{"entity_type":"note","seq":0.5}]')`,
	"select * from ledger.universal_registry",
	"select * from ledger.visible_timeline",
	"select * from ledger.history",
}

// A session may make types, domains and tables in its temporary schema, and with an empty search_path they
// come before those of pg_catalog. A domain's check would run as the owner of a definer function.
func TestTemporaryTypesAreNotLookedAt(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(owner, "id", id(9), "entity_type", "function", "status", "active", "owner_id", "system",
		"tenant_id", "system", "visibility", "public")
	config, err := pgx.ParseConfig(l.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { heard = append(heard, notice.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })

	run(t, conn, "begin")
	run(t, conn, "set local role authenticated")
	run(t, conn, "select set_config('request.jwt.claims', $1, true)", alice.claims)
	for _, name := range []string{"text", "uuid", "jsonb", "json", "bytea", "int4", "int8", "bool", "numeric",
		"timestamptz", "xid8", "name", "regclass", "oid"} {
		run(t, conn, fmt.Sprintf(`create function pg_temp.look(p pg_catalog.%s) returns pg_catalog.bool
			language plpgsql as $$ begin raise notice '%s is looked at by %%', current_user; return true; end $$`,
			name, name))
		run(t, conn, fmt.Sprintf("create domain pg_temp.%s as pg_catalog.%s check (pg_temp.look(value))", name, name))
	}
	for _, relation := range []string{"pg_class", "pg_proc", "pg_roles", "pg_trigger", "universal_registry"} {
		run(t, conn, "create temporary table "+relation+" (oid pg_catalog.oid, id pg_catalog.uuid)")
	}
	// The trap works: a function with an empty path falls into it.
	run(t, conn, `create function pg_temp.naive() returns pg_catalog.void language plpgsql set search_path = ''
		as $$ declare v text := 'x'; begin end $$`)
	run(t, conn, "select pg_temp.naive()")
	if len(heard) != 1 || !strings.HasPrefix(heard[0], "text is looked at") {
		t.Fatalf("the trap does not work: heard %q", heard)
	}
	heard = nil
	for _, statement := range doors {
		run(t, conn, statement)
	}
	for _, call := range callables(l, "authenticated") {
		run(t, conn, "savepoint call")
		_, _ = conn.Exec(t.Context(), call) // with nulls: refused or not, nothing may be looked at
		run(t, conn, "rollback to call")
	}
	if len(heard) > 0 {
		t.Errorf("heard %q", heard)
	}
}

// callables are calls with nulls of every function that role may execute.
func callables(l *ledger, role string) []string {
	return lines(l, `select format('select * from %s.%I(%s)', pronamespace::regnamespace, proname, (
			select string_agg(format('null::%s.%I', typnamespace::regnamespace, typname), ', ' order by a.place)
			from unnest(proargtypes) with ordinality as a (oid, place) join pg_type as t on t.oid = a.oid))
		from pg_proc where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		and prorettype <> 'trigger'::regtype and has_function_privilege('`+role+`', oid, 'execute') order by 1`)
}
