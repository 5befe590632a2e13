package supabase_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/program"
)

const history = "select version || ' ' || name from supabase_migrations.schema_migrations order by version"

// migrations are the version and name of each file of supabase/migrations.
func migrations(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "supabase", "migrations", "*.sql"))
	if err != nil || len(files) < 2 {
		t.Fatalf("list migrations: %v, %d files", err, len(files))
	}
	var all []string
	for _, file := range files {
		all = append(all, strings.Replace(strings.TrimSuffix(filepath.Base(file), ".sql"), "_", " ", 1))
	}
	return all
}

// migrate runs `logline migrate` as the owner.
func (p *project) migrate() result {
	p.t.Helper()
	r := command(p.t, "", []string{"DATABASE_URL=" + p.URL}, program.Logline(), "migrate")
	if r.code != 0 {
		p.t.Fatalf("logline migrate: %s", r)
	}
	return r
}

// wantListed fails unless `supabase migration list` names each version on both sides.
func (p *project) wantListed() {
	p.t.Helper()
	list := p.cli("migration", "list", "--remote="+p.URL, "--workdir="+p.dir)
	for _, m := range migrations(p.t) {
		version, _, _ := strings.Cut(m, " ")
		both := regexp.MustCompile(version + `\D+` + version)
		if !both.MatchString(list.stdout + list.stderr) {
			p.t.Errorf("migration list has no %s on both sides: %s", version, list)
		}
	}
}

func TestPushInstallsAndThenHasNothingToDo(t *testing.T) {
	t.Parallel()
	p := pushed(t)
	if got := p.lines(history); !slices.Equal(got, migrations(t)) {
		t.Errorf("history is %v, want %v", got, migrations(t))
	}
	if fallen := p.lines("select concat_ws(' ', wall, problem) from ledger.guard_check()"); len(fallen) > 0 {
		t.Errorf("walls that do not stand: %q", fallen)
	}
	again := p.cli("db", "push", "--remote="+p.URL, "--yes", "--workdir="+p.dir)
	if !strings.Contains(strings.ToLower(again.stdout+again.stderr), "up to date") {
		t.Errorf("the second push does not say that nothing is to do: %s", again)
	}
	p.wantListed()
	p.migrate()
	if got := p.lines(history); !slices.Equal(got, migrations(t)) {
		t.Errorf("after logline migrate the history is %v, want %v", got, migrations(t))
	}
	if got := p.lines("select pg_get_userbyid(relowner)::text from pg_class where oid = $1::regclass",
		"ledger.universal_registry"); !slices.Equal(got, []string{"postgres"}) {
		t.Errorf("the ledger is owned by %v", got)
	}
}

func TestCLIKnowsWhatLoglineMigrated(t *testing.T) {
	t.Parallel()
	node.Tool(t, "supabase")
	p := newProject(t)
	p.migrate()
	p.wantListed()
	push := p.cli("db", "push", "--remote="+p.URL, "--yes", "--workdir="+p.dir)
	if !strings.Contains(strings.ToLower(push.stdout+push.stderr), "up to date") {
		t.Errorf("the CLI would push again what logline has migrated: %s", push)
	}
}

// A project on the first version gets what came since, and keeps its rows.
func TestPushUpgrades(t *testing.T) {
	t.Parallel()
	node.Tool(t, "supabase")
	p := newProject(t)
	first := t.TempDir()
	for _, name := range []string{"config.toml", "seed.sql", "migrations/20261123000000_loglineos_0_1_0.sql"} {
		target := filepath.Join(first, "supabase", name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, []byte(read(t, filepath.Join(root, "supabase", name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.cli("db", "push", "--remote="+p.URL, "--yes", "--include-seed", "--workdir="+first)
	if got, want := p.lines(history), migrations(t)[:1]; !slices.Equal(got, want) {
		t.Fatalf("history is %v, want %v", got, want)
	}
	const rows = "select md5(string_agg(r::text, ',' order by id, seq)) || count(*) from ledger.universal_registry r"
	before := p.lines(rows)
	p.cli("db", "push", "--remote="+p.URL, "--yes", "--workdir="+p.dir)
	if after := p.lines(rows); !slices.Equal(before, after) || strings.HasSuffix(before[0], "e0") {
		t.Errorf("rows before %v, after %v", before, after)
	}
	p.wantListed()
}
