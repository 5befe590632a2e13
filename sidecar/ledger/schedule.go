package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// scheduleSQL makes the table of last ticks: of functions and of time-driven policies. It is disposable: what
// has ticked stands in the ledger, and is only looked for further back without it.
const scheduleSQL = `create table if not exists engine.schedule (
	id uuid primary key,
	last_tick timestamptz not null
) with (fillfactor = 50)`

// Schedule is the newest version of a function that is in force and states metadata.schedule.
type Schedule struct {
	ID                            span.ID
	Seq                           int
	OwnerID, TenantID, Visibility string
	AcceptedAt                    time.Time
	// Since is when the oldest version was accepted that has been followed by none with another expression or
	// zone.
	Since time.Time
	Form  json.RawMessage // metadata.schedule, of which more than ScheduleMax letters are cut off
}

// ScheduleMax is how many letters a schedule may have.
const ScheduleMax = 8 << 10

// inForceSQL says whether a version of a function may be in force; the index of schedules has the rest.
const inForceSQL = `%[1]s.status in ('active', 'scheduled') and not %[1]s.is_deleted`

// isRecurring is the condition of the index of schedules.
const isRecurring = "%[1]s.entity_type = 'function' and %[1]s.metadata ? 'schedule'"

// schedulesOf reads the newest versions from source r, which has those that isRecurring says, and others.
func schedulesOf(source string) string {
	return `select r.id::text, r.seq, r.owner_id, r.tenant_id, r.visibility, r.accepted_at,
		greatest(s.since, ` + acceptedUntil + `), left((r.metadata -> 'schedule')::text, ` +
		strconv.Itoa(ScheduleMax+1) + `)
	from ` + source + `
	cross join lateral (
		select min(p.accepted_at) as since
		from ledger.universal_registry p
		where p.id = r.id and p.seq <= r.seq and p.seq > coalesce((
			select max(q.seq) from ledger.universal_registry q
			where q.id = r.id and q.seq < r.seq and not coalesce(
				` + fmt.Sprintf(inForceSQL, "q") + `
				and q.metadata -> 'schedule' -> 'cron' = r.metadata -> 'schedule' -> 'cron'
				and q.metadata -> 'schedule' -> 'tz' is not distinct from r.metadata -> 'schedule' -> 'tz', false)
		), -1)
	) s
	where ` + fmt.Sprintf(isRecurring, "r") + ` and ` + fmt.Sprintf(inForceSQL, "r") + `
		and r.metadata -> 'schedule' <> 'null'
		and (select n.seq from ledger.universal_registry n where n.id = r.id and n.seq = r.seq + 1) is null`
}

var (
	allSchedulesSQL = schedulesOf("ledger.universal_registry r") + `
		and r.id > $1::text::uuid
		order by r.id
		limit $2`
	// The order keeps a plan that was made while the ledger was small from reading every function, as the
	// comparison with null keeps it from reading every key.
	someSchedulesSQL = schedulesOf(`unnest($1::uuid[]) as k(id)
		cross join lateral (
			select * from ledger.universal_registry v
			where v.id = k.id and ` + fmt.Sprintf(isRecurring, "v") + `
			order by v.seq desc
			limit 1
		) r`)
)

// Schedules returns up to limit functions with a schedule, in id order, after the id given (the nil UUID for
// the first page). It is read when a sidecar takes over, never in steady state.
func (l *Ledger) Schedules(ctx context.Context, after span.ID, limit int) ([]Schedule, error) {
	return l.schedules(ctx, allSchedulesSQL, after.String(), limit)
}

// SchedulesOf returns those of these functions that have a schedule in force. Of one that states none it
// reads nothing: it is not in the index.
func (l *Ledger) SchedulesOf(ctx context.Context, ids []span.ID) ([]Schedule, error) {
	return l.schedules(ctx, someSchedulesSQL, uuids(ids))
}

func (l *Ledger) schedules(ctx context.Context, sql string, args ...any) ([]Schedule, error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the schedules: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Schedule, err error) {
		var id string
		if err = row.Scan(&id, &s.Seq, &s.OwnerID, &s.TenantID, &s.Visibility, &s.AcceptedAt, &s.Since,
			&s.Form); err == nil {
			s.ID, err = span.ParseID(id)
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the schedules: %w", err)
	}
	return found, nil
}

// Unseen returns those of xacts, which the WAL has named, that are not visible yet: a commit is in the WAL,
// and sent to readers of it, before its rows are visible to others (LoadVisible).
func (l *Ledger) Unseen(ctx context.Context, xacts []uint64) (map[uint64]bool, error) {
	list := make([]string, len(xacts))
	for i, xact := range xacts {
		list[i] = strconv.FormatUint(xact, 10)
	}
	rows, err := l.pool.Query(ctx, `select x from unnest($1::text[]) as k(x)
		where not pg_visible_in_snapshot(k.x::xid8, pg_current_snapshot())`, list)
	if err != nil {
		return nil, fmt.Errorf("ask what is visible: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("ask what is visible: %w", err)
	}
	unseen := make(map[uint64]bool, len(found))
	for _, text := range found {
		xact, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read a transaction id: %w", err)
		}
		unseen[xact] = true
	}
	return unseen, nil
}

// Which returns those of ids that stand in the ledger.
func (l *Ledger) Which(ctx context.Context, ids []span.ID) (map[span.ID]bool, error) {
	rows, err := l.pool.Query(ctx, `select r.id::text from unnest($1::text[]::uuid[]) as k(id)
		join ledger.universal_registry r on r.id = k.id and r.seq = 0`, texts(ids))
	if err != nil {
		return nil, fmt.Errorf("look for ids: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for ids: %w", err)
	}
	there := make(map[span.ID]bool, len(found))
	for _, text := range found {
		there[span.MustID(text)] = true
	}
	return there, nil
}

// LastTicks returns when each of these functions and policies has ticked last, as far as it is known.
func (l *Ledger) LastTicks(ctx context.Context, ids []span.ID) (map[span.ID]time.Time, error) {
	ticks := map[span.ID]time.Time{}
	rows, err := l.pool.Query(ctx, `select s.id::text, s.last_tick from engine.schedule s
		where s.id = any ($1::text[]::uuid[])`, texts(ids))
	if err == nil {
		var id string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
			ticks[span.MustID(id)] = at.UTC()
			return nil
		})
	}
	if IsEngineMissing(err) {
		return ticks, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last ticks: %w", err)
	}
	return ticks, nil
}

// KeepTicks notes when functions and policies have ticked last. It makes the table where that is gone.
func (l *Ledger) KeepTicks(ctx context.Context, ticks map[span.ID]time.Time) error {
	ids, times := make([]string, 0, len(ticks)), make([]time.Time, 0, len(ticks))
	for id, at := range ticks {
		ids, times = append(ids, id.String()), append(times, at)
	}
	keep := func() error {
		_, err := l.pool.Exec(ctx, `insert into engine.schedule (id, last_tick)
			select k.id::uuid, k.last_tick from unnest($1::text[], $2::timestamptz[]) as k(id, last_tick) order by 1
			on conflict (id) do update set last_tick = excluded.last_tick
			where schedule.last_tick is distinct from excluded.last_tick`, ids, times)
		return err
	}
	err := keep()
	if IsEngineMissing(err) {
		if err = l.MakeEngine(ctx, scheduleSQL); err == nil {
			err = keep()
		}
	}
	if err != nil {
		return fmt.Errorf("keep the last ticks: %w", err)
	}
	return nil
}
