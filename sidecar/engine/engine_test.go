package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

func TestScheduledFunctionRunsOnceThoughDeliveredTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	function := b.put(1, "function")
	request := requestOf(function).ID
	disposed := b.deliver(function, function)
	b.becomes(request, "complete")
	eventually(t, "the row is disposed of", disposed)
	again := b.deliver(function, b.loaded(span.Key{ID: request}), b.latest(request))
	eventually(t, "what comes back is disposed of", again)
	b.quiet()
	b.want(request, "scheduled complete", "complete1")
	if n := b.booted("request_worker", request); n != 1 {
		t.Errorf("the request ran %d times", n)
	}
	if executed := b.engine.Stats().Executed.Load(); executed != 1 {
		t.Errorf("%d counted", executed)
	}
}

// loaded returns one version as it stands.
func (b *bench) loaded(key span.Key) *span.Span {
	b.t.Helper()
	spans, err := b.load(b.t.Context(), []span.Key{key})
	if err != nil || spans[0] == nil {
		b.t.Fatal("no such version", err)
	}
	return spans[0]
}

func TestClientsRequestRunsOnceThoughDeliveredTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.put(1, "request")
	eventually(t, "the rows are disposed of", b.deliver(request, request))
	b.becomes(request.ID, "complete")
	eventually(t, "the row is disposed of", b.deliver(request))
	b.quiet()
	b.want(request.ID, "scheduled complete", "complete1")
}

func TestTwoSidecarsMakeOneTerminalVersion(t *testing.T) {
	t.Parallel()
	one := setup(t)
	two := one.start(func(b *bench) { b.node = "two" })
	var ids []span.ID
	for i := range 30 {
		request := one.put(i, "request", func(s *span.Span) { s.TenantID = fmt.Sprint("t", i%3) })
		ids = append(ids, request.ID)
		one.deliver(request)
		two.deliver(request)
	}
	for _, id := range ids {
		one.becomes(id, "complete")
	}
	one.quiet()
	two.quiet()
	for _, id := range ids {
		// A slow run may be taken over by the other: the attempt then counts.
		v, x := one.versions(id)
		if strings.Count(v, "complete") != 1 || !strings.HasSuffix(v, "complete") || strings.Contains(x, " ") ||
			x == "" {
			t.Errorf("%s: versions %q, executions %q", id, v, x)
		}
	}
}

func TestRowsWithoutATriggerAreDisposedOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rows := []*span.Span{b.put(1, "note"), b.put(2, "function", func(s *span.Span) { s.Status = new("draft") }),
		b.put(3, "request", func(s *span.Span) { s.IsDeleted = true })}
	eventually(t, "they are disposed of", b.deliver(rows...))
	b.quiet()
	if len(b.boots) != 0 {
		t.Errorf("%d kernels ran", len(b.boots))
	}
}

// A batch that a kernel cannot deal with is halved until the faulty span stands alone.
func TestPoisonedSpanCostsNoOther(t *testing.T) {
	t.Parallel()
	poisoned := idOf(37)
	b := setup(t, func(b *bench) {
		b.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
			if slices.ContainsFunc(job.Batch, func(s *span.Span) bool { return s.ID == poisoned }) {
				return &span.RunError{Code: span.RunException, Message: "poison"}
			}
			return b.observe(ctx, job)
		}
	})
	var rows []*span.Span
	for i := range 100 {
		rows = append(rows, b.put(i, "function"))
	}
	eventually(t, "all are disposed of", b.deliver(rows...))
	for _, function := range rows {
		if function.ID != poisoned {
			b.becomes(requestOf(function).ID, "complete")
		}
	}
	b.quiet()
	var incidents int
	if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
		where entity_type = 'incident' and parent_id = $1::text::uuid and tenant_id = 'system'
			and error->>'message' = 'poison'`, poisoned.String()).Scan(&incidents); err != nil || incidents != 1 {
		t.Errorf("%d incidents, %v", incidents, err)
	}
	if b.latest(requestOf(rows[37]).ID) != nil {
		t.Error("the poisoned span has a request")
	}
}

func TestPoisonedRequestCostsNoOther(t *testing.T) {
	t.Parallel()
	poisoned := idOf(5)
	for name, fault := range map[string]error{
		"refusal": &span.RunError{Code: span.RunException, Message: "poison"},
		"fault":   errors.New("the kernel host died"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			b := setup(t, func(b *bench) {
				b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
					<-gate
					if slices.ContainsFunc(job.Batch, func(s *span.Span) bool { return s.ID == poisoned }) {
						return fault
					}
					return b.complete(ctx, job)
				}
			})
			// The first takes the loop's attention, so that the others make one batch.
			var rows []*span.Span
			for i := range 12 {
				rows = append(rows, b.put(i, "request"))
			}
			b.deliver(rows...)
			close(gate)
			for _, request := range rows {
				status := "complete"
				if request.ID == poisoned {
					status = "error"
				}
				eventually(t, "it ends", func() bool { return span.IsTerminal(b.latest(request.ID).StatusText()) })
				if got := b.latest(request.ID).StatusText(); got != status {
					t.Errorf("%s ends as %s, want %s", request.ID, got, status)
				}
			}
		})
	}
}

func TestRefusedResultEndsAsAnExecutionError(t *testing.T) {
	t.Parallel()
	bad := idOf(1)
	b := setup(t, func(b *bench) {
		b.kernels["request_worker"] = func(_ context.Context, job Job) error {
			for _, cause := range job.Batch {
				group := done(b.t, cause)
				if cause.ID == bad {
					group.Rows[0].Visibility = "nobody"
					if err := group.Seal((*span.Span).Seal); err != nil {
						return err
					}
				}
				job.Emit(cause.Key(), group, nil)
			}
			return nil
		}
	})
	rows := []*span.Span{b.put(0, "request"), b.put(1, "request"), b.put(2, "request")}
	b.deliver(rows...)
	b.becomes(rows[0].ID, "complete")
	b.becomes(rows[2].ID, "complete")
	b.becomes(bad, "error")
	b.want(bad, "scheduled error", "error1")
	var code string
	if err := b.connect().QueryRow(t.Context(), `select error->>'code' || ' ' || (error->>'message' like '%visibility%')
		from ledger.universal_registry where entity_type = 'execution' and status =
			'error'`).Scan(&code); err != nil ||
		code != "denied true" {
		t.Errorf("got %q, %v", code, err)
	}
}

// A kernel that gives no result for a request ends it; nothing stays open for ever.
func TestRequestPassedOverEndsAsError(t *testing.T) {
	t.Parallel()
	for name, kernel := range map[string]func(context.Context, Job) error{
		"silent": func(context.Context, Job) error { return nil },
		"no fence": func(_ context.Context, job Job) error {
			job.Emit(job.Batch[0].Key(), ledger.Group{}, nil)
			return nil
		},
		"failure": func(_ context.Context, job Job) error {
			job.Emit(job.Batch[0].Key(), ledger.Group{}, &span.RunError{Code: span.RunTimeout})
			return nil
		},
		"refusal":      func(context.Context, Job) error { return &span.RunError{Code: span.RunRevoked} },
		"always fault": func(context.Context, Job) error { return errors.New("no process") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(b *bench) { b.kernels["request_worker"] = kernel })
			request := b.put(1, "request")
			b.deliver(request)
			b.becomes(request.ID, "error")
			b.want(request.ID, "scheduled error", "error1")
		})
	}
}

func TestLostFenceWritesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			b.follow(b.becomes(job.Batch[0].ID, "running"), "error") // another sidecar was faster
			return b.complete(ctx, job)
		}
	})
	request := b.put(1, "request")
	b.deliver(request)
	eventually(t, "the fence is lost", func() bool { return b.engine.Stats().FencesLost.Load() == 1 })
	b.quiet()
	b.want(request.ID, "scheduled running error", "")
	if open := b.engine.Stats().Open.Load(); open != 0 {
		t.Errorf("%d open", open)
	}
}

// The answer of a commit was lost, and the commit tried again: our own hash stands there.
func TestAmbiguousCommitCountsAsWon(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		b.kernels["request_worker"] = func(_ context.Context, job Job) error {
			running := b.becomes(job.Batch[0].ID, "running")
			group := done(b.t, job.Batch[0])
			group.Fence.Seq, group.Fence.PrevHash = running.Seq+1, running.CurrHash
			b.append(group)
			job.Emit(job.Batch[0].Key(), group, nil)
			return nil
		}
	})
	request := b.put(1, "request")
	b.deliver(request)
	eventually(t, "it is counted", func() bool { return b.engine.Stats().Executed.Load() == 1 })
	b.want(request.ID, "scheduled running complete", "complete1")
	if lost := b.engine.Stats().FencesLost.Load(); lost != 0 {
		t.Errorf("%d fences lost", lost)
	}
}

// The same for a request that was just made: its row may come back while the commit is being tried.
func TestAmbiguousRequestStillRuns(t *testing.T) {
	t.Parallel()
	locked := make(chan struct{})
	b := setup(t)
	lock := b.connect()
	b.mu.Lock()
	b.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
		b.append(ledger.Group{Rows: []*span.Span{requestOf(job.Batch[0])}})
		exec(b.t, lock, "begin; lock table ledger.universal_registry in share row exclusive mode")
		defer close(locked)
		return b.observe(ctx, job)
	}
	b.mu.Unlock()
	function := b.put(1, "function")
	disposed := b.deliver(function)
	<-locked
	request := b.loaded(span.Key{ID: requestOf(function).ID})
	eventually(t, "the commit is being tried", func() bool {
		var own bool
		_ = b.engine.tell(t.Context(), func() { own = b.engine.own[request.Key()] })
		return own
	})
	eventually(t, "its row came back", b.deliver(request))
	exec(t, lock, "commit")
	eventually(t, "the function is disposed of", disposed)
	b.becomes(request.ID, "complete")
	b.want(request.ID, "scheduled complete", "complete1")
}

// An id that stands for another cause is an error that is reported, never silence.
func TestIDOfAnotherCauseIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	function, other := b.put(1, "function"), b.put(2, "function")
	thief := requestOf(other)
	thief.ID = requestOf(function).ID
	thief.Status = new("scheduled")
	b.append(ledger.Group{Rows: []*span.Span{thief}})
	eventually(t, "the row is disposed of", b.deliver(function))
	var message string
	if err := b.connect().QueryRow(t.Context(), `select error->>'message' from ledger.universal_registry
		where entity_type = 'incident'`).Scan(&message); err != nil || !strings.Contains(message, "another cause") {
		t.Errorf("got %q, %v", message, err)
	}
}

func TestLongRunGetsARunningVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mu.Lock()
	b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
		b.becomes(job.Batch[0].ID, "running")
		return b.complete(ctx, job)
	}
	b.mu.Unlock()
	request := b.put(1, "request")
	b.deliver(request)
	last := b.becomes(request.ID, "complete")
	b.want(request.ID, "scheduled running complete", "complete1")
	middle := b.loaded(span.Key{ID: request.ID, Seq: 1})
	if last.Seq != 2 || *last.PrevHash != *middle.CurrHash || *middle.PrevHash != *request.CurrHash ||
		last.VerifyHash() != nil || middle.VerifyHash() != nil || middle.Who != "sidecar:one" ||
		*middle.Attempt != 1 {
		t.Errorf("the chain is %+v after %+v", last, middle)
	}
	// Its own versions that come back change nothing.
	eventually(t, "they are disposed of", b.deliver(middle, last))
	b.quiet()
	b.want(request.ID, "scheduled running complete", "complete1")
}

func TestFunctionWithNetworkIsMarkedBeforeItStarts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	manifest := *b.manifest
	manifest.Grants = map[string][]span.Grant{idOf(0xffff).String(): {{Action: span.ActionFetch,
		Objects: []string{"h:1"}}}}
	status := make(chan string, 2)
	two := b.start(func(n *bench) {
		n.manifest = &manifest
		n.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			status <- n.latest(job.Batch[0].ID).StatusText()
			return n.complete(ctx, job)
		}
	})
	request := b.put(1, "request")
	two.deliver(request)
	two.becomes(request.ID, "complete")
	if got := <-status; got != "running" {
		t.Errorf("it starts as %s", got)
	}
	b.want(request.ID, "scheduled running complete", "complete1")
}

// Calls outside last as long as a stranger's server likes. They have places of their own, and a neighbor who
// calls outside, too, finds one among these.
func TestWhoWaitsForTheNetworkHoldsUpNobody(t *testing.T) {
	t.Parallel()
	outside := idOf(0xeeee)
	answered := make(chan struct{})
	answer := sync.OnceFunc(func() { close(answered) })
	defer answer()
	b := setup(t, func(n *bench) {
		manifest := *n.manifest
		manifest.Grants = map[string][]span.Grant{outside.String(): {{Action: span.ActionFetch,
			Objects: []string{"h:1"}}}}
		n.manifest = &manifest
		n.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			for _, cause := range job.Batch {
				if *cause.ParentID == outside && cause.TenantID != "neighbor" {
					<-answered
				}
			}
			return n.complete(ctx, job)
		}
	})
	var slow []*span.Span
	of := func(tenant string, parent span.ID) func(*span.Span) {
		return func(s *span.Span) { s.TenantID, s.ParentID = tenant, &parent }
	}
	for i := range 150 {
		slow = append(slow, b.put(i, "request", of([]string{"t1", "t2", "t3"}[i%3], outside)))
	}
	b.deliver(slow...)
	eventually(t, "they fill their places", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		n := 0
		for _, job := range b.boots {
			n += len(job.Batch)
		}
		return n >= 45 // three tenants have about 15 each, and more are free
	})
	quick := b.put(1000, "request", of("t1", idOf(0xffff)))
	neighbors := b.put(1001, "request", of("neighbor", outside))
	b.deliver(quick, neighbors)
	b.becomes(quick.ID, "complete")
	b.becomes(neighbors.ID, "complete")
	answer()
	for _, request := range slow {
		b.becomes(request.ID, "complete")
	}
}

func TestRequestWaitsUntilItIsDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	due := time.Now().Add(700 * time.Millisecond)
	early := make(chan time.Duration, 1)
	b.mu.Lock()
	b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
		early <- time.Until(due)
		return b.complete(ctx, job)
	}
	b.mu.Unlock()
	request := b.put(1, "request", func(s *span.Span) { s.ScheduledAt = new(span.NewTime(due)) })
	eventually(t, "the row is disposed of at once", b.deliver(request))
	b.becomes(request.ID, "complete")
	if d := <-early; d > 5*time.Millisecond {
		t.Errorf("it ran %s too early", d)
	}
	b.want(request.ID, "scheduled complete", "complete1")
}

func TestTransientFaultIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		for _, kernel := range []string{"request_worker", "observer_bot"} {
			run := b.kernels[kernel]
			var once sync.Once
			b.kernels[kernel] = func(ctx context.Context, job Job) (err error) {
				once.Do(func() { err = errors.New("the database is away") })
				if err == nil {
					err = run(ctx, job)
				}
				return err
			}
		}
	})
	function := b.put(1, "function")
	eventually(t, "it is disposed of", b.deliver(function))
	id := requestOf(function).ID
	b.becomes(id, "complete")
	b.want(id, "scheduled complete", "complete1")
}
