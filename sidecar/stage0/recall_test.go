package stage0

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// nextLeader is another sidecar that comes to lead, or the same one again.
func (b *bench) nextLeader(isSame bool) {
	b.t.Helper()
	if !isSame {
		b.Stage0 = b.another()
	}
	if err := b.Lead(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func TestAnOpenCircuitStaysOpenForTheNextLeader(t *testing.T) {
	t.Parallel()
	manifest := limited(100, 100)
	manifest["policy"] = map[string]any{"circuit_breaker_threshold": 3}
	for _, isSame := range []bool{false, true} {
		b := setup(t, manifest, nil)
		f := b.function(1, "if (input.fail) throw new Error('no'); return 1")
		n := 10
		call := func(input string) ledger.Group {
			n++
			return b.perform(b.request(n, f.ID, func(s *span.Span) { s.Input = json.RawMessage(input) }))
		}
		const fail, good = `{"fail": true}`, `{}`
		call(good)
		call(fail)
		b.nextLeader(isSame)
		call(fail) // two in a row: one of them was the leader's before
		b.nextLeader(isSame)
		call(fail)
		b.nextLeader(isSame)
		for range 2 { // what is refused is no run
			wantCode(t, "open", call(good).Rows[0], span.RunDenied, "circuit is open: it is tried at")
			b.nextLeader(isSame)
		}
		b.ahead.Add(int64(circuitRest))
		if got := call(good); got.Fence.StatusText() != "complete" {
			t.Errorf("the trial: %s", got.Fence.StatusText())
		}
		b.nextLeader(isSame)
		call(fail)
		call(fail)
		if got := call(good); got.Fence.StatusText() != "complete" {
			t.Errorf("a success among the failures counts for nothing: %s", got.Fence.StatusText())
		}
	}
}

func TestARateHoldsForTheNextLeader(t *testing.T) {
	t.Parallel()
	manifest := limited(100, 100)
	manifest["rate_limits"] = map[string]any{"kernel:run_code": map[string]any{"per_tenant_per_min": 3}}
	b := setup(t, manifest, nil)
	f := b.function(1, "return 1", func(s *span.Span) { s.Visibility = "public" })
	for n, want := range []string{"complete", "complete", "complete", "blocked", "blocked"} {
		got := b.perform(b.request(10+n, f.ID))
		if got.Fence.StatusText() != want {
			t.Errorf("run %d ends %s, want %s", n, got.Fence.StatusText(), want)
		}
		b.nextLeader(n%2 == 0)
	}
	stranger := b.perform(b.request(20, f.ID, func(s *span.Span) { s.TenantID = "t2" }))
	if stranger.Fence.StatusText() != "complete" {
		t.Errorf("another tenant is %s", stranger.Fence.StatusText())
	}
}

// What a root has brought about before this sidecar led counts, as soon as the root grows: else a loop that
// kills its sidecar would never end.
func TestARootsSpansCountForTheNextLeader(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	root := b.put(1, "note")
	var causes []*span.Span
	for i := 0; i < rootSpansMax; i += 500 {
		var rows []*span.Span
		for n := range 500 {
			s := &span.Span{ID: span.Derive("test", time.Now(), []span.ID{root.ID}, int64(i+n)), EntityType: "note",
				Who: "kernel:test", At: span.NewTime(time.Now()), OwnerID: root.OwnerID, TenantID: root.TenantID,
				Visibility: "tenant"}
			var err error
			s.Metadata, err = span.SetEngine(nil, span.EngineMeta{Cause: root.Key(), Root: root.ID, Depth: 1,
				Kind: "function"})
			if err == nil {
				err = s.Seal(nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, s)
		}
		b.land(rows)
		causes = append(causes, rows[0])
	}
	rule := b.rule(2, root.OwnerID, root.TenantID, `function on() {
		return Array.from({ length: 50 }, () => ({ emit_span: { entity_type: "alert" } }));
	}`)
	b.nextLeader(false)
	taken := 0
	for _, cause := range causes[:rootRecallAt/50] {
		taken += len(b.judge(rule, cause, ""))
	}
	if taken != rootRecallAt {
		t.Fatalf("%d spans are taken before it is asked, want %d", taken, rootRecallAt)
	}
	rows := b.judge(rule, causes[10], "")
	if len(rows) != 1 || rows[0].EntityType != "policy_violation" {
		t.Errorf("one more span gives %d rows, want the violation", len(rows))
	}
	other := b.put(3, "note")
	if rows := b.judge(rule, other, ""); len(rows) != 50 {
		t.Errorf("of another root %d spans are taken", len(rows))
	}
}
