package sandbox

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestARunReadsTwoAtOnce(t *testing.T) {
	t.Parallel()
	p := setup(t)
	var open, most, fetches atomic.Int32
	both := make(chan struct{})
	busy := func(_ context.Context, name string, _ json.RawMessage) (json.RawMessage, error) {
		if name != "find" {
			if fetches.Add(1) == 8 { // what is no read waits for none
				close(both)
			}
			<-both
			return json.RawMessage(`1`), nil
		}
		if n := open.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-both
		open.Add(-1)
		return json.RawMessage(`1`), nil
	}
	source := `const calls = []
		for (let i = 0; i < 8; i++) calls.push(ctx.find(i), ctx.sql("select 1"))
		let sum = 0
		for (const answer of await Promise.all(calls)) sum += answer
		return sum`
	reads := func(r *Run) { r.ReadCalls = []string{"find"} }
	if got := output(t, p, run(source, host(busy), reads)); got != "16" {
		t.Errorf("got %s", got)
	}
	if most.Load() != readsMax {
		t.Errorf("%d reads were open at once, want %d", most.Load(), readsMax)
	}
}

func TestOpenCallsHoldNoMoreThanTheirBytes(t *testing.T) {
	t.Parallel()
	p := setup(t)
	release := make(chan struct{})
	waits := func(ctx context.Context, name string, _ json.RawMessage) (json.RawMessage, error) {
		if name == "sql" {
			close(release)
		}
		select {
		case <-release:
		case <-ctx.Done(): // the run is over, and says why
		}
		return json.RawMessage(`1`), nil
	}
	source := `const big = "a".repeat(1000000), calls = []
		for (let i = 0; i < 40; i++) calls.push(ctx.find(big).catch((e) => e.code))
		const refused = await Promise.all(calls.slice(33)) // at once, while the others wait
		await ctx.sql("release")
		return [(await Promise.all(calls.slice(0, 33))).length, ...refused, await ctx.find(big)]`
	slowly := func(r *Run) { r.Limits.Timeout, r.Limits.IOTimeout = 10*time.Second, 20*time.Second }
	want := `[33` + strings.Repeat(`,"limit.output"`, 7) + `,1]`
	if got := output(t, p, run(source, host(waits), slowly)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
