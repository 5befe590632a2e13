// Package examples_test runs the automations of docs/examples as a reader does: the commands of each
// README.md, the real binary beside a real Postgres, and what the page shows compared with what they print.
//
//	README.md ──blocks──► run.sh ──psql──► Postgres ◄── logline serve ──► a provider on loopback
//	                      client.mjs ──► server.mjs ──┘
//
// Each test takes a Postgres of its own. What needs psql, or Node and its packages, is skipped by name
// without.
package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

const (
	root = "../.."
	// patience bounds each wait; a boundary of the minute and a busy machine fit in.
	patience = 150 * time.Second
)

func TestMain(m *testing.M) { os.Exit(program.Run(m, pgtest.Run)) }

// system is a ledger with a sidecar beside it.
type system struct {
	t     *testing.T
	owner string   // URL of the login that owns the database
	serve []string // environment of the sidecar
	stop  func()   // of the sidecar that start has started
	env   []string // of the commands of a page
}

// setup makes a ledger as `logline migrate` and `logline bootstrap` do, and starts a sidecar with more of an
// environment.
func setup(t *testing.T, more ...string) *system {
	t.Helper()
	program.Need(t, "psql", "bash")
	db := pgtest.NewCluster(t, nil).New(t)
	s := &system{t: t, owner: db.URL, env: []string{"DATABASE_URL=" + db.URL}}
	s.serve = append([]string{"DATABASE_URL=" + db.SidecarURL}, more...)
	s.logline("bootstrap")
	s.start()
	return s
}

// logline runs a command to its end, which must be a good one.
func (s *system) logline(arguments ...string) string {
	s.t.Helper()
	said, err := s.command(program.Logline(), arguments...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("logline %s: %v\n%s", strings.Join(arguments, " "), err, said)
	}
	return string(said)
}

// command is a program in the root of the repository, with the environment of a reader.
func (s *system) command(name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(s.t.Context(), name, arguments...)
	command.Dir, command.WaitDelay = root, time.Second
	command.Env = append([]string{program.OnPath(), "HOME=" + os.Getenv("HOME")}, s.env...)
	return command
}

// start runs `logline serve` until stop, or the test's end, and waits until it is ready.
func (s *system) start() {
	s.t.Helper()
	sidecar := program.Start(s.t, append([]string{"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=examples",
		"LOGLINE_WORKERS=2"}, s.serve...), "serve").AwaitReady()
	s.stop = func() { sidecar.Stop(syscall.SIGINT) }
}

func (s *system) await(what string, done func() bool) {
	s.t.Helper()
	if !program.Within(s.t, patience, done) {
		s.t.Fatalf("not within %s: %s", patience, what)
	}
}

// read runs the blocks of an example's page that name this test, in order, and compares what they print. Of
// before, each runs ahead of the block of its place.
func (s *system) read(set *pages.Set, before map[int]func()) {
	s.t.Helper()
	for i, b := range set.All() {
		if i == 0 {
			s.watch(path.Dir(b.Page))
		}
		if first := before[i]; first != nil {
			first()
		}
		said := s.paste(b.Text)
		if missing := missingLine(b.Shows, said); missing != "" {
			s.t.Fatalf("%s:%d: `%s` does not print\n%s\nbut\n%s", b.Page, b.Line, b.Text, missing, said)
		}
	}
}

// watch reads the files of an example, so that go test runs again where one has changed: it sees what we read
// alone.
func (s *system) watch(folder string) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*"))
	for _, name := range files {
		if err == nil {
			_, err = os.ReadFile(name)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// paste runs commands as a reader does and returns what they print.
func (s *system) paste(text string) string {
	s.t.Helper()
	command := s.command("bash", "-euo", "pipefail", "-c", text)
	limit := time.AfterFunc(patience, func() { _ = command.Cancel() }) // it may have ended
	defer limit.Stop()
	var stderr bytes.Buffer
	command.Stderr = &stderr
	said, err := command.Output()
	if err != nil {
		s.t.Fatalf("%s\n%v\n%s%s", text, err, said, stderr.String())
	}
	return string(said)
}

var spaces = regexp.MustCompile(`\s+`)

// missingLine returns the first line that is shown and not said; … stands for anything, and so does the width
// of a column.
func missingLine(shows, said string) string {
	for line := range strings.Lines(shows) {
		if line = strings.TrimSpace(line); line == "" || strings.Trim(line, "-+") == "" {
			continue
		}
		form := strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
		form = spaces.ReplaceAllString(form, `\s+`)
		if !regexp.MustCompile(`(?m)^\s*` + form + `\s*$`).MatchString(said) {
			return line
		}
	}
	return ""
}

// user is who a token names.
type user struct{ sub, tenant string }

var (
	alice = user{"alice", "acme"}
	ops   = user{"ops", "acme"}
	bob   = user{"bob", "globex"}
)

// as runs do in a transaction as PostgREST makes it.
func (s *system) as(u user, do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx := s.t.Context()
	conn, err := pgx.Connect(ctx, s.owner)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.Background())
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('role', 'authenticated', true), set_config('request.jwt.claims',
			json_build_object('sub', $1::text, 'app_metadata', json_build_object('tenant_id', $2::text))::text, true)`,
			u.sub, u.tenant)
		if err != nil {
			return fmt.Errorf("take the role: %w", err)
		}
		return do(ctx, tx)
	})
}

// text asks one question as a user and returns the answer.
func (s *system) text(u user, query string, arguments ...any) (answer string) {
	s.t.Helper()
	err := s.as(u, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "select coalesce(("+query+")::text, '')", arguments...).Scan(&answer)
	})
	if err != nil {
		s.t.Fatalf("%s, as %s: %v", query, u.sub, err)
	}
	return answer
}

// write runs a statement as a user and returns the code of its refusal, empty where there is none.
func (s *system) write(u user, statement string, arguments ...any) (code string) {
	s.t.Helper()
	err := s.as(u, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement, arguments...)
		return err
	})
	var refusal *pgconn.PgError
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case err != nil:
		s.t.Fatalf("%s, as %s: %v", statement, u.sub, err)
	}
	return ""
}

// becomes waits until a question has this answer.
func (s *system) becomes(want string, u user, query string, arguments ...any) {
	s.t.Helper()
	s.await(query+" is "+want, func() bool { return s.text(u, query, arguments...) == want })
}
