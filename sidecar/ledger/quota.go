package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Used is how many executions of one day, calls of providers among them, count against limits: of a tenant,
// and of its users.
type Used struct {
	Tenant int
	Users  map[string]int // only runs that a user asked for
}

// usedSlack is how far the clock of the sidecar that wrote an execution may have been behind.
const usedSlack = 10 * time.Minute

// UsedQuota counts a tenant's executions that record day (YYYY-MM-DD) in metadata.run.quota, but for those
// of the requests given. It reads one range of an index (tenant, type, at), from the day's beginning on.
func (l *Ledger) UsedQuota(ctx context.Context, tenant string, begin time.Time, day string,
	except []span.ID) (*Used, error) {
	rows, err := l.pool.Query(ctx, `
		select r.owner_id, count(*),
			count(*) filter (where r.metadata -> 'run' -> 'quota' -> 'per_user' = 'true')
		from ledger.universal_registry r
		where r.tenant_id = $1 and r.entity_type in ('execution', 'provider_execution') and r.at >= $2
			and r.metadata -> 'run' -> 'quota' ->> 'day' = $3
			and r.metadata #>> '{engine,cause,0}' <> all ($4::text[])
		group by r.owner_id`, tenant, begin.Add(-usedSlack), day, texts(except))
	if err != nil {
		return nil, fmt.Errorf("count the executions of a day: %w", err)
	}
	defer rows.Close()
	used := &Used{Users: map[string]int{}}
	for rows.Next() {
		var owner string
		var all, own int
		if err := rows.Scan(&owner, &all, &own); err != nil {
			return nil, fmt.Errorf("read the executions of an owner: %w", err)
		}
		used.Tenant += all
		used.Users[owner] = own
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the executions of a day: %w", err)
	}
	return used, nil
}

// WasForced reports whether a version of a function has run by its force already.
func (l *Ledger) WasForced(ctx context.Context, function span.Key) (bool, error) {
	var found bool
	err := l.pool.QueryRow(ctx, `select exists (
			select from ledger.universal_registry r
			where r.parent_id = $1::text::uuid and r.entity_type = 'execution'
				and r.metadata -> 'run' -> 'forced' is not null
				and r.metadata -> 'run' -> 'function' -> 'seq' = to_jsonb($2::int4)
		)`, function.ID.String(), function.Seq).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for a forced run of %s version %d: %w", function.ID, function.Seq, err)
	}
	return found, nil
}

// HasCounted reports whether an earlier attempt of a request has used quota since its owner scheduled it
// last: a redrive counts. It reads the caller's executions of the function since the request was first there.
func (l *Ledger) HasCounted(ctx context.Context, request *span.Span) (bool, error) {
	if request.ParentID == nil {
		return false, nil
	}
	var found bool
	err := l.pool.QueryRow(ctx, `select exists (
			select from ledger.universal_registry r
			where r.parent_id = $2::text::uuid and r.owner_id = $3
				and r.entity_type in ('execution', 'provider_execution')
				and r.accepted_at >= (
					select f.accepted_at from ledger.universal_registry f where f.id = $1::text::uuid and f.seq = 0
				)
				and r.metadata #>> '{engine,cause,0}' = $1::text
				and r.metadata -> 'run' -> 'quota' is not null
				and r.attempt > `+attemptsBefore+`
		)`, request.ID.String(), request.ParentID.String(), request.OwnerID).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for earlier attempts of request %s: %w", request.ID, err)
	}
	return found, nil
}
