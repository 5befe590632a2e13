package tail

import (
	"context"
	"fmt"
	"time"
)

// Polling: without a slot, the tail asks what a new snapshot sees and the last one did not. No clock and no
// highest number is a cursor: what commits late is in the snapshot's list of open transactions.
const (
	pollMin = 5 * time.Millisecond
	pollMax = 330 * time.Millisecond // idle: three questions a second, and a beat
)

// probeSQL asks for a new snapshot, and whether it sees any row that $1 did not: one look at the index for
// the open transactions, one for the later ones. Both answers are of one snapshot. Rows of the import door
// may have numbers that are not reached yet, and are passed over.
const probeSQL = `select pg_current_snapshot()::text, $1 = ''
	or exists (select from ledger.universal_registry
		where xact >= pg_snapshot_xmax(nullif($1, '')::pg_snapshot)
			and xact < pg_snapshot_xmax(pg_current_snapshot()) and %s)
	or exists (select from ledger.universal_registry
		where xact = any(array(select pg_snapshot_xip(nullif($1, '')::pg_snapshot))) and %[1]s)`

// poll hands over what comes after the snapshot since, until ctx ends or until holds something. It returns
// the snapshot up to which everything is handed over.
func (s *session) poll(ctx context.Context, since string, until <-chan made) (string, *made, error) {
	pause, query := pollMin, fmt.Sprintf(probeSQL, s.epoch.isNew())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case m := <-until: // before a first question, which would read the whole gap
			return since, &m, nil
		default:
		}
		select {
		case <-ctx.Done():
			return since, nil, ctx.Err()
		case m := <-until:
			return since, &m, nil
		case <-timer.C:
		}
		var now string
		var found bool
		var err error
		if now, found, err = s.probe(ctx, query, since); err != nil {
			return since, nil, err
		}
		pause = min(2*pause, pollMax)
		if found {
			if err := s.pages(ctx, delta{since: since, upto: now}); err != nil {
				return since, nil, err
			}
			pause = pollMin
		} else {
			s.mark(now)
		}
		since = now
		s.polled.Add(1)
		s.phase.CompareAndSwap(CatchingUp, Polling)
		timer.Reset(pause)
	}
}

// probe asks once.
func (s *session) probe(ctx context.Context, query, since string) (now string, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	if err := s.reader.QueryRow(ctx, query, since).Scan(&now, &found); err != nil {
		return "", false, fmt.Errorf("poll for new rows: %w", err)
	}
	return now, found, nil
}
