package engine

import (
	"slices"
	"sync/atomic"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Rows that kernels react to come in the order of commits, from all tenants. In the lane of a kernel tenants
// take turns, and each one's come in their order. What waits here holds no place among the rows taken from
// the tail: whoever schedules 100,000 functions holds up nobody's row behind them.
const (
	crowdMax       = 200_000 // items that wait in lanes of kernels, of 0.7 KB each; a tenant has half at most
	crowdRunMax    = 32      // items of one tenant in runs of one lane
	crowdOpenMax   = 100     // items of one tenant that a lane has taken and that are not disposed of
	prefetchBefore = 64      // items that wait, up to which a row's body is read ahead
)

// crowd is what waits in a lane, by tenants.
type crowd struct {
	tenants map[string]*crowdTenant
	turn    []*crowdTenant // those with something waiting
	n       int
}

type crowdTenant struct {
	name    string
	waiting []*item
	running int // in runs
	open    int // taken, and not disposed of
}

func (c *crowd) push(it *item) {
	if c.tenants == nil {
		c.tenants = map[string]*crowdTenant{}
	}
	t := c.tenants[it.row.TenantID]
	if t == nil {
		t = &crowdTenant{name: it.row.TenantID}
		c.tenants[t.name] = t
	}
	if len(t.waiting) == 0 {
		c.turn = append(c.turn, t)
	}
	t.waiting = append(t.waiting, it)
	c.n++
	done := it.done
	it.done = func() {
		c.ended(t)
		done()
	}
}

// ended counts one out that had been taken.
func (c *crowd) ended(t *crowdTenant) {
	t.open--
	c.forget(t)
}

// left counts the items of a run out, which has ended.
func (c *crowd) left(batch []*item) {
	for _, it := range batch {
		if t := c.tenants[it.row.TenantID]; t != nil {
			t.running = max(t.running-1, 0)
			c.forget(t)
		}
	}
}

// entered counts items in that a run begins with.
func (c *crowd) entered(batch []*item) {
	for _, it := range batch {
		if t := c.tenants[it.row.TenantID]; t != nil {
			t.running++
		}
	}
}

func (c *crowd) forget(t *crowdTenant) {
	if t.open <= 0 && t.running == 0 && len(t.waiting) == 0 {
		delete(c.tenants, t.name)
	}
}

// take takes up to n, one a tenant and turn. A tenant that has too many under way keeps its turn; so does one
// that is in a run where the next one is the last that may begin: whoever comes anew finds a place.
func (c *crowd) take(n int, isLast bool) (batch []*item) {
	taken := map[*crowdTenant]int{}
	for next := 0; len(batch) < n && next < len(c.turn); {
		t := c.turn[next]
		if t.running+taken[t] >= crowdRunMax || t.open >= crowdOpenMax || isLast && t.running > 0 {
			next++
			continue
		}
		batch = append(batch, t.waiting[0])
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		t.open++
		taken[t]++
		c.n--
		if c.turn = slices.Delete(c.turn, next, next+1); len(t.waiting) > 0 {
			c.turn = append(c.turn, t)
		}
	}
	return batch
}

// drain takes all that waits.
func (c *crowd) drain() (all []*item) {
	for _, t := range c.turn {
		t.open += len(t.waiting)
		all = append(all, t.waiting...)
		t.waiting = nil
	}
	c.turn, c.n = nil, 0
	return all
}

// crowded counts what waits in the lanes of kernels. The tail's goroutine reads how many there are.
type crowded struct {
	backlog
	waiting atomic.Int64
}

// crowdIn adds an item to the lane of a kernel. Where its tenant has too much waiting already, the row keeps
// its place among those taken from the tail, which waits when there are too many of them.
func (e *Engine) crowdIn(kernel string, row *span.Published, it, last *item) {
	holder := last
	isIn := e.crowded.held[row.TenantID] < e.crowded.free
	if !isIn {
		holder = it
	} else {
		e.crowded.add(row.TenantID, 1)
	}
	e.crowded.waiting.Add(1)
	holder.left.Add(1)
	one := &item{row: row, left: newCount(1), done: func() {
		if isIn {
			e.crowded.add(row.TenantID, -1)
		}
		e.crowded.waiting.Add(-1)
		holder.dispose()
	}}
	e.lane(laneKey{kernel: kernel}).add(one)
}
