package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// starts notes when each request was given to its kernel.
type starts struct {
	mu   sync.Mutex
	late []time.Duration
	of   map[string][]time.Time // by tenant: the times they were due, as they started
}

func (s *starts) kernel(n *bench) func(context.Context, Job) error {
	s.of = map[string][]time.Time{}
	return func(ctx context.Context, job Job) error {
		clock := make(chan time.Time, 1)
		n.engine.do(func() { clock <- n.engine.now() })
		now := <-clock
		s.mu.Lock()
		for _, cause := range job.Batch {
			s.late = append(s.late, now.Sub(cause.ScheduledAt.Time))
			s.of[cause.TenantID] = append(s.of[cause.TenantID], cause.ScheduledAt.Time)
		}
		s.mu.Unlock()
		return n.complete(ctx, job)
	}
}

// delayed appends n requests of so many tenants, due over a second that begins after wait.
func (b *bench) delayed(n, tenants int, wait time.Duration) []*span.Span {
	b.t.Helper()
	begin, err := b.ledger.Now(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	begin = begin.Add(wait)
	rows := make([]*span.Span, n)
	var groups []ledger.Group
	for i := range rows {
		due := span.NewTime(begin.Add(time.Duration(i) * time.Second / time.Duration(n)))
		rows[i] = &span.Span{ID: idOf(i), EntityType: "request", Who: "user:alice", At: span.NewTime(begin),
			OwnerID: "alice", TenantID: fmt.Sprint("t", i%tenants), Visibility: "private", Status: new("scheduled"),
			ParentID: new(idOf(0xffff)), ScheduledAt: &due}
		group := ledger.Group{Rows: rows[i : i+1]}
		if err := group.Seal((*span.Span).Seal); err != nil {
			b.t.Fatal(err)
		}
		groups = append(groups, group)
	}
	for part := range slices.Chunk(groups, 500) {
		if _, err := b.ledger.Append(b.t.Context(), part); err != nil {
			b.t.Fatal(err)
		}
	}
	found, err := b.ledger.Latest(b.t.Context(), idsOf(rows))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range rows {
		rows[i] = found[rows[i].ID]
	}
	return rows
}

func idsOf(rows []*span.Span) []span.ID {
	ids := make([]span.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

func (b *bench) awaitStarts(s *starts, n int) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%d have started", n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.late) == n
	})
}

// Requests that come due start in the order of their times, none of them early, tenants beside each other.
func TestWhatIsDueStartsInOrderAndNotEarly(t *testing.T) {
	t.Parallel()
	var s starts
	b := setup(t, func(n *bench) { n.kernels["request_worker"] = s.kernel(n) })
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.deliver(b.delayed(1000, 4, 2*time.Second)...)
	b.awaitStarts(&s, 1000)
	early := slices.ContainsFunc(s.late, func(late time.Duration) bool { return late < 0 })
	for tenant, due := range s.of {
		// A run takes 16 at once, and two runs may start in either order.
		for i := range due {
			if i >= 64 && due[i].Before(due[i-64]) {
				t.Errorf("of %s one that is due at %s starts behind one of %s", tenant, due[i], due[i-64])
			}
		}
	}
	if early || len(s.of) != 4 {
		t.Errorf("one starts early: %v", slices.Min(s.late))
	}
}

func report(b *testing.B, name string, late []time.Duration) {
	slices.Sort(late)
	for _, q := range []struct {
		name string
		at   int
	}{{"p50", len(late) / 2}, {"p99", len(late) * 99 / 100}, {"max", len(late) - 1}} {
		b.ReportMetric(float64(late[q.at].Microseconds())/1000, name+"-"+q.name+"-ms")
	}
}

// BenchmarkTimers: how late what waits for its time starts: one alone, and ten thousand of one second.
func BenchmarkTimers(b *testing.B) {
	for b.Loop() {
		var alone, all starts
		e := setup(b, func(n *bench) { n.kernels["request_worker"] = alone.kernel(n) })
		if err := e.engine.Lead(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		e.deliver(e.delayed(20, 20, time.Second)...)
		e.awaitStarts(&alone, 20)
		e.end()
		e = setup(b, func(n *bench) { n.kernels["request_worker"] = all.kernel(n) })
		if err := e.engine.Lead(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		e.deliver(e.delayed(10_000, 50, 15*time.Second)...)
		e.awaitStarts(&all, 10_000)
		report(b, "alone", alone.late)
		report(b, "10000", all.late)
	}
}

// BenchmarkSchedules: from the moment that ten thousand schedules share to all their requests, and to that of
// one alone.
func BenchmarkSchedules(b *testing.B) {
	since := clock(b, noon)
	for b.Loop() {
		for _, n := range []int{1, 10_000} {
			e := setup(b, func(n *bench) { n.kernels["request_worker"] = silent })
			var all []ledger.Schedule
			for i := range n {
				s := stated(i, since, `{"cron":"* * * * *","tz":"America/Sao_Paulo"}`)
				s.TenantID = fmt.Sprint("t", i%50)
				all = append(all, s)
			}
			e.leadAt(since, nil, all...)
			began := time.Now()
			e.ring(since.Add(time.Minute))
			took := time.Since(began)
			count := 0
			if err := e.connect().QueryRow(b.Context(), `select count(*) from ledger.universal_registry
				where entity_type = 'request' and seq = 0`).Scan(&count); err != nil || count != n {
				b.Fatalf("%d requests, %v", count, err)
			}
			b.ReportMetric(float64(took.Microseconds())/1000, fmt.Sprintf("%d-ms", n))
			began = time.Now() // a new leader finds all of them there
			e.leadAt(since.Add(time.Minute+time.Second), nil, all...)
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000, fmt.Sprintf("%d-takeover-ms", n))
			e.end()
		}
	}
}
