package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// commit is a group that waits for its place in a batch.
type commit struct {
	group    ledger.Group
	outcome  func(ledger.Outcome)
	term     int64 // in which the group was made
	isPast   bool  // that is over: it was not written (term.go)
	isHeldUp bool  // by a transaction of somebody else, when it was tried last
	waits    int   // how often it was, alone
}

func (c *commit) rows() int {
	n := len(c.group.Rows)
	if c.group.Fence != nil {
		n++
	}
	return n
}

// tenant is the one that the group is of.
func (c *commit) tenant() string {
	switch {
	case c.group.Fence != nil:
		return c.group.Fence.TenantID
	case len(c.group.Rows) > 0:
		return c.group.Rows[0].TenantID
	}
	return ""
}

// submit queues a group. outcome is called by the loop when its fate is known.
func (e *Engine) submit(group ledger.Group, outcome func(ledger.Outcome)) {
	for _, row := range group.Rows {
		if row.EntityType == "request" && len(e.own) < ownMax {
			e.own[row.Key()] = true // before the commit, because its row may come back first
		}
	}
	if group.Fence != nil && group.Fence.EntityType == "request" && len(e.own) < ownMax {
		e.own[group.Fence.Key()] = true
	}
	e.pending.push(&commit{group: group, outcome: outcome, term: e.term.Load()})
}

// commits is what waits for its commit: tenants take turns, and each one's groups come in their order. So a
// group waits for the commits that are under way, and not for all that a flood has ready.
type commits struct {
	tenants   map[string][]*commit
	turn      []string
	apart     map[string]*apart // tenants that were held up
	apartTurn []string
	waiting   int // groups that are held up, of all tenants
	rows      int // of the groups that are lined up
}

func (c *commits) push(one *commit) {
	if c.tenants == nil {
		c.tenants = map[string][]*commit{}
	}
	tenant := one.tenant()
	c.rows += one.rows()
	if len(c.tenants[tenant]) == 0 {
		c.queueTurn(tenant)
	}
	c.tenants[tenant] = append(c.tenants[tenant], one)
}

// empty reports whether nothing is left that may be tried now.
func (c *commits) empty() bool { return len(c.turn) == 0 && len(c.apartTurn) == 0 }

// take takes the groups of one commit, and says how many rows they have.
func (c *commits) take() (batch []*commit, rows int) {
	fences := map[span.Key]bool{}
	for len(c.turn) > 0 {
		tenant := c.turn[0]
		queue := c.tenants[tenant]
		next := queue[0]
		if len(batch) > 0 && rows+next.rows() > commitRowsMax {
			break
		}
		if fence := next.group.Fence; fence != nil {
			if fences[fence.Key()] {
				break // a judgment that was made twice: one of them loses, in the next batch
			}
			fences[fence.Key()] = true
		}
		batch, rows = append(batch, next), rows+next.rows()
		queue[0] = nil
		c.turn = c.turn[1:]
		if queue = queue[1:]; len(queue) == 0 {
			delete(c.tenants, tenant)
			continue
		}
		c.tenants[tenant] = queue
		c.turn = append(c.turn, tenant)
	}
	c.rows -= rows
	return batch, rows
}

// flush starts commits. A batch is whatever came while the last one was under way: one group when the ledger
// is idle, hundreds under load.
func (e *Engine) flush() {
	for len(e.pending.turn) > 0 && e.mayCommit() {
		batch, rows := e.pending.take()
		e.committing++
		e.committedAt = time.Now()
		e.commit(batch, rows, func() { e.committing-- })
	}
	e.flushApart()
}

// mayCommit reports whether another commit may begin. The first waits for nothing. One beside it would take
// apart what could be one statement, and a statement costs what ten rows do; so it waits for many rows, or
// until the one under way has taken long.
func (e *Engine) mayCommit() bool {
	switch {
	case e.committing == 0:
		return true
	case e.committing >= commitsMax:
		return false
	case e.pending.rows >= commitRowsMany:
		return true
	}
	wait := commitWait - time.Since(e.committedAt)
	if wait > 0 && !e.flushArmed {
		e.flushArmed = true
		e.after(wait, func() { e.flushArmed = false }) // each event is followed by a flush
	}
	return wait <= 0
}

// commit appends a batch; ended hears when its place is free.
func (e *Engine) commit(batch []*commit, rows int, ended func()) {
	for _, c := range batch {
		c.isHeldUp, c.isPast = false, false
	}
	e.start(func(ctx context.Context) {
		began := time.Now()
		outcomes := e.appendBatch(ctx, batch)
		e.stats.CommitTime.Took(time.Since(began))
		e.do(func() {
			ended()
			e.committed(batch, outcomes, rows)
		})
	})
}

// appendBatch appends until the outcome is known, or the work is cancelled (nil). What is held up by a
// transaction of somebody else is marked so, and comes back without an outcome.
func (e *Engine) appendBatch(ctx context.Context, batch []*commit) []ledger.Outcome {
	groups := make([]ledger.Group, len(batch))
	for i, c := range batch {
		groups[i] = c.group
	}
	for tries := 0; ; tries++ {
		if !e.awaitTrust(ctx) {
			return nil
		}
		if e.isPast(batch) {
			for _, c := range batch {
				c.isPast = true
			}
			return make([]ledger.Outcome, len(batch))
		}
		outcomes, err := e.config.Ledger.Append(ctx, groups)
		if err == nil {
			failpoint.Hit(failpoint.CommitAnswered)
			if err = e.explainConflicts(ctx, groups, outcomes); err == nil {
				return outcomes
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if ledger.IsHeldUp(err) {
			return e.tellApart(ctx, batch)
		}
		delay := backoff(tries)
		e.config.Log.Warn("commit failed, trying again", "groups", len(groups), "error", err, "in_ms",
			delay.Milliseconds())
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// awaitTrust waits until this sidecar leads for certain; false is the end of the work.
func (e *Engine) awaitTrust(ctx context.Context) bool {
	for e.config.IsTrusted != nil && !e.config.IsTrusted() {
		timer := time.NewTimer(trustPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
	return true
}

// explainConflicts reads what stands where we wanted to write. A lost fence with our own hash is ours:
// the commit went through and its answer was lost. Of a policy's, whose content is no secret, the rest must
// stand as well. An existing row of the same cause is the same effect; one of another cause is an error,
// never silence.
func (e *Engine) explainConflicts(ctx context.Context, groups []ledger.Group,
	outcomes []ledger.Outcome) error {
	var keys []span.Key
	for i, outcome := range outcomes {
		if outcome.Err == nil && !outcome.Won {
			keys = append(keys, groups[i].Fence.Key())
			if groups[i].Fence.Seq == 0 {
				keys = append(keys, keysOf(groups[i].Rows)...)
			}
		}
		for _, place := range outcome.Existing {
			keys = append(keys, groups[i].Rows[place].Key())
		}
	}
	if len(keys) == 0 {
		return nil
	}
	stored, err := e.config.Ledger.Load(ctx, keys)
	if err != nil {
		return fmt.Errorf("read conflicting rows: %w", err)
	}
	for i := range outcomes {
		outcome, group := &outcomes[i], groups[i]
		if outcome.Err == nil && !outcome.Won {
			there := stored[group.Fence.Key()]
			outcome.Won = there != nil && there.CurrHash != nil && *there.CurrHash == *group.Fence.CurrHash
			switch {
			case group.Fence.Seq > 0:
			case there == nil: // the group was taken back: a version of it is somebody else's
				outcome.Err = &raceError{tornAt(group, outcome.Existing)}
				continue
			case group.Fence.EntityType == "request" && !sameCause(there, group.Fence):
				outcome.Err = anotherCause(group.Fence)
				continue
			default:
				repeated(outcome, group, stored)
				continue
			}
		}
		for _, place := range outcome.Existing {
			row := group.Rows[place]
			there := stored[row.Key()]
			switch {
			case sameCause(there, row):
			case ledger.IsMoving(row):
				outcome.Err = &raceError{row}
			default:
				outcome.Err = anotherCause(row)
			}
		}
	}
	return nil
}

func anotherCause(row *span.Span) error {
	return fmt.Errorf("the id %s of a derived %s stands for another cause", row.ID, row.EntityType)
}

// repeated says what stands of a judgment, or of a request that was born with its result, whose fence was
// there before.
func repeated(outcome *ledger.Outcome, group ledger.Group, stored map[span.Key]*span.Span) {
	outcome.Existing, outcome.WasThere = nil, true
	for place, row := range group.Rows {
		there := stored[row.Key()]
		if there != nil {
			outcome.Existing = append(outcome.Existing, place)
		}
		// A request's first version says nothing of its run; the one after it does.
		if row.EntityType == "request" && row.Seq > 0 && (there == nil || there.CurrHash == nil ||
			*there.CurrHash != *row.CurrHash) {
			outcome.Won = false
		}
	}
	outcome.Won = outcome.Won && len(outcome.Existing) == len(group.Rows)
}

func tornAt(group ledger.Group, existing []int) *span.Span {
	for _, place := range existing {
		if ledger.IsMoving(group.Rows[place]) {
			return group.Rows[place]
		}
	}
	return group.Fence
}

func keysOf(rows []*span.Span) (keys []span.Key) {
	for _, row := range rows {
		keys = append(keys, row.Key())
	}
	return keys
}

// raceError says that somebody else appended the version that row was to be.
type raceError struct{ row *span.Span }

// Error says what was lost.
func (r *raceError) Error() string {
	return fmt.Sprintf("somebody else has appended version %d of %s", r.row.Seq, r.row.ID)
}

func sameCause(a, b *span.Span) bool {
	if a == nil || a.EntityType != b.EntityType {
		return false
	}
	first, ok := a.Engine()
	second, both := b.Engine()
	if ok && both && first.Kind == tickKind { // one tick, whichever version of the function it was made for
		first.Cause.Seq = second.Cause.Seq
	}
	return ok && both && first.Cause == second.Cause && first.Root == second.Root &&
		first.Kind == second.Kind
}

// committed tells every group its fate and admits the requests that were made.
func (e *Engine) committed(batch []*commit, outcomes []ledger.Outcome, rows int) {
	if outcomes == nil {
		return // cancelled: what it was stays open in the ledger
	}
	var held, past []*commit
	for _, c := range batch {
		switch {
		case c.isHeldUp:
			held, rows = append(held, c), rows-c.rows()
		case c.isPast:
			past, rows = append(past, c), rows-c.rows()
		}
	}
	e.putApart(held)
	e.passed(past)
	if a := e.pending.apart[batch[0].tenant()]; a != nil && len(held) == 0 {
		a.most = min(2*a.most+1, commitRowsMax)
	}
	e.stats.Commits.Add(1)
	e.stats.CommittedRows.Add(int64(rows))
	e.stats.CommitRows.Observe(float64(rows))
	for i, c := range batch {
		if c.isHeldUp || c.isPast {
			continue
		}
		outcome := outcomes[i]
		isWritten := outcome.Err == nil && outcome.Won
		switch fence := c.group.Fence; {
		case fence == nil:
		case fence.Seq > 0 && !outcome.Won:
			delete(e.own, fence.Key())
		case fence.Seq == 0:
			e.admitCommitted(fence, isWritten && !outcome.WasThere, outcome.WasThere)
		}
		existing := map[int]bool{}
		for _, place := range outcome.Existing {
			existing[place] = outcome.Err == nil
		}
		for place, row := range c.group.Rows {
			e.admitCommitted(row, isWritten && !existing[place], existing[place])
		}
		c.outcome(outcome)
	}
}

// admitCommitted opens a request that this sidecar has made, or has found in its place.
func (e *Engine) admitCommitted(row *span.Span, isNew, isThere bool) {
	switch {
	case row.EntityType != "request":
	case isNew:
		failpoint.Hit(failpoint.RequestCommitted)
		e.admitOwn(row, false)
	case !isThere || e.own[row.Key()]: // it was not written, or will still come
		delete(e.own, row.Key())
	default: // it came while the commit was tried, and was passed over as our own
		e.admitOwn(row, true)
	}
}
