package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// RequestFilter chooses requests by how they stand. Its zero value chooses all.
type RequestFilter struct {
	Statuses   []string // of the newest version; nil is any
	Tenant     string
	Function   *span.ID
	Since      time.Duration // the newest version is not older
	ReasonLike string        // a part of its reason or error, in any case
	IDs        []span.ID     // these alone
}

// RequestState is how one request stands.
type RequestState struct {
	ID          span.ID         `json:"id"`
	Seq         int             `json:"seq"`
	Status      string          `json:"status"`
	TenantID    string          `json:"tenant_id"`
	OwnerID     string          `json:"owner_id"`
	Function    *span.ID        `json:"function,omitempty"`
	Name        string          `json:"function_name,omitempty"`
	Attempt     *int            `json:"attempt,omitempty"`
	AskedAt     time.Time       `json:"asked_at"`   // its first version
	ChangedAt   time.Time       `json:"changed_at"` // its newest one
	ScheduledAt *time.Time      `json:"scheduled_at,omitempty"`
	Reason      *string         `json:"reason,omitempty"`
	Error       json.RawMessage `json:"error,omitempty"` // of its newest version, or its newest execution
}

// where is the condition on r, the newest version of a request, with its arguments.
func (f *RequestFilter) where() (string, []any) {
	sql, args := `r.entity_type = 'request' and not r.is_deleted
			and not exists (
				select from ledger.universal_registry n where n.id = r.id and n.seq = r.seq + 1
			)`, []any{}
	add := func(condition string, value any) {
		args = append(args, value)
		sql += fmt.Sprintf(" and "+condition, len(args))
	}
	if f.Statuses != nil {
		add("r.status = any ($%d::text[])", f.Statuses)
	}
	if f.Tenant != "" {
		add("r.tenant_id = $%d", f.Tenant)
	}
	if f.Function != nil {
		add("r.parent_id = $%d::text::uuid", f.Function.String())
	}
	if f.Since > 0 {
		add("r.at > now() - $%d::text::interval", fmt.Sprintf("%d milliseconds", f.Since.Milliseconds()))
	}
	if f.ReasonLike != "" {
		add(`(strpos(lower(concat(r.reason, ' ', r.error)), lower($%[1]d)) > 0
			or r.status in ('error', 'retry', 'running') and exists (
				select from ledger.universal_registry first
				join ledger.universal_registry x on `+executionOf+`
				where first.id = r.id and first.seq = 0
					and strpos(lower(concat(x.error->>'code', ': ', x.error->>'message')), lower($%[1]d)) > 0))`,
			f.ReasonLike)
	}
	if f.IDs != nil {
		add("r.id = any ($%d::text[]::uuid[])", texts(f.IDs))
	}
	return sql, args
}

// RequestsWhere returns the newest of the requests that f chooses, the newest first.
func (o *Owner) RequestsWhere(ctx context.Context, f RequestFilter, limit int) ([]RequestState, error) {
	where, args := f.where()
	rows, err := o.conn.Query(ctx, fmt.Sprintf(`
		with chosen as materialized (
			select r.* from ledger.universal_registry r where %s order by r.at desc, r.id desc limit %d
		)
		select r.id::text, r.seq, r.status, r.tenant_id, r.owner_id, r.parent_id::text, coalesce(f.name, ''),
			r.attempt, first.accepted_at, r.accepted_at, r.scheduled_at, r.reason, coalesce(r.error, e.error)::text
		from chosen r
		join ledger.universal_registry first on first.id = r.id and first.seq = 0
		left join lateral (
			select f.name from ledger.universal_registry f where f.id = r.parent_id order by f.seq desc limit 1
		) f on true
		left join lateral (
			select x.error
			from ledger.universal_registry x
			where r.status in ('error', 'retry', 'running') and `+executionOf+`
				and x.error is not null
			order by x.accepted_at desc
			limit 1
		) e on true
		order by r.at desc, r.id desc`, where, limit), args...)
	if err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (RequestState, error) {
		var s RequestState
		var id string
		var function, failure *string
		err := row.Scan(&id, &s.Seq, &s.Status, &s.TenantID, &s.OwnerID, &function, &s.Name, &s.Attempt,
			&s.AskedAt, &s.ChangedAt, &s.ScheduledAt, &s.Reason, &failure)
		if err != nil {
			return s, err
		}
		s.ID = span.MustID(id)
		if function != nil {
			s.Function = new(span.MustID(*function))
		}
		if failure != nil {
			s.Error = json.RawMessage(*failure)
		}
		return s, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	return found, nil
}

// executionOf is the condition that x is an execution of request r, whose first version is first.
const executionOf = `x.parent_id = r.parent_id and x.owner_id = r.owner_id
				and x.entity_type in ('execution', 'provider_execution')
				and x.accepted_at >= first.accepted_at and x.metadata #>> '{engine,cause,0}' = r.id::text`

// Executions returns the executions of a request, the oldest first.
func (o *Owner) Executions(ctx context.Context, request span.ID) ([]*span.Span, error) {
	// The alias of what is read is r (selectList), and that of the request is q.
	return querySpans(ctx, o.conn, `select `+selectList+`
		from ledger.universal_registry q
		join ledger.universal_registry r on r.parent_id = q.parent_id and r.owner_id = q.owner_id
			and r.entity_type in ('execution', 'provider_execution') and r.accepted_at >= q.accepted_at
			and r.metadata #>> '{engine,cause,0}' = q.id::text
		where q.id = $1::text::uuid and q.seq = 0
		order by r.accepted_at, r.attempt`, request.String())
}

// CountRequests counts what f chooses, by tenant and function, those with most first.
func (o *Owner) CountRequests(ctx context.Context, f RequestFilter) ([]RequestCount, error) {
	where, args := f.where()
	rows, err := o.conn.Query(ctx, `select r.tenant_id, coalesce(r.parent_id::text, ''), count(*), min(r.at)
		from ledger.universal_registry r where `+where+`
		group by 1, 2 order by 3 desc, 1, 2`, args...)
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RequestCount])
	if err != nil {
		return nil, fmt.Errorf("count requests: %w", err)
	}
	return counts, nil
}

// RequestCount is how many requests of a tenant and a function were chosen.
type RequestCount struct {
	Tenant   string    `json:"tenant_id"`
	Function string    `json:"function"`
	Count    int       `json:"count"`
	Oldest   time.Time `json:"oldest"`
}

// FollowRequests appends a version with this status to every request that f chooses, as its owner may, page
// by page, and tells after each how many it has done of how many. Whose state changes meanwhile is passed
// over.
func (o *Owner) FollowRequests(ctx context.Context, f RequestFilter, next RequestVersion,
	tell func(done, all int)) (done int, err error) {
	const chosen = "logline_chosen_requests"
	where, args := f.where()
	if _, err := o.conn.Exec(ctx, "drop table if exists pg_temp."+chosen); err != nil {
		return 0, fmt.Errorf("choose requests: %w", err)
	}
	tag, err := o.conn.Exec(ctx, "create temporary table "+chosen+` as
		select r.id, r.seq, row_number() over (order by r.at, r.id) as place
		from ledger.universal_registry r where `+where, args...)
	if err != nil {
		return 0, fmt.Errorf("choose requests: %w", err)
	}
	all := int(tag.RowsAffected())
	for from := 0; from < all; from += followPage {
		tag, err := o.conn.Exec(ctx, `insert into ledger.universal_registry (id, seq, entity_type, who, did, this,
				owner_id, tenant_id, visibility, parent_id, related_to, trace_id, status, reason)
			select r.id, r.seq + 1, r.entity_type, 'operator:' || session_user, $1, r.this, r.owner_id, r.tenant_id,
				r.visibility, r.parent_id, r.related_to, r.trace_id, $2, nullif($3, '')
			from pg_temp.`+chosen+` c
			join ledger.universal_registry r on r.id = c.id and r.seq = c.seq
			where c.place > $4 and c.place <= $5
			order by r.id
			on conflict (id, seq) do nothing`, next.Did, next.Status, next.Reason, from, from+followPage)
		if err != nil {
			return done, fmt.Errorf("append %d versions: %w", followPage, err)
		}
		done += int(tag.RowsAffected())
		tell(done, all)
	}
	return done, nil
}

// followPage is how many requests one transaction of FollowRequests changes.
const followPage = 500

// RequestVersion is what FollowRequests appends.
type RequestVersion struct {
	Status string // scheduled or cancel_requested
	Did    string
	Reason string // "" is none
}
