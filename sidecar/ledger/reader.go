package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// OpenReader connects to databaseURL with sessions that cannot write. They work as the sidecar's role where
// the login may be it, else as the login itself, and then see what row level security lets it see.
func OpenReader(ctx context.Context, databaseURL string) (*Ledger, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w", urlFault(databaseURL, err))
	}
	config.MaxConns = 2
	Session(config.ConnConfig, "loglineos reader")
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		var isMember bool
		err := conn.QueryRow(ctx, `select coalesce((select pg_has_role(oid, 'member') from pg_roles
			where rolname = $1), false)`, Role).Scan(&isMember)
		if err != nil {
			return fmt.Errorf("look for the role %s: %w", Role, err)
		}
		if !isMember {
			return nil
		}
		return AssumeRole(ctx, conn)
	}
	l := newLedger(int(config.MaxConns))
	if l.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if err := l.pool.Ping(ctx); err != nil {
		l.Close()
		return nil, explainConnect(err)
	}
	return l, nil
}
