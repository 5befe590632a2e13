package ledger

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
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

// One statement reads for many callers; each gets what is of his function, tenant and user.
func TestFailuresInARowAreOfEachCallersOwnRuns(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 4)
	n := 100
	run := func(function int, caller, status string) {
		t.Helper()
		n++
		row := note(t, idOf(n), func(s *span.Span) {
			parent := idOf(function)
			s.EntityType, s.Did, s.Status, s.ParentID = "execution", new("executed"), &status, &parent
			s.OwnerID, s.Metadata = caller, json.RawMessage(`{"run": {"seed": "1"}}`)
		})
		mustAppend(t, l, Group{Rows: []*span.Span{row}})
	}
	for _, status := range []string{"error", "complete", "error", "error"} {
		run(1, "alice", status)
	}
	run(1, "bob", "complete")
	run(2, "alice", "error")
	tenant := note(t, idOf(1)).TenantID
	keys := []runsKey{{idOf(2), tenant, "alice", 5}, {idOf(1), tenant, "bob", 5}, {idOf(1), tenant, "alice", 5},
		{idOf(1), tenant, "alice", 1}, {idOf(1), "elsewhere", "alice", 5}, {idOf(3), tenant, "alice", 5}}
	found, err := l.failedRuns(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0, 2, 1, 0, 0} {
		key := keys[i]
		if got := found[key]; got.count != want || got.last.IsZero() != (want == 0) {
			t.Errorf("%v: %+v, want %d", key, got, want)
		}
		got, last, err := l.FailuresInARow(t.Context(), key.function, key.tenant, key.caller, key.most)
		if err != nil || got != want || !last.Equal(found[key].last) {
			t.Errorf("alone %v: %d, %s, %v", key, got, last, err)
		}
	}
}
