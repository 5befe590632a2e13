package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// byFile costs two checkpoints and no WAL: quicker where fsync is off, above all for several clones at a
// time.
const byFile = " strategy file_copy"

const (
	pingTimeout = time.Second
	stopTimeout = 10 * time.Second
	dirPrefix   = "loglineos-pgtest-"
)

// server is a Postgres with a superuser, whoever started it.
type server struct {
	base       url.URL // of the superuser, to its administrative database
	stop       func(keep bool) error
	cloning    string // how templates are copied; empty: as the server likes
	disposable bool   // its databases need not be dropped
	kept       atomic.Bool

	mutex    sync.Mutex
	migrated string // name of the template, once it is there
}

// choose takes the first of: TEST_DATABASE_URL, Docker, devdb.
func choose(ctx context.Context, logf func(string, ...any)) (*server, error) {
	if given := os.Getenv("TEST_DATABASE_URL"); given != "" {
		s, err := newServer(given)
		if err != nil {
			return nil, fmt.Errorf("parse TEST_DATABASE_URL: %w", err)
		}
		s.stop = func(bool) error { return nil }
		return s, s.locked(ctx, func(admin *pgx.Conn) error { return s.sweep(ctx, admin) })
	}
	if s, err := startContainer(ctx); err == nil {
		return s, nil
	} else if !errors.Is(err, errNoDocker) {
		logf("Docker answers but gave no Postgres, going on without: %v", err)
	}
	s, _, err := startOwn(ctx, nil, logf)
	return s, err
}

func newServer(databaseURL string) (*server, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("it must look like postgres://user:password@host:port/database")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/postgres"
	}
	return &server{base: *u}, nil
}

// url is the connection string to a database, of the superuser unless another user is named.
func (s *server) url(user *url.Userinfo, database string) string {
	u := s.base
	u.Path = "/" + database
	if user != nil {
		u.User = user
	}
	return u.String()
}

// sidecarPassword is the same for every test binary on one server, as the role is, and follows from a
// secret.
func (s *server) sidecarPassword() string {
	secret, _ := s.base.User.Password()
	sum := sha256.Sum256([]byte("loglineos pgtest sidecar " + secret))
	return hex.EncodeToString(sum[:12])
}

// admin runs statements, each on its own, in the administrative database.
func (s *server) admin(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("run %q: %w", statement, err)
		}
	}
	return nil
}

var errNoDocker = errors.New("no Docker engine answers")

// startContainer runs the official image. Its first process is timeout(1): a container whose test binary
// was killed ends within the hour. (dockertest's own Expire stops Postgres at once: it sends the stop
// signal first.)
func startContainer(ctx context.Context) (*server, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, errNoDocker
	}
	pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := pool.Client.PingWithContext(pingCtx); err != nil {
		return nil, errNoDocker
	}
	tag := os.Getenv("PG")
	if tag == "" {
		tag = "17"
	}
	password := rand.Text()
	command := []string{"timeout", "--signal=INT", "3600", "docker-entrypoint.sh", "postgres"}
	for name, value := range testSettings() {
		command = append(command, "-c", name+"="+value)
	}
	options := &dockertest.RunOptions{
		Repository: "postgres",
		Tag:        tag,
		Env:        []string{"POSTGRES_PASSWORD=" + password},
		Cmd:        append(command, "-c", "wal_level=logical"),
	}
	container, err := pool.RunWithOptions(options, func(host *docker.HostConfig) {
		host.AutoRemove = true
		host.ShmSize = 256 << 20
	})
	if err != nil {
		return nil, fmt.Errorf("run container: %w", err)
	}
	s, err := newServer("postgres://postgres:" + password + "@" + container.GetHostPort("5432/tcp") +
		"/postgres?sslmode=disable")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find container: %w", err), pool.Purge(container))
	}
	s.cloning = byFile
	s.stop = func(keep bool) error {
		if keep {
			return nil
		}
		return pool.Purge(container)
	}
	if err := pool.Retry(func() error { return s.admin(ctx, "select 1") }); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for container: %w", err), s.stop(false))
	}
	return s, nil
}

// testSettings make a server quick and small. Without fsync a crash of Postgres loses nothing, only one
// of the machine does.
func testSettings() map[string]string {
	return map[string]string{
		"fsync":                 "off",
		"full_page_writes":      "off",
		"shared_buffers":        "32MB",
		"max_connections":       "200",
		"max_wal_senders":       "20",
		"max_replication_slots": "20",
		"jit":                   "off",
	}
}

// startOwn starts devdb in a directory that it, or after a SIGKILL the next run, removes.
func startOwn(ctx context.Context, over map[string]string, logf func(string, ...any)) (
	*server, *devdb.Server, error,
) {
	keep := os.Getenv("LOGLINE_KEEP_DB") != ""
	dir, release, err := makeDir()
	if err != nil {
		return nil, nil, err
	}
	settings := testSettings()
	maps.Copy(settings, over)
	own, err := devdb.Start(ctx, devdb.Options{
		Dir:           dir,
		Settings:      settings,
		DieWithParent: !keep,
		InitCache:     initCache(),
		Log:           func(message string) { logf("%s", message) },
	})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir), release())
	}
	s, err := newServer(own.URL("postgres"))
	if err != nil {
		return nil, nil, err
	}
	s.cloning = byFile
	s.stop = func(keep bool) error {
		if keep {
			const note = "pgtest: Postgres is left running: kill -INT %d; rm -r %s\n"
			fmt.Fprintf(os.Stderr, note, own.Pid(), own.Dir)
			return os.WriteFile(filepath.Join(dir, "keep"), nil, 0o644)
		}
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return errors.Join(own.Stop(ctx), os.RemoveAll(own.Dir), os.RemoveAll(dir), release())
	}
	return s, own, nil
}

// initCache is beside devdb's own, and none where the user has no home.
func initCache() string {
	if os.Geteuid() == 0 {
		return "/var/cache/loglineos/initdb"
	}
	home, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, "loglineos", "initdb")
}

// makeDir makes a directory with a locked file `alive` in it, and removes those whose lock nobody holds
// any more. The file gets its name when it is locked: between the two a sweep could take it for dead.
func makeDir() (dir string, release func() error, err error) {
	sweepDirs()
	if dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		return "", nil, fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // root's Postgres runs as another user
		return "", nil, fmt.Errorf("open directory: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, "alive.new"))
	if err != nil {
		return "", nil, fmt.Errorf("make lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, errors.Join(fmt.Errorf("lock directory: %w", err), file.Close())
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, "alive")); err != nil {
		return "", nil, errors.Join(fmt.Errorf("name lock: %w", err), file.Close())
	}
	return dir, file.Close, nil
}

// sweepDirs removes what test binaries left that were killed. It is not worth failing a test for.
func sweepDirs() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // the only error is a bad pattern
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "keep")); err == nil {
			continue
		}
		file, err := os.Open(filepath.Join(dir, "alive"))
		if err != nil {
			sweepUnlocked(dir)
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = file.Close()
	}
}

// sweepUnlocked removes a directory whose test binary was killed before it had a lock, or that a command
// which outlived it went on to fill; an hour tells it from one that is about to get its lock.
func sweepUnlocked(dir string) {
	if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > time.Hour {
		_ = os.RemoveAll(dir)
	}
}
