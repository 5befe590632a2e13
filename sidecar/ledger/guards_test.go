package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// What a killed sidecar had sent may still be under way when the next one counts.
func TestAwaitOthersWaitsForWhatWasBegunBefore(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, err := Open(t.Context(), db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := Open(t.Context(), db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- l.AwaitOthers(t.Context()) }()
	select {
	case err := <-waited:
		t.Fatalf("it waits for nobody: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil && !errors.Is(err, ErrOthers) {
		t.Fatal(err)
	} else if err != nil {
		t.Error("it waits for what is over")
	}
	if err := l.AwaitOthers(t.Context()); err != nil {
		t.Errorf("with nobody there: %v", err)
	}
}
