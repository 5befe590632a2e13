package engine

import (
	"encoding/json"
	"slices"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// racesMax is how often a span is judged anew because others were quicker with a version.
const racesMax = 5

// laneRaced judges a span anew, alone, because somebody else appended a version that a policy wanted to: what
// the policy read is no longer so. In the end that is the policy's failure.
func (e *Engine) laneRaced(l *lane, it *item, race *raceError) {
	if it.races++; it.races <= racesMax {
		switch {
		case e.draining:
			return // not disposed of: the slot brings it again
		case e.isDeposed:
			it.dispose() // as what waits
			return
		}
		it.most = 1
		l.waiting = append([]*item{it}, l.waiting...)
		l.isPaused = true
		e.after(backoff(it.races-1), func() { l.isPaused = false })
		return
	}
	report, err := e.raceReport(it, race)
	if err != nil {
		e.laneFailed(l, it, &span.RunError{Code: span.RunDenied, Message: race.Error()})
		return
	}
	e.submit(ledger.Group{Rows: []*span.Span{report}}, func(outcome ledger.Outcome) {
		if outcome.Err != nil {
			e.config.Log.Error("policy_error not recorded", "error", outcome.Err)
		}
		it.dispose()
	})
}

// raceReport is the policy_error of a policy that others were quicker than too often.
func (e *Engine) raceReport(it *item, race *raceError) (*span.Span, error) {
	failure, err := json.Marshal(&span.RunError{Code: span.RunDenied, Message: race.Error()})
	if err != nil {
		return nil, err
	}
	place := slices.IndexFunc(it.matches, func(p *policy) bool {
		return race.row.PolicyID != nil && p.id == *race.row.PolicyID
	})
	p := it.matches[max(place, 0)]
	meta := span.EngineMeta{Cause: it.row.Key(), Root: it.row.ID, Depth: 1, Kind: "policy"}
	parent := it.row.ID
	if it.tick != nil { // which is no span
		meta.Cause, parent = span.Key{ID: p.id, Seq: p.seq}, p.id
	}
	if above, derived := it.span.Engine(); derived {
		meta.Root, meta.Depth = above.Root, above.Depth+1
	}
	metadata, err := span.SetEngine(nil, meta)
	if err != nil {
		return nil, err
	}
	report := &span.Span{
		ID: span.Derive("policy_error", it.row.AcceptedAt.Time, []span.ID{p.id, it.row.ID}, int64(p.seq),
			int64(it.row.Seq)),
		EntityType: "policy_error", Who: "sidecar:" + e.config.Node, Did: new("failed"), This: new("policy.eval"),
		At: it.row.At, OwnerID: it.row.OwnerID, TenantID: it.row.TenantID, Visibility: it.row.Visibility,
		Status: new("error"), ParentID: &parent, PolicyID: &p.id, RelatedTo: []span.ID{p.id},
		TraceID: it.row.TraceID, Error: failure, Metadata: metadata,
	}
	return report, e.config.Seal(report, nil)
}
