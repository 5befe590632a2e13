package tail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// open makes both connections and checks what replication needs.
func (s *session) open(ctx context.Context) error {
	s.replyNow = make(chan struct{}, 1)
	config, err := pgx.ParseConfig(s.config.DatabaseURL)
	if err != nil {
		return &SetupError{"DATABASE_URL is malformed", "use postgres://user:password@host:port/database", err}
	}
	config.RuntimeParams["application_name"] = "loglineos-tail"
	config.RuntimeParams["timezone"], config.RuntimeParams["datestyle"] = "UTC", "ISO"
	if s.sql, err = pgx.ConnectConfig(ctx, config); err != nil {
		return fmt.Errorf("connect to DATABASE_URL: %w", err)
	}
	if err := s.config.Prepare(ctx, s.sql); err != nil {
		return &SetupError{"this login cannot do the sidecar's work", err.Error(), err}
	}
	if err := s.preconditions(ctx); err != nil {
		return err
	}
	replication, err := pgconn.ParseConfig(s.config.ReplicationURL)
	if err != nil {
		return &SetupError{"REPLICATION_URL is malformed", "use postgres://user:password@host:port/database", err}
	}
	for name, value := range map[string]string{
		"replication": "database", "application_name": "loglineos-replication", "timezone": "UTC",
		"datestyle": "ISO", "wal_sender_timeout": "5s",
	} {
		replication.RuntimeParams[name] = value
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

func (s *session) preconditions(ctx context.Context) error {
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
				"and restart the server", nil}
	}
	if !published {
		return &SetupError{
			fmt.Sprintf("the publication %q does not publish ledger.universal_registry", s.config.Publication),
			"run `logline migrate` as the owner, or set LOGLINE_PUBLICATION to the publication that does",
			nil,
		}
	}
	if err := s.readEpoch(ctx); err != nil {
		return err
	}
	if err := s.makeTables(ctx); err != nil {
		return &SetupError{"the sidecar cannot make its tables in the schema engine",
			"run `logline migrate` again as the owner", err}
	}
	return nil
}

// readEpoch reads which rows came in through the import door (sql/src/80_import.sql). They are passed over
// for as long as the session lasts: while it does, the door stays shut.
func (s *session) readEpoch(ctx context.Context) error {
	var importing bool
	var until *time.Time
	err := s.sql.QueryRow(ctx, `select ledger_private.is_importing(), (
			select max((metadata ->> 'accepted_until')::timestamptz) from ledger.universal_registry
			where tenant_id = 'system' and entity_type = 'epoch'
		)`).Scan(&importing, &until)
	if err != nil {
		return fmt.Errorf("read the epoch: %w", err)
	}
	if importing {
		return &SetupError{"the ledger is being restored: its import door is open",
			"run `select ledger.import_end()` as the owner", nil}
	}
	if until != nil {
		s.imported = *until
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
			return &SetupError{fmt.Sprintf("the login %q of REPLICATION_URL may not replicate", user),
				fmt.Sprintf("run `alter role %q replication` as a superuser, or set REPLICATION_URL to a login that "+
					"may (on Supabase with Postgres 15 or 16: postgres)", user), err}
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
}

func (s *session) readSlot(ctx context.Context) (slot, error) {
	var plugin, database, confirmed, status *string
	var current string
	err := s.sql.QueryRow(ctx, `select plugin, database, confirmed_flush_lsn::text, wal_status,
			current_database()
		from pg_replication_slots where slot_name = $1`, s.config.Slot).
		Scan(&plugin, &database, &confirmed, &status, &current)
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
	result := slot{exists: true, lost: status != nil && *status == "lost"}
	if confirmed != nil {
		if result.confirmed, err = pglogrepl.ParseLSN(*confirmed); err != nil {
			return slot{}, fmt.Errorf("read the replication slot: %w", err)
		}
	}
	return result, nil
}

// start comes to hold the slot, waiting while another sidecar does, and says which rows the stream
// will not bring.
func (s *session) start(ctx context.Context) (gap, error) {
	for {
		stored, err := s.readCursor(ctx)
		if err != nil {
			return gap{}, err
		}
		slot, err := s.readSlot(ctx)
		if err != nil {
			return gap{}, err
		}
		found := gap{}
		if slot.lost {
			s.config.Log.Warn("the replication slot was invalidated by the server; making a new one", "slot",
				s.config.Slot)
			if err := pglogrepl.DropReplicationSlot(ctx, s.replication, s.config.Slot,
				pglogrepl.DropReplicationSlotOptions{}); err != nil {
				return gap{}, fmt.Errorf("drop the lost slot: %w", err)
			}
			slot.exists = false
		}
		if !slot.exists {
			found, err = s.create(ctx, stored)
		} else {
			found, err = s.gapOf(ctx, stored, slot)
		}
		if err != nil {
			return gap{}, err
		}
		err = pglogrepl.StartReplication(ctx, s.replication, s.config.Slot, 0, pglogrepl.StartReplicationOptions{
			Mode: pglogrepl.LogicalReplication,
			PluginArgs: []string{"proto_version '1'",
				"publication_names '" + strings.ReplaceAll(s.config.Publication, "'", "''") + "'"},
		})
		if err == nil {
			if found.conn == nil {
				s.cursor = stored
			} // else it says nothing about this slot, and may even be of another cluster
			return found, nil
		}
		found.close()
		var refusal *pgconn.PgError
		if !errors.As(err, &refusal) || refusal.Code != "55006" { // object_in_use
			return gap{}, fmt.Errorf("start replication: %w", err)
		}
		s.phase.Store(Standby)
		s.fault.Store("another sidecar holds the slot " + s.config.Slot)
		if !wait(ctx, standbyEvery) {
			return gap{}, ctx.Err()
		}
	}
}

// create makes the slot with an exported snapshot, so that the gap ends exactly where the stream
// starts.
func (s *session) create(ctx context.Context, stored cursor) (gap, error) {
	createCtx, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	result, err := pglogrepl.CreateReplicationSlot(
		createCtx,
		s.replication,
		s.config.Slot,
		"pgoutput",
		pglogrepl.CreateReplicationSlotOptions{
			Mode:           pglogrepl.LogicalReplication,
			SnapshotAction: "EXPORT_SNAPSHOT",
		},
	)
	if err != nil {
		return gap{}, s.explainCreate(createCtx, err)
	}
	s.config.Log.Info("replication slot made", "slot", s.config.Slot, "at", result.ConsistentPoint)
	reason := "the slot is new"
	if stored.lsn != 0 {
		reason = "the slot was gone"
	}
	return s.openGap(ctx, stored, result.SnapshotName, reason)
}

func (s *session) explainCreate(ctx context.Context, err error) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		switch refusal.Code {
		case "53400":
			return &SetupError{"every replication slot of the server is in use",
				"drop one that is no longer needed (select slot_name, active from pg_replication_slots) " +
					"or raise max_replication_slots", err}
		case "42501":
			return explainReplication(s.user, err)
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		var blockers string
		lookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		// The list only makes the message better: without it the message still stands.
		_ = s.sql.QueryRow(lookCtx, `select coalesce(
				string_agg(format('pid %s (%s, since %s)', pid, datname, xact_start), '; '), '')
			from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()`).
			Scan(&blockers)
		return fmt.Errorf(
			"create the replication slot: it waits for open write transactions of the cluster: %s: %w", blockers, err)
	}
	return fmt.Errorf("create the replication slot: %w", err)
}
