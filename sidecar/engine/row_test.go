package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// routing starts an engine that only routes: it has no ledger.
func routing(t testing.TB) (*Engine, func()) {
	t.Helper()
	document, err := kernels.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := span.ParseManifest(document)
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Ledger: &ledger.Ledger{}, Manifest: func() *span.Manifest { return manifest },
		Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx, time.Second) })
	return e, func() {
		stop()
		running.Wait()
	}
}

func note(n int) *span.Published {
	return &span.Published{ID: span.MustID(fmt.Sprintf("018f0000-0000-7000-8000-%012x", n)), EntityType: "note",
		OwnerID: "alice", TenantID: "t1", Visibility: "private", AcceptedAt: span.NewTime(time.Now())}
}

func TestRowsThatNothingWantsAreDisposedOf(t *testing.T) {
	t.Parallel()
	e, stop := routing(t)
	defer stop()
	const rows = 3*itemsMax + 7
	var disposed atomic.Int64
	all := make(chan struct{})
	for n := range rows {
		if err := e.Row(t.Context(), note(n), func() {
			if disposed.Add(1) == rows {
				close(all)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-time.After(10 * time.Second):
		t.Fatalf("%d of %d rows are disposed of", disposed.Load(), rows)
	}
	if got := e.stats.Rows.Load(); got != rows || len(e.slots) != 0 {
		t.Errorf("%d rows were routed, %d places are held", got, len(e.slots))
	}
}

// A row whose caller gave up is not routed, and those after it are.
func TestARowThatWasGivenUpHoldsNoPlace(t *testing.T) {
	t.Parallel()
	manifest := &span.Manifest{}
	e := New(Config{Ledger: &ledger.Ledger{}, Manifest: func() *span.Manifest { return manifest },
		Log: slog.New(slog.DiscardHandler)})
	for range cap(e.events) { // nobody runs the loop: there is no room to tell it
		e.events <- func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Row(ctx, note(1), func() { t.Error("it is disposed of") }); err == nil || len(e.slots) != 0 {
		t.Fatalf("got %v, %d places are held", err, len(e.slots))
	}
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { e.Run(ctx, time.Second) })
	done := make(chan struct{})
	if err := e.Row(t.Context(), note(2), func() { close(done) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the row behind it never came")
	}
	stop()
	running.Wait()
}

// BenchmarkRow is what a row costs that no trigger and no policy wants, beside an event of the loop for each.
func BenchmarkRow(b *testing.B) {
	e, stop := routing(b)
	defer stop()
	row := note(1)
	const rows = 100_000
	for b.Loop() {
		began := time.Now()
		for range rows {
			if err := e.Row(b.Context(), row, func() {}); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.tell(b.Context(), func() {}); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		began = time.Now()
		for range rows {
			e.slots <- struct{}{}
			e.events <- func() { e.route(row, func() {}) }
		}
		if err := e.tell(b.Context(), func() {}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rows/took.Seconds(), "rows/s")
		b.ReportMetric(time.Since(began).Seconds()/took.Seconds(), "ratio_to_an_event_each")
	}
}
