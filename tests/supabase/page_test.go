package supabase_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/platform"
	"github.com/loglineos/loglineos/tests/program"
)

// promised is what docs/supabase.md says that its way takes; a person types for most of it.
const promised = 10 * time.Minute

// pasteLimit is what the dashboard's SQL editor takes, in bytes: its check is a little below 1 MB.
const pasteLimit = 980_000

// somebody is a user of Supabase with a project of his own, a migration and a table in it, in a folder beside
// a clone of this repository.
type somebody struct {
	*project
	folder string
	env    []string
}

func newSomebody(t *testing.T) *somebody {
	t.Helper()
	cli := node.Tool(t, "supabase")
	u := &somebody{project: newProject(t), folder: t.TempDir()}
	configuration := "project_id = \"somebody\"\n"
	for _, b := range pages.Blocks(t, "docs/supabase.md") {
		if b.Language == "toml" {
			configuration += b.Text // the CLI reads it with each command
		}
	}
	for name, text := range map[string]string{
		"supabase/config.toml": configuration,
		"supabase/migrations/20270101000000_own.sql": "create table public.own (id bigint primary key);\n" +
			"alter table public.own enable row level security;\n",
	} {
		path := filepath.Join(u.folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		save(t, path, text)
	}
	clone, err := filepath.Abs(root)
	if err == nil {
		err = os.Symlink(clone, filepath.Join(u.folder, "loglineos"))
	}
	if err != nil {
		t.Fatal(err)
	}
	u.env = []string{program.OnPath(filepath.Dir(cli)),
		"OWNER_URL=" + u.URL, "SIDECAR_PASSWORD=sidecar-password", "SUPABASE_YES=true",
		"SIDECAR_URL=" + platform.As(t, u.URL, "logline_app", "sidecar-password"),
		"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_WORKERS=2", "LOGLINE_NODE=tests",
		"SUPABASE_TELEMETRY_DISABLED=1", "DO_NOT_TRACK=1", "SUPABASE_HOME=" + t.TempDir()}
	u.types("supabase db push --remote \"$OWNER_URL\"\n")
	return u
}

// types has bash run what stands on the page, which must succeed, and returns what it prints.
func (u *somebody) types(text string) string {
	u.t.Helper()
	r := command(u.t, "cd '"+u.folder+"'\nset -euo pipefail\n"+text, u.env, "bash")
	if r.code != 0 {
		u.t.Fatalf("%s: %s", text, r)
	}
	return r.stdout + r.stderr
}

// The way of the page from a project to the first execution, with the CLI and the slot, and by pasting and
// polling: each command as it stands there.
func TestTheSupabasePage(t *testing.T) {
	t.Parallel()
	set, blocks := pages.Marked(t, "docs/supabase.md"), map[string]string{}
	for name, words := range map[string]string{
		"push": "loglineos/supabase/migrations", "advise": "db advisors", "hook": "optional/tenant_claim.sql",
		"login": "logline login", "bootstrap": "logline bootstrap", "doctor": "logline doctor",
		"poll": "LOGLINE_SOURCE=poll logline serve", "serve": "\"$OWNER_URL\" logline serve",
		"first": "'double'", "checks": "logline verify",
	} {
		blocks[name] = set.Take(words).Text
	}
	want := set.Take("'double'").Shows
	push := func(u *somebody) { u.types(blocks["push"] + blocks["hook"]) }
	for name, way := range map[string]struct {
		install func(u *somebody)
		serve   string
	}{
		"by the CLI, streaming as postgres":   {push, "serve"},
		"by the CLI, streaming as the member": {push, "as the member"},
		"by pasting, polling":                 {(*somebody).pastes, "poll"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newSomebody(t)
			began := time.Now()
			way.install(u)
			u.types(blocks["advise"])
			u.types(blocks["login"] + blocks["bootstrap"])
			serve := blocks[way.serve]
			if way.serve == "as the member" {
				u.mayReplicate()
				serve = strings.Replace(blocks["serve"], ` REPLICATION_URL="$OWNER_URL"`, "", 1)
			}
			command := program.Command("bash", "-c", "exec env "+serve)
			command.Dir, command.Env = u.folder, append(command.Env, u.env...)
			program.Launch(t, command)
			program.Eventually(t, "a sidecar leads", u.isLed)
			if got := u.types(blocks["first"]); !strings.HasSuffix(got, want) {
				t.Errorf("the first function prints\n%s\nthe page shows\n%s", got, want)
			}
			if took := time.Since(began); took > promised {
				t.Errorf("it took %s", took)
			} else {
				t.Logf("the commands from the project to its first execution took %s", took.Round(time.Second))
			}
			u.types(blocks["checks"])
			if way.serve == "serve" {
				u.types(blocks["doctor"])
			}
			if fallen := u.lines("select concat_ws(' ', wall, problem) from ledger.guard_check()"); len(fallen) > 0 {
				t.Errorf("walls that do not stand: %q", fallen)
			}
			if own := u.lines("select to_regclass('public.own')::text"); own[0] != "own" {
				t.Errorf("the table that was there is now %v", own)
			}
		})
	}
}

// mayReplicate does what the page's table says of Postgres 17, as the owner. Postgres 16 can do it, too, but
// Supabase has none.
func (u *somebody) mayReplicate() {
	u.t.Helper()
	const statement = "alter role logline_app replication;"
	if !strings.Contains(read(u.t, filepath.Join(root, "docs/supabase.md")), "`"+statement+"`") {
		u.t.Errorf("the page does not say %q", statement)
	}
	if len(u.lines("select 'old' where current_setting('server_version_num')::int < 160000")) > 0 {
		u.t.Skip("skipped, a member that replicates: only a superuser may make one before Postgres 16 (PG=17)")
	}
	platform.Run(u.t, u.conn, statement)
}

// pastes puts the whole text into the SQL editor: one message to the server, as postgres. Then the CLI, with
// the files, has nothing to do.
func (u *somebody) pastes() {
	u.t.Helper()
	for _, name := range []string{"sql/dist/loglineos.sql", "supabase/optional/tenant_claim.sql"} {
		text := read(u.t, filepath.Join(root, name))
		if len(text) > pasteLimit {
			u.t.Errorf("%s has %d bytes, the SQL editor takes %d", name, len(text), pasteLimit)
		}
		platform.Run(u.t, u.conn, text)
	}
	u.types("cp loglineos/supabase/migrations/*_loglineos_*.sql supabase/migrations/")
	if said := u.types(`supabase db push --remote "$OWNER_URL" --include-all`); !strings.Contains(
		strings.ToLower(said), "up to date") {
		u.t.Errorf("the CLI would push again what was pasted: %s", said)
	}
}

func (u *somebody) isLed() bool {
	u.t.Helper()
	return len(u.lines("select 'made' where to_regclass('engine.leader') is not null")) > 0 &&
		len(u.lines("select node from engine.leader")) > 0
}
