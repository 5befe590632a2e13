package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
)

const loginHelp = `Usage: logline login [--name NAME] [--no-replication] [--print] [--json] [--database URL]

Makes the login by which the sidecar connects: a member of loglineos_sidecar and of nothing else, which may
replicate. Where it is there, it changes its password; one that is a member of something else besides, or what
clients are (anon …), is refused. The password is LOGLINE_PASSWORD; where that is not set, one is made, and
printed once. What the database is sent is a verifier (SCRAM-SHA-256): the password stands in no log and in
no statistics of the server.

    --name NAME       the login: logline_app
    --no-replication  for LOGLINE_SOURCE=poll, or a REPLICATION_URL of another login
    --print           print the statements, to paste where you can not connect from here; change nothing. A
                      password that is made goes to standard error
    --json            print {name, replicates, database_url} or {name, statements, password}: what was made
    --database URL    a superuser; on RDS the master user, on Supabase postgres; default: DATABASE_URL

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    LOGLINE_PASSWORD="$(openssl rand -hex 24)" logline login --database "$OWNER_URL"
    logline login --no-replication
    logline login --print
`

// loginMade is what --json prints.
type loginMade struct {
	Name       string   `json:"name"`
	Replicates bool     `json:"replicates"`
	Statements []string `json:"statements,omitempty"`
	Password   string   `json:"password,omitempty"`     // that was made, with Statements
	URL        string   `json:"database_url,omitempty"` // with the password that was made
}

func runLogin(s signals, args []string, out, errOut io.Writer) error {
	name, isPrinted, cannotReplicate, asJSON := "logline_app", false, false, false
	database, err := parseOwner("login", loginHelp, args, out, func(flags *flag.FlagSet) {
		stated(flags, &name, "name")
		flags.BoolVar(&cannotReplicate, "no-replication", false, "")
		flags.BoolVar(&isPrinted, "print", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	password, isGiven := config.LoginPassword()
	if !isGiven {
		random := make([]byte, 24)
		rand.Read(random) // never fails: crypto/rand
		password = hex.EncodeToString(random)
	}
	login, err := ledger.NewLogin(name, password, !cannotReplicate)
	switch {
	case isGiven && password == "":
		return wrongUse("login", "LOGLINE_PASSWORD is empty: set it, or unset it and one is made")
	case errors.Is(err, ledger.ErrLogin):
		return wrongUse("login", "%s", err)
	case err != nil:
		return err
	}
	made := loginMade{Name: name, Replicates: login.Replicates}
	if isPrinted {
		if made.Statements = login.Statements(); !isGiven {
			made.Password = password
		}
		return printLogin(out, errOut, made, asJSON)
	}
	if database, err = databaseURL(database); err != nil {
		return err
	}
	owner, err := openSession(s.stop, database)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(s.stop))
	if err := owner.MakeLogin(s.stop, login); err != nil {
		return fmt.Errorf("%w (where this login may not let others replicate: --no-replication)", err)
	}
	if parsed, err := url.Parse(database); !isGiven {
		if made.Password = password; err == nil && parsed.Host != "" {
			made.URL, made.Password = urlOf(parsed, name, password), ""
		}
	}
	return printLogin(out, errOut, made, asJSON)
}

// urlOf is where a URL leads, for another login. What it says behind the question mark of who comes would go
// before what stands in front.
func urlOf(owners *url.URL, name, password string) string {
	of, query := *owners, owners.Query()
	for _, key := range []string{"user", "password", "passfile", "service", "servicefile", "sslcert", "sslkey",
		"sslpassword"} {
		query.Del(key)
	}
	of.User, of.RawQuery = url.UserPassword(name, password), query.Encode()
	return of.String()
}

// printLogin prints what was made, a password where nobody knows it: beside statements on errOut, for they
// are pasted as they come.
func printLogin(out, errOut io.Writer, made loginMade, asJSON bool) error {
	if asJSON {
		return printJSON(out, made, false)
	}
	var text strings.Builder
	switch {
	case made.Statements != nil:
		text.WriteString(strings.Join(made.Statements, ";\n") + ";\n")
		if made.Password != "" {
			fmt.Fprintln(errOut, "logline: its password, kept nowhere else:", made.Password)
		}
	case made.Replicates:
		fmt.Fprintf(&text, "%s may log in and replicate\n", made.Name)
	default:
		fmt.Fprintf(&text, "%s may log in\n", made.Name)
	}
	if made.URL != "" {
		text.WriteString("DATABASE_URL=" + made.URL + "\n")
	} else if made.Statements == nil && made.Password != "" {
		text.WriteString("its password, kept nowhere else: " + made.Password + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}
