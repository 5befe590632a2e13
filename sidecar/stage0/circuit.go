package stage0

import (
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// circuitRest is how long a circuit stays open before one run is let through.
const circuitRest = time.Minute

// circuits stop the runs of a function that fails again and again, for each caller on his own: what one does
// to a shared function stops nobody else, be it his tenant mate. They live in the memory of the leader,
// who recalls at the first use what the ledger says of the last runs. It is safe for concurrent use.
//
//	closed ── threshold failures in a row ──► open ── 60 s ──► half open: one run ── success ──► closed
//	                                            ▲                            └─────── failure ─┐
//	                                            └──────────────────────────────────────────────┘
type circuits struct {
	recalls[circuitKey]
	mu     sync.Mutex
	states map[circuitKey]*circuit
}

type circuitKey struct {
	tenant, caller string
	function       span.ID
}

func circuitOf(request *span.Span, function span.ID) circuitKey {
	return circuitKey{request.TenantID, request.OwnerID, function}
}

type circuit struct {
	failures int
	until    time.Time
	trial    time.Time // when the run that was let through began; zero: none is under way
}

// forget drops all: somebody else may have led meanwhile.
func (c *circuits) forget() {
	c.mu.Lock()
	clear(c.states)
	c.mu.Unlock()
	c.recalls.forget()
}

// recall takes what the ledger says: the last run of so many failures in a row ended then.
func (c *circuits) recall(key circuitKey, failures, threshold int, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if failures == 0 || c.states[key] != nil {
		return
	}
	if c.states == nil || len(c.states) >= guardsMax {
		c.states = map[circuitKey]*circuit{}
	}
	state := &circuit{failures: failures}
	if failures >= threshold {
		state.until = last.Add(circuitRest)
	}
	c.states[key] = state
}

// enter returns when a run may be tried, where none may now; else the zero time.
func (c *circuits) enter(key circuitKey, threshold int, now time.Time) (until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.states[key]
	if state == nil || state.failures < threshold {
		return time.Time{}
	}
	if state.until.After(now) {
		return state.until
	}
	// A trial that never ends, because its run was cancelled, holds nobody up for long.
	if !state.trial.IsZero() && now.Sub(state.trial) < circuitRest {
		return state.trial.Add(circuitRest)
	}
	state.trial = now
	return time.Time{}
}

// leave takes back what enter let through: the run did not begin.
func (c *circuits) leave(key circuitKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := c.states[key]; state != nil {
		state.trial = time.Time{}
	}
}

// note takes the end of a run, and reports whether this one opened the circuit.
func (c *circuits) note(key circuitKey, isFailure bool, threshold int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.states[key]
	if !isFailure {
		delete(c.states, key)
		return false
	}
	if state == nil {
		if c.states == nil || len(c.states) >= guardsMax {
			c.states = map[circuitKey]*circuit{}
		}
		state = &circuit{}
		c.states[key] = state
	}
	state.failures++
	state.trial = time.Time{}
	if state.failures < threshold {
		return false
	}
	state.until = now.Add(circuitRest)
	return state.failures == threshold
}
