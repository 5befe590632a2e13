package stage0

import (
	"sync/atomic"
	"time"
)

// Stats is what Stage-0 has refused since the start, and its circuits now.
type Stats struct {
	Refused                      map[string]int64 // by Reservation.Reason
	CircuitsOpen, CircuitsTrying int
}

// refusals counts reservations that were refused. Its zero value is ready; it is safe for concurrent use.
type refusals struct{ tenant, user, rate, breaker atomic.Int64 }

func (r *refusals) count(reason string) {
	switch reason {
	case "tenant":
		r.tenant.Add(1)
	case "user":
		r.user.Add(1)
	case "rate":
		r.rate.Add(1)
	case "breaker":
		r.breaker.Add(1)
	}
}

// Stats looks at the counters.
func (s *Stage0) Stats() Stats {
	open, trying := 0, 0
	if manifest := s.manifest.Load(); manifest != nil {
		open, trying = s.circuits.stand(manifest.Policy.CircuitBreakerThreshold, s.now())
	}
	return Stats{CircuitsOpen: open, CircuitsTrying: trying, Refused: map[string]int64{
		"tenant": s.refusals.tenant.Load(), "user": s.refusals.user.Load(),
		"rate": s.refusals.rate.Load(), "breaker": s.refusals.breaker.Load(),
	}}
}

// stand counts the circuits that let nothing through, and those that let one run try.
func (c *circuits) stand(threshold int, now time.Time) (open, trying int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, state := range c.states {
		switch {
		case state.failures < threshold:
		case state.until.After(now):
			open++
		default:
			trying++
		}
	}
	return open, trying
}
