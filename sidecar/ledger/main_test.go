package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// setup returns a ledger on a database of its own, and an owner's connection to it.
func setup(t testing.TB, connectionsMax int32) (*Ledger, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	l, err := Open(t.Context(), db.SidecarURL, connectionsMax)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, connect(t, db.URL)
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// idOf makes distinct ids that sort by n.
func idOf(n int) span.ID { return span.MustID(fmt.Sprintf("%08x-0000-7000-8000-000000000000", n)) }

// note drafts a first version, sealed.
func note(t testing.TB, id span.ID, change ...func(*span.Span)) *span.Span {
	t.Helper()
	s := &span.Span{ID: id, EntityType: "note", Who: "user:alice", At: span.NewTime(time.Now()),
		OwnerID: "alice", TenantID: "t1", Visibility: "private"}
	for _, f := range change {
		f(s)
	}
	if err := s.Seal(nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func request(s *span.Span) {
	s.EntityType, s.Status, s.Input = "request", new("scheduled"), json.RawMessage(`{"n":1}`)
}

// next drafts the version after s, sealed.
func next(t testing.TB, s *span.Span, status string) *span.Span {
	t.Helper()
	n := s.NextRequest("sidecar:test", status)
	if err := n.Seal(n.PrevHash); err != nil {
		t.Fatal(err)
	}
	return n
}

// mustAppend appends groups that nothing speaks against.
func mustAppend(t testing.TB, l *Ledger, groups ...Group) []Outcome {
	t.Helper()
	outcomes, err := l.Append(t.Context(), groups)
	if err != nil {
		t.Fatal(err)
	}
	for i, outcome := range outcomes {
		if outcome.Err != nil || !outcome.Won {
			t.Fatalf("group %d: %+v", i, outcome)
		}
	}
	return outcomes
}

func find(t testing.TB, l *Ledger, scope Scope, filter Filter, limit int) ([]*span.Span, error) {
	t.Helper()
	var spans []*span.Span
	err := l.Find(t.Context(), scope, filter, limit, func(s *span.Span) error {
		spans = append(spans, s)
		return nil
	})
	return spans, err
}

func ask[T any](t testing.TB, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var value T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func exec(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
