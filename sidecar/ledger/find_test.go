package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// runsOf appends executions of an owner, one a minute from 00:00 on, with 10, 20, … ms.
func runsOf(t *testing.T, l *Ledger, place int, owner, tenant string, n int) {
	t.Helper()
	var rows []*span.Span
	for i := range n {
		rows = append(rows, note(t, idOf(place+i), func(s *span.Span) {
			s.EntityType, s.OwnerID, s.TenantID, s.Visibility = "execution", owner, tenant, "private"
			s.At = span.NewTime(time.Date(2026, 11, 23, 0, i, 0, 0, time.UTC))
			s.Status, s.DurationMs, s.Name = new("complete"), new(10*(i+1)), new(fmt.Sprint(owner, i))
			if i == 0 {
				s.Status, s.Error = new("error"), []byte(`{"code":"exception"}`)
			}
		}))
	}
	mustAppend(t, l, Group{Rows: rows})
}

func TestFindTakesRanges(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	runsOf(t, l, 100, "alice", "t1", 4)
	scope := Scope{UserID: "alice", TenantID: "t1"}
	at := "2026-11-23T00:01:00Z"
	for name, c := range map[string]struct {
		ranges map[string]Range
		want   int
	}{
		"gte and lt":      {map[string]Range{"duration_ms": {Gte: new("20"), Lt: new("40")}}, 2},
		"gt and lte":      {map[string]Range{"duration_ms": {Gt: new("20"), Lte: new("40")}}, 2},
		"half a number":   {map[string]Range{"duration_ms": {Gt: new("29.5")}}, 2},
		"time":            {map[string]Range{"at": {Lt: &at}}, 1},
		"time and number": {map[string]Range{"at": {Gte: &at}, "duration_ms": {Lte: new("20")}}, 1},
		"null is outside": {map[string]Range{"ttl_at": {Lt: &at}}, 0},
	} {
		found, err := find(t, l, scope, Filter{Ranges: c.ranges}, 10)
		if err != nil || len(found) != c.want {
			t.Errorf("%s: %d found, want %d, %v", name, len(found), c.want, err)
		}
	}
	for name, ranges := range map[string]map[string]Range{
		"a word for a time": {"at": {Lt: new("now")}}, "a column without ranges": {"metadata": {Lt: new("1")}},
	} {
		if _, err := find(t, l, scope, Filter{Ranges: ranges}, 10); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := find(t, l, scope, Filter{Ranges: map[string]Range{"priority": {Lt: new("x")}}},
		10); !IsRefusal(err) {
		t.Errorf("a number that is none: got %v", err)
	}
}

func TestSummarizeCountsByGroup(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	runsOf(t, l, 200, "alice", "t1", 5)
	runsOf(t, l, 300, "bob", "t1", 1)
	scope := Scope{UserID: "alice", TenantID: "t1"}
	rows, err := l.Summarize(t.Context(), scope, equal("entity_type", "execution"),
		Summary{By: []string{"status"}, Of: "duration_ms", Limit: 10})
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	got := fmt.Sprint(rows[0])
	want := "map[avg:35 count:4 max:50 min:20 p50:35 p95:48.5 p99:49.699999999999996 status:complete sum:140]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rows, err = l.Summarize(t.Context(), scope, equal("status", "error"),
		Summary{By: []string{"error.code"}, Bucket: "hour", Limit: 10})
	if err != nil || fmt.Sprint(rows) !=
		"[map[bucket:2026-11-23T00:00:00.000000Z count:1 error.code:exception]]" {
		t.Errorf("got %v, %v", rows, err)
	}
	if rows, err = l.Summarize(t.Context(), scope, Filter{}, Summary{Limit: 1}); err != nil ||
		fmt.Sprint(rows) != "[map[count:5]]" {
		t.Errorf("all in one: got %v, %v", rows, err)
	}
	_, err = l.Summarize(t.Context(), scope, Filter{}, Summary{Bucket: "minute", Limit: 4})
	if !errors.Is(err, ErrTooManyRows) {
		t.Errorf("five groups where four may be: got %v", err)
	}
	for name, want := range map[string]Summary{"by": {By: []string{"metadata"}},
		"bucket": {Bucket: "year"}, "of": {Of: "seq"}} {
		if _, err := l.Summarize(t.Context(), scope, Filter{}, want); !errors.Is(err, ErrFilter) ||
			strings.Contains(err.Error(), "filtered") {
			t.Errorf("a wrong %s: got %v", name, err)
		}
	}
}

func TestASystemPolicyReadsItsTenantAlone(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	runsOf(t, l, 400, "alice", "t1", 2)
	runsOf(t, l, 500, "bob", "t1", 1)
	runsOf(t, l, 600, "alice", "t2", 4)
	first := note(t, idOf(700), func(s *span.Span) {
		s.OwnerID, s.TenantID, s.Visibility = "eve", "t2", "public"
	})
	mustAppend(t, l, Group{Rows: []*span.Span{first}})
	for scope, want := range map[Scope]string{
		{TenantID: "t1", OfSystem: true}:                  "3 of t1 alone",
		{UserID: "alice", TenantID: "t1", OfSystem: true}: "2 of t1 alone",
		{TenantID: "t2", OfSystem: true}:                  "5 of t2 alone",
		{TenantID: "", OfSystem: true}:                    "0 of ",
	} {
		found, err := find(t, l, scope, Filter{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%d of ", len(found))
		for i, s := range found {
			if i == 0 {
				got += s.TenantID + " alone"
			} else if s.TenantID != found[0].TenantID {
				got += ", and of " + s.TenantID
			}
		}
		if got != want {
			t.Errorf("%+v finds %s, want %s", scope, got, want)
		}
	}
	if _, err := l.Query(t.Context(), Scope{TenantID: "t1", OfSystem: true}, "select 1", nil, 1); err == nil {
		t.Error("raw SQL runs under a scope that no role holds")
	}
}
