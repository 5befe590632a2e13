package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Whoever may write in a tenant can hold a key that a commit needs: it appends the next version of a request
// of its own, and leaves the transaction open. Such a commit waits, until that transaction ends; so it must
// not wait in a place that others need. After a short while the server gives up (lock_timeout), and then the
// tenants of the batch are told apart: those whose groups go through are done, and one that is held up
// commits apart for a while, in a place of its own for all such tenants, in batches that are halved until the
// group that waits stands alone. That one is tried again from time to time.
const (
	apartFor    = time.Minute // since a tenant was held up last
	heldWaitMin = 50 * time.Millisecond
	heldWaitMax = 2 * time.Second
)

// apart is a tenant that commits apart.
type apart struct {
	until   time.Time
	most    int // groups that it commits at once
	waiting int // groups that wait for their next try
}

// queueTurn lines a tenant up that has groups to commit.
func (c *commits) queueTurn(tenant string) {
	if a := c.apart[tenant]; a != nil && (a.waiting > 0 || time.Now().Before(a.until)) {
		c.apartTurn = append(c.apartTurn, tenant)
		return
	}
	delete(c.apart, tenant)
	c.turn = append(c.turn, tenant)
}

// setApart has a tenant commit apart from now on. isNew says that it did not before.
func (c *commits) setApart(tenant string, now time.Time) (a *apart, isNew bool) {
	if a = c.apart[tenant]; a == nil {
		for name, other := range c.apart {
			if other.waiting == 0 && len(c.tenants[name]) == 0 && now.After(other.until) {
				delete(c.apart, name)
			}
		}
		if c.apart == nil {
			c.apart = map[string]*apart{}
		}
		a, isNew = &apart{}, true
		c.apart[tenant] = a
		if place := slices.Index(c.turn, tenant); place >= 0 {
			c.turn = slices.Delete(c.turn, place, place+1)
			c.apartTurn = append(c.apartTurn, tenant)
		}
	}
	a.until = now.Add(apartFor)
	return a, isNew
}

// putBack puts groups of one tenant in front again.
func (c *commits) putBack(tenant string, batch []*commit) {
	isLinedUp := len(c.tenants[tenant]) > 0
	c.tenants[tenant] = append(slices.Clone(batch), c.tenants[tenant]...)
	for _, one := range batch {
		c.rows += one.rows()
	}
	if !isLinedUp {
		c.queueTurn(tenant)
	}
}

// takeApart takes the groups of one tenant that commits apart. One that was held up goes alone.
func (c *commits) takeApart() (batch []*commit, rows int) {
	if len(c.apartTurn) == 0 {
		return nil, 0
	}
	tenant := c.apartTurn[0]
	c.apartTurn = c.apartTurn[1:]
	queue, most := c.tenants[tenant], 1
	if a := c.apart[tenant]; a != nil && queue[0].waits == 0 {
		most = max(a.most, 1)
	}
	fences := map[span.Key]bool{}
	for len(batch) < min(most, len(queue)) {
		next := queue[len(batch)]
		if len(batch) > 0 && (next.waits > 0 || rows+next.rows() > commitRowsMax) {
			break
		}
		if fence := next.group.Fence; fence != nil {
			if fences[fence.Key()] {
				break
			}
			fences[fence.Key()] = true
		}
		batch, rows = append(batch, next), rows+next.rows()
	}
	c.rows -= rows
	batch = slices.Clone(batch)
	if queue = queue[len(batch):]; len(queue) == 0 {
		delete(c.tenants, tenant)
		return batch, rows
	}
	c.tenants[tenant] = queue
	c.queueTurn(tenant)
	return batch, rows
}

// flushApart starts a commit of a tenant that was held up.
func (e *Engine) flushApart() {
	if e.isCommittingApart {
		return
	}
	batch, rows := e.pending.takeApart()
	if len(batch) == 0 {
		return
	}
	e.isCommittingApart = true
	e.commit(batch, rows, func() { e.isCommittingApart = false })
}

// tellApart appends a batch of which a group is held up, tenant by tenant. What is of a single one comes back
// as it is.
func (e *Engine) tellApart(ctx context.Context, batch []*commit) []ledger.Outcome {
	slices.SortStableFunc(batch, func(a, b *commit) int { return cmp.Compare(a.tenant(), b.tenant()) })
	half := 0
	for i := 1; i < len(batch); i++ {
		isNearer := half == 0 || i <= len(batch)/2 || i-len(batch)/2 < len(batch)/2-half
		if batch[i].tenant() != batch[i-1].tenant() && isNearer {
			half = i
		}
	}
	if half == 0 {
		for _, c := range batch {
			c.isHeldUp = true
		}
		return make([]ledger.Outcome, len(batch))
	}
	first := e.appendBatch(ctx, batch[:half])
	if first == nil {
		return nil
	}
	second := e.appendBatch(ctx, batch[half:])
	if second == nil {
		return nil
	}
	return append(first, second...)
}

// putApart deals with the groups of a batch, which are in the order of their tenants, that wait for somebody
// else's transaction.
func (e *Engine) putApart(batch []*commit) {
	for len(batch) > 0 {
		tenant, n := batch[0].tenant(), 1
		for n < len(batch) && batch[n].tenant() == tenant {
			n++
		}
		of := batch[:n]
		batch = batch[n:]
		a, isNew := e.pending.setApart(tenant, time.Now())
		if isNew {
			e.config.Log.Warn("a commit waits for an open transaction that has written the same key: this tenant "+
				"commits apart until a minute after that ends", "tenant", tenant)
		}
		if a.most = n / 2; n > 1 {
			e.pending.putBack(tenant, of)
			continue
		}
		e.stats.HeldUp.Add(1)
		e.wait(of[0], a)
	}
}

// wait tries a group again that stood alone, later each time.
func (e *Engine) wait(c *commit, a *apart) {
	a.waiting++
	e.pending.waiting++
	delay := min(heldWaitMin<<min(c.waits, 10), heldWaitMax)
	c.waits++
	e.after(delay, func() {
		if e.draining {
			return // it stays open in the ledger
		}
		a.waiting--
		e.pending.waiting--
		e.pending.push(c)
	})
}
