package sandbox

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
)

// TestDeferredCalls: the script need not wait, the order is kept, a refusal is thrown at the first look, and
// one that nobody looks at ends the run.
func TestDeferredCalls(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	for name, c := range map[string]struct{ source, output, code string }{
		"LooksAtTheAnswer":      {`return ctx.put(1).n + ctx.put(2).n`, `3`, ""},
		"KeepsTheOrder":         {`for (let i = 0; i < 20; i++) ctx.put(i); return ctx.put(20).seen`, orderText, ""},
		"NeedNotLook":           {`ctx.put(1); return "done"`, `"done"`, ""},
		"ThrowsAtTheFirstLook":  {`const x = ctx.put(-1); try { return x.n } catch (e) { return e.code }`, `"no"`, ""},
		"UncaughtEndsTheRun":    {`return ctx.put(-1).n`, ``, "no"},
		"UnseenEndsTheRun":      {`ctx.put(1); ctx.put(-1); return "done"`, ``, "no"},
		"TakenWhileWaiting":     {`const x = ctx.put(7); await ctx.ask(); return x.n`, `7`, ""},
		"CanBeListedAndChanged": {`const x = ctx.put(3); x.m = 1; delete x.seen; return x`, `{"m":1,"n":3}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := &orderHost{}
			result := pool.RunCode(t.Context(), Run{Program: Program{Source: c.source}, Host: host.answer,
				DeferredCalls: []string{"put"}, AsyncCalls: []string{"ask"}})
			switch {
			case c.code != "" && (result.Err == nil || result.Err.Code != c.code):
				t.Fatalf("got %s, %v, want the code %s", result.Output, result.Err, c.code)
			case c.code == "" && (result.Err != nil || !sameJSON(t, result.Output, c.output)):
				t.Fatalf("got %s, %v, want %s", result.Output, result.Err, c.output)
			}
		})
	}
}

// An answer that the script does not look at is not even encoded.
func TestOnlyAnswersThatAreSeenAreEncoded(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	host := &orderHost{}
	var encoded atomic.Int32
	later := func(ctx context.Context, name string, args json.RawMessage) (
		func() (json.RawMessage, error), error) {
		answer, err := host.answer(ctx, name, args)
		return func() (json.RawMessage, error) { encoded.Add(1); return answer, nil }, err
	}
	source := `for (let i = 0; i < 5; i++) ctx.put(i);
		const x = ctx.put(5); await ctx.ask(); return [x.n, x.seen]`
	for _, run := range []func(context.Context, Run) Result{pool.RunCode, pool.RunKernel} {
		host.seen = nil
		result := run(t.Context(), Run{Program: Program{Source: source}, Host: host.answer, Later: later,
			DeferredCalls: []string{"put"}, AsyncCalls: []string{"ask"}})
		if result.Err != nil || !sameJSON(t, result.Output, `[5,[0,1,2,3,4,5]]`) || encoded.Swap(0) != 1 {
			t.Errorf("got %s, %v", result.Output, result.Err)
		}
	}
}

const orderText = `[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]`

// orderHost notes the numbers that it is given, and refuses negative ones.
type orderHost struct {
	mu   sync.Mutex
	seen []int
}

func (h *orderHost) answer(_ context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	if name == "ask" {
		return json.RawMessage("true"), nil
	}
	var list []int
	if err := json.Unmarshal(args, &list); err != nil {
		return nil, err
	}
	if list[0] < 0 {
		return nil, &HostError{Code: "no", Message: "negative"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, list[0])
	return json.Marshal(map[string]any{"n": list[0], "seen": h.seen})
}

func sameJSON(t *testing.T, a json.RawMessage, b string) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	first, _ := json.Marshal(x)
	second, _ := json.Marshal(y)
	return string(first) == string(second)
}
