package stage0

import (
	"encoding/json"
	"testing"

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
