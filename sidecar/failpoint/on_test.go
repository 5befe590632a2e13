//go:build failpoints

package failpoint

import (
	"strings"
	"testing"
	"time"
)

func TestActsOnTheHitThatIsNamed(t *testing.T) {
	t.Parallel()
	p, err := parse("gap-row=error@2,cursor-stored=error@2+,slot-taken=delay:1ms", "fence,sorted")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ gap, cursor bool }{{}, {true, true}, {false, true}} {
		if got := p.pass(GapRow) != nil; got != want.gap {
			t.Errorf("pass %d of %s fails: %t", i+1, GapRow, got)
		}
		if got := p.pass(CursorStored) != nil; got != want.cursor {
			t.Errorf("pass %d of %s fails: %t", i+1, CursorStored, got)
		}
	}
	if started := time.Now(); p.pass(SlotTaken) != nil || time.Since(started) < time.Millisecond {
		t.Error("a delay does not wait")
	}
	if !p.disabled[Fence] || !p.disabled[Sorted] || p.disabled[Derived] {
		t.Errorf("disabled is %v", p.disabled)
	}
}

func TestRefusesWhatIsNotInTheList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ actions, disabled, want string }{
		{"nowhere=kill", "", "nowhere"},
		{"gap-row=dance", "", "dance"},
		{"gap-row=kill@x", "", "gap-row=kill@x"},
		{"gap-row=delay:soon", "", "soon"},
		{"", "walls", "walls"},
	} {
		if _, err := parse(c.actions, c.disabled); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: %v", c.actions, c.disabled, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown place may be passed")
		}
	}()
	Hit("nowhere")
}
