package engine

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// made counts what the engine has appended.
func (b *bench) made() int {
	b.t.Helper()
	return valueOf[int](b, `select count(*) from ledger.universal_registry
		where entity_type in ('request', 'execution', 'incident')`)
}

// Between two terms the server may have been set back: what a lost row has caused must not be written then.
func TestAResultOfALostTermIsNotWritten(t *testing.T) {
	t.Parallel()
	var isTrusted atomic.Bool
	begun, gate := make(chan span.ID, 4), make(chan struct{})
	close(gate)
	b := setup(t, func(n *bench) {
		n.isTrusted, n.kernels["request_worker"] = isTrusted.Load, n.gated(begun, gate)
	})
	function := b.put(1, "function")
	disposed := b.deliver(function)
	<-begun // its result waits until this sidecar leads for certain
	b.engine.Lose(t.Context())
	isTrusted.Store(true)
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its row is let go of", disposed)
	b.quiet()
	if n := b.made(); n != 0 {
		t.Fatalf("%d spans of a term that is over", n)
	}
	b.deliver(function) // it still stands, and comes again
	b.becomes(requestOf(function).ID, "complete")
	b.kept(1)
}

func TestARunThatOutlivesItsTermCountsForNothing(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan struct{}, 4), make(chan struct{})
	b := setup(t, func(n *bench) {
		n.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
			begun <- struct{}{}
			<-gate
			return n.observe(ctx, job)
		}
	})
	function := b.put(1, "function")
	disposed := b.deliver(function)
	<-begun
	b.engine.Lose(t.Context())
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	close(gate)
	eventually(t, "its row is let go of", disposed)
	b.quiet()
	if n := b.made(); n != 0 {
		t.Fatalf("%d spans of a term that is over", n)
	}
	b.deliver(function)
	b.becomes(requestOf(function).ID, "complete")
}

// The end of a request that stands is not lost with the lead: its fence decides.
func TestAResultOfWhatStandsIsWrittenInTheNextTerm(t *testing.T) {
	t.Parallel()
	var isTrusted atomic.Bool
	begun, gate := make(chan span.ID, 4), make(chan struct{})
	isTrusted.Store(true)
	b := setup(t, func(n *bench) {
		n.isTrusted, n.kernels["request_worker"] = isTrusted.Load, n.gated(begun, gate)
	})
	request := b.put(1, "request")
	b.deliver(request)
	<-begun
	isTrusted.Store(false)
	close(gate)
	b.engine.Lose(t.Context())
	isTrusted.Store(true)
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.becomes(request.ID, "complete")
	b.kept(1)
}
