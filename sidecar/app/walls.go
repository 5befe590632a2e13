package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/supabase"
)

const (
	wallsTimeout = 10 * time.Second
	wallsMax     = 20 // fallen walls that are logged one by one
	wallsUnknown = "the walls are not checked yet"
)

// walls remembers which walls of the ledger do not stand (ledger.guard_check). The sidecar goes on working
// then: that the owner of the database can take walls down is detected, not prevented. But it is not
// ready, and it says so. It is safe for concurrent use.
type walls struct {
	ledger    *ledger.Ledger
	migration string
	log       *slog.Logger

	mutex  sync.Mutex
	fallen map[ledger.Wall]bool
	reason string
}

func newWalls(l *ledger.Ledger, log *slog.Logger) (*walls, error) {
	migrations, err := ledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	newest := migrations[len(migrations)-1].SQL
	return &walls{ledger: l, migration: newest, log: log, reason: wallsUnknown}, nil
}

// watch checks at once and then again and again, until ctx ends.
func (w *walls) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		w.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check asks once, and logs each change.
func (w *walls) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, wallsTimeout)
	defer cancel()
	found, count, err := w.ledger.Walls(ctx, w.migration, wallsMax)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if err != nil {
		if reason := err.Error(); reason != w.reason && ctx.Err() == nil {
			w.log.Error("the walls of the ledger can not be checked", "error", err)
		}
		w.reason = err.Error()
		return
	}
	fallen := make(map[ledger.Wall]bool, len(found))
	for _, wall := range found {
		fallen[wall] = true
		if !w.fallen[wall] {
			w.log.Error("a wall of the ledger does not stand", "wall", wall.Name, "problem", wall.Problem,
				"mend", wall.Mend)
		}
	}
	for wall := range w.fallen {
		if !fallen[wall] && count <= wallsMax {
			w.log.Info("a wall of the ledger stands again", "wall", wall.Name, "problem", wall.Problem)
		}
	}
	w.fallen, w.reason = fallen, ""
	if count > 0 {
		first := found[0]
		const text = "%d of the ledger's walls do not stand (ledger.guard_check()), first: %s %s; mend: %s"
		w.reason = fmt.Sprintf(text, count, first.Name, first.Problem, first.Mend)
	}
}

// fault says why the sidecar is not ready, as of the last check; "" when all walls stand.
func (w *walls) fault() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.reason
}
