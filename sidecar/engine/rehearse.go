package engine

import (
	"errors"
	"strconv"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Judge is a version of a policy, and which spans it is shown, whenever they were appended.
type Judge struct{ policy *policy }

// NewJudge reads a version of a policy. The error says what is malformed, or that it goes by time.
func NewJudge(row *span.Span) (*Judge, error) {
	p, err := readPolicy(row)
	if err != nil {
		return nil, err
	}
	if p.timing != nil {
		return nil, errors.New("the policy goes by time (every), and is shown no spans")
	}
	return &Judge{p}, nil
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
