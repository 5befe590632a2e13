package ledger

import "time"

// Stats is the state of the pool of connections.
type Stats struct {
	Idle, Used, Max int32
	Waits           int64         // how often somebody waited for a connection
	Waited          time.Duration // and how long, in all
}

// Stats looks at the pool.
func (l *Ledger) Stats() Stats {
	s := l.pool.Stat()
	return Stats{Idle: s.IdleConns(), Used: s.AcquiredConns(), Max: s.MaxConns(), Waits: s.EmptyAcquireCount(),
		Waited: s.EmptyAcquireWaitTime()}
}
