package engine

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// largeBench is an engine whose runs wait for release, and then want the whole input.
func largeBench(t *testing.T, release <-chan struct{}, runs *atomic.Int64) (*bench, func(*span.Span)) {
	t.Helper()
	input := json.RawMessage(`"` + strings.Repeat("a", 900_000) + `"`)
	b := setup(t, func(b *bench) {
		b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			<-release
			for _, cause := range job.Batch {
				if runs.Add(1); len(cause.Input) != len(input) || len(cause.Metadata) == 0 {
					t.Errorf("%s runs with an input of %d bytes", cause.ID, len(cause.Input))
				}
			}
			return b.complete(ctx, job)
		}
	})
	return b, func(s *span.Span) { s.Input, s.Metadata = input, json.RawMessage(`{"a":1}`) }
}

// queuedBytes waits until nothing is read any more, and returns what the queues hold.
func (b *bench) queuedBytes(count int) (counted, held int) {
	b.t.Helper()
	eventually(b.t, "all are queued or in flight", func() bool {
		isLoaded := false
		if err := b.engine.tell(b.t.Context(), func() {
			queued := 0
			held = 0
			b.engine.ready.each(func(r *request) {
				queued++
				held += bodyBytes(r.span)
			})
			counted = b.engine.ready.bytes
			isLoaded = queued+len(b.engine.inFlight) == count
		}); err != nil {
			b.t.Fatal(err)
		}
		return isLoaded
	})
	return counted, held
}

func TestRequestsThatWaitHoldBoundedBodies(t *testing.T) {
	t.Parallel()
	const count = 100
	release, runs := make(chan struct{}), new(atomic.Int64)
	b, large := largeBench(t, release, runs)
	var last *span.Span
	for i := range count {
		last = b.put(i+1, "request", large)
		b.deliver(last)
	}
	counted, held := b.queuedBytes(count)
	if counted != held || held > queuedBytesMax || held < queuedBytesMax/2 {
		t.Errorf("the queue counts %d bytes and holds %d, want at most %d", counted, held, queuedBytesMax)
	}
	b.deliver(b.cancelRequested(last))
	b.becomes(last.ID, "cancelled")
	close(release)
	b.quiet()
	for i := range count - 1 {
		b.becomes(idOf(i+1), "complete")
	}
	if runs.Load() != count-1 {
		t.Errorf("%d runs", runs.Load())
	}
	if counted, _ := b.queuedBytes(0); counted != 0 {
		t.Errorf("%d bytes are left of an empty queue", counted)
	}
}

func TestRequestsThatAreTakenOverHoldBoundedBodies(t *testing.T) {
	t.Parallel()
	const count = 80
	release, runs := make(chan struct{}), new(atomic.Int64)
	b, large := largeBench(t, release, runs)
	for i := range count {
		s := b.put(i+1, "request", large)
		b.follow(s, "running", attempt(1))
	}
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if counted, held := b.queuedBytes(count); counted < held || held > queuedBytesMax {
		t.Errorf("the queue counts %d bytes and holds %d, want at most %d", counted, held, queuedBytesMax)
	}
	close(release)
	for i := range count {
		b.becomes(idOf(i+1), "complete")
	}
}
