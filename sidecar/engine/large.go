package engine

import (
	"context"

	"github.com/loglineos/loglineos/sidecar/span"
)

// holdKeys has a lane hold the keys of what is left of a large transaction, of which every page would walk
// over all.
func (e *Engine) holdKeys(b *behind, keys []span.Key) {
	e.judging.keys += len(keys) - len(b.keys)
	b.keys = keys
}

// readKeys reads the next n rows of a large transaction.
func (e *Engine) readKeys(b *behind, n int) {
	keys, to := b.keys[:n], b.target
	e.start(func(ctx context.Context) {
		rows, err := e.config.Ledger.Published(ctx, keys)
		e.do(func() {
			e.judging.readers--
			b.isBusy = false
			defer e.readLanes()
			switch {
			case !e.isBehind(b):
			case err != nil:
				b.tries++
				e.config.Log.Warn("what a lane has still to judge is not read, trying again", "error", err)
				e.after(backoff(b.tries), func() { e.wantRead(b) })
			default:
				b.tries = 0
				e.holdKeys(b, b.keys[n:])
				e.judgePage(b, to, 0, rows, true)
			}
		})
	})
}
