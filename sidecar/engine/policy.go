package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// policyKernel is the kernel that is told which policies match, so that code runs only on matches.
const policyKernel = "policy_agent"

// Bounds of policies. Each row of a tenant is compared with all of its, by the loop, which is one for all.
const (
	policiesMax   = 1000     // of one tenant
	whenValuesMax = 256      // that metadata.when of one names, in all its lists
	whenBytesMax  = 16 << 10 // of it: it is kept in memory
	faultMax      = 4000     // letters of what is wrong with one
)

// policy is a version of a policy.
type policy struct {
	id            span.ID
	seq           int
	owner, tenant string
	visibility    string
	when          span.When
	timing        *timing // nil: it is shown spans
	judged        time.Time
	isNoted       bool // that is what has been judged; else only when it began
	open          int  // ticks that are not disposed of

	// Its place: what is before it is an earlier version's to judge, or nobody's.
	xact           uint64
	acceptedAt     time.Time
	isOut          bool // it ends the one before: archived, a draft, deleted or malformed
	previous, next *policy
	versions       int // kept before it
}

func (p *policy) isOfSystem() bool { return p.tenant == "system" && p.owner == "system" }

// setPolicy puts a version of a policy in force, or takes the policy out.
func (e *Engine) setPolicy(row *span.Span) {
	if row == nil {
		return
	}
	if fault := e.policies.put(row); fault != nil {
		e.policyFault(row, fault)
		return
	}
	e.armTicks()
}

// put puts a version of a policy in force, or takes the policy out, as it does where the version is refused:
// the error says why.
func (r *rules) put(row *span.Span) error {
	newest, known := r.byID[row.ID], r.inForce(row.ID)
	if newest != nil && newest.seq >= row.Seq {
		return nil
	}
	if row.StatusText() != "active" || row.IsDeleted {
		if newest != nil {
			r.end(row)
		}
		return nil
	}
	p, err := readPolicy(row)
	isOneMore := known == nil || known.timing == nil
	if err == nil && p.timing != nil && isOneMore && !p.isOfSystem() &&
		r.timers[timerKey{tenant: p.tenant}] >= timersMax {
		err = fmt.Errorf("the tenant has %d time-driven policies already: archive one", timersMax)
	}
	if err == nil && known == nil && !p.isOfSystem() && r.counts[p.tenant] >= policiesMax {
		err = fmt.Errorf("the tenant has %d policies already: archive one", policiesMax)
	}
	if err == nil && p.timing != nil && isOneMore && !p.isOfSystem() &&
		r.timers[timerKey{p.tenant, p.owner}] >= timersPer {
		err = fmt.Errorf("you have %d time-driven policies already: archive one", timersPer)
	}
	switch {
	case err == nil:
		r.set(p)
	case newest != nil:
		r.end(row)
	}
	return err
}

// end takes a policy out of force, from this version on.
func (r *rules) end(row *span.Span) {
	p := placed(row)
	p.isOut = true
	r.set(p)
}

// placed is a version of a policy that is known by its place alone.
func placed(row *span.Span) *policy {
	p := &policy{id: row.ID, seq: row.Seq, owner: row.OwnerID, tenant: row.TenantID, visibility: row.Visibility,
		acceptedAt: row.At.Time}
	if row.AcceptedAt != nil {
		p.acceptedAt = row.AcceptedAt.Time
	}
	if row.Xact != nil {
		p.xact, _ = strconv.ParseUint(*row.Xact, 10, 64) // the database's own number
	}
	return p
}

// readPolicy reads when a version of a policy is to judge what.
func readPolicy(row *span.Span) (*policy, error) {
	isOfSystem := row.OwnerID == "system" && row.TenantID == "system"
	if err := checkPolicyForm(row.Metadata, isOfSystem); err != nil {
		return nil, err
	}
	var metadata struct {
		When json.RawMessage `json:"when"`
	}
	if row.Metadata != nil {
		if err := json.Unmarshal(row.Metadata, &metadata); err != nil {
			return nil, fmt.Errorf("decode metadata: %w", err)
		}
	}
	if len(metadata.When) > whenBytesMax {
		return nil, fmt.Errorf("when has %d bytes, the limit is %d", len(metadata.When), whenBytesMax)
	}
	when, err := span.ParseWhen(metadata.When)
	if err != nil {
		text := err.Error()
		return nil, errors.New(strings.ToValidUTF8(text[:min(len(text), faultMax)], ""))
	}
	if n := when.Values(); n > whenValuesMax {
		return nil, fmt.Errorf("when names %d values, the limit is %d: make several policies, or name less and "+
			"look at the rest in on()", n, whenValuesMax)
	}
	p := placed(row)
	p.when = when
	if p.timing, err = readTiming(row.Metadata, when, p.isOfSystem()); p.timing != nil {
		p.judged = p.timing.last(p.acceptedAt) // what was before it is not its affair
	}
	return p, err
}

// policyFault tells the owner of a malformed policy: one policy_error for each version.
func (e *Engine) policyFault(row *span.Span, fault error) {
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

type policyKey struct {
	ID  span.ID `json:"id"`
	Seq int     `json:"seq"`
}

// matchInput is ctx.input of the policy kernel; nil when nothing is left to judge. A policy never sees
// what it emitted itself.
func matchInput(batch []*item) (json.RawMessage, error) {
	type match struct {
		Span   span.Key        `json:"span"`
		Policy policyKey       `json:"policy"`
		Tick   json.RawMessage `json:"tick,omitempty"`
	}
	var matches []match
	for _, it := range batch {
		for _, p := range slices.SortedFunc(slices.Values(it.matches), comparePolicies) {
			if !emittedBy(it.span, p) && !isExhausted(it.span) {
				matches = append(matches, match{it.row.Key(), policyKey{p.id, p.seq}, it.tick})
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
	isActed := derived && (meta.Kind == "policy" || meta.Kind == "bucket")
	return isActed && s.PolicyID != nil && *s.PolicyID == p.id
}

// isExhausted reports whether bookkeeping stands so deep in its chain of causes that nothing may follow it:
// the report that nothing may follow would be bookkeeping again.
func isExhausted(s *span.Span) bool {
	if !span.IsEngineType(s.EntityType) {
		return false
	}
	meta, derived := s.Engine()
	return derived && meta.Depth >= span.MaxDepth
}

func comparePolicies(a, b *policy) int { return bytes.Compare(a.id[:], b.id[:]) }
