package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// gated is a request_worker that ends when gate is closed, and says on begun that it has begun.
func (b *bench) gated(begun chan<- span.ID, gate <-chan struct{}) func(context.Context, Job) error {
	return func(ctx context.Context, job Job) error {
		for _, cause := range job.Batch {
			begun <- cause.ID
		}
		select {
		case <-gate:
			return b.complete(ctx, job)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// together checks that a request was born with its end: one transaction.
func (b *bench) together(id span.ID) bool {
	b.t.Helper()
	return valueOf[int](b, `select count(distinct xact) from ledger.universal_registry
		where id = $1 or $1 = any(related_to) and entity_type = 'execution'`, id) == 1
}

func valueOf[T any](b *bench, query string, args ...any) T {
	b.t.Helper()
	var value T
	if err := b.connect().QueryRow(b.t.Context(), query, args...).Scan(&value); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return value
}

// kept checks how many executions there are.
func (b *bench) kept(want int) {
	b.t.Helper()
	const query = "select count(*) from ledger.universal_registry where entity_type = 'execution'"
	if n := valueOf[int](b, query); n != want {
		b.t.Errorf("%d executions, want %d", n, want)
	}
}

func TestARequestIsCommittedWithItsResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	function := b.put(1, "function")
	disposed := b.deliver(function)
	request := requestOf(function)
	b.becomes(request.ID, "complete")
	eventually(t, "its cause is disposed of", disposed)
	if !b.together(request.ID) || b.engine.stats.Commits.Load() != 1 {
		t.Errorf("%d commits for one short run", b.engine.stats.Commits.Load())
	}
	b.kept(1)
}

// Who is killed between the run and its commit leaves nothing, and the row is not disposed of: the next
// sidecar gets it again, and runs the same request.
func TestARunThatDiesUnbornIsRunByTheNext(t *testing.T) {
	t.Parallel()
	begun, never := make(chan span.ID, 4), make(chan struct{})
	b := setup(t, func(n *bench) { n.drain, n.kernels["request_worker"] = 1, n.gated(begun, never) })
	function := b.put(1, "function")
	disposed := b.deliver(function)
	id := <-begun
	b.end() // within the time in which it is unborn, or soon after: its drain is over at once
	if disposed() && valueOf[int](b, "select count(*) from ledger.universal_registry where id = $1", id) == 0 {
		t.Fatal("its cause is disposed of, and it does not stand")
	}
	next := b.start(func(n *bench) { n.node = "two" })
	if err := next.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	next.deliver(function)
	next.becomes(id, "complete")
	next.kept(1)
}

func TestARunThatLastsIsBornMeanwhile(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan span.ID, 4), make(chan struct{})
	b := setup(t, func(n *bench) { n.kernels["request_worker"] = n.gated(begun, gate) })
	disposed := b.deliver(b.put(1, "function"))
	id := <-begun
	eventually(t, "it stands while it runs", func() bool {
		return valueOf[int](b, "select count(*) from ledger.universal_registry where id = $1 and seq = 0", id) == 1
	})
	eventually(t, "its cause is disposed of", disposed)
	close(gate)
	b.becomes(id, "complete")
	if b.together(id) {
		t.Error("it was born twice")
	}
	b.kept(1)
}

// What reads waits until the request stands.
func TestAReadSeesItsOwnRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan int, 1)
	b := setup(t, func(n *bench) {
		n.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			if err := job.Born(ctx, job.Batch[0].Key()); err != nil {
				return err
			}
			seen <- valueOf[int](n, "select count(*) from ledger.universal_registry where id = $1", job.Batch[0].ID)
			return n.complete(ctx, job)
		}
	})
	function := b.put(1, "function")
	b.deliver(function)
	if n := <-seen; n == 0 {
		t.Error("the run does not find its request")
	}
	b.becomes(requestOf(function).ID, "complete")
}

// Two that lead run the same request unborn: one of them is kept, and the other's result vanishes as a whole.
func TestOfTwoUnbornRunsOneIsKept(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan span.ID, 4), make(chan struct{})
	one := setup(t, func(n *bench) { n.kernels["request_worker"] = n.gated(begun, gate) })
	two := one.start(func(n *bench) { n.node, n.kernels["request_worker"] = "two", n.gated(begun, gate) })
	function := one.put(1, "function")
	var disposed []func() bool
	for _, b := range []*bench{one, two} {
		disposed = append(disposed, b.deliver(function))
	}
	id := <-begun
	close(gate)
	one.becomes(id, "complete")
	for _, is := range disposed {
		eventually(t, "both have disposed of the row", is)
	}
	one.kept(1)
	eventually(t, "nobody holds it open", func() bool {
		return one.engine.stats.Open.Load() == 0 && two.engine.stats.Open.Load() == 0
	})
}

// Where somebody else has made the request meanwhile and ran it, the unborn result is lost: this sidecar
// leads now, and runs it as the next attempt.
func TestAnUnbornResultLosesToWhatStands(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan span.ID, 4), make(chan struct{})
	b := setup(t, func(n *bench) { n.kernels["request_worker"] = n.gated(begun, gate) })
	function := b.put(1, "function")
	request := requestOf(function)
	running := request.NextRequest("sidecar:other", "running")
	running.Attempt = new(1)
	for _, row := range []*span.Span{request, running} {
		if err := row.Seal(row.PrevHash); err != nil {
			t.Fatal(err)
		}
		running.PrevHash = request.CurrHash
	}
	disposed := b.deliver(function)
	<-begun
	outcomes, err := b.ledger.Append(t.Context(), []ledger.Group{{Rows: []*span.Span{request, running}}})
	if err != nil || outcomes[0].Err != nil {
		t.Fatal(err, outcomes)
	}
	close(gate)
	eventually(t, "its cause is disposed of", disposed)
	b.becomes(request.ID, "complete")
	b.want(request.ID, "scheduled running running complete", "complete2")
}

// A request that does not stand yet can not be cancelled, as one that never will: its derived id tells nobody
// anything, and the run goes on.
func TestAnUnbornRequestCanNotBeCancelled(t *testing.T) {
	t.Parallel()
	refused := make(chan error, 1)
	b := setup(t)
	conn := b.connect()
	b.mu.Lock()
	b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
		hold := func(isBearing bool) (isUnborn bool) {
			_ = b.engine.tell(ctx, func() {
				if r := b.engine.unborn[job.Batch[0].ID]; r != nil && r.birth.isBearing != isBearing {
					r.birth.isBearing, isUnborn = isBearing, true
				}
			})
			return isUnborn
		}
		if hold(true) { // nobody commits it meanwhile
			_, err := conn.Exec(ctx, `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id,
				tenant_id, visibility, status) values ($1::text::uuid, 1, 'request', 'user:alice', 'alice', 't1',
				'private', 'cancel_requested')`, job.Batch[0].ID.String())
			hold(false)
			refused <- err
		}
		return b.complete(ctx, job)
	}
	b.mu.Unlock()
	for n := 1; ; n++ { // on a busy machine it may be born before its run begins
		function := b.put(n, "function")
		b.deliver(function)
		request := requestOf(function)
		b.becomes(request.ID, "complete")
		select {
		case err := <-refused:
			var refusal *pgconn.PgError
			if !errors.As(err, &refusal) || refusal.Code != string(span.CodeNoPrevious) {
				t.Errorf("its cancel is answered by %v", err)
			}
			b.want(request.ID, "scheduled complete", "complete1")
			return
		default:
		}
	}
}
