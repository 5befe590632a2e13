package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// What ran when its sidecar died is told to whoever makes the end of the cancelled request; what waited, or
// is this process's own, is not.
func TestARunThatWasLostBeforeItsCancelIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []string
		isOwn  bool
		want   int64 // the seq of the lost version; -1 is none
	}{
		"it ran":                  {[]string{"running"}, false, 1},
		"it was taken over since": {[]string{"running", "running"}, false, 2},
		"it waited":               {nil, false, -1},
		"it was to run again":     {[]string{"running", "retry"}, false, -1},
		"this sidecar has marked it, and not run it": {[]string{"running"}, true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lostSeq atomic.Int64
			b := setup(t, func(b *bench) {
				b.cancelled = func(ctx context.Context, request, lost *span.Span) (ledger.Group, error) {
					if lostSeq.Store(-1); lost != nil {
						lostSeq.Store(int64(lost.Seq))
					}
					return cancelled(ctx, request, lost)
				}
			})
			s := b.put(1, "request")
			for _, status := range c.before {
				s = b.follow(s, status, attempt(1))
			}
			if c.isOwn {
				_ = b.engine.tell(t.Context(), func() { b.engine.marks.add(s) })
			}
			b.cancelRequested(s)
			b.lead()
			b.becomes(s.ID, "cancelled")
			if got := lostSeq.Load(); got != c.want {
				t.Errorf("version %d is said to be lost, want %d", got, c.want)
			}
		})
	}
}

// Another sidecar's version that comes to light while this one leads: who wrote it leads no more.
func TestAVersionOfASidecarThatIsGoneIsTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lead()
	first := b.put(1, "request")
	b.follow(first, "running", attempt(1))
	began := time.Now()
	b.deliver(first)
	b.becomes(first.ID, "complete")
	if waited := time.Since(began); waited > 25*time.Second {
		t.Errorf("it waited for %s", waited)
	}
	b.want(first.ID, "scheduled running running complete", "complete2")
}

// A commit went through, its answer did not come, and this sidecar lost the lead meanwhile.
func TestAMarkOfThisProcessCostsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, isLed := range map[string]bool{"found as it leads": true, "found by its row": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first := b.put(1, "request")
			mark := b.follow(first, "running", attempt(1))
			_ = b.engine.tell(t.Context(), func() { b.engine.marks.add(mark) })
			if isLed {
				b.lead()
			} else {
				b.deliver(first)
			}
			b.becomes(first.ID, "complete")
			b.want(first.ID, "scheduled running complete", "complete1")
			if n := b.engine.Stats().Takeovers.Load(); n != 0 {
				t.Errorf("%d are taken over", n)
			}
		})
	}
}
