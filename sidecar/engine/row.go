package engine

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// item is one row on its way through its triggers.
type item struct {
	row     *span.Published
	span    *span.Span // the whole span, where it was loaded
	matches []*policy
	left    *atomic.Int32 // triggers that have not disposed of it
	done    func()
	tick    json.RawMessage // ctx.input.tick, where it is no row but the time of a policy
	round   int             // of that tick
	again   func(round int)
	came    time.Time // by this machine's clock
	isRead  bool      // by its lane, from the ledger: the tail does not wait for it
	tries   int
	races   int   // of what it appended, lost to other writers
	term    int64 // in which it was run
	parts   int   // groups of what a run gave for it that have no fate yet
	race    *raceError
	raced   []*policy // whose groups were lost so
	most    int       // how many such may share a run, after one that failed; 0 is no limit
}

func (i *item) dispose() {
	if i.left.Add(-1) == 0 {
		i.done()
	}
}

// arrival is a row on its way to the loop.
type arrival struct {
	row  *span.Published
	done func()
}

// inbox hands rows to the loop, as many at once as have come: of a million rows that match nothing, none
// costs an event of its own.
type inbox struct {
	mu   sync.Mutex
	rows []arrival
}

// put reports whether the loop has to be told.
func (b *inbox) put(a arrival) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = append(b.rows, a)
	return len(b.rows) == 1
}

// take returns what has come. spare, empty and used no more, takes what comes.
func (b *inbox) take(spare []arrival) []arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := b.rows
	b.rows = spare
	return rows
}

// Row takes one row in commit order; it is called by one goroutine at a time. It blocks while too many are
// undisposed. done is called when the slot may move past the row.
func (e *Engine) Row(ctx context.Context, row *span.Published, done func()) error {
	select {
	case e.slots <- struct{}{}:
	default:
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a := arrival{row: row, done: done}
	if row.EntityType == "function" && row.Status != nil && *row.Status == "scheduled" &&
		e.crowded.waiting.Load() < prefetchBefore {
		e.config.Prefetch(ctx, []span.Key{row.Key()})
	}
	if !e.inbox.put(a) {
		return nil // the loop has been told, and has not come yet
	}
	select {
	case e.events <- e.takeRows:
		return nil
	case <-ctx.Done():
		e.inbox.take(nil) // nobody will come for it
		<-e.slots
		return ctx.Err()
	}
}

// takeRows routes the rows that have come, in their order.
func (e *Engine) takeRows() {
	rows := e.inbox.take(e.spare)
	for i := range rows {
		e.arrive(rows[i].row, rows[i].done)
	}
	clear(rows)
	e.spare = rows[:0]
}

// route finds the triggers that match row and gives it to each.
func (e *Engine) route(row *span.Published, done func()) {
	e.stats.Rows.Add(1)
	e.noteTime(row.AcceptedAt.Time)
	e.noteRow(row)
	var last, it *item // made for the first that wants them
	switch row.EntityType {
	case "request":
		e.observeRequest(row)
	case "function":
		if e.observeFunction(row); e.schedules.unread.isFull() {
			last, it = e.items(row, done, last, it)
			e.schedules.unread.hold(it)
		}
	}
	if manifest := e.config.Manifest(); manifest != nil {
		for i := range manifest.Triggers {
			trigger := &manifest.Triggers[i]
			if !trigger.When.Matches(row) {
				continue
			}
			switch {
			case trigger.Kernel == policyKernel:
				if it != nil && it.matches != nil || e.judging.start.Sees(row.Xact) {
					continue // by another trigger, or before this sidecar led
				}
				if matches := e.policies.match(row); len(matches) > 0 {
					last, it = e.items(row, done, last, it)
					it.matches = matches
					e.judge(row, matches, it, last)
				}
			case row.EntityType == "request":
				e.admitRow(row, trigger.Kernel)
			default:
				last, it = e.items(row, done, last, it)
				e.crowdIn(trigger.Kernel, row, it, last)
			}
		}
	}
	if it == nil {
		<-e.slots
		done()
		return
	}
	it.dispose()
}

// items returns what stands for row: it, which holds its place, and last, which its done waits for.
func (e *Engine) items(row *span.Published, done func(), last, it *item) (*item, *item) {
	if it != nil {
		return last, it
	}
	last = &item{left: newCount(1), done: done}
	return last, &item{row: row, left: newCount(1), done: func() {
		<-e.slots
		last.dispose()
	}}
}
