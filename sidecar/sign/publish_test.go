package sign

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// appendAs inserts row as PostgREST would for these claims, and returns the code of a refusal.
func appendAs(t *testing.T, conn *pgx.Conn, claims string, row *span.Span) string {
	t.Helper()
	encoded, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select set_config('role', 'authenticated', true),
			set_config('request.jwt.claims', $1, true)`, claims); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "select ledger.append($1::text::jsonb)", string(encoded))
		return err
	})
	var refusal *pgconn.PgError
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if refusal != nil {
		return refusal.Code
	}
	return ""
}

func TestAGovernorPublishesKeysAndNobodyIsThereFirst(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const (
		alice    = `{"sub": "alice", "app_metadata": {"tenant_id": "acme"}}`
		governor = `{"sub": "root", "app_metadata": {"tenant_id": "system", "logline_role": "governor"}}`
	)
	row := setup(t).rows[0]
	row.Xact, row.AcceptedAt = nil, nil
	squatter := &span.Span{ID: row.ID, EntityType: "note", Who: "user:alice", At: row.At, OwnerID: "alice",
		TenantID: "acme", Visibility: "private", IdempotencyKey: row.IdempotencyKey}
	for _, c := range []struct {
		what, claims string
		row          *span.Span
		want         string
	}{
		{"the key span by a user", alice, row, string(span.CodeNotOwner)},
		{"a note under its id by a user", alice, squatter, string(span.CodeReservedID)},
		{"the key span by a governor", governor, row, ""},
		{"the same again", governor, row, ""},
	} {
		if got := appendAs(t, conn, c.claims, c.row); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}
