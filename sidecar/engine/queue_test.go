package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// queue pushes requests named by tenant and number, such as a1.
func queue(f *fair, names ...string) map[string]*request {
	all := map[string]*request{}
	for i, name := range names {
		r := &request{id: idOf(i), kernel: "k", phase: queued, span: &span.Span{TenantID: name[:1], Name: &name}}
		if strings.HasSuffix(name, "!") {
			r.kernel = "other"
		}
		all[name] = r
		f.push(r)
	}
	return all
}

const anyRoom = 1 << 20

func popped(f *fair, n int) string {
	var names []string
	for _, r := range f.pop(n, anyRoom, newTaken()) {
		names = append(names, *r.span.Name)
	}
	return strings.Join(names, " ")
}

func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, pushed string
		n            int
		want         []string
	}{
		{"one tenant in order", "a1 a2 a3", 2, []string{"a1 a2", "a3", ""}},
		{"a flood waits", "a1 a2 a3 a4 a5 b1 c1 c2", 3, []string{"a1 b1 c1", "a2 c2 a3", "a4 a5", ""}},
		{"the turn goes on between batches", "a1 a2 b1 b2 c1 c2", 1, []string{"a1", "b1", "c1", "a2", "b2", "c2",
			""}},
		{"one kernel a batch", "a1 b1! c1 a2 b2", 9, []string{"a1", "b1!", "c1 a2 b2", ""}},
		{"nothing", "", 4, []string{""}},
	} {
		f := newFair(newPaces())
		queue(f, strings.Fields(c.pushed)...)
		for i, want := range c.want {
			if got := popped(f, c.n); got != want {
				t.Errorf("%s: batch %d is %q, want %q", c.name, i, got, want)
			}
		}
	}
}

func TestRemovedRequestsAreNotServed(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	all := queue(f, "a1", "a2", "b1", "c1", "c2")
	f.remove(all["a1"])
	f.remove(all["b1"])
	all["c2"].phase = running
	f.remove(all["c2"]) // not queued: untouched
	f.remove(all["b1"]) // twice is no harm
	if got := popped(f, 9); got != "a2 c1 c2" {
		t.Errorf("got %q", got)
	}
	queue(f, "b2")
	if got := popped(f, 9); got != "b2" {
		t.Errorf("a tenant that was emptied: got %q", got)
	}
}

// Whatever is pushed and removed, each request comes out once, in its tenant's order.
func TestNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("%c%03d", 'a'+i%7, i))
	}
	all := queue(f, names...)
	want := map[string]bool{}
	for i, name := range names {
		if i%3 == 0 {
			f.remove(all[name])
			continue
		}
		want[name] = true
	}
	last := map[byte]string{}
	for batch := f.pop(5, anyRoom, newTaken()); len(batch) > 0; batch = f.pop(5, anyRoom, newTaken()) {
		for _, r := range batch {
			name := *r.span.Name
			if !want[name] || name <= last[name[0]] {
				t.Errorf("%s comes after %s", name, last[name[0]])
			}
			delete(want, name)
			last[name[0]] = name
		}
	}
	if len(want) > 0 {
		t.Errorf("forgotten: %v", want)
	}
}

func TestATenantWithoutRoomKeepsItsTurn(t *testing.T) {
	t.Parallel()
	f := newFair(newPaces())
	queue(f, "a1", "a2", "a3", "b1", "c1")
	var names []string
	for _, r := range f.pop(9, 3, taken{map[string]int{"a": 2, "b": 9}, map[functionOf]int{}}) { // of 14 places
		names = append(names, *r.span.Name)
	}
	if got := strings.Join(names, " "); got != "a1 c1" {
		t.Errorf("got %q", got)
	}
	if got := popped(f, 9); got != "b1 a2 a3" {
		t.Errorf("with room for all: got %q", got)
	}
}

// A function with slow runs leaves the last place of its tenant to the others, which take turns with it.
func TestFunctionsOfATenantTakeTurnsAndLeavePlaces(t *testing.T) {
	t.Parallel()
	request := func(n, function int) *request {
		return &request{id: idOf(n), kernel: "k", phase: queued,
			span: &span.Span{TenantID: "a", ParentID: new(idOf(function))}}
	}
	f, held := newFair(newPaces()), newTaken()
	for i := range 100 {
		f.push(request(i, 1))
	}
	for len(f.pop(16, 64-held.tenants["a"], held)) > 0 {
	}
	if got := held.tenants["a"]; got != 31 {
		t.Errorf("one function has %d places, want all of its tenant's but one", got)
	}
	for i := range 3 {
		f.push(request(200+i, 2))
	}
	if got := f.pop(16, 64-held.tenants["a"], held); len(got) != 1 || *got[0].span.ParentID != idOf(2) {
		t.Errorf("%d requests start, want one of the other function", len(got))
	}
	var turns []bool
	for _, r := range f.pop(6, anyRoom, newTaken()) {
		turns = append(turns, *r.span.ParentID == idOf(2))
	}
	if !slices.Equal(turns, []bool{false, true, false, true, false, false}) {
		t.Errorf("turns of functions: %v", turns)
	}
}

// However many tenants flood it, one that comes finds a place; and one alone has half of them.
func TestSomePlacesAreFreeBesideAnyFlood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ places, tenants, each int }{
		{1, 1, 1}, {2, 1, 1}, {3, 1, 2}, {64, 1, 32}, {64, 2, 22}, {64, 3, 16}, {64, 20, 4}, {64, 31, 2},
	} {
		f := newFair(newPaces())
		for i := range c.places {
			for tenant := range c.tenants {
				f.push(&request{id: idOf(i), kernel: "k", phase: queued,
					span: &span.Span{TenantID: fmt.Sprint(tenant)}})
			}
		}
		held, used := newTaken(), 0
		for batch := f.pop(16, c.places, held); len(batch) > 0; batch = f.pop(16, c.places-used, held) {
			used += len(batch)
		}
		most := slices.Max(slices.Collect(maps.Values(held.tenants)))
		if most > c.each || used < c.each*c.tenants/2 || c.places > 1 && used >= c.places {
			t.Errorf("of %d places %d tenants have %d, one of them %d, want %d", c.places, c.tenants, used, most,
				c.each)
		}
	}
}
