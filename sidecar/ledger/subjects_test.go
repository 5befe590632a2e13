package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestSubjectsAreThoseOfTheWindow(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var rows []*span.Span
	for i, s := range []struct {
		entityType, owner, tenant, status string
		at, ttl                           time.Duration
	}{
		{"memory", "alice", "t1", "active", 0, time.Minute},
		{"memory", "bob", "t1", "active", 0, time.Minute},
		{"memory", "alice", "t2", "archived", 0, time.Minute},
		{"memory", "alice", "t3", "active", -time.Hour, -time.Minute},
		{"task", "alice", "t4", "active", 0, time.Minute},
		{"memory", "alice", "t5", "active", time.Minute, time.Hour},
	} {
		rows = append(rows, note(t, idOf(i+1), func(n *span.Span) {
			n.EntityType, n.OwnerID, n.TenantID, n.Status = s.entityType, s.owner, s.tenant, &s.status
			n.At, n.TTLAt = span.NewTime(noon.Add(s.at)), new(span.NewTime(noon.Add(s.ttl)))
		}))
	}
	mustAppend(t, l, Group{Rows: rows})
	base := SubjectSearch{Types: []string{"memory"}, From: noon, To: noon.Add(time.Minute), Window: "at",
		Limit: 10}
	for name, c := range map[string]struct {
		change func(*SubjectSearch)
		want   string
	}{
		"the end is out of the window": {func(*SubjectSearch) {}, "t1 t2"},
		"a status":                     {func(s *SubjectSearch) { s.Statuses = []string{"active"} }, "t1"},
		"owners":                       {func(s *SubjectSearch) { s.PerOwner = true }, "t1/alice t1/bob t2/alice"},
		"two types":                    {func(s *SubjectSearch) { s.Types = []string{"memory", "task"} }, "t1 t2 t4"},
		"any time":                     {func(s *SubjectSearch) { s.Window = "none" }, "t1 t2 t3 t5"},
		"a limit":                      {func(s *SubjectSearch) { s.Limit = 1 }, "t1"},
		"each tenant in its turn": {func(s *SubjectSearch) { // as far as there are places
			s.Statuses, s.PerOwner, s.Limit = nil, true, 2
		}, "t1/alice t2/alice"},
		"so many of a tenant": {func(s *SubjectSearch) {
			s.PerOwner, s.TenantLimit, s.To = true, 1, noon.Add(2*time.Minute)
		}, "t1/bob t2/alice t5/alice"}, // another one than a minute ago
		"what ends now": {func(s *SubjectSearch) { s.Window = "ttl_at" }, ""},
		"what ends then": {func(s *SubjectSearch) {
			s.Window, s.To = "ttl_at", noon.Add(2*time.Minute)
		}, "t1 t2"},
		"what has ended": {func(s *SubjectSearch) {
			s.Window, s.To, s.IsOpenEnded = "ttl_at", noon.Add(2*time.Minute), true
		}, "t1 t2 t3"},
	} {
		search := base
		c.change(&search)
		found, err := l.Subjects(t.Context(), search)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, subject := range found {
			got = append(got, strings.TrimSuffix(fmt.Sprintf("%s/%s", subject.TenantID, subject.OwnerID), "/"))
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: got %q, want %q", name, text, c.want)
		}
	}
}
