package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Actor is on whose behalf a command works: a user of a tenant, under row level security, or, where IsOwner
// is set, the login itself. The zero value is nobody, and refused.
type Actor struct {
	User, Tenant string
	IsOwner      bool
}

// String names the actor for people.
func (a Actor) String() string {
	if a.IsOwner {
		return "the login"
	}
	return a.User + " of " + a.Tenant
}

// actorMax bounds one statement of a command.
const actorMax = 30 * time.Second

// Act runs f in a transaction as actor. A user gets the role authenticated and the claims that PostgREST
// would set from his token; both end with the transaction.
func (o *Owner) Act(ctx context.Context, actor Actor, f func(*User) error) error {
	return o.act(ctx, actor, pgx.TxOptions{}, f)
}

// Look is Act in a transaction that cannot write.
func (o *Owner) Look(ctx context.Context, actor Actor, f func(*User) error) error {
	return o.act(ctx, actor, pgx.TxOptions{AccessMode: pgx.ReadOnly}, f)
}

func (o *Owner) act(ctx context.Context, actor Actor, options pgx.TxOptions, f func(*User) error) error {
	if !actor.IsOwner && (actor.User == "" || actor.Tenant == "") {
		return errors.New("act for nobody: name a user and a tenant")
	}
	return pgx.BeginTxFunc(ctx, o.conn, options, func(tx pgx.Tx) error {
		limit := fmt.Sprintf("set local statement_timeout = %d", actorMax.Milliseconds())
		if _, err := tx.Exec(ctx, limit); err != nil {
			return fmt.Errorf("bound the statements: %w", err)
		}
		if !actor.IsOwner {
			if err := become(ctx, tx, actor); err != nil {
				return err
			}
		}
		return f(&User{tx})
	})
}

// Claims are those of a user's token, as Supabase Auth makes it and PostgREST sets them.
func Claims(user, tenant string) map[string]any {
	return map[string]any{"sub": user, "role": "authenticated", "aud": "authenticated",
		"app_metadata": map[string]string{"tenant_id": tenant}}
}

// become sets role and claims for the transaction.
func become(ctx context.Context, tx pgx.Tx, actor Actor) error {
	claims, err := json.Marshal(Claims(actor.User, actor.Tenant))
	if err != nil {
		return fmt.Errorf("encode the claims: %w", err)
	}
	if _, err := tx.Exec(ctx, "select set_config('request.jwt.claims', $1, true)", string(claims)); err != nil {
		return fmt.Errorf("set the claims: %w", err)
	}
	if _, err := tx.Exec(ctx, "set local role authenticated"); err != nil {
		return fmt.Errorf("become authenticated: %w", err)
	}
	return nil
}

// Appended is what ledger.append says of a span.
type Appended struct {
	ID    span.ID `json:"id"`
	Seq   int     `json:"seq"`
	IsNew bool    `json:"is_new"` // false: the same span was there already
}

// Add is Append that also says which version it was.
func (u *User) Add(ctx context.Context, document []byte) (Appended, error) {
	var added Appended
	var id string
	err := u.tx.QueryRow(ctx, "select id::text, seq, is_new from ledger.append($1::text::jsonb)",
		string(document)).Scan(&id, &added.Seq, &added.IsNew)
	if err != nil {
		return added, withHint("append the span", err)
	}
	added.ID = span.MustID(id)
	return added, nil
}

// Current returns the newest version of id that the actor may read; nil where there is none, or it is
// deleted.
func (u *User) Current(ctx context.Context, id span.ID) (*span.Span, error) {
	return firstOf(querySpans(ctx, u.tx, `select `+selectList+` from ledger.visible_timeline r
		where r.id = $1::text::uuid`, id.String()))
}

// Version returns one version that the actor may read; nil where there is none.
func (u *User) Version(ctx context.Context, key span.Key) (*span.Span, error) {
	return firstOf(querySpans(ctx, u.tx, `select `+selectList+` from ledger.universal_registry r
		where r.id = $1::text::uuid and r.seq = $2`, key.ID.String(), key.Seq))
}

// Versions returns every version of id that the actor may read, the first one first.
func (u *User) Versions(ctx context.Context, id span.ID) ([]*span.Span, error) {
	return querySpans(ctx, u.tx, `select `+selectList+` from ledger.universal_registry r
		where r.id = $1::text::uuid order by r.seq`, id.String())
}

// Alone waits until no other session works under key, and keeps others waiting until the transaction ends.
func (u *User) Alone(ctx context.Context, key string) error {
	if _, err := u.tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended($1, 0))", key); err != nil {
		return fmt.Errorf("wait for others who do the same: %w", err)
	}
	return nil
}

// Named returns the current spans of this type and name that the actor may read, the actor's own first. More
// than ten are cut off.
func (u *User) Named(ctx context.Context, entityType, name string) ([]*span.Span, error) {
	return querySpans(ctx, u.tx, `select `+selectList+` from ledger.visible_timeline r
		where r.entity_type = $1 and r.name = $2
		order by r.owner_id = ledger.current_user_id() and r.tenant_id = ledger.current_tenant_id() desc nulls last,
			r.at desc
		limit 10`, entityType, name)
}

// Names returns the names that the newest versions of these ids have, of those that the actor may read.
func (u *User) Names(ctx context.Context, ids []span.ID) (map[span.ID]string, error) {
	rows, err := u.tx.Query(ctx, `select k.id, r.name
		from unnest($1::text[]::uuid[]) as k(id)
		cross join lateral (
			select n.name from ledger.universal_registry n where n.id = k.id order by n.seq desc limit 1
		) r
		where r.name is not null`, texts(ids))
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	names := map[span.ID]string{}
	var id span.ID
	var name string
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &name}, func() error {
		names[id] = name
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return names, nil
}

// CallResult is what ledger.result says of a request.
type CallResult struct {
	Request    span.ID         `json:"request_id"`
	Status     string          `json:"status"`
	IsDone     bool            `json:"is_done"`
	Function   *span.ID        `json:"function_id,omitempty"`
	Seq        *int            `json:"function_seq,omitempty"`
	Attempt    *int            `json:"attempt,omitempty"`
	Execution  *span.ID        `json:"execution_id,omitempty"`
	Output     json.RawMessage `json:"output,omitempty"`
	Error      json.RawMessage `json:"error,omitempty"`
	Reason     *string         `json:"reason,omitempty"`
	DurationMs *int            `json:"duration_ms,omitempty"`
}

// Result says what became of a request; nil where the actor may read none of this id.
func (u *User) Result(ctx context.Context, request span.ID) (*CallResult, error) {
	o := &CallResult{Request: request}
	var function, execution, output, failure *string
	err := u.tx.QueryRow(ctx, `select status, is_done, function_id::text, function_seq, attempt,
			execution_id::text, output::text, error::text, reason, duration_ms
		from ledger.result($1::text::uuid)`, request.String()).Scan(&o.Status, &o.IsDone, &function, &o.Seq,
		&o.Attempt, &execution, &output, &failure, &o.Reason, &o.DurationMs)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	o.Function, o.Execution = optionalID(function), optionalID(execution)
	if output != nil {
		o.Output = json.RawMessage(*output)
	}
	if failure != nil {
		o.Error = json.RawMessage(*failure)
	}
	return o, nil
}

func optionalID(text *string) *span.ID {
	if text == nil {
		return nil
	}
	return new(span.MustID(*text))
}

// firstOf is the first of what was found; nil where nothing was.
func firstOf(found []*span.Span, err error) (*span.Span, error) {
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// withHint is err as a fault of doing what, with the mend that the ledger's refusals have.
func withHint(what string, err error) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Hint != "" {
		return fmt.Errorf("%s: %w: %s", what, err, refusal.Hint)
	}
	return fmt.Errorf("%s: %w", what, err)
}
