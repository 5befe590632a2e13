package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
)

const serveHelp = `Usage: logline serve

Runs the sidecar beside a Postgres that is migrated and bootstrapped. It is configured by the
environment alone (.env.example lists every variable):

    DATABASE_URL      a direct connection as loglineos_sidecar, or a login that may become it
    REPLICATION_URL   a login that may replicate; default: DATABASE_URL
    LOGLINE_SOURCE    wal, or poll: then no login has to replicate; one for all sidecars of a database
    LOGLINE_NODE      its name for others; default: the host's. Two on one machine need two names
    LOGLINE_LISTEN    where /healthz, /readyz and /metrics answer; default 127.0.0.1:8787

A second sidecar on the same slot stands by and takes over when the first one is gone. SIGTERM or
Ctrl-C stops it: what runs may finish (LOGLINE_DRAIN_MS), the rest is taken over; a second one, at
least a second later, waits for nothing.

Before the first time, as a superuser; then restart Postgres:

    alter system set wal_level = 'logical';

and after ` + "`logline migrate` and `logline bootstrap`" + `, make the login:

    logline login --name app            (with LOGLINE_SOURCE=poll --no-replication)

Exit codes: 0 it was stopped, 1 it failed, 2 wrong use.

Example:

    DATABASE_URL=postgres://app:…@db.example:5432/postgres logline serve
`

func runServe(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	if err := parse("serve", serveHelp, args, out, nil); err != nil {
		return err
	}
	c, err := config.Load()
	if err != nil {
		return &usageError{err.Error()}
	}
	log := newLogger(c, errOut)
	for _, name := range config.Unknown() {
		log.Warn("a variable is set that nothing reads: .env.example lists all", "name", name)
	}
	for _, v := range config.FormerSet() {
		log.Warn("a variable is set that only the reference implementation reads", "name", v.Name, "now", v.Now)
	}
	listener, err := app.Listen(c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	sidecar, err := app.New(ctx, c, log)
	if err != nil && ctx.Err() != nil { // it was asked to stop, and has: that is no fault
		log.Info("sidecar stopped during its start", "at", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer sidecar.Close()
	defer context.AfterFunc(s.now, sidecar.Hurry)()
	log.Info("sidecar started", "version", app.Version(), "node", c.Node, "listen", listener.Addr().String())
	err = sidecar.Run(ctx, listener)
	log.Info("sidecar stopped")
	return err
}

const migrateHelp = `Usage: logline migrate [--again] [--json] [--database URL]

Applies the migrations that the database lacks, each in one transaction. It keeps the same history as
` + "`supabase db push`" + ` (supabase_migrations.schema_migrations), so either may be used. The login must
own the database (on Supabase: postgres).

    --again          apply the newest migration once more, though the history has it: puts up the walls that
                     guard_check names, and takes over a ledger that the history does not know; rows stay
    --json           print {applied: [names]}
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline migrate
    logline migrate --again --database postgres://postgres@localhost/app
`

// parseOwner parses --database, which it returns, and what define adds (nil: nothing).
func parseOwner(name, help string, args []string, out io.Writer, define func(*flag.FlagSet)) (string, error) {
	var url string
	err := parse(name, help, args, out, func(flags *flag.FlagSet) {
		stated(flags, &url, "database")
		if define != nil {
			define(flags)
		}
	})
	return url, err
}

// openOwner is parseOwner, and opens the owner's session: for a command whose flags need no further look.
func openOwner(ctx context.Context, name, help string, args []string, out io.Writer,
	define func(*flag.FlagSet)) (*ledger.Owner, error) {
	url, err := parseOwner(name, help, args, out, define)
	if err != nil {
		return nil, err
	}
	return openSession(ctx, url)
}

func runMigrate(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var again, asJSON bool
	owner, err := openOwner(ctx, "migrate", migrateHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&again, "again", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	names, suffix := []string{}, ""
	at, stop := progressOn(errOut, "migrate")
	defer stop()
	at("applying what is missing; it waits for transactions that use the ledger")
	if again {
		suffix = " again"
		migration, fault := app.MigrateAgain(ctx, owner)
		if err = fault; err == nil {
			names = append(names, migration.Version+"_"+migration.Name)
		}
	} else {
		applied, fault := app.Migrate(ctx, owner)
		err = fault
		for _, migration := range applied {
			names = append(names, migration.Version+"_"+migration.Name)
		}
	}
	stop()
	if asJSON {
		return errors.Join(err, printJSON(out, map[string]any{"applied": names}, true))
	}
	for _, name := range names {
		fmt.Fprintf(out, "applied %s%s\n", name, suffix)
	}
	if err == nil && len(names) == 0 {
		fmt.Fprintln(out, "nothing to apply: the schema is current")
	}
	return err
}

const upHelp = `Usage: logline up [--data-dir DIR] [--listen ADDR] [--database URL] [--quiet]

Starts everything on this machine and keeps serving until Ctrl-C: a Postgres of its own (found on the
machine, or fetched), the ledger, the kernels, the sidecar, and an example function whose timeline it
prints. A second run goes on with the same data. It is for trying and for development, not for
production.

    --data-dir DIR   data and DIR/up.env with the connection strings; default .logline
    --listen ADDR    where /healthz, /readyz and /metrics answer; default 127.0.0.1:8787
    --database URL   use this Postgres instead, as a superuser (for another login: logline help
                     serve); it must have wal_level=logical
    --quiet          print nothing but errors and the ready line

PG=15, 16, 17 or 18 forces a version of Postgres.

Exit codes: 0 it was stopped, 1 it failed, 2 wrong use, or another one runs there.

Example:

    logline up --data-dir /tmp/a --listen 127.0.0.1:9001
    . /tmp/a/up.env && psql "$DATABASE_URL"
`

func runUp(s signals, args []string, out, errOut io.Writer) error {
	options := app.UpOptions{Out: out, Err: errOut, Now: s.now}
	err := parse("up", upHelp, args, out, func(flags *flag.FlagSet) {
		flags.StringVar(&options.Dir, "data-dir", ".logline", "")
		flags.StringVar(&options.Listen, "listen", "127.0.0.1:8787", "")
		flags.StringVar(&options.DatabaseURL, "database", "", "")
		flags.BoolVar(&options.Quiet, "quiet", false, "")
	})
	if err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(options.Listen); err != nil {
		return &usageError{fmt.Sprintf("--listen %q: want host:port, for example 127.0.0.1:8787", options.Listen)}
	}
	err = app.Up(s.stop, options)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%w; choose a folder that can be written to with --data-dir", err)
	}
	return err
}
