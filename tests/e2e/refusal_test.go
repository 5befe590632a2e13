package e2e_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	accounts "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// atOnce is how soon a sidecar that cannot work must say so: no loop of retries.
const atOnce = 20 * time.Second

// refusedStart starts a sidecar that must end with this code and say all of these.
func refusedStart(t *testing.T, env []string, code int, says ...string) *program.Process {
	t.Helper()
	p := program.Start(t, env, "serve")
	if !program.Within(t, atOnce, p.HasEnded) {
		t.Fatalf("the sidecar still runs after %s:\n%s", atOnce, p.Err.String())
	}
	if p.Code() != code {
		t.Errorf("exit code %d, want %d", p.Code(), code)
	}
	_, said, _ := strings.Cut("\n"+p.Err.String(), "\nlogline: ")
	for _, want := range says {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, want %q in it", said, want)
		}
	}
	if strings.Contains(p.Err.String(), "goroutine ") {
		t.Errorf("it panics:\n%s", p.Err.String())
	}
	return p
}

func TestASidecarThatCannotWorkSaysWhyAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	login := func(name, more string) string {
		s.exec("create role " + name + " login password 'secret-word' " + more)
		parsed, err := url.Parse(s.db.URL)
		if err != nil {
			t.Fatal(err)
		}
		parsed.User = url.UserPassword(name, "secret-word")
		return parsed.String()
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bare := s.cluster.Empty(t)
	withoutManifest := s.cluster.New(t)
	cases := []struct {
		name string
		env  []string
		code int
		says []string
	}{
		{"no schema", []string{"DATABASE_URL=" + bare.SidecarURL}, 1, []string{"logline migrate"}},
		{"no manifest", []string{"DATABASE_URL=" + withoutManifest.SidecarURL}, 1, []string{"logline bootstrap"}},
		{"a login that may not replicate",
			[]string{"DATABASE_URL=" + login("plain", "in role loglineos_sidecar")}, 1,
			[]string{`"plain"`, "may not replicate", "alter role", "replication"}},
		{"a login that may not become the sidecar", []string{"DATABASE_URL=" + login("stranger", "replication")}, 1,
			[]string{`"stranger"`, "may not become loglineos_sidecar", "grant"}},
		{"a wrong password", []string{"DATABASE_URL=" + strings.Replace(s.db.SidecarURL, "@", "x@", 1)}, 1,
			[]string{"connect to DATABASE_URL", "password authentication failed"}},
		{"a database that does not exist", []string{"DATABASE_URL=" + strings.Replace(s.db.SidecarURL, s.db.Name,
			"elsewhere", 1)}, 1, []string{"connect to DATABASE_URL", "elsewhere"}},
		{"nobody at that port", []string{"DATABASE_URL=postgres://a:secret-word@127.0.0.1:1/x"}, 1,
			[]string{": 127.0.0.1:1: connection refused; `logline doctor`"}},
		{"a taken port", s.environment("LOGLINE_LISTEN=" + taken.Addr().String()), 1,
			[]string{taken.Addr().String(), "taken", "LOGLINE_LISTEN"}},
		{"no DATABASE_URL", nil, 2, []string{"DATABASE_URL", "empty", "postgres://"}},
		{"a malformed DATABASE_URL", []string{"DATABASE_URL=mysql://root:secret-word@db/x"}, 2,
			[]string{"DATABASE_URL", "postgres://user:password@host:5432/database"}},
		{"a malformed slot", s.environment("LOGLINE_SLOT=Not A Slot"), 2, []string{"LOGLINE_SLOT"}},
		{"a slot of another use", s.environment("LOGLINE_SLOT=other"), 1, []string{`"other"`, "LOGLINE_SLOT"}},
	}
	s.exec("select pg_create_logical_replication_slot('other', 'test_decoding')")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			env := append([]string{"LOGLINE_LISTEN=127.0.0.1:0"}, c.env...)
			p := refusedStart(t, env, c.code, c.says...)
			if strings.Contains(p.Err.String(), "secret-word") {
				t.Errorf("it prints a password:\n%s", p.Err.String())
			}
		})
	}
	t.Run("a publication that was dropped", func(t *testing.T) {
		s.exec("drop publication loglineos")
		refusedStart(t, s.environment(), 1, `"loglineos"`, "logline migrate", "LOGLINE_PUBLICATION")
	})
}

// Who has not encoded his password is told how, and reads none of it.
func TestAMalformedURLIsExplainedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"p:q@ss/half%d", "half#secret", "a/half"} {
		env := []string{"DATABASE_URL=postgres://root:" + password + "@127.0.0.1:1/x"}
		for _, command := range []string{"serve", "migrate", "verify", "manifest"} {
			p := program.Start(t, env, command)
			code, said := p.Wait(), p.Err.String()
			if code != 2 || !strings.Contains(said, "%40") || strings.Contains(said, "half") {
				t.Errorf("%s with the password %s exits with %d: %s", command, password, code, said)
			}
		}
	}
}

func TestAServerWithoutLogicalWALIsRefused(t *testing.T) {
	t.Parallel()
	s := migrated(t, pgtest.NewCluster(t, map[string]string{"wal_level": "replica"}))
	s.bootstrap()
	refusedStart(t, s.environment(), 1, "wal_level=replica", "wal_level = logical", "restart")
}

func TestAPoolerIsRefused(t *testing.T) {
	t.Parallel()
	binary := program.Find(t, "pgbouncer")
	s := setup(t)
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			port := startPooler(t, binary, s.db, mode)
			pooled := fmt.Sprintf("postgres://loglineos_sidecar@127.0.0.1:%d/%s?sslmode=disable", port, s.db.Name)
			t.Run("as DATABASE_URL", func(t *testing.T) {
				refusedStart(t, s.environment("DATABASE_URL="+pooled), 1, "pooler", "direct connection")
			})
			t.Run("as REPLICATION_URL", func(t *testing.T) {
				refusedStart(t, s.environment("REPLICATION_URL="+pooled), 1, "REPLICATION_URL", "pooler",
					"direct connection")
			})
		})
	}
}

// startPooler puts a pgbouncer in front of a database. It takes every user and logs in as the sidecar.
func startPooler(t *testing.T, binary string, db *pgtest.Database, mode string) int {
	t.Helper()
	target, err := url.Parse(db.SidecarURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := target.User.Password()
	port := freePort(t)
	dir := pgtest.Dir(t)
	config := fmt.Sprintf(`[databases]
%s = host=%s port=%s dbname=%[1]s user=loglineos_sidecar password=%[4]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[5]d
unix_socket_dir =
auth_type = any
pool_mode = %[6]s
ignore_startup_parameters = %[7]s
`, db.Name, target.Hostname(), target.Port(), password, port, mode,
		"extra_float_digits, lock_timeout, statement_timeout, idle_in_transaction_session_timeout")
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, file)
	command.SysProcAttr = program.WithParent()
	if os.Geteuid() == 0 { // it refuses to run as root
		command.Args = []string{binary, "-u", unprivileged(t), file}
	}
	said := new(program.Transcript)
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGKILL) // it may have ended: the test has failed then
		_ = command.Wait()
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", program.Tail(said.String()))
		}
	})
	program.Eventually(t, "pgbouncer listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return port
}

func unprivileged(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		if _, err := accounts.Lookup(name); err == nil {
			return name
		}
	}
	t.Skip("skipped: poolers: there is no user postgres or nobody to run pgbouncer as")
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
