package engine

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// active is the row of a function in force, as the tail brings it.
func active(id span.ID, seq int, xact uint64) *span.Published {
	now := span.NewTime(time.Now())
	return &span.Published{ID: id, Seq: seq, EntityType: "function", Status: new("active"), OwnerID: "alice",
		TenantID: "t1", Visibility: "private", At: now, AcceptedAt: now, Xact: xact}
}

// unread says how many functions wait to be asked for.
func (b *bench) unread() (n int) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() { n = len(b.engine.schedules.unread.wanted) }); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// openTransaction returns an open transaction and its id.
func (b *bench) openTransaction() (pgx.Tx, uint64) {
	b.t.Helper()
	tx, err := b.connect().Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var xact uint64
	if err := tx.QueryRow(b.t.Context(), "select pg_current_xact_id()::text::bigint").Scan(&xact); err != nil {
		b.t.Fatal(err)
	}
	return tx, xact
}

// Nothing is read of functions that have no schedule and follow none, however many come, and however often.
func TestFunctionsWithoutAScheduleAreNotRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	recurs := b.put(1, "function", recurring(`{"cron":"@yearly"}`))
	b.deliver(recurs)
	b.settledSchedules()
	for i := range 3000 {
		for _, row := range []*span.Published{active(idOf(i+2), 0, 1), active(idOf(2), i, 1)} {
			if err := b.engine.Row(t.Context(), row, func() {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := b.unread(); n > 3000 {
		t.Errorf("%d wait, of 3000 functions", n)
	}
	b.settledSchedules()
	if n := b.reads.Load(); n > 0 {
		t.Errorf("%d versions were read", n)
	}
	if n := b.engine.stats.Schedules.Load(); n != 1 {
		t.Errorf("%d schedules are in force, want 1", n)
	}
}

// A commit is in the WAL before it is visible. Its schedules come into force when it is; others do not wait.
func TestAScheduleWaitsUntilItsCommitIsVisible(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, xact := b.openTransaction()
	late := &span.Span{ID: idOf(1), EntityType: "function"}
	if _, err := tx.Exec(t.Context(), `insert into ledger.universal_registry (id, seq, entity_type, who, at,
			owner_id, tenant_id, visibility, status, metadata)
		values ($1::text::uuid, 0, 'function', 'user:alice', now(), 'alice', 't1', 'private', 'active',
			'{"schedule": {"cron": "@yearly"}}')`, late.ID.String()); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Row(t.Context(), active(late.ID, 0, xact), func() {}); err != nil {
		t.Fatal(err)
	}
	b.deliver(b.put(2, "function", recurring(`{"cron":"@monthly"}`)))
	inForce := func() int64 { return b.engine.stats.Schedules.Load() }
	eventually(t, "the visible one is in force", func() bool { return inForce() == 1 })
	if n := b.unread(); n > 1 {
		t.Errorf("%d wait, want the invisible one", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are in force", func() bool { return inForce() == 2 })
}

// What waits to be asked for is bounded: the tail waits, and nothing is passed over.
func TestTooManyFunctionsHoldUpTheTail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, xact := b.openTransaction()
	last := b.put(0xfff0, "function", recurring(`{"cron":"@yearly"}`))
	const most = unreadMax + itemsMax + 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		for i := range most {
			if err := b.engine.Row(ctx, active(idOf(i), 0, xact), func() {}); err != nil {
				ended <- err
				return
			}
		}
		ended <- b.engine.Row(ctx, published(last), func() {})
	}()
	eventually(t, "all places are taken", func() bool { return len(b.engine.slots) == itemsMax })
	if n := b.unread(); n > most {
		t.Errorf("%d wait", n)
	}
	select {
	case err := <-ended:
		t.Fatalf("the tail goes on: %v", err)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	b.settledSchedules()
	if n, held := b.engine.stats.Schedules.Load(), len(b.engine.slots); n != 1 || held != 0 {
		t.Errorf("%d schedules are in force, want 1; %d places are held", n, held)
	}
}
