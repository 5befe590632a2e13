package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Scope is the identity under which ledger code reads: the owner and tenant of its cause.
type Scope struct {
	UserID, TenantID string
	// OfSystem is set for a policy of the system: it reads every row of TenantID, also private ones, or those
	// of UserID alone where that is stated; and nothing of any other tenant, public or not.
	OfSystem bool
}

// Filter selects spans for ctx.find and ctx.summarize; all entries hold. Its zero value selects all.
type Filter struct {
	Equal  map[string][]string // by column: the values it may have
	Ranges map[string]Range    // by column
}

// Range bounds a column; nil bounds nothing. Times are RFC 3339, numbers decimal.
type Range struct{ Gt, Gte, Lt, Lte *string }

// findable lists what an equality may name.
var findable = map[string]string{
	"id": "uuid", "entity_type": "text", "status": "text", "parent_id": "uuid", "trace_id": "text",
	"owner_id": "text", "tenant_id": "text", "visibility": "text", "name": "text", "kind": "text",
	"this": "text", "did": "text", "policy_id": "uuid", "session_id": "text", "error.code": "text",
}

// rangeable lists what a range may name.
var rangeable = map[string]string{
	"at": "timestamptz", "accepted_at": "timestamptz", "ttl_at": "timestamptz", "scheduled_at": "timestamptz",
	"duration_ms": "numeric", "value": "numeric", "priority": "numeric",
}

// ErrFilter is returned by Find and Summarize for what a filter may not say.
var ErrFilter = errors.New("this cannot be filtered on")

// columnOf is the SQL of a column that may be named; error.code is the code of the error.
func columnOf(name string) string {
	if name == "error.code" {
		return "r.error ->> 'code'"
	}
	return "r." + name
}

// Find hands up to limit current spans that scope may read and filter selects to each, newest first. Its
// place to read is held meanwhile. The first error of each ends it; more than ResultBytesMax are
// ErrTooManyBytes.
func (l *Ledger) Find(ctx context.Context, scope Scope, filter Filter, limit int,
	each func(*span.Span) error) error {
	var q compiled
	from, err := q.from(scope, filter)
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	sql := fmt.Sprintf("select %s%s order by r.at desc, r.id limit %s", selectList, from, q.value(limit))
	left := ResultBytesMax
	return l.within(ctx, scope, func(tx pgx.Tx) error {
		return eachSpan(ctx, tx, func(s *span.Span, bytes int) error {
			if left -= bytes; left < 0 {
				return ErrTooManyBytes
			}
			return each(s)
		}, sql, q.args...)
	})
}

// compiled is a statement in the making: whatever comes from ledger code becomes a parameter.
type compiled struct{ args []any }

// value takes a parameter and returns its place.
func (q *compiled) value(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// from writes from and where for the current spans that scope may read and filter selects.
func (q *compiled) from(scope Scope, filter Filter) (string, error) {
	where, source := []string{}, "ledger.visible_timeline"
	if scope.OfSystem {
		// Not the view: it asks row by row whether a newer version is hidden from the reader, and here none is.
		source = "ledger.universal_registry"
		where = append(where, "r.tenant_id = "+q.value(scope.TenantID), "not r.is_deleted")
		if scope.UserID != "" {
			where = append(where, "r.owner_id = "+q.value(scope.UserID))
		}
		if !isSingleVersion(filter.Equal["entity_type"]) {
			where = append(where, `not exists (
				select from ledger.universal_registry n where n.id = r.id and n.seq = r.seq + 1)`)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(filter.Equal)) {
		kind, known := findable[name]
		if !known {
			return "", fmt.Errorf("%w: %.40q", ErrFilter, name)
		}
		where = append(where, fmt.Sprintf("%s = any(%s::text[]::%s[])", columnOf(name),
			q.value(filter.Equal[name]), kind))
	}
	for _, name := range slices.Sorted(maps.Keys(filter.Ranges)) {
		bounds, err := q.bounds(name, filter.Ranges[name])
		if err != nil {
			return "", err
		}
		where = append(where, bounds...)
	}
	if len(where) == 0 {
		where = []string{"true"}
	}
	return "\n\tfrom " + source + " r\n\twhere " + strings.Join(where, "\n\t\tand "), nil
}

// bounds writes the conditions of one range.
func (q *compiled) bounds(name string, r Range) ([]string, error) {
	kind, known := rangeable[name]
	if !known {
		return nil, fmt.Errorf("%w by a range: %.40q", ErrFilter, name)
	}
	var where []string
	for _, bound := range []struct {
		operator string
		value    *string
	}{{">", r.Gt}, {">=", r.Gte}, {"<", r.Lt}, {"<=", r.Lte}} {
		if bound.value == nil {
			continue
		}
		if kind == "timestamptz" { // Postgres would also take words such as now
			if _, err := time.Parse(time.RFC3339Nano, *bound.value); err != nil {
				return nil, fmt.Errorf("%w: %s: %.40q is no time with an offset", ErrFilter, name, *bound.value)
			}
		}
		where = append(where, fmt.Sprintf("r.%s %s %s::text::%s", name, bound.operator, q.value(*bound.value),
			kind))
	}
	return where, nil
}

// isSingleVersion reports whether spans of these types have one version each, so that none is superseded.
func isSingleVersion(types []string) bool {
	for _, entityType := range types {
		if !span.HasOneVersion(entityType) {
			return false
		}
	}
	return len(types) > 0
}
