package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
)

const doctorHelp = `Usage: logline doctor [--json] [--database URL]

Looks at everything that ` + "`logline serve`" + ` needs, in the order in which it needs it, and changes
nothing: the way to the host, TLS, login, pooler, version, wal_level, right to replicate, slots and the WAL
that they keep, who leads, transactions that have been open for long, clocks, role, ledger, walls,
publication, manifest, signing key. Each line says ok, warn, fault or skipped, and what to do. What it
prints holds no password.

It reads the environment of ` + "`logline serve`" + `. Where a part can not be reached it looks at the rest.

    --json           one object a line: check, level, cause, mend
    --database URL   in the place of DATABASE_URL, for replication too

Exit codes: 0 no fault, 1 a fault, 2 wrong use.

Examples:

    DATABASE_URL=postgres://app:…@db.example:5432/postgres logline doctor
    logline doctor --json | jq 'select(.level == "fault")'
`

// errFaults is what a doctor who has found something ends with; the findings say it.
var errFaults = errors.New("there are faults; the first one is often the cause of the others")

func runDoctor(s signals, args []string, out, _ io.Writer) error {
	var asJSON bool
	var database string
	err := parse("doctor", doctorHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&asJSON, "json", false, "")
		stated(flags, &database, "database")
	})
	if err != nil {
		return err
	}
	load, named := config.Load, strings.NewReplacer()
	if database != "" {
		load = func() (*config.Config, error) { return config.LoadFor(database) }
		named = strings.NewReplacer("DATABASE_URL", "--database")
	} else {
		database = config.DatabaseURL()
	}
	c, fault := load()
	found := app.Doctor(s.stop, database, c, fault, app.ThisNetwork())
	color := paintFor(out)
	for _, f := range found {
		f.Cause, f.Mend = named.Replace(f.Cause), named.Replace(f.Mend)
		if asJSON {
			if err := printJSON(out, f, true); err != nil {
				return fmt.Errorf("print a finding: %w", err)
			}
			continue
		}
		fmt.Fprintf(out, "%s %-22s %s\n", color.status(fmt.Sprintf("%-8s", f.Level)), f.Check,
			plainText(f.Cause, causeWidth))
		if f.Mend != "" {
			fmt.Fprintf(out, "%31s mend: %s\n", "", plainText(f.Mend, causeWidth))
		}
	}
	if !app.Sound(found) {
		return errFaults
	}
	return nil
}
