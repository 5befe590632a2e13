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

// mend does what the findings say until there are none, at most three times: one mend may need another.
// One that ends with a full stop is for a person; of these the test can only run the migration again.
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
		where case kind when 'right' then b.name is null or s.name is null
			else s.stands is distinct from b.stands end order by 1`))
}

// What people honestly do to a database is no attack.
func TestHonestLedgersStand(t *testing.T) {
	t.Parallel()
	for name, do := range map[string][]string{
		"vacuum full":          {"vacuum full ledger.universal_registry"},
		"vacuum freeze":        {"vacuum freeze ledger.universal_registry"},
		"cluster":              {"cluster ledger.universal_registry using universal_registry_pkey"},
		"reindex":              {"reindex table ledger.universal_registry"},
		"reindex concurrently": {"reindex table concurrently ledger.universal_registry"},
		"own index":            {"create index own on ledger.universal_registry using gin (tags)"},
		"own view": {"create view public.notes with (security_invoker = true) as select * from ledger.history",
			"grant select on public.notes to authenticated"},
		"own report": {"create materialized view public.counts as select count(*) from ledger.universal_registry"},
		"own table": {"create table ledger.beside (id uuid, seq integer)",
			"create table public.beside (id uuid, seq integer, foreign key (id, seq)" +
				" references ledger.universal_registry)"},
		"own reader": {"grant select on ledger.visible_timeline to pg_monitor",
			"grant usage on schema ledger to pg_monitor"},
		"own publication":   {"create publication everything for all tables"},
		"analyze":           {"analyze", "alter table ledger.universal_registry alter tags set statistics 500"},
		"pasted on Windows": {strings.ReplaceAll(string(newestMigration(t)), "\n", "\r\n")},
		"migration again":   {string(newestMigration(t))},
		"rows of savepoints": {`do $$ begin for i in 1..20 loop begin
			insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who, seq)
			values ('note', 'x', 't1', 'user:x', case when i % 2 = 0 then 0 else 7 end);
			exception when others then null; end; end loop; end $$`},
		"append_batch": {`select ledger.append_batch(jsonb_agg(jsonb_build_object('entity_type', 'note',
			'owner_id', 'x', 'tenant_id', 't1', 'who', 'user:x'))) from generate_series(1, 50)`,
			`select ledger.append_batch('[{"entity_type": "note", "owner_id": "x", "tenant_id": "t1"}]')`},
		"one large transaction": {`insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
			select 'note', 'x', 't1', 'user:x' from generate_series(1, 500)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lived(t)
			for _, statement := range do {
				execute(t, l.conn, []byte(statement))
			}
			wantWallsStand(t, l.conn)
		})
	}
}

// The lock of the extension form can be taken away, and comes again.
func TestFindsAnExtensionWithoutItsLock(t *testing.T) {
	t.Parallel()
	l := empty(t)
	installExtensionFiles(t, l)
	run(t, l.conn, "create extension loglineos")
	const lock = "ledger_private.drop_extension_destroys_the_ledger()"
	walls := []string{"extension loglineos"}
	attackAll(t, l.conn, []attack{
		{name: "lock dropped", do: "drop function " + lock, walls: walls},
		{name: "lock a member", do: "alter extension loglineos add function " + lock, walls: walls},
		{name: "lock that holds nothing", do: "drop function " + lock + "; create function " + lock +
			" returns integer language sql return 1", walls: walls},
		{name: "no rows in a dump", do: "update pg_extension set extconfig = null, extcondition = null " +
			"where extname = 'loglineos'", walls: walls},
		{name: "few rows in a dump", do: "update pg_extension set extcondition = array['where seq > 7'] " +
			"where extname = 'loglineos'", walls: walls},
		{name: "table no member", do: "alter extension loglineos drop table ledger.universal_registry", walls: walls},
		{name: "function replaced", do: `create or replace function ledger.refuse_change() returns trigger
			language plpgsql as $$ begin return new; end $$`, walls: []string{refuseChange}},
	})
}

// What a new owner must do, guard_check says.
func TestSaysHowToChangeTheOwner(t *testing.T) {
	t.Parallel()
	l := lived(t)
	role := "new_" + l.db.Name
	t.Cleanup(func() {
		conn := connectForever(t, l.db.URL)
		run(t, conn, "reassign owned by "+role+" to session_user")
		run(t, conn, "drop owned by "+role)
		run(t, conn, "drop role "+role)
	})
	run(t, l.conn, "create role "+role)
	run(t, l.conn, "alter table ledger.universal_registry owner to "+role)
	tx, err := l.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found := guardCheck(t, tx); len(found) < 10 {
		t.Errorf("only %q", found)
	}
	mend(t, tx)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantWallsStand(t, l.conn)
	l.given(alice, "id", id(1), "seq", 3, "entity_type", "function", "status", "active")
	wantCode(t, l.append(bob, "id", id(1), "seq", 4, "entity_type", "function", "status", "active"), "LL002")
}

// ALTER TYPE … USING changes every row, past every trigger. It leaves a catalog that is as before, and rows
// that one transaction has written.
func TestFindsRowsWrittenAnew(t *testing.T) {
	t.Parallel()
	l := lived(t)
	rewrite := func() {
		t.Helper()
		for _, statement := range []string{
			dropViews,
			"alter table ledger.universal_registry alter description type text using 'never said'",
			string(newestMigration(t)),
		} {
			execute(t, l.conn, []byte(statement))
		}
	}
	rewrite()
	const rows = "rows of ledger.universal_registry"
	if found := guardCheck(t, l.conn); len(found) != 1 || found[0].Wall != rows {
		t.Fatalf("found %q", found)
	}

	// An epoch span says that it was a restore. What comes after it is looked at again.
	run(t, l.conn, importBegin)
	run(t, l.conn, importEnd)
	wantWallsStand(t, l.conn)
	l.given(alice, "entity_type", "note")
	l.given(alice, "entity_type", "note")
	wantWallsStand(t, l.conn)
	rewrite()
	if found := guardCheck(t, l.conn); len(found) != 1 || found[0].Wall != rows {
		t.Fatalf("found %q", found)
	}
}

// attack is what the owner of the ledger, or a superuser, does to it, and the walls that must be named then.
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
			wantNamed(t, found, a.walls...)
			// The sidecar, which asks for readiness, sees it, too.
			execute(t, conn, []byte("set local role loglineos_sidecar"))
			asked := guardCheck(t, tx)
			execute(t, conn, []byte("set local role none"))
			for _, f := range found {
				if !slices.Contains(asked, f) {
					t.Errorf("the sidecar is not told of %q, but of %q", f, asked)
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
