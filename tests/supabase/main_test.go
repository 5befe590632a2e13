// Package supabase_test shows that the ledger is at home on Supabase: the real CLI pushes, lints and advises,
// and supabase-js and curl speak to a PostgREST-compatible server, as docs/clients.md says they do.
//
//	Postgres with Supabase's roles (platform.sql) ◄── supabase db push, lint, advisors, gen types, pg_prove
//	     ▲            ▲
//	     │            └── logline serve
//	     └── server.mjs (@supabase/lite) ◄── every snippet of docs/clients.md, and checks.mjs
//
// What comes from npm or apt and is not there is skipped by name. Nothing here reaches beyond loopback.
package supabase_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const (
	root = "../.."
	// patience bounds each command and each wait; on an idle machine they take a second or two.
	patience = 60 * time.Second
)

// logline is the path of the binary, built by TestMain.
var logline string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "loglineos-supabase-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "supabase: make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	logline = filepath.Join(dir, "logline")
	build := exec.Command("go", "build", "-o", logline, "github.com/loglineos/loglineos/sidecar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "supabase: build the binary:", err)
		return 1
	}
	return pgtest.Run(m)
}

// project is one Postgres as a new Supabase project has it.
type project struct {
	t     *testing.T
	admin string // URL of supabase_admin, the superuser
	url   string // URL of postgres, who owns the database and is no superuser
	conn  *pgx.Conn
	dir   string // with a copy of the folder supabase, into which the CLI writes
}

// newProject starts a Postgres of its own: Supabase's roles belong to the whole server, and the superuser's
// name there is supabase_admin.
func newProject(t *testing.T) *project {
	t.Helper()
	db := pgtest.NewCluster(t, nil).Empty(t)
	p := &project{t: t, dir: t.TempDir()}
	folder := os.DirFS(filepath.Join(root, "supabase"))
	if err := os.CopyFS(filepath.Join(p.dir, "supabase"), folder); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, db.URL), "create role renamer superuser login password 'renamer'")
	run(t, connect(t, as(t, db.URL, "renamer", "renamer")),
		"alter role postgres rename to supabase_admin; alter role supabase_admin password 'admin'")
	p.admin = as(t, db.URL, "supabase_admin", "admin")
	admin := connect(t, p.admin)
	run(t, admin, "drop role renamer")
	run(t, admin, read(t, "platform.sql"))
	p.url = as(t, db.URL, "postgres", "postgres")
	p.conn = connect(t, p.url)
	return p
}

// pushed is newProject with all migrations.
func pushed(t *testing.T) *project {
	t.Helper()
	p := newProject(t)
	p.cli("db", "push", "--remote="+p.url, "--yes", "--workdir="+p.dir)
	return p
}

// as is databaseURL for another login.
func as(t *testing.T, databaseURL, user, password string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// run sends a text of many statements, as psql would.
func run(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	if err := conn.PgConn().Exec(t.Context(), text).Close(); err != nil {
		t.Fatalf("run %.60q: %v", text, err)
	}
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, name, arguments...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &stdout, &stderr
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	c.WaitDelay = time.Second
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s %v: %v\n%s", name, arguments, err, stderr.String())
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %v does not end within %s:\n%s%s", name, arguments, patience, stdout.String(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// program is a program of tests/node, or the test is skipped.
func program(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(root, "tests", "node", "node_modules", ".bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed: npm ci --prefix tests/node", name)
	}
	out, err := exec.Command("node", "--version").Output()
	if err != nil {
		t.Skip("node is not installed (Debian's package nodejs)")
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if number, err := strconv.Atoi(major); err != nil || number < 20 {
		t.Skipf("node is %s, supabase-js needs 20 or later", strings.TrimSpace(string(out)))
	}
	return path
}

// ask runs the Supabase CLI.
func (p *project) ask(arguments ...string) result {
	p.t.Helper()
	env := []string{"SUPABASE_TELEMETRY_DISABLED=1", "DO_NOT_TRACK=1", "SUPABASE_HOME=" + p.t.TempDir()}
	return command(p.t, "", env, program(p.t, "supabase"), append(arguments, "--agent=no")...)
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
