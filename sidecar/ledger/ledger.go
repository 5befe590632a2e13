// Package ledger holds all SQL that the sidecar sends, except the tail's own.
//
// It reads spans by key, appends groups of spans behind their fence, finds open requests and runs
// a kernel's reads under its cause's rights. It decides nothing: which rows exist is the caller's
// business, which rows are allowed is the database's.
//
// Every connection works as the role loglineos_sidecar, also where the login is another one
// (docs/contract.md §2), with UTC, ISO dates and bounded waits.
package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Role is the database role that the sidecar works as.
const Role = "loglineos_sidecar"

// KernelRole is the role under which a kernel's reads run.
const KernelRole = "loglineos_kernel"

// Ledger is a pool of connections to the ledger. It is safe for concurrent use.
type Ledger struct {
	pool  *pgxpool.Pool
	plans plans
	reads readPlaces
	gate  atomic.Pointer[markGate]

	versions gather[span.Key, *span.Span]
	newest   gather[span.ID, *span.Span]
	lastRuns gather[runsKey, failedRuns]
}

func newLedger(connectionsMax int) *Ledger {
	l := &Ledger{reads: newReadPlaces(connectionsMax)}
	l.versions.read, l.newest.read, l.lastRuns.read = l.load, l.latest, l.failedRuns
	l.versions.copied, l.newest.copied = copySpan, copySpan
	l.lastRuns.copied = func(f failedRuns) failedRuns { return f }
	return l
}

// Open connects to databaseURL and checks that this login can do the sidecar's work: a session
// that keeps its state (no transaction pooler), the role, and the schema. The error names the
// cause and the mend.
func Open(ctx context.Context, databaseURL string, connectionsMax int32) (*Ledger, error) {
	return OpenAs(ctx, databaseURL, connectionsMax, "")
}

// OpenAs is Open for a process that takes turns with others: its sessions carry the incarnation in their
// name, so that who takes over from it when it is frozen can end them.
func OpenAs(ctx context.Context, databaseURL string, connectionsMax int32,
	incarnation string) (*Ledger, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w", urlFault(databaseURL, err))
	}
	config.MaxConns = connectionsMax
	config.MinConns = 2
	Session(config.ConnConfig, strings.TrimSpace("loglineos "+incarnation))
	// A process that is frozen between two statements of a transaction holds up others no longer.
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "5000"
	// A host that is gone is found out while nothing is said.
	config.ConnConfig.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true,
		Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}).DialContext
	// Statements with arrays look cheaper when they are planned anew for each, which takes longer than to run
	// them: 0.13 of 0.25 ms (docs/plans.md).
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	// Such a plan outlives the ledger for which it was made: while that was small, a scan of it looked cheap,
	// and the next statistics may be a minute away (plans.go).
	config.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	// What is scanned in spite of that seems to cost so much that it is compiled first: 250 ms.
	config.ConnConfig.RuntimeParams["jit"] = "off"
	// A row waits for whoever has an open transaction with its key: no longer than this, because others' rows
	// wait with it.
	config.ConnConfig.RuntimeParams["lock_timeout"] = "100"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		keepNumbers(conn.TypeMap())
		return AssumeRole(ctx, conn)
	}
	l := newLedger(int(connectionsMax))
	config.PrepareConn = l.plans.prepare
	if l.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if err := l.check(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close closes every connection.
func (l *Ledger) Close() { l.pool.Close() }

// Session sets what each session of the sidecar needs: text forms that span reads, and bounds on
// waiting (milliseconds).
func Session(config *pgx.ConnConfig, application string) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	for name, value := range map[string]string{
		"application_name":                    application,
		"timezone":                            "UTC",
		"datestyle":                           "ISO",
		"lock_timeout":                        "2000",
		"statement_timeout":                   "60000",
		"idle_in_transaction_session_timeout": "60000",
	} {
		config.RuntimeParams[name] = value
	}
}

// keepNumbers lets the numbers of JSON columns come as their text where a statement of a kernel reads them:
// a double would round them without a word.
func keepNumbers(types *pgtype.Map) {
	unmarshal := func(data []byte, v any) error {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		return decoder.Decode(v)
	}
	codec := &pgtype.JSONCodec{Marshal: json.Marshal, Unmarshal: unmarshal}
	types.RegisterType(&pgtype.Type{Name: "json", OID: pgtype.JSONOID, Codec: codec})
	binary := &pgtype.JSONBCodec{Marshal: json.Marshal, Unmarshal: unmarshal}
	list := &pgtype.Type{Name: "jsonb", OID: pgtype.JSONBOID, Codec: binary}
	types.RegisterType(list)
	types.RegisterType(&pgtype.Type{Name: "_jsonb", OID: pgtype.JSONBArrayOID,
		Codec: &pgtype.ArrayCodec{ElementType: list}})
}

// AssumeRole makes the session work as loglineos_sidecar.
func AssumeRole(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "set role "+Role); err != nil {
		return explainRole(conn.Config().User, err)
	}
	return nil
}

func explainRole(user string, err error) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return fmt.Errorf("become %s: %w", Role, err)
	}
	switch refusal.Code {
	case "22023", "42704":
		return fmt.Errorf("the role %s does not exist in this cluster: run `logline migrate` first: %w", Role, err)
	case "42501":
		return fmt.Errorf("the login %q may not become %s: connect as %s, or `grant %s to %q`: %w",
			user, Role, Role, Role, user, err)
	}
	return fmt.Errorf("become %s: %w", Role, err)
}

// check refuses what would fail later in a worse way.
func (l *Ledger) check(ctx context.Context) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return explainConnect(err)
	}
	defer conn.Release()
	if err := RefusePooler(ctx, conn.Conn()); err != nil {
		return err
	}
	return checkLedger(ctx, conn.Conn())
}

// checkLedger refuses a database without a ledger, or with one that this sidecar can not work on.
func checkLedger(ctx context.Context, conn *pgx.Conn) error {
	var table, canInsert bool
	err := conn.QueryRow(ctx, `select to_regclass('ledger.universal_registry') is not null,
		coalesce(has_table_privilege(to_regclass('ledger.universal_registry'), 'insert'), false)`).
		Scan(&table, &canInsert)
	switch {
	case hasCode(err, "42501"):
		return fmt.Errorf("%s may not use the schema ledger, as behind a restore that stopped on its way: "+
			"run `logline migrate --again` as the owner, or restore anew: %w", Role, err)
	case err != nil:
		return fmt.Errorf("look for the ledger: %w", err)
	case !table:
		return errors.New("this database has no ledger.universal_registry: run `logline migrate` " +
			"(or `supabase db push`) first")
	case !canInsert:
		return fmt.Errorf("%s may not insert into the ledger: run `logline migrate` again as the owner", Role)
	}
	return checkSchema(ctx, conn)
}

func explainConnect(err error) error {
	text := err.Error()
	if strings.Contains(text, "unsupported startup parameter") {
		return fmt.Errorf("DATABASE_URL points to a transaction pooler, which drops session state: "+
			"use the direct connection (port 5432 of the database host): %w", err)
	}
	return connectFault(err)
}

// RefusePooler returns an error when conn runs through a pooler in transaction mode: session
// settings would then reach other clients. It compares backend and settings over transactions.
func RefusePooler(ctx context.Context, conn *pgx.Conn) error {
	probe := fmt.Sprintf("probe-%d", time.Now().UnixNano())
	const unprepared = pgx.QueryExecModeExec // another backend would not know the statement
	var first, second uint32
	var kept string
	if err := conn.QueryRow(ctx, `select pg_backend_pid()
		from (select set_config('loglineos.probe', $1, false)) p`, unprepared, probe).Scan(&first); err != nil {
		return fmt.Errorf("probe the connection: %w", err)
	}
	if err := conn.QueryRow(ctx, `select pg_backend_pid(),
		coalesce(current_setting('loglineos.probe', true), '')`, unprepared).Scan(&second, &kept); err != nil {
		return fmt.Errorf("probe the connection: %w", err)
	}
	if first != second || kept != probe || conn.PgConn().PID() != first {
		return errors.New("this connection runs through a pooler, which cannot stream replication and may drop " +
			"session state: use the direct connection (on Supabase: db.<project>.supabase.co:5432)")
	}
	return nil
}

// selectList reads every column in the form that span.Column.SetText takes.
var selectList = func() string {
	names := make([]string, len(span.Columns))
	for i, column := range span.Columns {
		names[i] = "r." + column.Name
		if strings.HasSuffix(column.Type, "[]") {
			names[i] = "to_jsonb(r." + column.Name + ")"
		}
	}
	return strings.Join(names, ", ")
}()

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// querySpans runs a select of selectList.
func querySpans(ctx context.Context, q querier, sql string, args ...any) ([]*span.Span, error) {
	var spans []*span.Span
	err := eachSpan(ctx, q, func(s *span.Span, _ int) error {
		spans = append(spans, s)
		return nil
	}, sql, args...)
	return spans, err
}

// eachSpan runs a select of selectList and hands each span to each as it comes, with the bytes of its text.
// The first error of each ends it.
func eachSpan(ctx context.Context, q querier, each func(*span.Span, int) error, sql string,
	args ...any) error {
	// The result comes in text form.
	rows, err := q.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return fmt.Errorf("query spans: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		s, bytes := new(span.Span), 0
		for i, raw := range rows.RawValues() {
			if raw == nil {
				continue
			}
			bytes += len(raw)
			if err := span.Columns[i].SetText(s, string(raw)); err != nil {
				return err
			}
		}
		if err := each(s, bytes); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read spans: %w", err)
	}
	return nil
}
