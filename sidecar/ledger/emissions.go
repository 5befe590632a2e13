package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Emission is a span that a policy has emitted for another one.
type Emission struct {
	ID     span.ID
	Xact   uint64
	Policy span.Key // its newest version
	Cause  *span.Span
}

// EmissionsBefore returns up to limit of what policies have emitted for spans, before a place, newest first.
// Causes have key, type and accepted_at. It walks over the whole ledger, if it must.
func (l *Ledger) EmissionsBefore(ctx context.Context, before DeltaPlace, limit int) ([]Emission, error) {
	rows, err := l.pool.Query(ctx, `with `+untilSQL+`
		select r.id, r.xact::text::numeric::bigint, r.policy_id,
			(select max(p.seq) from ledger.universal_registry p where p.id = r.policy_id),
			c.id, c.seq, c.entity_type, c.accepted_at
		from ledger.universal_registry r
		join ledger.universal_registry c on c.id = (r.metadata -> 'engine' -> 'cause' ->> 0)::uuid
			and c.seq = (r.metadata -> 'engine' -> 'cause' ->> 1)::int
		where r.policy_id is not null and r.seq = 0 and r.entity_type <> 'policy_error'
			and r.metadata -> 'engine' ->> 'kind' = 'policy' and c.id <> r.policy_id
			and `+isNew+`
			and (r.xact, r.id) < ($1::text::xid8, $2::text::uuid)
		order by r.xact desc, r.id desc
		limit $3`, fmt.Sprint(before.Xact), before.Key.ID.String(), limit)
	if err != nil {
		return nil, fmt.Errorf("read what policies have emitted: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Emission, err error) {
		e.Cause = &span.Span{AcceptedAt: &span.Time{}}
		return e, row.Scan((*[16]byte)(&e.ID), &e.Xact, (*[16]byte)(&e.Policy.ID), &e.Policy.Seq,
			(*[16]byte)(&e.Cause.ID), &e.Cause.Seq, &e.Cause.EntityType, &e.Cause.AcceptedAt.Time)
	})
	if err != nil {
		return nil, fmt.Errorf("read what policies have emitted: %w", err)
	}
	return found, nil
}
