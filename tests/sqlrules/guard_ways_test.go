package sqlrules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// oddNames are those under which something that does not belong there may hide.
var oddNames = []string{
	"universal_registry_before_insert_0_import", "universal_registry_pkey", "a to b", "x on y",
	`Odd "name" 'of' %s`, "%owner%", "x with grant option", "$1; -- x",
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// No name keeps an intruder from being found, whatever it is.
func TestFindsIntrudersByAnyName(t *testing.T) {
	t.Parallel()
	const table = "ledger.universal_registry"
	kinds := []struct{ kind, do string }{
		{"policy", "create policy %s on " + table + " for select to anon using (true)"},
		{"column", "alter table " + table + " add column %s text"},
		{"constraint", "alter table " + table + " add constraint %s check (seq >= 0)"},
		{"index", "create unique index %s on " + table + " (name)"},
		{"trigger", "create trigger %s instead of insert on ledger.history for each row " +
			"execute function ledger.refuse_change()"},
		{"trigger", "create trigger %s instead of delete on ledger.function_state for each row " +
			"execute function ledger.refuse_change()"},
		{"trigger", "create trigger %s before insert on " + table + " for each row " +
			"execute function ledger.refuse_change()"},
		{"rule", "create rule %s as on insert to " + table + " do instead nothing"},
		{"function", "create function ledger.%s() returns integer language sql return 1"},
		{"function", "create procedure ledger.%s() language plpgsql as 'begin end'"},
		{"function", "create function ledger_private.%s() returns integer language sql security definer return 1"},
	}
	var attacks []attack
	for _, k := range kinds {
		a := attack{name: k.do}
		for _, name := range oddNames {
			if name == "universal_registry_pkey" && (k.kind == "constraint" || k.kind == "index") {
				continue // that name is taken
			}
			a.do += fmt.Sprintf(k.do, ident(name)) + "; "
			if written := strings.Trim(ident(name), `"`); k.kind == "index" || k.kind == "function" {
				if strings.ContainsAny(name, ` %$`) {
					written = ident(name)
				}
				name = "ledger." + written
				if k.kind == "function" {
					name = strings.Fields(strings.ReplaceAll(k.do, ".", " "))[2] + "." + written + "()"
				}
			}
			a.walls = append(a.walls, k.kind+" "+name)
		}
		attacks = append(attacks, a)
	}
	attackAll(t, setup(t).conn, attacks)
}

// Every right on every object, given to every role that has no business with it, is named.
func TestFindsEveryRightThatIsGivenAway(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const odd = `"a to b"`
	objects := lines(l, `select 'table ' || c.oid::regclass from pg_class c where c.relkind in ('r', 'v')
			and c.relnamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		union all select 'function ' || oid::regprocedure from pg_proc
			where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		union all select 'schema ' || n from unnest('{ledger,ledger_private,engine}'::text[]) n`)
	if len(objects) < 30 {
		t.Fatalf("only %q", objects)
	}
	rights := map[string][]string{"function": {"execute"}, "schema": {"create", "usage"},
		"table": {"select", "insert", "update", "delete", "truncate", "references", "trigger"}}
	for _, role := range []string{"public", "anon", "authenticated", "service_role", "loglineos_kernel",
		"loglineos_sidecar", odd} {
		t.Run(role, func(t *testing.T) {
			option := " with grant option"
			if role == "public" {
				option = ""
			}
			do := "create role " + odd + "; "
			var walls []string
			for _, object := range objects {
				kind, _, _ := strings.Cut(object, " ")
				do += fmt.Sprintf("grant all on %s to %s%s; ", object, role, option)
				for _, right := range rights[kind] {
					walls = append(walls, fmt.Sprintf("right %s on %s to %s%s", right, object, role, option))
				}
			}
			do += "grant select (name), update (who, name) on ledger.history to " + role + option
			for _, column := range []string{"select on column name", "update on column name", "update on column who"} {
				walls = append(walls, "right "+column+" of ledger.history to "+role+option)
			}
			attackAll(t, l.conn, []attack{{name: "all", do: do, walls: walls}})
		})
	}
}

// A view, a copy that is kept, a function of the SQL standard, however far from the table.
func TestFindsWaysPastThePolicies(t *testing.T) {
	t.Parallel()
	const definer = "create view public.v as select * from "
	const invoker = "create view public.v with (security_invoker = true) as select * from "
	const grant = "; grant select on public.v to "
	view := []string{"view public.v"}
	attacks := []attack{
		{name: "over a view over a view", do: invoker + "ledger.history; create view public.w as select * " +
			"from public.v; grant select on public.w to authenticated", walls: []string{"view public.w"}},
		{name: "of a column", do: definer + "ledger.history; grant select (id) on public.v to anon", walls: view},
		{name: "for writing", do: definer + "ledger.universal_registry; grant insert on public.v to anon",
			walls: view},
		{name: "for a role of somebody's", walls: view,
			do: "create role reader; " + definer + "ledger.history" + grant + "reader"},
		{name: "kept", do: "create materialized view public.v as select id from ledger.history" + grant + "anon",
			walls: view},
		{name: "kept, of a view", do: invoker + "ledger.history; create materialized view public.m as select name " +
			"from public.v; grant select on public.m to public", walls: []string{"view public.m"}},
		{name: "kept, of a column", do: "create materialized view public.v as select id from ledger.history; " +
			"grant select (id) on public.v to authenticated", walls: view},
		{name: "kept in the ledger's schema", do: "create materialized view ledger.m as select id " +
			"from ledger.universal_registry; grant select on ledger.m to authenticated",
			walls: []string{"view ledger.m"}},
		{name: "option off", do: invoker + "ledger.history; alter view public.v set (security_invoker = off)" +
			grant + "anon", walls: view},
		{name: "by a function's tree", do: `create function public.f() returns bigint language sql stable
			begin atomic select count(*) from ledger.history; end;
			create view public.v as select public.f() as n` + grant + "anon", walls: view},
		{name: "definer of the SQL standard", do: `create function public.f() returns setof text language sql
			security definer begin atomic select name from ledger.universal_registry; end`,
			walls: []string{"function public.f()"}},
		{name: "definer over a view", do: invoker + `ledger.history; create function public.f() returns bigint
			language sql security definer return (select count(*) from public.v)`,
			walls: []string{"function public.f()"}},
		{name: "rule of another table", do: `create table public.x (i integer); create rule r as on insert
			to public.x do instead select * from ledger.universal_registry; grant insert on public.x to anon`,
			walls: []string{"rule r"}},
		{name: "a copy in the schema", do: `create table ledger.copy as select * from ledger.universal_registry;
			grant select on ledger.copy to authenticated`, walls: []string{"table ledger.copy"}},
		{name: "a column of a copy", do: `create table ledger.copy as select * from ledger.universal_registry;
			grant select (id) on ledger.copy to public`, walls: []string{"table ledger.copy"}},
		{name: "a foreign key that answers", do: `create table public.x (id uuid, seq integer, constraint asks
			foreign key (id, seq) references ledger.universal_registry);
			grant insert on public.x to authenticated`, walls: []string{"constraint asks"}},
		{name: "a foreign key with a column to write", do: `create table public.x (id uuid, seq integer,
			constraint asks foreign key (id, seq) references ledger.universal_registry);
			grant update (id) on public.x to anon`, walls: []string{"constraint asks"}},
		{name: "engine of another", do: "alter schema engine owner to loglineos_kernel",
			walls: []string{"schema engine"}},
	}
	for _, from := range []string{"universal_registry", "history", "visible_timeline", "function_state"} {
		for _, reader := range []string{"anon", "authenticated", "public", "loglineos_kernel",
			"authenticated with grant option"} {
			attacks = append(attacks, attack{name: from + " for " + reader, walls: view,
				do: definer + "ledger." + from + grant + reader})
		}
	}
	attackAll(t, setup(t).conn, attacks)
}

// Expressions of indexes and statistics run for each row that comes in, or is looked at.
func TestFindsForeignCodeOnTheWayIn(t *testing.T) {
	t.Parallel()
	const code = `create function public.tap(text) returns text language plpgsql immutable as 'begin return $1; end';
		create function public.holds(text, text) returns boolean language plpgsql immutable
			as 'begin return true; end'; `
	const index = "create index own on ledger.universal_registry "
	own := []string{"index ledger.own"}
	attackAll(t, setup(t).conn, []attack{
		{name: "expression", do: code + index + "(public.tap(name))", walls: own},
		{name: "predicate", do: code + index + "(name) where public.holds(name, who)", walls: own},
		{name: "unique", do: code + "create unique index own on ledger.universal_registry (id, seq, public.tap(name))",
			walls: own},
		{name: "SQL", do: `create function public.tap(text) returns text language sql immutable as 'select $1'; ` +
			index + "(public.tap(name))", walls: own},
		{name: "operator", do: code + `create operator public.=== (leftarg = text, rightarg = text,
			function = public.holds); ` + index + "((name operator(public.===) who))", walls: own},
		{name: "operator class", do: `create function public.compare(text, text) returns integer language plpgsql
				immutable as 'begin return bttextcmp($1, $2); end';
			create operator class public.odd for type text using btree as operator 1 <, operator 2 <=,
				operator 3 =, operator 4 >=, operator 5 >, function 1 public.compare(text, text); ` +
			index + "(name public.odd)", walls: own},
		{name: "domain", do: code + "create domain public.narrow as text check (public.holds(value, value)); " +
			index + "((name::public.narrow))", walls: own},
		{name: "statistics", do: code + `create statistics public.own on (public.tap(name)), who
			from ledger.universal_registry`, walls: []string{"statistics own"}},
		{name: "check", do: code + "alter table ledger.universal_registry add check (public.holds(name, who))",
			walls: []string{"constraint universal_registry_check"}},
	})
}

// How a session wants Postgres to write makes no wall fall.
func TestStandsUnderAnySettings(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, setting := range []string{
		"quote_all_identifiers = on", "standard_conforming_strings = off", "datestyle = 'German'",
		"intervalstyle = 'iso_8601'", "timezone = 'Asia/Kathmandu'", "bytea_output = 'escape'",
		"extra_float_digits = -15", "search_path = ledger, ledger_private, engine, public",
		"transform_null_equals = on", "array_nulls = off", "plan_cache_mode = force_generic_plan",
		"enable_seqscan = off", "lc_messages = 'C'", "jit_above_cost = 0",
	} {
		if err := l.in(owner, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "set local "+setting); err != nil {
				return err
			}
			found := guardCheck(t, tx)
			if len(found) > 0 {
				t.Errorf("%s: %q", setting, found)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// What does not lead past the policies is nobody's business.
func TestLetsHonestNeighborsBe(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, value := range []string{"1", "on", "yes", "true"} {
		if err := l.in(owner, func(tx pgx.Tx) error {
			execute(t, tx.Conn(), []byte(`
				create view public.v with (security_invoker = `+value+`) as select * from ledger.history;
				create view public.w with (security_invoker = `+value+`) as select * from public.v;
				grant select on public.v, public.w to anon, authenticated;
				create materialized view public.m as select count(*) from ledger.universal_registry;
				grant select on public.m to service_role;
				create function public.f() returns bigint language sql stable
					begin atomic select count(*) from ledger.history; end;
				create table ledger.beside (id uuid, seq integer, foreign key (id, seq)
					references ledger.universal_registry);
				alter table ledger.beside enable row level security;
				grant select on ledger.beside to authenticated;
				create index lower on ledger.universal_registry (lower(name)) where length(name) > 3;
				create index gin on ledger.universal_registry using gin (metadata jsonb_path_ops);
				create statistics public.both on owner_id, tenant_id from ledger.universal_registry`))
			found := guardCheck(t, tx)
			if len(found) > 0 {
				t.Errorf("%s: %q", value, found)
			}
			_, err := tx.Exec(t.Context(), "drop view public.v cascade; drop table ledger.beside cascade; "+
				"drop function public.f; drop materialized view public.m; drop index ledger.lower, ledger.gin; "+
				"drop statistics public.both")
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// wantNamed fails the test unless each wall is among the findings.
func wantNamed(t *testing.T, found []finding, walls ...string) {
	t.Helper()
	for _, wall := range walls {
		if !slices.ContainsFunc(found, func(f finding) bool { return f.Wall == wall }) {
			t.Errorf("%s is not named, but %q", wall, found)
		}
	}
}
