package stage0

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

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
	if len(rows) == 1 && rows[0].EntityType == "policy_violation" && rows[0].Seq == 0 { // one for its root
		return ledger.Group{Rows: rows}, nil
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

// loopText is in every refusal of what would follow from itself for ever.
const loopText = "something triggers itself"

func isLoop(err error) bool { return strings.Contains(err.Error(), loopText) }

// violateLoop makes the report of a policy, whose action was refused because something triggers itself, the
// one policy_violation of that root: thousands of spans may come to the same end.
func violateLoop(s, cause, behalf *span.Span, who string) error {
	root := rootOf(cause)
	began := time.UnixMilli(0)
	if version := root.Version(); version == 7 || version == 8 { // their ids begin with a time
		began = time.UnixMilli(int64(binary.BigEndian.Uint64(root[:8]) >> 16))
	}
	s.EntityType, s.This = "policy_violation", new("policy.loop")
	id := span.Derive("policy_violation", began, []span.ID{root})
	if err := complete(s, behalf, "policy_violation", id, who); err != nil {
		return err
	}
	var err error
	s.Metadata, err = span.SetEngine(s.Metadata, span.EngineMeta{Cause: span.Key{ID: root}, Root: root, Depth: 1,
		Kind: "policy_violation"})
	return err
}
