package ledger

import (
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// inForce asks for the version of id in force and for the next that waits.
func inForce(t *testing.T, l *Ledger, id span.ID, hours int) (seq int, wait time.Duration) {
	t.Helper()
	row, err := l.InForce(t.Context(), id, hours)
	if err != nil {
		t.Fatal(err)
	}
	next, err := l.NextInForce(t.Context(), id, hours)
	if err != nil {
		t.Fatal(err)
	}
	if seq = -1; row != nil {
		seq = row.Seq
	}
	if !next.IsZero() {
		wait = time.Until(next).Round(time.Hour)
	}
	return seq, wait
}

func TestInForceIsTheLatestVersionWhoseTimeHasCome(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	function := func(s *span.Span) { s.EntityType, s.Status = "function", new("active") }
	first := note(t, idOf(1), function)
	mustAppend(t, l, Group{Rows: []*span.Span{first}})
	next := func(before *span.Span, change func(*span.Span)) *span.Span {
		later := *before
		later.Seq++
		change(&later)
		if err := later.Seal(before.CurrHash); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, Group{Fence: &later})
		return &later
	}
	soon := span.NewTime(time.Now().Add(2 * time.Hour))
	second := next(first, func(s *span.Span) { s.EffectiveAt = &soon })
	never := note(t, idOf(2), function, func(s *span.Span) { s.EffectiveAt = second.EffectiveAt })
	mustAppend(t, l, Group{Rows: []*span.Span{never}})
	type verdict struct {
		seq  int
		wait time.Duration
	}
	check := func(what string, id span.ID, hours int, want verdict) {
		t.Helper()
		if seq, wait := inForce(t, l, id, hours); (verdict{seq, wait}) != want {
			t.Errorf("%s: version %d, next in %s; want %d, %s", what, seq, wait, want.seq, want.wait)
		}
	}
	check("effective later", first.ID, 0, verdict{0, 2 * time.Hour})
	check("a timelock beyond that", first.ID, 24, verdict{0, 24 * time.Hour})
	check("none effective", never.ID, 0, verdict{-1, 2 * time.Hour})
	check("nothing there", idOf(9), 24, verdict{-1, 0})
	third := next(second, func(s *span.Span) { s.EffectiveAt = nil })
	check("the newest", first.ID, 0, verdict{2, 0})
	check("the newest under a timelock", first.ID, 24, verdict{0, 24 * time.Hour})
	next(third, func(s *span.Span) { s.Status = new("archived") })
	check("what takes it out of use waits for no timelock", first.ID, 24, verdict{3, 0})
	versions, err := l.VersionsBefore(t.Context(), first.ID, 3, 2)
	if err != nil || len(versions) != 2 || versions[0].Seq != 2 || versions[1].Seq != 1 {
		t.Errorf("versions before 3: %v, %v", versions, err)
	}
}
