package engine

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Boundaries that nobody judged are made up for as the policy says, in order; and what is not is told to the
// policy and to its owner.
func TestMissedBoundariesAreFilledByTheirRule(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	forms := map[string]string{
		"a": `{"every":"minute"}`, "b": `{"every":"minute","fill":"none"}`, "c": `{"every":"minute","fill":"all"}`,
		"d": `{"every":"minute","fill":"all","fill_max":2}`, "e": `{"every":"hour","fill":"none"}`,
		"f": `{"every":"minute"}`,
	}
	for i, owner := range slices.Sorted(maps.Keys(forms)) {
		b.deliver(b.put(i+1, "policy", policyOf(owner, "t1", forms[owner])))
	}
	eventually(t, "the policies are known", func() bool {
		n := 0
		if err := b.engine.tell(t.Context(), func() { n = len(b.engine.policies.timed) }); err != nil {
			t.Fatal(err)
		}
		return n == len(forms)
	})
	last, now := clock(t, "2026-03-02T08:00:00Z"), clock(t, "2026-03-02T10:05:30Z")
	noted := map[span.ID]time.Time{}
	for i := range len(forms) - 1 { // of the last one nobody has noted anything
		noted[idOf(i+1)] = last
	}
	for i := range 4 {
		noted[idOf(i+1)] = clock(t, "2026-03-02T10:00:10Z") // a boundary is what counts
	}
	if err := b.engine.tell(t.Context(), func() {
		b.engine.setClock(databaseClock{now, time.Now()})
		for _, p := range b.engine.policies.timed { // as if they had been there for long
			p.judged = last
		}
		b.engine.resumeTicks(noted)
		b.engine.tickAt(now)
	}); err != nil {
		t.Fatal(err)
	}
	b.quietTicks()
	want := []string{
		"t1/a/tenant/10:05/0", "t1/b/tenant/10:05/0",
		"t1/c/tenant/10:01/0", "t1/c/tenant/10:02/0", "t1/c/tenant/10:03/0", "t1/c/tenant/10:04/0",
		"t1/c/tenant/10:05/0", "t1/d/tenant/10:04/0", "t1/d/tenant/10:05/0", "t1/f/tenant/10:05/0",
	}
	if got := b.ticked(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	inputs := b.tickInputs()
	if strings.Count(inputs, `"missed":4`) != 2 || strings.Count(inputs, `"missed":3`) != 1 ||
		strings.Count(inputs, `"missed"`) != 3 {
		t.Errorf("the policies are told: %s", inputs)
	}
	b.quiet()
	var told string
	if err := b.connect().QueryRow(t.Context(), `select string_agg(owner_id || left(error ->> 'message', 1), ' '
			order by owner_id) from ledger.universal_registry
		where entity_type = 'policy_error' and visibility = 'private' and this = 'policy.ticks'`).
		Scan(&told); err != nil || told != "a4 b4 d3 e2" {
		t.Errorf("their owners are told: %s, %v", told, err)
	}
	if err := b.engine.tell(t.Context(), func() {
		for id, p := range b.engine.policies.timed {
			if done := b.engine.schedules.done[id]; p.owner != "e" && !done.Equal(clock(t, "2026-03-02T10:05:00Z")) {
				t.Errorf("of %s it is noted that it was judged up to %s", p.owner, done)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// tickInputs is what policies were told about their ticks.
func (b *bench) tickInputs() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all strings.Builder
	for _, job := range b.boots {
		all.Write(job.Input)
	}
	return all.String()
}
