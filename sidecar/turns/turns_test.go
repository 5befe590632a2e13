package turns

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// wants starts a take and returns a channel that is closed when the place is there.
func wants(t *testing.T, turns *Turns, ctx context.Context, tenant string) <-chan struct{} {
	t.Helper()
	got := make(chan struct{})
	before := waitingFor(turns, tenant)
	go func() {
		if turns.Take(ctx, nil, tenant) {
			close(got)
		}
	}()
	deadline := time.After(10 * time.Second)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-got:
			return got
		case <-deadline:
			t.Fatalf("%s neither waits nor has a place", tenant)
		case <-ticker.C:
			if waitingFor(turns, tenant) > before {
				return got
			}
		}
	}
}

func waitingFor(turns *Turns, tenant string) int {
	turns.mu.Lock()
	defer turns.mu.Unlock()
	return len(turns.waiting[tenant])
}

func has(got <-chan struct{}) bool {
	select {
	case <-got:
		return true
	default:
		return false
	}
}

func TestNoTenantHoldsMoreThanItsShare(t *testing.T) {
	t.Parallel()
	turns := New(3, 2)
	first, second := wants(t, turns, t.Context(), "a"), wants(t, turns, t.Context(), "a")
	third := wants(t, turns, t.Context(), "a")
	if !has(first) || !has(second) || has(third) {
		t.Fatal("want two of three places for one tenant")
	}
	if !has(wants(t, turns, t.Context(), "b")) {
		t.Fatal("another tenant found no place")
	}
	turns.Leave("a")
	<-third
}

func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	turns := New(1, 1)
	<-wants(t, turns, t.Context(), "a")
	a1, a2 := wants(t, turns, t.Context(), "a"), wants(t, turns, t.Context(), "a")
	b := wants(t, turns, t.Context(), "b")
	turns.Leave("a")
	<-a1
	if has(b) || has(a2) {
		t.Fatal("more places than there are")
	}
	turns.Leave("a")
	<-b
	turns.Leave("b")
	<-a2
}

func TestWhoGivesUpLosesNoPlace(t *testing.T) {
	t.Parallel()
	turns := New(1, 1)
	<-wants(t, turns, t.Context(), "a")
	ctx, cancel := context.WithCancel(t.Context())
	wants(t, turns, ctx, "b")
	c := wants(t, turns, t.Context(), "c")
	cancel()
	turns.Leave("a")
	<-c
	turns.Leave("c")
	if turns.mu.Lock(); turns.free != 1 || len(turns.held) != 0 {
		t.Errorf("%d free, %v held", turns.free, turns.held)
	}
	turns.mu.Unlock()
}

func TestWhoComesBackIsServedFirst(t *testing.T) {
	t.Parallel()
	turns := NewLending(1, 1, 4)
	<-wants(t, turns, t.Context(), "a")
	turns.Lend("a")
	<-wants(t, turns, t.Context(), "b")
	c := wants(t, turns, t.Context(), "c")
	again := make(chan bool, 2)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { again <- turns.Retake(ctx, "a") }()
	for turns.Count("a").Back == 0 {
		runtime.Gosched()
	}
	turns.Leave("b")
	if !<-again || has(c) {
		t.Error("the one that begins was served first")
	}
	turns.Lend("a")
	<-c
	go func() { again <- turns.Retake(ctx, "a") }()
	cancel()
	if <-again {
		t.Error("it has a place that there is not")
	}
	turns.LeaveLent("a")
	turns.Leave("c")
	if got := turns.Count("a"); got != (Count{Free: 1, Room: 4}) {
		t.Errorf("%+v", got)
	}
}
