package engine

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// agenda holds requests that are due later, in order of that time, with one alarm for the first of them. Each
// knows its place, so that one that is cancelled leaves at once, however many wait.
type agenda struct {
	entries entries
	count   int // of all that were added: those that are due at one time come in this order
	alarm   *alarm
}

type entry struct {
	at time.Time // of the database's clock
	n  int
	r  *request
}

type entries []entry

func (h entries) Len() int { return len(h) }
func (h entries) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].n < h[j].n
	}
	return h[i].at.Before(h[j].at)
}
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].r.place, h[j].r.place = i+1, j+1
}
func (h *entries) Push(x any) {
	e := x.(entry)
	e.r.place = len(*h) + 1
	*h = append(*h, e)
}
func (h *entries) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = entry{}
	*h = (*h)[:len(*h)-1]
	last.r.place = 0
	return last
}

func newAgenda(alarm *alarm) *agenda { return &agenda{alarm: alarm} }

// add puts r on the agenda; one that is on it already gets the new time.
func (a *agenda) add(at time.Time, r *request) {
	a.remove(r)
	a.count++
	heap.Push(&a.entries, entry{at, a.count, r})
	a.arm()
}

func (a *agenda) arm() {
	if len(a.entries) > 0 {
		a.alarm.set(a.entries[0].at)
	}
}

// take removes and returns what is due at now, in order.
func (a *agenda) take(now time.Time) []*request {
	var due []*request
	for len(a.entries) > 0 && !a.entries[0].at.After(now) {
		due = append(due, heap.Pop(&a.entries).(entry).r)
	}
	a.arm()
	return due
}

// takeIf removes and returns what is wanted, due or not.
func (a *agenda) takeIf(wanted func(*request) bool) []*request {
	var taken []*request
	a.entries = slices.DeleteFunc(a.entries, func(e entry) bool {
		if wanted(e.r) {
			e.r.place = 0
			taken = append(taken, e.r)
			return true
		}
		return false
	})
	for i := range a.entries {
		a.entries[i].r.place = i + 1
	}
	heap.Init(&a.entries)
	a.arm()
	return taken
}

// remove takes r off, where it is on the agenda.
func (a *agenda) remove(r *request) {
	if r.place > 0 {
		heap.Remove(&a.entries, r.place-1)
	}
}

func (a *agenda) len() int { return len(a.entries) }

// cut keeps the next keep entries, and removes and returns the others.
func (a *agenda) cut(keep int) []*request {
	slices.SortFunc(a.entries, func(x, y entry) int { // which is a heap, too
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.n, y.n))
	})
	var far []*request
	for i := range a.entries {
		if a.entries[i].r.place = i + 1; i >= keep {
			a.entries[i].r.place = 0
			far = append(far, a.entries[i].r)
			a.entries[i] = entry{}
		}
	}
	a.entries = a.entries[:min(keep, len(a.entries))]
	return far
}
