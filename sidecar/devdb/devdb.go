// Package devdb runs a Postgres of one's own for development and tests: it finds or fetches the
// binaries, makes a cluster below one directory, starts it, and stops it.
//
// It is not for production: one superuser, one machine, 127.0.0.1 only. It never touches a cluster that it
// did not make, speaks no SQL, and names no registry: packages come through apt-get and npm.
//
//	DIR/postgres.password   0600, of the superuser `postgres`, the same for every version
//	DIR/pg17/               data of major version 17; pg15/ beside it is another cluster
//	DIR/pg17.log            what the server says; cut at a start when over 16 MiB
//	DIR/pg17.port           the port of the last start, taken again while it is free
//	DIR/pg17.lock           held (flock) during a Start, so that two of them do not race
//
// Postgres refuses to run as root. Root's server runs as `postgres`, or `nobody` where that user is
// missing; and where such a user cannot reach DIR (a clone below a 0700 home), everything lives in
// /var/lib/loglineos/NAME-HASH instead, with NAME and HASH taken from DIR, so that the next start finds
// it.
//
// A server is its own session: Ctrl-C in the terminal does not reach it. When its parent dies without
// Stop it keeps running, and the next Start on DIR adopts it (or, with DieWithParent, it ends too).
//
//	            Start                         Stop: fast, 10 s, immediate, 5 s, kill
//	nothing ───────────────> running ───────────────────────────────────────────────> data at rest
//	running ──> adopted         │ Kill: SIGKILL to every process                            │
//	                            └─────────────────> Restart <───────────────────────────────┘
package devdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	startTimeout  = 2 * time.Minute // crash recovery of a large WAL is the long case
	fastTimeout   = 10 * time.Second
	quickTimeout  = 5 * time.Second
	pollInterval  = 10 * time.Millisecond
	watchInterval = 200 * time.Millisecond // an adopted server is no child: its end is polled
)

// Options says where and how a server runs. Dir is required, the zero value of the rest is useful.
type Options struct {
	// Dir holds data, password and log. It is made if missing.
	Dir string
	// Version is the major version, "15" to "18". Empty: the environment variable PG, else whichever is
	// found.
	Version string
	// Settings go over the defaults, as in postgresql.conf: {"fsync": "off"}. An adopted server keeps its
	// own.
	Settings map[string]string
	// DieWithParent ends the server at once when this process dies, however it dies. Linux only.
	DieWithParent bool
	// InitCache is a directory that keeps a fresh cluster for each build of Postgres, to copy instead of
	// running initdb. Clusters of one cache share a password: for tests.
	InitCache string
	// Log gets a sentence for whatever takes long or surprises (a download, another directory). It may be
	// nil.
	Log func(string)
}

// Server is a running Postgres. Its fields do not change. It is safe for concurrent use.
type Server struct {
	Dir     string // where data really is; not Options.Dir when a dropped user cannot reach that
	Bin     string // folder of initdb and postgres; psql need not be there
	Version string // "17.10"
	Port    int
	Adopted bool // it ran before Start, left by a parent that died

	options  Options
	account  *account
	data     string
	password string

	operation sync.Mutex // one of Stop, Kill, Restart at a time
	run       atomic.Pointer[run]
}

// Find returns the version of Postgres that Start would run, for example "17.10". Where there is none of
// options.Version it fetches one, as Start does.
func Find(ctx context.Context, options Options) (string, error) {
	if options.Log == nil {
		options.Log = func(string) {}
	}
	if options.Version == "" {
		options.Version = os.Getenv("PG")
	}
	bin, err := find(ctx, options)
	return bin.version, err
}

// Start returns the server of options.Dir, accepting connections: adopted if it already runs, else
// started, after a first initdb where there is no data. It needs seconds at most, unless it must install
// Postgres. ctx bounds Start, not the server.
func Start(ctx context.Context, options Options) (*Server, error) {
	if options.Log == nil {
		options.Log = func(string) {}
	}
	if options.Version == "" {
		options.Version = os.Getenv("PG")
	}
	bin, err := find(ctx, options)
	if err != nil {
		return nil, err
	}
	user, err := dropTo() // after find: Debian's package brings the user postgres
	if err != nil {
		return nil, err
	}
	dir, err := place(ctx, options.Dir, user, options.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, Bin: bin.dir, Version: bin.version, options: options}
	s.data = filepath.Join(dir, "pg"+bin.major())
	if s.account, err = user.orOwner(s.data); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, s.data+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	s.nameOtherData()
	if err := s.initData(ctx); err != nil {
		return nil, err
	}
	if s.Adopted, err = s.adopt(ctx); err != nil || s.Adopted {
		return s, err
	}
	return s, s.startOnSomePort(ctx)
}

// URL is the superuser's connection string for a database of this server. It holds the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Pid is the postmaster's process id; after a Stop or a crash, the last one.
func (s *Server) Pid() int { return s.run.Load().pid }

// Done is closed when the postmaster has ended, wanted or not. After Restart there is a new one.
func (s *Server) Done() <-chan struct{} { return s.run.Load().done }

// LogFile is what the server says, DIR/pgNN.log.
func (s *Server) LogFile() string { return s.data + ".log" }

// Data is the server's data directory, DIR/pgNN.
func (s *Server) Data() string { return s.data }

// Stop ends the server: sessions are cut off and data is checkpointed (a fast shutdown). What takes
// longer than 10 s, or than ctx, becomes an immediate shutdown, which the next start recovers from.
// Stopping twice is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	return s.stop(ctx)
}

func (s *Server) stop(ctx context.Context) error {
	r := s.run.Load()
	if r.end(ctx, signalFast, fastTimeout) {
		return nil
	}
	s.options.Log("Postgres did not stop in time: it is shut down immediately, the next start recovers")
	if r.end(context.WithoutCancel(ctx), signalImmediate, quickTimeout) {
		return nil
	}
	return r.kill(s.data)
}

// Kill ends every process of the server with SIGKILL, as a power cut would, and returns when they are gone.
func (s *Server) Kill() error {
	s.operation.Lock()
	defer s.operation.Unlock()
	return s.run.Load().kill(s.data)
}

// Restart stops the server if it runs and starts it again on the same port with the same settings.
func (s *Server) Restart(ctx context.Context) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	if err := s.stop(ctx); err != nil {
		return err
	}
	return s.launch(ctx, s.Port)
}

// startOnSomePort takes the port of the last start while it is free, else another one.
func (s *Server) startOnSomePort(ctx context.Context) error {
	const attempts = 5 // another process may take a port between our look and Postgres's bind
	portFile := s.data + ".port"
	saved, err := os.ReadFile(portFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read port: %w", err)
	}
	wanted, _ := strconv.Atoi(strings.TrimSpace(string(saved))) // unreadable is the same as absent: 0
	for range attempts {
		port, err := freePort(wanted)
		if err != nil {
			return err
		}
		if wanted != 0 && port != wanted {
			s.options.Log(fmt.Sprintf("port %d is taken: Postgres listens on %d from now on", wanted, port))
		}
		if err = s.launch(ctx, port); err == nil {
			s.Port = port
			return writeFile(portFile, strconv.Itoa(port)+"\n", 0o644)
		}
		if !errors.Is(err, errPortTaken) {
			return err
		}
		wanted = 0
	}
	return fmt.Errorf("start postgres: %w %d times over: try again", errPortTaken, attempts)
}

// nameOtherData tells of clusters of other versions in the same directory, lest their data seems lost.
func (s *Server) nameOtherData() {
	if s.options.Version != "" {
		return
	}
	if _, err := os.Stat(s.data); err == nil {
		return
	}
	for _, major := range supported() {
		if _, err := os.Stat(filepath.Join(s.Dir, "pg"+major, "PG_VERSION")); err == nil {
			s.options.Log(fmt.Sprintf("%s also holds data of Postgres %s: PG=%[2]s uses it", s.Dir, major))
		}
	}
}
