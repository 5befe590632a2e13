package sandbox

import "sync/atomic"

// Stats is what a Pool holds now, and has done since its start.
type Stats struct {
	Idle, Busy             int // code workers that are alive
	Starts, Runs, Breaches int64
}

type poolCounters struct{ starts, runs, breaches atomic.Int64 }

// Stats looks at the pool.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := len(p.children)
	if p.host != nil {
		alive--
	}
	return Stats{Idle: len(p.idle), Busy: max(alive-len(p.idle), 0), Starts: p.counters.starts.Load(),
		Runs: p.counters.runs.Load(), Breaches: p.counters.breaches.Load()}
}
