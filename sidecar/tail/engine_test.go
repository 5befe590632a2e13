package tail

import (
	"slices"
	"testing"
)

// The schema engine is dropped again and again under load: the tail makes it anew and goes on.
func TestDroppedSchemaCostsNoRow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	admin := connect(t, f.db.URL)
	var want []string
	for round := range 5 {
		want = append(want, insert(t, f.conn, "row"))
		if round%2 == 0 {
			execute(t, admin, "drop schema engine cascade")
		} else {
			execute(t, admin, "drop table engine.cursor")
		}
		f.settled(t)
	}
	for _, id := range want {
		eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
	}
	// And while it is down.
	w.end()
	execute(t, admin, "drop schema engine cascade")
	missed := insert(t, f.conn, "missed")
	again := f.follow(t).streams(t)
	eventually(t, "the row comes", func() bool { return slices.Contains(again.ids(), missed) })
	if again.since != "" {
		t.Errorf("it leads from %q, want everything", again.since)
	}
	f.settled(t)
}
