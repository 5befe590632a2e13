package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Load reads versions by key in one round trip. A key that does not exist is absent from the map.
func (l *Ledger) Load(ctx context.Context, keys []span.Key) (map[span.Key]*span.Span, error) {
	return l.versions.get(ctx, keys)
}

const loadSQL = ` from unnest($1::uuid[], $2::int4[]) as k(id, seq)
	join ledger.universal_registry r on r.id = k.id and r.seq = k.seq`

func (l *Ledger) load(ctx context.Context, keys []span.Key) (map[span.Key]*span.Span, error) {
	return l.loadBy(ctx, "select "+selectList+loadSQL, keys)
}

func (l *Ledger) loadBy(ctx context.Context, sql string, keys []span.Key) (map[span.Key]*span.Span, error) {
	ids, seqs := make([]pgtype.UUID, len(keys)), make([]int32, len(keys))
	for i, key := range keys {
		ids[i], seqs[i] = pgtype.UUID{Bytes: key.ID, Valid: true}, int32(key.Seq)
	}
	spans, err := querySpans(ctx, l.pool, sql, ids, seqs)
	if err != nil {
		return nil, err
	}
	byKey := make(map[span.Key]*span.Span, len(spans))
	for _, s := range spans {
		byKey[s.Key()] = s
	}
	return byKey, nil
}

// visibleMax bounds how long a row of the WAL may stay invisible.
const visibleMax = 30 * time.Second

// LoadVisible is Load for versions that the WAL has named. A commit is in the WAL, and sent to
// readers of it, before its rows are visible to others (with a synchronous standby: until that one has
// answered), so what is missing is asked for again until it is there.
func (l *Ledger) LoadVisible(ctx context.Context, keys []span.Key) (map[span.Key]*span.Span, error) {
	return l.loadVisible(ctx, keys, l.Load)
}

func (l *Ledger) loadVisible(ctx context.Context, keys []span.Key,
	load func(context.Context, []span.Key) (map[span.Key]*span.Span, error)) (map[span.Key]*span.Span, error) {
	ctx, cancel := context.WithTimeout(ctx, visibleMax)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		found, err := load(ctx, keys)
		if err != nil {
			return nil, err
		}
		if len(found) == len(keys) {
			return found, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for %d committed rows to be visible: %w", len(keys)-len(found), ctx.Err())
		case <-timer.C:
		}
	}
}

var latestSQL = `select ` + selectList + `
	from unnest($1::uuid[]) as k(id)
	cross join lateral (
		select * from ledger.universal_registry v where v.id = k.id order by v.seq desc limit 1
	) r`

// Latest reads the latest version of each id in one round trip. An id without a row is absent.
func (l *Ledger) Latest(ctx context.Context, ids []span.ID) (map[span.ID]*span.Span, error) {
	return l.newest.get(ctx, ids)
}

func (l *Ledger) latest(ctx context.Context, ids []span.ID) (map[span.ID]*span.Span, error) {
	spans, err := querySpans(ctx, l.pool, latestSQL, uuids(ids))
	if err != nil {
		return nil, err
	}
	return byID(spans), nil
}

// Requests reads requests as they stand now: the latest version, with input and metadata of the first. An
// id without a row is absent.
func (l *Ledger) Requests(ctx context.Context, ids []span.ID) (map[span.ID]*span.Span, error) {
	latest, err := l.Latest(ctx, ids)
	if err != nil {
		return nil, err
	}
	var keys []span.Key
	for id, s := range latest {
		if s.Seq > 0 {
			keys = append(keys, span.Key{ID: id})
		}
	}
	if len(keys) == 0 {
		return latest, nil
	}
	first, err := l.Load(ctx, keys)
	if err != nil {
		return nil, err
	}
	for key, s := range first {
		completeRequest(latest[key.ID], s)
	}
	return latest, l.countAttempts(ctx, latest)
}

// completeRequest gives now what a later version may leave out: the engine's carries no input, and an
// owner's (cancel_requested, scheduled) need not say which function it is.
func completeRequest(now, first *span.Span) {
	now.Input, now.Metadata = first.Input, first.Metadata
	if now.ParentID == nil {
		now.ParentID = first.ParentID
	}
	if now.RelatedTo == nil {
		now.RelatedTo = first.RelatedTo
	}
	if now.TraceID == nil {
		now.TraceID = first.TraceID
	}
	if now.PolicyID == nil {
		now.PolicyID = first.PolicyID
	}
	if now.This == nil {
		now.This = first.This
	}
}

// countAttempts gives a request that was scheduled anew (redriven) the attempt after its last one: an
// attempt's execution id must never come twice.
func (l *Ledger) countAttempts(ctx context.Context, latest map[span.ID]*span.Span) error {
	for id, s := range latest {
		if s.Seq == 0 || s.Attempt != nil || s.StatusText() != "scheduled" {
			continue
		}
		var last int
		err := l.pool.QueryRow(ctx, `select coalesce(max(attempt), 0) from ledger.universal_registry
			where id = $1::text::uuid`, id.String()).Scan(&last)
		if err != nil {
			return fmt.Errorf("count the attempts of request %s: %w", id, err)
		}
		s.Attempt = new(last + 1)
	}
	return nil
}

// AttemptsBefore returns the last attempt of a request before its owner scheduled it last; 0 where he did so
// once.
func (l *Ledger) AttemptsBefore(ctx context.Context, id span.ID) (int, error) {
	var attempt int
	err := l.pool.QueryRow(ctx, "select "+attemptsBefore, id.String()).Scan(&attempt)
	if err != nil {
		return 0, fmt.Errorf("read the attempts of request %s before it was redriven: %w", id, err)
	}
	return attempt, nil
}

const attemptsBefore = `(
		select coalesce(max(b.attempt), 0)
		from ledger.universal_registry b
		where b.id = $1::text::uuid and b.seq < (
			select max(s.seq) from ledger.universal_registry s where s.id = $1::text::uuid and s.status = 'scheduled'
		)
	)`

// CountLosses returns how many attempts of a request were running, since its owner scheduled it last, and
// came to no end.
func (l *Ledger) CountLosses(ctx context.Context, id span.ID) (int, error) {
	var count int
	err := l.pool.QueryRow(ctx, `with version as (
			select r.seq, r.status, r.attempt from ledger.universal_registry r where r.id = $1::text::uuid
		)
		select count(distinct v.attempt)
		from version v
		where v.status = 'running'
			and v.seq > (select max(s.seq) from version s where s.status = 'scheduled')
			and not exists (
				select from version e where e.attempt = v.attempt and e.status in ('retry', 'blocked')
			)`, id.String()).Scan(&count)
	if err != nil {
		return 0, fmt.Errorf("count the lost attempts of request %s: %w", id, err)
	}
	return count, nil
}

// Keys returns every version of every key span of the system.
func (l *Ledger) Keys(ctx context.Context) ([]*span.Span, error) { return keys(ctx, l.pool) }

// keysMax bounds the versions of keys that are read.
const keysMax = 100_000

var keysSQL = fmt.Sprintf(`select %s from ledger.universal_registry r
	where r.tenant_id = 'system' and r.entity_type = 'key' order by r.id, r.seq limit %d`, selectList, keysMax)

// keys reads all or nothing: what is left out might be a revocation.
func keys(ctx context.Context, q querier) ([]*span.Span, error) {
	spans, err := querySpans(ctx, q, keysSQL)
	if err == nil && len(spans) >= keysMax {
		return nil, fmt.Errorf("read the keys: the ledger has %d versions of them, and so many are not read",
			keysMax)
	}
	return spans, err
}

// MayFollow reports whether the engine may append next after before (ledger.may_follow).
func (l *Ledger) MayFollow(ctx context.Context, before, next *span.Span) (bool, error) {
	var may bool
	err := l.pool.QueryRow(ctx, "select coalesce(ledger.may_follow($1, $2, $3, $4, true), false)",
		next.EntityType, next.TenantID, before.Status, next.Status).Scan(&may)
	if err != nil {
		return false, fmt.Errorf("ask what may follow: %w", err)
	}
	return may, nil
}

// Now returns the database's clock, the only one that decides when work is due.
func (l *Ledger) Now(ctx context.Context) (time.Time, error) { return clock(ctx, l.pool) }

func clock(ctx context.Context, q querier) (time.Time, error) {
	var now time.Time
	if err := q.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("read the database clock: %w", err)
	}
	return now, nil
}

// ErrTooManyRows is returned by Query and Summarize when the result is longer than its cap.
var ErrTooManyRows = errors.New("the result has more rows than allowed")

// ErrTooManyBytes is returned by Find, Query and Summarize when the rows together are longer than
// ResultBytesMax.
var ErrTooManyBytes = errors.New("the result has more than 8 MiB: ask for fewer rows")

// ResultBytesMax bounds what one read may give: the answer to one host call of the sandbox, too.
const ResultBytesMax = 8 << 20

// ErrStatementTimeout is returned by Find, Query and Summarize when the statement ran longer than 2 s.
var ErrStatementTimeout = errors.New("the statement ran longer than 2 s")

// ErrValue is returned by Query for a value that does not fit its place in the statement.
var ErrValue = errors.New("a value does not fit its place in the statement")

// Query runs one select of a kernel that holds the sql grant: read-only, under scope's rights, at most
// rowsMax rows, statement timeout 2 s. What it may call stands in statement.go; else the error is
// ErrStatement. Each row is an object of JSON values.
func (l *Ledger) Query(ctx context.Context, scope Scope, text string, values []any,
	rowsMax int) ([]map[string]any, error) {
	var result []map[string]any
	if scope.OfSystem {
		return nil, errors.New("query: a system policy's scope is for what the host compiles")
	}
	statement, err := boundedStatement(text)
	if err != nil {
		return nil, err
	}
	err = l.within(ctx, scope, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, statement, values...)
		if err != nil {
			return fmt.Errorf("run the statement: %w", err)
		}
		result, err = collect(rows, rowsMax)
		return err
	})
	if err != nil && strings.Contains(err.Error(), "failed to encode args[") { // pgx has no type for it
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	return result, err
}

// collect reads rows, each as an object of JSON values: rowsMax and ResultBytesMax at most.
func collect(rows pgx.Rows, rowsMax int) ([]map[string]any, error) {
	defer rows.Close()
	var result []map[string]any
	for bytes := 0; rows.Next(); {
		if len(result) == rowsMax {
			return nil, ErrTooManyRows
		}
		for _, value := range rows.RawValues() {
			bytes += len(value)
		}
		if bytes > ResultBytesMax {
			return nil, ErrTooManyBytes
		}
		row, err := pgx.RowToMap(rows)
		if err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		for name, value := range row {
			row[name] = plain(value)
		}
		result = append(result, row)
	}
	return result, rows.Err()
}

// plain turns what pgx makes of ids and times into the texts that JavaScript and span know.
func plain(value any) any {
	switch v := value.(type) {
	case [16]byte:
		return span.ID(v).String()
	case time.Time:
		return span.NewTime(v).String()
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return value
}

// within runs read in a read-only transaction as the kernel role under scope, each statement 2 s at most.
// It always rolls back: what a statement SET would otherwise stay with the connection, and so reach the
// next to use it.
func (l *Ledger) within(ctx context.Context, scope Scope, read func(pgx.Tx) error) error {
	leave, err := l.reads.take(ctx, scope)
	if err != nil {
		return err
	}
	defer leave()
	tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
	}
	// A connection that cannot roll back is closed by the pool.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `select set_config('app.user_id', $1, true),
			set_config('app.tenant_id', $2, true), set_config('statement_timeout', '2000', true),
			set_config('search_path', 'pg_catalog', true), set_config('standard_conforming_strings', 'on', true),
			set_config('plan_cache_mode', 'auto', true), set_config('enable_seqscan', 'on', true)`,
		scope.UserID, scope.TenantID); err != nil {
		return fmt.Errorf("set the scope: %w", err)
	}
	if !scope.OfSystem { // what the host compiles for a system policy names the tenant itself
		if _, err := tx.Exec(ctx, "set local role "+KernelRole); err != nil {
			return fmt.Errorf("become %s: %w", KernelRole, err)
		}
	}
	err = read(tx)
	var verdict *pgconn.PgError
	if errors.As(err, &verdict) && verdict.Code == "57014" && ctx.Err() == nil {
		return ErrStatementTimeout
	}
	return err
}

func uuids(ids []span.ID) []pgtype.UUID {
	list := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		list[i] = pgtype.UUID{Bytes: id, Valid: true}
	}
	return list
}

func texts(ids []span.ID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

func byID(spans []*span.Span) map[span.ID]*span.Span {
	m := make(map[span.ID]*span.Span, len(spans))
	for _, s := range spans {
		m[s.ID] = s
	}
	return m
}
