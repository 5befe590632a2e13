package stage0

import (
	"context"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// recalls reads, once for each key, what a leader before has known: the first that asks reads, the others
// wait. It is safe for concurrent use.
type recalls[K comparable] struct {
	mu    sync.Mutex
	read  map[K]*recall
	known *recall // stands for each that has been read
}

type recall struct {
	done chan struct{} // closed when it is read, or err is there
	err  error
}

// once runs load where nobody has run it for key yet. One that fails is run again by the next.
func (r *recalls[K]) once(ctx context.Context, key K, load func(context.Context) error) error {
	r.mu.Lock()
	if r.read == nil || len(r.read) >= guardsMax {
		r.read = map[K]*recall{}
	}
	known := r.read[key]
	if known != nil {
		r.mu.Unlock()
		select {
		case <-known.done:
			return known.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mine := &recall{done: make(chan struct{})}
	r.read[key] = mine
	r.mu.Unlock()
	mine.err = load(ctx)
	defer close(mine.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	if mine.err == nil && r.known == nil {
		r.known = mine
	}
	switch {
	case r.read[key] != mine: // all was forgotten meanwhile
	case mine.err != nil:
		delete(r.read, key)
	default:
		r.read[key] = r.known
	}
	return mine.err
}

func (r *recalls[K]) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.read)
}

// recallGuards has circuit and rate know what the ledger says of the time before this sidecar led. A function
// that is newer than that has no such time.
func (inv *invocation) recallGuards(ctx context.Context, cause, function *span.Span, now time.Time) error {
	s := inv.stage0
	if function != nil && (function.Seq > 0 || function.AcceptedAt == nil ||
		function.AcceptedAt.Before(s.ledSince().Add(time.Minute))) {
		key, threshold := circuitOf(cause, *cause.ParentID), inv.manifest.Policy.CircuitBreakerThreshold
		err := s.circuits.once(ctx, key, func(ctx context.Context) error {
			failures, last, err := s.config.Ledger.FailuresInARow(ctx, key.function, key.tenant, key.caller, threshold)
			if err == nil {
				s.circuits.recall(key, failures, threshold, last)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	perMinute, isLimited := inv.manifest.RateLimits[inv.kernel.name]
	if !isLimited {
		return nil
	}
	key := rateKey{inv.kernel.name, cause.TenantID}
	return s.rates.once(ctx, key, func(ctx context.Context) error {
		var kernel *span.ID // run_code runs functions of any id
		if inv.kernel.name != "run_code" {
			kernel = cause.ParentID
		}
		starts, err := s.config.Ledger.RunsSince(ctx, cause.TenantID, kernel, now.Add(-time.Minute), perMinute)
		if err == nil {
			s.rates.recall(key, perMinute, starts, now)
		}
		return err
	})
}

// recallRoot has the counter of the root that cause comes from know what the ledger says.
func (inv *invocation) recallRoot(ctx context.Context, cause *span.Span) error {
	root := rootOf(cause)
	return inv.stage0.roots.recall(ctx, root, func(ctx context.Context) (int, error) {
		return inv.stage0.config.Ledger.SpansOfRoot(ctx, cause.TenantID, root)
	})
}
