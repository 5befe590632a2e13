package engine

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// agenda holds requests that are due later, with one timer for the next of them.
type agenda struct {
	entries entries
	timer   *time.Timer
	wake    func()
}

type entry struct {
	at time.Time
	r  *request
}

type entries []entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return cmp.Compare(h[i].at.UnixNano(), h[j].at.UnixNano()) < 0 }
func (h entries) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *entries) Push(x any)        { *h = append(*h, x.(entry)) }
func (h *entries) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newAgenda(wake func()) *agenda { return &agenda{wake: wake} }

func (a *agenda) add(at time.Time, r *request) {
	heap.Push(&a.entries, entry{at, r})
	a.arm()
}

func (a *agenda) arm() {
	if len(a.entries) == 0 {
		return
	}
	a.stop()
	a.timer = time.AfterFunc(time.Until(a.entries[0].at), a.wake)
}

// take removes and returns what is due at now.
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
			taken = append(taken, e.r)
			return true
		}
		return false
	})
	heap.Init(&a.entries)
	a.arm()
	return taken
}

func (a *agenda) remove(r *request) {
	if r.phase != waiting {
		return
	}
	for i := range a.entries {
		if a.entries[i].r == r {
			heap.Remove(&a.entries, i)
			return
		}
	}
}

func (a *agenda) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
