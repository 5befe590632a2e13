package stage0

import (
	"fmt"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// What came to its end while nobody was there, ten thousand of a tenant, is archived in turns of fifty: each
// once, none left, and what is not due untouched.
func TestTenThousandThatEndAreArchivedInTurns(t *testing.T) {
	t.Parallel()
	const due, turnsMost = 10_000, 201
	b := setup(t, nil, nil)
	reaper := b.watch()["ttl_reaper"]
	var groups []ledger.Group
	for i := range due + 100 {
		ends := noon.Add(-time.Duration(i) * time.Second) // over three hours of no sidecar
		if i >= due {
			ends = noon.Add(time.Minute)
		}
		s := &span.Span{ID: idOf(i), EntityType: "prompt_block", Who: "user:alice", At: span.NewTime(noon),
			OwnerID: "alice", TenantID: "t1", Visibility: "private", Status: new("active"),
			TTLAt: new(span.NewTime(ends.Add(-time.Millisecond)))}
		if err := s.Seal(nil); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, ledger.Group{Rows: []*span.Span{s}})
		if len(groups) == 500 || i == due+99 {
			if _, err := b.config.Ledger.Append(t.Context(), groups); err != nil {
				t.Fatal(err)
			}
			groups = nil
		}
	}
	archived, turns := map[span.ID]bool{}, 0
	for isAgain := true; isAgain; turns++ {
		cause, _ := tickOf(reaper, "system", "t1", noon.Add(-time.Minute), noon)
		cause.ID = span.Derive("tick", noon, []span.ID{reaper.ID}, int64(turns))
		group := b.judgeAll(cause, fmt.Sprintf(`{"every":"minute","from":%q,"to":%q,"round":%d,"limit":50}`,
			span.NewTime(noon.Add(-time.Minute)), span.NewTime(noon), turns), reaper)
		isAgain = group.Again
		var rows []*span.Span
		for _, row := range group.Rows {
			if row.EntityType != "prompt_block" {
				continue // the policy's own mark
			}
			if rows = append(rows, row); archived[row.ID] || row.StatusText() != "archived" {
				t.Fatalf("turn %d: %s is %s, and archived before: %v", turns, row.ID, row.StatusText(), archived[row.ID])
			}
			archived[row.ID] = true
		}
		if len(rows) > 50 || turns > turnsMost {
			t.Fatalf("turn %d has %d rows", turns, len(rows))
		}
		if len(rows) > 0 {
			b.land(rows)
		}
	}
	if len(archived) != due || turns != turnsMost {
		t.Errorf("%d are archived in %d turns, want %d in %d", len(archived), turns, due, turnsMost)
	}
}
