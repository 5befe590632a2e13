package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// slowFor makes the policies of some tenants or owners never end, until release is closed.
func slowFor(release chan struct{}, isSlow func(job Job) bool) func(*bench) {
	return func(b *bench) {
		b.kernels[policyKernel] = func(ctx context.Context, job Job) error {
			if isSlow(job) {
				select {
				case <-release:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
	}
}

// showsFirst reports whether a run is of the policy with the first id.
func showsFirst(job Job) bool { return strings.Contains(string(job.Input), idOf(1).String()) }

// flood is n notes of a tenant, of which the engine learns from the tail alone.
func flood(from, n int, owner, tenant string) (notes []*span.Span) {
	for i := range n {
		s := &span.Span{ID: idOf(from + i), EntityType: "note", At: span.NewTime(time.Now())}
		noteOf(owner, tenant, "tenant")(s)
		s.AcceptedAt = &s.At
		notes = append(notes, s)
	}
	return notes
}

// More spans than the tail may have open, for a policy that never ends: another tenant's rows go by.
func TestATenantsPolicyHoldsUpNoOtherTenant(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := setup(t, slowFor(release, showsFirst))
	b.deliver(b.put(1, "policy", policyOf("mallory", "bad", ofNotes)),
		b.put(2, "policy", policyOf("alice", "t1", ofNotes)),
		b.put(3, "policy", policyOf("system", "system", ofNotes)))
	flooded := b.deliver(flood(0x1000, itemsMax+1000, "mallory", "bad")...)
	note, request := b.put(0x11, "note", noteOf("alice", "t1", "private")), b.put(0x12, "request")
	eventually(t, "another tenant's note is judged", b.deliver(note, request))
	b.becomes(request.ID, "complete")
	if flooded() {
		t.Error("what no policy has judged is disposed of")
	}
	close(release)
	b.quiet()
}

// In a tenant each owner's policies have their own turns, and the system's have theirs.
func TestAnOwnersPolicyHoldsUpNoMates(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := setup(t, slowFor(release, showsFirst))
	b.deliver(b.put(1, "policy", policyOf("mallory", "t1", ofNotes)),
		b.put(2, "policy", policyOf("bob", "t1", ofNotes)),
		b.put(3, "policy", policyOf("system", "system", ofNotes)))
	done := b.deliver(flood(0x100, 50, "bob", "t1")...)
	eventually(t, "the others judge them", func() bool {
		got := b.judged()
		return count(got, "0002@0") == 50 && count(got, "0003@0") == 50
	})
	if got := b.judged(); done() || count(got, "0001@0") > runFirst {
		t.Errorf("the one that never ends: %d spans, done %v", count(got, "0001@0"), done())
	}
	close(release)
	eventually(t, "all are disposed of", done)
	got := slices.DeleteFunc(b.judged(), func(pair string) bool { return !strings.HasPrefix(pair, "0001@0") })
	if len(got) != 50 || !slices.IsSorted(got) {
		t.Errorf("mallory's policy is shown %v", got)
	}
}

func count(pairs []string, policy string) (n int) {
	for _, pair := range pairs {
		if strings.HasPrefix(pair, policy) {
			n++
		}
	}
	return n
}

// Runs are as long as a turn may be, by what the lane's last one took.
func TestARunOfPoliciesTakesAboutAsLongAsATurn(t *testing.T) {
	t.Parallel()
	b := &Engine{kinds: newKinds(), lanes: map[laneKey]*lane{}}
	l := b.lane(laneKey{policyKernel, "t1", "alice"})
	for range 500 {
		l.add(&item{row: &span.Published{}, matches: []*policy{{}}})
	}
	for i, step := range []struct {
		took time.Duration // of one span
		want int
	}{{time.Millisecond, 8}, {time.Millisecond, 16},
		{100 * time.Millisecond, 32}, {2 * time.Second, 10}, {0, 1}, {0, 2}} {
		batch := l.take()
		if len(batch) != step.want {
			t.Errorf("run %d has %d spans, want %d", i, len(batch), step.want)
		}
		l.running++
		l.leave(batch, time.Duration(len(batch))*step.took, true)
	}
	l.waiting = append([]*item{l.waiting[0]}, l.waiting...)
	if batch := l.take(); len(batch) != 1 {
		t.Errorf("one run shows a span %d times", len(batch))
	}
}

// A tenant with many owners' policies leaves places for others, who come first with their first.
func TestTenantsTakeTurnsForPlaces(t *testing.T) {
	t.Parallel()
	e := &Engine{kinds: newKinds(), lanes: map[laneKey]*lane{}}
	for i := range 3 * policyRunsMax {
		e.lane(laneKey{policyKernel, "bad", fmt.Sprint(i)}).add(&item{row: &span.Published{}})
	}
	p := e.kinds.rows
	started := map[string]int{}
	start := func() (n int) {
		for l := p.next(); l != nil; l = p.next() {
			l.running++
			p.free--
			p.held[l.key.tenant]++
			started[l.key.tenant]++
			n++
		}
		return n
	}
	if start(); started["bad"] != policyRunsMax/2 {
		t.Errorf("%d of %d places are one tenant's", started["bad"], policyRunsMax)
	}
	for _, tenant := range []string{"t1", "t2"} {
		e.lane(laneKey{policyKernel, tenant, "alice"}).add(&item{row: &span.Published{}})
	}
	if start(); started["t1"] != 1 || started["t2"] != 1 {
		t.Errorf("started %v", started)
	}
}

// What a tenant's timed policies take is lost to no other tenant's, nor to the system's.
func TestATicksPolicyHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	const perTenant = `{"every":"hour","when":{"entity_type":"execution"}}`
	release := make(chan struct{})
	b := setup(t, slowFor(release, func(job Job) bool { return job.Batch[0].OwnerID == "mallory" }))
	b.execution(0x100, "alice", "t1", "2026-03-02T09:30:00Z")
	b.deliver(b.put(1, "policy", policyOf("mallory", "t1", `{"every":"hour"}`)),
		b.put(2, "policy", policyOf("alice", "t1", `{"every":"hour"}`)),
		b.put(3, "policy", policyOf("system", "system", perTenant)))
	if err := b.engine.tell(t.Context(), func() {
		for _, p := range b.engine.policies.timed {
			p.judged = time.Time{}
		}
		b.engine.tickAt(clock(t, "2026-03-02T10:00:05Z"))
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the others are judged", func() bool {
		open := 0
		if err := b.engine.tell(t.Context(), func() {
			for _, p := range b.engine.policies.timed {
				open += p.open
			}
		}); err != nil {
			t.Fatal(err)
		}
		return open == 1 && len(b.ticked()) == 3
	})
	close(release)
	b.quietTicks()
	if err := b.engine.tell(t.Context(), func() {
		if n := len(b.engine.lanes); n > 0 {
			t.Errorf("%d lanes are left of nothing", n)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
