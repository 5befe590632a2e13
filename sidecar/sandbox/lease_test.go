package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/turns"
)

// waiting is a host whose answers come when the test says so.
type waitingHost struct {
	asked   atomic.Int64
	answers chan struct{}
}

func (h *waitingHost) host(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	h.asked.Add(1)
	select {
	case <-h.answers:
		return echo(ctx, name, args)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start runs r, and returns where its result comes.
func (p *Pool) start(ctx context.Context, r Run) <-chan Result {
	result := make(chan Result, 1)
	go func() { result <- p.RunCode(ctx, r) }()
	return result
}

func of(tenant string) func(*Run) { return func(r *Run) { r.Tenant = tenant } }

func soon(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// whole checks that every place is back.
func whole(t *testing.T, p *Pool) {
	t.Helper()
	want := turns.Count{Free: p.options.Workers, Room: aliveFor * p.options.Workers}
	if got := p.places.Count("slow"); got != want {
		t.Errorf("places are lost: %+v", got)
	}
}

func TestARunThatWaitsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for what, source := range map[string]string{
		"for an answer":          `return (await ctx.find(1)).args`,
		"where the script waits": `return ctx.insertSpan(1).args`,
		"for a timer": `await Promise.race([ctx.find(1), new Promise((yes) => setTimeout(yes, 1e5))]);
			return [1]`,
		"in small steps": `let isThere = false; ctx.find(1).then(() => { isThere = true });
			while (!isThere) await new Promise((yes) => setTimeout(yes, 5));
			return [1]`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := setup(t, func(o *Options) { o.Workers = 1 })
			h := &waitingHost{answers: make(chan struct{})}
			slow := p.start(t.Context(), run(source, host(h.host), of("slow")))
			soon(t, "it waits", func() bool { return h.asked.Load() == 1 })
			for range 3 {
				if got := output(t, p, run(`return 2`, of("neighbor"))); got != "2" {
					t.Errorf("the neighbor got %s", got)
				}
			}
			close(h.answers)
			if got := <-slow; got.Err != nil || string(got.Output) != "[1]" {
				t.Errorf("got %s %v", got.Output, got.Err)
			}
			whole(t, p)
		})
	}
}

func TestTimersFireWhereThePlaceWasLent(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	sleepers := make([]<-chan Result, 3)
	for i := range sleepers {
		sleepers[i] = p.start(t.Context(), run(`let n = 0;
			for (let i = 0; i < 20; i++) await new Promise((yes) => setTimeout(() => { n++; yes() }, 1 + i % 7));
			return n`, of(fmt.Sprint(i))))
	}
	for _, result := range sleepers {
		if got := <-result; got.Err != nil || string(got.Output) != "20" {
			t.Errorf("got %s %v", got.Output, got.Err)
		}
	}
	whole(t, p)
}

// A run that has its answer goes on before one that begins, and not before there is a place.
func TestAPlaceIsTakenAgainBeforeAnAnswerIsHandedOver(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	h := &waitingHost{answers: make(chan struct{})}
	slow := p.start(t.Context(), run(`return (await ctx.find(1)).args`, host(h.host), of("slow")))
	soon(t, "it has lent its place", func() bool { return p.places.Count("slow").Lent == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy := p.start(ctx, run(`for (;;);`, of("busy"), func(r *Run) { r.Limits.Timeout = time.Minute }))
	soon(t, "another has the place", func() bool {
		return p.places.Count("busy").Held == 1
	})
	next := p.start(t.Context(), run(`return 3`, of("next")))
	close(h.answers)
	soon(t, "it wants its place", func() bool {
		count := p.places.Count("slow")
		return count.Back == 1 && count.Waiting == 1
	})
	select {
	case got := <-slow:
		t.Errorf("it went on beside the one that has the place: %s", got.Output)
	default:
	}
	cancel()
	if got := <-busy; got.Err == nil || got.Err.Code != CodeCancelled {
		t.Errorf("the busy one: %s %v", got.Output, got.Err)
	}
	if got := <-slow; got.Err != nil || string(got.Output) != "[1]" {
		t.Errorf("got %s %v", got.Output, got.Err)
	}
	if got := <-next; got.Err != nil {
		t.Errorf("the next: %v", got.Err)
	}
	whole(t, p)
}

func TestChildrenThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	h := &waitingHost{answers: make(chan struct{})}
	var slow []<-chan Result
	for i := range 9 { // two tenants: each leaves room for as many as it has
		slow = append(slow, p.start(t.Context(), run(`return (await ctx.find(1)).args`, host(h.host),
			of(fmt.Sprint(i%2)))))
	}
	soon(t, "three wait", func() bool { return h.asked.Load() == 3 })
	if got := output(t, p, run(`return 2`, of("neighbor"))); got != "2" {
		t.Errorf("the neighbor got %s", got)
	}
	if n := h.asked.Load(); n != 3 {
		t.Errorf("%d runs wait at once", n)
	}
	close(h.answers)
	for _, result := range slow {
		if got := <-result; got.Err != nil || string(got.Output) != "[1]" {
			t.Errorf("got %s %v", got.Output, got.Err)
		}
	}
	whole(t, p)
}

func TestARunThatEndsWhileItsPlaceIsLentLosesNone(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	for what, c := range map[string]struct {
		source, code string
		wait         time.Duration
	}{
		"cancelled":              {`await ctx.find(1)`, CodeCancelled, time.Minute},
		"cancelled while asleep": {`await new Promise((yes) => setTimeout(yes, 1e5))`, CodeCancelled, time.Minute},
		"out of time":            {`await ctx.find(1)`, CodeTimeout, 200 * time.Millisecond},
		"killed":                 {`await ctx.find(1)`, CodeCrash, time.Minute},
	} {
		h := &waitingHost{answers: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		result := p.start(ctx, run(c.source, host(h.host), of("slow"),
			func(r *Run) { r.Limits.IOTimeout = c.wait }))
		soon(t, "it has lent its place", func() bool {
			return p.places.Count("slow").Lent == 1 || c.code == CodeTimeout
		})
		switch c.code {
		case CodeCancelled:
			cancel()
		case CodeCrash:
			p.mu.Lock()
			for child := range p.children {
				child.kill()
			}
			p.mu.Unlock()
		}
		if got := <-result; got.Err == nil || got.Err.Code != c.code {
			t.Errorf("%s: %s %v", what, got.Output, got.Err)
		}
		cancel()
		whole(t, p)
	}
}
