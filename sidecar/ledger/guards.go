package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// FailuresInARow returns how many of a caller's newest runs of a function failed, one after the other, at
// most so many, and when the last of them ended. What did not begin, or was cancelled, is no run.
func (l *Ledger) FailuresInARow(ctx context.Context, function span.ID, tenant, caller string, most int) (
	failures int, last time.Time, err error) {
	rows, err := l.pool.Query(ctx, `select r.status = 'error', r.accepted_at
		from ledger.universal_registry r
		where r.parent_id = $1::text::uuid and r.owner_id = $2 and r.tenant_id = $3
			and r.entity_type = 'execution' and r.did = 'executed' and r.metadata -> 'run' ? 'seed'
			and (r.error ->> 'code') is distinct from 'cancelled'
		order by r.accepted_at desc
		limit $4`, function.String(), caller, tenant, most)
	if err != nil {
		return 0, last, fmt.Errorf("read the last runs of %s: %w", function, err)
	}
	var isFailure bool
	var at time.Time
	isRow := true
	_, err = pgx.ForEachRow(rows, []any{&isFailure, &at}, func() error {
		if isRow = isRow && isFailure; isRow {
			if failures++; failures == 1 {
				last = at
			}
		}
		return nil
	})
	if err != nil {
		return 0, last, fmt.Errorf("read the last runs of %s: %w", function, err)
	}
	return failures, last, nil
}

// RunsSince returns when a tenant's runs of functions, or calls of a kernel, began since a time: the newest,
// at most so many, the oldest first. It reads one range of an index (tenant, type, at).
func (l *Ledger) RunsSince(ctx context.Context, tenant string, kernel *span.ID, since time.Time, most int) (
	[]time.Time, error) {
	entityType, parent := "execution", ""
	if kernel != nil {
		entityType, parent = "provider_execution", kernel.String()
	}
	rows, err := l.pool.Query(ctx, `select n.began from (
			select r.accepted_at - coalesce(r.duration_ms, 0) * interval '1 ms' as began
			from ledger.universal_registry r
			where r.tenant_id = $1 and r.entity_type = $2 and r.at >= $3
				and r.did in ('executed', 'called', 'cancelled')
				and ($4 = '' or r.parent_id::text = $4)
		) n
		where n.began >= $5
		order by n.began desc
		limit $6`, tenant, entityType, since.Add(-usedSlack), parent, since, most)
	if err != nil {
		return nil, fmt.Errorf("read a tenant's runs of the last minute: %w", err)
	}
	starts, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("read a tenant's runs of the last minute: %w", err)
	}
	for i, j := 0, len(starts)-1; i < j; i, j = i+1, j-1 {
		starts[i], starts[j] = starts[j], starts[i]
	}
	return starts, nil
}

// rootWalkMax is how many rows SpansOfRoot looks at.
const rootWalkMax = 50_000

// SpansOfRoot counts what a root has brought about in a tenant, but for reports, among the tenant's newest
// rows: what grows fast is there.
func (l *Ledger) SpansOfRoot(ctx context.Context, tenant string, root span.ID) (count int, err error) {
	err = l.pool.QueryRow(ctx, `select count(*) from (
			select r.seq, r.entity_type, r.metadata -> 'engine' as engine
			from ledger.universal_registry r
			where r.tenant_id = $1
			order by r.at desc
			limit $3
		) n
		where n.engine ->> 'root' = $2
			and case
				when n.engine ->> 'kind' in ('policy', 'bucket') then
					n.entity_type <> 'policy_error' and (n.entity_type <> 'request' or n.seq = 0)
				else n.entity_type <> all($4)
			end`, tenant, root.String(), rootWalkMax, span.EngineTypes).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count what comes from %s: %w", root, err)
	}
	return count, nil
}

// othersMax bounds how long AwaitOthers waits.
const othersMax = 5 * time.Second

// ErrOthers is returned by AwaitOthers when a statement of another session still runs.
var ErrOthers = errors.New("a statement of another sidecar is still under way")

// AwaitOthers waits until no statement runs that a sidecar's session began before now: what a killed sidecar
// had sent is then committed, or will never be. Sessions of another login are not seen.
func (l *Ledger) AwaitOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, othersMax)
	defer cancel()
	began, err := l.Now(ctx)
	for pause := 2 * time.Millisecond; err == nil; pause = min(2*pause, 100*time.Millisecond) {
		var isBusy bool
		err = l.pool.QueryRow(ctx, `select exists (
				select from pg_stat_activity a
				where a.application_name = 'loglineos' and a.pid <> pg_backend_pid()
					and a.datname = current_database() and a.state <> 'idle'
					and (a.backend_xid is not null or a.query like '%insert into ledger.universal_registry%')
					and least(a.xact_start, a.query_start) < $1
			)`, began).Scan(&isBusy)
		if err == nil && !isBusy {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ErrOthers
		case <-timer.C:
		}
	}
	return fmt.Errorf("look for statements of other sidecars: %w", err)
}
