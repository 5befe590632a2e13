package pgtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// connect opens a connection that ends with the test.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func run(t testing.TB, url, statement string) {
	t.Helper()
	if _, err := connect(t, url).Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// ask returns the one value that a query gives.
func ask[T any](t testing.TB, url, query string, args ...any) T {
	t.Helper()
	var value T
	if err := connect(t, url).QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	one, other := pgtest.New(t), pgtest.New(t)
	run(t, one.URL, "create table public.mine (number int)")
	if ask[bool](t, other.URL, "select to_regclass('public.mine') is not null") {
		t.Fatal("a table of one test's database is in another's")
	}
}

func TestNewIsMigratedAndEmptyIsNot(t *testing.T) {
	t.Parallel()
	const migrated = "select to_regnamespace('ledger') is not null"
	empty := pgtest.Empty(t)
	if !ask[bool](t, pgtest.New(t).URL, migrated) || ask[bool](t, empty.URL, migrated) {
		t.Fatal("New must have the schema ledger, Empty must not")
	}
	empty.Migrate(t)
	if !ask[bool](t, empty.URL, migrated) {
		t.Fatal("Migrate made no schema ledger")
	}
}

func TestTemplateIsReused(t *testing.T) {
	t.Parallel()
	one, other := pgtest.New(t), pgtest.New(t)
	// A table's number is given once, when the template is migrated, and copied with it.
	const number = "select min(oid)::bigint from pg_class where relnamespace = 'ledger'::regnamespace"
	if ask[int64](t, one.URL, number) != ask[int64](t, other.URL, number) {
		t.Fatal("two databases were migrated on their own")
	}
}

func TestSidecarMayLogInAndReplicate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const rights = `select current_user || rolcanlogin || rolreplication || rolsuper
		from pg_roles where rolname = current_user`
	if got := ask[string](t, db.SidecarURL, rights); got != "loglineos_sidecartruetruefalse" {
		t.Fatalf("rights of the sidecar's role: %s", got)
	}
}

func TestDropsTheDatabase(t *testing.T) {
	t.Parallel()
	outer := pgtest.Empty(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		db := pgtest.New(t)
		name = db.Name
		conn, err := pgx.Connect(t.Context(), db.URL) // left open: the drop is forced
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	})
	if ask[bool](t, outer.URL, "select exists (select from pg_database where datname = $1)", name) {
		t.Fatalf("%s is still there", name)
	}
}

func TestDropsTheDatabaseUnderASlot(t *testing.T) {
	t.Parallel()
	outer := pgtest.Empty(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		db := pgtest.New(t)
		name = db.Name
		run(t, db.URL, "select pg_create_logical_replication_slot('"+db.Name+"', 'pgoutput')")
	})
	const slot = "select exists (select from pg_replication_slots where slot_name = $1)"
	if ask[bool](t, outer.URL, slot, name) {
		t.Fatal("the slot outlived its database")
	}
}

func TestClusterHasItsOwnSettings(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, map[string]string{"wal_level": "replica", "shared_buffers": "16MB"})
	if got := ask[string](t, cluster.New(t).URL, "show wal_level"); got != "replica" {
		t.Fatalf("wal_level is %s", got)
	}
}

func TestClusterKeepsRowsThroughAKill(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	db := cluster.Empty(t)
	run(t, db.URL, "create table public.kept as select 4711 as number")
	if err := cluster.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask[int](t, db.URL, "select number from public.kept"); got != 4711 {
		t.Fatalf("got %d", got)
	}
}

func TestClusterMayEndDead(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	cluster.New(t)
	if err := cluster.Server.Kill(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkNew prints what a test waits for its database; the drops come after the measurement.
func BenchmarkNew(b *testing.B) {
	pgtest.New(b) // the server and its template
	for b.Loop() {
		pgtest.New(b)
	}
}
