// Package bench measures the sidecar from outside: the real binary beside a real Postgres with fsync on.
//
// Each benchmark prints its figures with a baseline measured in the same run, interleaved where it can
// be. Run them with `make bench`; one iteration is the whole measurement.
package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/devdb"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

var (
	binary string // logline as it is shipped, built once by TestMain
	noop   string // the same with a worker in Go (tests/bench/noop), built with it

	isQuick = flag.Bool("quick", false, "a tenth of everything, to see that it works: the figures mean little")
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main()
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "loglineos-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary, noop = filepath.Join(dir, "logline"), filepath.Join(dir, "noop")
	for path, source := range map[string]string{binary: "../../sidecar", noop: "./noop"} {
		if err := program.Build(path, source); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	if os.Getenv("LOGLINE_BENCH_NOOP") != "" {
		binary = noop
	}
	return m.Run()
}

// system is a Postgres of its own with a sidecar beside it.
type system struct {
	owner    string // connection string
	login    string // of the sidecar
	postgres int    // process ids
	sidecar  int
}

// start makes a system and runs `logline serve`.
func start(b *testing.B) *system {
	b.Helper()
	s := prepare(b)
	s.serve(b, s.login)
	return s
}

// prepare makes a cluster, migrates, and bootstraps with high quotas.
func prepare(b *testing.B) *system {
	b.Helper()
	ctx := b.Context()
	server, err := devdb.Start(ctx, devdb.Options{Dir: pgtest.Dir(b), DieWithParent: true,
		Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "4GB"}})
	must(b, err)
	b.Cleanup(func() { must(b, server.Stop(context.Background())) })
	s := &system{owner: server.URL("postgres"), postgres: server.Pid(), sidecar: os.Getpid()}
	owner, err := ledger.OpenOwner(ctx, s.owner)
	must(b, err)
	_, err = app.Migrate(ctx, owner)
	must(b, err)
	_, err = app.Bootstrap(ctx, owner, app.BootstrapOptions{DailyQuota: 1_000_000})
	must(b, err)
	must(b, owner.LetSidecarLogIn(ctx, "bench"))
	must(b, owner.Close(ctx))
	login, err := url.Parse(s.owner)
	must(b, err)
	login.User = url.UserPassword("loglineos_sidecar", "bench")
	s.login = login.String()
	return s
}

// serve runs the sidecar: the binary, or, with LOGLINE_BENCH_INPROCESS set, the same code in this process,
// so that -cpuprofile shows it.
func (s *system) serve(b *testing.B, databaseURL string) {
	b.Helper()
	if os.Getenv("LOGLINE_BENCH_INPROCESS") != "" {
		s.serveHere(b, databaseURL)
		return
	}
	attached := s.attach(b, binary, databaseURL)
	b.Cleanup(attached.stop)
}

// attached is a sidecar that streams.
type attached struct {
	address string
	command *exec.Cmd
	stop    func() // by SIGTERM; waits
	once    sync.Once
}

// attach starts executable as a sidecar and waits until it is ready; it is stopped by its stop alone, or
// dies with this process.
func (s *system) attach(b *testing.B, executable, databaseURL string, env ...string) *attached {
	b.Helper()
	a := s.spawn(b, executable, databaseURL, env...)
	await(b, 60*time.Second, func() bool { return a.isReady() })
	return a
}

// spawn is attach without the waiting.
func (s *system) spawn(b *testing.B, executable, databaseURL string, env ...string) *attached {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	a := &attached{address: "http://" + listener.Addr().String()}
	must(b, listener.Close())
	a.command = exec.Command(executable, "serve")
	a.command.Env = append(append(os.Environ(), "DATABASE_URL="+databaseURL,
		"LOGLINE_LISTEN="+strings.TrimPrefix(a.address, "http://"), "LOGLINE_LOG_LEVEL=warn"), env...)
	a.command.Stderr = os.Stderr
	a.command.SysProcAttr = program.WithParent()
	must(b, a.command.Start())
	s.sidecar = a.command.Process.Pid
	a.stop = func() {
		must(b, a.command.Process.Signal(syscall.SIGTERM))
		a.once.Do(func() { must(b, a.command.Wait()) })
	}
	b.Cleanup(a.kill) // a benchmark that failed leaves none behind
	return a
}

// kill ends it, if it has not ended yet.
func (a *attached) kill() {
	a.once.Do(func() {
		_ = a.command.Process.Kill() // it may have ended by itself
		_ = a.command.Wait()
	})
}

func (a *attached) isReady() bool {
	response, err := http.Get(a.address + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// ended reads how many requests have ended as status.
func (a *attached) ended(b *testing.B, status string) int {
	b.Helper()
	return int(a.metric(b, "logline_requests_ended_total{status=\""+status+"\"}"))
}

// phase is what the tail does.
func (a *attached) phase(b *testing.B) string {
	b.Helper()
	response, err := http.Get(a.address + "/readyz")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var status struct{ Phase string }
	must(b, json.NewDecoder(response.Body).Decode(&status))
	return status.Phase
}

// metric reads one value from /metrics; 0 while nobody answers yet.
func (a *attached) metric(b *testing.B, name string) float64 {
	b.Helper()
	response, err := http.Get(a.address + "/metrics")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(b, err)
	_, rest, found := strings.Cut(string(raw), "\n"+name+" ")
	if !found {
		b.Fatalf("/metrics has no %s", name)
	}
	text, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(text, 64)
	must(b, err)
	return value
}

func (s *system) serveHere(b *testing.B, databaseURL string) {
	b.Helper()
	c, err := config.LoadFor(databaseURL)
	must(b, err)
	sidecar, err := app.New(b.Context(), c,
		slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	must(b, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sidecar.Run(ctx, nil) }()
	b.Cleanup(func() {
		stop()
		must(b, <-ended)
		sidecar.Close()
	})
	await(b, 30*time.Second, func() bool { return sidecar.Status(ctx).Ready })
}

func (s *system) connect(b *testing.B) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), s.owner)
	must(b, err)
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// insert appends n scheduled functions of alice in PostgREST's transaction shape and returns when the
// client's commit has returned.
func insert(b *testing.B, conn *pgx.Conn, trace string, n int) time.Time {
	b.Helper()
	err := pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(
			b.Context(),
			`select set_config('role', 'authenticated', true), set_config('request.jwt.claims',
			'{"sub": "alice", "role": "authenticated", "app_metadata": {"tenant_id": "acme"}}', true)`,
		)
		if err != nil {
			return err
		}
		_, err = tx.Exec(b.Context(), `insert into ledger.universal_registry
			(entity_type, name, status, language, code, input, trace_id)
			select 'function', 'bench', 'scheduled', 'javascript', 'return { sum: input.a + 1 };', '{"a": 41}', $1
			from generate_series(1, $2)`, trace, n)
		return err
	})
	must(b, err)
	return time.Now()
}

// failure returns the error of the last execution with this trace.
func (s *system) failure(b *testing.B, trace string) string {
	b.Helper()
	var text string
	must(b, s.connect(b).QueryRow(b.Context(), `select error::text from ledger.universal_registry
		where entity_type = 'execution' and status = 'error' and trace_id = $1 limit 1`, trace).Scan(&text))
	return text
}

// arrival is the commit of a span, seen at a second reader of the WAL.
type arrival struct {
	entityType, status, trace string
	at                        time.Time
}

// watch streams the publication through a temporary slot, as long as the benchmark lasts.
func (s *system) watch(b *testing.B) <-chan arrival {
	b.Helper()
	arrivals, stop := s.reader(b)
	b.Cleanup(stop)
	return arrivals
}

// reader is watch with an end.
func (s *system) reader(b *testing.B) (<-chan arrival, func()) {
	b.Helper()
	ctx := b.Context()
	conn, err := pgconn.Connect(ctx, s.owner+"&replication=database")
	must(b, err)
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, "bench_reader", "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.LogicalReplication})
	must(b, err)
	must(b, pglogrepl.StartReplication(ctx, conn, "bench_reader", 0, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names 'loglineos'"}}))
	arrivals := make(chan arrival, 100_000)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(arrivals)
		follow(ctx, conn, arrivals)
	}()
	return arrivals, func() {
		cancel()
		<-ended
		_ = conn.Close(context.Background())
	}
}

// follow ends when the connection does.
func follow(ctx context.Context, conn *pgconn.PgConn, arrivals chan<- arrival) {
	var names []string
	var open []arrival
	var received pglogrepl.LSN
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			continue
		}
		if data.Data[0] == pglogrepl.PrimaryKeepaliveMessageByteID {
			keepalive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
			if err != nil {
				return
			}
			// A server that has heard of less than it has sent asks again and again.
			received = max(received, keepalive.ServerWALEnd)
			_ = pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{
				WALWritePosition: received, WALFlushPosition: 1, WALApplyPosition: 1})
			continue
		}
		payload, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return
		}
		received = max(received, payload.WALStart+pglogrepl.LSN(len(payload.WALData)))
		parsed, err := pglogrepl.Parse(payload.WALData)
		if err != nil {
			return
		}
		switch m := parsed.(type) {
		case *pglogrepl.RelationMessage:
			names = names[:0]
			for _, column := range m.Columns {
				names = append(names, column.Name)
			}
		case *pglogrepl.InsertMessage:
			open = append(open, readArrival(names, m))
		case *pglogrepl.CommitMessage:
			now := time.Now()
			for _, a := range open {
				a.at = now
				arrivals <- a
			}
			open = open[:0]
		}
	}
}

func readArrival(names []string, m *pglogrepl.InsertMessage) arrival {
	var a arrival
	for i, column := range m.Tuple.Columns {
		switch names[i] {
		case "entity_type":
			a.entityType = string(column.Data)
		case "status":
			a.status = string(column.Data)
		case "trace_id":
			a.trace = string(column.Data)
		}
	}
	return a
}

// cpu is CPU time used so far: by Postgres, by the sidecar, and by its children.
type cpu struct{ postgres, sidecar, children time.Duration }

func (s *system) cpu(b *testing.B) cpu {
	b.Helper()
	var used cpu
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(b, err)
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		took := time.Duration(user+system) * 10 * time.Millisecond // clock ticks of 100 Hz
		switch {
		case pid == s.postgres || parent == s.postgres:
			used.postgres += took
		case pid == s.sidecar:
			used.sidecar += took
			reapedUser, _ := strconv.Atoi(fields[13])
			reapedSystem, _ := strconv.Atoi(fields[14])
			used.children += time.Duration(reapedUser+reapedSystem) * 10 * time.Millisecond
		case parent == s.sidecar:
			used.children += took
		}
	}
	return used
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func await(b *testing.B, limit time.Duration, done func() bool) {
	b.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(limit)
	for !done() {
		select {
		case <-deadline:
			b.Fatalf("not done within %s", limit)
		case <-ticker.C:
		}
	}
}

// percentile returns the p-th percentile in milliseconds. It sorts its argument.
func percentile(durations []time.Duration, p float64) float64 {
	slices.Sort(durations)
	return float64(durations[min(int(p/100*float64(len(durations))), len(durations)-1)].Microseconds()) / 1000
}
