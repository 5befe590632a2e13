package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// uneven answers find after as many milliseconds as its argument says, in whatever order that gives, and
// everything else at once.
func uneven(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	var list []any
	if err := json.Unmarshal(args, &list); err != nil {
		return nil, err
	}
	if ms, isNumber := list[0].(float64); isNumber && name == "find" {
		timer := time.NewTimer(time.Duration(ms * float64(time.Millisecond)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if list[0] == "no" {
		return nil, &HostError{Code: "denied", Message: "no"}
	}
	return echo(ctx, name, args)
}

// again answers from a record, and fails the test where a call differs.
func again(t *testing.T, calls []Call) ReplayFunc {
	return func(n int, name string, args json.RawMessage) (json.RawMessage, time.Duration, error) {
		if n > len(calls) {
			t.Errorf("call %d: %s%s is not in the record", n, name, args)
			return nil, 0, &HostError{Code: CodeDenied, Message: "not recorded"}
		}
		c := calls[n-1]
		if c.AtUs == nil {
			return nil, -1, nil
		}
		at := time.Duration(*c.AtUs) * time.Microsecond
		answer := []byte{}
		if c.Error != nil {
			answer, _ = json.Marshal(c.Error)
		} else if c.Answer != nil {
			answer = []byte(*c.Answer)
		}
		if HashCall(name, args, answer) != c.Hash {
			t.Errorf("call %d: %s%s is not the recorded one", n, name, args)
		}
		if c.Error != nil {
			return nil, at, c.Error
		}
		return answer, at, nil
	}
}

// corpus holds scripts that read whatever could differ from run to run.
var corpus = map[string]string{
	"time": `const a = [Date.now(), ctx.now(), performance.now()];
		for (let i = 0; i < 1e5; i++) Math.sqrt(i);
		const b = [Date.now(), ctx.now(), performance.now()];
		if (String(a) !== String(b)) throw new Error("time went on while script ran");
		await ctx.find(2);
		return [a, Date.now(), new Date().toString(), new Date(2026, 1, 1).toLocaleString(), performance.now()]`,
	"race": `const order = [];
		const say = (i) => () => order.push([i, performance.now()]);
		await Promise.all([3, 1, 2, 0, 1].map((ms, i) => ctx.find(ms).then(say(i))));
		return order`,
	"timers and answers": `const order = [], say = (x) => () => order.push([x, performance.now()]);
		for (const ms of [1, 2, 3, 4, 5]) { setTimeout(say("t" + ms), ms); ctx.find(ms).then(say("f" + ms)); }
		const id = setInterval(say("i"), 1);
		await new Promise((done) => setTimeout(done, 7)); clearInterval(id);
		ctx.log(performance.now()); return order`,
	"sync between": `const order = []; const q = ctx.find(2).then(() => order.push("find"));
		setTimeout(() => order.push(["timer", performance.now(), ctx.insertSpan(1).args]), 1);
		ctx.insertSpan(2); await q; await new Promise((done) => setTimeout(done, 1));
		return [order, performance.now()]`,
	"left open": `ctx.find(5000); const a = await Promise.race([ctx.find(1), ctx.find(4000)]);
		return [a.args, ctx.now()]`,
	"refusals": `const seen = [];
		for (const f of [() => ctx.insertSpan("no"), () => ctx.find("no")])
			try { await f() } catch (e) { seen.push(e.code, e.message, ctx.now()) }
		return seen`,
	"throws": "await ctx.find(1);\n ctx.log('before'); [1].map((x) => { throw new TypeError(`at ${performance.now()}`) })",
	"randomness": `const u8 = crypto.getRandomValues(new Uint8Array(40));
		return [Math.random(), ctx.id(), crypto.randomUUID(), ctx.crypto.hex(u8),
			[5, 3, 9, 1].sort(() => Math.random() - 0.5)]`,
	"orders": `const o = {b: 1, a: 2, 10: 3, 9: 4, [Symbol.iterator]: 1};
		const list = Array.from({length: 600}, (_, i) => [i % 7, i]).sort((x, y) => x[0] - y[0]);
		return [Object.keys(o), JSON.stringify(o), list.slice(0, 90), Object.keys(ctx),
			Object.getOwnPropertyNames(globalThis),
			[...new Map([[NaN, 1], [0, 2], ["0", 3]])], [...new Set("hello")],
			Object.keys(crypto), Object.keys(console),
			new Error("e").stack, eval("1+1")]`,
	"locale": `return [typeof Intl, Object.getOwnPropertyNames(Date).length, String(ctx.find),
		(1234.5).toLocaleString()]`,
}

func TestRepeatedRunIsTheSame(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, source := range corpus {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all sync.WaitGroup
			for i := range 20 { // at once: under load answers and timers come in all orders
				all.Go(func() {
					r := run(source, host(uneven), limits(func(l *Limits) { l.Timeout = 20 * time.Second }))
					r.RecordBytes, r.Seed[0] = 64<<10, byte(i)
					first := p.RunCode(t.Context(), r)
					if first.Err != nil && name != "throws" {
						t.Errorf("refused: %v", first.Err)
						return
					}
					r.Host, r.Replay = nil, again(t, first.Calls)
					for range 2 {
						second := p.RunCode(t.Context(), r)
						for what, pair := range map[string][2]any{
							"output": {string(first.Output), string(second.Output)}, "error": {first.Err, second.Err},
							"logs": {first.Logs, second.Logs}, "calls": {text(first.Calls), text(second.Calls)},
						} {
							if !reflect.DeepEqual(pair[0], pair[1]) {
								t.Errorf("%s: %v, then %v", what, pair[0], pair[1])
							}
						}
					}
				})
			}
			all.Wait()
		})
	}
}

func text(v any) string {
	encoded, err := json.Marshal(v)
	return fmt.Sprint(string(encoded), err)
}

func TestRepeatedRunDoesNotWait(t *testing.T) {
	t.Parallel()
	p := setup(t)
	r := run(`await new Promise((done) => setTimeout(done, 3600e3)); return performance.now()`)
	r.Replay = again(t, nil)
	got := p.RunCode(t.Context(), r)
	if string(got.Output) != "3600000" || got.Duration > time.Second {
		t.Errorf("got %s %v after %s", got.Output, got.Err, got.Duration)
	}
}

func TestRecordKeepsWhatFits(t *testing.T) {
	t.Parallel()
	p := setup(t)
	r := run(`await ctx.find("a"); await ctx.find("b".repeat(100)); await ctx.find("c"); ctx.find("d")`, host(echo))
	r.RecordBytes = 70
	got := p.RunCode(t.Context(), r).Calls
	if len(got) != 4 {
		t.Fatalf("got %s", text(got))
	}
	for i, want := range []bool{true, false, true, false} {
		if (got[i].Answer != nil) != want || (got[i].AtUs != nil) != (i < 3) || len(got[i].Hash) != 64 {
			t.Errorf("call %d: got %s", i+1, text(got[i]))
		}
	}
	if want := HashCall("find", []byte(`["d"]`), nil); got[3].Hash != want {
		t.Errorf("an unanswered call has the hash %s, want %s", got[3].Hash, want)
	}
	if r.RecordBytes = 0; p.RunCode(t.Context(), r).Calls != nil {
		t.Error("records without being asked")
	}
}

func TestTimersAreBounded(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, test := range []struct {
		name, source, code, message string
	}{
		{"too many", "for (;;) setTimeout(() => 1, 10)", CodeDenied, "more than 1000 timers"},
		{"for ever", "setInterval(() => 1, 1); await new Promise(() => 1)", CodeTimeout, "waited longer"},
		{"too long", "await new Promise((done) => setTimeout(done, 60e3))", CodeTimeout, "waited longer than 50ms"},
		{"busy afterwards", "await new Promise((done) => setTimeout(done, 5)); for (;;);", CodeTimeout,
			"ran longer"},
		{"native afterwards", "await new Promise((done) => setTimeout(done, 5)); /(?=a)(a+)+b/.test('a'.repeat(40))",
			CodeTimeout, "did not stop"},
		{"throws", "setTimeout(() => {\n  null.x }, 1); await new Promise(() => 1)", CodeException, "TypeError"},
		{"microtask throws", "queueMicrotask(() => { throw new RangeError('m') })", CodeException, "RangeError: m"},
		{"microtasks for ever", "const f = () => queueMicrotask(f); f()", CodeTimeout, "ran longer"},
		{"nothing left", "setTimeout(() => 1, 1); await new Promise(() => 1)", CodePending, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(test.source, limits(func(l *Limits) { l.IOTimeout = time.Hour }))
			if strings.HasPrefix(test.message, "waited") { // also for a place, beside the others
				r.Limits.IOTimeout = 50 * time.Millisecond
			}
			got := p.RunCode(t.Context(), r)
			if got.Err == nil || got.Err.Code != test.code || !strings.Contains(got.Err.Message, test.message) ||
				got.Duration > 5*time.Second {
				t.Errorf("got %s %v after %s", got.Output, got.Err, got.Duration)
			}
			if test.name == "throws" && (got.Err.Line != 2 || got.Err.Column == 0) {
				t.Errorf("got %d:%d", got.Err.Line, got.Err.Column)
			}
		})
	}
}
