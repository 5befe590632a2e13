package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

func whenOf(t testing.TB, text string) span.When {
	t.Helper()
	when, err := span.ParseWhen(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func rowOf(entityType, status string, xact uint64) *span.Published {
	return &span.Published{ID: idOf(0xfff), EntityType: entityType, Status: &status, OwnerID: "alice",
		TenantID: "t1", Visibility: "tenant", Xact: xact}
}

// named is a list of n words in JSON.
func named(word string, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = fmt.Sprintf("%q", fmt.Sprint(word, i))
	}
	return "[" + strings.Join(words, ",") + "]"
}

// What one policy takes of memory, and of the time of each row of its tenant, is bounded: types times
// statuses of 100,000 letters would be a billion places.
func TestAPolicyTakesFewPlaces(t *testing.T) {
	t.Parallel()
	half := whenValuesMax / 2
	when := `{"entity_type":` + named("a", half) + `,"status":` + named("b", half) + `}`
	row := &span.Span{ID: idOf(1), EntityType: "policy", OwnerID: "alice", TenantID: "t1", Status: new("active"),
		Metadata: json.RawMessage(`{"when":` + when + `}`)}
	p, err := readPolicy(row)
	if err != nil {
		t.Fatal(err)
	}
	r := newRules()
	r.set(p)
	places := 0
	for _, set := range r.byType {
		places += len(set.byPlace)
	}
	if places > whenValuesMax {
		t.Errorf("it stands in %d places", places)
	}
	for status, want := range map[string]int{"b7": 1, "c": 0} {
		if got := len(r.match(rowOf("a3", status, 9))); got != want {
			t.Errorf("%s is for %d policies, want %d", status, got, want)
		}
	}
	for what, when := range map[string]string{
		"values":  `{"status":` + named("a", whenValuesMax+1) + `}`,
		"columns": `{"not_status":` + named("a", half) + `,"status":` + named("b", half+1) + `}`,
		"a word":  `{"status":"` + strings.Repeat("a", whenBytesMax) + `"}`,
		"words":   `{"entity_type":[` + strings.Repeat(`"<engine-written types>",`, half) + `"a"]}`,
		"unknown": `{` + strings.Join(strings.Split(strings.Trim(named("a", 1000), "[]"), ","), ":1,") + `:1}`,
	} {
		row.Metadata = json.RawMessage(`{"when":` + when + `}`)
		if _, err := readPolicy(row); err == nil || len(err.Error()) > faultMax {
			t.Errorf("too many %s: %.200v", what, err)
		}
	}
}

// A policy is found whatever of its condition the index goes by, and by no row that it does not match.
func TestRulesFindWhatMatches(t *testing.T) {
	t.Parallel()
	r := newRules()
	conditions := []string{`{}`, `{"entity_type":"order"}`, `{"entity_type":["order","task"],"status":"paid"}`,
		`{"status":["new","paid","paid"]}`, `{"status":[null,"new"]}`, `{"not_status":"paid"}`,
		`{"entity_type":"execution","status":"error"}`, `{"not_entity_type":"order"}`}
	for i, condition := range conditions {
		r.set(&policy{id: idOf(i), tenant: "t1", owner: "alice", when: whenOf(t, condition)})
		r.set(&policy{id: idOf(0x100 + i), tenant: "system", owner: "system", when: whenOf(t, condition)})
		r.set(&policy{id: idOf(0x200 + i), tenant: "t2", owner: "alice", when: whenOf(t, condition)})
	}
	rows := []*span.Published{rowOf("order", "paid", 9), rowOf("order", "new", 9), rowOf("task", "paid", 9),
		rowOf("execution", "error", 9), rowOf("note", "", 9)}
	rows[4].Status = nil
	for _, row := range rows {
		var want, got []span.ID
		for i, condition := range conditions {
			when := whenOf(t, condition)
			if when.Matches(row) && (!span.IsEngineType(row.EntityType) || when.Names("entity_type") != nil) {
				want = append(want, idOf(i), idOf(0x100+i))
			}
		}
		for _, p := range r.match(row) {
			got = append(got, p.id)
		}
		order := func(a, b span.ID) int { return slices.Compare(a[:], b[:]) }
		slices.SortFunc(want, order)
		slices.SortFunc(got, order)
		if !slices.Equal(got, want) {
			t.Errorf("%s %v: got %v, want %v", row.EntityType, row.Status, got, want)
		}
	}
}

// Versions are kept as long as a row may come that they judge, and forgotten then.
func TestRulesForgetVersionsThatJudgeNothing(t *testing.T) {
	t.Parallel()
	r := newRules()
	when := whenOf(t, `{"entity_type":"note"}`)
	for seq := range 3 * versionsMax {
		r.set(&policy{id: idOf(1), seq: seq, tenant: "t1", owner: "alice", when: when, xact: uint64(10 * (seq + 1)),
			isOut: seq%5 == 4})
	}
	if n := len(r.before); n >= versionsMax {
		t.Errorf("%d versions are kept", n)
	}
	newest := r.byID[idOf(1)]
	judges := func(xact uint64) string {
		matches := r.match(rowOf("note", "open", xact))
		if len(matches) != 1 {
			return fmt.Sprint(len(matches))
		}
		return fmt.Sprint("version ", matches[0].seq)
	}
	horizon := newest.xact - 35
	r.prune(horizon)
	for _, c := range []struct {
		xact uint64
		want string
	}{{newest.xact + 1, "0"}, {newest.xact, "version 298"}, {horizon + 1, "version 295"},
		{horizon, "version 295"}} {
		if newest.seq != 299 || !newest.isOut {
			t.Fatalf("the newest is %d", newest.seq)
		}
		if got := judges(c.xact); got != c.want {
			t.Errorf("transaction %d: %s, want %s", c.xact, got, c.want)
		}
	}
	r.prune(newest.xact + 1)
	if len(r.byID) != 0 || len(r.out) != 0 {
		t.Errorf("a policy that has ended is still known")
	}
	if len(r.before) != 0 || len(r.byType) != 0 || newest.previous != nil || newest.versions != 0 {
		t.Errorf("left: %d versions, %d types, %d before the newest", len(r.before), len(r.byType),
			newest.versions)
	}
}

// BenchmarkRules compares what a row costs that no policy asks for, without policies and beside a thousand of
// its tenant, each for a type and status of its own; and one of a hundred that matches.
func BenchmarkRules(b *testing.B) {
	for _, policies := range []int{0, 1000} {
		for _, part := range []int{0, 1} { // percent of the rows that match
			b.Run(fmt.Sprintf("policies=%d/matching=%d", policies, part), func(b *testing.B) {
				r := newRules()
				for i := range policies {
					when := fmt.Sprintf(`{"entity_type":"order","status":"s%d"}`, i)
					r.set(&policy{id: idOf(i), tenant: "t1", owner: "alice", when: whenOf(b, when),
						acceptedAt: time.Unix(0, 0)})
				}
				rows := make([]*span.Published, 100)
				for i := range rows {
					rows[i] = rowOf("order", "other", 9)
				}
				for i := range part {
					rows[i] = rowOf("order", "s7", 9)
				}
				b.ResetTimer()
				for i := range b.N {
					r.match(rows[i%len(rows)])
				}
			})
		}
	}
}
