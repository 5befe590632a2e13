package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rehearsalLimits keep a rehearsal from holding up others: truncate takes its lock before any trigger can
// refuse it, and who waits for it waits in front of everybody. So it waits for less than the lock_timeout of
// the sidecar's pool.
const rehearsalLimits = "set local lock_timeout = '50ms'; set local statement_timeout = '20s'"

// Step is one statement of a rehearsal.
type Step struct {
	Role      string         // "": the login itself
	Claims    map[string]any // as PostgREST would set them; nil: none
	Statement string
	Keep      bool // what it does is there for the steps after it
}

// Answer is what Postgres said to a Step.
type Answer struct {
	Rows    int64  // touched or returned
	Value   string // the first column of the first row returned
	State   string // the SQLSTATE of a refusal; "" where it was let through
	Message string // of a refusal
	Barred  string // why it was not tried: the login may not become the role
}

// Text is the answer on one line.
func (a Answer) Text() string {
	switch {
	case a.Barred != "":
		return "not tried: " + a.Barred
	case a.State != "":
		return a.State + " " + a.Message
	case a.Value != "":
		return a.Value
	}
	return fmt.Sprintf("let through, %d rows", a.Rows)
}

// Rehearse tries steps, one after the other, in one transaction that is always rolled back: nothing that it
// does is ever seen by anybody. The error is of the connection; refusals are answers.
func (o *Owner) Rehearse(ctx context.Context, steps []Step) (answers []Answer, err error) {
	tx, err := o.conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a rehearsal: %w", err)
	}
	defer func() {
		if undo := tx.Rollback(context.WithoutCancel(ctx)); undo != nil && !errors.Is(undo, pgx.ErrTxClosed) {
			err = errors.Join(err, fmt.Errorf("undo a rehearsal: %w", undo))
		}
	}()
	if _, err := tx.Exec(ctx, rehearsalLimits, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("bound a rehearsal: %w", err)
	}
	for _, step := range steps {
		answer, err := rehearse(ctx, tx, step)
		if err != nil {
			return nil, fmt.Errorf("rehearse %q: %w", step.Statement, err)
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

func rehearse(ctx context.Context, tx pgx.Tx, step Step) (Answer, error) {
	claims, err := json.Marshal(step.Claims)
	if err != nil {
		return Answer{}, fmt.Errorf("encode the claims: %w", err)
	}
	if step.Claims == nil {
		claims = nil
	}
	inner, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = inner.Rollback(context.WithoutCancel(ctx)) }() // nothing, where it is kept
	become := "reset role"
	if step.Role != "" {
		become = "set local role " + pgx.Identifier{step.Role}.Sanitize()
	}
	if _, err := inner.Exec(ctx, "select set_config('request.jwt.claims', $1, true)",
		string(claims)); err != nil {
		return Answer{}, err
	}
	if _, err := inner.Exec(ctx, become); err != nil {
		answer, err := refusalAnswer(err)
		answer.Barred = answer.Message
		return answer, err
	}
	rows, err := inner.Query(ctx, step.Statement, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return refusalAnswer(err)
	}
	var answer Answer
	for rows.Next() {
		if values := rows.RawValues(); answer.Rows == 0 && len(values) > 0 {
			answer.Value = string(values[0])
		}
		answer.Rows++
	}
	if rows.Close(); rows.Err() != nil {
		return refusalAnswer(rows.Err())
	}
	answer.Rows = rows.CommandTag().RowsAffected()
	if step.Keep {
		if _, err := inner.Exec(ctx, "reset role"); err != nil {
			return answer, err
		}
		return answer, inner.Commit(ctx)
	}
	return answer, nil
}

// refusalAnswer is the answer of a refusal; other errors stay errors.
func refusalAnswer(err error) (Answer, error) {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return Answer{}, err
	}
	return Answer{State: refusal.Code, Message: refusal.Message}, nil
}

// Protection is row level security of the ledger's table, and who the login is to it.
type Protection struct {
	IsOn, IsForced      bool
	Policies            int
	Owner, Login        string
	IsOwner, IsBypassed bool // the login is or may act as the owner; row level security does not bind it
	IsStandby, IsFrozen bool // the server takes no writes; this login's transactions are read-only
}

// Protection reads it.
func (o *Owner) Protection(ctx context.Context) (Protection, error) {
	var p Protection
	err := o.conn.QueryRow(ctx, `select c.relrowsecurity, c.relforcerowsecurity,
			(select count(*) from pg_policy where polrelid = c.oid), pg_get_userbyid(c.relowner), session_user,
			pg_has_role(session_user, c.relowner, 'usage'), r.rolbypassrls or r.rolsuper,
			pg_is_in_recovery(), current_setting('transaction_read_only')::boolean
		from pg_class c join pg_roles r on r.rolname = session_user
		where c.oid = 'ledger.universal_registry'::regclass`).
		Scan(&p.IsOn, &p.IsForced, &p.Policies, &p.Owner, &p.Login, &p.IsOwner, &p.IsBypassed,
			&p.IsStandby, &p.IsFrozen)
	if err != nil {
		return p, fmt.Errorf("read the protection of the ledger: %w", err)
	}
	return p, nil
}

// Definers lists the functions outside the ledger that run with the rights of somebody whom row level
// security does not bind, or who may act as the ledger's owner, and that one of roles may call. What came
// with an extension is not among them, nor are triggers.
func (o *Owner) Definers(ctx context.Context, roles []string) ([]string, error) {
	rows, err := o.conn.Query(ctx, `select p.oid::regprocedure::text
		from pg_proc p
		join pg_namespace n on n.oid = p.pronamespace
		join pg_roles a on a.oid = p.proowner
		join pg_class c on c.oid = 'ledger.universal_registry'::regclass
		where p.prosecdef and (a.rolsuper or a.rolbypassrls or pg_has_role(a.oid, c.relowner, 'usage'))
			and n.nspname not in ('ledger', 'ledger_private', 'pg_catalog', 'information_schema')
			and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
			and not exists (
				select from pg_depend d
				where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
			)
			and exists (
				select from pg_roles r
				where r.rolname = any($1) and has_schema_privilege(r.oid, n.oid, 'usage')
					and has_function_privilege(r.oid, p.oid, 'execute')
			)
		order by 1`, roles)
	if err != nil {
		return nil, fmt.Errorf("look for definer functions: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read definer functions: %w", err)
	}
	return found, nil
}

// Whereabouts is which database a session is in.
type Whereabouts struct {
	Database string `json:"database"`
	Host     string `json:"host"`   // and port, or the folder of its socket: as this machine calls it
	Server   string `json:"server"` // its version
	Login    string `json:"login"`
	Ledger   string `json:"ledger"` // the version of its schema; "" where the login may not ask
}

// Whereabouts reads it.
func (o *Owner) Whereabouts(ctx context.Context) (Whereabouts, error) {
	var p Whereabouts
	err := o.conn.QueryRow(ctx, `select current_database(), current_setting('server_version'), session_user`).
		Scan(&p.Database, &p.Server, &p.Login)
	if err != nil {
		return p, fmt.Errorf("read where this is: %w", err)
	}
	config := o.conn.Config()
	p.Host = net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	for _, other := range config.Fallbacks {
		if other.Host != config.Host || other.Port != config.Port { // of several, the one that took the session
			p.Host = o.conn.PgConn().Conn().RemoteAddr().String()
		}
	}
	// Without the right, or without a ledger, it stays unknown: others say why.
	_ = o.conn.QueryRow(ctx, "select ledger_private.version()").Scan(&p.Ledger)
	return p, nil
}

// Examination looks at the server by the same session.
func (o *Owner) Examination() *Examination { return &Examination{o.conn} }

// DeadlineForm is how LeftBy wants a deadline, in UTC: as text it has the order of times.
const DeadlineForm = "2006-01-02T15:04:05Z"

// LeftBy returns the functions of a tenant with this name that stand past the deadline which each states in
// metadata under this key, and whose owner is of the form that tests give their users: an own trace, with the
// same name as the owner. What a real user calls the same is not among them.
func (o *Owner) LeftBy(ctx context.Context, tenant, name, key string) ([]*span.Span, error) {
	return querySpans(ctx, o.conn, `select `+selectList+` from ledger.visible_timeline r
		where r.tenant_id = $1 and r.entity_type = 'function' and r.name = $2
			and r.owner_id = r.trace_id and r.owner_id ~ '^e2e-[0-9a-f]{16}$'
			and (r.metadata #>> array[$3::text, 'deadline']) collate "C"
				< to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
		order by r.at limit 100`, tenant, name, key)
}

// NewestHashed reads every version of the system's manifest, kernels, policies and keys, and the newest spans
// that have a hash, at most limit of each.
func (o *Owner) NewestHashed(ctx context.Context, limit int) ([]*span.Span, error) {
	return querySpans(ctx, o.conn, `select `+selectList+` from (
			(
				select * from ledger.universal_registry s
				where s.tenant_id = 'system' and s.entity_type in ('manifest', 'function', 'policy', 'key')
					and s.curr_hash is not null
				order by s.at desc limit $1
			)
			union
			(
				select * from ledger.universal_registry s
				where s.xact in (select n.xact from ledger.universal_registry n order by n.xact desc limit $1)
					and s.curr_hash is not null
				order by s.xact desc limit $1
			)
		) r`, limit)
}
