package supabase_test

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/platform"
	"github.com/loglineos/loglineos/tests/program"
)

// lint is what the CLI finds in the functions, advise what it finds in the whole schema.
func (p *project) lint() result {
	p.t.Helper()
	return p.ask("db", "lint", "--remote="+p.URL, "--schema", "ledger,engine,ledger_private",
		"--level", "warning", "--fail-on", "warning", "--workdir="+p.dir)
}

func (p *project) advise() result {
	p.t.Helper()
	return p.ask("db", "advisors", "--remote="+p.URL, "--level", "warn", "--fail-on", "warn", "--workdir="+p.dir)
}

// definers is what the dashboard's advisors report as anon_security_definer_function_executable, and the same
// for authenticated; those of the CLI do not have it yet.
const definers = `
select p.proname || ' ' || r.rolname
from pg_proc as p, pg_roles as r
where p.pronamespace in ('ledger'::regnamespace, 'public'::regnamespace)
	and p.prosecdef
	and r.rolname in ('anon', 'authenticated')
	and has_function_privilege(r.oid, p.oid, 'execute')
order by 1`

// What the advisors tell a user of the ledger: nothing. And they would: a fault is planted for each question.
func TestAdvisorsFindNothing(t *testing.T) {
	t.Parallel()
	p := pushed(t)
	if r := p.advise(); r.code != 0 {
		t.Errorf("supabase db advisors: %s", r)
	}
	if got := p.lines(definers); len(got) > 0 {
		t.Errorf("a client may call these with the owner's rights by their name: %v", got)
	}
	platform.Run(t, p.conn, `
create view ledger.planted as select * from ledger.universal_registry;
grant select on ledger.planted to anon;
create function ledger.planted_path() returns integer language sql as 'select 1';
create function ledger.planted_definer() returns integer language sql security definer set search_path = ''
	as 'select 1';
revoke all on function ledger.planted_definer() from public;
grant execute on function ledger.planted_definer() to anon;`)
	advice := p.advise()
	for _, finding := range []string{"security_definer_view", "function_search_path_mutable"} {
		if !strings.Contains(advice.stdout+advice.stderr, finding) {
			t.Errorf("advisors does not report the planted %s: %s", finding, advice)
		}
	}
	if advice.code == 0 {
		t.Error("advisors finds what was planted and exits with 0")
	}
	if got := p.lines(definers); !slices.Equal(got, []string{"planted_definer anon"}) {
		t.Errorf("of the planted definer function the query says %v", got)
	}
}

// The same of db lint, which is plpgsql_check.
func TestLintFindsNothing(t *testing.T) {
	t.Parallel()
	p := pushed(t)
	pgtest.NeedExtension(t, p.URL, "plpgsql_check")
	// On Supabase postgres may make it, by supautils.
	platform.Run(t, platform.Connect(t, p.AdminURL), "create extension plpgsql_check with schema extensions")
	if r := p.lint(); r.code != 0 {
		t.Errorf("supabase db lint: %s", r)
	}
	platform.Run(t, p.conn, `create function ledger.planted() returns integer language plpgsql set search_path = ''
		as 'begin return (select nothing from ledger.universal_registry); end'`)
	if r := p.lint(); r.code == 0 || !strings.Contains(r.stdout+r.stderr, "planted") {
		t.Errorf("lint does not report the planted bug: %s", r)
	}
}

// environment names the database to libpq's programs.
func environment(t *testing.T, databaseURL string) []string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return []string{"PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(),
		"PGPASSWORD=" + password, "PGDATABASE=" + strings.TrimPrefix(u.Path, "/"), "PGSSLMODE=disable"}
}

// The files of supabase/tests/database, as `supabase test db` runs them: by pg_prove, as postgres. And as a
// superuser, who is not the owner.
func TestPgProve(t *testing.T) {
	t.Parallel()
	prove := program.Find(t, "pg_prove")
	p := pushed(t)
	pgtest.NeedExtension(t, p.URL, "pgtap")
	platform.Run(t, platform.Connect(t, p.AdminURL), "create extension pgtap with schema extensions")
	files, err := filepath.Glob(filepath.Join(root, "supabase", "tests", "database", "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("list pgTAP files: %v, %d files", err, len(files))
	}
	for who, login := range map[string]string{"the owner": p.URL, "a superuser": p.AdminURL} {
		if r := command(t, "", environment(t, login), prove, files...); r.code != 0 ||
			!strings.Contains(r.stdout, "Result: PASS") {
			t.Errorf("pg_prove by %s: %s", who, r)
		}
	}
}
