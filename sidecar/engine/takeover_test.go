package engine

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

func (b *bench) lead() {
	b.t.Helper()
	if err := b.engine.Lead(b.t.Context(), ""); err != nil {
		b.t.Fatal(err)
	}
}

// stuck is a kernel that never ends by itself.
func stuck(ctx context.Context, _ Job) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestLostSidecarsCostAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.put(1, "request", func(s *span.Span) { s.Input = json.RawMessage(`{"n":1}`) })
	for range 3 {
		sidecar := b.start(func(n *bench) {
			n.kernels["request_worker"] = stuck
			n.drain = time.Nanosecond
		})
		sidecar.lead()
		eventually(t, "it runs", func() bool { return sidecar.booted("request_worker", request.ID) == 1 })
		sidecar.end()
	}
	b.want(request.ID, "scheduled running running running", "")
	last := b.start()
	last.lead()
	dead := last.becomes(request.ID, "dead")
	if *dead.Attempt != 3 || dead.Reason == nil || !strings.Contains(string(dead.Error), "crash") {
		t.Errorf("got attempt %d, reason %v, error %s", *dead.Attempt, dead.Reason, dead.Error)
	}
	b.want(request.ID, "scheduled running running running dead", "")
	if n := last.booted("request_worker", request.ID); n != 0 {
		t.Errorf("the dead ran %d times", n)
	}
}

func TestTakeOverGoesOnWithInputAndAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	input := func(s *span.Span) { s.Input = json.RawMessage(`{"n":1}`) }
	fresh := b.put(1, "request", input)
	running := b.follow(b.put(2, "request", input), "running", attempt(1))
	ended := b.follow(b.put(3, "request"), "complete")
	cancelled := b.cancelRequested(b.put(4, "request"))
	later := b.put(5, "request",
		func(s *span.Span) { s.ScheduledAt = new(span.NewTime(time.Now().Add(time.Hour))) })
	b.lead()
	b.becomes(fresh.ID, "complete")
	b.becomes(running.ID, "complete")
	b.becomes(cancelled.ID, "cancelled")
	b.quiet()
	b.want(fresh.ID, "scheduled running complete", "complete1")
	b.want(running.ID, "scheduled running running complete", "complete2")
	b.want(ended.ID, "scheduled complete", "")
	b.want(cancelled.ID, "scheduled cancel_requested cancelled", "")
	b.want(later.ID, "scheduled", "")
	for _, job := range b.boots {
		for _, s := range job.Batch {
			if string(s.Input) != `{"n": 1}` && string(s.Input) != `{"n":1}` {
				t.Errorf("the input of %s is %s", s.ID, s.Input)
			}
		}
	}
	b.lead() // again, as after a lost connection: nothing changes
	b.quiet()
	b.want(fresh.ID, "scheduled running complete", "complete1")
	b.want(later.ID, "scheduled", "")
}

func TestTakeOverReadsEveryPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	function := b.put(0xffff, "function", func(s *span.Span) { s.Status, s.ParentID = new("active"), nil })
	exec(t, b.connect(), `insert into ledger.universal_registry (id, entity_type, who, owner_id, tenant_id, status,
			parent_id)
		select ('018f0000-' || lpad(to_hex(n), 4, '0') || '-7000-8000-000000000000')::uuid, 'request', 'user:a',
			'alice',
			't1', 'scheduled', $1::text::uuid
		from generate_series(1, 1100) n`, function.ID.String())
	b.lead()
	eventually(t, "all are executed", func() bool { return b.engine.Stats().Executed.Load() == 1100 })
	var rows int
	if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
		where status = 'complete' and entity_type = 'request'`).Scan(&rows); err != nil || rows != 1100 {
		t.Errorf("%d complete, %v", rows, err)
	}
}

func TestCancelRequested(t *testing.T) {
	t.Parallel()
	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		request := b.put(1, "request",
			func(s *span.Span) { s.ScheduledAt = new(span.NewTime(time.Now().Add(time.Hour))) })
		b.deliver(request)
		eventually(t, "it waits", func() bool { return b.engine.Stats().Open.Load() == 1 })
		eventually(t, "the wish is disposed of", b.deliver(b.cancelRequested(request)))
		b.becomes(request.ID, "cancelled")
		b.want(request.ID, "scheduled cancel_requested cancelled", "")
	})
	t.Run("while it runs", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(b *bench) { b.kernels["request_worker"] = stuck })
		request := b.put(1, "request")
		b.deliver(request)
		running := b.becomes(request.ID, "running")
		eventually(t, "the mark is known", func() bool {
			var seq int
			_ = b.engine.tell(t.Context(), func() { seq = b.engine.open[request.ID].span.Seq })
			return seq == 1
		})
		b.deliver(b.cancelRequested(running))
		b.becomes(request.ID, "cancelled")
		b.quiet()
		b.want(request.ID, "scheduled running cancel_requested cancelled", "")
	})
	t.Run("while its result is on the way", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.mu.Lock()
		b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			b.cancelRequested(b.becomes(job.Batch[0].ID, "running"))
			return b.complete(ctx, job)
		}
		b.mu.Unlock()
		request := b.put(1, "request")
		b.deliver(request)
		b.becomes(request.ID, "cancelled")
		b.want(request.ID, "scheduled running cancel_requested cancelled", "")
	})
	t.Run("and deleted with it", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(b *bench) { b.kernels["request_worker"] = stuck })
		request := b.put(1, "request")
		b.deliver(request)
		running := b.becomes(request.ID, "running")
		running.IsDeleted = true
		b.deliver(b.cancelRequested(running))
		b.becomes(request.ID, "cancelled")
	})
	t.Run("of a request that nobody knew", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		wish := b.cancelRequested(b.put(1, "request"))
		eventually(t, "the wish is disposed of", b.deliver(wish))
		b.becomes(wish.ID, "cancelled")
	})
}

// What a cancelled run leaves behind is committed with the request's end; where the ledger refuses it, the
// request ends nevertheless.
func TestACancelledRunLeavesItsExecution(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"alice": 1, "": 0} { // the ledger takes no span without an owner
		b := setup(t, func(b *bench) {
			b.kernels["request_worker"] = stuck
			b.cancelled = func(_ context.Context, request, _ *span.Span) (ledger.Group, error) {
				execution := derived("execution", request, span.Derive("execution", time.Now(), []span.ID{request.ID}))
				execution.Status, execution.ParentID, execution.OwnerID = new("error"), request.ParentID, name
				group := ledger.Group{Fence: request.NextRequest("sidecar:test", "cancelled"),
					Rows: []*span.Span{execution}}
				return group, group.Seal((*span.Span).Seal)
			}
		})
		request := b.put(1, "request")
		b.deliver(request)
		b.deliver(b.cancelRequested(b.becomes(request.ID, "running")))
		b.becomes(request.ID, "cancelled")
		b.quiet()
		var n int
		if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
			where entity_type = 'execution'`).Scan(&n); err != nil || n != want {
			t.Errorf("of owner %q: %d executions, want %d; %v", name, n, want, err)
		}
	}
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	started, goOn := make(chan struct{}), make(chan struct{})
	b := setup(t, func(b *bench) {
		b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			close(started)
			<-goOn
			return b.complete(ctx, job)
		}
	})
	request := b.put(1, "request")
	b.deliver(request)
	<-started
	b.stop()
	close(goOn)
	b.end()
	if status := b.latest(request.ID).StatusText(); status != "complete" {
		t.Errorf("it is left as %s", status)
	}
}

// Past its deadline a drain cancels: nothing is half done, rows stay undisposed, and Run returns.
func TestDrainPastItsDeadlineLeavesWorkOpen(t *testing.T) {
	t.Parallel()
	t.Run("runs", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(b *bench) {
			b.kernels["request_worker"], b.kernels["observer_bot"] = stuck, stuck
			b.drain = time.Millisecond
		})
		request, function := b.put(1, "request"), b.put(2, "function")
		eventually(t, "the request is disposed of", b.deliver(request))
		disposed := b.deliver(function)
		eventually(t, "both run", func() bool {
			return b.booted("request_worker", request.ID) == 1 && b.booted("observer_bot", function.ID) == 1
		})
		b.end()
		if disposed() {
			t.Error("the function is disposed of, though it has no request")
		}
		if v, x := b.versions(request.ID); x != "" || strings.Contains(v, "complete") {
			t.Errorf("left: %q, %q", v, x)
		}
	})
	t.Run("commits", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(b *bench) { b.drain = time.Millisecond })
		lock := b.connect()
		request, function := b.put(1, "request"), b.put(2, "function")
		exec(t, lock, "begin; lock table ledger.universal_registry in share row exclusive mode")
		b.deliver(request)
		disposed := b.deliver(function)
		eventually(t, "both commits are under way", func() bool {
			var n int
			_ = b.engine.tell(t.Context(), func() { n = b.engine.committing })
			return n > 0 && b.booted("request_worker", request.ID) == 1 && b.booted("observer_bot", function.ID) == 1
		})
		b.stop()
		select {
		case <-b.ended:
		case <-time.After(15 * time.Second):
			t.Error("the engine does not stop while its commit hangs")
		}
		exec(t, lock, "commit")
		b.end()
		if disposed() {
			t.Error("the function is disposed of, though its request is not there")
		}
		b.want(request.ID, "scheduled", "")
	})
}

func TestRowBlocksWhenTooMuchIsUndisposed(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		b.kernels["observer_bot"] = stuck
		b.drain = time.Millisecond
	})
	const most = crowdMax/2 + itemsMax // half of what all tenants may have waiting, and then their places
	function := published(b.put(1, "function"))
	for i := range most {
		if err := b.engine.Row(t.Context(), function, func() { t.Error("disposed of") }); err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if b.engine.Row(ctx, function, func() { t.Error("disposed of") }) == nil {
		t.Errorf("%d rows are taken", most+1)
	}
}

// Its attempts have begun anew: it may outlive as many sidecars as a new one.
func TestARedrivenRequestIsNotDeadAtTheNextLoss(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.put(1, "request")
	for n := range 3 {
		s = b.follow(s, "running", attempt(n+1))
	}
	b.follow(s, "dead", attempt(3))
	b.sendAgain(s.ID)
	for n := range 2 {
		sidecar := b.start(func(n *bench) {
			n.kernels["request_worker"] = stuck
			n.drain = time.Nanosecond
		})
		sidecar.lead()
		eventually(t, "it runs as the next attempt", func() bool {
			now := sidecar.latest(s.ID)
			return now.StatusText() == "running" && *now.Attempt == 4+n
		})
		eventually(t, "it runs", func() bool { return sidecar.booted("request_worker", s.ID) == 1 })
		sidecar.end()
	}
	last := b.start()
	last.lead()
	last.becomes(s.ID, "complete")
	b.want(s.ID, "scheduled running running running dead scheduled running running running complete", "complete6")
}

// sendAgain appends the owner's wish to run a dead request once more.
func (b *bench) sendAgain(id span.ID) {
	b.t.Helper()
	exec(b.t, b.connect(), `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id, tenant_id,
			visibility, status)
		select id, seq + 1, entity_type, 'user:alice', owner_id, tenant_id, visibility, 'scheduled'
		from ledger.universal_registry where id = $1::text::uuid order by seq desc limit 1`, id.String())
}

// The wish comes when the running version is committed, and the run has not begun.
func TestAWishToCancelThatMeetsTheMarkIsHeard(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels["request_worker"], b.drain = stuck, time.Millisecond })
	first := b.put(1, "request")
	wish := b.cancelRequested(b.follow(first, "running", attempt(1)))
	if err := b.engine.tell(t.Context(), func() {
		marking := *first
		r := &request{id: first.ID, kernel: "request_worker", span: &marking, phase: reading}
		b.engine.hold(r, first.TenantID)
		b.engine.observeRequest(published(wish))
		marking.Seq, marking.Status, marking.Attempt = 1, new("running"), new(1) // now the mark is known
		r.isMarked, r.markSeq = true, 1
		b.engine.enqueue(r)
	}); err != nil {
		t.Fatal(err)
	}
	b.becomes(first.ID, "cancelled")
	if n := b.booted("request_worker", first.ID); n != 0 {
		t.Errorf("it ran %d times", n)
	}
}
