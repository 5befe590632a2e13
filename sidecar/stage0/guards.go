package stage0

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds that hold against a ledger's own code.
const (
	policyTimeout  = 3 * time.Second // of JavaScript, for one policy and one span
	policyStrikes  = 3               // timeouts in a row, after which a policy rests
	policyFailures = 10              // failures of any kind in a row, likewise
	policyRest     = time.Minute
	rootSpansMax   = 10_000 // spans that one root may bring about, counted since the start of this process
	guardsMax      = 100_000
)

// rootCounter counts what each root has brought about. It is safe for concurrent use.
type rootCounter struct {
	mu     sync.Mutex
	counts map[span.ID]int
}

// add counts one span of root, and reports whether root may still bring it about.
func (c *rootCounter) add(root span.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil || len(c.counts) >= guardsMax {
		c.counts = map[span.ID]int{}
	}
	if c.counts[root] >= rootSpansMax {
		return false
	}
	c.counts[root]++
	return true
}

// breaker lets a policy rest that ran out of time, or failed, again and again: policies take turns, so the
// one would hold up everybody's, and each failure is a span. It is safe for concurrent use.
type breaker struct {
	mu       sync.Mutex
	policies map[span.Key]strikes
}

type strikes struct {
	timeouts, failures int // in a row
	isFailed           bool
	isTold             bool // that it rests
	why                string
	until              time.Time
}

// begin is called before a policy judges a span. It returns why it may not, once in a rest, and then only
// that it is to be passed over.
func (b *breaker) begin(policy span.Key) (refusal *span.RunError, isSkipped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, known := b.policies[policy]
	if !known {
		return nil, false
	}
	rest := time.Until(now.until)
	switch {
	case rest > 0 && now.isTold:
		return nil, true
	case rest > 0:
		now.isTold = true
		refusal = refuse(span.RunTimeout,
			"the policy %s: it rests for %d s more; spans meanwhile are passed over", now.why,
			int(rest.Seconds())+1)
	case !now.until.IsZero():
		now = strikes{}
	case !now.isFailed:
		now.failures = 0
	}
	now.isFailed = false
	b.policies[policy] = now
	return refusal, false
}

// rests reports whether row is a policy that rests, and answers for it then: once with the reason, and then
// as if it had nothing to do.
func (inv *invocation) rests(row *span.Span, answer *RunResult) bool {
	if row.EntityType != "policy" {
		return false
	}
	refusal, isSkipped := inv.stage0.breaker.begin(row.Key())
	if refusal == nil && !isSkipped {
		return false
	}
	answer.OK, answer.Error, answer.Output = isSkipped, refusal, json.RawMessage("null")
	return true
}

// note takes the end of one run.
func (b *breaker) note(policy span.Key, failure *sandbox.Error) {
	b.change(policy, func(now *strikes) {
		if failure == nil || failure.Code != sandbox.CodeTimeout {
			now.timeouts = 0
		} else if now.timeouts++; now.timeouts >= policyStrikes {
			now.rest(fmt.Sprintf("ran out of time %d times in a row", policyStrikes))
		}
	})
}

// failed counts a judgment that ended as a policy_error.
func (b *breaker) failed(policy span.Key) {
	b.change(policy, func(now *strikes) {
		now.isFailed = true
		if now.failures++; now.failures >= policyFailures {
			now.rest(fmt.Sprintf("failed %d times in a row", policyFailures))
		}
	})
}

func (s *strikes) rest(why string) {
	if s.until.IsZero() {
		*s = strikes{until: time.Now().Add(policyRest), why: why}
	}
}

func (b *breaker) change(policy span.Key, change func(*strikes)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.policies == nil || len(b.policies) >= guardsMax {
		b.policies = map[span.Key]strikes{}
	}
	now := b.policies[policy]
	change(&now)
	if now == (strikes{}) {
		delete(b.policies, policy)
		return
	}
	b.policies[policy] = now
}
