package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Subject is whom a time-driven policy of the system is judged for: a tenant, or one owner in it.
type Subject struct {
	TenantID string
	OwnerID  string // "" where the whole tenant is meant
}

// SubjectSearch asks for every subject that has spans of these types and statuses in a window of time.
type SubjectSearch struct {
	Types, Statuses []string // no statuses: any
	PerOwner        bool
	// Window is the column that From (inclusive) and To (exclusive) bound: at or ttl_at; or none.
	Window   string
	From, To time.Time
	// IsOpenEnded leaves From out where Window is ttl_at.
	IsOpenEnded bool
	Limit       int
	TenantLimit int // owners of one tenant; 0 is Limit
}

// Subjects returns the subjects, turn by turn of their tenants: where there are too many, each tenant has as
// many as the next one, and other owners of it with another To. Each tenant of the ledger costs a look into
// the index (a loose scan); of its spans only those are read that lie in the window. Versions that others
// have followed count as well, so a subject may have nothing left to judge.
func (l *Ledger) Subjects(ctx context.Context, search SubjectSearch) ([]Subject, error) {
	var q compiled
	where := "\n\t\twhere r.tenant_id = t.tenant_id and r.entity_type = any(" + q.value(search.Types) + ")"
	if search.Statuses != nil {
		where += " and r.status = any(" + q.value(search.Statuses) + ")"
	}
	switch {
	case search.Window == "at":
		where += " and r.at >= " + q.value(search.From) + " and r.at < " + q.value(search.To)
	case search.Window == "ttl_at" && search.IsOpenEnded:
		where += " and r.ttl_at < " + q.value(search.To)
	case search.Window == "ttl_at":
		where += " and r.ttl_at >= " + q.value(search.From) + " and r.ttl_at < " + q.value(search.To)
	}
	limit, tenantLimit := q.value(search.Limit), search.TenantLimit
	if tenantLimit == 0 {
		tenantLimit = search.Limit
	}
	found := "select '' as owner_id, 1 as turn from ledger.universal_registry r" + where + "\n\t\tlimit 1"
	if search.PerOwner {
		found = "select w.owner_id, row_number() over (order by md5(w.owner_id || " +
			q.value(search.To.String()) + "::text)) as turn" +
			"\n\t\tfrom (select distinct r.owner_id from ledger.universal_registry r" + where + ") w" +
			"\n\t\torder by turn limit " + q.value(tenantLimit)
	}
	var subjects []Subject
	err := pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `set local statement_timeout = '20s';
			set local plan_cache_mode = auto; set local enable_seqscan = on`)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `with recursive tenant as (
			(select r.tenant_id from ledger.universal_registry r order by r.tenant_id limit 1)
			union all
			select (
				select r.tenant_id from ledger.universal_registry r
				where r.tenant_id > t.tenant_id order by r.tenant_id limit 1
			)
			from tenant t where t.tenant_id is not null
		)
		select t.tenant_id, o.owner_id
		from tenant t cross join lateral (
		`+found+`) o
		where t.tenant_id is not null
		order by o.turn, t.tenant_id
		limit `+limit, q.args...)
		if err != nil {
			return err
		}
		subjects, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Subject])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the subjects of a tick: %w", err)
	}
	return subjects, nil
}
