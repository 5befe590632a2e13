package sandbox

import (
	"sync"
	"time"
)

// clock counts the JavaScript time and the waiting time of one task and calls expired when either is
// used up.
type clock struct {
	mu      sync.Mutex
	timeout time.Duration
	waitMax time.Duration
	used    time.Duration
	waited  time.Duration
	since   time.Time
	state   clockState
	timer   *time.Timer
	watch   *watchdog
	expired func(waiting bool)
	giveUp  func() // where set: called ownGrace after expired, unless the task has stopped
	over    bool
}

// ownGrace is what a native function has to come to its end after the interrupt. Then a code worker ends
// itself: it notices sooner than the parent, which kills at killGrace.
const ownGrace = 150 * time.Millisecond

type clockState int

const (
	clockStopped clockState = iota
	clockRunning
	clockWaiting
)

// turn changes the state and returns the JavaScript time used so far.
func (c *clock) turn(to clockState) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account(time.Now())
	if c.state == to {
		return c.used
	}
	if c.state == clockRunning {
		c.watch.leave()
	}
	c.state = to
	switch to {
	case clockRunning:
		c.watch.enter()
		c.arm(c.timeout - c.used)
	case clockWaiting:
		c.arm(c.waitMax - c.waited)
	case clockStopped:
		c.timer.Stop()
	}
	return c.used
}

func (c *clock) account(now time.Time) {
	switch c.state {
	case clockRunning:
		c.used += now.Sub(c.since)
	case clockWaiting:
		c.waited += now.Sub(c.since)
	}
	c.since = now
}

func (c *clock) arm(left time.Duration) {
	if c.over {
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(left, c.fire)
		return
	}
	c.timer.Reset(left)
}

// fire may come late, when the state has turned: it looks again at what is left.
func (c *clock) fire() {
	c.mu.Lock()
	if c.over && c.state != clockStopped {
		c.giveUp() // holding the lock, so that no result is sent meanwhile
	}
	c.account(time.Now())
	left, waiting := time.Duration(0), false
	switch c.state {
	case clockRunning:
		left = c.timeout - c.used
	case clockWaiting:
		left, waiting = c.waitMax-c.waited, true
	case clockStopped:
		c.mu.Unlock()
		return
	}
	if left > 0 {
		c.timer.Reset(left)
		c.mu.Unlock()
		return
	}
	if c.over = c.giveUp != nil; c.over {
		c.timer.Reset(ownGrace)
	}
	c.mu.Unlock()
	c.expired(waiting)
}
