package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// MakeEngine makes the schema engine and its grants anew where they are gone, and then the tables that
// statements define (create table if not exists engine.…). Each statement is a transaction of its own, and
// what exists already is no error. It is safe for concurrent use, also by several sidecars.
func (l *Ledger) MakeEngine(ctx context.Context, statements ...string) error {
	if err := l.execPatiently(ctx, "select ledger_private.make_engine()"); err != nil {
		return fmt.Errorf("make the schema engine: %w", err)
	}
	for _, statement := range statements {
		// Two that make one table at once pass its check, and one of them meets the catalog's own keys.
		if err := l.execPatiently(ctx, statement); err != nil && !hasCode(err, "23505", "42P07", "42710") {
			return fmt.Errorf("make a table of the schema engine: %w", err)
		}
	}
	return nil
}

// execPatiently waits longer for a lock than an append may: others make the same, and are done soon.
func (l *Ledger) execPatiently(ctx context.Context, statement string) error {
	for tries := 0; ; tries++ {
		_, err := l.pool.Exec(ctx, statement)
		if tries == lockTries || !hasCode(err, "55P03") {
			return err
		}
	}
}

// lockTries is how often that waits once more.
const lockTries = 20

// IsEngineMissing reports whether err is the server's word that a table of the schema engine, or the schema,
// is not there, or that the sidecar's right to it is gone: MakeEngine mends that, then the statement goes
// again.
func IsEngineMissing(err error) bool {
	// undefined_table, invalid_schema_name; insufficient_privilege where the schema was made by hand.
	return hasCode(err, "42P01", "3F000", "42501")
}

func hasCode(err error, codes ...string) bool {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return false
	}
	for _, code := range codes {
		if refusal.Code == code {
			return true
		}
	}
	return false
}

// IsUnreadable reports whether err says that the server cannot read a row that it has: its page or its index
// is corrupt. Trying again does not help; the others of the batch can be read without it.
func IsUnreadable(err error) bool { return hasCode(err, "XX001", "XX002") }
