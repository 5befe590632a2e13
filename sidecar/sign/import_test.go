package sign

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// An old cluster has counted its transactions up to five million; the ledger moves into a new one, which
// counts from the beginning. So by its number alone everything there comes before the revocation.
func TestWhatARevokedKeySignsAfterARestoreDoesNotCount(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	b, key := setup(t), newKey(t)
	b.rows, b.xact = nil, 5_000_000
	b.addKey(b.root, b.root, Rights{})
	current := b.addKey(b.root, key, functions())
	before := b.function(key)
	b.retire(b.root, current, "revoked", fmt.Sprintf("%d:%d:", b.xact+1, b.xact+1))
	after := b.function(key, func(s *span.Span) { s.ID = span.MustID("018f0000-0000-7000-8000-000000000002") })
	execute(t, conn, "select ledger.import_begin()")
	for _, row := range append(b.rows, before, after) {
		xact, err := parseXact(*row.Xact)
		if err != nil {
			t.Fatal(err)
		}
		row.AcceptedAt = new(span.NewTime(time.Now().Add((time.Duration(xact) - 5_000_100) * time.Minute)))
		insert(t, conn, row)
	}
	execute(t, conn, "select ledger.import_end()")
	late := b.function(key, func(s *span.Span) {
		s.ID, s.At = span.MustID("018f0000-0000-7000-8000-000000000003"), before.At
	})
	insert(t, conn, late)

	l, err := ledger.Open(t.Context(), db.SidecarURL, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rows, err := l.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Latest(t.Context(), []span.ID{before.ID, after.ID, late.ID})
	if err != nil || len(found) != 3 {
		t.Fatal(len(found), err)
	}
	trust := NewTrust(b.root.Fingerprint(), rows)
	wantCode(t, "before", trust.Check(found[before.ID], PurposeFunction), "")
	wantCode(t, "after, in the old cluster", trust.Check(found[after.ID], PurposeFunction), span.RunRevoked)
	if xact, err := parseXact(*found[late.ID].Xact); err != nil || xact > 5_000_000 {
		t.Fatalf("transaction %d, %v: the test shows nothing", xact, err)
	}
	wantCode(t, "in the new cluster", trust.Check(found[late.ID], PurposeFunction), span.RunRevoked)
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// insert appends row as the database's owner; its own columns are set anew where the import door is closed.
func insert(t *testing.T, conn *pgx.Conn, row *span.Span) {
	t.Helper()
	if err := insertRow(t, conn, row); err != nil {
		t.Fatalf("insert %s %d: %v", row.EntityType, row.Seq, err)
	}
}

// executor is a connection or a transaction.
type executor interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

func insertRow(t *testing.T, to executor, row *span.Span) error {
	encoded, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = to.Exec(t.Context(), `insert into ledger.universal_registry
		select * from jsonb_populate_record(null::ledger.universal_registry, $1::text::jsonb)`, string(encoded))
	return err
}
