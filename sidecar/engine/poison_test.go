package engine

import (
	"context"
	"slices"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// A span that no run of policies survives, and one whose body the server cannot read, end as one incident
// each; the others of the batch are judged, in their order.
func TestASpanThatPoliciesCannotBeShownCostsNoOther(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]span.RunCode{"crash": span.RunCrash, "exception": span.RunException,
		"corrupt": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poisoned := idOf(0x15)
			var order []string // one run at a time
			b := setup(t, func(b *bench) {
				emits := b.emits(1)
				if code == "" {
					b.unreadable = poisoned
				}
				b.kernels[policyKernel] = func(ctx context.Context, job Job) error {
					if slices.ContainsFunc(job.Batch, func(s *span.Span) bool { return s.ID == poisoned }) {
						return &span.RunError{Code: code, Message: "poison"}
					}
					for _, m := range matchesIn(t, job) {
						order = append(order, m.cause.ID.String())
					}
					return emits(ctx, job)
				}
			})
			b.deliver(b.put(1, "policy", policyOf("alice", "t1", ofNotes)))
			var notes []*span.Span
			for i := range 16 {
				notes = append(notes, b.put(0x10+i, "note", noteOf("alice", "t1", "private")))
			}
			eventually(t, "all are disposed of", b.deliver(notes...))
			for _, note := range notes {
				want := 1
				if note.ID == poisoned {
					want = 0
				}
				if got := b.alerts(note.ID); len(got) != want {
					t.Errorf("note %s has the alerts %q, want %d", note.ID, got, want)
				}
			}
			var incidents int
			err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
				where entity_type = 'incident' and parent_id = $1::text::uuid`, poisoned.String()).Scan(&incidents)
			if err != nil || incidents != 1 || len(order) != 15 || !slices.IsSorted(order) {
				t.Errorf("%d incidents, judged in the order %q, %v", incidents, order, err)
			}
		})
	}
}
