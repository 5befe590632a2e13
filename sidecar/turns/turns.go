// Package turns hands out a few places among tenants that may want many.
package turns

import (
	"context"
	"slices"
	"sync"
)

// Turns hands out places. No tenant holds more than its share; tenants that wait take turns, and each one's
// come in their order.
type Turns struct {
	mu      sync.Mutex
	free    int
	most    int // places that one tenant may hold
	held    map[string]int
	waiting map[string][]chan struct{}
	order   []string // tenants that wait, the next one first
}

// New makes the turns of so many places, of which one tenant may hold most. With most below places, one
// that comes anew finds a place at once while another would take all.
func New(places, most int) *Turns {
	return &Turns{free: places, most: most, held: map[string]int{}, waiting: map[string][]chan struct{}{}}
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
		t.giveBack(tenant)
	default:
		t.forget(tenant, turn)
	}
	return false
}

// Leave gives a place back.
func (t *Turns) Leave(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack(tenant)
}

func (t *Turns) giveBack(tenant string) {
	t.free++
	if t.held[tenant]--; t.held[tenant] == 0 {
		delete(t.held, tenant)
	}
	t.grant()
}

// grant gives free places to those whose turn it is. The caller holds t.mu.
func (t *Turns) grant() {
	for i := 0; t.free > 0 && i < len(t.order); {
		tenant := t.order[i]
		if t.held[tenant] >= t.most {
			i++ // keeps its turn
			continue
		}
		queue := t.waiting[tenant]
		close(queue[0])
		t.free--
		t.held[tenant]++
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
