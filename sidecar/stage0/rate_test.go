package stage0

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// asked is a request as rates see it.
func asked(n int, owner string) *span.Span {
	return &span.Span{ID: idOf(n), OwnerID: owner, TenantID: "t1"}
}

func TestAMateWaitsAMinuteForWhateverIsBookedAhead(t *testing.T) {
	t.Parallel()
	var r rates
	key, now := rateKey{"run_code", "t1"}, time.Now()
	told := map[int]time.Duration{}
	for n := range 1000 {
		if at := r.book(key, 10, now, asked(n, "mallory")); !at.IsZero() {
			told[n] = at.Sub(now)
		}
	}
	if len(told) != 990 || told[999] != 99*time.Minute {
		t.Errorf("%d wait, the last %s", len(told), told[999])
	}
	if at := r.book(key, 10, now, asked(2000, "bob")); at.Sub(now) != 2*time.Minute {
		t.Errorf("a mate waits %s", at.Sub(now))
	}
	if at := r.book(key, 10, now, asked(999, "mallory")); at.Sub(now) != told[999] {
		t.Errorf("who asks again is told another time: %s", at.Sub(now))
	}
	// Each comes back when it was told to; all run, never more than ten in a minute.
	ran := 10
	last := ran
	for m := 1; m < 130; m++ {
		at := now.Add(time.Duration(m) * time.Minute)
		last = 0
		for n, when := range told {
			if when > time.Duration(m)*time.Minute {
				continue
			}
			if next := r.book(key, 10, at, asked(n, "mallory")); next.IsZero() {
				delete(told, n)
				last++
			} else {
				told[n] = next.Sub(now)
			}
		}
		ran += last
		if last > 10 {
			t.Fatalf("%d in minute %d", last, m)
		}
	}
	if ran != 1000 {
		t.Errorf("%d of 1000 ran", ran)
	}
}

func TestWhatIsCancelledGivesItsTurnBack(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"rate_limits": map[string]any{
		"kernel:run_code": map[string]any{"per_tenant_per_min": 1}}}, nil)
	f := b.function(1, "return 1", func(s *span.Span) { s.Visibility = "tenant" })
	drops := b.function(2, "return 1", func(s *span.Span) { s.Metadata = json.RawMessage(`{"quota": "drop"}`) })
	b.perform(b.request(10, f.ID))
	waiting := b.request(11, f.ID)
	blocked := b.perform(waiting)
	if got := b.perform(b.request(12, drops.ID)); got.Fence.StatusText() != "error" {
		t.Errorf("what does not wait is %s", got.Fence.StatusText())
	}
	group, err := b.Cancelled(t.Context(), again(waiting, blocked, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if group.Fence.StatusText() != "cancelled" {
		t.Errorf("cancelled as %s", group.Fence.StatusText())
	}
	mate := b.perform(b.request(13, f.ID, func(s *span.Span) { s.OwnerID = "bob" }))
	if got := mate.Fence.ScheduledAt; got == nil || !got.Equal(blocked.Fence.ScheduledAt.Time) {
		t.Errorf("the turn is %s, want %s", got, blocked.Fence.ScheduledAt)
	}
}

func TestAnotherRateForgetsWhatIsBooked(t *testing.T) {
	t.Parallel()
	var r rates
	key, now := rateKey{"run_code", "t1"}, time.Now()
	for n := range 5 {
		r.book(key, 1, now, asked(n, "alice"))
	}
	if at := r.book(key, 3, now, asked(4, "alice")); !at.IsZero() {
		t.Errorf("under a higher limit it waits until %s", at)
	}
}
