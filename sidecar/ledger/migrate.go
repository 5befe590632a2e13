package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Migration is one file of supabase/migrations: <version>_<name>.sql.
type Migration struct {
	Version, Name, SQL string
}

// Migrations reads the migrations below dir of files, in version order.
func Migrations(files fs.FS, dir string) ([]Migration, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.sql"))
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	var migrations []Migration
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		version, rest, ok := strings.Cut(strings.TrimSuffix(path.Base(name), ".sql"), "_")
		if !ok {
			return nil, fmt.Errorf("read migration %s: want a name of the form <version>_<name>.sql", name)
		}
		migrations = append(migrations, Migration{version, rest, string(text)})
	}
	return migrations, nil
}

// historySQL makes the history table as the Supabase CLI makes it, so that both keep one history. It is
// one transaction; the lock ("LOGL") is there because `if not exists` fails when two run it at once. Who may
// create schemas can have made it first: an insert into a stranger's table would run his triggers as us.
const historySQL = `select pg_advisory_xact_lock(1280264012);
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
do $$
declare
	v_owner name := (
		select o.rolname
		from (
			select nspowner from pg_namespace where oid = 'supabase_migrations'::regnamespace
			union all
			select relowner from pg_class where oid = 'supabase_migrations.schema_migrations'::regclass
		) as found (owner)
		join pg_roles as o on o.oid = found.owner
		join pg_roles as me on me.rolname = current_user
		where not o.rolsuper and o.oid <> me.oid and (me.rolsuper or not pg_has_role(o.oid, 'usage'))
		limit 1
	);
begin
	if v_owner is not null then
		raise exception using
			errcode = 'object_not_in_prerequisite_state',
			message = 'supabase_migrations.schema_migrations, or its schema, belongs to ' || v_owner,
			hint = format('If %I owns this database''s migrations, connect as %I. If not, look what it is, '
				'and drop it.', v_owner, v_owner);
	end if;
end
$$;
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;`

// Migrate applies the migrations that the database's history lacks, each in one transaction, and
// returns them. Two at a time are safe: they take turns by locks.
func (o *Owner) Migrate(ctx context.Context, migrations []Migration) ([]Migration, error) {
	conn := o.conn
	var extension bool
	err := conn.QueryRow(ctx, "select exists (select from pg_extension where extname = 'loglineos')").
		Scan(&extension)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look for the extension: %w", err)
	case extension:
		return nil, errors.New("the ledger of this database is an extension, which migrations do not touch: run " +
			"`alter extension loglineos update` as its owner")
	}
	if _, err := conn.Exec(ctx, historySQL); err != nil {
		return nil, explainMigrate(conn, err)
	}
	var applied []Migration
	for _, migration := range migrations {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			const lock = "lock table supabase_migrations.schema_migrations in share row exclusive mode"
			if _, err := tx.Exec(ctx, lock); err != nil {
				return fmt.Errorf("lock the migration history: %w", err)
			}
			var done bool
			if err := tx.QueryRow(ctx, `select exists (
				select 1 from supabase_migrations.schema_migrations where version = $1)`,
				migration.Version).Scan(&done); err != nil {
				return fmt.Errorf("read the migration history: %w", err)
			}
			if done {
				return nil
			}
			if _, err := tx.Conn().PgConn().Exec(ctx, migration.SQL).ReadAll(); err != nil {
				return fmt.Errorf("apply migration %s_%s: %w", migration.Version, migration.Name, err)
			}
			if _, err := tx.Exec(ctx, `insert into supabase_migrations.schema_migrations (version, statements, name)
				values ($1, array[$2], $3)`, migration.Version, migration.SQL, migration.Name); err != nil {
				return fmt.Errorf("record migration %s: %w", migration.Version, err)
			}
			applied = append(applied, migration)
			return nil
		})
		if err != nil {
			return applied, explainMigrate(conn, err)
		}
	}
	return applied, nil
}

func explainMigrate(conn *pgx.Conn, err error) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "42501" {
		return fmt.Errorf("the login %q lacks a right that the migration needs: run it as the database owner "+
			"(on Supabase: postgres): %w", conn.Config().User, err)
	}
	return err
}
