package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Examination is one session that looks at the server and the ledger, and changes nothing. It is not safe for
// concurrent use.
type Examination struct{ conn *pgx.Conn }

// errURL does not quote the string: it holds a password.
var errURL = errors.New("read the connection string: it is none that Postgres takes")

// urlFault is err without a password: pgx quotes the string, and knows how to hide that of a URL alone.
func urlFault(databaseURL string, err error) error {
	if strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://") {
		return err
	}
	return errURL
}

// Target is where a connection string leads, without its password.
type Target struct {
	Host, User, Database string
	Port                 uint16
	WantsTLS             bool
}

// TargetOf reads a connection string. The error does not quote it.
func TargetOf(databaseURL string) (Target, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return Target{}, errURL
	}
	return Target{Host: config.Host, User: config.User, Database: config.Database, Port: config.Port,
		WantsTLS: config.TLSConfig != nil}, nil
}

// Examine connects as the login is, without becoming the sidecar's role.
func Examine(ctx context.Context, databaseURL string) (*Examination, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, errURL
	}
	config.ConnectTimeout = 5 * time.Second
	// A pooler refuses parameters that it does not know: what is examined must not depend on them.
	config.RuntimeParams = map[string]string{"application_name": "logline-doctor"}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &Examination{conn}, nil
}

// Close ends the session.
func (x *Examination) Close(ctx context.Context) error { return x.conn.Close(ctx) }

// Owner uses the session for what an owner reads. Call Assume first where the login is not the owner.
func (x *Examination) Owner() *Owner { return NewOwner(x.conn) }

// IsEncrypted reports whether the connection is.
func (x *Examination) IsEncrypted() bool {
	_, encrypted := x.conn.PgConn().Conn().(*tls.Conn)
	return encrypted
}

// Pooler is RefusePooler.
func (x *Examination) Pooler(ctx context.Context) error { return RefusePooler(ctx, x.conn) }

// Assume becomes the sidecar's role for the rest of the session, with its forms of text.
func (x *Examination) Assume(ctx context.Context) error {
	if err := AssumeRole(ctx, x.conn); err != nil {
		return err
	}
	if _, err := x.conn.Exec(ctx, "set timezone = 'UTC'; set datestyle = 'ISO'",
		pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("set the forms of text: %w", err)
	}
	return nil
}

// Ledger checks what the sidecar checks at its start. Call Assume first.
func (x *Examination) Ledger(ctx context.Context) error { return checkLedger(ctx, x.conn) }

// Walls is Ledger.Walls.
func (x *Examination) Walls(ctx context.Context, migration string, limit int) ([]Wall, int, error) {
	return fallen(ctx, x.conn, migration, limit)
}

// Server is what a server says about itself. Bytes are -1 where there is no limit.
type Server struct {
	Version                     int // 150004 is 15.4
	IsStandby                   bool
	WALLevel                    string
	SlotsMax, SlotsUsed         int
	SendersMax, SendersUsed     int
	SlotKeepBytes               int64
	MaySuper, MayReplicate      bool
	ClockAhead                  time.Duration // of ours
	Hidden                      int           // sessions of others that this login may not look into
	SessionsMax, SessionsInUse  int
	MaxPrepared, OpenedPrepared int
}

// Server reads it.
func (x *Examination) Server(ctx context.Context) (Server, error) {
	var s Server
	var keep string
	var now time.Time
	before := time.Now()
	err := x.conn.QueryRow(ctx, `select clock_timestamp(), current_setting('server_version_num')::int,
			pg_is_in_recovery(), current_setting('wal_level'),
			current_setting('max_replication_slots')::int, (select count(*) from pg_replication_slots),
			current_setting('max_wal_senders')::int,
			(select count(*) from pg_stat_get_activity(null) where backend_type = 'walsender'),
			coalesce(current_setting('max_slot_wal_keep_size', true), '-1'),
			coalesce((select rolsuper from pg_roles where rolname = session_user), false),
			coalesce((select rolreplication or rolsuper from pg_roles where rolname = session_user), false)
				or coalesce(pg_has_role(session_user, to_regrole('rds_replication')::oid, 'member'), false),
			(select count(*) from pg_stat_activity where backend_type is null),
			current_setting('max_connections')::int, (select count(*) from pg_stat_activity where datname is not null),
			current_setting('max_prepared_transactions')::int, (select count(*) from pg_prepared_xacts)`).
		Scan(&now, &s.Version, &s.IsStandby, &s.WALLevel, &s.SlotsMax, &s.SlotsUsed, &s.SendersMax, &s.SendersUsed,
			&keep, &s.MaySuper, &s.MayReplicate, &s.Hidden, &s.SessionsMax, &s.SessionsInUse, &s.MaxPrepared,
			&s.OpenedPrepared)
	if err != nil {
		return s, fmt.Errorf("read the server's settings: %w", err)
	}
	s.ClockAhead = now.Sub(before.Add(time.Since(before) / 2))
	if keep == "-1" {
		s.SlotKeepBytes = -1
		return s, nil
	}
	if err := x.conn.QueryRow(ctx, "select pg_size_bytes($1)", keep).Scan(&s.SlotKeepBytes); err != nil {
		return s, fmt.Errorf("read max_slot_wal_keep_size: %w", err)
	}
	return s, nil
}

// Slot is one replication slot of the server.
type Slot struct {
	Name, Plugin, Database string
	IsActive, IsTemporary  bool
	Status                 string // wal_status: reserved, extended, unreserved, lost
	RetainedBytes          int64
	SafeBytes              int64 // until the server gives it up; -1 where it never does
	Holder                 string
	IsBeingMade            bool // it waits for open write transactions
}

// Slots lists all of them, the one that retains most first.
func (x *Examination) Slots(ctx context.Context) ([]Slot, error) {
	rows, err := x.conn.Query(ctx, `select s.slot_name, coalesce(s.plugin, ''), coalesce(s.database, ''),
			s.active, s.temporary, coalesce(s.wal_status, ''),
			coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
				else pg_current_wal_lsn() end, s.restart_lsn), 0)::bigint,
			coalesce(s.safe_wal_size, -1),
			coalesce('pid ' || s.active_pid, '') || coalesce(format(' (%s) since ',
				coalesce(host(a.client_addr), 'this host')) || date_trunc('second', a.backend_start), ''),
			s.active and s.slot_type = 'logical' and s.confirmed_flush_lsn is null
		from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid
		order by 7 desc`)
	if err != nil {
		return nil, fmt.Errorf("read the replication slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Slot])
	if err != nil {
		return nil, fmt.Errorf("read the replication slots: %w", err)
	}
	return slots, nil
}

// Publication returns the published columns of the ledger's table; none where it is not published.
func (x *Examination) Publication(ctx context.Context, name string) ([]string, error) {
	var columns []string
	err := x.conn.QueryRow(ctx, `select coalesce((select attnames::text[] from pg_publication_tables
		where pubname = $1 and schemaname = 'ledger' and tablename = 'universal_registry'), '{}')`, name).
		Scan(&columns)
	if err != nil {
		return nil, fmt.Errorf("read the publication: %w", err)
	}
	return columns, nil
}

// OpenTransaction is one that has been open for a while, or is prepared and waits for its second phase.
type OpenTransaction struct {
	PID              int32 // 0: prepared
	Name             string
	Database, Who    string
	Age              time.Duration
	IsWriting, Holds bool // it has an id: a slot waits for it to be made; it holds back what others may forget
	IsHidden         bool // this login may not see its age
}

// OpenTransactions lists those of the whole server, other databases too, that are older than age.
func (x *Examination) OpenTransactions(ctx context.Context, age time.Duration) ([]OpenTransaction, error) {
	return x.transactions(ctx, `backend_type = 'client backend'
		and clock_timestamp() - xact_start > make_interval(secs => $1)`, age.Seconds())
}

// WritingTransactions lists those of the whole server that have written, for which a new slot waits.
func (x *Examination) WritingTransactions(ctx context.Context) ([]OpenTransaction, error) {
	return x.transactions(ctx, "backend_xid is not null")
}

func (x *Examination) transactions(ctx context.Context, which string, arguments ...any) (
	[]OpenTransaction, error) {
	rows, err := x.conn.Query(ctx, `select pid, coalesce(application_name, ''), coalesce(datname, ''),
			coalesce(usename, ''), coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8,
			backend_xid is not null, backend_xmin is not null, xact_start is null
		from pg_stat_activity
		where pid <> pg_backend_pid() and `+which+`
		union all
		select 0, gid, database, owner, extract(epoch from clock_timestamp() - prepared)::float8, true, true, false
		from pg_prepared_xacts
		order by 5 desc limit 10`, arguments...)
	if err != nil {
		return nil, fmt.Errorf("read the open transactions: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OpenTransaction, error) {
		var t OpenTransaction
		var seconds float64
		err := row.Scan(&t.PID, &t.Name, &t.Database, &t.Who, &seconds, &t.IsWriting, &t.Holds,
			&t.IsHidden)
		t.Age = time.Duration(seconds * float64(time.Second))
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the open transactions: %w", err)
	}
	return found, nil
}

// Leadership is who leads a cell.
type Leadership struct {
	IsHeld       bool   // somebody holds the cell's lock
	Node, Source string // of who has beaten last, holder or not; "" where nobody has
	Silent       time.Duration
}

// Leadership reads it, as the sidecar's role where the login may become it. lockClass is the first half of
// the lock's key.
func (x *Examination) Leadership(ctx context.Context, slot string, lockClass int) (Leadership, error) {
	var found Leadership
	tx, err := x.conn.Begin(ctx)
	if err != nil {
		return found, fmt.Errorf("read who leads: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has written nothing
	if _, err := tx.Exec(ctx, "set local role "+Role); err != nil {
		return found, fmt.Errorf("read who leads: %w", err)
	}
	err = tx.QueryRow(ctx, `select exists (
			select from pg_locks
			where locktype = 'advisory' and granted and objsubid = 2 and classid = $1::int4::oid
				and objid = (hashtext($2)::bigint & 4294967295)::oid
				and database = (select oid from pg_database where datname = current_database())
		)`, lockClass, slot).Scan(&found.IsHeld)
	if err != nil {
		return found, fmt.Errorf("read who leads: %w", err)
	}
	var seconds float64
	err = tx.QueryRow(ctx, `select node, source, extract(epoch from clock_timestamp() - beat_at)::float8
		from engine.leader where slot = $1`, slot).Scan(&found.Node, &found.Source, &seconds)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) && !IsEngineMissing(err) {
		return found, fmt.Errorf("read who leads: %w", err)
	}
	found.Silent = max(0, time.Duration(seconds*float64(time.Second)))
	return found, nil
}

// TryReplication connects as the tail does, and asks the server who it is.
func TryReplication(ctx context.Context, replicationURL string) error {
	config, err := pgconn.ParseConfig(replicationURL)
	if err != nil {
		return errURL
	}
	config.ConnectTimeout = 5 * time.Second
	config.RuntimeParams = map[string]string{"replication": "database", "application_name": "logline-doctor"}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect for replication: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		return fmt.Errorf("identify the system: %w", err)
	}
	return nil
}

// StateOf returns the SQLSTATE of a server's refusal, "" where the fault is another one.
func StateOf(err error) string {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}
