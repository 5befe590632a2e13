package stage0

import (
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds that hold against a ledger's own code.
const (
	policyTimeout = 3 * time.Second // of JavaScript, for one policy and one span
	policyStrikes = 3               // timeouts in a row, after which a policy rests
	policyRest    = time.Minute
	rootSpansMax  = 10_000 // spans that one root may bring about, counted since the start of this process
	guardsMax     = 100_000
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

// breaker lets a policy rest that ran out of time again and again: policies take turns, so it would
// hold up everybody's. It is safe for concurrent use.
type breaker struct {
	mu       sync.Mutex
	policies map[span.Key]strikes
}

type strikes struct {
	count int
	until time.Time
}

// refuse returns why a policy may not run now, or nil.
func (b *breaker) refuse(policy span.Key) *span.RunError {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rest := time.Until(b.policies[policy].until); rest > 0 {
		return refuse(span.RunTimeout, "the policy ran out of time %d times in a row: it rests for %d s more",
			policyStrikes, int(rest.Seconds())+1)
	}
	return nil
}

// note takes the end of one run.
func (b *breaker) note(policy span.Key, failure *sandbox.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.policies == nil || len(b.policies) >= guardsMax {
		b.policies = map[span.Key]strikes{}
	}
	if failure == nil || failure.Code != sandbox.CodeTimeout {
		delete(b.policies, policy)
		return
	}
	now := b.policies[policy]
	if now.count++; now.count >= policyStrikes {
		now = strikes{until: time.Now().Add(policyRest)}
	}
	b.policies[policy] = now
}
