package devdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the parent that some tests start and kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DEVDB_PARENT_OF"); dir != "" {
		os.Exit(parent(dir))
	}
	os.Exit(m.Run())
}

func parent(dir string) (code int) {
	s, err := Start(context.Background(), Options{
		Dir:           dir,
		Settings:      map[string]string{"fsync": "off", "shared_buffers": "16MB"},
		DieWithParent: os.Getenv("DEVDB_DIE") != "",
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("pid", s.Pid())
	<-s.Done()
	return 0
}

// setup gives a directory that root's dropped user can enter, which t.TempDir is not, and options for it.
func setup(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "loglineos-devdb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return Options{
		Dir:      dir,
		Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"},
		Log:      func(message string) { t.Log(message) },
	}
}

// start starts a server and stops it after the test.
func start(t *testing.T, options Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// single runs SQL on a stopped cluster: single-user mode comes with every package, psql does not.
func single(t *testing.T, s *Server, statement string) string {
	t.Helper()
	postgres := filepath.Join(s.Bin, "postgres")
	command := s.account.command(t.Context(), postgres, "--single", "-D", s.data, "postgres")
	command.Stdin = strings.NewReader(statement + "\n")
	out, err := command.CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR") {
		t.Fatalf("%s: %v: %s", statement, err, out)
	}
	return string(out)
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
}

func ended(t *testing.T, s *Server) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the server still runs")
	}
}

// answers asks for TLS, which every Postgres answers with a byte before it knows who asks.
func answers(port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return false
	}
	answer := make([]byte, 1)
	_, err = conn.Read(answer)
	return err == nil && (answer[0] == 'N' || answer[0] == 'S')
}

func TestKeepsDataPortAndPassword(t *testing.T) {
	t.Parallel()
	options := setup(t)
	first := start(t, options)
	if !answers(first.Port) {
		t.Fatal("no Postgres answers on the port")
	}
	if first.Adopted || first.Dir != options.Dir {
		t.Fatalf("adopted %v, in %s", first.Adopted, first.Dir)
	}
	stop(t, first)
	stop(t, first) // twice is fine
	single(t, first, "create table public.kept as select 4711 as number")
	second := start(t, options)
	if second.URL("x") != first.URL("x") {
		t.Fatalf("the URL changed from %s to %s", first.URL("x"), second.URL("x"))
	}
	stop(t, second)
	if out := single(t, second, "select number from public.kept"); !strings.Contains(out, "4711") {
		t.Fatalf("the data is lost: %s", out)
	}
	info, err := os.Stat(filepath.Join(first.Dir, "postgres.password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("password file: %v, %v", info.Mode(), err)
	}
}

func TestRecoversFromKill(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t))
	before := s.Pid()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
	if left := processesIn(s.data); len(left) > 0 {
		t.Fatalf("processes %v survived", left)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Pid() == before || !answers(s.Port) {
		t.Fatal("it did not come back on its port")
	}
}

func TestNoticesACrash(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t))
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
	if err := s.Restart(t.Context()); err != nil { // waits for the orphans
		t.Fatal(err)
	}
}

func TestTakesAnotherPortWhenItsOwnIsTaken(t *testing.T) {
	t.Parallel()
	options := setup(t)
	first := start(t, options)
	stop(t, first)
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if err := first.Restart(t.Context()); !errors.Is(err, errPortTaken) {
		t.Fatalf("Restart on a taken port: %v", err)
	}
	second := start(t, options)
	if second.Port == first.Port || !answers(second.Port) {
		t.Fatalf("port %d, then %d", first.Port, second.Port)
	}
}

func TestTwoStartsShareOneServer(t *testing.T) {
	t.Parallel()
	options := setup(t)
	type result struct {
		server *Server
		err    error
	}
	results := make(chan result)
	for range 2 {
		go func() {
			s, err := Start(t.Context(), options)
			results <- result{s, err}
		}()
	}
	one, other := <-results, <-results
	if err := errors.Join(one.err, other.err); err != nil {
		t.Fatal(err)
	}
	if one.server.Pid() != other.server.Pid() || one.server.Adopted == other.server.Adopted {
		t.Fatalf("pids %d and %d", one.server.Pid(), other.server.Pid())
	}
	stop(t, one.server)
	ended(t, other.server)
}

// killedParent starts a server from another process, kills that one, and returns the server's pid.
func killedParent(t *testing.T, dir string, environment ...string) int {
	t.Helper()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), append(environment, "DEVDB_PARENT_OF="+dir)...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		number, ok := strings.CutPrefix(lines.Text(), "pid ")
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait() // killed: that is the point
		return pid
	}
	t.Fatalf("the parent started no server: %q", said)
	return 0
}

func TestAdoptsTheServerOfADeadParent(t *testing.T) {
	t.Parallel()
	options := setup(t)
	pid := killedParent(t, options.Dir)
	s := start(t, options)
	if !s.Adopted || s.Pid() != pid || !answers(s.Port) {
		t.Fatalf("adopted %v, pid %d, wanted %d", s.Adopted, s.Pid(), pid)
	}
	stop(t, s)
	if worksIn(pid, s.data) {
		t.Fatal("the adopted server survived Stop")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("DieWithParent: needs Linux")
	}
	options := setup(t)
	pid := killedParent(t, options.Dir, "DEVDB_DIE=1")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	data := dataDir(t, options.Dir)
	dead := func() (bool, error) { return len(processesIn(data)) == 0, nil }
	if err := poll(ctx, pollInterval, dead); err != nil {
		t.Fatalf("server %d outlived its parent: %v", pid, err)
	}
}

// dataDir is DIR/pg15 or the like: the one data folder there is.
func dataDir(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "pg*", "PG_VERSION"))
	if err != nil || len(found) != 1 {
		t.Fatalf("data folders: %v, %v", found, err)
	}
	return filepath.Dir(found[0])
}

// A pid from before a reboot may be some other program's now, of the same user: Postgres would not start.
func TestStartsOverAForeignPid(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("foreign pid: needs /proc")
	}
	options := setup(t)
	s := start(t, options)
	content, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	sleeper := s.account.command(t.Context(), "sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	_, rest, _ := strings.Cut(string(content), "\n")
	stale := filepath.Join(s.data, "postmaster.pid")
	if err := os.WriteFile(stale, []byte(strconv.Itoa(sleeper.Process.Pid)+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.account.own(stale); err != nil {
		t.Fatal(err)
	}
	if again := start(t, options); again.Adopted {
		t.Fatal("adopted a sleep")
	}
}

func TestNamesTheBadSetting(t *testing.T) {
	t.Parallel()
	options := setup(t)
	options.Settings["work_mem"] = "it's none"
	_, err := Start(t.Context(), options)
	if err == nil {
		t.Fatal("started with work_mem = it's none")
	}
	for _, part := range []string{"see Options.Settings", "work_mem", "it's none"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}

func TestSettingsGoOverDefaults(t *testing.T) {
	t.Parallel()
	options := setup(t)
	options.Settings["wal_level"] = "replica"
	options.InitCache = filepath.Join(options.Dir, "cache")
	s := start(t, options)
	stop(t, s)
	if out := single(t, s, "show wal_level"); !strings.Contains(out, "replica") {
		t.Fatal(out)
	}
	options.Dir = setup(t).Dir
	copied := start(t, options)
	if copied.password != s.password {
		t.Fatal("the second cluster does not come from the cache")
	}
}

func TestRootDropsItsRights(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("root drops its rights: needs root")
	}
	options := setup(t)
	closed := filepath.Join(options.Dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	options.Dir = filepath.Join(closed, "clone", ".logline")
	s := start(t, options)
	t.Cleanup(func() { _ = os.RemoveAll(s.Dir) })
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(s.Pid())))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 || int(uid) != s.account.uid {
		t.Fatalf("Postgres runs as uid %d", uid)
	}
	if filepath.Dir(s.Dir) != "/var/lib/loglineos" || !strings.HasPrefix(filepath.Base(s.Dir), "clone-") {
		t.Fatalf("data is in %s", s.Dir)
	}
	stop(t, s)
	if again := start(t, options); again.Dir != s.Dir || again.Port != s.Port {
		t.Fatalf("the next start went to %s", again.Dir)
	}
}

// The package that Start installs brings the user postgres, after nobody may have made the data.
func TestDataKeepsItsOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("data keeps its owner: needs root")
	}
	options := setup(t)
	found, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("data keeps its owner: needs the user nobody")
	}
	nobody, err := newAccount(found)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := find(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	made := &Server{Dir: options.Dir, Bin: bin.dir, options: options, account: nobody}
	made.data = filepath.Join(options.Dir, "pg"+bin.major())
	if err := made.initData(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := start(t, options); s.account.uid != nobody.uid {
		t.Fatalf("Postgres runs as %s", s.account.name)
	}
}

func TestStopGivesUpWaitingWithContext(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
}

func TestSupportedVersionsArePinned(t *testing.T) {
	t.Parallel()
	for _, major := range supported() {
		if !strings.HasPrefix(pins()[major].version, major+".") {
			t.Errorf("no package for %s", major)
		}
	}
	if !slices.Contains(supported(), fetched) {
		t.Errorf("%s is not supported", fetched)
	}
}
