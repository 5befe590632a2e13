package sqlrules

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	engineledger "github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/supabase"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// catalog describes everything that the ledger is made of, one line a thing, whoever its owner is.
const catalog = `
	with mine as (
		select oid, nspname, nspowner, nspacl from pg_namespace
		where nspname in ('ledger', 'ledger_private', 'engine')
	), acls as (
		select 'schema ' || nspname as thing, nspowner as owner, nspacl as acl from mine
		union all select 'relation ' || c.oid::regclass, relowner, relacl
			from pg_class c join mine on mine.oid = relnamespace where relkind in ('r', 'v')
		union all select 'function ' || p.oid::regprocedure, proowner, proacl
			from pg_proc p join mine on mine.oid = pronamespace
	)
	select 'column ' || c.oid::regclass || ' ' || a.attnum || ' ' || a.attname || ' '
			|| format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
			|| coalesce(pg_get_expr(d.adbin, d.adrelid), '-')
		from pg_attribute a join pg_class c on c.oid = a.attrelid join mine on mine.oid = c.relnamespace
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
		where c.relkind in ('r', 'v') and a.attnum > 0
	union all select 'relation ' || c.oid::regclass || ' ' || relkind::text
			|| ' ' || relrowsecurity || relforcerowsecurity || ' ' || coalesce(reloptions::text, '-')
		from pg_class c join mine on mine.oid = relnamespace
	union all select 'view ' || c.oid::regclass || ' ' || pg_get_viewdef(c.oid)
		from pg_class c join mine on mine.oid = relnamespace where relkind = 'v'
	union all select 'index ' || pg_get_indexdef(c.oid)
		from pg_class c join mine on mine.oid = relnamespace where relkind = 'i'
	union all select 'constraint ' || conname || ' ' || pg_get_constraintdef(c.oid)
		from pg_constraint c join mine on mine.oid = connamespace
	union all select 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || tgenabled::text
		from pg_trigger t join pg_class c on c.oid = tgrelid join mine on mine.oid = relnamespace
	union all select 'policy ' || concat_ws(' ', c.oid::regclass, polname, polpermissive, polcmd, array(
			select case r when relowner then 'owner' when 0 then 'public' else pg_get_userbyid(r) end
			from unnest(polroles) r order by 1
		), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
		from pg_policy p join pg_class c on c.oid = polrelid join mine on mine.oid = relnamespace
	union all select 'function ' || pg_get_functiondef(p.oid)
		from pg_proc p join mine on mine.oid = pronamespace
	union all select 'rule ' || pg_get_ruledef(r.oid)
		from pg_rewrite r join pg_class c on c.oid = ev_class join mine on mine.oid = relnamespace
		where rulename <> '_RETURN'
	union all select 'type ' || t.oid::regtype
		from pg_type t join mine on mine.oid = typnamespace where typtype <> 'b'
	union all select 'acl ' || thing || ' ' || case when acl is null then 'default' else array(
			select case grantee when 0 then 'public' when owner then 'owner' else pg_get_userbyid(grantee) end
				|| ' ' || privilege_type || ' ' || is_grantable
			from aclexplode(acl) order by 1
		)::text end from acls
	union all select 'publication ' || concat_ws(' ', pubname, puballtables, pubinsert, pubupdate, pubdelete,
		pubtruncate) from pg_publication
	union all select 'published ' || concat_ws(' ', schemaname, tablename, attnames, rowfilter)
		from pg_publication_tables
	union all select 'comment ' || (pg_identify_object(classoid, objoid, objsubid)).identity
			|| ' ' || description
		from pg_description where objoid >= 16384 and classoid <> 'pg_extension'::regclass
	order by 1`

// empty returns a database that is not migrated, on a server where the roles are.
func empty(t *testing.T) *ledger {
	t.Helper()
	pgtest.New(t)
	db := pgtest.Empty(t)
	return &ledger{t: t, db: db, conn: connect(t, db.URL)}
}

// execute runs a whole file, as psql would.
func execute(t testing.TB, conn *pgx.Conn, text []byte) {
	t.Helper()
	if err := conn.PgConn().Exec(t.Context(), string(text)).Close(); err != nil {
		t.Fatalf("execute file: %v", err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read form: %v", err)
	}
	return text
}

// migration is the file of a version, for example 0_1_0.
func migration(t *testing.T, version string) []byte {
	t.Helper()
	files, err := fs.Glob(supabase.Migrations, "migrations/*_loglineos_"+version+".sql")
	if err != nil || len(files) != 1 {
		t.Fatalf("find migration %s: %v, %d files", version, err, len(files))
	}
	text, err := supabase.Migrations.ReadFile(files[0])
	if err != nil {
		t.Fatalf("read migration: %v", err)
	}
	return text
}

// wantSameCatalog compares with a database that had every migration, one after the other. Some lines may be
// extra: those that begin with one of the words given.
func wantSameCatalog(t *testing.T, got *ledger, beside ...string) {
	t.Helper()
	want := lines(setup(t), catalog)
	have := lines(got, catalog)
	missing, extra := difference(want, have), difference(have, want)
	extra = slices.DeleteFunc(extra, func(line string) bool {
		return slices.ContainsFunc(beside, func(word string) bool { return strings.HasPrefix(line, word) })
	})
	if len(want) < 250 || len(missing)+len(extra) > 0 {
		t.Errorf("of %d lines missing:\n  %s\nextra:\n  %s", len(want),
			strings.Join(missing, "\n  "), strings.Join(extra, "\n  "))
	}
	wantWallsStand(t, got.conn)
}

func difference(from, without []string) []string {
	known := map[string]bool{}
	for _, line := range without {
		known[line] = true
	}
	var rest []string
	for _, line := range from {
		if !known[line] {
			rest = append(rest, line)
		}
	}
	return rest
}

// What is released stays as it was: a database out there has run it.
func TestReleasedFilesNeverChange(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"supabase/migrations/20261123000000_loglineos_0_1_0.sql": "8a853327edd2c5c8f67e09eb6110f2c4ea7cd3c58f63e9f6fa232e0d8eed09b4",
		"sql/dist/loglineos--0.1.0.sql":                          "ecf7b489ca5502b1fb2c2dfd083288132ee6c74adfe4bfa0949390470284b8a4",
	} {
		if got := fmt.Sprintf("%x", sha256.Sum256(read(t, "../../"+path))); got != want {
			t.Errorf("%s changed: its sha256 is %s", path, got)
		}
	}
}

// lock is what DROP EXTENSION stumbles over; only the extension form has it.
var lock = []string{"acl function ledger_private.drop_extension_", "comment ledger_private.drop_extension_",
	"function CREATE OR REPLACE FUNCTION ledger_private.drop_extension_"}

const history = "select version || ' ' || name from supabase_migrations.schema_migrations order by 1"

// replacedBody takes down a wall that only this version's migration puts up again.
const replacedBody = `create or replace function ledger.current_user_id() returns text language sql stable
	set search_path = pg_catalog, pg_temp as $$ select 'alice' $$`

func TestPasteFormInstallsTheSame(t *testing.T) {
	t.Parallel()
	text := read(t, "../../sql/dist/loglineos.sql")
	for name, before := range map[string][]byte{"empty": nil, "0.1.0": migration(t, "0_1_0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := empty(t)
			execute(t, l.conn, before)
			execute(t, l.conn, text)
			wantSameCatalog(t, l)
			wantLines(t, lines(l, history), "20261123000000 loglineos_0_1_0", "20261124000000 loglineos_0_2_0")

			// Again it puts up what has fallen. A later ledger stays.
			run(t, l.conn, replacedBody)
			execute(t, l.conn, text)
			wantSameCatalog(t, l)
			run(t, l.conn, `create or replace function ledger_private.version() returns text language sql
				immutable parallel safe set search_path = pg_catalog, pg_temp return '0.10.0'`)
			err := connect(t, l.db.URL).PgConn().Exec(t.Context(), string(text)).Close()
			if err == nil || !strings.Contains(err.Error(), "has a ledger of version 0.10.0") {
				t.Errorf("pasted over a later ledger: got %v, want a refusal that says so", err)
			}
		})
	}
}

// The migration's text is the paste file's: it, too, stands on an empty database.
func TestNewestMigrationInstallsAlone(t *testing.T) {
	t.Parallel()
	l := empty(t)
	execute(t, l.conn, migration(t, "0_2_0"))
	wantSameCatalog(t, l)
}

// members lists what belongs to the extension.
const members = `select pg_describe_object(classid, objid, objsubid) from pg_depend
	where deptype = 'e' and refobjid = (select oid from pg_extension where extname = 'loglineos') order by 1`

func TestExtensionFormInstallsTheSame(t *testing.T) {
	t.Parallel()
	fresh, updated := empty(t), empty(t)
	installExtensionFiles(t, fresh)
	asThePageSays(t, fresh, pages.Marked(t, "docs/install.md").Take("create extension").Text)
	run(t, updated.conn, "create extension loglineos version '0.1.0'")
	updated.given(alice, "id", id(1), "entity_type", "note")
	rows := lines(updated, allRows)
	run(t, updated.conn, "alter extension loglineos update")
	wantLines(t, lines(updated, allRows), rows...)
	for _, l := range []*ledger{fresh, updated} {
		wantSameCatalog(t, l, lock...)
		wantLines(t, lines(l, "select extversion || ' ' || extconfig[1]::regclass from pg_extension"+
			" where extname = 'loglineos'"), "0.2.0 ledger.universal_registry")
		// All but the lock, the publication and the roles.
		wantLines(t, lines(l, `select p.oid::regprocedure::text from pg_proc p
			where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
			and not exists (select from pg_depend where objid = p.oid and deptype = 'e')`),
			"ledger_private.drop_extension_destroys_the_ledger()")
	}
	wantLines(t, lines(updated, members), lines(fresh, members)...)

	text := read(t, "../../sql/dist/loglineos.sql")
	err := connect(t, fresh.db.URL).PgConn().Exec(t.Context(), string(text)).Close()
	if err == nil || !strings.Contains(err.Error(), "is an extension") {
		t.Errorf("pasted over an extension: got %v, want a refusal that says so", err)
	}
}

// asThePageSays runs the commands of the page. What they copy lands in a folder of the test's own, whose
// pg_config says that it is the server's; the server has its files by installExtensionFiles.
func asThePageSays(t *testing.T, l *ledger, commands string) {
	t.Helper()
	share := t.TempDir()
	err := os.Mkdir(filepath.Join(share, "extension"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(share, "pg_config"), []byte("#!/bin/sh\necho "+share+"\n"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	psql := filepath.Dir(program.Find(t, "psql"))
	pages.Paste(t, pages.Root(), []string{"DATABASE_URL=" + l.db.URL,
		"PATH=" + share + ":" + psql + ":" + os.Getenv("PATH")}, commands)
	for _, name := range extensionFileNames {
		if !bytes.Equal(read(t, filepath.Join(share, "extension", filepath.Base(name))), read(t, name)) {
			t.Errorf("the page does not copy %s", name)
		}
	}
}

// The newest migration puts up a fallen wall of an extension, too; what belongs to it goes on to.
func TestExtensionFormIsMendedByTheMigration(t *testing.T) {
	t.Parallel()
	l := empty(t)
	installExtensionFiles(t, l)
	run(t, l.conn, "create extension loglineos")
	before := lines(l, members)
	for _, statement := range []string{replacedBody, "alter view ledger.history set (security_barrier = true)"} {
		run(t, l.conn, statement)
	}
	if found := guardCheck(t, l.conn); len(found) < 2 {
		t.Fatalf("found %q, want two walls", found)
	}
	migrations, err := engineledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engineledger.NewOwner(l.conn).MigrateAgain(t.Context(), migrations); err != nil {
		t.Fatal(err)
	}
	wantSameCatalog(t, l, lock...)
	wantLines(t, lines(l, members), before...)
	wantLines(t, lines(l, "select to_regclass('supabase_migrations.schema_migrations') is null || ''"), "true")
}

// One form does not become another.
func TestNoExtensionOverALedgerOfMigrations(t *testing.T) {
	t.Parallel()
	l := setup(t)
	installExtensionFiles(t, l)
	err := l.do(owner, "create extension loglineos")
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "has a ledger already") ||
		!strings.Contains(refusal.Hint, "logline migrate") {
		t.Errorf("got %v, want a refusal that says to stay with migrations", err)
	}
}

// A database of 0.1.0 that has been lived in: nothing of it changes, and what its user built on it goes on.
func TestUpgradeKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	l := empty(t)
	execute(t, l.conn, migration(t, "0_1_0"))
	function := []any{"id", id(1), "entity_type", "function", "status", "active", "visibility", "tenant",
		"code", "return 1", "metadata", `{"a": [1, 2.50, "x"]}`}
	l.given(alice, function...)
	l.given(alice, with(function, "seq", 1, "status", "archived")...)
	l.given(alice, with(function, "seq", 2)...)
	l.given(ann, "entity_type", "request", "status", "scheduled", "parent_id", id(1), "input", `{"n": 1}`)
	l.given(owner, "id", manifestID, "entity_type", "manifest", "status", "active", "owner_id", "system",
		"tenant_id", "system", "visibility", "public", "who", "system:boot")
	hashed := []any{"id", id(3), "entity_type", "note", "at", time.Now(), "who", "user:bob", "owner_id", "bob",
		"tenant_id", "t2", "visibility", "private", "is_deleted", false}
	l.given(bob, with(hashed, "seq", 0, "curr_hash", hashOne)...)
	l.given(bob, with(hashed, "seq", 1, "curr_hash", hashTwo, "prev_hash", hashOne)...)
	execute(t, l.conn, []byte(`create schema app;
		create table app.todo (owner_id text default ledger.current_user_id(), title text);
		alter table app.todo enable row level security;
		grant usage on schema app to authenticated;
		grant select, insert on app.todo to authenticated;
		create policy own on app.todo to authenticated
			using (owner_id = (select ledger.current_user_id())) with check (owner_id = ledger.current_user_id());
		create view app.notes with (security_invoker = true) as
			select id, seq, name from ledger.visible_timeline where entity_type = 'note';
		grant select on app.notes to authenticated;
		create function app.mine(r ledger.universal_registry) returns boolean language sql
			return r.owner_id = ledger.current_user_id();
		create index notes_of_mine on ledger.universal_registry (name) where entity_type = 'note';`))
	wantCode(t, l.do(alice, "insert into app.todo (title) values ('x')"), "")
	rows := lines(l, allRows)

	execute(t, l.conn, migration(t, "0_2_0"))
	if len(rows) != 7 {
		t.Fatalf("%d rows before the upgrade, want 7", len(rows))
	}
	wantLines(t, lines(l, allRows), rows...)
	wantLines(t, lines(l, "select owner_id || title from app.todo"), "alicex")
	wantCode(t, l.do(bob, "insert into app.todo (title, owner_id) values ('x', 'alice')"), "42501")
	if n := ask[int](l, bob, "select count(*) from app.notes"); n != 1 {
		t.Errorf("bob sees %d notes in his view, want 1", n)
	}
	run(t, l.conn, "drop schema app cascade")
	run(t, l.conn, "drop index ledger.notes_of_mine")
	wantSameCatalog(t, l)
}

// allRows is every row, whole.
const allRows = "select r::text from ledger.universal_registry r order by id, seq"

// Clients go on while the ledger is upgraded: none meets a deadlock or an unguarded moment.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	l := empty(t)
	execute(t, l.conn, migration(t, "0_1_0"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	appended := make(chan struct{}, 1<<16)
	for n := range 4 {
		client := &ledger{t: t, db: l.db, conn: connect(t, l.db.URL)}
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// A read holds its locks while the write wants another: what deadlocks are made of.
				reads := []string{"select count(*) from ledger.visible_timeline",
					"select count(*) from ledger.universal_registry", "select count(*) from ledger.history"}
				err := client.in(alice, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), reads[(i+n)%3]); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), `insert into ledger.universal_registry
						(entity_type, accepted_at, xact) values ('note', '2001-01-01', '1')`)
					return err
				})
				if err != nil {
					t.Errorf("append during the upgrade: %v", err)
				}
				wantCode(t, client.append(alice, "entity_type", "execution"), "LL004")
				appended <- struct{}{}
			}
		})
	}
	some := func(count int) {
		for range count {
			select {
			case <-appended:
			case <-t.Context().Done():
			}
		}
	}
	some(40)
	execute(t, l.conn, migration(t, "0_2_0"))
	some(len(appended) + 40)
	stop()
	clients.Wait()
	wantLines(t, lines(l, `select r::text from ledger.universal_registry r
		where accepted_at < now() - interval '1 day' or xact = '1' or entity_type <> 'note'`))
	wantSameCatalog(t, l)
}

// extensionFiles are the control file and the scripts where the server looks for them, for as long as some
// test of this binary needs them. The folder is the machine's: the lock keeps other binaries waiting.
var extensionFiles struct {
	sync.Mutex
	users int
	lacks string // why they are not there
	undo  []func()
}

// installExtensionFiles puts the extension where the server finds it, for as long as the test runs. It
// skips where that is not possible, and says why.
func installExtensionFiles(t *testing.T, l *ledger) {
	t.Helper()
	files := &extensionFiles
	files.Lock()
	defer files.Unlock()
	files.users++
	t.Cleanup(func() {
		files.Lock()
		defer files.Unlock()
		if files.users--; files.users > 0 {
			return
		}
		for len(files.undo) > 0 {
			last := len(files.undo) - 1
			files.undo[last]()
			files.undo = files.undo[:last]
		}
	})
	if files.users == 1 {
		files.lacks = putExtensionFiles(t, l)
	}
	if files.lacks != "" {
		t.Skip("skipped, extension form: " + files.lacks)
	}
}

// extensionFileNames are the files of the extension.
var extensionFileNames = []string{"../../sql/loglineos.control", "../../sql/dist/loglineos--0.1.0.sql",
	"../../sql/dist/loglineos--0.1.0--0.2.0.sql", "../../sql/dist/loglineos--0.2.0.sql"}

// putExtensionFiles returns why it could not.
func putExtensionFiles(t *testing.T, l *ledger) string {
	t.Helper()
	files := &extensionFiles
	path := filepath.Join(os.TempDir(), "loglineos-extension.lock")
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return fmt.Sprintf("no lock file: %v", err)
	}
	files.undo = append(files.undo, func() { _ = lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Sprintf("lock: %v", err)
	}
	share := ask[string](l, owner, "select setting from pg_config where name = 'SHAREDIR'")
	for _, source := range extensionFileNames {
		text, target := read(t, source), filepath.Join(share, "extension", filepath.Base(source))
		present, err := os.ReadFile(target)
		if err == nil && bytes.Equal(present, text) {
			continue
		}
		putBack := func() { _ = os.Remove(target) }
		if err == nil { // another version, or what a killed test has left: set aside meanwhile
			putBack = func() { _ = os.WriteFile(target, present, 0o644) }
		}
		if err := os.WriteFile(target, text, 0o644); err != nil {
			return fmt.Sprintf("the server's folder is not writable: %v", err)
		}
		files.undo = append(files.undo, putBack)
	}
	if !ask[bool](l, owner, "select exists (select from pg_available_extensions where name = 'loglineos')") {
		return "the server does not read " + share
	}
	return ""
}

// As on Supabase: the owner is no superuser; with and without BYPASSRLS, where FORCE binds it.
func TestMigratesForAnOwnerWithoutSuperuser(t *testing.T) {
	t.Parallel()
	for name, attributes := range map[string]string{"bare": "", "like Supabase's": "bypassrls replication"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			role := "owner_" + strings.ToLower(rand.Text()[:10])
			pgtest.New(t)
			db := pgtest.Empty(t)
			l := &ledger{t: t, db: db, conn: connect(t, db.URL)}
			t.Cleanup(func() {
				conn := connectForever(t, db.URL)
				run(t, conn, "drop owned by "+role+" cascade")
				run(t, conn, "alter database "+db.Name+" owner to session_user; drop role "+role)
			})
			ownedBy(l, role, attributes, "loglineos_sidecar, loglineos_kernel")
			run(t, l.conn, "set role "+role)
			execute(t, l.conn, migration(t, "0_1_0"))
			execute(t, l.conn, read(t, "../../sql/dist/loglineos.sql"))
			run(t, l.conn, "reset role")

			boots := actor{role: role}
			manifest := []any{"id", manifestID, "entity_type", "manifest", "status", "active", "owner_id", "system",
				"tenant_id", "system", "visibility", "public", "who", "system:boot"}
			l.given(boots, manifest...)
			l.given(boots, with(manifest, "seq", 1)...)
			wantCode(t, l.append(boots, with(manifest, "seq", 3)...), "LL002")
			function := []any{"id", id(1), "entity_type", "function", "status", "active", "visibility", "tenant"}
			l.given(alice, function...)
			l.given(alice, with(function, "seq", 1)...)
			l.given(ann, "entity_type", "request", "status", "scheduled", "parent_id", id(1))
			wantCode(t, l.append(bob, with(function, "seq", 2)...), "LL002")
			wantCode(t, l.do(boots, "delete from ledger.universal_registry"), "LL001")
			wantCode(t, l.do(boots, "set local role loglineos_sidecar"), "")
			l.given(engine, "entity_type", "execution", "owner_id", "alice", "tenant_id", "t1", "who", "kernel:x")
			if n := ask[int](l, boots, "select count(*) from ledger.visible_timeline"); n != 4 {
				t.Errorf("the owner sees %d spans, want 4", n)
			}
		})
	}
}

func TestSeedRunsTwice(t *testing.T) {
	t.Parallel()
	l := setup(t)
	seed := read(t, "../../supabase/seed.sql")
	execute(t, l.conn, seed)
	execute(t, l.conn, seed)
	if n := ask[int](l, owner, "select count(distinct tenant_id) from ledger.visible_timeline"); n != 2 {
		t.Errorf("seed has %d tenants, want 2", n)
	}
}

func TestPgTAP(t *testing.T) {
	t.Parallel()
	l := setup(t)
	pgtest.NeedExtension(t, l.db.URL, "pgtap")
	files, err := filepath.Glob("../../supabase/tests/database/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("list pgTAP files: %v, %d files", err, len(files))
	}
	for _, file := range files {
		passed, planned := 0, -1
		results, err := connect(t, l.db.URL).PgConn().Exec(context.Background(), string(read(t, file))).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, result := range results {
			for _, row := range result.Rows {
				for line := range strings.Lines(string(row[0])) {
					switch {
					case strings.HasPrefix(line, "1.."):
						planned, _ = strconv.Atoi(strings.TrimSpace(line[len("1.."):])) // 0 is no plan
					case strings.HasPrefix(line, "ok "):
						passed++
					case strings.HasPrefix(line, "not ok"), strings.HasPrefix(line, "#"):
						t.Errorf("%s: %s", file, line)
					}
				}
			}
		}
		if passed == 0 || passed != planned {
			t.Errorf("%s: %d checks passed, %d are planned", file, passed, planned)
		}
	}
}
