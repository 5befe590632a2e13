package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
)

// Who a command acts as is decided here, for all of them: a user of a tenant, under row level security and
// with the claims that PostgREST would set from his token (docs/quickstart.md). Only what merely reads may
// be the login itself, and only where --as-owner says so.

// actorHelp is the part of a help text that says who a command acts as.
const actorHelp = `Who it acts as (docs/quickstart.md):

    --as USER        a user, under row level security, as with his token (claim sub); default: APP_USER_ID
    --tenant TENANT  his tenant (claim app_metadata.tenant_id); default: APP_TENANT_ID
    --database URL   a login that may become authenticated; default: DATABASE_URL
`

// readerHelp is actorHelp for a command that only reads.
const readerHelp = actorHelp +
	"    --as-owner       read with all rights of the login itself instead: every tenant\n"

// actorFlags are --as, --tenant, --as-owner and --database.
type actorFlags struct {
	name                   string // of the command
	user, tenant, database string
	mayBeOwner, isOwner    bool
}

// define adds the flags; --as-owner where the command only reads.
func (a *actorFlags) define(flags *flag.FlagSet) {
	stated(flags, &a.user, "as")
	stated(flags, &a.tenant, "tenant")
	stated(flags, &a.database, "database")
	if a.mayBeOwner {
		flags.BoolVar(&a.isOwner, "as-owner", false, "")
	}
}

// actor returns who to be, from the flags and what they leave out from the environment.
func (a *actorFlags) actor() (ledger.Actor, error) {
	if a.isOwner {
		if a.user != "" || a.tenant != "" {
			return ledger.Actor{}, wrongUse(a.name, "--as-owner is nobody's --as or --tenant: give one of them")
		}
		return ledger.Actor{IsOwner: true}, nil
	}
	who := ledger.Actor{User: a.user, Tenant: a.tenant}
	user, tenant := config.ActAs()
	if who.User == "" {
		who.User = user
	}
	if who.Tenant == "" {
		who.Tenant = tenant
	}
	if who.User == "" || who.Tenant == "" {
		orOwner := ""
		if a.mayBeOwner {
			orOwner = ", or --as-owner to read everything"
		}
		return who, wrongUse(a.name, "say who you are: --as USER --tenant TENANT (or APP_USER_ID and "+
			"APP_TENANT_ID)%s", orOwner)
	}
	return who, nil
}

// open returns who to be and a session of the login.
func (a *actorFlags) open(ctx context.Context) (ledger.Actor, *ledger.Owner, error) {
	who, err := a.actor()
	if err != nil {
		return who, nil, err
	}
	owner, err := openSession(ctx, a.database)
	return who, owner, err
}

// url returns the database that was named.
func (a *actorFlags) url() (string, error) { return databaseURL(a.database) }

// databaseURL returns --database, or DATABASE_URL.
func databaseURL(given string) (string, error) {
	if given == "" {
		given = config.DatabaseURL()
	}
	if given == "" {
		return "", &usageError{"set DATABASE_URL, or give --database postgres://user:password@host:5432/database"}
	}
	return given, nil
}

// openSession connects to --database, or DATABASE_URL. Its errors name the one that was given.
func openSession(ctx context.Context, given string) (*ledger.Owner, error) {
	url, err := databaseURL(given)
	if err != nil {
		return nil, err
	}
	owner, err := ledger.OpenOwner(ctx, url)
	if errors.Is(err, ledger.ErrMalformedURL) {
		return nil, &usageError{namedAsGiven(err, given).Error()}
	}
	return owner, namedAsGiven(err, given)
}

// reworded is an error in other words.
type reworded struct {
	text  string
	cause error
}

// Error returns the words.
func (e *reworded) Error() string { return e.text }

// Unwrap returns the error.
func (e *reworded) Unwrap() error { return e.cause }

// namedAsGiven names the flag in the place of the variable where the flag was given, and says once what a
// connection says for each of its attempts.
func namedAsGiven(err error, given string) error {
	if err == nil {
		return nil
	}
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	text := strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
	if given != "" {
		text = strings.ReplaceAll(text, "DATABASE_URL", "--database")
	}
	return &reworded{text, err}
}

// explainRights says what to do where the ledger is not there, or not the login's.
func explainRights(err error) error {
	var refusal interface{ SQLState() string }
	if !errors.As(err, &refusal) {
		return err
	}
	switch refusal.SQLState() {
	case "42P01", "3F000":
		return fmt.Errorf("%w; the database has no ledger: name another one, or run `logline migrate`", err)
	case "42501", "LL005":
		return fmt.Errorf("%w; use the login that owns the database (DATABASE_URL of up.env; on Supabase postgres)",
			err)
	}
	return err
}
