package tail

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for seconds of clocks (bookkeeping, server timeouts) and compute little.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(pgtest.Run(m))
}

const patience = 60 * time.Second // for what should take a second, on a machine that others use too

// fixture is a migrated database in a cluster where nobody else holds anything up.
type fixture struct {
	db   *pgtest.Database
	conn *pgx.Conn // as the owner
}

func setup(t testing.TB, settings map[string]string) *fixture {
	t.Helper()
	db := pgtest.NewCluster(t, settings).New(t)
	return &fixture{db, connect(t, db.URL)}
}

// reportedAt is when the tail last reported, "" before it has.
func (f *fixture) reportedAt(t testing.TB) string {
	t.Helper()
	return ask[string](t, f.conn, "select coalesce(max(reply_time)::text, '') from pg_stat_replication")
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (f *fixture) config(t testing.TB) Config {
	return Config{
		DatabaseURL: f.db.SidecarURL, ReplicationURL: f.db.SidecarURL, Slot: f.db.Name, Publication: "loglineos",
		Node: "leader", Incarnation: f.db.Name,
		Prepare: func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "set role loglineos_sidecar")
			return err
		},
		Log: slog.New(slog.NewTextHandler(logWriter{t}, nil)),
	}
}

// logWriter shows the log of a failed test.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

const insertSQL = `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, name)
	values ('note', 'client:test', 'alice', 't1', $1) returning id::text`

// insert appends a note in a transaction of its own, or in that of q.
func insert(t testing.TB, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, name string,
) string {
	t.Helper()
	var id string
	if err := q.QueryRow(t.Context(), insertSQL, name).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func ask[T any](t testing.TB, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var value T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func execute(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// eventually asks again and again until the answer is yes.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// follower is a running tail that keeps what it is handed.
type follower struct {
	tail   *Tail
	config Config
	stop   context.CancelFunc
	ended  chan struct{}
	err    error

	mu     sync.Mutex
	rows   []*span.Published
	leads  int
	since  string                     // of the last Lead
	leadOf []int                      // in which session each row came
	hold   func(*span.Published) bool // rows whose Done waits for release
	held   []*Position
	onRow  func(*span.Published)
}

// follow starts a tail; change may set hold and onRow, or the config.
func (f *fixture) follow(t testing.TB, change ...func(*follower)) *follower {
	t.Helper()
	w := &follower{ended: make(chan struct{}), config: f.config(t)}
	for _, c := range change {
		c(w)
	}
	w.tail = New(w.config, Handler{Lead: w.lead, Row: w.row})
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	go func() {
		defer close(w.ended)
		w.err = w.tail.Run(ctx)
	}()
	t.Cleanup(w.end)
	return w
}

func (w *follower) end() {
	w.stop()
	<-w.ended
}

func (w *follower) lead(_ context.Context, since string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leads++
	w.since = since
	return nil
}

func (w *follower) row(_ context.Context, row *span.Published, position *Position) error {
	if w.onRow != nil {
		w.onRow(row)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows = append(w.rows, row)
	w.leadOf = append(w.leadOf, w.leads)
	if w.hold != nil && w.hold(row) {
		w.held = append(w.held, position)
		return nil
	}
	position.Done()
	return nil
}

func (w *follower) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, position := range w.held {
		position.Done()
	}
	w.held, w.hold = nil, nil
}

// ids returns what came so far, in order.
func (w *follower) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, len(w.rows))
	for i, row := range w.rows {
		ids[i] = row.ID.String()
	}
	return ids
}

func (w *follower) count() (rows, leads int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rows), w.leads
}

// streams waits until the tail holds the slot and has caught up.
func (w *follower) streams(t testing.TB) *follower {
	t.Helper()
	w.reaches(t, Streaming)
	return w
}

func (w *follower) reaches(t testing.TB, phase Phase) {
	t.Helper()
	eventually(t, fmt.Sprintf("the tail is %s", phase), func() bool {
		select {
		case <-w.ended:
			t.Fatalf("the tail ended: %v", w.err)
		default:
		}
		now, _ := w.tail.State()
		return now == phase
	})
}

// receives waits until exactly these ids came, in this order.
func (w *follower) receives(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d rows come", len(want)), func() bool { return len(w.ids()) >= len(want) })
	if got := w.ids(); !slices.Equal(got, want) {
		t.Fatalf("got %d rows %v, want %d rows %v", len(got), got, len(want), want)
	}
}

// settled waits until the stored cursor covers all that is written now.
func (f *fixture) settled(t testing.TB) {
	t.Helper()
	end := ask[string](t, f.conn, "select pg_current_wal_insert_lsn()::text")
	now := ask[string](t, f.conn, "select pg_snapshot_xmax(pg_current_snapshot())::text")
	eventually(t, "the cursor passes "+end, func() bool {
		// Without rows no cursor is stored, so another row is sent along.
		insert(t, f.conn, "settle")
		var passed bool
		err := f.conn.QueryRow(t.Context(), `select exists (
				select from engine.cursor
				where lsn >= $1::text::pg_lsn or lsn = '0/0' and exists (
					select from engine.leader where source = 'poll'
				) and pg_snapshot_xmin(snapshot) >= $2::text::xid8
			)`, end, now).Scan(&passed)
		return err == nil && passed // the table may be gone for a moment
	})
}
