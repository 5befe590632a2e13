package engine

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Judge is a version of a policy, and which spans it is shown, whenever they were appended, or which ticks.
type Judge struct{ policy *policy }

// NewJudge reads a version of a policy. The error says what is malformed.
func NewJudge(row *span.Span) (*Judge, error) {
	p, err := readPolicy(row)
	if err != nil {
		return nil, err
	}
	return &Judge{p}, nil
}

// IsTimed reports whether it goes by time: it is shown ticks, and no spans.
func (j *Judge) IsTimed() bool { return j.policy.timing != nil }

// Tick is one boundary of a policy that goes by time.
type Tick struct{ due dueTick }

// Ticks returns the boundaries after since and up to now, the oldest first, as if each had been judged in
// its time; at most limit, and whether there are more.
func (j *Judge) Ticks(since, now time.Time, limit int) (ticks []Tick, areMore bool) {
	timing := j.policy.timing
	for to := timing.last(since).Add(timing.every); !to.After(now); to = to.Add(timing.every) {
		if len(ticks) == limit {
			return ticks, true
		}
		ticks = append(ticks, Tick{dueTick{policy: j.policy, from: to.Add(-timing.every), to: to}})
	}
	return ticks, false
}

// Subjects returns whom the tick is about: its owner, or, of a policy of the system, whom found finds.
func (t Tick) Subjects(found func(ledger.SubjectSearch) ([]ledger.Subject, error)) ([]ledger.Subject, error) {
	if p := t.due.policy; !p.isOfSystem() {
		return []ledger.Subject{{TenantID: p.tenant, OwnerID: p.owner}}, nil
	}
	return found(t.due.search())
}

// For returns what the policy is shown for a subject, and its ctx.input.tick; limit is how many actions the
// manifest lets it have.
func (t Tick) For(subject ledger.Subject, limit int) (*span.Span, json.RawMessage) {
	s := t.due.policy.tickSpan(t.due.to, subject, 0)
	s.Who = "sidecar:try"
	return s, t.due.told(0, limit)
}

// Types returns the entity types of which alone it is shown spans; nil are all but the engine's own.
func (j *Judge) Types() []string { return j.policy.when.Names("entity_type") }

// Statuses returns the states in which alone it is shown spans; nil are all.
func (j *Judge) Statuses() []string {
	if j.policy.when.TakesNull("status") {
		return nil
	}
	return j.policy.when.Names("status")
}

// Sees reports whether it is shown s.
func (j *Judge) Sees(s *span.Span) bool {
	row := publishedOf(s)
	if j.Types() == nil && span.IsEngineType(row.EntityType) || emittedBy(s, j.policy) || isExhausted(s) {
		return false
	}
	if !j.policy.isOfSystem() && row.TenantID != j.policy.tenant {
		return false
	}
	return j.policy.concerns(row)
}

// publishedOf is what the publication carries of s.
func publishedOf(s *span.Span) *span.Published {
	row := &span.Published{ID: s.ID, Seq: s.Seq, EntityType: s.EntityType, Status: s.Status, OwnerID: s.OwnerID,
		TenantID: s.TenantID, Visibility: s.Visibility, IsDeleted: s.IsDeleted, ParentID: s.ParentID, At: s.At,
		ScheduledAt: s.ScheduledAt, TraceID: s.TraceID, CurrHash: s.CurrHash, PrevHash: s.PrevHash}
	if s.AcceptedAt != nil {
		row.AcceptedAt = *s.AcceptedAt
	}
	if s.Xact != nil {
		row.Xact, _ = strconv.ParseUint(*s.Xact, 10, 64) // the database's own number
	}
	return row
}
