package sqlrules

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	migrating "github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/supabase"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// Who may create a schema is there first and waits for somebody with more rights. No form of the ledger runs
// a line of his.
func TestInstallsOnNoStrangersGround(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	const rise = `create function %s() returns %s language plpgsql as $$ begin
		alter role mallory superuser; return null; end $$;`
	trap := func(name, returns string) string {
		return strings.NewReplacer("%s()", name, "%s", returns).Replace(rise)
	}
	grounds := map[string]string{
		"version": "create schema ledger_private;" + trap("ledger_private.version()", "text"),
		"history": `create schema supabase_migrations;
			create table supabase_migrations.schema_migrations
				(version text primary key, statements text[], name text);
			grant all on schema supabase_migrations to public;
			grant all on supabase_migrations.schema_migrations to public;` +
			trap("supabase_migrations.rise()", "trigger") + `create trigger rise before insert on
			supabase_migrations.schema_migrations execute function supabase_migrations.rise();`,
		"empty history":  "create schema supabase_migrations; grant all on schema supabase_migrations to public",
		"empty schema":   "create schema ledger; grant all on schema ledger to public",
		"private schema": "create schema ledger_private; grant all on schema ledger_private to public",
		"engine":         "create schema engine; grant all on schema engine to public",
		"identity": "create schema ledger; grant all on schema ledger to public;" +
			trap("ledger.current_user_id()", "text"),
	}
	paste := string(read(t, "../../sql/dist/loglineos.sql"))
	forms := map[string]func(*testing.T, *pgtest.Database) error{
		"paste": func(t *testing.T, db *pgtest.Database) error {
			return connect(t, db.URL).PgConn().Exec(t.Context(), paste).Close()
		},
		"migration": func(t *testing.T, db *pgtest.Database) error {
			return connect(t, db.URL).PgConn().Exec(t.Context(), string(migration(t, "0_2_0"))).Close()
		},
		"logline migrate": func(t *testing.T, db *pgtest.Database) error {
			o, err := migrating.OpenOwner(t.Context(), db.URL)
			if err != nil {
				return err
			}
			defer func() { _ = o.Close(t.Context()) }()
			all, err := migrating.Migrations(supabase.Migrations, "migrations")
			if err != nil {
				return err
			}
			_, err = o.Migrate(t.Context(), all)
			return err
		},
	}
	db := cluster.New(t)
	root := &ledger{t: t, db: db, conn: connect(t, db.URL)}
	run(t, root.conn, "create role mallory nologin")
	for ground, prepare := range grounds {
		for form, install := range forms {
			if form == "migration" && strings.Contains(ground, "history") {
				continue // whoever runs the file keeps the history himself
			}
			t.Run(form+" on "+ground, func(t *testing.T) {
				db := cluster.Empty(t)
				conn := connect(t, db.URL)
				run(t, conn, `do $$ begin
					execute format('grant create on database %I to mallory', current_database());
				end $$`)
				execute(t, conn, []byte("set role mallory;"+prepare+"; reset role"))
				err := install(t, db)
				var refusal *pgconn.PgError
				if !errors.As(err, &refusal) || refusal.Code != "55000" && refusal.Code != "42P06" {
					t.Errorf("got %v, want a refusal", err)
				} else if refusal.Code == "55000" && !strings.Contains(refusal.Message, "belongs to mallory") {
					t.Errorf("got %q %q", refusal.Message, refusal.Hint)
				}
			})
		}
	}
	wantLines(t, lines(root, "select rolname::text from pg_roles where rolname = 'mallory' and rolsuper"))
}

// An old setting, under which a backslash in a string is an escape, changes nothing.
func TestBackslashesMeanWhatTheyAre(t *testing.T) {
	t.Parallel()
	l := empty(t)
	for _, setting := range []string{"standard_conforming_strings = off", "escape_string_warning = off"} {
		run(t, l.conn, "set "+setting)
	}
	execute(t, l.conn, read(t, "../../sql/dist/loglineos.sql"))
	wantSameCatalog(t, l)
	wantWallsStand(t, l.conn)
	key := ask[string](l, alice, "select ledger.idempotency_id('t1', 'k')::text")
	if want := uuid5(t, uuid5(t, tenantNamespace, "t1"), "k"); key != want {
		t.Errorf("the key's id is %s, want %s", key, want)
	}
	answers := l.batch(alice, array(`{"entity_type":"note","scheduled_at":"2026-11-23T04:05:06.789Z"}`,
		`{"entity_type":"note","traceId":"x"}`, `{"entity_type":"note","content":{"a":[1e308]},"tags":["a\\b"]}`))
	wantPlaces(t, answers, "new", "LL017", "new")
	if !strings.Contains(answers[1].Error.Hint, "trace_id") {
		t.Errorf("got hint %q", answers[1].Error.Hint)
	}
	run(t, l.conn, "create trigger \"mine\" before insert on ledger.universal_registry "+
		"execute function ledger.refuse_change()")
	mends := lines(l, "select mend from ledger.guard_check()")
	wantLines(t, mends, "drop trigger mine on ledger.universal_registry")
}

// What a user has built on a function that goes is named, and is not his to lose by a CASCADE.
func TestUpgradeNamesWhatStandsInItsWay(t *testing.T) {
	t.Parallel()
	l := empty(t)
	execute(t, l.conn, migration(t, "0_1_0"))
	run(t, l.conn, `create view public.gone as select ledger.has_version(gen_random_uuid(), 0)`)
	run(t, l.conn, `create table public.tasks (id uuid, check (not ledger.has_version(id, 1)))`)
	err := connect(t, l.db.URL).PgConn().Exec(t.Context(), string(migration(t, "0_2_0"))).Close()
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Code != "2BP01" ||
		!strings.Contains(refusal.Message, "constraint tasks_id_check on table") ||
		!strings.Contains(refusal.Message, "view gone") || !strings.Contains(refusal.Hint, "visible_timeline") {
		t.Errorf("got %+v", refusal)
	}
	run(t, l.conn, "drop view public.gone; drop table public.tasks")
	execute(t, connect(t, l.db.URL), migration(t, "0_2_0"))
	wantSameCatalog(t, l)
}

// That the ledger is being restored is no span's fault.
func TestBatchEndsWhileImporting(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, importBegin)
	wantCode(t, l.in(alice, func(tx pgx.Tx) error {
		_, err := batchIn(t, tx, array(`{"entity_type":"note"}`, `{"entity_type":"note"}`))
		return err
	}), "LL018")
}
