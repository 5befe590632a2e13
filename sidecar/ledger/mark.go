package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
)

// marksSQL makes the marks. They are disposable: without them what has ended is walked over once more. A mark
// is of one epoch, because rows that came through the import door have the transactions of another server.
const marksSQL = `create table if not exists engine.open_mark (
	tenant_id text primary key,
	epoch timestamptz not null,
	xact xid8 not null,
	id uuid not null,
	due_at timestamptz
) with (fillfactor = 50)`

// dueTenant is whose mark that of the delayed requests of all tenants is. No tenant has this name.
const dueTenant = ""

// walkMax is how many rows of one tenant AdvanceMarks walks over in a call.
const walkMax = 20_000

// dueSlack bounds how long a statement may have run before its first row: a row's accepted_at is when its
// statement began.
const dueSlack = time.Hour

// openMark says that everything up to place, or delayed to a time before due, has ended.
type openMark struct {
	place OpenPlace
	due   span.Time
}

// markGate is a time, and the transactions that were still to come then. When all others have ended, no
// row with an accepted_at before that time can come any more.
type markGate struct {
	at   time.Time
	xmax uint64
	open time.Time // it has been passed
}

const noMark = "cross join (values ('0'::xid8, '00000000-0000-0000-0000-000000000000'::uuid)) as m (xact, id)"

const ownMark = `cross join lateral (
			select coalesce(max(k.xact::text), '0')::xid8 as xact,
				coalesce(max(k.id::text), '00000000-0000-0000-0000-000000000000')::uuid as id
			from engine.open_mark k where k.tenant_id = t.tenant_id and k.epoch = (select u.at from until u)
		) as m`

// withMarks runs read with the join that gives tenant t its mark m; without marks where there are none.
func (l *Ledger) withMarks(ctx context.Context, read func(marked string) error) error {
	err := read(ownMark)
	if isUndefined(err) {
		return read(noMark)
	}
	return err
}

func isUndefined(err error) bool {
	var verdict *pgconn.PgError
	return errors.As(err, &verdict) && (verdict.Code == "42P01" || verdict.Code == "3F000")
}

func (l *Ledger) openMark(ctx context.Context, tenant string) (openMark, error) {
	var mark openMark
	var due *time.Time
	err := l.pool.QueryRow(ctx, `with `+untilSQL+`
		select k.xact::text::numeric::bigint, k.id, k.due_at
		from engine.open_mark k where k.tenant_id = $1 and k.epoch = (select u.at from until u)`, tenant).
		Scan(&mark.place.Xact, (*[16]byte)(&mark.place.ID), &due)
	if errors.Is(err, pgx.ErrNoRows) || isUndefined(err) {
		return openMark{}, nil
	}
	if err != nil {
		return openMark{}, fmt.Errorf("read how far requests have ended: %w", err)
	}
	if due != nil {
		mark.due = span.NewTime(*due)
	}
	return mark, nil
}

// AdvanceMarks notes how far requests have ended, so that nobody walks over those again: each look at a
// tenant's open requests begins there. Whoever leads calls it every ten seconds or so while requests end; it
// costs one look into the index for each tenant, and a microsecond or two for each request ended since.
// Not calling it makes a take-over slower, and nothing else.
func (l *Ledger) AdvanceMarks(ctx context.Context) error {
	err := l.advance(ctx)
	if isUndefined(err) {
		if _, err := l.pool.Exec(ctx, marksSQL); err != nil {
			return fmt.Errorf("make the marks of ended requests: %w", err)
		}
		err = l.advance(ctx)
	}
	if err != nil {
		return fmt.Errorf("note how far requests have ended: %w", err)
	}
	return nil
}

func (l *Ledger) advance(ctx context.Context) error {
	batch := inOrder()
	batch.Queue(advanceSQL, dueTenant, walkMax)
	if err := l.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return l.advanceDue(ctx)
}

const advanceSQL = `with recursive ` + untilSQL + `, ` + readyTenants + `
		insert into engine.open_mark as k (tenant_id, epoch, xact, id)
		select t.tenant_id, u.at, last.xact, last.id
		from tenant t cross join until u ` + ownMark + `
		-- Where the walk ends at the latest: at a transaction that is still under way, or after so many rows.
		cross join lateral (select coalesce((
			select r.xact from ledger.universal_registry r
			where ` + isReady + `
				and r.tenant_id = t.tenant_id and ` + place + ` > (t.tenant_id, m.xact, m.id)
				and ` + place + ` < (t.tenant_id,
					pg_snapshot_xmin(pg_current_snapshot()), '00000000-0000-0000-0000-000000000000')
			order by r.xact, r.id
			offset $2 limit 1
		), pg_snapshot_xmin(pg_current_snapshot())) as xact) as until_xact
		left join lateral (
			select r.xact, r.id from ledger.universal_registry r
			where ` + isReady + `
				and r.tenant_id = t.tenant_id and ` + place + ` > (t.tenant_id, m.xact, m.id)
				and ` + place + ` < (t.tenant_id,
					until_xact.xact, '00000000-0000-0000-0000-000000000000')
				and ` + isCurrent + `
			order by r.xact, r.id
			limit 1
		) as open on true
		cross join lateral (
			select r.xact, r.id from ledger.universal_registry r
			where ` + isReady + `
				and r.tenant_id = t.tenant_id and ` + place + ` > (t.tenant_id, m.xact, m.id)
				and ` + place + ` < (t.tenant_id,
					coalesce(open.xact, until_xact.xact),
					coalesce(open.id, '00000000-0000-0000-0000-000000000000'))
			order by r.xact desc, r.id desc
			limit 1
		) as last
		where t.tenant_id is not null
		on conflict (tenant_id) do update
			set epoch = excluded.epoch, xact = excluded.xact, id = excluded.id`

// advanceDue moves the mark of the delayed requests to the first that has not ended, at most to the gate.
func (l *Ledger) advanceDue(ctx context.Context) error {
	var now time.Time
	var xmin, xmax uint64
	err := l.pool.QueryRow(ctx, `select clock_timestamp(), pg_snapshot_xmin(s)::text::numeric::bigint,
		pg_snapshot_xmax(s)::text::numeric::bigint from pg_current_snapshot() s`).Scan(&now, &xmin, &xmax)
	if err != nil {
		return err
	}
	gate := l.gate.Swap(nil)
	switch {
	case gate == nil:
		gate = &markGate{at: now, xmax: xmax}
	case xmin >= gate.xmax:
		gate = &markGate{at: now, xmax: xmax, open: gate.at}
	}
	l.gate.Store(gate)
	if gate.open.IsZero() {
		return nil
	}
	batch := inOrder()
	batch.Queue(advanceDueSQL, gate.open.Add(-dueSlack), walkMax)
	return l.pool.SendBatch(ctx, batch).Close()
}

const advanceDueSQL = `with ` + untilSQL + `, mark as (
			select coalesce(max(k.due_at), '-infinity') as at from engine.open_mark k
			where k.tenant_id = '' and k.epoch = (select u.at from until u)
		), walked as (
			select coalesce((
				select r.scheduled_at from ledger.universal_registry r cross join mark m
				where ` + isDelayed + ` and r.scheduled_at >= m.at and r.scheduled_at < $1
				order by r.scheduled_at, r.id
				offset $2 limit 1
			), $1) as at
		), open as (
			select r.scheduled_at as at from ledger.universal_registry r cross join mark m
			where ` + isDelayed + ` and r.scheduled_at >= m.at and r.scheduled_at < (select w.at from walked w)
				and ` + isCurrent + `
			order by r.scheduled_at, r.id
			limit 1
		)
		insert into engine.open_mark as k (tenant_id, epoch, xact, id, due_at)
		select '', u.at, '0', '00000000-0000-0000-0000-000000000000', coalesce(open.at, w.at)
		from until u cross join walked w cross join mark m left join open on true
		where coalesce(open.at, w.at) > m.at + interval '1 min'
		on conflict (tenant_id) do update set epoch = excluded.epoch, due_at = excluded.due_at`
