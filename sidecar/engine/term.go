package engine

import (
	"errors"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
)

// A term lasts until this sidecar loses the lead. Between two terms the server may have been set back, by a
// restore or a failover: rows that were read before may be in no ledger any more. So nothing that they caused
// is begun to be written after their term: what was made for a row that still stands is made again, since the
// tail brings every row that is not disposed of. The next version of a request is written even so: where the
// request is gone the ledger refuses it, as a gap.

// errTermOver is the fate of a group that was not written in its term.
var errTermOver = errors.New("this sidecar has lost the lead since")

// isPast reports whether a group of batch is of an earlier term.
func (e *Engine) isPast(batch []*commit) bool {
	term := e.term.Load()
	for _, c := range batch {
		if c.term != term {
			return true
		}
	}
	return false
}

// passed deals with a batch that was not written: versions of what stands already are tried once more.
func (e *Engine) passed(batch []*commit) {
	for _, c := range batch {
		fence := c.group.Fence
		if fence != nil && fence.Seq > 0 {
			c.term = e.term.Load()
			e.pending.push(c)
			continue
		}
		if fence != nil {
			delete(e.own, fence.Key())
		}
		for _, row := range c.group.Rows {
			delete(e.own, row.Key())
		}
		c.outcome(ledger.Outcome{Err: errTermOver})
	}
}

// endTerm begins a new term, in which nobody leads yet. What runs unborn is forgotten with its result.
func (e *Engine) endTerm() {
	e.term.Add(1)
	for _, r := range e.unborn {
		e.disown(r)
	}
}

// disown forgets a request that is not known to stand in the ledger, and its run. Should its commit have gone
// through even so, it is found there.
func (e *Engine) disown(r *request) {
	if r.isDisowned {
		return
	}
	r.isDisowned = true
	if r.cancel != nil {
		r.cancel()
	}
	r.runs, r.held = r.runs+1, nil
	delete(e.inFlight, r.id)
	b := e.unknown(r)
	e.remove(r)
	if b != nil {
		for _, it := range b.items {
			it.dispose()
		}
	}
}

// laneEnded takes what a run of a lane gave. One of an earlier term counts for nothing.
func (e *Engine) laneEnded(l *lane, batch []*item, took time.Duration, result laneResult) {
	l.leave(batch, took, result.err == nil)
	if batch[0].term == e.term.Load() {
		e.laneBooted(l, batch, result)
		return
	}
	for _, it := range batch {
		it.dispose()
	}
}
