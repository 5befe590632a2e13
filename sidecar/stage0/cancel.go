package stage0

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Cancelled is the group that ends a request which its owner cancelled. Where its run had begun, it may have
// done its work and reached outside: then there is an execution, and it counts. lost is the running version
// of a sidecar that died before it could say how its run went; nil where there is none.
func (s *Stage0) Cancelled(ctx context.Context, request, lost *span.Span) (ledger.Group, error) {
	group := ledger.Group{Fence: request.NextRequest("sidecar:"+s.config.Node, "cancelled")}
	group.Fence.IsDeleted = request.IsDeleted
	s.rates.release(request)
	held, run := s.quotas.run(request.ID)
	if run.cause == nil && lost != nil {
		var err error
		if held, run, err = s.lostRun(ctx, request, lost); err != nil {
			return ledger.Group{}, err
		}
	}
	if run.cause != nil {
		execution, err := s.cancelledRun(held, run)
		if err != nil {
			return ledger.Group{}, err
		}
		group.Fence.Attempt = execution.Attempt
		group.Rows = []*span.Span{execution}
	}
	return group, group.Seal(s.config.Signer.Seal)
}

// cancelledRun is the execution of a run whose end nobody waits for.
func (s *Stage0) cancelledRun(held *reservation, run begun) (*span.Span, error) {
	now, when := s.now(), "while it ran"
	if run.isLost {
		when = "after the sidecar that ran it was lost"
	}
	failure, err := json.Marshal(&span.RunError{Code: span.RunCancelled, Message: "its owner cancelled it " +
		when + ": what it did outside is done, what it appended is not kept"})
	if err != nil {
		return nil, fmt.Errorf("encode the error: %w", err)
	}
	run.record.count(held)
	metadata, err := json.Marshal(map[string]any{"run": run.record})
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	execution := &span.Span{
		EntityType: "execution", Did: new("cancelled"), This: new("run_code"), Status: new("error"),
		At:       span.NewTime(now), // by which the day's executions are found again
		ParentID: run.cause.ParentID, RelatedTo: []span.ID{run.cause.ID}, Attempt: run.cause.Attempt,
		Error: failure, Metadata: metadata,
	}
	if !run.isLost { // how long that one took, nobody knows
		execution.DurationMs = new(int(now.Sub(run.at).Milliseconds()))
	}
	err = complete(execution, run.cause, "execution", executionID(run.cause), "sidecar:"+s.config.Node)
	return execution, err
}

// lostRun is what is known of a run by its running version alone. It counts on the day on which that one says
// it began, over a limit or not, unless an earlier attempt has counted.
func (s *Stage0) lostRun(ctx context.Context, request, lost *span.Span) (*reservation, begun, error) {
	cause := *request
	cause.Seq, cause.Attempt = lost.Seq, lost.Attempt
	at := s.now()
	if lost.AcceptedAt != nil {
		at = lost.AcceptedAt.Time
	}
	held, _, err := s.takeQuota(ctx, nil, &cause, nil, at)
	if err != nil {
		return nil, begun{}, err
	}
	run := begun{cause: &cause, at: at, record: runRecord{Kernels: []kernelRef{}}, isLost: true}
	s.quotas.begin(held, run)
	return held, run, nil
}
