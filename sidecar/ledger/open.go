package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Open requests are of two kinds, each with an index of its own (sql/src/70_indexes.sql). One that is delayed
// (a version whose scheduled_at was still to come when it was written) is found by that time, over all
// tenants: DueBefore. Every other one is found by tenant, in the order of the transactions that wrote them:
// OpenRequestsOf. A row is in its index for ever, so what has ended is walked over; marks say up to where
// there is nothing else (mark.go).

const (
	// In these words the indexes have it.
	isDelayed = `r.entity_type = 'request' and r.status in ('scheduled', 'retry', 'blocked')
		and r.scheduled_at > r.accepted_at`
	isReady = `r.entity_type = 'request'
		and r.status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested')
		and (r.scheduled_at is null or r.scheduled_at <= r.accepted_at
			or r.status in ('running', 'cancel_requested'))`
	// isCurrent leaves out what has a later version, is deleted, or came in through the import door: whoever had
	// that ran elsewhere, and its transactions are those of another server.
	isCurrent = `not r.is_deleted and ` + isNew + `
		and not exists (
			select from ledger.universal_registry n where n.id = r.id and n.seq = r.seq + 1
		)`
	// place of a row in the order of the index.
	place = `(r.tenant_id, r.xact, r.id)`
	// isVisible leaves out rows of another server's transactions to come; no index has it.
	isVisible = `pg_visible_in_snapshot(r.xact, pg_current_snapshot())`
	// readyTenants is a loose scan: one look into the index for each tenant that ever had such a request.
	readyTenants = `tenant as (
		(select r.tenant_id from ledger.universal_registry r
			where ` + isReady + ` and r.tenant_id > $1
			order by r.tenant_id, r.xact, r.id limit 1)
		union all
		select (
			select r.tenant_id from ledger.universal_registry r
			where ` + isReady + ` and r.tenant_id > t.tenant_id
			order by r.tenant_id, r.xact, r.id limit 1
		)
		from tenant t where t.tenant_id is not null
	)`
	// byOrderSQL has the planner go by the index that has the order asked for, for the rest of the transaction.
	// Left to itself it takes one of all rows of the tenant, or of the transactions of all tenants, where it
	// believes that there are few: as in a new ledger, whose plans are kept while it grows.
	byOrderSQL = `select set_config('enable_sort', 'off', true),
		set_config('enable_incremental_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)`
)

// OpenPlace is the place of an open request among those of its tenant. Its zero value is before all.
type OpenPlace struct {
	Xact uint64
	ID   span.ID
}

// PlaceOf returns the place of a row that OpenRequestsOf gave.
func PlaceOf(row *span.Published) OpenPlace { return OpenPlace{row.Xact, row.ID} }

// DuePlace is the place of a delayed request among all. Its zero value is before all.
type DuePlace struct {
	At span.Time
	ID span.ID
}

// DueOf returns the place of a row that DueBefore gave.
func DueOf(row *span.Published) DuePlace {
	if row.ScheduledAt == nil {
		return DuePlace{ID: row.ID}
	}
	return DuePlace{*row.ScheduledAt, row.ID}
}

// OpenRequestsOf returns up to limit of a tenant's requests that stand open and are not delayed, after a
// place, in the order of the transactions that wrote the standing versions, and of id in each. It gives what
// the publication carries; bodies are read by Requests.
//
// A transaction that commits later than others may have a place before theirs: whoever has read up to
// a place learns of such a row from the stream alone. What the snapshot sees, the page has seen.
func (l *Ledger) OpenRequestsOf(ctx context.Context, tenant string, after OpenPlace, limit int) (
	[]*span.Published, span.Snapshot, error) {
	if after == (OpenPlace{}) {
		mark, err := l.openMark(ctx, tenant)
		if err != nil {
			return nil, span.Snapshot{}, err
		}
		after = mark.place
	}
	rows, snapshot, err := l.sendPublished(ctx, inOrder(), openPageSQL, tenant, fmt.Sprint(after.Xact),
		after.ID.String(), limit)
	if err != nil {
		return nil, snapshot, fmt.Errorf("read the open requests of a tenant: %w", err)
	}
	return rows, snapshot, nil
}

const openPageSQL = `with ` + untilSQL + `
		select ` + publishedList + `
		from ledger.universal_registry r
		where ` + isReady + `
			and r.tenant_id = $1 and ` + place + ` > ($1, $2::text::xid8, $3::text::uuid)
			and ` + isVisible + ` and ` + isCurrent + `
		order by r.xact, r.id
		limit $4`

// TenantsWithOpenRequests returns up to limit tenants, after a name and by name, that have an open request
// which is not delayed.
func (l *Ledger) TenantsWithOpenRequests(ctx context.Context, after string, limit int) ([]string, error) {
	var tenants []string
	err := l.withMarks(ctx, func(marked string) error {
		batch := inOrder()
		batch.Queue(openTenantsSQL(marked), after, limit).Query(func(rows pgx.Rows) (err error) {
			tenants, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return l.pool.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return nil, fmt.Errorf("list the tenants with open requests: %w", err)
	}
	return tenants, nil
}

func openTenantsSQL(marked string) string {
	return `with recursive ` + untilSQL + `, ` + readyTenants + `
		select t.tenant_id
		from tenant t ` + marked + `
		cross join lateral (
			select
			from ledger.universal_registry r
			where ` + isReady + `
				and r.tenant_id = t.tenant_id and ` + place + ` > (t.tenant_id, m.xact, m.id)
				and ` + isVisible + ` and ` + isCurrent + `
			order by r.xact, r.id
			limit 1
		) as open
		where t.tenant_id is not null
		limit $2`
}

// DueBefore returns up to limit requests of a tenant ("": of all) that stand open and were delayed to a time
// before t, after a place, by that time and id. t is the database's time. It gives what the publication
// carries; bodies are read by Requests. What is delayed to a time that was read up to already is named by the
// stream. What the snapshot sees, the page has seen.
func (l *Ledger) DueBefore(ctx context.Context, t time.Time, tenant string, after DuePlace, limit int) (
	[]*span.Published, span.Snapshot, error) {
	if after == (DuePlace{}) {
		mark, err := l.openMark(ctx, dueTenant)
		if err != nil {
			return nil, span.Snapshot{}, err
		}
		after.At = mark.due
	}
	rows, snapshot, err := l.sendPublished(ctx, inOrder(), `with `+untilSQL+`
		select `+publishedList+`
		from ledger.universal_registry r
		where `+isDelayed+`
			and (r.scheduled_at, r.id) > ($1::timestamptz, $2::text::uuid)
			and r.scheduled_at < $3::timestamptz
			and ($5 = '' or r.tenant_id = $5)
			and `+isCurrent+`
		order by r.scheduled_at, r.id
		limit $4`, after.At.Time, after.ID.String(), t, limit, tenant)
	if err != nil {
		return nil, snapshot, fmt.Errorf("read the requests that are due: %w", err)
	}
	return rows, snapshot, nil
}

const publishedList = `r.id, r.seq, r.entity_type, r.status, r.owner_id, r.tenant_id, r.visibility,
			r.is_deleted, r.parent_id, r.at, r.accepted_at, r.scheduled_at, r.trace_id, r.xact, r.curr_hash,
			r.prev_hash`

// queryPublished runs a select of publishedList, and takes a snapshot just before, in one round trip.
func (l *Ledger) queryPublished(ctx context.Context, sql string, args ...any) (
	[]*span.Published, span.Snapshot, error) {
	return l.sendPublished(ctx, &pgx.Batch{}, sql, args...)
}

func (l *Ledger) sendPublished(ctx context.Context, batch *pgx.Batch, sql string, args ...any) (
	rows []*span.Published, snapshot span.Snapshot, err error) {
	batch.Queue(snapshotSQL).QueryRow(func(row pgx.Row) (err error) {
		snapshot, err = scanSnapshot(row)
		return err
	})
	batch.Queue(sql, args...).Query(func(found pgx.Rows) (err error) {
		rows, err = pgx.CollectRows(found, scanPublished)
		return err
	})
	err = l.pool.SendBatch(ctx, batch).Close()
	return rows, snapshot, err
}

// inOrder begins a batch whose statements are in the order of an index. It is one transaction.
func inOrder() *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(byOrderSQL)
	return batch
}

const snapshotSQL = "select pg_current_snapshot()::text"

func scanSnapshot(row pgx.Row) (span.Snapshot, error) {
	var text string
	if err := row.Scan(&text); err != nil {
		return span.Snapshot{}, fmt.Errorf("read the snapshot: %w", err)
	}
	return span.ParseSnapshot(text)
}

// Snapshot returns what a statement that begins now sees.
func (l *Ledger) Snapshot(ctx context.Context) (span.Snapshot, error) {
	return scanSnapshot(l.pool.QueryRow(ctx, snapshotSQL))
}

func scanPublished(found pgx.CollectableRow) (*span.Published, error) {
	row := new(span.Published)
	var parent pgtype.UUID
	var scheduled *time.Time
	err := found.Scan((*[16]byte)(&row.ID), &row.Seq, &row.EntityType, &row.Status, &row.OwnerID, &row.TenantID,
		&row.Visibility, &row.IsDeleted, &parent, &row.At.Time, &row.AcceptedAt.Time, &scheduled, &row.TraceID,
		&row.Xact, &row.CurrHash, &row.PrevHash)
	row.At, row.AcceptedAt = span.NewTime(row.At.Time), span.NewTime(row.AcceptedAt.Time)
	if parent.Valid {
		row.ParentID = new(span.ID(parent.Bytes))
	}
	if scheduled != nil {
		row.ScheduledAt = new(span.NewTime(*scheduled))
	}
	return row, err
}
