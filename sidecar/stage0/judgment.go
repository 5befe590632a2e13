package stage0

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// What a policy does for a span is one group, all of it or nothing, once: whichever of its versions judges
// the span, on whichever sidecar, and however often it is read. The fence is the first span that it emits, or
// the report of its failure; where it appends later versions alone, a policy_cursor takes that place.
//
//	policy, span ──► ordinal 0: the fence ── won ──► 1, 2, … and the versions and buckets
//	                                      └─ lost ─► nothing: it has been judged

// parts takes the draft apart: what the kernel itself inserted, and a sealed group for each policy. A group
// that has no canonical form becomes the report of that.
func (inv *invocation) parts(d *draft, cause *span.Span) (own []*span.Span, parts []ledger.Group) {
	var order []span.Key
	byPolicy := map[span.Key][]*span.Span{}
	for i, row := range d.rows {
		key := d.policies[i]
		switch {
		case key == span.Key{}:
			own = append(own, row)
			continue
		case byPolicy[key] == nil:
			order = append(order, key)
		}
		byPolicy[key] = append(byPolicy[key], row)
	}
	for _, key := range order {
		policy := d.judges[key]
		part, err := judgment(policy, cause, byPolicy[key])
		if err == nil {
			err = part.Seal(inv.stage0.config.Signer.Seal)
		}
		if err != nil {
			part, err = reportOf(policy, cause, err)
			if err == nil {
				err = part.Seal(inv.stage0.config.Signer.Seal)
			}
		}
		if err == nil { // a report of our own words has a form
			parts = append(parts, part)
		}
	}
	return own, parts
}

// judgment is the group of what a policy appends for a span.
func judgment(policy, cause *span.Span, rows []*span.Span) (ledger.Group, error) {
	first := span.Emission(policy.ID, cause.Key(), acceptedAt(cause), 0)
	if place := slices.IndexFunc(rows, func(row *span.Span) bool { return row.ID == first }); place >= 0 {
		rest := slices.Concat(rows[:place], rows[place+1:])
		return ledger.Group{Fence: rows[place], Rows: rest}, nil
	}
	fence := &span.Span{EntityType: "policy_cursor", Did: new("judged"), This: new("policy.eval"),
		Status: new("complete"), At: span.NewTime(acceptedAt(cause)), ParentID: &cause.ID, PolicyID: &policy.ID,
		RelatedTo: []span.ID{policy.ID, cause.ID}}
	err := complete(fence, privately(cause, policy), "policy", first, whoOf(policy))
	return ledger.Group{Fence: fence, Rows: rows}, err
}

// reportOf is the group of a policy whose answer cannot be kept.
func reportOf(policy, cause *span.Span, fault error) (ledger.Group, error) {
	encoded, err := json.Marshal(refuse(span.RunNotSerializable, "%s", fault.Error()))
	if err != nil {
		return ledger.Group{}, fmt.Errorf("encode the error: %w", err)
	}
	report := &span.Span{EntityType: "policy_error", Did: new("failed"), This: new("policy.eval"),
		Status: new("error"), ParentID: &cause.ID, PolicyID: &policy.ID,
		RelatedTo: []span.ID{policy.ID, cause.ID}, Error: encoded}
	id := span.Emission(policy.ID, cause.Key(), acceptedAt(cause), 0)
	err = complete(report, behalfOf(cause, policy, "policy_error"), "policy", id, whoOf(policy))
	return ledger.Group{Fence: report}, err
}

// privately is cause as if it were the policy's owner's alone: nobody else need know that it was judged.
func privately(cause, policy *span.Span) *span.Span {
	own := *cause
	own.OwnerID, own.Visibility = policy.OwnerID, "private"
	return &own
}
