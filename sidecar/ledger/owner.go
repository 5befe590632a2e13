package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Owner is one session as the owner of the database: for migrations, system spans, and for acting as
// a user the way PostgREST does. It is not safe for concurrent use.
type Owner struct {
	conn *pgx.Conn
}

// ErrMalformedURL says that the URL itself is wrong: no server was asked.
var ErrMalformedURL = errors.New("want postgres://user:password@host:5432/database, with @ : / # % of a " +
	"password as %40 %3A %2F %23 %25")

// OpenOwner connects to databaseURL.
func OpenOwner(ctx context.Context, databaseURL string) (*Owner, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if _, fault := url.Parse(databaseURL); fault != nil { // pgx would quote what follows a / of the password
		return nil, fmt.Errorf("parse DATABASE_URL: it is no URL; %w", ErrMalformedURL)
	}
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w; %w", urlFault(databaseURL, err), ErrMalformedURL)
	}
	config.RuntimeParams["application_name"] = "logline"
	config.RuntimeParams["timezone"], config.RuntimeParams["datestyle"] = "UTC", "ISO"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectFault(err)
	}
	return NewOwner(conn), nil
}

// NewOwner uses a connection that is there; its session must print times in UTC and ISO.
func NewOwner(conn *pgx.Conn) *Owner { return &Owner{conn} }

// Close ends the session.
func (o *Owner) Close(ctx context.Context) error { return o.conn.Close(ctx) }

// Latest is Ledger.Latest under the owner's rights.
func (o *Owner) Latest(ctx context.Context, ids []span.ID) (map[span.ID]*span.Span, error) {
	spans, err := querySpans(ctx, o.conn, latestSQL, uuids(ids))
	if err != nil {
		return nil, err
	}
	return byID(spans), nil
}

// Versions reads all versions of id, the newest first.
func (o *Owner) Versions(ctx context.Context, id span.ID) ([]*span.Span, error) {
	return querySpans(ctx, o.conn, `select `+selectList+` from ledger.universal_registry r
		where r.id = $1::text::uuid order by r.seq desc`, id.String())
}

// Now is Ledger.Now.
func (o *Owner) Now(ctx context.Context) (time.Time, error) { return clock(ctx, o.conn) }

// Keys is Ledger.Keys under the owner's rights.
func (o *Owner) Keys(ctx context.Context) ([]*span.Span, error) {
	return keys(ctx, o.conn)
}

// EnsureDatabase makes the database of this name where the cluster has none.
func (o *Owner) EnsureDatabase(ctx context.Context, name string) error {
	var exists bool
	err := o.conn.QueryRow(ctx, "select exists (select 1 from pg_database where datname = $1)", name).
		Scan(&exists)
	if err == nil && !exists {
		_, err = o.conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("make the database %s: %w", name, err)
	}
	return nil
}

// LetSidecarLogIn gives the role loglineos_sidecar this password and the right to replicate. The owner must
// be a superuser.
func (o *Owner) LetSidecarLogIn(ctx context.Context, password string) error {
	login, err := NewLogin(Role, password, true)
	if err == nil {
		err = o.MakeLogin(ctx, login)
	}
	if err != nil {
		return fmt.Errorf("let %s log in and replicate (the owner must be a superuser; elsewhere use "+
			"`logline serve`): %w", Role, err)
	}
	return nil
}

// As runs f in a transaction with the role authenticated and the verified claims that PostgREST would
// set for a user.
func (o *Owner) As(ctx context.Context, claims map[string]any, f func(*User) error) error {
	encoded, err := json.Marshal(claims)
	if err != nil {
		return fmt.Errorf("encode the claims: %w", err)
	}
	return pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select set_config('request.jwt.claims', $1, true)", string(encoded))
		if err != nil {
			return fmt.Errorf("set the claims: %w", err)
		}
		if _, err := tx.Exec(ctx, "set local role authenticated"); err != nil {
			return fmt.Errorf("become authenticated: %w", err)
		}
		return f(&User{tx})
	})
}

// User is a transaction of one user, under row level security.
type User struct {
	tx pgx.Tx
}

// Newest returns the newest version of the user's own span of this type and name; nil where there is none.
func (u *User) Newest(ctx context.Context, entityType, name string) (*span.Span, error) {
	found, err := querySpans(ctx, u.tx, `select `+selectList+` from ledger.visible_timeline r
		where r.entity_type = $1 and r.name = $2 and r.owner_id = ledger.current_user_id()
		order by r.at desc limit 1`, entityType, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Append appends a span in JSON by ledger.append, which fills in what it leaves out.
func (u *User) Append(ctx context.Context, document []byte) error {
	if _, err := u.tx.Exec(ctx, "select ledger.append($1::text::jsonb)", string(document)); err != nil {
		return fmt.Errorf("append the span: %w", err)
	}
	return nil
}

// Trace returns every version of the spans with this trace id that the user may read, in the order in
// which they were accepted.
func (u *User) Trace(ctx context.Context, traceID string) ([]*span.Span, error) {
	return querySpans(ctx, u.tx, `select `+selectList+` from ledger.universal_registry r
		where r.trace_id = $1 order by r.accepted_at, r.xact, r.seq`, traceID)
}
