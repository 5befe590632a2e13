package engine

import (
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Where nothing says up to where policies have judged, what 0.1.0 has judged, by ids of another form, is not
// judged again; what came after its newest emission is, and what has ids of today's form is known by them.
func TestWhatAnOlderSidecarHasJudgedIsNotJudgedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = b.emits(1) })
	policy := b.put(1, "policy", policyOf("alice", "t1", ofNotes))
	note := func(n int) *span.Span { return b.put(n, "note", noteOf("alice", "t1", "private")) }
	old, open, later := note(0x10), note(0x11), (*span.Span)(nil)
	emit := func(cause *span.Span, id span.ID) {
		s := derived("policy", cause, id)
		s.EntityType, s.PolicyID, s.Name = "alert", &policy.ID, new("by another")
		if err := s.Seal(nil); err != nil {
			t.Fatal(err)
		}
		b.append(ledger.Group{Rows: []*span.Span{s}})
	}
	emit(old, span.Derive("policy", old.AcceptedAt.Time, []span.ID{policy.ID, old.ID}, 0, 0, 0))
	later = note(0x12)
	judged := note(0x13)
	emit(judged, span.Emission(policy.ID, judged.Key(), judged.AcceptedAt.Time, 0))
	exec(t, b.connect(), "drop schema engine cascade")
	b.followFrom(span.Snapshot{}, "t1")
	eventually(t, "what is later is judged", func() bool { return len(b.alerts(later.ID)) == 1 })
	last := note(0x14)
	eventually(t, "what is new is judged", func() bool { return len(b.alerts(last.ID)) == 1 })
	for s, want := range map[*span.Span]int{old: 1, open: 0, later: 1, judged: 1, last: 1} {
		if got := b.alerts(s.ID); len(got) != want {
			t.Errorf("note %s has the alerts %q, want %d", s.ID, got, want)
		}
	}
}
