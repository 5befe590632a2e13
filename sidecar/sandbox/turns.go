package sandbox

import (
	"context"
	"slices"
	"sync"
)

// turns hands out the places of code workers. Of three places or more no tenant holds the last one, so that
// another that comes finds a place at once; tenants that wait take turns, and each one's runs come in
// their order.
type turns struct {
	mu      sync.Mutex
	free    int
	most    int // places that one tenant may hold
	held    map[string]int
	waiting map[string][]chan struct{}
	order   []string // tenants that wait, the next one first
}

func newTurns(places int) *turns {
	return &turns{free: places, most: max(places-1, 2), held: map[string]int{},
		waiting: map[string][]chan struct{}{}}
}

// take waits for a place. It returns false when ctx or closing ends first.
func (t *turns) take(ctx, closing context.Context, tenant string) bool {
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
	case <-closing.Done():
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

// leave gives a place back.
func (t *turns) leave(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack(tenant)
}

func (t *turns) giveBack(tenant string) {
	t.free++
	if t.held[tenant]--; t.held[tenant] == 0 {
		delete(t.held, tenant)
	}
	t.grant()
}

// grant gives free places to those whose turn it is. The caller holds t.mu.
func (t *turns) grant() {
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
func (t *turns) forget(tenant string, turn chan struct{}) {
	queue := slices.DeleteFunc(t.waiting[tenant], func(other chan struct{}) bool { return other == turn })
	if len(queue) > 0 {
		t.waiting[tenant] = queue
		return
	}
	delete(t.waiting, tenant)
	t.order = slices.DeleteFunc(t.order, func(other string) bool { return other == tenant })
}
