// Package supabase_test shows that the ledger is at home on Supabase: the real CLI pushes, lints and advises,
// and supabase-js and curl speak to a PostgREST-compatible server, as docs/clients.md says they do.
//
//	Postgres with Supabase's roles (platform) ◄── supabase db push, lint, advisors, gen types, pg_prove
//	     ▲            ▲
//	     │            └── logline serve
//	     └── its Data API (@supabase/lite) ◄── every snippet of docs/clients.md, and checks.mjs
//
// What comes from npm or apt and is not there is skipped by name. Nothing here reaches beyond loopback.
package supabase_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/platform"
	"github.com/loglineos/loglineos/tests/program"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(program.Run(m, pgtest.Run)) }

// project is one Postgres as a new Supabase project has it.
type project struct {
	*platform.Project
	t    *testing.T
	conn *pgx.Conn // of postgres, the owner
	dir  string    // with a copy of the folder supabase, into which the CLI writes
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir(), Project: platform.New(t)}
	folder := os.DirFS(filepath.Join(root, "supabase"))
	if err := os.CopyFS(filepath.Join(p.dir, "supabase"), folder); err != nil {
		t.Fatal(err)
	}
	p.conn = platform.Connect(t, p.URL)
	return p
}

// pushed is newProject with all migrations.
func pushed(t *testing.T) *project {
	t.Helper()
	p := newProject(t)
	p.cli("db", "push", "--remote="+p.URL, "--yes", "--workdir="+p.dir)
	return p
}

// lines are the rows of a query with one column of text.
func (p *project) lines(query string, arguments ...any) []string {
	p.t.Helper()
	rows, err := p.conn.Query(p.t.Context(), query, arguments...)
	if err != nil {
		p.t.Fatalf("query: %v", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.t.Fatalf("query: %v", err)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// result is what a command said.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
}

// command runs a program to its end, however it ends, with these variables and nothing else of the
// environment but PATH and HOME.
func command(t *testing.T, stdin string, env []string, name string, arguments ...string) result {
	t.Helper()
	c := program.Command(name, arguments...)
	c.Env, c.Stdin = append(c.Env, env...), strings.NewReader(stdin)
	p := program.Launch(t, c)
	return result{code: p.Wait(), stdout: p.Out.String(), stderr: p.Err.String()}
}

// ask runs the Supabase CLI.
func (p *project) ask(arguments ...string) result {
	p.t.Helper()
	env := []string{"SUPABASE_TELEMETRY_DISABLED=1", "DO_NOT_TRACK=1", "SUPABASE_HOME=" + p.t.TempDir()}
	return command(p.t, "", env, node.Tool(p.t, "supabase"), append(arguments, "--agent=no")...)
}

// cli is ask that must succeed.
func (p *project) cli(arguments ...string) result {
	p.t.Helper()
	r := p.ask(arguments...)
	if r.code != 0 {
		p.t.Fatalf("supabase %s: %s", strings.Join(arguments[:2], " "), r)
	}
	return r
}
