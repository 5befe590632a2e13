package e2e_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// local is one `logline up`.
type local struct {
	*program.Process
	t   *testing.T
	dir string
	env map[string]string // of DIR/up.env
}

// up starts `logline up` on dir and waits for its ready line.
func up(t *testing.T, dir string, more ...string) *local {
	t.Helper()
	p := program.Start(t, nil, append([]string{"up", "--data-dir", dir, "--listen", "127.0.0.1:0"}, more...)...)
	t.Cleanup(func() { // one that runs would start its Postgres anew
		p.Kill()
		stopPostgres(t, dir)
	})
	program.Eventually(t, "the ready line is there", func() bool {
		return strings.Contains(p.Out.String(), "ready      http://") || p.HasEnded()
	})
	if p.HasEnded() {
		t.Fatalf("up has ended with %d:\n%s", p.Code(), p.Err.String())
	}
	if postmaster(t, dir) == 0 { // it would outlive the test
		t.Errorf("the Postgres of %s is elsewhere: make the folder by pgtest.Dir", dir)
	}
	l := &local{Process: p, t: t, dir: dir, env: readEnv(t, filepath.Join(dir, "up.env"))}
	return l
}

var export = regexp.MustCompile(`(?m)^export ([A-Z_]+)='(.*)'$`)

func readEnv(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, match := range export.FindAllStringSubmatch(string(text), -1) {
		env[match[1]] = match[2]
	}
	return env
}

// postmaster is the pid of the Postgres of dir, 0 where none is noted.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "pg*", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		return 0
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return 0 // it has ended just now
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return pid
}

// stopPostgres ends what a killed up has left.
func stopPostgres(t *testing.T, dir string) {
	t.Helper()
	pid := postmaster(t, dir)
	if pid == 0 || program.IsGone(pid) {
		return
	}
	if process, err := os.FindProcess(pid); err == nil {
		_ = process.Signal(syscall.SIGQUIT) // it may have ended just now
	}
	for range 1000 {
		if program.IsGone(pid) {
			return
		}
		pause(pollEvery)
	}
	t.Errorf("Postgres %d of %s does not end", pid, dir)
}

// query reads one number from the database of up.env.
func (l *local) query(sql string) int {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, l.env["DATABASE_URL"])
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// exec runs a statement in the database of up.env.
func (l *local) exec(sql string) {
	l.t.Helper()
	conn, err := pgx.Connect(l.t.Context(), l.env["DATABASE_URL"])
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close(l.t.Context())
	if _, err := conn.Exec(l.t.Context(), sql); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
}

func TestUpServesStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	first := up(t, dir)
	checkEnv(t, first)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/nowhere": 404} {
		response, err := http.Get(first.env["LOGLINE_URL"] + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("GET %s answers %d, want %d", path, response.StatusCode, want)
		}
	}
	const executions = "select count(*) from ledger.universal_registry where entity_type = 'execution'"
	if n := first.query(executions); n != 1 {
		t.Errorf("%d executions, want that of the example", n)
	}
	if !strings.Contains(first.Out.String(), "Hello, Alice!") {
		t.Errorf("the timeline of the example is not printed:\n%s", first.Out.String())
	}

	second := program.Start(t, nil, "up", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if code := second.Wait(); code != 2 {
		t.Errorf("a second up on the same directory ends with %d, want 2", code)
	}
	for _, want := range []string{dir, first.env["LOGLINE_URL"], strconv.Itoa(first.Pid())} {
		if !strings.Contains(second.Err.String(), want) {
			t.Errorf("the second up says %q, want %q in it", second.Err.String(), want)
		}
	}

	postgres := postmaster(t, dir)
	if code := first.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends with %d", code)
	}
	if postgres == 0 || !program.IsGone(postgres) {
		t.Errorf("Postgres %d outlives Ctrl-C", postgres)
	}

	third := up(t, dir, "--quiet")
	if n := third.query(executions); n != 2 {
		t.Errorf("%d executions after a second start, want 2: the data is kept and the example ran again", n)
	}
	if third.env["LOGLINE_JWT_SECRET"] != first.env["LOGLINE_JWT_SECRET"] {
		t.Error("the secret of the tokens changes with a restart")
	}
	if lines := strings.Count(third.Out.String(), "\n"); lines != 1 {
		t.Errorf("--quiet prints %d lines:\n%s", lines, third.Out.String())
	}
}

// checkEnv looks at every name of docs/contract.md §8.
func checkEnv(t *testing.T, l *local) {
	t.Helper()
	info, err := os.Stat(filepath.Join(l.dir, "up.env"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("up.env has the mode %s", info.Mode())
	}
	for token, want := range map[string]user{"LOGLINE_TOKEN_ALICE": alice, "LOGLINE_TOKEN_BOB": bob} {
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(l.env[token], claims, func(*jwt.Token) (any, error) {
			return []byte(l.env["LOGLINE_JWT_SECRET"]), nil
		}, jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience("authenticated"), jwt.WithExpirationRequired())
		if err != nil {
			t.Errorf("%s: %v", token, err)
			continue
		}
		expires, err := claims.GetExpirationTime()
		if err != nil {
			t.Fatal(err)
		}
		app, _ := claims["app_metadata"].(map[string]any)
		if claims["sub"] != want.sub || app["tenant_id"] != want.tenant || claims["role"] != "authenticated" ||
			time.Until(expires.Time) < 29*24*time.Hour || time.Until(expires.Time) > 31*24*time.Hour {
			t.Errorf("%s has the claims %v", token, claims)
		}
	}
	if !strings.HasPrefix(l.env["DATABASE_URL"], "postgres://") {
		t.Errorf("DATABASE_URL is %q", l.env["DATABASE_URL"])
	}
	if n := l.query("select (rolsuper)::int from pg_roles where rolname = current_user"); n != 1 {
		t.Error("DATABASE_URL is not the owner's")
	}
}

// The example ends well under a manifest that wants functions signed, the first time and the next.
func TestUpSignsItsExampleWhereItMust(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	const completed = `select count(*) from ledger.universal_registry where entity_type = 'execution'
		and status = 'complete' and trace_id like 'example-%'`
	const signed = `select count(*) from ledger.universal_registry where entity_type = 'function'
		and owner_id = 'alice' and signature is not null`
	first := up(t, dir)
	if n := first.query(signed); n != 0 {
		t.Errorf("%d functions of alice's are signed, and none need be", n)
	}
	env := []string{"DATABASE_URL=" + first.env["DATABASE_URL"],
		"LOGLINE_TRUST_ROOT=" + first.env["LOGLINE_TRUST_ROOT"]}
	printed := program.Start(t, env, "manifest")
	if code := printed.Wait(); code != 0 {
		t.Fatal(printed.Err.String())
	}
	var document map[string]any
	if err := json.NewDecoder(strings.NewReader(printed.Out.String())).Decode(&document); err != nil {
		t.Fatal(err)
	}
	document["features"] = map[string]any{"signatures_required": true}
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "manifest.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := program.Start(t, env, "manifest", "--file", file, "--key", filepath.Join(dir, "root.key"))
	if code := changed.Wait(); code != 0 {
		t.Fatal(changed.Err.String())
	}
	first.Stop(syscall.SIGINT)
	for n := range 2 {
		next := up(t, dir)
		if got := next.query(completed); got != n+2 || !strings.Contains(next.Out.String(), "Hello, Alice!") {
			t.Errorf("start %d: %d examples have completed:\n%s", n, got, next.Out.String())
		}
		if got := next.query(signed); got != n+1 {
			t.Errorf("start %d: %d versions are signed", n, got)
		}
		next.Stop(syscall.SIGINT)
	}
	if err := os.Rename(filepath.Join(dir, "root.key"), filepath.Join(dir, "elsewhere.key")); err != nil {
		t.Fatal(err)
	}
	last := up(t, dir)
	if got := last.query(completed); got != 3 || !strings.Contains(last.Out.String(), "example    left out") {
		t.Errorf("without the root key: %d examples have completed:\n%s", got, last.Out.String())
	}
	last.Stop(syscall.SIGINT)
}

func TestUpAdoptsThePostgresOfAKilledUp(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	killed := up(t, dir, "--quiet")
	postgres := postmaster(t, dir)
	killAndCheckBut(t, killed.Process, postgres)
	if postgres == 0 || program.IsGone(postgres) {
		t.Fatalf("Postgres %d has not survived the kill of up", postgres)
	}
	next := up(t, dir)
	if pid := postmaster(t, dir); pid != postgres {
		t.Errorf("Postgres was %d and is %d", postgres, pid)
	}
	if !strings.Contains(next.Out.String(), "adopted") {
		t.Errorf("up does not say that it adopted Postgres:\n%s", next.Out.String())
	}
	if strings.Contains(next.Out.String(), "daily quotas") {
		t.Errorf("up says that it sets quotas, of a manifest that is there:\n%s", next.Out.String())
	}
	if code := next.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends with %d", code)
	}
	// It is no child, so nobody waits for the last instant of its exit.
	const what = "the adopted Postgres ends with Ctrl-C"
	program.Eventually(t, what, func() bool { return program.IsGone(postgres) })
}

// killAndCheckBut is killAndCheck, where one child is meant to live on.
func killAndCheckBut(t *testing.T, p *program.Process, survivor int) {
	t.Helper()
	children := p.Children()
	p.Kill()
	for _, pid := range children {
		if pid != survivor {
			program.Eventually(t, "a child of the killed up ends", func() bool { return program.IsGone(pid) })
		}
	}
}

func TestTwoUpsSideBySide(t *testing.T) {
	t.Parallel()
	a, b := up(t, pgtest.Dir(t), "--quiet"), up(t, pgtest.Dir(t), "--quiet")
	if a.env["LOGLINE_URL"] == b.env["LOGLINE_URL"] || a.env["DATABASE_URL"] == b.env["DATABASE_URL"] ||
		a.env["LOGLINE_JWT_SECRET"] == b.env["LOGLINE_JWT_SECRET"] {
		t.Error("two directories share an address, a database or a secret")
	}
	for _, l := range []*local{a, b} {
		l.AwaitReady()
		if code := l.Stop(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM ends with %d", code)
		}
	}
}

func TestUpNamesATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := pgtest.Dir(t)
	p := program.Start(t, nil, "up", "--data-dir", dir, "--listen", taken.Addr().String())
	if code := p.Wait(); code != 1 || !strings.Contains(p.Err.String(), taken.Addr().String()) {
		t.Errorf("exit %d: %s", code, p.Err.String())
	}
	if postmaster(t, dir) != 0 {
		t.Error("it has started Postgres before it looked at the port")
	}
}

func TestWrongUseIsExitCode2(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args []string
		code int
		says string // on the output for 0, on the error else
	}{
		{nil, 0, "logline up"},
		{[]string{"help"}, 0, "logline serve"},
		{[]string{"--help"}, 0, "logline up"},
		{[]string{"help", "up"}, 0, "--data-dir"},
		{[]string{"up", "--help"}, 0, "--listen"},
		{[]string{"serve", "-h"}, 0, "DATABASE_URL"},
		{[]string{"version"}, 0, "."},
		{[]string{"fly"}, 2, `"fly"`},
		{[]string{"help", "fly"}, 2, `"fly"`},
		{[]string{"up", "--fast"}, 2, "fast"},
		{[]string{"up", "now"}, 2, `"now"`},
		{[]string{"up", "--listen", "nowhere"}, 2, "host:port"},
		{[]string{"serve", "--database", "x"}, 2, "database"},
		{[]string{"migrate"}, 2, "DATABASE_URL"},
		{[]string{"bootstrap"}, 2, "DATABASE_URL"},
	}
	for _, c := range cases {
		t.Run(strings.Join(append([]string{"logline"}, c.args...), " "), func(t *testing.T) {
			p := program.Start(t, nil, c.args...)
			code, said := p.Wait(), p.Err.String()
			if c.code == 0 {
				said = p.Out.String()
			}
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d; it says %q, want %q in it", code, c.code, said, c.says)
			}
		})
	}
}
