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

// source is a tail that polls: it hands over what is committed, and stores a cursor when all before it is
// disposed of.
type source struct {
	b      *bench
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	turns  []*turn
	stored span.Snapshot
}

type turn struct {
	snapshot span.Snapshot
	open     int
}

// follow starts a source that begins where the one before ended.
func (b *bench) followFrom(since span.Snapshot, tenants ...string) *source {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	s := &source{b: b, cancel: cancel, ended: make(chan struct{}), stored: since}
	if err := b.engine.Lead(ctx, since.String()); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		for seen := since; ctx.Err() == nil; {
			now, err := b.ledger.Snapshot(ctx)
			if err != nil {
				return
			}
			s.bring(ctx, seen, now, tenants)
			seen = now
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	b.t.Cleanup(s.end)
	return s
}

func (s *source) end() {
	s.cancel()
	<-s.ended
}

func (s *source) bring(ctx context.Context, from, to span.Snapshot, tenants []string) {
	one := &turn{snapshot: to, open: 1}
	s.mu.Lock()
	s.turns = append(s.turns, one)
	s.mu.Unlock()
	done := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		one.open--
		for len(s.turns) > 0 && s.turns[0].open == 0 {
			s.stored = s.turns[0].snapshot
			s.turns = s.turns[1:]
			s.b.engine.Stored(s.stored.String())
		}
	}
	for _, tenant := range tenants {
		rows, err := s.b.ledger.Delta(ctx, tenant, from, to, ledger.DeltaPlace{}, to.Max(), 1_000_000)
		if err != nil {
			return // the test is over: what is open stays so
		}
		slices.SortStableFunc(rows, func(a, b *span.Published) int {
			return a.AcceptedAt.Compare(b.AcceptedAt.Time)
		})
		for _, row := range rows {
			s.mu.Lock()
			one.open++
			s.mu.Unlock()
			if s.b.engine.Row(ctx, row, done) != nil {
				return
			}
		}
	}
	done()
}

// lagging is how many rows the source has brought that are not disposed of.
func (s *source) lagging() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.turns {
		n += one.open
	}
	return n
}

func (s *source) position() span.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// write appends n notes of an owner in statements of so many.
func (b *bench) write(n, atOnce int, owner, tenant string) {
	b.t.Helper()
	conn := b.connect()
	for ; n > 0; n -= atOnce {
		exec(b.t, conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, visibility,
			status) select 'note', 'client:test', $1, $2, 'tenant', 'open' from generate_series(1, $3::int)`,
			owner, tenant, min(n, atOnce))
	}
}

// unjudged counts the notes of a tenant of which a policy has emitted nothing, and those with more than once.
func (b *bench) unjudged(tenant string, policy span.ID) (missing, doubled int) {
	b.t.Helper()
	err := b.connect().QueryRow(b.t.Context(), `select count(*) filter (where n = 0), count(*) filter (where n > 1)
		from (
			select r.id, count(a.id) as n
			from ledger.universal_registry r
			left join ledger.universal_registry a on a.entity_type = 'alert' and a.policy_id = $2::text::uuid
				and a.metadata->'engine'->'cause'->>0 = r.id::text
			where r.entity_type = 'note' and r.tenant_id = $1
			group by r.id
		) as each`, tenant, policy.String()).Scan(&missing, &doubled)
	if err != nil {
		b.t.Fatal(err)
	}
	return missing, doubled
}

func (b *bench) lanesBehind() int { return int(b.engine.Stats().LanesBehind.Load()) }

// pace makes a policy kernel that emits one span for each, and takes its time for those of a tenant.
func (b *bench) pace(tenant string, took time.Duration) func(context.Context, Job) error {
	emits := b.emits(1)
	return func(ctx context.Context, job Job) error {
		if job.Batch[0].TenantID == tenant {
			select {
			case <-time.After(took * time.Duration(len(job.Batch))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return emits(ctx, job)
	}
}

// A lane that is slower than its spans come goes behind, holds up neither the cursor nor a neighbor, judges
// every span once, and goes live again.
func TestALaneThatFallsBehindReadsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = b.pace("bad", time.Millisecond) })
	if err := b.engine.tell(t.Context(), func() { b.engine.backlog.free = 2 * backlogFloor }); err != nil {
		t.Fatal(err)
	}
	slow := b.put(1, "policy", policyOf("mallory", "bad", ofNotes))
	quick := b.put(2, "policy", policyOf("alice", "t1", ofNotes))
	s := b.followFrom(span.Snapshot{}, "bad", "t1")
	b.write(3000, 100, "mallory", "bad")
	eventually(t, "the lane is behind", func() bool { return b.lanesBehind() == 1 })
	b.write(10, 1, "alice", "t1")
	eventually(t, "a neighbor's are judged meanwhile", func() bool {
		missing, _ := b.unjudged("t1", quick.ID)
		return missing == 0
	})
	b.write(200, 1, "mallory", "bad")
	eventually(t, "it has caught up", func() bool {
		missing, _ := b.unjudged("bad", slow.ID)
		return missing == 0 && b.lanesBehind() == 0
	})
	b.write(50, 1, "mallory", "bad")
	eventually(t, "it judges what the tail brings", func() bool {
		missing, _ := b.unjudged("bad", slow.ID)
		return missing == 0 && s.lagging() == 0
	})
	if _, doubled := b.unjudged("bad", slow.ID); doubled > 0 {
		t.Errorf("%d spans are judged twice", doubled)
	}
	if behind, isKnown, err := b.ledger.LanesBehind(t.Context()); err != nil || !isKnown || len(behind) > 0 {
		t.Errorf("written down as behind: %v, %v", behind, err)
	}
}

// While writers write, lanes go behind and live again many times; at the end every span is judged once.
func TestALaneJoinsTheStreamWithoutLossWhileRowsCome(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = b.pace("bad", 300*time.Microsecond) })
	if err := b.engine.tell(t.Context(), func() { b.engine.backlog.free = backlogFloor }); err != nil {
		t.Fatal(err)
	}
	policy := b.put(1, "policy", policyOf("mallory", "bad", ofNotes))
	b.followFrom(span.Snapshot{}, "bad")
	var writers sync.WaitGroup
	for range 3 {
		conn := b.connect()
		writers.Go(func() {
			for range 40 {
				tx, err := conn.Begin(t.Context())
				for i := 0; i < 20 && err == nil; i++ {
					_, err = tx.Exec(t.Context(), `insert into ledger.universal_registry (entity_type, who, owner_id,
						tenant_id, visibility, status) values ('note', 'client:test', 'mallory', 'bad', 'tenant', 'open')`)
				}
				if err == nil {
					err = tx.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	eventually(t, "all are judged", func() bool {
		missing, _ := b.unjudged("bad", policy.ID)
		return missing == 0 && b.lanesBehind() == 0
	})
	if _, doubled := b.unjudged("bad", policy.ID); doubled > 0 {
		t.Errorf("%d spans are judged twice", doubled)
	}
}

// Who takes over goes on where a lane that is behind has judged up to; also where engine.lane is gone, and
// then by the newest policy_cursor.
func TestALaneThatIsBehindIsTakenOver(t *testing.T) {
	t.Parallel()
	for _, loss := range []string{"", "drop table engine.lane", "drop schema engine cascade"} {
		t.Run(fmt.Sprintf("after %q", loss), func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(b *bench) { b.kernels[policyKernel] = b.pace("bad", 5*time.Millisecond) })
			if err := b.engine.tell(t.Context(), func() { b.engine.backlog.free = backlogFloor }); err != nil {
				t.Fatal(err)
			}
			policy := b.put(1, "policy", policyOf("mallory", "bad", ofNotes))
			s := b.followFrom(span.Snapshot{}, "bad")
			b.write(1000, 50, "mallory", "bad")
			eventually(t, "the lane is behind, and the cursor past it", func() bool {
				behind, _, err := b.ledger.LanesBehind(t.Context())
				return err == nil && len(behind) == 1 && s.lagging() <= 1 && b.lanesBehind() == 1
			})
			b.write(10, 1, "mallory", "bad")
			s.end()
			if err := b.engine.tell(t.Context(), b.engine.writeCursor); err != nil {
				t.Fatal(err)
			}
			b.drain = 0
			b.end() // as kill -9: what waits is lost
			since := s.position()
			if loss != "" {
				exec(t, b.connect(), loss)
				since = span.Snapshot{}
			}
			other := b.start(func(b *bench) { b.kernels[policyKernel] = b.emits(2) })
			other.followFrom(since, "bad")
			eventually(t, "all are judged", func() bool {
				missing, _ := other.unjudged("bad", policy.ID)
				return missing == 0 && other.lanesBehind() == 0
			})
			other.quiet()
		})
	}
}

// A transaction of many pages is walked over a few times, not once for each page.
func TestALaneReadsALargeTransactionByItsKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = b.pace("bad", time.Millisecond) })
	if err := b.engine.tell(t.Context(), func() { b.engine.backlog.free = backlogFloor }); err != nil {
		t.Fatal(err)
	}
	policy := b.put(1, "policy", policyOf("mallory", "bad", ofNotes))
	b.followFrom(span.Snapshot{}, "bad")
	b.write(3000, 3000, "mallory", "bad")
	held := 0
	eventually(t, "all are judged", func() bool {
		if err := b.engine.tell(t.Context(), func() { held = max(held, b.engine.judging.keys) }); err != nil {
			t.Fatal(err)
		}
		missing, _ := b.unjudged("bad", policy.ID)
		return missing == 0 && b.lanesBehind() == 0
	})
	if _, doubled := b.unjudged("bad", policy.ID); doubled > 0 {
		t.Errorf("%d spans are judged twice", doubled)
	}
	var left int
	if err := b.engine.tell(t.Context(), func() { left = b.engine.judging.keys }); err != nil {
		t.Fatal(err)
	}
	if held == 0 || left != 0 {
		t.Errorf("at most %d keys were held, and %d are in the end", held, left)
	}
}
