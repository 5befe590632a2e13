package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/sidecar/span"
)

// runsKey asks for the newest runs of a function by a caller.
type runsKey struct {
	function       span.ID
	tenant, caller string
	most           int
}

// failedRuns is how many of them failed, one after the other, and when the last of those ended.
type failedRuns struct {
	count int
	last  time.Time
}

// FailuresInARow returns how many of a caller's newest runs of a function failed, one after the other, at
// most so many, and when the last of them ended. What did not begin, or was cancelled, is no run.
func (l *Ledger) FailuresInARow(ctx context.Context, function span.ID, tenant, caller string, most int) (
	failures int, last time.Time, err error) {
	key := runsKey{function, tenant, caller, most}
	found, err := l.lastRuns.get(ctx, []runsKey{key})
	return found[key].count, found[key].last, err
}

// lastRunsSQL reads the index on (parent_id, owner_id, entity_type, accepted_at), also where the plan is made
// in a ledger without executions, and those of a tenant look like the fewest: so that is no bare column. In a
// new ledger all that the caller ever had looks as cheap, but comes in another order: hence byOrderSQL.
const lastRunsSQL = `select k.place, n.is_failure, n.accepted_at
		from unnest($1::uuid[], $2::text[], $3::text[], $4::int8[])
			with ordinality as k(function, tenant, caller, most, place)
		cross join lateral (
			select r.status = 'error' as is_failure, r.accepted_at
			from ledger.universal_registry r
			where r.parent_id = k.function and r.owner_id = k.caller and r.tenant_id || '' = k.tenant
				and r.entity_type = 'execution' and r.did = 'executed' and r.metadata -> 'run' ? 'seed'
				and (r.error ->> 'code') is distinct from 'cancelled'
			order by r.accepted_at desc
			limit k.most
		) n
		order by k.place, n.accepted_at desc`

func (l *Ledger) failedRuns(ctx context.Context, keys []runsKey) (map[runsKey]failedRuns, error) {
	functions, tenants := make([]pgtype.UUID, len(keys)), make([]string, len(keys))
	callers, mosts := make([]string, len(keys)), make([]int64, len(keys))
	for i, key := range keys {
		functions[i] = pgtype.UUID{Bytes: key.function, Valid: true}
		tenants[i], callers[i], mosts[i] = key.tenant, key.caller, int64(key.most)
	}
	batch := inOrder()
	batch.Queue(lastRunsSQL, functions, tenants, callers, mosts)
	results := l.pool.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	if _, err := results.Exec(); err != nil {
		return nil, fmt.Errorf("read the last runs of %d functions: %w", len(keys), err)
	}
	rows, err := results.Query()
	if err != nil {
		return nil, fmt.Errorf("read the last runs of %d functions: %w", len(keys), err)
	}
	found, isOver := map[runsKey]failedRuns{}, map[runsKey]bool{}
	var place int
	var isFailure bool
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&place, &isFailure, &at}, func() error {
		key := keys[place-1]
		if isOver[key] = isOver[key] || !isFailure; isOver[key] {
			return nil
		}
		runs := found[key]
		if runs.count++; runs.count == 1 {
			runs.last = at
		}
		found[key] = runs
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the last runs of %d functions: %w", len(keys), err)
	}
	return found, nil
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
				where split_part(a.application_name, ' ', 1) = 'loglineos' and a.pid <> pg_backend_pid()
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
