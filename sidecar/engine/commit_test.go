package engine

import (
	"testing"
	"time"
)

// A commit beside the one that is under way would take apart what could be one statement.
func TestFewRowsWaitForTheCommitThatIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		committing, rows int
		ago              time.Duration
		want             bool
	}{
		{"the first waits for nothing", 0, 1, 0, true},
		{"few rows wait", 1, commitRowsMany - 1, 0, false},
		{"many rows do not", 1, commitRowsMany, 0, true},
		{"few rows do not wait long", 1, 1, commitWait, true},
		{"no more than so many at once", commitsMax, commitRowsMax, time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := New(Config{})
			e.ctx = t.Context()
			e.committing, e.pending.rows, e.committedAt = c.committing, c.rows, time.Now().Add(-c.ago)
			if got := e.mayCommit(); got != c.want {
				t.Errorf("got %t", got)
			}
			if e.flushArmed == (c.want || c.committing == commitsMax) {
				t.Errorf("a timer is set: %t", e.flushArmed)
			}
		})
	}
}
