package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// floodOf is n functions, or requests, of a tenant that the engine learns of from the tail alone.
func floodOf(entityType string, from, n int, tenant string) (rows []*span.Span) {
	for i := range n {
		s := &span.Span{ID: span.MustID(fmt.Sprintf("018f0000-0000-7000-8000-%012x", from+i)),
			EntityType: entityType, At: span.NewTime(time.Now()), OwnerID: "mallory",
			TenantID: tenant, Visibility: "private",
			Status: new("scheduled")}
		s.AcceptedAt = &s.At
		rows = append(rows, s)
	}
	return rows
}

// More functions than the tail may have open, whose runs never end, and behind them one of another tenant: it
// waits for none of them, and the tail for nobody.
func TestAFloodOfFunctionsHoldsUpNoOtherTenant(t *testing.T) {
	t.Parallel()
	const many = 2 * itemsMax
	var flooded atomic.Int64
	b := setup(t, func(b *bench) {
		b.drain = time.Millisecond
		b.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
			if job.Batch[0].TenantID == "bad" {
				flooded.Add(int64(len(job.Batch)))
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
	})
	for _, row := range floodOf("function", 1, many, "bad") {
		if err := b.engine.Row(t.Context(), published(row), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	behind := published(floodOf("function", many+1, 1, "t1")[0])
	if err := b.engine.Row(t.Context(), behind, func() { close(done) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the other tenant's function is not disposed of")
	}
	if got := flooded.Load(); got > crowdRunMax {
		t.Errorf("%d of the flood are under way at once", got)
	}
}

// 10,000 requests of one tenant are open, and then one of another: it starts next but for what runs.
func TestAFloodOfRequestsHoldsUpNoOtherTenant(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	push := func(row *span.Span) { f.push(&request{id: row.ID, kernel: "k", phase: queued, span: row}) }
	for _, row := range floodOf("request", 1, 10_000, "bad") {
		push(row)
	}
	held := newTaken()
	start := func(free int) (started []string) {
		for _, r := range f.pop(requestBatch, free, held) {
			started = append(started, r.span.TenantID)
		}
		return started
	}
	f.paces.note("bad", time.Millisecond) // it may take all places but a few
	free := 64
	for batch := start(free); len(batch) > 0; batch = start(free) {
		free -= len(batch)
	}
	if free != 64/placesKept {
		t.Errorf("beside one tenant with short runs %d places are free", free)
	}
	push(floodOf("request", 10_001, 1, "t1")[0])
	if got := start(free); len(got) == 0 || got[0] != "t1" {
		t.Errorf("started %v, want t1 first", got)
	}
}

// A tenant whose runs take a hundred times as long gets as much time as another, and so fewer turns.
func TestTurnsGoByWhatRunsCost(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	f.paces.note("a", 50*time.Millisecond)
	f.paces.note("b", time.Microsecond)
	for i := range 400 {
		for _, tenant := range []string{"a", "b"} {
			f.push(&request{id: idOf(i), kernel: "k", phase: queued, span: &span.Span{TenantID: tenant}})
		}
	}
	starts := map[string]int{}
	for range 408 / 16 {
		for _, r := range f.pop(16, anyRoom, newTaken()) {
			starts[r.span.TenantID]++
		}
	}
	if starts["a"] < 7 || starts["a"] > 9 {
		t.Errorf("starts: %v, want one in 51 of a", starts)
	}
	// Who goes and comes again has not got rid of what he has paid ahead.
	g := newFair(f.paces)
	one := func(tenant string) {
		g.push(&request{id: idOf(1), kernel: "k", phase: queued, span: &span.Span{TenantID: tenant}})
	}
	one("a")
	one("b")
	g.pop(1, anyRoom, newTaken())
	one("a")
	one("b")
	if got := g.pop(2, anyRoom, newTaken()); got[0].span.TenantID != "b" || got[1].span.TenantID != "b" {
		t.Errorf("%s comes before b", got[0].span.TenantID)
	}
}

// A function of a tenant has half the places but one when that is alone, and more where its runs have been
// short; beside others it has an eighth, or as many as there are processors.
func TestATenantLeavesPlacesFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		took  time.Duration
		other time.Duration // ago another one had a run
		want  int
	}{{"nobody knows yet", 0, time.Hour, 31}, {"long", quickRun, time.Hour, 31},
		{"short", quickRun / 2, time.Hour, 56}, {"short beside others", quickRun / 2, 0, 5},
		{"long beside others", quickRun, 0, 15}} {
		f := newFair(newPaces())
		f.quickMax = 5
		f.paces.started("b", time.Now().Add(-c.other))
		f.paces.started("a", time.Now())
		if c.took > 0 {
			f.paces.note("a", c.took)
		}
		for i := range 100 {
			f.push(&request{id: idOf(i), kernel: "k", phase: queued, span: &span.Span{TenantID: "a"}})
		}
		held := newTaken()
		for len(f.pop(16, 64-held.tenants["a"], held)) > 0 {
		}
		if got := held.tenants["a"]; got != c.want {
			t.Errorf("%s: %d places, want %d", c.name, got, c.want)
		}
	}
}

// Short runs that wait for the network are not as few as the processors.
func TestShortRunsThatReachTheNetworkHaveMorePlaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lead()
	if err := b.engine.tell(t.Context(), func() {
		places := func(f *fair) int {
			f.paces.started("b", time.Now())
			f.paces.started("a", time.Now())
			f.paces.note("a", quickRun/2)
			for i := range 100 {
				f.push(&request{id: idOf(i), kernel: "k", phase: queued, span: &span.Span{TenantID: "a"}})
			}
			h := newTaken()
			for len(f.pop(16, 64-h.tenants["a"], h)) > 0 {
			}
			return h.tenants["a"]
		}
		near := newFair(newPaces())
		near.quickMax = 2
		outward := newFair(newPaces())
		outward.quickMax = b.engine.outward.quickMax
		if got := places(near); got != 2 {
			t.Errorf("%d places, want 2", got)
		}
		if got := places(outward); got != 8 {
			t.Errorf("of those that reach the network %d places, want 8", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A group waits for the commits that are under way, and not for what a flood has ready.
func TestCommitsTakeTurns(t *testing.T) {
	t.Parallel()
	var c commits
	push := func(tenant string, seq, rows int) {
		group := ledger.Group{Fence: &span.Span{ID: idOf(seq), TenantID: tenant, Seq: seq}}
		for range rows - 1 {
			group.Rows = append(group.Rows, &span.Span{TenantID: tenant})
		}
		c.push(&commit{group: group})
	}
	for seq := range 300 {
		push("bad", seq, 4)
	}
	push("t1", 1000, 4)
	push("t1", 1001, 4)
	var order []string
	seqs, last := 0, map[string]int{"bad": -1, "t1": -1}
	for !c.empty() {
		batch, rows := c.take()
		if rows > commitRowsMax {
			t.Errorf("a commit has %d rows", rows)
		}
		for _, one := range batch {
			if fence := one.group.Fence; fence.Seq <= last[fence.TenantID] {
				t.Errorf("%s: %d comes after %d", fence.TenantID, fence.Seq, last[fence.TenantID])
			}
			last[one.tenant()] = one.group.Fence.Seq
			order = append(order, one.tenant())
			seqs++
		}
	}
	if got := strings.Join(order[:4], " "); got != "bad t1 bad t1" || seqs != 302 {
		t.Errorf("the first are %s; %d in all", got, seqs)
	}
}

// Where a run waits for company, who had none of late starts at once, and the others keep their turn.
func TestWhoComesRarelyWaitsForNoCompany(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	queue(f, "a1", "b1", "c1")
	f.paces.started("a", time.Now())
	f.paces.started("c", time.Now().Add(-2*rareAfter))
	var rare []string
	for _, r := range f.keepRare(f.pop(requestBatch, anyRoom, newTaken())) {
		rare = append(rare, *r.span.Name)
	}
	if got := strings.Join(rare, " "); got != "b1 c1" {
		t.Errorf("%q start, want b1 and c1", got)
	}
	if got := popped(f, requestBatch); got != "a1" {
		t.Errorf("%q is left, want a1", got)
	}
}
