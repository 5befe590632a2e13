// Package turns hands out a few places among tenants that may want many.
package turns

import (
	"context"
	"math"
	"slices"
	"sync"
)

// Turns hands out places. No tenant holds more than its share; tenants that wait take turns, and each one's
// come in their order. Whoever waits for something else may lend his place, and takes one again ahead of
// those that begin.
type Turns struct {
	mu      sync.Mutex
	free    int
	most    int // places that one tenant may hold
	held    map[string]int
	waiting map[string][]chan struct{}
	order   []string // tenants that wait, the next one first
	back    []comer  // those that want a place again
	room    int      // for those that begin
	begun   map[string]int
}

type comer struct {
	tenant string
	turn   chan struct{}
}

// New makes the turns of so many places, of which one tenant may hold most. With most below places, one
// that comes anew finds a place at once while another would take all.
func New(places, most int) *Turns {
	return NewLending(places, most, math.MaxInt)
}

// NewLending is New where places are lent: with room for so many that have begun, with a place or without. No
// tenant has more of them than it leaves room for.
func NewLending(places, most, room int) *Turns {
	return &Turns{free: places, most: most, held: map[string]int{}, waiting: map[string][]chan struct{}{},
		room: room, begun: map[string]int{}}
}

// Take waits for a place. It returns false when ctx or closing ends first; a nil closing never does.
func (t *Turns) Take(ctx context.Context, closing <-chan struct{}, tenant string) bool {
	turn := make(chan struct{})
	t.mu.Lock()
	if len(t.waiting[tenant]) == 0 {
		t.order = append(t.order, tenant)
	}
	t.waiting[tenant] = append(t.waiting[tenant], turn)
	t.grant()
	t.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	case <-closing:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the same moment
		t.end(tenant, false)
	default:
		t.forget(tenant, turn)
	}
	return false
}

// Lend gives the place of somebody who waits to another.
func (t *Turns) Lend(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	drop(t.held, tenant, &t.free)
	t.grant()
}

// Retake waits for a place of somebody who has lent his own. It returns false when ctx ends first.
func (t *Turns) Retake(ctx context.Context, tenant string) bool {
	turn := make(chan struct{})
	t.mu.Lock()
	t.back = append(t.back, comer{tenant, turn})
	t.grant()
	t.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the same moment
		drop(t.held, tenant, &t.free)
		t.grant()
	default:
		t.back = slices.DeleteFunc(t.back, func(c comer) bool { return c.turn == turn })
	}
	return false
}

// Leave gives a place back.
func (t *Turns) Leave(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(tenant, false)
}

// LeaveLent ends what has lent its place.
func (t *Turns) LeaveLent(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(tenant, true)
}

// end counts one out. The caller holds t.mu.
func (t *Turns) end(tenant string, isLent bool) {
	if !isLent {
		drop(t.held, tenant, &t.free)
	}
	drop(t.begun, tenant, &t.room)
	t.grant()
}

// drop gives one of a tenant's back.
func drop(of map[string]int, tenant string, free *int) {
	*free++
	if of[tenant]--; of[tenant] == 0 {
		delete(of, tenant)
	}
}

// Count is how things stand: for a tenant, and in all.
type Count struct{ Held, Lent, Free, Room, Waiting, Back int }

// Count counts.
func (t *Turns) Count(tenant string) Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Count{Held: t.held[tenant], Lent: t.begun[tenant] - t.held[tenant], Free: t.free, Room: t.room,
		Waiting: len(t.order), Back: len(t.back)}
}

// grant gives free places to those whose turn it is. The caller holds t.mu.
func (t *Turns) grant() {
	for i := 0; t.free > 0 && i < len(t.back); {
		tenant := t.back[i].tenant
		if t.held[tenant] >= t.most {
			i++
			continue
		}
		t.free--
		t.held[tenant]++
		close(t.back[i].turn)
		t.back = slices.Delete(t.back, i, i+1)
	}
	for i := 0; t.free > 0 && i < len(t.order); {
		tenant := t.order[i]
		if t.held[tenant] >= t.most || t.begun[tenant] >= t.room {
			i++ // keeps its turn
			continue
		}
		queue := t.waiting[tenant]
		close(queue[0])
		t.free--
		t.held[tenant]++
		t.room--
		t.begun[tenant]++
		t.order = slices.Delete(t.order, i, i+1)
		if queue = queue[1:]; len(queue) == 0 {
			delete(t.waiting, tenant)
			continue
		}
		t.waiting[tenant] = queue
		t.order = append(t.order, tenant)
	}
}

// forget takes somebody out who waits no longer. The caller holds t.mu.
func (t *Turns) forget(tenant string, turn chan struct{}) {
	queue := slices.DeleteFunc(t.waiting[tenant], func(other chan struct{}) bool { return other == turn })
	if len(queue) > 0 {
		t.waiting[tenant] = queue
		return
	}
	delete(t.waiting, tenant)
	t.order = slices.DeleteFunc(t.order, func(other string) bool { return other == tenant })
}
