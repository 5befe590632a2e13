package span

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Published is what the publication carries of one row (docs/contract.md §2): enough to route it, no
// body. A nil pointer is NULL.
type Published struct {
	ID          ID
	Seq         int
	EntityType  string
	Status      *string
	OwnerID     string
	TenantID    string
	Visibility  string
	IsDeleted   bool
	ParentID    *ID
	At          Time
	AcceptedAt  Time
	ScheduledAt *Time
	TraceID     *string
	Xact        uint64
	CurrHash    *string
	PrevHash    *string
}

// PublishedColumns lists the columns of the publication in its order. It must not be changed.
var PublishedColumns = []string{
	"id", "seq", "entity_type", "status", "owner_id", "tenant_id", "visibility", "is_deleted",
	"parent_id", "at", "accepted_at", "scheduled_at", "trace_id", "xact", "curr_hash", "prev_hash",
}

// Key returns the primary key of p.
func (p *Published) Key() Key { return Key{p.ID, p.Seq} }

// Span returns the columns of p as a span without body. It shares the pointers of p.
func (p *Published) Span() *Span {
	return &Span{
		ID: p.ID, Seq: p.Seq, EntityType: p.EntityType, Status: p.Status, OwnerID: p.OwnerID,
		TenantID: p.TenantID, Visibility: p.Visibility, IsDeleted: p.IsDeleted, ParentID: p.ParentID,
		At: p.At, AcceptedAt: new(p.AcceptedAt), ScheduledAt: p.ScheduledAt, TraceID: p.TraceID,
		Xact: new(strconv.FormatUint(p.Xact, 10)), CurrHash: p.CurrHash, PrevHash: p.PrevHash,
	}
}

// When is a condition on the published columns of a row: every entry holds. An entry names a
// column, or a column after not_, with one value or a list of them; null stands for NULL. A list
// holds where one of its values is equal; not_ turns that around, also for NULL. In a list for
// entity_type the word "<engine-written types>" stands for EngineTypes. The zero When matches every
// row. Manifest triggers and metadata.when of policies take this form (docs/contract.md §4).
type When struct{ conditions []condition }

// engineTypesWord stands for EngineTypes in a list of entity types.
const engineTypesWord = "<engine-written types>"

// condition holds the values of one entry, in the form of its column's type.
type condition struct {
	column  string
	negated bool
	null    bool
	texts   []string
	ids     []ID
	times   []Time
	numbers []uint64
	flags   []bool
}

// ParseWhen reads a condition. Absent or null is the zero When. The error joins a *Refusal for
// each fault.
func ParseWhen(raw json.RawMessage) (When, error) {
	var d document
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return When{}, nil
	}
	if err := CheckJSON(raw); err != nil {
		return When{}, err
	}
	when := d.when("when", raw)
	return when, d.err()
}

// IsZero reports whether w states no condition and so matches every row.
func (w When) IsZero() bool { return len(w.conditions) == 0 }

// Values returns how many values w names, in all.
func (w When) Values() (n int) {
	for i := range w.conditions {
		c := &w.conditions[i]
		n += len(c.texts) + len(c.ids) + len(c.times) + len(c.numbers) + len(c.flags)
		if c.null {
			n++
		}
	}
	return n
}

// Names returns the texts that w demands of a column (entity_type, status, …); nil where it demands none.
func (w When) Names(column string) []string {
	for i := range w.conditions {
		if c := &w.conditions[i]; c.column == column && !c.negated {
			return c.texts
		}
	}
	return nil
}

// TakesNull reports whether w lets a column that it names be NULL.
func (w When) TakesNull(column string) bool {
	for i := range w.conditions {
		if c := &w.conditions[i]; c.column == column && !c.negated && c.null {
			return true
		}
	}
	return false
}

// NamesOnly reports whether w demands texts of these columns and nothing else.
func (w When) NamesOnly(columns ...string) bool {
	for i := range w.conditions {
		if c := &w.conditions[i]; c.negated || c.null || !slices.Contains(columns, c.column) {
			return false
		}
	}
	return true
}

// Matches reports whether every condition holds for row. It allocates nothing.
func (w When) Matches(row *Published) bool {
	for i := range w.conditions {
		if c := &w.conditions[i]; c.contains(row) == c.negated {
			return false
		}
	}
	return true
}

func (c *condition) contains(row *Published) bool {
	switch c.column {
	case "entity_type":
		return slices.Contains(c.texts, row.EntityType)
	case "status":
		return containsOptional(c.texts, row.Status, c.null)
	case "id":
		return slices.Contains(c.ids, row.ID)
	case "seq":
		return slices.Contains(c.numbers, uint64(row.Seq))
	case "owner_id":
		return slices.Contains(c.texts, row.OwnerID)
	case "tenant_id":
		return slices.Contains(c.texts, row.TenantID)
	case "visibility":
		return slices.Contains(c.texts, row.Visibility)
	case "is_deleted":
		return slices.Contains(c.flags, row.IsDeleted)
	case "parent_id":
		return containsOptional(c.ids, row.ParentID, c.null)
	case "at":
		return slices.Contains(c.times, row.At)
	case "accepted_at":
		return slices.Contains(c.times, row.AcceptedAt)
	case "scheduled_at":
		return containsOptional(c.times, row.ScheduledAt, c.null)
	case "trace_id":
		return containsOptional(c.texts, row.TraceID, c.null)
	case "xact":
		return slices.Contains(c.numbers, row.Xact)
	case "curr_hash":
		return containsOptional(c.texts, row.CurrHash, c.null)
	case "prev_hash":
		return containsOptional(c.texts, row.PrevHash, c.null)
	}
	panic(fmt.Sprintf("condition on %s, which is not published", c.column))
}

func containsOptional[T comparable](values []T, value *T, null bool) bool {
	if value == nil {
		return null
	}
	return slices.Contains(values, *value)
}
