package span

import (
	"encoding/json"
	"slices"
	"time"
)

// AttemptsMax is how many sidecars a request may outlive before it is dead (docs/contract.md §6).
const AttemptsMax = 3

// terminalStatuses end a request; only an owner's redrive goes on from dead.
var terminalStatuses = []string{"complete", "error", "dead", "cancelled"}

// IsTerminal reports whether a request of this status needs nobody any more.
func IsTerminal(status string) bool { return slices.Contains(terminalStatuses, status) }

// NextRequest is the version that follows request s, with the columns that every version carries; the
// input stays with the first one. It is not hashed yet.
func (s *Span) NextRequest(who, status string) *Span {
	return &Span{
		ID: s.ID, Seq: s.Seq + 1, EntityType: "request", Who: who, This: s.This, At: NewTime(time.Now()),
		OwnerID: s.OwnerID, TenantID: s.TenantID, Visibility: s.Visibility, Status: &status,
		ParentID: s.ParentID, RelatedTo: s.RelatedTo, TraceID: s.TraceID, PolicyID: s.PolicyID, Name: s.Name,
		Attempt: s.Attempt, ScheduledAt: s.ScheduledAt, IdempotencyKey: s.IdempotencyKey,
		Metadata: carried(s.Metadata), PrevHash: s.CurrHash,
	}
}

// carried is metadata where it can be hashed; a client's need not be, and no request may be stuck for it.
// The first version keeps it in any case.
func carried(metadata json.RawMessage) json.RawMessage {
	if metadata == nil || CheckJSON(metadata) != nil {
		return nil
	}
	return metadata
}
