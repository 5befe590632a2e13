package sqlrules

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// lines returns the first column of a query, as the owner.
func lines(l *ledger, query string, arguments ...any) []string {
	l.t.Helper()
	rows, err := l.conn.Query(l.t.Context(), query, arguments...)
	if err != nil {
		l.t.Fatalf("query catalog: %v", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		l.t.Fatalf("read catalog: %v", err)
	}
	return found
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// The Go noun and the table are one list.
func TestColumnsAreThoseOfSpan(t *testing.T) {
	t.Parallel()
	l := setup(t)
	var want []string
	for _, column := range span.Columns {
		want = append(want, column.Name+" "+column.Type)
	}
	if len(want) != 70 {
		t.Errorf("span has %d columns, want 70", len(want))
	}
	const columns = `select column_name || ' ' || case data_type
			when 'timestamp with time zone' then 'timestamptz'
			when 'ARRAY' then ltrim(udt_name, '_') || '[]'
			else data_type end
		from information_schema.columns where table_schema = 'ledger' and table_name = `
	wantLines(t, lines(l, columns+"'universal_registry' order by ordinal_position"), want...)
	viewed := append([]string{"when timestamptz"}, want...)
	wantLines(t, lines(l, columns+"'visible_timeline' order by ordinal_position"), viewed...)
	wantLines(t, lines(l, columns+"'history' order by ordinal_position"), viewed...)

	wantLines(t, lines(l, `select column_name from information_schema.columns where table_schema = 'ledger'
		and table_name = 'universal_registry' and is_nullable = 'NO' order by ordinal_position`),
		"id", "seq", "entity_type", "who", "at", "xact", "accepted_at", "owner_id", "tenant_id", "visibility",
		"is_deleted")
	// What may be left out has a default that says so (and is null: 20_registry).
	wantLines(t, lines(l, `select column_name from information_schema.columns where table_schema = 'ledger'
		and table_name = 'universal_registry' and column_default is not null order by ordinal_position`),
		"id", "seq", "who", "at", "xact", "accepted_at", "owner_id", "tenant_id", "visibility", "is_deleted")
}

func TestEverythingIsCommented(t *testing.T) {
	t.Parallel()
	l := setup(t)
	silent := lines(l, `
		select 'schema ' || nspname from pg_namespace
			where nspname in ('ledger', 'ledger_private', 'engine')
			and obj_description(oid, 'pg_namespace') is null
		union all select 'relation ' || c.relname from pg_class c
			where c.relnamespace = 'ledger'::regnamespace and c.relkind in ('r', 'v', 'i')
			and obj_description(c.oid, 'pg_class') is null and c.relname not like '%pkey'
		union all select 'column ' || c.relname || '.' || a.attname from pg_attribute a
			join pg_class c on c.oid = a.attrelid
			where c.relnamespace = 'ledger'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0
			and col_description(c.oid, a.attnum) is null
		union all select 'function ' || oid::regprocedure from pg_proc
			where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
			and obj_description(oid, 'pg_proc') is null
		union all select 'constraint ' || conname from pg_constraint
			where connamespace = 'ledger'::regnamespace and contype in ('c', 'p')
			and obj_description(oid, 'pg_constraint') is null
		union all select 'trigger ' || tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
			where c.relnamespace = 'ledger'::regnamespace and obj_description(t.oid, 'pg_trigger') is null
		union all select 'policy ' || polname from pg_policy p join pg_class c on c.oid = p.polrelid
			where c.relnamespace = 'ledger'::regnamespace and obj_description(p.oid, 'pg_policy') is null
		union all select 'publication ' || pubname from pg_publication
			where pubname = 'loglineos' and obj_description(oid, 'pg_publication') is null`)
	wantLines(t, silent)
}

func TestGrantsAreExactly(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const grants = `select case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end || ' ' ||
			string_agg(a.privilege_type, ' ' order by a.privilege_type)
		from %CATALOG% c, aclexplode(c.%ACL%) a
		where %WHERE% and a.grantee <> c.%OWNER% group by 1, a.grantee order by 1`
	of := func(catalog, acl, owner, where string) string {
		query := strings.NewReplacer("%CATALOG%", catalog, "%ACL%", acl, "%OWNER%", owner, "%WHERE%", where).
			Replace(grants)
		// The grantee's name, not the aggregate, is what is grouped by.
		return strings.Replace(query, "group by 1, a.grantee", "group by a.grantee", 1)
	}
	relation := func(name string) []string {
		return lines(l, of("pg_class", "relacl", "relowner", "c.oid = 'ledger."+name+"'::regclass"))
	}
	wantLines(t, relation("universal_registry"), "anon SELECT", "authenticated INSERT SELECT",
		"loglineos_kernel SELECT", "loglineos_sidecar INSERT SELECT", "service_role INSERT SELECT")
	readers := []string{"anon SELECT", "authenticated SELECT", "loglineos_kernel SELECT",
		"loglineos_sidecar SELECT", "service_role SELECT"}
	wantLines(t, relation("visible_timeline"), readers...)
	wantLines(t, relation("history"), readers...)
	wantLines(t, relation("function_state"), readers[1:]...)
	schema := func(name string) []string {
		return lines(l, of("pg_namespace", "nspacl", "nspowner", "c.nspname = '"+name+"'"))
	}
	for _, name := range []string{"ledger", "ledger_private"} {
		wantLines(t, schema(name), "anon USAGE", "authenticated USAGE", "loglineos_kernel USAGE",
			"loglineos_sidecar USAGE", "service_role USAGE")
	}
	wantLines(t, schema("engine"), "loglineos_sidecar CREATE USAGE")
}

// A function that anybody may run, that resolves names by the caller's path, or that runs with the owner's
// rights without need is how a wall gets a door.
func TestFunctionsAreClosed(t *testing.T) {
	t.Parallel()
	l := setup(t)
	// With search_path = '' a type of the session's own temporary schema would come first (shadow_test.go).
	wantLines(t, lines(l, `select oid::regprocedure || ': set search_path = pg_catalog, pg_temp' from pg_proc
		where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		and (proconfig[1] is distinct from 'search_path=pg_catalog, pg_temp' or exists (
			select from unnest(proconfig[2:]) s where s not like 'plan_cache_mode=%' and s <> 'jit=off'
				and oid not in ('ledger.guard_check()'::regprocedure,
					'ledger_private.standing_walls()'::regprocedure)))`))
	wantLines(t, lines(l, `select oid::regprocedure::text from pg_proc
		where pronamespace = 'ledger'::regnamespace and prosecdef order by 1`),
		"ledger.follow_version()")
	wantLines(t, lines(l, `select oid::regprocedure::text from pg_proc
		where pronamespace = 'ledger_private'::regnamespace and prosecdef order by 1`),
		"ledger_private.is_superseded(uuid,integer,timestamp with time zone)",
		"ledger_private.make_engine()", "ledger_private.manifest_standing()",
		"ledger_private.may_call(uuid,text,text)",
		"ledger_private.may_publish(text,text,text)")
	wantLines(t, lines(l, `select p.oid::regprocedure::text from pg_proc p
		left join lateral aclexplode(p.proacl) a on true
		where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		and (p.proacl is null or a.grantee = 0)`))
	// What the API's roles may run in the schema that is not exposed; anon only what views need.
	wantLines(t, lines(l, `select oid::regprocedure::text from pg_proc
		where pronamespace = 'ledger_private'::regnamespace and has_function_privilege('anon', oid, 'execute')
		order by 1`), "ledger_private.claims()",
		"ledger_private.is_superseded(uuid,integer,timestamp with time zone)")
	wantLines(t, lines(l, `select oid::regprocedure::text from pg_proc
		where pronamespace = 'ledger'::regnamespace and has_function_privilege('anon', oid, 'execute')
		order by 1`), "ledger.current_tenant_id()", "ledger.current_user_id()",
		"ledger.is_governor()")
	wantLines(t, lines(l, `select oid::regprocedure::text from pg_proc
		where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		and prosrc ~* '\m(execute|set_config|pg_notify|notify)\M'
		and oid <> 'ledger_private.built_walls()'::regprocedure -- a list of texts, of triggers too
		-- it takes no argument, and the names are regclass's, of the owner's own tables
		and oid <> 'ledger_private.make_engine()'::regprocedure
		and exists (select from unnest(array['anon', 'authenticated', 'service_role', 'loglineos_sidecar',
			'loglineos_kernel']) r where has_function_privilege(r, oid, 'execute'))`))
}

func TestPoliciesAreOnePerRoleAndCommand(t *testing.T) {
	t.Parallel()
	l := setup(t)
	wantLines(t, lines(l, `select case when roles = array[tableowner] then 'owner'
			else array_to_string(roles, ' ') end || ' ' || cmd || ' ' || permissive
		from pg_policies join pg_tables using (schemaname, tablename)
		where schemaname = 'ledger' order by 1`),
		"authenticated INSERT PERMISSIVE", "authenticated SELECT PERMISSIVE", "loglineos_kernel SELECT PERMISSIVE",
		"loglineos_sidecar INSERT PERMISSIVE", "loglineos_sidecar SELECT PERMISSIVE", "owner INSERT PERMISSIVE",
		"owner SELECT PERMISSIVE", "service_role INSERT PERMISSIVE", "service_role SELECT PERMISSIVE")
	wantLines(t, lines(l, `select relname::text from pg_class where relnamespace = 'ledger'::regnamespace
		and relkind = 'r' and not (relrowsecurity and relforcerowsecurity)`))
}

func TestPublicationIsADoorbell(t *testing.T) {
	t.Parallel()
	l := setup(t)
	wantLines(t, lines(l, `select concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate)
		from pg_publication where pubname = 'loglineos'`), "f t f f f")
	wantLines(t, lines(l, `select unnest(attnames)::text from pg_publication_tables where pubname = 'loglineos'
		and schemaname = 'ledger' and tablename = 'universal_registry' and rowfilter is null order by 1`),
		sorted(`id, seq, entity_type, status, owner_id, tenant_id, visibility, is_deleted, parent_id, at,
			accepted_at, scheduled_at, trace_id, xact, curr_hash, prev_hash`)...)
}

func sorted(list string) []string {
	words := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \n\t", r) })
	slices.Sort(words)
	return words
}

// The refusals that SQL raises and those that Go knows are one list.
func TestCodesAreThoseOfSpan(t *testing.T) {
	t.Parallel()
	find := func(pattern string) []string {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("list %s: %v, %d files", pattern, err, len(files))
		}
		found := map[string]bool{}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("read codes: %v", err)
			}
			for _, match := range regexp.MustCompile(`['"](LL[0-9]{3})['"]`).FindAllSubmatch(text, -1) {
				found[string(match[1])] = true
			}
		}
		var codes []string
		for code := range found {
			codes = append(codes, code)
		}
		slices.Sort(codes)
		return codes
	}
	inSQL, inGo := find("../../sql/src/*.sql"), find("../../sidecar/span/code.go")
	for _, code := range inSQL {
		if !slices.Contains(inGo, code) {
			t.Errorf("SQL raises %s, which span does not know", code)
		}
	}
	for _, code := range inGo {
		if !slices.Contains(inSQL, code) {
			t.Errorf("span knows %s, which SQL never raises", code)
		}
	}
}

// The sidecar's own login: its rights, and where they end.
func TestSidecarLogin(t *testing.T) {
	t.Parallel()
	l := setup(t)
	sidecar := &ledger{t: t, db: l.db, conn: connect(t, l.db.SidecarURL)}
	l.given(alice, "id", id(1), "entity_type", "note")
	sidecar.given(owner, "id", derived(1), "entity_type", "execution", "who", "kernel:run_code",
		"owner_id", "alice", "tenant_id", "t1", "metadata", `{"engine":{"depth":0}}`)
	wantCode(t, sidecar.append(owner, "id", id(1), "seq", 1, "entity_type", "note", "who", "kernel:x",
		"owner_id", "ann", "tenant_id", "t1"), "LL013")
	wantCode(t, sidecar.append(owner, "id", manifestID, "entity_type", "manifest", "status", "active",
		"who", "sidecar:a", "owner_id", "system", "tenant_id", "system"), "LL004")
	wantCode(t, sidecar.append(alice, "entity_type", "note"), "")
	wantCode(t, sidecar.append(alice, "entity_type", "execution"), "LL004")
	for _, statement := range []string{
		"create table engine.cursor (i integer)", "insert into engine.cursor values (1)",
		"drop table engine.cursor",
		"select * from pg_replication_slots", "select system_identifier from pg_control_system()",
		"select pg_current_wal_lsn()", "select pg_current_snapshot()",
		"set local role loglineos_kernel",
	} {
		wantCode(t, sidecar.do(owner, statement), "")
	}
	for _, statement := range []string{
		"create table ledger.x (i integer)", "update ledger.universal_registry set name = 'x'",
		"truncate ledger.universal_registry", "set session_replication_role = replica",
		"alter table ledger.universal_registry disable trigger all",
	} {
		wantCode(t, sidecar.do(owner, statement), "42501")
	}
	for _, who := range []actor{alice, anon, service, {role: "loglineos_kernel"}} {
		wantCode(t, l.do(who, "create table engine.x (i integer)"), "42501")
	}
}
