package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What follows the ledger from outside asks as the tail does where it polls (tail/poll.go): a place is a
// snapshot, and what comes after it is what a later snapshot sees and this one did not. So a transaction that
// began early and committed late is not missed, whatever its times and numbers say, and no row comes twice.

// RowFilter chooses versions of spans. The zero value chooses all; every entry must hold.
type RowFilter struct {
	Types, Statuses []string
	Tenant          string
	Trace           string
	Owner           string
	Parent          *span.ID
	ID              *span.ID
	Since           time.Duration // its `at` is at most so long ago; 0 is whenever
}

// where is the condition on r, after args.
func (f RowFilter) where(args ...any) (string, []any) {
	conditions := []string{"true"}
	add := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	if f.Types != nil {
		add("r.entity_type = any ($%d::text[])", f.Types)
	}
	if f.Statuses != nil {
		add("r.status = any ($%d::text[])", f.Statuses)
	}
	if f.Tenant != "" {
		add("r.tenant_id = $%d", f.Tenant)
	}
	if f.Trace != "" {
		add("r.trace_id = $%d", f.Trace)
	}
	if f.Owner != "" {
		add("r.owner_id = $%d", f.Owner)
	}
	if f.Parent != nil {
		add("r.parent_id = $%d::text::uuid", f.Parent.String())
	}
	if f.ID != nil {
		add("r.id = $%d::text::uuid", f.ID.String())
	}
	if f.Since > 0 {
		add("r.at > now() - $%d::text::interval", fmt.Sprintf("%d milliseconds", f.Since.Milliseconds()))
	}
	return strings.Join(conditions, " and "), args
}

// Recent returns the newest versions that f chooses and the actor may read, the oldest of them first, and the
// place from which After goes on. limit 0 reads none.
func (u *User) Recent(ctx context.Context, f RowFilter, limit int) (spans []*span.Span, place string,
	err error) {
	// One statement sees one snapshot: what it does not see, After does.
	if err := u.tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&place); err != nil {
		return nil, "", fmt.Errorf("read the place: %w", err)
	}
	where, args := f.where(place)
	spans, err = querySpans(ctx, u.tx, fmt.Sprintf(`select %s from ledger.universal_registry r
		where pg_visible_in_snapshot(r.xact, $1::text::pg_snapshot) and %s
		order by r.at desc, r.id desc, r.seq desc limit %d`, selectList, where, limit), args...)
	slices.Reverse(spans)
	slices.SortStableFunc(spans, func(a, b *span.Span) int { // as they came: a derived span has its cause's time
		return a.AcceptedAt.Compare(b.AcceptedAt.Time)
	})
	return spans, place, err
}

// Place is somewhere in the ledger: what the snapshot Seen saw is behind it, and of what Upto sees besides,
// what is not after Last. Upto "" takes a new snapshot.
type Place struct {
	Seen, Upto string
	lastXact   string
	last       span.Key
}

// afterSQL reads the rows of two parts, each by the index on xact: what was under way at $1, and what began
// later; up to the snapshot $2, behind the version ($3, $4, $5).
const afterSQL = `select %[1]s
	from (
		(
			select r.* from ledger.universal_registry r
			where r.xact = any (array(select pg_snapshot_xip($1::text::pg_snapshot))) and r.xact >= $3::text::xid8
				and r.xact >= pg_snapshot_xmin($1::text::pg_snapshot)
				and r.xact < pg_snapshot_xmax($1::text::pg_snapshot)
				and (r.xact, r.id, r.seq) > ($3::text::xid8, $4::text::uuid, $5)
				and pg_visible_in_snapshot(r.xact, $2::text::pg_snapshot) and %[2]s
			order by r.xact, r.id, r.seq
			limit %[3]d
		)
		union all
		(
			select r.* from ledger.universal_registry r
			where r.xact >= pg_snapshot_xmax($1::text::pg_snapshot) and r.xact >= $3::text::xid8
				and (r.xact, r.id, r.seq) > ($3::text::xid8, $4::text::uuid, $5)
				and r.xact < pg_snapshot_xmax($2::text::pg_snapshot)
				and pg_visible_in_snapshot(r.xact, $2::text::pg_snapshot) and %[2]s
			order by r.xact, r.id, r.seq
			limit %[3]d
		)
	) as r
	order by r.xact, r.id, r.seq
	limit %[3]d`

// afterPage is how many versions After reads at most.
const afterPage = 500

// After returns the next versions behind place that f chooses and the actor may read, in the order of their
// transactions, and the place behind them. It is to be called again at once where the place has an Upto.
func (u *User) After(ctx context.Context, f RowFilter, place Place) ([]*span.Span, Place, error) {
	if place.Upto == "" {
		err := u.tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&place.Upto)
		if err != nil {
			return nil, place, fmt.Errorf("read the place: %w", err)
		}
		place.lastXact, place.last = "0", span.Key{}
	}
	where, args := f.where(place.Seen, place.Upto, place.lastXact, place.last.ID.String(), place.last.Seq)
	spans, err := querySpans(ctx, u.tx, fmt.Sprintf(afterSQL, selectList, where, afterPage), args...)
	if err != nil {
		return nil, place, err
	}
	if len(spans) < afterPage {
		return spans, Place{Seen: place.Upto}, nil
	}
	last := spans[len(spans)-1]
	place.lastXact, place.last = *last.Xact, last.Key()
	return spans, place, nil
}

// Past returns the versions that f chooses and the actor may read, the oldest first by their time, from
// behind the last one of the page before (nil: from the beginning), at most limit.
func (u *User) Past(ctx context.Context, f RowFilter, last *span.Span, limit int) ([]*span.Span, error) {
	at, key := "-infinity", span.Key{}
	if last != nil {
		at, key = last.At.String(), last.Key()
	}
	where, args := f.where(at, key.ID.String(), key.Seq)
	return querySpans(ctx, u.tx, fmt.Sprintf(`select %s from ledger.universal_registry r
		where (r.at, r.id, r.seq) > ($1::text::timestamptz, $2::text::uuid, $3) and %s
		order by r.at, r.id, r.seq limit %d`, selectList, where, limit), args...)
}
