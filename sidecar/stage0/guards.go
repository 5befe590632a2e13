package stage0

import (
	"context"
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
	policyFailures = 10              // failures of any kind within policyWindow, likewise, if
	// one of so many spans fails
	policyFailureRate = 10
	policyWindow      = time.Minute
	policyRest        = time.Minute
	rootSpansMax      = 10_000 // spans that one root may bring about
	rootRecallAt      = 200    // then those are counted, too, that it has brought about under other leaders
	guardsMax         = 100_000
)

// rootCounter counts what each root has brought about. It is safe for concurrent use.
type rootCounter struct {
	mu      sync.Mutex
	counts  map[span.ID]int
	recalls recalls[span.ID]
}

// add counts one span of root, and reports whether root may still bring it about.
func (c *rootCounter) add(root span.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil || len(c.counts) >= guardsMax {
		c.counts = map[span.ID]int{}
		c.recalls.forget()
	}
	if c.counts[root] >= rootSpansMax {
		return false
	}
	c.counts[root]++
	return true
}

// recall has the counter know what a root that grows has brought about before this sidecar led: a loop that
// kills its sidecar again and again ends, too. load counts it.
func (c *rootCounter) recall(ctx context.Context, root span.ID,
	load func(context.Context) (int, error)) error {
	c.mu.Lock()
	count := c.counts[root]
	c.mu.Unlock()
	if count < rootRecallAt {
		return nil
	}
	return c.recalls.once(ctx, root, func(ctx context.Context) error {
		found, err := load(ctx)
		if err == nil {
			c.mu.Lock()
			c.counts[root] = max(c.counts[root], found)
			c.mu.Unlock()
		}
		return err
	})
}

func (c *rootCounter) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	c.recalls.forget()
}

// judge is a policy in one tenant: what one tenant's spans do to a policy of the system is no other's affair.
type judge struct {
	policy span.Key
	tenant string
}

func judgeOf(policy, cause *span.Span) judge { return judge{policy.Key(), cause.TenantID} }

// breaker lets a policy rest that ran out of time, or failed, again and again: policies take turns, so the
// one would hold up its tenant's others, and each failure is a span. It is safe for concurrent use.
type breaker struct {
	mu     sync.Mutex
	judges map[judge]strikes
}

type strikes struct {
	timeouts         int // in a row
	judged, failures int // since
	since            time.Time
	isTold           bool // that it rests
	why              string
	until            time.Time
}

// begin is called before a policy judges a span. It returns why it may not, once in a rest, and then only
// that it is to be passed over.
func (b *breaker) begin(of judge) (refusal *span.RunError, isSkipped bool) {
	b.change(of, func(now *strikes) {
		rest := time.Until(now.until)
		switch {
		case rest > 0 && now.isTold:
			isSkipped = true
			return
		case rest > 0:
			now.isTold = true
			refusal = refuse(span.RunTimeout,
				"the policy %s: it rests for %d s more; spans meanwhile are passed over", now.why,
				int(rest.Seconds())+1)
			return
		case !now.until.IsZero():
			*now = strikes{}
		}
		if time.Since(now.since) > policyWindow {
			now.since, now.judged, now.failures = time.Now(), 0, 0
		}
		now.judged++
	})
	return refusal, isSkipped
}

// rests reports whether row is a policy that rests, and answers for it then: once with the reason, and then
// as if it had nothing to do.
func (inv *invocation) rests(row, cause *span.Span, answer *RunResult) bool {
	if row.EntityType != "policy" {
		return false
	}
	refusal, isSkipped := inv.stage0.breaker.begin(judgeOf(row, cause))
	if refusal == nil && !isSkipped {
		return false
	}
	answer.OK, answer.Error, answer.Output = isSkipped, refusal, json.RawMessage("null")
	return true
}

// note takes the end of one run.
func (b *breaker) note(of judge, failure *sandbox.Error) {
	b.change(of, func(now *strikes) {
		if failure == nil || failure.Code != sandbox.CodeTimeout {
			now.timeouts = 0
		} else if now.timeouts++; now.timeouts >= policyStrikes {
			now.rest(fmt.Sprintf("ran out of time %d times in a row", policyStrikes))
		}
	})
}

// failed counts a judgment that ended as a policy_error.
func (b *breaker) failed(of judge) {
	b.change(of, func(now *strikes) {
		now.failures++
		if now.failures >= policyFailures && now.failures*policyFailureRate >= now.judged {
			now.rest(fmt.Sprintf("failed on %d of %d spans", now.failures, now.judged))
		}
	})
}

func (s *strikes) rest(why string) {
	if s.until.IsZero() {
		*s = strikes{until: time.Now().Add(policyRest), why: why}
	}
}

func (b *breaker) change(of judge, change func(*strikes)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.judges == nil || len(b.judges) >= guardsMax {
		b.judges = map[judge]strikes{}
	}
	now := b.judges[of]
	change(&now)
	b.judges[of] = now
}

// judged takes the end of a run of a policy, whose answer may be refused.
func (inv *invocation) judged(row, cause *span.Span, result *sandbox.Result) {
	if row.EntityType != "policy" {
		return
	}
	inv.stage0.breaker.note(judgeOf(row, cause), result.Err)
	if result.Err == nil {
		result.Err = tooManyActions(result.Output, inv.manifest.Limits.Spans)
	}
}

// tooManyActions refuses an answer of a policy with more actions than spans, before any is carried out.
func tooManyActions(answer json.RawMessage, spans int) *sandbox.Error {
	var actions []json.RawMessage
	if json.Unmarshal(answer, &actions) != nil || len(actions) <= spans+1 { // {again: true} is no span
		return nil
	}
	return &sandbox.Error{Code: string(span.RunLimitSpans),
		Message: fmt.Sprintf("%d actions for one span, at most %d", len(actions), spans)}
}
