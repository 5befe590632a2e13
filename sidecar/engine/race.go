package engine

import (
	"encoding/json"
	"slices"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// racesMax is how often a span is judged anew because others were quicker with a version.
const racesMax = 5

// policyOf is the policy that made a part of what a run gave; nil where none did.
func (i *item) policyOf(part ledger.Group) *policy {
	for _, row := range append([]*span.Span{part.Fence}, part.Rows...) {
		if row == nil || row.PolicyID == nil {
			continue
		}
		place := slices.IndexFunc(i.matches, func(p *policy) bool { return p.id == *row.PolicyID })
		if place >= 0 {
			return i.matches[place]
		}
	}
	if len(i.matches) == 1 {
		return i.matches[0]
	}
	return nil
}

// isReport reports whether part says no more than that a policy failed.
func (i *item) isReport(part ledger.Group) bool {
	return part.Fence != nil && part.Fence.EntityType == "policy_error" && len(part.Rows) == 0
}

// laneRaced judges a span anew, alone, by the policies whose versions somebody else was quicker with: what
// they read is no longer so. In the end that is the policies' failure.
func (e *Engine) laneRaced(l *lane, it *item) {
	if !slices.Contains(it.raced, nil) {
		it.matches = it.raced
	}
	if it.races++; it.races <= racesMax {
		switch {
		case e.draining:
			return // not disposed of: the slot brings it again
		case e.isDeposed, it.term != e.term.Load():
			it.dispose() // as what waits
			return
		}
		it.most = 1
		l.waiting = append([]*item{it}, l.waiting...)
		l.isPaused = true
		e.after(backoff(it.races-1), func() { l.isPaused = false })
		return
	}
	race := it.race
	it.race = nil
	for _, p := range it.matches {
		e.report(l, it, p, race)
	}
}

// report appends the policy_error of a policy whose judgment the ledger does not take, in its place.
func (e *Engine) report(l *lane, it *item, p *policy, fault error) {
	report, err := e.reportOf(it, p, fault)
	if err != nil {
		e.laneFailed(l, it, &span.RunError{Code: span.RunDenied, Message: fault.Error()})
		return
	}
	group := ledger.Group{Fence: report}
	if it.tick != nil {
		group = ledger.Group{Rows: []*span.Span{report}}
	}
	it.parts++
	e.submit(group, func(outcome ledger.Outcome) { e.partCommitted(l, it, group, outcome) })
}

func (e *Engine) reportOf(it *item, p *policy, fault error) (*span.Span, error) {
	failure, err := json.Marshal(&span.RunError{Code: span.RunDenied, Message: fault.Error()})
	if err != nil {
		return nil, err
	}
	meta := span.EngineMeta{Cause: it.row.Key(), Root: it.row.ID, Depth: 1, Kind: "policy"}
	at, parent := it.row.AcceptedAt.Time, it.row.ID
	id := span.Emission(p.id, it.row.Key(), at, 0)
	if it.tick != nil { // which is no span
		meta.Cause, parent = span.Key{ID: p.id, Seq: p.seq}, p.id
		id = span.Derive("policy_error", at, []span.ID{p.id, it.row.ID}, int64(p.seq), int64(it.row.Seq))
	}
	if above, derived := it.span.Engine(); derived {
		meta.Root, meta.Depth = above.Root, above.Depth+1
	}
	metadata, err := span.SetEngine(nil, meta)
	if err != nil {
		return nil, err
	}
	report := &span.Span{
		ID: id, EntityType: "policy_error", Who: "sidecar:" + e.config.Node, Did: new("failed"),
		This: new("policy.eval"), At: it.row.At, OwnerID: it.row.OwnerID, TenantID: it.row.TenantID,
		Visibility: it.row.Visibility, Status: new("error"), ParentID: &parent, PolicyID: &p.id,
		RelatedTo: []span.ID{p.id}, TraceID: it.row.TraceID, Error: failure, Metadata: metadata,
	}
	if !p.isOfSystem() && p.owner != report.OwnerID { // a stranger's failure is his own affair
		report.OwnerID, report.Visibility = p.owner, "private"
	}
	return report, e.config.Seal(report, nil)
}
