package tail

import (
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
)

// Progress is the low-water mark of a stream: the end of the last transaction before which
// everything is disposed of. It is safe for concurrent use; its zero value is ready.
type Progress struct {
	mu       sync.Mutex
	open     []*Position // in commit order; the front is the oldest that is not disposed of
	disposed pglogrepl.LSN
	idle     pglogrepl.LSN
}

// Position is the place of one transaction's rows in the stream.
type Position struct {
	progress *Progress
	pending  atomic.Int64 // rows handed over and not done, plus one until the commit is read
	end      pglogrepl.LSN
	onDone   func()
}

// Begin opens a transaction.
func (p *Progress) Begin() *Position {
	position := &Position{progress: p}
	position.pending.Store(1)
	p.mu.Lock()
	p.open = append(p.open, position)
	p.mu.Unlock()
	return position
}

// Idle notes that the server has nothing to send before end. It must not be called inside a
// transaction.
func (p *Progress) Idle(end pglogrepl.LSN) {
	p.mu.Lock()
	p.idle = max(p.idle, end)
	p.mu.Unlock()
}

// Disposed returns the low-water mark, and whether nothing is outstanding before it.
func (p *Progress) Disposed() (end pglogrepl.LSN, quiet bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) == 0 {
		p.disposed = max(p.disposed, p.idle)
	}
	return p.disposed, len(p.open) == 0
}

// isQuiet reports whether nothing is outstanding.
func (p *Progress) isQuiet() bool {
	_, quiet := p.Disposed()
	return quiet
}

// Undisposed returns how many things are handed over and not disposed of. It walks what is open.
func (p *Progress) Undisposed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, position := range p.open {
		n += position.pending.Load()
	}
	return n
}

// Add notes n more things to dispose of at this position, each with its own Done.
func (p *Position) Add(n int64) { p.pending.Add(n) }

// Done notes that one of them is disposed of.
func (p *Position) Done() {
	if p.pending.Add(-1) > 0 {
		return
	}
	if p.onDone != nil {
		p.onDone()
	}
	p.progress.advance()
}

// close sets where the transaction ends. Nothing is added after it.
func (p *Position) close(end pglogrepl.LSN) {
	p.progress.mu.Lock()
	p.end = end
	p.progress.mu.Unlock()
	p.Done()
}

func (p *Progress) advance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.open) && p.open[n].pending.Load() == 0 {
		p.disposed = max(p.disposed, p.open[n].end)
		n++
	}
	clear(p.open[:n])
	p.open = p.open[n:]
}
