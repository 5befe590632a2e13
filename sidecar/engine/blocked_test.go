package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// gate is a kernel that blocks all requests until it is opened, and counts what it is asked.
type gate struct {
	mu     sync.Mutex
	isOpen bool
	until  time.Time
	asked  int
	during func() // the run of one
}

func (g *gate) run(b *bench) func(context.Context, Job) error {
	return func(_ context.Context, job Job) error {
		for _, cause := range job.Batch {
			g.mu.Lock()
			g.asked++
			isOpen, until, during := g.isOpen, g.until, g.during
			g.mu.Unlock()
			if during != nil {
				during()
			}
			if isOpen {
				job.Emit(cause.Key(), done(b.t, cause), nil)
				continue
			}
			group := ledger.Group{Fence: cause.NextRequest("kernel:run_code", "blocked")}
			group.Fence.ScheduledAt = new(span.NewTime(until))
			if err := group.Seal((*span.Span).Seal); err != nil {
				return err
			}
			job.Emit(cause.Key(), group, nil)
		}
		return nil
	}
}

func (g *gate) open(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOpen, g.until = true, until
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

// govern puts a manifest with other limits in force, and has the engine see it.
func (b *bench) govern(tenantLimit int) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() {
		manifest := *b.manifest
		manifest.Throttle.PerTenantDailyExecLimit = tenantLimit
		b.manifest = &manifest
	}); err != nil {
		b.t.Fatal(err)
	}
}

func blocking(g *gate) func(*bench) {
	return func(n *bench) { n.kernels["request_worker"] = g.run(n) }
}

func TestABlockedRequestRunsWhenItsTimeHasCome(t *testing.T) {
	t.Parallel()
	g := &gate{until: time.Now().Add(300 * time.Millisecond)}
	b := setup(t, blocking(g))
	request := b.put(1, "request")
	b.deliver(request)
	b.becomes(request.ID, "blocked")
	g.open(time.Time{})
	b.becomes(request.ID, "complete")
	b.want(request.ID, "scheduled blocked complete", "complete1")
}

func TestBlockedRequestsWaitUntilTheLimitsChange(t *testing.T) {
	t.Parallel()
	const many = 100
	g := &gate{until: time.Now().Add(time.Hour)}
	b := setup(t, blocking(g))
	var rows []*span.Span
	for i := range many {
		rows = append(rows, b.put(1+i, "request"))
	}
	b.deliver(rows...)
	for _, row := range rows {
		b.becomes(row.ID, "blocked")
	}
	b.quiet()
	if n := g.count(); n != many {
		t.Errorf("%d runs before the limits change, want %d", n, many)
	}
	b.govern(b.manifest.Throttle.PerTenantDailyExecLimit) // the same limits
	b.govern(7)                                           // lower ones: all are asked again, and none moves on
	eventually(t, "all are asked again", func() bool { return g.count() == 2*many })
	b.quiet()
	b.want(rows[0].ID, "scheduled blocked", "")
	g.open(time.Time{})
	b.govern(2000)
	for _, row := range rows {
		b.becomes(row.ID, "complete")
	}
	b.want(rows[0].ID, "scheduled blocked complete", "complete1")
}

func TestABlockedRequestIsCancelled(t *testing.T) {
	t.Parallel()
	g := &gate{until: time.Now().Add(time.Hour)}
	b := setup(t, blocking(g))
	request := b.put(1, "request")
	b.deliver(request)
	b.deliver(b.cancelRequested(b.becomes(request.ID, "blocked")))
	b.becomes(request.ID, "cancelled")
	b.want(request.ID, "scheduled blocked cancel_requested cancelled", "")
}

// A run that ends as it began takes no fence from whoever wants it to end.
func TestABlockedRequestIsCancelledWhileItIsAskedAgain(t *testing.T) {
	t.Parallel()
	g := &gate{until: time.Now().Add(time.Hour)}
	b := setup(t, blocking(g))
	request := b.put(1, "request")
	b.deliver(request)
	blocked := b.becomes(request.ID, "blocked")
	b.quiet()
	g.mu.Lock()
	g.during = func() {
		b.deliver(b.cancelRequested(blocked))
		eventually(t, "the wish is heard", func() bool {
			isHeard := false
			_ = b.engine.tell(t.Context(), func() { isHeard = b.engine.open[request.ID].isCancelled })
			return isHeard
		})
	}
	g.mu.Unlock()
	b.govern(5)
	b.becomes(request.ID, "cancelled")
}

// Waiting costs no attempt: neither while a sidecar is there, nor when one is lost.
func TestATakeOverKeepsWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	due := func(d time.Duration) func(*span.Span) {
		return func(s *span.Span) { s.ScheduledAt, s.Attempt = new(span.NewTime(time.Now().Add(d))), new(1) }
	}
	later := b.follow(b.put(1, "request"), "blocked", due(time.Hour))
	now := b.follow(b.put(2, "request"), "blocked", due(-time.Hour))
	failed := b.follow(b.put(3, "request"), "retry", due(-time.Hour))
	failedLater := b.follow(b.put(4, "request"), "retry", due(time.Hour))
	b.lead()
	b.becomes(now.ID, "complete")
	b.want(now.ID, "scheduled blocked complete", "complete1")
	b.becomes(failed.ID, "complete")
	b.want(failed.ID, "scheduled retry complete", "complete2")
	b.quiet()
	b.becomes(later.ID, "complete") // it is not known by which limits the one before blocked it
	b.want(later.ID, "scheduled blocked complete", "complete1")
	b.want(failedLater.ID, "scheduled retry", "")
}

// The one before blocked it by the limits of now, if the manifest is so old that he knew it.
func TestATakeOverAsksAgainWhatWasBlockedBeforeTheManifest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age     time.Duration
		isAsked bool
	}{{2 * freedMargin, false}, {freedMargin / 2, true}} {
		b := setup(t, func(n *bench) { n.since = func() time.Time { return time.Now().Add(-c.age) } })
		later := b.follow(b.put(1, "request"), "blocked", func(s *span.Span) {
			s.ScheduledAt, s.Attempt = new(span.NewTime(time.Now().Add(time.Hour))), new(1)
		})
		b.lead()
		now := b.put(2, "request") // which is there before
		b.deliver(now)
		b.becomes(now.ID, "complete")
		if c.isAsked {
			b.becomes(later.ID, "complete")
			continue
		}
		b.quiet()
		b.want(later.ID, "scheduled blocked", "")
	}
}

func TestARetryIsTheNextAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, func(n *bench) {
		n.kernels["request_worker"] = func(_ context.Context, job Job) error {
			for _, cause := range job.Batch {
				if *cause.Attempt == 3 {
					job.Emit(cause.Key(), done(n.t, cause), nil)
					continue
				}
				group, err := endOf(cause, "error")
				if err != nil {
					return err
				}
				group.Fence.Status = new("retry")
				group.Fence.ScheduledAt = new(span.NewTime(time.Now().Add(20 * time.Millisecond)))
				if err := group.Seal((*span.Span).Seal); err != nil {
					return err
				}
				job.Emit(cause.Key(), group, nil)
			}
			return nil
		}
	})
	request := b.put(1, "request")
	b.deliver(request)
	b.becomes(request.ID, "complete")
	b.want(request.ID, "scheduled retry retry complete", "error1 error2 complete3")
}

// An attempt that failed is no sidecar that was lost: only those count towards the end.
func TestRetriesAreNoLosses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	row := b.put(1, "request")
	for n := range 4 {
		row = b.follow(row, "retry", attempt(n+1))
	}
	row = b.follow(row, "running", attempt(5))
	lost := b.put(2, "request")
	for n := range 3 {
		lost = b.follow(lost, "running", attempt(n+1))
	}
	b.lead()
	b.becomes(row.ID, "complete")
	b.want(row.ID, "scheduled retry retry retry retry running running complete", "complete6")
	b.becomes(lost.ID, "dead")
}

// Whoever counts runs hears of each one's end, once, and whether it is in the ledger.
func TestTheEndOfEachRunIsSettled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	heard := map[span.ID][]bool{}
	b := setup(t, func(n *bench) {
		n.settled = func(id span.ID, isKept bool) {
			mu.Lock()
			defer mu.Unlock()
			heard[id] = append(heard[id], isKept)
		}
	})
	kept, lost := b.put(1, "request"), b.put(2, "request")
	b.mu.Lock()
	b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
		if job.Batch[0].ID == lost.ID {
			return stuck(ctx, job)
		}
		return b.complete(ctx, job)
	}
	b.mu.Unlock()
	b.deliver(kept)
	b.becomes(kept.ID, "complete")
	b.deliver(lost)
	eventually(t, "it runs", func() bool { return b.booted("request_worker", lost.ID) == 1 })
	b.deliver(b.cancelRequested(b.becomes(lost.ID, "running")))
	b.becomes(lost.ID, "cancelled")
	b.quiet()
	mu.Lock()
	defer mu.Unlock()
	if got := fmt.Sprint(heard[kept.ID]); got != "[true]" {
		t.Errorf("a run that ended: %s", got)
	}
	if got := fmt.Sprint(heard[lost.ID]); got != "[true]" {
		t.Errorf("a run that was cancelled: %s", got)
	}
}
