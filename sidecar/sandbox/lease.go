package sandbox

import (
	"context"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/turns"
)

const (
	// aliveFor is how many runs there may be for each place. Those beyond the places wait, each in its child.
	aliveFor = 4
	// lendAfter is how long a run waits for the host or timers, in all, before another run has its place: most
	// answers are there sooner.
	lendAfter = 20 * time.Millisecond
	lendLeast = time.Millisecond // of each wait that follows
)

// lease is the place of one run. While the run waits it may be lent; before it goes on it is taken again.
type lease struct {
	turns  *turns.Turns
	tenant string

	again  sync.Mutex // held by whoever takes it again
	mu     sync.Mutex
	isLent bool
}

func (l *lease) lend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isLent {
		l.isLent = true
		l.turns.Lend(l.tenant)
	}
}

func (l *lease) lent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isLent
}

// retake waits for the place where it is lent. It reports false when ctx ends first.
func (l *lease) retake(ctx context.Context) bool {
	l.again.Lock()
	defer l.again.Unlock()
	if !l.lent() {
		return true
	}
	if !l.turns.Retake(ctx, l.tenant) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isLent = false
	return true
}

// end gives the place back, lent or not. Nobody may be taking it again.
func (l *lease) end() {
	if l.lent() {
		l.turns.LeaveLent(l.tenant)
		return
	}
	l.turns.Leave(l.tenant)
}
