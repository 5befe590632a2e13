package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// oneRead is a read that waits for the test.
type oneRead struct {
	keys []int
	goOn chan error
}

func gated() (*gather[int, *span.Span], chan oneRead) {
	reads := make(chan oneRead, 100)
	return &gather[int, *span.Span]{read: func(ctx context.Context, keys []int) (map[int]*span.Span, error) {
		mine := oneRead{keys, make(chan error)}
		reads <- mine
		select {
		case err := <-mine.goOn:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		found := map[int]*span.Span{}
		for _, key := range keys {
			found[key] = &span.Span{Seq: key}
		}
		return found, nil
	}, copied: copySpan}, reads
}

func (g *gather[K, V]) untilWaiting(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		g.mutex.Lock()
		waiting := len(g.waiting)
		g.mutex.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", waiting, n)
		}
	}
}

func TestReadsThatComeMeanwhileAreOneStatement(t *testing.T) {
	t.Parallel()
	g, reads := gated()
	var group sync.WaitGroup
	var wrong atomic.Int32
	var first []oneRead
	get := func(ctx context.Context, keys ...int) {
		group.Go(func() {
			found, err := g.get(ctx, keys)
			if err != nil || len(found) != len(keys) {
				wrong.Add(1)
				return
			}
			for _, key := range keys {
				if found[key].Seq != key {
					wrong.Add(1)
				}
				found[key].Seq = -1 // his own
			}
		})
	}
	for i := range gatherPlaces {
		get(t.Context(), i)
		first = append(first, <-reads)
	}
	for i := range 50 {
		get(t.Context(), 7, 100+i)
	}
	g.untilWaiting(t, 50)
	close(first[0].goOn)
	all := <-reads
	if len(all.keys) != 51 {
		t.Errorf("one statement reads %d keys, want 51", len(all.keys))
	}
	close(first[1].goOn)
	close(all.goOn)
	group.Wait()
	if wrong.Load() > 0 || g.busy != 0 {
		t.Errorf("%d wrong answers, %d places taken", wrong.Load(), g.busy)
	}
}

// A statement that is called off, or fails, costs those who waited for it no more than another one.
func TestWhoWaitsForAnothersStatementDoesNotFailWithIt(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{context.Canceled, errors.New("connection lost")} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			t.Parallel()
			g, reads := gated()
			ended := make(chan error, 3)
			var calledOff []context.CancelFunc
			var first []oneRead
			for i := range gatherPlaces {
				go func() { _, _ = g.get(t.Context(), []int{i}) }()
				first = append(first, <-reads)
			}
			for i := range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				calledOff = append(calledOff, cancel)
				defer cancel()
				go func() {
					_, err := g.get(ctx, []int{10 + i})
					ended <- err
				}()
				g.untilWaiting(t, i+1)
			}
			close(first[0].goOn)
			if all := <-reads; errors.Is(fault, context.Canceled) { // the first of the three reads for all
				calledOff[0]()
			} else {
				all.goOn <- fault
			}
			if err := <-ended; !errors.Is(err, fault) {
				t.Errorf("the reader ended with %v", err)
			}
			for done := 0; done < 2; {
				select {
				case again := <-reads:
					close(again.goOn)
				case err := <-ended:
					if done++; err != nil {
						t.Errorf("failed with another's statement: %v", err)
					}
				}
			}
			close(first[1].goOn)
		})
	}
}
