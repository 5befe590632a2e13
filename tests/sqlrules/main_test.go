// Package sqlrules holds the laws of the ledger, told by a real Postgres: what is refused, to whom, by
// which code. Each test has a database of its own.
package sqlrules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// actor is one who speaks to the database: a role, and what the API has verified about him.
type actor struct {
	role     string
	claims   string // request.jwt.claims; none is not set at all
	settings map[string]string
}

func user(sub, tenant string) actor {
	return actor{role: "authenticated",
		claims: fmt.Sprintf(`{"sub":%q,"role":"authenticated","app_metadata":{"tenant_id":%q}}`, sub, tenant)}
}

// kernelFor is ledger code that runs on behalf of a user.
func kernelFor(user, tenant string) actor {
	return actor{role: "loglineos_kernel",
		settings: map[string]string{"app.user_id": user, "app.tenant_id": tenant}}
}

var (
	owner    = actor{role: "none"}
	engine   = actor{role: "loglineos_sidecar"}
	service  = actor{role: "service_role", claims: `{"role":"service_role"}`}
	anon     = actor{role: "anon", claims: `{"role":"anon"}`}
	nobody   = actor{role: "authenticated"}
	alice    = user("alice", "t1")
	ann      = user("ann", "t1")
	bob      = user("bob", "t2")
	governor = actor{role: "authenticated", claims: `{"sub":"grace","app_metadata":{"tenant_id":"t1",
		"logline_role":"governor"}}`}
)

// ledger is one test's database and a connection to it as the owner.
type ledger struct {
	t    testing.TB
	db   *pgtest.Database
	conn *pgx.Conn
}

func setup(t testing.TB) *ledger {
	t.Helper()
	db := pgtest.New(t)
	return &ledger{t: t, db: db, conn: connect(t, db.URL)}
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// in runs then in a transaction as PostgREST would: role and claims are local to it.
func (l *ledger) in(who actor, then func(tx pgx.Tx) error) error {
	ctx := l.t.Context()
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local role "+who.role); err != nil {
			return fmt.Errorf("set role: %w", err)
		}
		settings := map[string]string{}
		if who.claims != "" {
			settings["request.jwt.claims"] = who.claims
		}
		for name, value := range who.settings {
			settings[name] = value
		}
		for name, value := range settings {
			if _, err := tx.Exec(ctx, "select set_config($1, $2, true)", name, value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
		return then(tx)
	})
}

// do runs one statement as who.
func (l *ledger) do(who actor, statement string, arguments ...any) error {
	return l.in(who, func(tx pgx.Tx) error {
		_, err := tx.Exec(l.t.Context(), statement, arguments...)
		return err
	})
}

// append inserts one span as who; pairs are column, value.
func (l *ledger) append(who actor, pairs ...any) error {
	statement, values := insert(pairs)
	return l.do(who, statement, values...)
}

// given appends a span that the test needs.
func (l *ledger) given(who actor, pairs ...any) {
	l.t.Helper()
	if err := l.append(who, pairs...); err != nil {
		l.t.Fatalf("append %v: %v", pairs, err)
	}
}

func insert(pairs []any) (statement string, values []any) {
	var columns, places []string
	for i := 0; i < len(pairs); i += 2 {
		values = append(values, pairs[i+1])
		columns = append(columns, pairs[i].(string))
		places = append(places, fmt.Sprintf("$%d", len(values)))
	}
	return fmt.Sprintf("insert into ledger.universal_registry (%s) values (%s)",
		strings.Join(columns, ", "), strings.Join(places, ", ")), values
}

// with returns pairs with others behind them; of a column that is in both, the later one counts.
func with(pairs []any, others ...any) []any {
	var merged []any
	for i := 0; i < len(pairs); i += 2 {
		replaced := false
		for j := 0; j < len(others); j += 2 {
			replaced = replaced || others[j] == pairs[i]
		}
		if !replaced {
			merged = append(merged, pairs[i], pairs[i+1])
		}
	}
	return append(merged, others...)
}

// ask returns the one value of a query as who.
func ask[T any](l *ledger, who actor, query string, arguments ...any) T {
	l.t.Helper()
	var value T
	err := l.in(who, func(tx pgx.Tx) error {
		return tx.QueryRow(l.t.Context(), query, arguments...).Scan(&value)
	})
	if err != nil {
		l.t.Fatalf("ask as %s: %v", who.role, err)
	}
	return value
}

// wantCode fails the test unless err is the refusal with this SQLSTATE ("" is no error). One of ours must
// say the cause and the mend.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var refusal *pgconn.PgError
	switch {
	case code == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case code == "":
	case !errors.As(err, &refusal):
		t.Errorf("got error %v, want SQLSTATE %s", err, code)
	case refusal.Code != code:
		t.Errorf("got SQLSTATE %s (%s), want %s", refusal.Code, refusal.Message, code)
	case strings.HasPrefix(code, "LL") && (refusal.Message == "" || refusal.Hint == ""):
		t.Errorf("%s says message %q, hint %q; want both", code, refusal.Message, refusal.Hint)
	}
}

// id returns a version 4 UUID that ends in n.
func id(n int) string { return fmt.Sprintf("a0000000-0000-4000-9000-%012d", n) }

// derived returns a version 8 UUID that ends in n.
func derived(n int) string { return fmt.Sprintf("01920000-0000-8000-9000-%012d", n) }

const (
	manifestID = "00000000-0000-4000-8000-0000000000aa"
	hashOne    = "1111111111111111111111111111111111111111111111111111111111111111"
	hashTwo    = "2222222222222222222222222222222222222222222222222222222222222222"
)

// connectForever connects for a cleanup, when the context of the test is over.
func connectForever(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// run executes a statement of the test's own.
func run(t testing.TB, conn *pgx.Conn, statement string, arguments ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), statement, arguments...); err != nil {
		t.Fatalf("run %.80q: %v", statement, err)
	}
}

func replaceID(text, from, to string) string { return strings.ReplaceAll(text, from, to) }

// sameCode reports whether err is the refusal with this SQLSTATE ("" is no error).
func sameCode(err error, code string) bool {
	var refusal *pgconn.PgError
	return err == nil && code == "" || errors.As(err, &refusal) && refusal.Code == code
}
