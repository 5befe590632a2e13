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

// restoredSQL tells whether there is a row of a transaction that is still to come, and that no epoch
// covers: it was restored past the import door.
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
	var old, importing, restored bool
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
	if err := conn.QueryRow(ctx, restoredSQL).Scan(&restored); err != nil {
		return fmt.Errorf("look for restored rows: %w", err)
	}
	if restored {
		return errors.New("the ledger was restored from another server, and its open requests would run again: " +
			"run `select ledger.import_begin(); select ledger.import_end();` as the owner, then start again")
	}
	return nil
}
