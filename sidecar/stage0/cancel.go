package stage0

import (
	"encoding/json"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Cancelled is the group that ends a request which its owner cancelled. Where its run had begun, it may have
// done its work and reached outside: then there is an execution, and it counts.
func (s *Stage0) Cancelled(request *span.Span) (ledger.Group, error) {
	group := ledger.Group{Fence: request.NextRequest("sidecar:"+s.config.Node, "cancelled")}
	group.Fence.IsDeleted = request.IsDeleted
	s.rates.release(request)
	held, run := s.quotas.run(request.ID)
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
	now := s.now()
	failure, err := json.Marshal(&span.RunError{Code: span.RunCancelled,
		Message: "its owner cancelled it while it ran: what it did outside is done, what it appended is not kept"})
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
		Error: failure, Metadata: metadata, DurationMs: new(int(now.Sub(run.at).Milliseconds())),
	}
	err = complete(execution, run.cause, "execution", executionID(run.cause), "sidecar:"+s.config.Node)
	return execution, err
}
