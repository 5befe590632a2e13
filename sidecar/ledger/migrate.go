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
	here, err := o.installed(ctx)
	if err != nil {
		return nil, err
	}
	if here.extension {
		return nil, errors.New("the ledger of this database is an extension, which migrations do not touch: run " +
			"`alter extension loglineos update` as its owner")
	}
	if _, err := o.conn.Exec(ctx, historySQL); err != nil {
		return nil, o.explain(err)
	}
	var applied []Migration
	for _, migration := range migrations {
		err := pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error {
			done, err := lockHistory(ctx, tx, migration)
			if err != nil || done {
				return err
			}
			if err := apply(ctx, tx, migration); err != nil {
				return o.explainUnknown(err, here)
			}
			applied = append(applied, migration)
			return record(ctx, tx, migration)
		})
		if err != nil {
			return applied, o.explain(err)
		}
	}
	return applied, nil
}

// MigrateAgain applies the newest migration to a ledger that is there already, of its version or the one
// before, and records all of them: it puts up walls that have fallen, and takes over a ledger that the
// history does not know. It returns what it applied. A migration stands on its own version, too.
func (o *Owner) MigrateAgain(ctx context.Context, migrations []Migration) (Migration, error) {
	newest := migrations[len(migrations)-1]
	version := strings.ReplaceAll(strings.TrimPrefix(newest.Name, "loglineos_"), "_", ".")
	here, err := o.installed(ctx)
	if err != nil {
		return newest, err
	}
	var newer bool
	err = o.conn.QueryRow(ctx, `select string_to_array(nullif($1, ''), '.')::int[] >
		string_to_array($2, '.')::int[] is true`, here.version, version).Scan(&newer)
	switch {
	case err != nil:
		return newest, fmt.Errorf("compare versions: %w", err)
	case here.version == "":
		return newest, errors.New("this database has no ledger yet: run `logline migrate`")
	case newer:
		return newest, fmt.Errorf("the ledger is of version %s, this program of %s: run the `logline migrate "+
			"--again` of that version", here.version, version)
	case here.extension && here.version != version:
		return newest, fmt.Errorf("the ledger is an extension of version %s: run `alter extension loglineos "+
			"update` as its owner", here.version)
	case here.extension:
		// What belongs to the extension goes on to; its history is the extension's.
		err = pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error { return apply(ctx, tx, newest) })
		return newest, o.explain(err)
	}
	if _, err := o.conn.Exec(ctx, historySQL); err != nil {
		return newest, o.explain(err)
	}
	err = pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error {
		if _, err := lockHistory(ctx, tx, newest); err != nil {
			return err
		}
		if err := apply(ctx, tx, newest); err != nil {
			return err
		}
		return record(ctx, tx, migrations...)
	})
	return newest, o.explain(err)
}

// installation is what a database has; version is "" where there is no ledger.
type installation struct {
	version   string
	extension bool
}

// installed looks at the ledger's version. It reads the function, and does not call what may be a stranger's.
func (o *Owner) installed(ctx context.Context) (installation, error) {
	var here installation
	err := o.conn.QueryRow(ctx, `select exists (select from pg_extension where extname = 'loglineos'),
		case when to_regclass('ledger.universal_registry') is null then '' else coalesce((
			select substring(pg_get_function_sqlbody(oid) from '[0-9]+[.][0-9]+[.][0-9]+')
			from pg_proc
			where oid = to_regprocedure('ledger_private.version()')
		), '0.1.0') end`).Scan(&here.extension, &here.version)
	if err != nil {
		return here, o.explain(fmt.Errorf("look for the ledger: %w", err))
	}
	return here, nil
}

// lockHistory makes tx the only one that migrates, and tells whether migration is done.
func lockHistory(ctx context.Context, tx pgx.Tx, migration Migration) (done bool, err error) {
	const lock = "lock table supabase_migrations.schema_migrations in share row exclusive mode"
	if _, err := tx.Exec(ctx, lock); err != nil {
		return false, fmt.Errorf("lock the migration history: %w", err)
	}
	if err := tx.QueryRow(ctx, `select exists (
		select 1 from supabase_migrations.schema_migrations where version = $1)`,
		migration.Version).Scan(&done); err != nil {
		return false, fmt.Errorf("read the migration history: %w", err)
	}
	return done, nil
}

func apply(ctx context.Context, tx pgx.Tx, migration Migration) error {
	if _, err := tx.Conn().PgConn().Exec(ctx, migration.SQL).ReadAll(); err != nil {
		return fmt.Errorf("apply migration %s_%s: %w", migration.Version, migration.Name, err)
	}
	return nil
}

func record(ctx context.Context, tx pgx.Tx, migrations ...Migration) error {
	for _, migration := range migrations {
		if _, err := tx.Exec(ctx, `insert into supabase_migrations.schema_migrations (version, statements, name)
			values ($1, array[$2], $3) on conflict (version) do nothing`,
			migration.Version, migration.SQL, migration.Name); err != nil {
			return fmt.Errorf("record migration %s: %w", migration.Version, err)
		}
	}
	return nil
}

// explainUnknown says what to do about a migration that meets its own ledger: the history does not know it.
func (o *Owner) explainUnknown(err error, here installation) error {
	var refusal *pgconn.PgError
	if here.version == "" || !errors.As(err, &refusal) || refusal.Code != "42P06" {
		return err
	}
	return fmt.Errorf("this database has a ledger of version %s that its history "+
		"(supabase_migrations.schema_migrations) does not know: run `logline migrate --again`, which brings it to "+
		"this version and records it; if another tool migrates this database, go on with that tool "+
		"(docs/install.md): %w", here.version, err)
}

// explain says which login a migration needs, and what else the server says.
func (o *Owner) explain(err error) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return err
	}
	if refusal.Code == "42501" {
		err = fmt.Errorf("the login %q lacks a right that the migration needs: run it as the database owner "+
			"(on Supabase: postgres): %w", o.conn.Config().User, err)
	}
	if refusal.Code == "25006" {
		err = fmt.Errorf("the database takes no writes: it is a standby (connect to the primary), or read-only "+
			"(`alter database … set default_transaction_read_only = off`, or Supabase's disk is full): %w", err)
	}
	if refusal.Detail != "" {
		err = fmt.Errorf("%w\nDETAIL: %s", err, refusal.Detail)
	}
	if refusal.Hint != "" {
		err = fmt.Errorf("%w\nHINT: %s", err, refusal.Hint)
	}
	return err
}
