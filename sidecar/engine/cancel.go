package engine

import (
	"context"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// endCancelled ends a request that its owner cancelled. What a run of this process leaves is known; of one
// whose sidecar is gone the ledger has the running version.
func (e *Engine) endCancelled(r *request) {
	r.phase = committing
	wish, isKnown := r.span, r.runs > 0 || r.span.Seq < 2
	before := span.Key{ID: r.id, Seq: wish.Seq - 1}
	mark := e.marks.at(before)
	e.start(func(ctx context.Context) {
		var lost *span.Span
		var err error
		if !isKnown {
			lost, err = e.lostRun(ctx, before, mark)
		}
		var group ledger.Group
		if err == nil {
			group, err = e.config.Cancelled(ctx, wish, lost)
		}
		e.do(func() { e.cancelledAs(r, group, err) })
	})
}

// lostRun reads the running version of another process that an owner's wish has met, or nil.
func (e *Engine) lostRun(ctx context.Context, key span.Key, own string) (*span.Span, error) {
	found, err := e.config.Ledger.Load(ctx, []span.Key{key})
	if err != nil {
		return nil, fmt.Errorf("read what a cancelled request was: %w", err)
	}
	before := found[key]
	if before == nil || before.StatusText() != "running" || own != "" && before.CurrHash != nil &&
		*before.CurrHash == own {
		return nil, nil
	}
	return before, nil
}

// cancelledAs commits the end of a cancelled request. Where the ledger refuses what its run leaves behind,
// the request ends without that.
func (e *Engine) cancelledAs(r *request, group ledger.Group, err error) {
	switch {
	case e.open[r.id] != r || e.isDeposed:
		e.remove(r)
		return
	case err != nil:
		e.config.Log.Warn("cancelled request not ended, trying again", "id", r.id.String(), "error", err)
		r.phase = reading
		e.after(backoffMin, func() { e.loading.push(r) })
		return
	}
	failpoint.Hit(failpoint.CancelEnding)
	e.submit(group, func(outcome ledger.Outcome) {
		if outcome.Err != nil && len(group.Rows) > 0 {
			e.config.Log.Error("execution of a cancelled run not kept", "id", r.id.String(), "error", outcome.Err)
			e.advance(r, "cancelled", "")
			return
		}
		e.finished(r, group, outcome)
	})
}
