package tail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// SetupError is a fault that waiting does not mend: it names the cause and what to do.
type SetupError struct {
	Cause, Mend string
	Err         error
}

// Error returns cause and mend in one line.
func (e *SetupError) Error() string { return e.Cause + ": " + e.Mend }

// Unwrap returns the server's own words, where there are any.
func (e *SetupError) Unwrap() error { return e.Err }

// connectReplication makes the replication connection, which names the cluster.
func (s *session) connectReplication(ctx context.Context) error {
	replication, err := pgconn.ParseConfig(s.config.ReplicationURL)
	if err != nil {
		return &SetupError{"REPLICATION_URL is malformed", "use postgres://user:password@host:port/database", err}
	}
	for name, value := range map[string]string{
		"replication": "database", "timezone": "UTC", "datestyle": "ISO", "wal_sender_timeout": "4s",
		"application_name": named(streamName, s.config.Incarnation),
	} {
		replication.RuntimeParams[name] = value
	}
	replication.DialFunc = dialer().DialContext
	// A backlog comes faster than one message at a time.
	replication.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBytes), w)
	}
	if s.replication, err = pgconn.ConnectConfig(ctx, replication); err != nil {
		return explainReplication(replication.User, err)
	}
	identity, err := pglogrepl.IdentifySystem(ctx, s.replication)
	if err != nil {
		return explainReplication(replication.User, fmt.Errorf("identify the system: %w", err))
	}
	s.systemID, s.timeline, s.user = identity.SystemID, identity.Timeline, replication.User
	return nil
}

// identifyBySQL names the cluster as far as this login may ask.
func (s *session) identifyBySQL(ctx context.Context) error {
	var mayAsk bool
	err := s.sql.QueryRow(ctx, `select has_function_privilege('pg_catalog.pg_control_system()', 'execute')
		and has_function_privilege('pg_catalog.pg_control_checkpoint()', 'execute')`).Scan(&mayAsk)
	if err == nil && mayAsk {
		err = s.sql.QueryRow(ctx, `select s.system_identifier::text, c.timeline_id
			from pg_control_system() s, pg_control_checkpoint() c`).Scan(&s.systemID, &s.timeline)
	}
	if err != nil {
		return fmt.Errorf("identify the system: %w", err)
	}
	return nil
}

func (s *session) preconditions(ctx context.Context) error {
	if s.config.source() == WAL {
		if err := s.checkWAL(ctx); err != nil {
			return err
		}
	}
	if err := s.readEpoch(ctx); err != nil {
		return err
	}
	if err := makeTables(ctx, s.sql); err != nil {
		return &SetupError{"the sidecar cannot make its tables in the schema engine: " + err.Error(),
			"run `logline migrate` again as the owner", err}
	}
	return nil
}

func (s *session) checkWAL(ctx context.Context) error {
	var walLevel string
	var published bool
	err := s.sql.QueryRow(ctx, `select current_setting('wal_level'), exists (
		select 1 from pg_publication_tables
		where pubname = $1 and schemaname = 'ledger' and tablename = 'universal_registry')`,
		s.config.Publication).Scan(&walLevel, &published)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	if walLevel != "logical" {
		return &SetupError{fmt.Sprintf("the server runs with wal_level=%s, the sidecar needs logical", walLevel),
			"set `wal_level = logical` in postgresql.conf (`alter system set wal_level = 'logical'`) " +
				"and restart the server, or set LOGLINE_SOURCE=poll", nil}
	}
	if !published {
		return &SetupError{
			fmt.Sprintf("the publication %q does not publish ledger.universal_registry", s.config.Publication),
			"run `logline migrate` as the owner, or set LOGLINE_PUBLICATION to the publication that does",
			nil,
		}
	}
	return nil
}

// epoch says which rows came in through the import door: those accepted until then, but for what a
// transaction of this server has written since (sidecar/ledger/epoch.go says why).
type epoch struct {
	until  time.Time
	xact   uint64
	writer int64
}

// isNew is whether a row did not come in through the import door, in SQL.
func (e epoch) isNew() string {
	return fmt.Sprintf(`(accepted_at > '%s' or xact > '%d'::xid8
		and (xmin::text::bigint - %d) & 4294967295 between 1 and 2147483647)`,
		e.until.UTC().Format(time.RFC3339Nano), e.xact, e.writer)
}

// readEpoch reads which rows came in through the import door (sql/src/80_import.sql). They are passed over
// for as long as the session lasts: while it does, the door stays shut.
func (s *session) readEpoch(ctx context.Context) error {
	var importing bool
	var until *time.Time
	err := s.sql.QueryRow(ctx, `select ledger_private.is_importing(), e.until,
			coalesce(e.xact::text::numeric::bigint, 0), coalesce(e.writer, 0)
		from (select) here left join (
			select (metadata ->> 'accepted_until')::timestamptz as until, xact, xmin::text::bigint as writer
			from ledger.universal_registry
			where tenant_id = 'system' and entity_type = 'epoch'
			order by 1 desc
			limit 1
		) e on true`).
		Scan(&importing, &until, &s.epoch.xact, &s.epoch.writer)
	if err != nil {
		return fmt.Errorf("read the epoch: %w", err)
	}
	if importing {
		return &SetupError{"the ledger is being restored: its import door is open",
			"run `select ledger.import_end()` as the owner", nil}
	}
	if until != nil {
		s.epoch.until = *until
	}
	return nil
}

func explainReplication(user string, err error) error {
	var refusal *pgconn.PgError
	text := err.Error()
	pooler := &SetupError{"REPLICATION_URL points to a pooler, which cannot stream replication",
		"use the direct connection to the database host (on Supabase: db.<project>.supabase.co:5432)", err}
	if errors.As(err, &refusal) {
		switch {
		case refusal.Code == "42501" || strings.Contains(refusal.Message, "replication role"):
			return &SetupError{fmt.Sprintf("the login %q may not replicate", user),
				fmt.Sprintf("run `alter role %q replication` as a superuser (on Supabase with Postgres 17 as postgres), "+
					"or set REPLICATION_URL to a login that may (on Supabase postgres), or LOGLINE_SOURCE=poll", user), err}
		case refusal.Code == "28P01" || refusal.Code == "28000":
			return &SetupError{fmt.Sprintf("the server refuses the login %q of REPLICATION_URL", user),
				"correct its password, or let pg_hba.conf accept it for this database", err}
		case refusal.Code == "53300":
			return fmt.Errorf("every walsender or connection of the server is in use "+
				"(max_wal_senders, max_connections): %w", err)
		case strings.Contains(text, "startup parameter"), refusal.Code == "08P01":
			return pooler
		}
		return fmt.Errorf("connect to REPLICATION_URL: %w", err)
	}
	if strings.Contains(text, "startup parameter") || strings.Contains(text, "not supported") {
		return pooler
	}
	return fmt.Errorf("connect to REPLICATION_URL: %w", err)
}

// slot is a row of pg_replication_slots.
type slot struct {
	exists, lost bool
	confirmed    pglogrepl.LSN
	pid          int  // who streams from it; 0 nobody
	silentMs     int  // since that one's last word, where we may see it
	ofSidecar    bool // whether that one names itself a sidecar
}

func (s *session) readSlot(ctx context.Context) (slot, error) {
	var plugin, database, confirmed, status *string
	var current string
	result := slot{exists: true}
	err := s.sql.QueryRow(ctx, `select s.plugin, s.database, s.confirmed_flush_lsn::text, s.wal_status,
			current_database(), coalesce(s.active_pid, 0),
			coalesce(extract(epoch from clock_timestamp() - r.reply_time) * 1000, 0)::bigint,
			coalesce(split_part(a.application_name, ' ', 1) = $2, false)
		from pg_replication_slots s
		left join pg_stat_replication r on r.pid = s.active_pid
		left join pg_stat_activity a on a.pid = s.active_pid
		where s.slot_name = $1`, s.config.Slot, streamName).
		Scan(&plugin, &database, &confirmed, &status, &current, &result.pid, &result.silentMs,
			&result.ofSidecar)
	if errors.Is(err, pgx.ErrNoRows) {
		return slot{}, nil
	}
	if err != nil {
		return slot{}, fmt.Errorf("read the replication slot: %w", err)
	}
	if plugin == nil || *plugin != "pgoutput" || database == nil || *database != current {
		return slot{}, &SetupError{fmt.Sprintf("the replication slot %q belongs to another use", s.config.Slot),
			"set LOGLINE_SLOT to a name that is free", nil}
	}
	result.lost = status != nil && *status == "lost"
	if confirmed != nil {
		if result.confirmed, err = pglogrepl.ParseLSN(*confirmed); err != nil {
			return slot{}, fmt.Errorf("read the replication slot: %w", err)
		}
	}
	return result, nil
}

// distrust says why the slot does not bring everything since the cursor; "" where it does. One that somebody
// else moved on is made anew: a transaction may have its commit before the slot's place, and still be seen by
// no snapshot (it waits for a synchronous standby), so that neither stream nor scan would bring it.
func (s slot) distrust(stored cursor) string {
	switch {
	case !s.exists && stored.snapshot == "":
		return "the slot is new"
	case !s.exists:
		return "the slot was gone"
	case s.lost:
		return "the server has invalidated the slot"
	case stored.snapshot == "":
		return "there is no cursor"
	case stored.lsn == 0:
		return "the cursor has no place in this slot"
	case s.confirmed > stored.lsn:
		return "the slot is ahead of the cursor"
	}
	return ""
}

// disinherit ends the stream of a leader that was ended, that says nothing any more, or that does not let go
// of the slot: the lock is ours, so it leads no more. That of a killed one lives on while it makes a slot,
// for it listens to nobody then.
func (s *session) disinherit(ctx context.Context, slot slot, waited time.Duration) {
	isSilent := s.isHeir || slot.silentMs > int(staleAfter.Milliseconds())
	if slot.pid != 0 && (isSilent || slot.ofSidecar && waited > letGoWait) {
		s.config.Log.Warn("the slot's holder leads no more; ending its stream", "pid", slot.pid, "silent_ms",
			slot.silentMs)
		s.terminate(ctx, s.sql, slot.pid)
	}
}

// createSlot makes the slot. That waits for every write transaction of the cluster that is open, so after
// slotWait it goes on by itself, while polling serves. So it does where no slot is free, or where ours isHeld
// by another session: it is dropped as soon as that lets go.
func (s *session) createSlot(ctx context.Context, o origin, everLed, isHeld bool) (origin, error) {
	results := make(chan made, 1)
	o.slot = results
	s.creator.Go(func() {
		for {
			snapshot, err := s.create(ctx, isHeld)
			var refusal *pgconn.PgError
			if err != nil && errors.As(err, &refusal) && !s.replication.IsClosed() &&
				(everLed || isHeld || refusal.Code == "53400") {
				s.slotFault.Store(err.Error())
				s.config.Log.Warn("the slot can not be made; polling meanwhile", "error", err)
				if wait(ctx, createEvery) {
					isHeld = true // perhaps: what failed may have left it behind
					continue
				}
			}
			results <- made{snapshot, err}
			return
		}
	})
	select {
	case m := <-results:
		if m.err != nil {
			return origin{}, m.err
		}
		results <- m
	case <-time.After(slotWait):
		s.config.Log.Warn("the slot is not there yet; polling meanwhile", "slot", s.config.Slot)
	case <-ctx.Done():
		return origin{}, ctx.Err()
	}
	return o, nil
}

// exportedSQL reads a snapshot that a slot has exported. Its xmin may be past its xmax, which no pg_snapshot
// can be read back from; what is before the xmin is over either way.
const exportedSQL = `select case when pg_snapshot_xmin(s) > pg_snapshot_xmax(s)
	then format('%1$s:%1$s:', pg_snapshot_xmin(s)) else s::text end from pg_current_snapshot() s`

// create makes the slot with an exported snapshot, so that the gap ends exactly where the stream starts, and
// starts the stream.
func (s *session) create(ctx context.Context, isHeld bool) (snapshot string, err error) {
	if isHeld {
		err := pglogrepl.DropReplicationSlot(ctx, s.replication, s.config.Slot,
			pglogrepl.DropReplicationSlotOptions{})
		var refusal *pgconn.PgError
		if err != nil && !(errors.As(err, &refusal) && refusal.Code == "42704") { // it is gone
			return "", fmt.Errorf("drop the slot of another consumer: %w", err)
		}
	}
	result, err := pglogrepl.CreateReplicationSlot(ctx, s.replication, s.config.Slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication,
			SnapshotAction: "EXPORT_SNAPSHOT"})
	if err != nil {
		return "", s.explainCreate(err)
	}
	s.config.Log.Info("replication slot made", "slot", s.config.Slot, "at", result.ConsistentPoint)
	conn, err := s.connect(ctx, "loglineos-reader")
	if err != nil {
		return "", err
	}
	defer func() {
		_ = conn.Close(context.WithoutCancel(ctx)) // read-only: the server rolls back by itself
	}()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return "", fmt.Errorf("read the slot's snapshot: %w", err)
	}
	if _, err = tx.Exec(ctx, "set transaction snapshot '"+result.SnapshotName+"'"); err != nil {
		return "", fmt.Errorf("import the slot's snapshot: %w", err)
	}
	if err = tx.QueryRow(ctx, exportedSQL).Scan(&snapshot); err != nil {
		return "", fmt.Errorf("read the slot's snapshot: %w", err)
	}
	if err := s.startStream(ctx, 0); err != nil {
		return "", err
	}
	s.streams.Store(true)
	return snapshot, nil
}

func (s *session) explainCreate(err error) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		switch refusal.Code {
		case "53400":
			return &SetupError{"every replication slot of the server is in use",
				"drop one that is no longer needed (select slot_name, active from pg_replication_slots), " +
					"raise max_replication_slots, or set LOGLINE_SOURCE=poll", err}
		case "42501":
			return explainReplication(s.user, err)
		}
	}
	return fmt.Errorf("create the replication slot: %w", err)
}
