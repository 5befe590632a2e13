package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// dueAt is when version v takes force: at its effective_at, and, unless it is the first or takes something
// out of use, not before the timelock of $2 hours behind its accepted_at.
const dueAt = `greatest(coalesce(v.effective_at, '-infinity'), case
		when v.seq > 0 and v.status is not distinct from 'active' then v.accepted_at + make_interval(hours => $2)
		else '-infinity'
	end)`

// InForce reads the newest version of id that is in force by the database's clock, nil where there is none.
func (l *Ledger) InForce(ctx context.Context, id span.ID, timelockHours int) (*span.Span, error) {
	spans, err := querySpans(ctx, l.pool, `select `+selectList+` from (
			select * from ledger.universal_registry v
			where v.id = $1::text::uuid and `+dueAt+` <= clock_timestamp()
			order by v.seq desc limit 1
		) r`, id.String(), timelockHours)
	if err != nil || len(spans) == 0 {
		return nil, err
	}
	return spans[0], nil
}

// NextInForce returns when the next version of id takes force, by the database's clock; the zero time where
// none waits.
func (l *Ledger) NextInForce(ctx context.Context, id span.ID, timelockHours int) (time.Time, error) {
	var next *time.Time
	// What is older than the one in force has had its time.
	err := l.pool.QueryRow(ctx, `with v as materialized (
			select v.seq, `+dueAt+` as due from ledger.universal_registry v where v.id = $1::text::uuid
		)
		select min(v.due) from v
		where v.due > clock_timestamp()
			and v.seq > coalesce((select max(n.seq) from v n where n.due <= clock_timestamp()), -1)`,
		id.String(), timelockHours).Scan(&next)
	if err != nil {
		return time.Time{}, fmt.Errorf("read when a version takes force: %w", err)
	}
	if next == nil {
		return time.Time{}, nil
	}
	return *next, nil
}

// VersionsBefore reads up to limit versions of id whose seq is below before, the newest first.
func (l *Ledger) VersionsBefore(ctx context.Context, id span.ID, before, limit int) ([]*span.Span, error) {
	return querySpans(ctx, l.pool, `select `+selectList+` from ledger.universal_registry r
		where r.id = $1::text::uuid and r.seq < $2 order by r.seq desc limit $3`, id.String(), before, limit)
}
