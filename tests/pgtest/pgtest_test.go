package pgtest_test

import (
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
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) //nolint:contextcheck // closing needs no time
	return conn
}

// ask returns the one value that a query gives.
func ask[T any](t testing.TB, url, query string) T {
	t.Helper()
	var value T
	if err := connect(t, url).QueryRow(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	one, other := pgtest.New(t), pgtest.New(t)
	ask[int](t, one.URL, "with made as (select 1) select 1 from made")
	if _, err := connect(t, one.URL).Exec(t.Context(), "create table public.mine (a int)"); err != nil {
		t.Fatal(err)
	}
	if ask[bool](t, other.URL, "select to_regclass('public.mine') is not null") {
		t.Fatal("a table of one test's database is in another's")
	}
}
