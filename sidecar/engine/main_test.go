package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

const patience = 60 * time.Second // for what should take milliseconds, on a machine that others use too

// bench is an engine over a real ledger whose kernels are Go functions.
type bench struct {
	t        testing.TB
	db       *pgtest.Database
	ledger   *ledger.Ledger
	engine   *Engine
	manifest *span.Manifest
	stop     context.CancelFunc
	ended    chan struct{}
	drain    time.Duration
	node     string
	settled  func(span.ID, bool)
	// cancelled is what a cancelled request leaves; the shipped one is Stage-0's.
	cancelled func(ctx context.Context, request, lost *span.Span) (ledger.Group, error)

	mu        sync.Mutex
	kernels   map[string]func(ctx context.Context, job Job) error
	boots     []Job
	undone    atomic.Int64
	reads     atomic.Int64 // versions
	isTrusted func() bool
	since     func() time.Time

	unreadable span.ID // its page is corrupt
}

// setup starts an engine; change may replace kernels before it runs.
func setup(t testing.TB, change ...func(*bench)) *bench {
	t.Helper()
	db := pgtest.New(t)
	l, err := ledger.Open(t.Context(), db.SidecarURL, 6)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	document, err := kernels.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := span.ParseManifest(document)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, db: db, ledger: l, manifest: manifest}
	return b.start(change...)
}

// start starts another engine, a second sidecar, over the same ledger.
func (b *bench) start(change ...func(*bench)) *bench {
	b.t.Helper()
	n := &bench{t: b.t, db: b.db, ledger: b.ledger, manifest: b.manifest, ended: make(chan struct{}),
		drain: patience, node: "one", cancelled: cancelled}
	n.kernels = map[string]func(context.Context, Job) error{
		"observer_bot": n.observe, "request_worker": n.complete, "policy_agent": n.complete,
	}
	for _, c := range change {
		c(n)
	}
	n.engine = New(Config{
		Ledger: n.ledger, Manifest: func() *span.Manifest { return n.manifest }, ManifestSince: n.since,
		Boot: n.boot, Failure: failure,
		Settled: n.settled, Cancelled: n.cancelled, IsTrusted: n.isTrusted,
		Load: n.load, Prefetch: func(context.Context, []span.Key) {}, Node: n.node,
		Log: slog.New(slog.NewTextHandler(logWriter{b.t}, nil)),
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	n.stop = cancel
	go func() {
		defer close(n.ended)
		n.engine.Run(ctx, n.drain)
	}()
	b.t.Cleanup(n.end)
	return n
}

func (b *bench) end() {
	b.stop()
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.t.Error("the engine does not stop")
	}
}

// logWriter shows the log of a failed test.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

func (b *bench) boot(ctx context.Context, job Job) error {
	b.mu.Lock()
	b.boots = append(b.boots, job)
	kernel := b.kernels[job.Kernel]
	b.mu.Unlock()
	if kernel == nil {
		return &span.RunError{Code: span.RunNotFound, Message: "no kernel " + job.Kernel}
	}
	return kernel(ctx, job)
}

// booted counts how often a kernel was given a span.
func (b *bench) booted(kernel string, id span.ID) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, job := range b.boots {
		if job.Kernel == kernel && slices.ContainsFunc(job.Batch, func(s *span.Span) bool { return s.ID == id }) {
			n++
		}
	}
	return n
}

func (b *bench) load(ctx context.Context, keys []span.Key) ([]*span.Span, error) {
	if slices.ContainsFunc(keys, func(key span.Key) bool { return key.ID == b.unreadable && !key.ID.IsZero() }) {
		return nil, fmt.Errorf("read: %w", &pgconn.PgError{Code: "XX001", Message: "missing chunk number 0"})
	}
	b.reads.Add(int64(len(keys)))
	found, err := b.ledger.Load(ctx, keys)
	spans := make([]*span.Span, len(keys))
	for i, key := range keys {
		spans[i] = found[key]
	}
	return spans, err
}

// observe is what observer_bot and its host do.
func (b *bench) observe(_ context.Context, job Job) error {
	for _, cause := range job.Batch {
		group := ledger.Group{Rows: []*span.Span{requestOf(cause)}}
		if err := group.Seal((*span.Span).Seal); err != nil {
			return err
		}
		job.Emit(cause.Key(), group, nil)
	}
	return nil
}

func requestOf(function *span.Span) *span.Span {
	if function.EntityType == "tick" {
		return requestOfTick(function)
	}
	at := function.AcceptedAt.Time
	s := derived("request", function, span.Derive("request", at, []span.ID{function.ID}, int64(function.Seq)))
	s.Status, s.ParentID, s.At, s.ScheduledAt = new("scheduled"), &function.ID, function.At, function.ScheduledAt
	return s
}

// complete is what request_worker, run_code and their host do.
func (b *bench) complete(_ context.Context, job Job) error {
	for _, cause := range job.Batch {
		job.Emit(cause.Key(), done(b.t, cause), nil)
	}
	return nil
}

// done is the group of a run that ended well.
func done(t testing.TB, cause *span.Span) ledger.Group {
	group, err := endOf(cause, "complete")
	if err != nil {
		t.Error(err)
	}
	return group
}

func endOf(cause *span.Span, status string) (ledger.Group, error) {
	attempt := int64(*cause.Attempt)
	execution := derived("execution", cause,
		span.Derive("execution", cause.AcceptedAt.Time, []span.ID{cause.ID}, attempt))
	execution.Status, execution.ParentID, execution.Attempt = &status, cause.ParentID, cause.Attempt
	group := ledger.Group{Fence: cause.NextRequest("kernel:run_code", status), Rows: []*span.Span{execution}}
	return group, group.Seal((*span.Span).Seal)
}

func failure(request *span.Span, fault *span.RunError) (ledger.Group, error) {
	group, err := endOf(request, "error")
	if err != nil {
		return group, err
	}
	if group.Rows[0].Error, err = json.Marshal(fault); err != nil {
		return group, err
	}
	return group, group.Seal((*span.Span).Seal)
}

// cancelled is the end of a request whose run had not begun.
func cancelled(_ context.Context, request, _ *span.Span) (ledger.Group, error) {
	group := ledger.Group{Fence: request.NextRequest("sidecar:test", "cancelled")}
	return group, group.Seal((*span.Span).Seal)
}

func derived(entityType string, cause *span.Span, id span.ID) *span.Span {
	metadata, err := span.SetEngine(nil, span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1,
		Kind: entityType})
	if err != nil {
		panic(err)
	}
	return &span.Span{ID: id, EntityType: entityType, Who: "kernel:test", At: span.NewTime(time.Now()),
		OwnerID: cause.OwnerID, TenantID: cause.TenantID, Visibility: cause.Visibility, TraceID: cause.TraceID,
		Metadata: metadata}
}

// idOf makes distinct ids that sort by n.
func idOf(n int) span.ID { return span.MustID(fmt.Sprintf("018f0000-%04x-7000-8000-000000000000", n)) }

// put appends a first version and returns it as it stands.
func (b *bench) put(n int, entityType string, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	s := &span.Span{ID: idOf(n), EntityType: entityType, Who: "user:alice", At: span.NewTime(time.Now()),
		OwnerID: "alice", TenantID: "t1", Visibility: "private", Status: new("scheduled"),
		ParentID: new(idOf(0xffff))}
	for _, c := range change {
		c(s)
	}
	if s.TenantID == "system" && entityType == "policy" { // which is not the engine's to write
		if _, err := ledger.NewOwner(b.connect()).Publish(b.t.Context(), []*span.Span{s}); err != nil {
			b.t.Fatalf("publish: %v", err)
		}
		return s
	}
	b.append(ledger.Group{Rows: []*span.Span{s}})
	return s
}

// follow appends the next version of a request as some other writer.
func (b *bench) follow(s *span.Span, status string, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	next := s.NextRequest("sidecar:other", status)
	for _, c := range change {
		c(next)
	}
	b.append(ledger.Group{Fence: next})
	return next
}

func attempt(n int) func(*span.Span) { return func(s *span.Span) { s.Attempt = &n } }

func (b *bench) append(group ledger.Group) {
	b.t.Helper()
	if err := group.Seal((*span.Span).Seal); err != nil {
		b.t.Fatal(err)
	}
	outcomes, err := b.ledger.Append(b.t.Context(), []ledger.Group{group})
	if err != nil || outcomes[0].Err != nil || !outcomes[0].Won {
		b.t.Fatalf("append: %+v, %v", outcomes, err)
	}
}

// cancelRequested appends the owner's wish to cancel.
func (b *bench) cancelRequested(s *span.Span) *span.Span {
	b.t.Helper()
	exec(b.t, b.connect(), `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id, tenant_id,
		visibility, status, is_deleted) values ($1::text::uuid, $2, 'request', 'user:alice', $3, $4, 'private',
			'cancel_requested', $5)`,
		s.ID.String(), s.Seq+1, s.OwnerID, s.TenantID, s.IsDeleted)
	return b.latest(s.ID)
}

// deliver hands rows to the engine as the tail does, and returns whether each is disposed of.
func (b *bench) deliver(rows ...*span.Span) func() bool {
	b.t.Helper()
	var left atomic.Int64
	b.stampXacts(rows)
	for _, s := range rows {
		var calls atomic.Int64
		left.Add(1)
		b.undone.Add(1)
		err := b.engine.Row(b.t.Context(), published(s), func() {
			if calls.Add(1) > 1 {
				b.t.Errorf("done is called twice for %s version %d", s.ID, s.Seq)
				return
			}
			b.undone.Add(-1)
			left.Add(-1)
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	eventually(b.t, "the policies among them are read", func() bool {
		arrivals := 0
		if err := b.engine.tell(b.t.Context(), func() { arrivals = len(b.engine.judging.arrivals) }); err != nil {
			b.t.Fatal(err)
		}
		return arrivals == 0
	})
	return func() bool { return left.Load() == 0 }
}

// stampXacts gives rows the transactions that appended them; those that the ledger does not have are of a
// later one.
func (b *bench) stampXacts(rows []*span.Span) {
	b.t.Helper()
	var keys []span.Key
	for _, s := range rows {
		if s.Xact == nil {
			keys = append(keys, s.Key())
		}
	}
	found, err := b.ledger.Load(b.t.Context(), keys)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range rows {
		if there := found[s.Key()]; there != nil {
			s.Xact = there.Xact
		} else if s.Xact == nil {
			s.Xact = new("9000000000")
		}
	}
}

func published(s *span.Span) *span.Published {
	var xact uint64
	if s.Xact != nil {
		var err error
		if xact, err = strconv.ParseUint(*s.Xact, 10, 64); err != nil {
			panic(err)
		}
	}
	return &span.Published{ID: s.ID, Seq: s.Seq, EntityType: s.EntityType, Status: s.Status, OwnerID: s.OwnerID,
		TenantID: s.TenantID, Visibility: s.Visibility, IsDeleted: s.IsDeleted, ParentID: s.ParentID, At: s.At,
		AcceptedAt: *s.AcceptedAt, ScheduledAt: s.ScheduledAt, TraceID: s.TraceID, Xact: xact, CurrHash: s.CurrHash,
		PrevHash: s.PrevHash}
}

func (b *bench) latest(id span.ID) *span.Span {
	b.t.Helper()
	found, err := b.ledger.Latest(b.t.Context(), []span.ID{id})
	if err != nil {
		b.t.Fatal(err)
	}
	return found[id]
}

// becomes waits until the latest version of a request has this status, and returns it.
func (b *bench) becomes(id span.ID, status string) (s *span.Span) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%s is %s", id, status), func() bool {
		s = b.latest(id)
		return s != nil && s.StatusText() == status
	})
	return s
}

// versions returns the statuses of a span's versions, in order, and of its executions.
func (b *bench) versions(id span.ID) (versions, executions string) {
	b.t.Helper()
	err := b.connect().QueryRow(b.t.Context(), `select
		(select coalesce(string_agg(status, ' ' order by seq), '') from ledger.universal_registry where id =
			$1::text::uuid),
		(select coalesce(string_agg(status || coalesce(attempt, 0), ' ' order by attempt), '')
			from ledger.universal_registry where entity_type = 'execution'
			and metadata->'engine'->'cause'->>0 = $1)`, id.String()).Scan(&versions, &executions)
	if err != nil {
		b.t.Fatal(err)
	}
	return versions, executions
}

// want compares them. On a busy machine any run may take long enough for a running version: it counts only
// where it is asked for.
func (b *bench) want(id span.ID, versions, executions string) {
	b.t.Helper()
	v, x := b.versions(id)
	if !strings.Contains(versions, "running") {
		v = strings.Replace(v, " running", "", 1)
	}
	if v != versions || x != executions {
		b.t.Errorf("%s: versions %q and executions %q, want %q and %q", id, v, x, versions, executions)
	}
}

// quiet waits until nothing is under way.
func (b *bench) quiet() {
	b.t.Helper()
	eventually(b.t, "nothing is under way", func() bool {
		idle := false
		if err := b.engine.tell(b.t.Context(), func() {
			idle = b.engine.idle() && b.engine.loading.n == 0 && !b.engine.isRefilling() &&
				b.engine.ready.empty() && b.engine.outward.empty()
		}); err != nil {
			b.t.Fatal(err)
		}
		return idle
	})
}

func (b *bench) connect() *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.db.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// isRefilling reports whether pages of open requests are read, or wanted.
func (e *Engine) isRefilling() bool {
	for _, t := range e.tenants {
		if t.isSpilled || t.due != nil {
			return true
		}
	}
	return e.refills > 0 || e.later.isReading || len(e.wanting) > 0
}
