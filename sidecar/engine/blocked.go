package engine

import (
	"context"
	"maps"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A blocked request waits in memory until it is due, as one with scheduled_at does: it costs no query. A
// manifest with other limits makes all of them due at once, and those that are still over one wait on.

// noteLimits sees whether a manifest with other limits has taken force.
func (e *Engine) noteLimits() {
	manifest, before := e.config.Manifest(), e.manifest
	if manifest == before {
		return
	}
	e.manifest = manifest
	if manifest == nil || before == nil || manifest.Throttle == before.Throttle &&
		maps.Equal(manifest.RateLimits, before.RateLimits) {
		return
	}
	e.limits++
	for _, r := range e.due.takeIf(func(r *request) bool { return r.span.StatusText() == "blocked" }) {
		r.isFreed, r.phase = true, reading
		e.loading = append(e.loading, r)
	}
}

// Look has the engine see what has changed without a row: a manifest that took force by the clock.
func (e *Engine) Look(ctx context.Context) {
	// An error says that the engine has stopped: then there is nothing to see.
	_ = e.tell(ctx, func() {})
}

// block puts a request away that has ended a run and is due later: blocked or retry. Where the limits have
// changed since that run began, it is due now.
func (e *Engine) block(r *request) {
	r.isMarked = false
	r.isFreed = r.span.StatusText() == "blocked" && r.limits != e.limits
	e.place(r)
}

// isBlockedAsBefore reports whether a run of a blocked request says no more than that it still is: that is in
// the ledger already.
func isBlockedAsBefore(r *request, group ledger.Group) bool {
	return r.span.StatusText() == "blocked" && group.Fence.StatusText() == "blocked" &&
		sameTime(r.span.ScheduledAt, group.Fence.ScheduledAt)
}

func sameTime(a, b *span.Time) bool { return a != nil && b != nil && a.Equal(b.Time) }

// settled tells how the run of a request ended.
func (e *Engine) settled(request span.ID, isKept bool) {
	if e.config.Settled != nil {
		e.config.Settled(request, isKept)
	}
}
