package tail

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"
)

func wantDisposed(t *testing.T, p *Progress, want pglogrepl.LSN, wantQuiet bool) {
	t.Helper()
	if got, quiet := p.Disposed(); got != want || quiet != wantQuiet {
		t.Errorf("disposed %s, quiet %v: want %s, %v", got, quiet, want, wantQuiet)
	}
}

func TestProgressStopsAtTheOldestOpenTransaction(t *testing.T) {
	t.Parallel()
	var p Progress
	wantDisposed(t, &p, 0, true)
	var open []*Position
	for i := range 4 {
		position := p.Begin()
		position.Add(2)
		position.close(pglogrepl.LSN(10 * (i + 1)))
		open = append(open, position)
	}
	done := func(i int) { open[i].Done() }
	wantDisposed(t, &p, 0, false)
	done(1)
	done(1)
	done(3)
	wantDisposed(t, &p, 0, false)
	done(0)
	wantDisposed(t, &p, 0, false)
	done(0)
	wantDisposed(t, &p, 20, false)
	done(3)
	wantDisposed(t, &p, 20, false)
	done(2)
	done(2)
	wantDisposed(t, &p, 40, true)
}

func TestProgressWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	var p Progress
	position := p.Begin()
	position.Add(1)
	position.Done()
	wantDisposed(t, &p, 0, false) // every row is done, but more may come
	position.Add(1)
	position.close(7)
	wantDisposed(t, &p, 0, false)
	position.Done()
	wantDisposed(t, &p, 7, true)
	p.Begin().close(9) // a transaction without rows of ours
	wantDisposed(t, &p, 9, true)
}

func TestProgressIdlesOnlyWhenQuiet(t *testing.T) {
	t.Parallel()
	var p Progress
	p.Idle(5)
	wantDisposed(t, &p, 5, true)
	p.Idle(3)
	wantDisposed(t, &p, 5, true)
	position := p.Begin()
	p.Idle(8)
	wantDisposed(t, &p, 5, false)
	position.close(7)
	wantDisposed(t, &p, 8, true)
}

func TestProgressCallsOnDoneOnce(t *testing.T) {
	t.Parallel()
	var p Progress
	calls := 0
	position := p.Begin()
	position.onDone = func() { calls++ }
	position.Add(1)
	position.Done()
	position.close(0)
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
}

// Whatever the order of Done, the mark never passes an open transaction and ends at the last.
func TestProgressUnderConcurrentDones(t *testing.T) {
	t.Parallel()
	var p Progress
	const transactions, rows = 500, 4
	var dones []func()
	open := make([]*Position, transactions)
	for i := range open {
		open[i] = p.Begin()
		open[i].Add(rows)
		open[i].close(pglogrepl.LSN(i + 1))
		for range rows {
			dones = append(dones, open[i].Done)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(dones), func(i, j int) { dones[i], dones[j] = dones[j], dones[i] })
	var workers sync.WaitGroup
	for part := range 4 {
		workers.Go(func() {
			last := pglogrepl.LSN(0)
			for i := part; i < len(dones); i += 4 {
				dones[i]()
				disposed, _ := p.Disposed()
				if disposed < last {
					t.Errorf("the mark went back from %s to %s", last, disposed)
				}
				last = disposed
				if int(disposed) < transactions && open[disposed].pending.Load() < 0 {
					t.Error("more Dones than rows")
				}
			}
		})
	}
	workers.Wait()
	wantDisposed(t, &p, transactions, true)
}
