package engine

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// hold opens a transaction that has written the next version of requests, and returns its connection.
func (b *bench) hold(requests ...*span.Span) *pgx.Conn {
	b.t.Helper()
	conn := b.connect()
	exec(b.t, conn, "begin")
	for _, s := range requests {
		exec(b.t, conn, `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id, tenant_id,
			visibility, status) values ($1::text::uuid, $2, 'request', 'user:alice', $3, $4, 'private',
				'cancel_requested')`, s.ID.String(), s.Seq+1, s.OwnerID, s.TenantID)
	}
	return conn
}

func TestATransactionThatHoldsKeysStopsNoOtherTenantsCommits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var first, second []*span.Span
	for n := range 6 {
		first = append(first, b.put(0x100+n, "request", func(s *span.Span) { s.TenantID = "t1" }))
		second = append(second, b.put(0x200+n, "request", func(s *span.Span) { s.TenantID = "t1" }))
	}
	rollsBack, commits := b.hold(first...), b.hold(second...)
	b.lead()
	b.deliver(append(first, second...)...)
	eventually(t, "a commit is held up", func() bool { return b.engine.Stats().HeldUp.Load() > 0 })
	began := time.Now()
	const others = 40
	for n := range others {
		other := b.put(0x300+n, "request", func(s *span.Span) { s.TenantID = "t2" })
		b.deliver(other)
		b.becomes(other.ID, "complete")
	}
	if took := time.Since(began) / others; took > 500*time.Millisecond {
		t.Errorf("each of another tenant's requests takes %s while keys are held", took)
	}
	eventually(t, "each group that is held up stands alone", func() bool {
		waiting := 0
		if err := b.engine.tell(t.Context(), func() {
			waiting = b.engine.pending.waiting
			for _, c := range b.engine.pending.tenants["t1"] {
				waiting += min(c.waits, 1)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return waiting >= len(first)+len(second)-1 // one may be under way
	})
	exec(t, rollsBack, "rollback")
	exec(t, commits, "commit")
	for _, s := range second {
		b.deliver(b.latest(s.ID))
	}
	for _, s := range first {
		b.becomes(s.ID, "complete")
		b.want(s.ID, "scheduled complete", "complete1")
	}
	for _, s := range second {
		b.becomes(s.ID, "cancelled")
	}
	b.quiet()
}

// Nobody waits at the end for what somebody else's transaction holds up.
func TestADrainDoesNotWaitForWhatIsHeldUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := b.put(1, "request")
	holder := b.hold(request)
	b.lead()
	b.deliver(request)
	eventually(t, "its commit is held up", func() bool { return b.engine.Stats().HeldUp.Load() > 0 })
	began := time.Now()
	b.end()
	if took := time.Since(began); took > b.drain/2 {
		t.Errorf("the drain took %s", took)
	}
	exec(t, holder, "rollback")
	next := b.start()
	next.lead()
	next.becomes(request.ID, "complete")
	next.quiet()
}
