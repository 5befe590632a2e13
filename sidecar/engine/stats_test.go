package engine

import (
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Latency counts from the cause: what a derived id says, a client's own acceptance, or a time to come.
func TestLatencyCountsFromTheCause(t *testing.T) {
	t.Parallel()
	at := time.Date(2031, 5, 6, 7, 8, 9, int(12*time.Millisecond), time.UTC)
	derived := span.Derive("request", at, []span.ID{{1}})
	client := span.MustID("01890a5d-ac96-774b-bcce-b302099a8057")
	later := span.NewTime(at.Add(time.Hour))
	for name, c := range map[string]struct {
		request *span.Span
		want    time.Time
	}{
		"derived":           {&span.Span{ID: derived, AcceptedAt: new(span.NewTime(at.Add(time.Second)))}, at},
		"a client's":        {&span.Span{ID: client, AcceptedAt: new(span.NewTime(at))}, at},
		"due later":         {&span.Span{ID: derived, ScheduledAt: &later}, later.Time},
		"a version of it":   {&span.Span{ID: derived, Seq: 2, AcceptedAt: &later}, at},
		"a client's second": {&span.Span{ID: client, Seq: 1, AcceptedAt: &later}, time.Time{}},
	} {
		if got := causedAt(c.request); !got.Equal(c.want) {
			t.Errorf("%s: from %s, want %s", name, got, c.want)
		}
	}
}
