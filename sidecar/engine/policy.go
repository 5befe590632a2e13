package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// policyKernel is the kernel that is told which policies match, so that code runs only on matches.
const policyKernel = "policy_agent"

// policy is the version of a policy that is in force.
type policy struct {
	id            span.ID
	seq           int
	owner, tenant string
	when          span.When
}

// setPolicy puts a version of a policy in force, or takes the policy out.
func (e *Engine) setPolicy(row *span.Span) {
	if row == nil {
		return
	}
	if known := e.policies[row.ID]; known != nil && known.seq > row.Seq {
		return
	}
	if row.StatusText() != "active" || row.IsDeleted {
		delete(e.policies, row.ID)
		return
	}
	var metadata struct {
		When json.RawMessage `json:"when"`
	}
	if row.Metadata != nil {
		if err := json.Unmarshal(row.Metadata, &metadata); err != nil {
			e.policyFault(row, fmt.Errorf("decode metadata: %w", err))
			return
		}
	}
	when, err := span.ParseWhen(metadata.When)
	if err != nil {
		e.policyFault(row, err)
		return
	}
	e.policies[row.ID] = &policy{row.ID, row.Seq, row.OwnerID, row.TenantID, when}
}

// policyFault takes a policy with a malformed condition out, and tells its owner: one policy_error for
// each version.
func (e *Engine) policyFault(row *span.Span, fault error) {
	delete(e.policies, row.ID)
	at := row.At
	if row.AcceptedAt != nil {
		at = *row.AcceptedAt
	}
	failure, err := json.Marshal(&span.RunError{Code: span.RunSyntax, Message: fault.Error()})
	var metadata json.RawMessage
	if err == nil {
		metadata, err = span.SetEngine(nil,
			span.EngineMeta{Cause: row.Key(), Root: row.ID, Depth: 1, Kind: "policy_error"})
	}
	report := &span.Span{
		ID:         span.Derive("policy_error", at.Time, []span.ID{row.ID}, int64(row.Seq)),
		EntityType: "policy_error", Who: "sidecar:" + e.config.Node, Did: new("failed"), This: new("policy.when"),
		At: row.At, OwnerID: row.OwnerID, TenantID: row.TenantID, Visibility: row.Visibility,
		Status: new("error"), ParentID: &row.ID, PolicyID: &row.ID, RelatedTo: []span.ID{row.ID},
		TraceID: row.TraceID, Error: failure, Metadata: metadata,
	}
	if err == nil {
		err = e.config.Seal(report, nil)
	}
	if err != nil {
		e.config.Log.Error("policy_error not recorded", "policy", row.ID.String(), "error", err)
		return
	}
	e.submit(ledger.Group{Rows: []*span.Span{report}}, func(outcome ledger.Outcome) {
		if outcome.Err != nil {
			e.config.Log.Error("policy_error not recorded", "policy", row.ID.String(), "error", outcome.Err)
		}
	})
}

// matchPolicies returns the policies that must judge row. A policy of the system acts in each
// tenant; a tenant's one on what its owner may read in that tenant.
func (e *Engine) matchPolicies(row *span.Published) []*policy {
	var matches []*policy
	for _, p := range e.policies { // in any order: matchInput sorts
		if p.id == row.ID || !p.when.Matches(row) {
			continue
		}
		system := p.tenant == "system" && p.owner == "system"
		shared := row.Visibility != "private" || row.OwnerID == p.owner
		if system || (p.tenant == row.TenantID && shared) {
			matches = append(matches, p)
		}
	}
	return matches
}

type policyKey struct {
	ID  span.ID `json:"id"`
	Seq int     `json:"seq"`
}

// matchInput is ctx.input of the policy kernel; nil when nothing is left to judge. A policy never sees
// what it emitted itself.
func matchInput(batch []*item) (json.RawMessage, error) {
	type match struct {
		Span   span.Key  `json:"span"`
		Policy policyKey `json:"policy"`
	}
	var matches []match
	for _, it := range batch {
		for _, p := range slices.SortedFunc(slices.Values(it.matches), comparePolicies) {
			if !emittedBy(it.span, p) {
				matches = append(matches, match{it.row.Key(), policyKey{p.id, p.seq}})
			}
		}
	}
	if matches == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(map[string]any{"matches": matches})
	if err != nil {
		return nil, fmt.Errorf("encode the matches: %w", err)
	}
	return encoded, nil
}

// emittedBy reports whether s is of p's own making. The column policy_id says so only on derived spans:
// clients may state it on theirs.
func emittedBy(s *span.Span, p *policy) bool {
	meta, derived := s.Engine()
	return derived && meta.Kind == "policy" && s.PolicyID != nil && *s.PolicyID == p.id
}

func comparePolicies(a, b *policy) int { return bytes.Compare(a.id[:], b.id[:]) }
