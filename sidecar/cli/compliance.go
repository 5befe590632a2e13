package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
)

const complianceHelp = `Usage: logline compliance [--html FILE] [--json] [--brief] [--strict] [--database URL]

Tests the seven principles on a ledger, each by statements that are really tried, as each role, in
transactions that are rolled back: 1 ledger first, 2 append-only, 3 Stage-0, 4 tenants apart, 5 everything
is a span, 6 governed by the manifest, 7 proofs. For each it shows the evidence: what must hold, the
statement, what Postgres answered. What could not be tested says why; what this version can not prove at all
(that needs the transparency log, which comes later) is said, too.

The login should own the database (on Supabase: postgres); any other sees a part. Set LOGLINE_TRUST_ROOT to
the fingerprint of the root key that you know.

    --html FILE      write one page for an auditor, too: readable when printed, with nothing from outside
    --json           one object: database, host, version, at, ok, failed, unchecked, trust_root, keys and the
                     principles, each with its evidence
    --brief          a line for each principle, and what is not ok
    --strict         what could not be tested counts as failed
    --url URL        of the sidecar that leads; default LOGLINE_URL, else LOGLINE_LISTEN on this machine
    --database URL   default: DATABASE_URL

Exit codes: 0 nothing has failed, 1 something has, 2 wrong use.

Examples:

    logline compliance --brief
    logline compliance --html compliance.html
    logline compliance --json | jq '.principles[] | {name, level}'
`

func runCompliance(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var file string
	var asJSON, isBrief, isStrict bool
	options := app.VerifyOptions{TrustRoot: config.TrustRoot(), Slot: config.Slot(),
		Publication: config.Publication()}
	url, err := parseOwner("compliance", complianceHelp, args, out, func(flags *flag.FlagSet) {
		stated(flags, &file, "html")
		flags.BoolVar(&asJSON, "json", false, "")
		flags.BoolVar(&isBrief, "brief", false, "")
		flags.BoolVar(&isStrict, "strict", false, "")
		flags.StringVar(&options.URL, "url", config.SidecarURL(), "")
	})
	if err != nil {
		return err
	}
	var page *os.File
	if file != "" {
		if page, err = openPage(file); err != nil {
			return err
		}
		defer func() { _, _ = page.Close(), os.Remove(page.Name()) }() // both done, where it was put in place
	}
	owner, err := openSession(ctx, url)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	said := out
	if file != "" && !isTerminal(out) { // whoever reads may leave early, and the page is to be written first
		var held bytes.Buffer
		said = &held
		defer func() { _, _ = held.WriteTo(out) }()
	}
	report, err := app.Comply(ctx, owner, options, func(p app.Principle) {
		switch {
		case !asJSON:
			tellPrinciple(said, p, isBrief)
		case isTerminal(errOut):
			fmt.Fprintf(errOut, "logline: %d of 7: %s\n", p.Number, p.Level)
		}
	})
	if err != nil {
		return explainRights(err)
	}
	if isStrict && report.Unchecked > 0 {
		report.OK = false
	}
	if asJSON {
		err = printJSON(said, report, false)
	} else {
		_, err = fmt.Fprintf(said, "%s at %s (Postgres %s) as %s: %d failed, %d could not be tested\n",
			report.Database, report.Host, report.Server, report.Login, report.Failed, report.Unchecked)
	}
	if err == nil && file != "" {
		err = writePage(page, file, report)
	}
	if err == nil && !report.OK {
		var failed []string
		for _, p := range report.Principles {
			if p.Level == app.Fault {
				failed = append(failed, fmt.Sprintf("%d. %s", p.Number, p.Name))
			}
		}
		return errUnsound(failed, report.Unchecked)
	}
	return err
}

// openPage makes the file that becomes the page, beside it: before the tests, so that they are not made for
// a page that can not be written. Its name is of no other's choosing.
func openPage(file string) (*os.File, error) {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return nil, wrongUse("compliance", "--html %q is there, and is no file", file)
	}
	page, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return nil, fmt.Errorf("make the page: %w", err)
	}
	return page, nil
}

// writePage writes the report and puts it in its place: a page is whole, or it is not.
func writePage(page *os.File, file string, report *app.Compliance) error {
	if err := errors.Join(report.WriteHTML(page), page.Close()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := os.Rename(page.Name(), file); err != nil {
		return fmt.Errorf("put the page in its place: %w", err)
	}
	return nil
}

func tellPrinciple(out io.Writer, p app.Principle, isBrief bool) {
	color := paintFor(out)
	level := func(l app.Level) string { return color.status(fmt.Sprintf("%-7s", l)) }
	inPart := ""
	if p.Later != "" {
		inPart = "; in part: this version can not prove all of it"
	}
	fmt.Fprintf(out, "%s %d. %s (%s%s)\n", level(p.Level), p.Number, p.Name, app.Tally(p.Evidence), inPart)
	if !isBrief {
		fmt.Fprintf(out, "        %s\n", color.dim(p.Meaning))
	}
	for _, e := range p.Evidence {
		if isBrief && e.Level == app.Fine {
			continue
		}
		fmt.Fprintf(out, "    %s %s\n", level(e.Level), e.Claim)
		if e.Statement != "" {
			fmt.Fprintf(out, "            %s: %s\n", plainText(e.As, 120), plainText(e.Statement, causeWidth))
		}
		fmt.Fprintf(out, "            -> %s\n", plainText(e.Answer, causeWidth))
		if e.Mend != "" && e.Level != app.Fine {
			fmt.Fprintf(out, "            mend: %s\n", plainText(e.Mend, causeWidth))
		}
	}
	if p.Later != "" && !isBrief {
		fmt.Fprintf(out, "    not proved by this version: %s\n", p.Later)
	}
	if !isBrief {
		fmt.Fprintln(out)
	}
}
