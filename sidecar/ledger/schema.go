package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// minVersion is the oldest ledger that this sidecar works on.
const minVersion = "0.2.0"

// acceptedUntil is the newest accepted_at that the newest epoch covers (sql/src/80_import.sql): what is not
// after it came in through the import door and is never routed.
const acceptedUntil = `coalesce((
		select max((e.metadata ->> 'accepted_until')::timestamptz)
		from ledger.universal_registry e
		where e.tenant_id = 'system' and e.entity_type = 'epoch'
	), '-infinity')`

// restoredSQL tells by the rows whether they were restored and no epoch covers them: one is of a transaction
// that is still to come, or of the newest two share a writer (xmin), though an insert is written by its own
// transaction. ledger.guard_check has the second half, too.
const restoredSQL = `select exists (
	select from ledger.universal_registry r
	where r.xact >= (
			select greatest(
				pg_snapshot_xmax(pg_current_snapshot())::text::numeric,
				1 + max((e.metadata ->> 'max_xact')::numeric)
			)::text::xid8
			from ledger.universal_registry e
			where e.tenant_id = 'system' and e.entity_type = 'epoch'
		)
	) or exists (
		select
		from (
			select r.xmin::text as writer, r.xact, r.accepted_at
			from ledger.universal_registry r
			where r.xact < pg_snapshot_xmax(pg_current_snapshot())
			order by r.xact desc
			limit 100
		) newest
		where newest.accepted_at > ` + acceptedUntil + `
		group by newest.writer
		having count(distinct newest.xact) > 1
	)`

// movedSQL tells whether the tail has worked on these rows on another server: a dump takes its cursor along,
// and no import door was closed on this server since. A standby that was promoted is the same server; a
// copy of a disk has its identifier, too, but not the transactions of its later cursor.
const movedSQL = `select exists (
	select
	from engine.cursor c
	cross join pg_control_system() here
	where (c.system_id <> here.system_identifier::text
			or pg_snapshot_xmax(c.snapshot) > pg_snapshot_xmax(pg_current_snapshot()))
		and not exists (
			select from ledger.universal_registry e
			where e.tenant_id = 'system' and e.entity_type = 'epoch'
				and e.accepted_at > c.stored_at
				and coalesce(e.metadata ->> 'system_identifier', here.system_identifier::text)
					= here.system_identifier::text
		)
	)`

// checkSchema refuses a ledger of an older version, one that is being restored, and one that was restored
// without its rows having been told from new ones.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	const mend = "run `logline migrate` (or `supabase db push`, or paste sql/dist/loglineos.sql; where it is " +
		"an extension: `alter extension loglineos update`)"
	var known bool
	err := conn.QueryRow(ctx, "select to_regprocedure('ledger_private.version()') is not null").Scan(&known)
	if err != nil {
		return fmt.Errorf("look for the ledger's version: %w", err)
	}
	if !known {
		return fmt.Errorf("the ledger is older than version %s, which this sidecar needs: %s", minVersion, mend)
	}
	var version string
	var old, importing bool
	err = conn.QueryRow(ctx, `select v, string_to_array(v, '.')::int[] < string_to_array($1, '.')::int[],
		ledger_private.is_importing() from ledger_private.version() v`, minVersion).
		Scan(&version, &old, &importing)
	switch {
	case err != nil:
		return fmt.Errorf("read the ledger's version: %w", err)
	case old:
		return fmt.Errorf("the ledger is of version %s, this sidecar needs %s: %s", version, minVersion, mend)
	case importing:
		return errors.New("the ledger is being restored (its import door is open): run " +
			"`select ledger.import_end()` as the owner, then start again")
	}
	return checkRestored(ctx, conn)
}

// ErrRestored says that rows were written anew: by a restore, or by somebody who got past the walls.
var ErrRestored = errors.New("the ledger was restored from another server, and its open requests would run " +
	"again")

// checkRestored refuses rows that came from another server without the import door: what was open there
// would run twice. Where the rows alone tell it, somebody may have rewritten them here, which the import door
// would hide.
func checkRestored(ctx context.Context, conn *pgx.Conn) error {
	var moved, rewritten, comparable bool
	err := conn.QueryRow(ctx, `select
		coalesce(has_table_privilege(to_regclass('engine.cursor'), 'select'), false)
		and has_function_privilege('pg_catalog.pg_control_system()', 'execute')`).Scan(&comparable)
	if err != nil {
		return fmt.Errorf("look for the tail's cursor: %w", err)
	}
	if comparable {
		err = conn.QueryRow(ctx, movedSQL).Scan(&moved)
	}
	if err == nil && !moved {
		err = conn.QueryRow(ctx, restoredSQL).Scan(&rewritten)
	}
	const door = "run `select ledger.import_begin(); select ledger.import_end();` as the owner, then start again"
	switch {
	case err != nil:
		return fmt.Errorf("look for restored rows: %w", err)
	case moved:
		return fmt.Errorf("%w: %s", ErrRestored, door)
	case rewritten:
		return fmt.Errorf("%w; or its rows were changed past its walls: %s, if it was restored. If not, compare "+
			"it with a backup first: the door hides what was changed", ErrRestored, door)
	}
	return nil
}
