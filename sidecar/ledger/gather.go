package ledger

import (
	"context"
	"slices"
	"sync"

	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	gatherPlaces = 2   // statements of one kind at once
	gatherMax    = 500 // keys of one statement, and of one caller who waits for others
)

// gather makes one statement of the reads that come while others of their kind are under way: under load each
// run asks for one version, and a statement costs what twenty rows do. A read that comes alone goes at
// once, and what it gives was read after it was asked for.
type gather[K comparable, V any] struct {
	read    func(context.Context, []K) (map[K]V, error)
	copied  func(V) V // keeps callers of one statement from sharing what they may change
	mutex   sync.Mutex
	busy    int
	waiting []*asked[K, V]
}

// asked is what one caller waits for.
type asked[K comparable, V any] struct {
	keys []K
	turn chan answer[K, V] // of one place
}

// answer ends a caller's wait: with what was found, or with the place to read for all who wait.
type answer[K comparable, V any] struct {
	isLeading bool
	found     map[K]V
	err       error
}

// get returns what read finds for keys; what is found is a copy, what it points to is not.
func (g *gather[K, V]) get(ctx context.Context, keys []K) (map[K]V, error) {
	if len(keys) == 0 || len(keys) > gatherMax {
		return g.read(ctx, keys)
	}
	for {
		spans, isOthers, err := g.turn(ctx, keys)
		if err != nil && isOthers && ctx.Err() == nil {
			continue // whose statement it was may have been called off
		}
		return spans, err
	}
}

func (g *gather[K, V]) turn(ctx context.Context, keys []K) (
	found map[K]V, isOthers bool, err error) {
	g.mutex.Lock()
	if g.busy < gatherPlaces {
		g.busy++
		g.mutex.Unlock()
		defer g.release()
		found, err = g.read(ctx, keys)
		return found, false, err
	}
	mine := &asked[K, V]{keys, make(chan answer[K, V], 1)}
	g.waiting = append(g.waiting, mine)
	g.mutex.Unlock()
	select {
	case a := <-mine.turn:
		if a.isLeading {
			found, err = g.lead(ctx, mine)
			return found, false, err
		}
		return a.found, true, a.err
	case <-ctx.Done():
		g.leave(mine)
		return nil, false, ctx.Err()
	}
}

// release gives the caller's place to the first who waits, or back.
func (g *gather[K, V]) release() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if len(g.waiting) == 0 {
		g.busy--
		return
	}
	next := g.waiting[0]
	g.waiting = g.waiting[1:]
	next.turn <- answer[K, V]{isLeading: true}
}

// leave takes a caller out who waits no longer; a place that was given to him meanwhile goes on.
func (g *gather[K, V]) leave(who *asked[K, V]) {
	g.mutex.Lock()
	g.waiting = slices.DeleteFunc(g.waiting, func(other *asked[K, V]) bool { return other == who })
	g.mutex.Unlock()
	select {
	case a := <-who.turn:
		if a.isLeading {
			g.release()
		}
	default:
	}
}

// lead reads for the caller and for who waits, and tells them.
func (g *gather[K, V]) lead(ctx context.Context, mine *asked[K, V]) (map[K]V, error) {
	defer g.release()
	g.mutex.Lock()
	n, keys := 0, slices.Clone(mine.keys)
	for n < len(g.waiting) && len(keys)+len(g.waiting[n].keys) <= gatherMax {
		keys = append(keys, g.waiting[n].keys...)
		n++
	}
	others := slices.Clone(g.waiting[:n])
	g.waiting = g.waiting[n:]
	g.mutex.Unlock()
	found, err := g.read(ctx, distinct(keys))
	for _, other := range others {
		other.turn <- answer[K, V]{found: g.copies(found, other.keys), err: err}
	}
	return g.copies(found, mine.keys), err
}

func distinct[K comparable](keys []K) []K {
	seen := make(map[K]bool, len(keys))
	return slices.DeleteFunc(keys, func(key K) bool {
		isAgain := seen[key]
		seen[key] = true
		return isAgain
	})
}

func (g *gather[K, V]) copies(found map[K]V, keys []K) map[K]V {
	mine := make(map[K]V, len(keys))
	for _, key := range keys {
		if value, ok := found[key]; ok {
			mine[key] = g.copied(value)
		}
	}
	return mine
}

func copySpan(s *span.Span) *span.Span {
	copied := *s
	return &copied
}
