package program

import (
	"context"
	"testing"
	"time"
)

// Patience is far more than anything takes that a test waits for: milliseconds to seconds on an idle machine.
const Patience = 90 * time.Second

// pollEvery is how often a condition is looked at.
const pollEvery = 20 * time.Millisecond

// Eventually looks until done answers true, and fails the test where that takes longer than Patience.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !Within(t, Patience, done) {
		t.Fatalf("not within %s: %s", Patience, what)
	}
}

// Within looks for at most limit and says whether done answered true.
func Within(t testing.TB, limit time.Duration, done func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
