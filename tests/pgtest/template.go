package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/supabase"
)

// adminLock is the advisory lock of whoever migrates on a server: roles belong to all its databases.
const adminLock = 0x4c4f474c // "LOGL"

// migration is one file of supabase/migrations.
type migration struct{ name, text string }

// template returns the name of a database with all migrations, which nobody may connect to. It is built
// at most once for each server and state of the migrations, by whichever test binary comes first.
func (s *server) template(ctx context.Context) (string, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.migrated != "" {
		return s.migrated, nil
	}
	migrations, err := migrations()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, m := range migrations {
		fmt.Fprintf(hash, "%s\x00%d\x00%s", m.name, len(m.text), m.text)
	}
	name := "logline_template_" + hex.EncodeToString(hash.Sum(nil)[:8])
	err = s.locked(ctx, func(admin *pgx.Conn) error { return s.build(ctx, admin, name) })
	if err != nil {
		return "", err
	}
	s.migrated = name
	return name, nil
}

// build makes the template under another name first: a half-built one is never used.
func (s *server) build(ctx context.Context, admin *pgx.Conn, name string) error {
	var exists bool
	const look = "select exists (select from pg_catalog.pg_database where datname = $1)"
	if err := admin.QueryRow(ctx, look, name).Scan(&exists); err != nil {
		return fmt.Errorf("look for template: %w", err)
	}
	if exists {
		return nil
	}
	half := name + "_half"
	for _, statement := range []string{
		"drop database if exists " + half + " with (force)",
		"create database " + half,
	} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("run %q: %w", statement, err)
		}
	}
	if err := s.migrate(ctx, half); err != nil {
		return err
	}
	for _, statement := range []string{
		"alter database " + half + " with allow_connections false",
		"alter database " + half + " rename to " + name,
	} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("run %q: %w", statement, err)
		}
	}
	return nil
}

// sweep drops, on a server that outlives its tests, what killed test binaries and older migrations left.
// A day is longer than any run; a database in use stays.
func (s *server) sweep(ctx context.Context, admin *pgx.Conn) error {
	const old = `
select datname
  from pg_catalog.pg_database
 where (datname like 'logline\_test\_%' or datname like 'logline\_template\_%')
   and (pg_catalog.pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification
       < now() - interval '1 day'
   and not exists (select from pg_catalog.pg_stat_activity where datid = pg_database.oid)`
	rows, err := admin.Query(ctx, old)
	if err != nil {
		return fmt.Errorf("list old test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list old test databases: %w", err)
	}
	for _, name := range names {
		if _, err := admin.Exec(ctx, "drop database if exists "+name); err != nil {
			return fmt.Errorf("drop old test database %s: %w", name, err)
		}
	}
	return nil
}

// locked calls back under the server's advisory lock, which ends with the connection.
func (s *server) locked(ctx context.Context, then func(admin *pgx.Conn) error) error {
	admin, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	if _, err := admin.Exec(ctx, "select pg_catalog.pg_advisory_lock($1)", adminLock); err != nil {
		return fmt.Errorf("lock server: %w", err)
	}
	return then(admin)
}

// migrate applies every file in one transaction of its own, as `supabase db push` does, and then gives the
// sidecar's role, which the migrations make without a login, its test password.
func (s *server) migrate(ctx context.Context, database string) error {
	migrations, err := migrations()
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.url(nil, database))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", database, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, m := range migrations {
		// The simple protocol: many statements in one message.
		if _, err := conn.PgConn().Exec(ctx, "begin;\n"+m.text+"\n;commit;").ReadAll(); err != nil {
			return fmt.Errorf("apply %s: %w", m.name, withLine(err, m.text))
		}
	}
	login := "alter role " + sidecarRole + " login replication password '" + s.sidecarPassword() + "'"
	if _, err := conn.Exec(ctx, login); err != nil {
		return fmt.Errorf("let %s log in: %w", sidecarRole, err)
	}
	return nil
}

// migrations reads the embedded files, in the order of their names.
func migrations() ([]migration, error) {
	names, err := fs.Glob(supabase.Migrations, "migrations/*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("list migrations: there are none")
	}
	all := make([]migration, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(supabase.Migrations, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		all = append(all, migration{name: strings.TrimPrefix(name, "migrations/"), text: string(text)})
	}
	return all, nil
}

// withLine says where in the file Postgres stopped, where it says so.
func withLine(err error, text string) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Position == 0 {
		return err
	}
	before := []rune("begin;\n" + text)
	before = before[:min(int(refusal.Position)-1, len(before))]
	return fmt.Errorf("line %d: %w %s", strings.Count(string(before), "\n"), err, refusal.Detail)
}
