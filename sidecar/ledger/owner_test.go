package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/supabase"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func owner(t testing.TB, databaseURL string) *Owner {
	t.Helper()
	o, err := OpenOwner(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close(context.Background()) })
	return o
}

// small are migrations that make no roles, so that they run on a shared server.
func small(t testing.TB) []Migration {
	t.Helper()
	files := fstest.MapFS{
		"m/20260102000000_second_part.sql": {Data: []byte("insert into public.numbers values (2);")},
		"m/20260101000000_first.sql": {Data: []byte("create table public.numbers (n int primary key);\n" +
			"-- a comment; 'quoted;'\ncreate function public.one() returns int language sql as $$ select 1; $$;")},
		"m/readme.md": {Data: []byte("no migration")},
	}
	migrations, err := Migrations(files, "m")
	if err != nil || len(migrations) != 2 || migrations[0].Version != "20260101000000" ||
		migrations[1].Name != "second_part" {
		t.Fatalf("got %v, %v", migrations, err)
	}
	return migrations
}

func TestMigrateTwiceAppliesOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	o, migrations := owner(t, db.URL), small(t)
	applied, err := o.Migrate(t.Context(), migrations)
	if err != nil || len(applied) != 2 {
		t.Fatalf("got %d, %v", len(applied), err)
	}
	again, err := o.Migrate(t.Context(), migrations)
	if err != nil || len(again) != 0 {
		t.Fatalf("the second time: got %d, %v", len(again), err)
	}
	// What `supabase migration list` and `db push` read.
	conn := connect(t, db.URL)
	rows, err := conn.Query(t.Context(), `select version, coalesce(name, ''), array_to_string(statements, ';')
		from supabase_migrations.schema_migrations order by version`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for _, want := range migrations {
		var got Migration
		if !rows.Next() || rows.Scan(&got.Version, &got.Name, &got.SQL) != nil || got != want {
			t.Errorf("history has %+v, want %+v", got, want)
		}
	}
}

func TestMigrateConcurrentlyAppliesOnce(t *testing.T) {
	t.Parallel()
	migrations := small(t)
	for range 3 {
		db := pgtest.Empty(t)
		var workers sync.WaitGroup
		var mu sync.Mutex
		applied := 0
		start := make(chan struct{})
		for range 4 {
			o := owner(t, db.URL)
			workers.Go(func() {
				<-start
				mine, err := o.Migrate(t.Context(), migrations)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				applied += len(mine)
			})
		}
		close(start)
		workers.Wait()
		if applied != 2 {
			t.Errorf("%d migrations applied, want 2", applied)
		}
	}
}

func TestMigrateKeepsAnOlderHistory(t *testing.T) {
	t.Parallel()
	db, migrations := pgtest.Empty(t), small(t)
	conn := connect(t, db.URL)
	// The table as the first Supabase CLIs made it, with a migration that is done.
	exec(t, conn, `create schema supabase_migrations;
		create table supabase_migrations.schema_migrations (version text not null primary key);
		insert into supabase_migrations.schema_migrations values ('20260101000000');
		create table public.numbers (n int primary key)`)
	applied, err := owner(t, db.URL).Migrate(t.Context(), migrations)
	if err != nil || len(applied) != 1 || applied[0].Version != "20260102000000" {
		t.Fatalf("got %v, %v", applied, err)
	}
}

// A database of the release before: `logline migrate` and `up` bring it to this one, and keep its rows.
func TestMigrateGoesOnFromTheReleaseBefore(t *testing.T) {
	t.Parallel()
	pgtest.New(t) // makes the roles
	db := pgtest.Empty(t)
	migrations, err := Migrations(supabase.Migrations, "migrations")
	if err != nil || len(migrations) < 2 {
		t.Fatalf("%d migrations, %v", len(migrations), err)
	}
	o, conn := owner(t, db.URL), connect(t, db.URL)
	if _, err := o.Migrate(t.Context(), migrations[:1]); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
		values ('note', 'alice', 't1', 'user:alice')`)
	if _, err := Open(t.Context(), db.SidecarURL, 2); err == nil ||
		!strings.Contains(err.Error(), "older than version "+minVersion) {
		t.Errorf("a sidecar on it: got %v, want a refusal", err)
	}
	applied, err := o.Migrate(t.Context(), migrations)
	if err != nil || len(applied) != len(migrations)-1 {
		t.Fatalf("applied %d, %v", len(applied), err)
	}
	if n := ask[int](t, conn, "select count(*) from ledger.history"); n != 1 {
		t.Errorf("%d rows after the upgrade, want 1", n)
	}
	l, err := Open(t.Context(), db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// Installed by psql, or pushed by another project whose history is its own.
func TestMigrateTakesOverALedgerThatTheHistoryDoesNotKnow(t *testing.T) {
	t.Parallel()
	migrations, err := Migrations(supabase.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{"0.1.0", minVersion} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			pgtest.New(t) // makes the roles
			db := pgtest.Empty(t)
			o, conn := owner(t, db.URL), connect(t, db.URL)
			if _, err := o.MigrateAgain(t.Context(), migrations); err == nil ||
				!strings.Contains(err.Error(), "no ledger yet: run `logline migrate`") {
				t.Errorf("again without a ledger: %v", err)
			}
			exec(t, conn, migrations[i].SQL)
			exec(t, conn, `insert into ledger.universal_registry (entity_type, owner_id, tenant_id, who)
				values ('note', 'alice', 't1', 'user:alice')`)
			_, err := o.Migrate(t.Context(), migrations)
			if err == nil || !strings.Contains(err.Error(), "has a ledger of version "+version+" that its history") ||
				!strings.Contains(err.Error(), "`logline migrate --again`") {
				t.Fatalf("got %v, want the version and the mend", err)
			}
			if _, err := o.MigrateAgain(t.Context(), migrations); err != nil {
				t.Fatal(err)
			}
			applied, err := o.Migrate(t.Context(), migrations)
			if err != nil || len(applied) != 0 {
				t.Errorf("then it applies %d, %v", len(applied), err)
			}
			if n := ask[int](t, conn, "select count(*) from ledger.history"); n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
			wantOpen(t, db.SidecarURL)
		})
	}
}

func TestMigrateAgainPutsWallsUpAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	migrations, err := Migrations(supabase.Migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	o, conn := owner(t, db.URL), connect(t, db.URL)
	exec(t, conn, `create or replace function ledger.current_user_id() returns text language sql
		stable set search_path = pg_catalog, pg_temp as $$ select 'alice' $$`)
	if n := ask[int](t, conn, "select count(*) from ledger.guard_check()"); n == 0 {
		t.Fatal("no wall has fallen")
	}
	if _, err := o.MigrateAgain(t.Context(), migrations); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](t, conn, "select count(*) from ledger.guard_check()"); n != 0 {
		t.Errorf("%d walls do not stand", n)
	}
	exec(t, conn, "select ledger.import_begin()")
	_, err = o.MigrateAgain(t.Context(), migrations)
	if err == nil || !strings.Contains(err.Error(), "\nHINT: End that first: select ledger.import_end()") {
		t.Errorf("while the import door is open: got %v, want the hint", err)
	}
	exec(t, conn, "select ledger.import_end()")
	exec(t, conn, `create or replace function ledger_private.version() returns text language sql
		immutable parallel safe set search_path = pg_catalog, pg_temp return '10.0.0'`)
	_, err = o.MigrateAgain(t.Context(), migrations)
	if err == nil || !strings.Contains(err.Error(), "the ledger is of version 10.0.0, this program of 0.2.0") {
		t.Errorf("a later ledger: got %v", err)
	}
}

func TestBrokenMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	broken := append(small(t)[:1], Migration{"20260103000000", "broken",
		"create table public.half (n int); select 1/0;"},
		Migration{"20260104000000", "never", "create table public.never (n int)"})
	applied, err := owner(t, db.URL).Migrate(t.Context(), broken)
	if err == nil || len(applied) != 1 || !strings.Contains(err.Error(), "20260103000000_broken") {
		t.Fatalf("got %v, %v", applied, err)
	}
	if ask[bool](t, connect(t, db.URL), `select to_regclass('public.half') is not null or to_regclass('public.never')
		is not null or (select count(*) <> 1 from supabase_migrations.schema_migrations)`) {
		t.Error("something of the broken migration is left")
	}
}

func TestMigrateByAnotherLoginNamesTheMend(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := owner(t, db.SidecarURL).Migrate(t.Context(), small(t))
	if err == nil || !strings.Contains(err.Error(), "run it as the database owner") {
		t.Fatalf("got %v", err)
	}
}

func TestShippedMigrationsAreReadInOrder(t *testing.T) {
	t.Parallel()
	migrations, err := Migrations(supabase.Migrations, "migrations")
	if err != nil || len(migrations) == 0 || !slices.IsSortedFunc(migrations, func(a, b Migration) int {
		return strings.Compare(a.Version, b.Version)
	}) {
		t.Fatalf("got %v", err)
	}
	if _, err := Migrations(fstest.MapFS{"m/nodash.sql": {}}, "m"); err == nil {
		t.Error("a file without a version passes")
	}
}

func system(code string) *span.Span {
	return &span.Span{ID: span.RunCodeID, EntityType: "function", Who: "system:bootstrap", At: note0.At,
		OwnerID: "system", TenantID: "system", Visibility: "public", Status: new("active"), Name: new("run_code"),
		Code: &code, Language: new("javascript"), Metadata: json.RawMessage(`{"b": 1, "a": [2]}`)}
}

var note0 = span.Span{At: func() span.Time { at, _ := span.ParseTime("2026-01-01T00:00:00Z"); return at }()}

func TestPublishIsIdempotentAndChains(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	o := &Owner{conn}
	publish := func(s *span.Span) Publication {
		t.Helper()
		result, err := o.Publish(t.Context(), []*span.Span{s})
		if err != nil || len(result) != 1 {
			t.Fatal(err)
		}
		return result[0]
	}
	first := publish(system("return 1"))
	if !first.Changed || first.Span.Seq != 0 || first.Span.PrevHash != nil || first.Span.CurrHash == nil {
		t.Fatalf("got %+v", first)
	}
	same := system("return 1")
	same.Metadata = json.RawMessage(`{"a":[2],"b":1}`)
	if again := publish(same); again.Changed || again.Span.Seq != 0 {
		t.Fatalf("the same content: got %+v", again)
	}
	second := publish(system("return 2"))
	if !second.Changed || second.Span.Seq != 1 || *second.Span.PrevHash != *first.Span.CurrHash {
		t.Fatalf("got %+v", second)
	}
	governed := system("return 3")
	governed.Who = "user:gina"
	governed.Seq = 2
	if err := governed.Seal(second.Span.CurrHash); err != nil {
		t.Fatal(err)
	}
	if _, err := appendOn(t.Context(), conn, []Group{{Rows: []*span.Span{governed}}}); err != nil {
		t.Fatal(err)
	}
	if kept := publish(system("return 4")); kept.Changed || !kept.Kept || kept.Span.Seq != 2 {
		t.Fatalf("over a governor's version: got %+v", kept)
	}
	stored, err := l.Latest(t.Context(), []span.ID{span.RunCodeID})
	if err != nil || *stored[span.RunCodeID].Code != "return 3" || stored[span.RunCodeID].VerifyHash() != nil {
		t.Fatalf("got %v, %v", stored, err)
	}
}

// Whoever has ended a kernel, in whose name ever, must not make each later publication fail.
func TestPublishKeepsWhatIsOver(t *testing.T) {
	t.Parallel()
	_, conn := setup(t, 2)
	o := &Owner{conn}
	if _, err := o.Publish(t.Context(), []*span.Span{system("return 1")}); err != nil {
		t.Fatal(err)
	}
	for seq, status := range []string{"deprecated", "revoked"} {
		over := system("return 1")
		over.Seq, over.Status = seq+1, &status // without a hash, as a client writes it
		if _, err := appendOn(t.Context(), conn, []Group{{Rows: []*span.Span{over}}}); err != nil {
			t.Fatal(err)
		}
		result, err := o.Publish(t.Context(), []*span.Span{system("return 2")})
		if err != nil || !result[0].Kept || result[0].Why == nil || result[0].Span.Seq != seq+1 {
			t.Errorf("%s: got %+v, %v", status, result, err)
		}
	}
}

func TestPublishTwiceAtOnceReportsTheLoser(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var workers sync.WaitGroup
	var mu sync.Mutex
	changed, lost := 0, 0
	for i := range 4 {
		o := owner(t, db.URL)
		workers.Go(func() {
			result, err := o.Publish(t.Context(), []*span.Span{system(fmt.Sprint("return ", i))})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && strings.Contains(err.Error(), "run it again"):
				lost++
			case err != nil:
				t.Error(err)
			case result[0].Changed:
				changed++
			}
		})
	}
	workers.Wait()
	conn := connect(t, db.URL)
	if n := count(t, conn); changed+lost != 4 || changed != n {
		t.Errorf("%d changed, %d lost, %d versions", changed, lost, n)
	}
	if ask[bool](t, conn, `select exists (select from ledger.universal_registry r where r.seq > 0 and r.prev_hash
		is distinct from (select p.curr_hash from ledger.universal_registry p where p.id = r.id and p.seq = r.seq -
			1))`) {
		t.Error("the chain is broken")
	}
}

func TestPublishByTheSidecarIsRefused(t *testing.T) {
	t.Parallel()
	_, err := owner(t, pgtest.New(t).SidecarURL).Publish(t.Context(), []*span.Span{system("return 1")})
	if !IsRefusal(err) {
		t.Fatalf("got %v", err)
	}
}

func TestOpenNamesCauseAndMend(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := connect(t, db.URL)
	exec(t, conn, "create role "+db.Name+" login password 'x'")
	defer exec(t, conn, "drop role "+db.Name)
	for _, c := range []struct{ name, url, want string }{
		{"no ledger", pgtest.Empty(t).URL, "run `logline migrate`"},
		{"stranger", withUser(t, db.URL, db.Name, "x"), "may not become loglineos_sidecar"},
		{"nobody there", "postgres://u:secret@127.0.0.1:1/x", "connect to DATABASE_URL"},
		{"malformed", "postgres://%zz", "parse DATABASE_URL"},
		{"malformed words", "host=127.0.0.1 password = 'a secret' port=no", "parse DATABASE_URL"},
	} {
		l, err := Open(t.Context(), c.url, 2)
		if err == nil {
			l.Close()
			t.Errorf("%s: opens", c.name)
			continue
		}
		if _, err := OpenOwner(t.Context(), c.url); err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: as the owner: %q", c.name, err)
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %q, want %q", c.name, err, c.want)
		}
	}
	l, err := Open(t.Context(), db.URL, 2) // the owner, who becomes the sidecar
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var user string
	if err := l.pool.QueryRow(t.Context(), "select current_user").Scan(&user); err != nil || user != Role {
		t.Errorf("works as %s, %v", user, err)
	}
}

func withUser(t testing.TB, text, user, password string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func TestExplainsARoleThatIsMissing(t *testing.T) {
	t.Parallel()
	err := explainRole("me", errors.New("broken pipe"))
	if err == nil || !strings.Contains(err.Error(), "become "+Role) {
		t.Error(err)
	}
	conn := connect(t, pgtest.New(t).URL)
	_, err = conn.Exec(t.Context(), "set role loglineos_nobody")
	if err = explainRole("me", err); !strings.Contains(err.Error(), "run `logline migrate` first") {
		t.Error(err)
	}
}
