package sqlrules

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const (
	theTable     = "table ledger.universal_registry"
	changeRow    = "universal_registry_before_change_row"
	changeAll    = "universal_registry_before_change_statement"
	admits       = "universal_registry_before_insert_1_admit"
	refuseChange = "function ledger.refuse_change()"
)

// dropViews takes away what holds on to the columns.
const dropViews = `do $$ declare v_view text; begin
	foreach v_view in array (select array_agg(oid::regclass::text) from pg_class
		where relnamespace = 'ledger'::regnamespace and relkind = 'v')
	loop execute 'drop view if exists ' || v_view || ' cascade'; end loop; end $$; `

func TestFindsFallenTriggers(t *testing.T) {
	t.Parallel()
	const onTable = " on ledger.universal_registry "
	attackAll(t, setup(t).conn, []attack{
		{name: "all disabled", do: "alter table ledger.universal_registry disable trigger all",
			walls: []string{"trigger " + changeRow, "trigger " + changeAll, "trigger " + admits}},
		{name: "one disabled", do: "alter table ledger.universal_registry disable trigger " + changeRow,
			walls: []string{"trigger " + changeRow}},
		{name: "not for a replica", do: "alter table ledger.universal_registry enable trigger " + admits,
			walls: []string{"trigger " + admits}},
		{name: "for a replica only", do: "alter table ledger.universal_registry enable replica trigger " + changeAll,
			walls: []string{"trigger " + changeAll}},
		{name: "dropped", do: "drop trigger " + changeAll + onTable, walls: []string{"trigger " + changeAll}},
		{name: "renamed", do: "alter trigger " + changeAll + onTable + "rename to x",
			walls: []string{"trigger " + changeAll, "trigger x"}},
		{name: "of another function", do: `
			create function public.x() returns trigger language plpgsql as $$ begin return new; end $$;
			create or replace trigger ` + changeRow + ` before update or delete` + onTable + `
				for each row execute function public.x();
			alter table ledger.universal_registry enable always trigger ` + changeRow,
			walls: []string{"trigger " + changeRow}},
		{name: "when false", do: `create or replace trigger ` + changeRow + ` before update or delete` + onTable + `
				for each row when (false) execute function ledger.refuse_change();
			alter table ledger.universal_registry enable always trigger ` + changeRow,
			walls: []string{"trigger " + changeRow}},
		{name: "no longer of deletes", do: `create or replace trigger ` + changeRow + ` before update` + onTable + `
				for each row execute function ledger.refuse_change();
			alter table ledger.universal_registry enable always trigger ` + changeRow,
			walls: []string{"trigger " + changeRow}},
		{name: "one that changes what comes in", do: `
			create function public.x() returns trigger language plpgsql
				as $$ begin new.who := 'x'; return new; end $$;
			create trigger zz before insert` + onTable + `for each row execute function public.x()`,
			walls: []string{"trigger zz"}},
		{name: "one that drops what comes in by a view", do: `
			create function public.x() returns trigger language plpgsql as $$ begin return null; end $$;
			create trigger zz instead of insert on ledger.history for each row execute function public.x()`,
			walls: []string{"trigger zz"}},
		{name: "import door", do: "select ledger.import_begin()",
			walls: []string{"trigger universal_registry_before_insert_0_import"}},
		{name: "pg_restore --disable-triggers", do: `alter table ledger.universal_registry disable trigger all;
			alter table ledger.universal_registry enable trigger all`,
			walls: []string{"trigger " + changeRow, "trigger " + changeAll, "trigger " + admits}},
	})
}

func TestFindsReplacedFunctions(t *testing.T) {
	t.Parallel()
	const head = "create or replace function ledger.refuse_change() returns trigger language plpgsql "
	const idle = " as $$ begin return new; end $$"
	attackAll(t, setup(t).conn, []attack{
		{name: "body", do: head + "set search_path = pg_catalog, pg_temp" + idle, walls: []string{refuseChange}},
		{name: "body of guard_check's own ear", do: `create or replace function ledger_private.standing_walls()
			returns table (kind text, name text, stands text) language plpgsql stable
			set search_path = pg_catalog, pg_temp as $$ begin return query
			select * from ledger_private.built_walls(); end $$`,
			walls: []string{"function ledger_private.standing_walls()"}},
		{name: "definer",
			do: "alter function ledger.refuse_change() security definer", walls: []string{refuseChange}},
		{name: "search_path", do: "alter function ledger.refuse_change() reset all", walls: []string{refuseChange}},
		{name: "search_path of another", do: "alter function ledger.refuse_change() set search_path = public",
			walls: []string{refuseChange}},
		{name: "volatility", do: "alter function ledger.current_user_id() immutable",
			walls: []string{"function ledger.current_user_id()"}},
		{name: "leakproof", do: "alter function ledger.current_user_id() leakproof",
			walls: []string{"function ledger.current_user_id()"}},
		{name: "strict", do: "alter function ledger.current_user_id() strict",
			walls: []string{"function ledger.current_user_id()"}},
		{name: "owner", do: "alter function ledger.follow_version() owner to loglineos_kernel",
			walls: []string{"function ledger.follow_version()"}},
		{name: "dropped with its triggers", do: "drop function ledger.refuse_change() cascade",
			walls: []string{refuseChange, "trigger " + changeRow, "trigger " + changeAll}},
		{name: "renamed", do: "alter function ledger.refuse_change() rename to x",
			walls: []string{refuseChange, "function ledger.x()"}},
		{name: "an overload that is called instead", do: `create function ledger.may_follow(
				varchar, text, text, text, boolean) returns boolean language sql as 'select true'`,
			walls: []string{"function ledger.may_follow(character varying,text,text,text,boolean)"}},
		{name: "a definer for clients", do: `create function ledger.everything() returns setof
				ledger.universal_registry language sql security definer
				as 'select * from ledger.universal_registry';
			grant execute on function ledger.everything() to anon`,
			walls: []string{"function ledger.everything()"}},
		{name: "a new identity", do: `create or replace function ledger.current_user_id() returns text
			language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
			as $$ begin return 'alice'; end $$`, walls: []string{"function ledger.current_user_id()"}},
	})
}

func TestFindsOpenedRows(t *testing.T) {
	t.Parallel()
	const policy = "universal_registry_select_authenticated"
	attackAll(t, setup(t).conn, []attack{
		{name: "row level security off", do: "alter table ledger.universal_registry disable row level security",
			walls: []string{theTable}},
		{name: "not forced", do: "alter table ledger.universal_registry no force row level security",
			walls: []string{theTable}},
		{name: "policy dropped", do: "drop policy " + policy + " on ledger.universal_registry",
			walls: []string{"policy " + policy}},
		{name: "policy opened", do: "alter policy " + policy + " on ledger.universal_registry using (true)",
			walls: []string{"policy " + policy}},
		{name: "policy for another", do: "alter policy " + policy + " on ledger.universal_registry to public",
			walls: []string{"policy " + policy}},
		{name: "policy that was added", do: `create policy open on ledger.universal_registry
			for select to anon using (true)`, walls: []string{"policy open"}},
		{name: "policy for deletes", do: `create policy open on ledger.universal_registry
			for delete to service_role using (true)`, walls: []string{"policy open"}},
		{name: "policies taken away by those whom they let in", do: "set local role authenticated; " +
			"drop owned by authenticated; set local role none", walls: []string{"policy " + policy,
			"policy universal_registry_insert_authenticated"}},
		{name: "restrictive", do: `create policy shut on ledger.universal_registry as restrictive
			for select to authenticated using (false)`, walls: []string{"policy shut"}},
		{name: "view without the reader's rights",
			do:    "alter view ledger.history set (security_invoker = false)",
			walls: []string{"view ledger.history"}},
		{name: "view with its options gone", do: "alter view ledger.history reset (security_invoker)",
			walls: []string{"view ledger.history"}},
		{name: "view replaced", do: `do $$ begin execute replace(replace(
				'create or replace view ledger.history with (security_invoker=true, security_barrier=true) as '
				|| pg_get_viewdef('ledger.history'::regclass), ';', ' where not is_deleted'), 'r.where', 'where');
			end $$`, walls: []string{"view ledger.history"}},
		{name: "view dropped", do: "drop view ledger.history cascade", walls: []string{"view ledger.history"}},
		{name: "view of the owner's for a client", do: `create view public.all_spans as
				select * from ledger.universal_registry;
			grant select on public.all_spans to authenticated`, walls: []string{"view public.all_spans"}},
		{name: "view of the owner's over a view", do: `create view public.all_spans as select * from ledger.history;
			grant select on public.all_spans to public`, walls: []string{"view public.all_spans"}},
		{name: "materialized view for a client", do: `create materialized view public.all_spans as
				select * from ledger.universal_registry;
			grant select on public.all_spans to anon`, walls: []string{"view public.all_spans"}},
	})
}

func TestFindsRightsGivenAway(t *testing.T) {
	t.Parallel()
	right := func(text string) []string { return []string{"right " + text} }
	attackAll(t, setup(t).conn, []attack{
		{name: "update", do: "grant update on ledger.universal_registry to authenticated",
			walls: right("update on table ledger.universal_registry to authenticated")},
		{name: "update of a column", do: "grant update (name) on ledger.universal_registry to service_role",
			walls: right("update on column name of ledger.universal_registry to service_role")},
		{name: "everything", do: "grant all on all tables in schema ledger to service_role",
			walls: right("truncate on table ledger.universal_registry to service_role")},
		{name: "delete for all", do: "grant delete on ledger.universal_registry to public",
			walls: right("delete on table ledger.universal_registry to public")},
		{name: "references", do: "grant references on ledger.universal_registry to anon",
			walls: right("references on table ledger.universal_registry to anon")},
		{name: "trigger", do: "grant trigger on ledger.universal_registry to authenticated",
			walls: right("trigger on table ledger.universal_registry to authenticated")},
		{name: "insert for anon", do: "grant insert on ledger.universal_registry to anon",
			walls: right("insert on table ledger.universal_registry to anon")},
		{name: "insert through a view", do: "grant insert on ledger.history to authenticated",
			walls: right("insert on table ledger.history to authenticated")},
		{name: "right to pass on", do: "grant insert on ledger.universal_registry to service_role with grant option",
			walls: right("insert on table ledger.universal_registry to service_role with grant option")},
		{name: "objects in the schema", do: "grant create on schema ledger to authenticated",
			walls: right("create on schema ledger to authenticated")},
		{name: "working memory", do: "grant usage on schema engine to authenticated",
			walls: right("usage on schema engine to authenticated")},
		{name: "a function that nobody calls", do: "grant execute on function ledger.follow_version() to authenticated",
			walls: right("execute on function ledger.follow_version() to authenticated")},
		{name: "a function for all", do: "grant execute on function ledger.uuid7() to public",
			walls: right("execute on function ledger.uuid7() to public")},
		{name: "the import door", do: "grant execute on function ledger.import_begin() to service_role",
			walls: right("execute on function ledger.import_begin() to service_role")},
		{name: "what is still to come", do: `alter default privileges in schema ledger
				grant all on tables to authenticated;
			alter default privileges in schema ledger_private grant execute on functions to public, anon`,
			walls: []string{"default privileges"}},
		{name: "schema of another", do: "alter schema ledger owner to loglineos_kernel",
			walls: []string{"schema ledger"}},
		{name: "view of another", do: "alter view ledger.history owner to loglineos_kernel",
			walls: []string{"view ledger.history"}},
	})
}

func TestFindsAnotherTable(t *testing.T) {
	t.Parallel()
	attackAll(t, setup(t).conn, []attack{
		{name: "rule against inserts", do: `create rule deaf as on insert to ledger.universal_registry
			do instead nothing`, walls: []string{"rule deaf"}},
		{name: "rule on a view", do: `create rule away as on update to ledger.history do instead nothing`,
			walls: []string{"rule away"}},
		{name: "child", do: "create table public.child () inherits (ledger.universal_registry)",
			walls: []string{theTable}},
		{name: "parent", do: `create table public.parent (who text not null);
			alter table ledger.universal_registry inherit public.parent`, walls: []string{theTable}},
		{name: "partition", do: `create table public.parent (like ledger.universal_registry) partition by list (seq);
			alter table public.parent attach partition ledger.universal_registry default`,
			walls: []string{theTable}},
		{name: "unlogged", do: "drop publication loglineos; alter table ledger.universal_registry set unlogged",
			walls: []string{theTable, "publication loglineos"}},
		{name: "renamed", do: "alter table ledger.universal_registry rename to old", walls: []string{theTable},
			byHand: "alter table ledger.old rename to universal_registry"},
		{name: "renamed and made again", do: `alter table ledger.universal_registry rename to old;
			create table ledger.universal_registry (like ledger.old including all)`,
			walls: []string{theTable, "trigger " + changeRow, "policy universal_registry_select_authenticated",
				"view ledger.history", "publication loglineos"},
			byHand: `drop table ledger.universal_registry; alter table ledger.old rename to universal_registry`},
		{name: "a view in its place", do: `alter table ledger.universal_registry rename to old;
			create view ledger.universal_registry as select * from ledger.old`,
			walls:  []string{theTable},
			byHand: `drop view ledger.universal_registry; alter table ledger.old rename to universal_registry`},
		{name: "moved", do: "alter table ledger.universal_registry set schema public", walls: []string{theTable},
			byHand: "alter table public.universal_registry set schema ledger"},
		{name: "key dropped", do: "alter table ledger.universal_registry drop constraint universal_registry_pkey cascade",
			walls: []string{"constraint universal_registry_pkey"}},
		{name: "key that waits", do: `alter table ledger.universal_registry drop constraint universal_registry_pkey,
			add constraint universal_registry_pkey primary key (id, seq) deferrable initially deferred`,
			walls: []string{"constraint universal_registry_pkey"}},
		{name: "check dropped", do: "alter table ledger.universal_registry drop constraint universal_registry_seq_check",
			walls: []string{"constraint universal_registry_seq_check"}},
		{name: "check that nobody proved", do: `alter table ledger.universal_registry
				drop constraint universal_registry_seq_check,
				add constraint universal_registry_seq_check check (seq >= 0) not valid`,
			walls: []string{"constraint universal_registry_seq_check"}},
		{name: "foreign key, which a parent's truncate would follow", do: `
			create table public.parent (id text primary key);
			alter table ledger.universal_registry add constraint x foreign key (app_id) references public.parent`,
			walls: []string{"constraint x"}},
		{name: "index dropped", do: "drop index ledger.universal_registry_xact_idx",
			walls: []string{"index ledger.universal_registry_xact_idx"}},
		{name: "index broken", do: `update pg_index set indisvalid = false
			where indexrelid = 'ledger.universal_registry_xact_idx'::regclass`,
			walls: []string{"index ledger.universal_registry_xact_idx"}},
		{name: "index that refuses", do: "create unique index one on ledger.universal_registry (name)",
			walls: []string{"index ledger.one"}},
		{name: "null let in", do: "alter table ledger.universal_registry alter tenant_id drop not null",
			walls:  []string{"column tenant_id"},
			byHand: "alter table ledger.universal_registry alter tenant_id set not null"},
		{name: "default", do: "alter table ledger.universal_registry alter visibility set default 'public'",
			walls:  []string{"column visibility"},
			byHand: "alter table ledger.universal_registry alter visibility set default nullif(null::text, null)"},
		{name: "column added", do: "alter table ledger.universal_registry add x text", walls: []string{"column x"}},
		{name: "column renamed", do: "alter table ledger.universal_registry rename unit to x",
			walls:  []string{"column unit", "column x"},
			byHand: "alter table ledger.universal_registry rename x to unit"},
		{name: "type", do: dropViews + "alter table ledger.universal_registry alter unit type varchar(5) using 'x'",
			walls:  []string{"column unit", "view ledger.history"},
			byHand: "alter table ledger.universal_registry alter unit type text"},
		{name: "collation", do: dropViews + `alter table ledger.universal_registry alter unit type text collate "C"`,
			walls:  []string{"column unit"},
			byHand: "alter table ledger.universal_registry alter unit type text"},
	})
}

func TestFindsASilentDoorbell(t *testing.T) {
	t.Parallel()
	walls := []string{"publication loglineos"}
	attackAll(t, setup(t).conn, []attack{
		{name: "dropped", do: "drop publication loglineos", walls: walls},
		{name: "publishes more", do: "alter publication loglineos set (publish = 'insert, update')", walls: walls},
		{name: "publishes nothing", do: "alter publication loglineos set (publish = '')", walls: walls},
		{name: "without the table", do: "alter publication loglineos drop table ledger.universal_registry", walls: walls},
		{name: "with bodies", do: "alter publication loglineos set table ledger.universal_registry", walls: walls},
		{name: "with a row filter", do: `do $$ begin execute 'alter publication loglineos set table '
				'ledger.universal_registry (' || (select string_agg(c, ', ') from unnest((select attnames
				from pg_publication_tables where pubname = 'loglineos')) c) || ') where (seq = 0)'; end $$`,
			walls: walls},
		{name: "with another table", do: `create table public.x (i integer);
			alter publication loglineos add table public.x`, walls: walls},
		{name: "of all tables", do: "drop publication loglineos; create publication loglineos for all tables", walls: walls},
		{name: "renamed", do: "alter publication loglineos rename to x", walls: walls},
	})
}

// Roles are those of the whole server.
func TestFindsMightyClients(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	var attacks []attack
	for _, do := range []string{
		"alter role authenticated bypassrls", "alter role anon superuser", "alter role loglineos_kernel bypassrls",
		"alter role loglineos_sidecar bypassrls", "alter role service_role superuser", "alter role anon createrole",
		"alter role authenticated replication",
		"grant loglineos_sidecar to service_role",
		"grant postgres to loglineos_sidecar", "grant postgres to authenticated",
		"grant pg_write_all_data to service_role", "grant pg_execute_server_program to anon",
		"create role between; grant loglineos_sidecar to between; grant between to anon",
		"create role authenticator noinherit; grant loglineos_sidecar to authenticator",
	} {
		words := strings.Fields(do)
		wall := "role " + words[2]
		by := ""
		if i := strings.LastIndex(do, " to "); i > 0 {
			wall = "role " + do[i+len(" to "):]
		}
		if strings.Contains(do, "between") {
			by = "revoke loglineos_sidecar from between"
		}
		attacks = append(attacks, attack{name: do, do: do, walls: []string{wall}, byHand: by})
	}
	conn := connect(t, db.URL)
	attackAll(t, conn, attacks)
	// As on Supabase.
	run(t, conn, "alter role service_role bypassrls")
	wantWallsStand(t, conn)
}
