package sandbox

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// output runs r as code and fails the test unless it succeeds.
func output(t *testing.T, p *Pool, r Run) string {
	t.Helper()
	got := p.RunCode(t.Context(), r)
	if got.Err != nil {
		t.Fatalf("refused: %+v", got.Err)
	}
	return string(got.Output)
}

func TestHostCallsReachTheHost(t *testing.T) {
	t.Parallel()
	p := setup(t)
	tests := []struct{ name, source, want string }{
		{"sync", `return ctx.insertSpan({a: [1]}, "é")`, `{"name":"insertSpan","args":[{"a":[1]},"é"]}`},
		{"sync without arguments", `return ctx.insertSpan().args`, `[]`},
		{"undefined argument", `return ctx.insertSpan(undefined, 1).args`, `[null,1]`},
		{"async in order", `return Promise.all([1, 2, 3].map((i) => ctx.find(i).then((r) => r.args[0])))`,
			`[1,2,3]`},
		{"async then sync",
			`const a = ctx.find(1); const b = ctx.insertSpan(2); return [(await a).args[0], b.args[0]]`,
			`[1,2]`},
		{"sql template", "return (await ctx.sql`select ${input.n}, ${'a'}::text`).args",
			`[{"text":"select $1, $2::text","values":[1,"a"]}]`},
		{"sql alone", "return (await ctx.sql`select 1`).args", `[{"text":"select 1","values":[]}]`},
		{"sql plain", "return (await ctx.sql('select $1', [5])).args", `[{"text":"select $1","values":[5]}]`},
		{"polluted prototypes", `Object.prototype.toJSON = function () { return 1 }
			Object.defineProperty(Object.prototype, 'args', 
				{set(v) { throw 1 }, get() { return 2 }, configurable: true})
			delete Object.prototype.toJSON; return ctx.insertSpan(7).args`, `[7]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := output(t, p, run(test.source, host(echo))); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestScriptSeesRefusals(t *testing.T) {
	t.Parallel()
	p := setup(t)
	refuse := func(_ context.Context, name string, _ json.RawMessage) (json.RawMessage, error) {
		if name == "run" {
			return nil, errors.New("dial tcp 10.0.0.1: password=hunter2")
		}
		return nil, fmt.Errorf("call %s: %w", name, &HostError{Code: "denied", Message: "not granted"})
	}
	r := run(`const seen = []
		try { ctx.insertSpan() } catch (e) { seen.push(e instanceof Error, e.code, e.message) }
		try { await ctx.find() } catch (e) { seen.push(e.code) }
		try { await ctx.run() } catch (e) { seen.push(e.code, e.message) }
		return seen`, host(refuse))
	got := p.RunCode(t.Context(), r)
	want := `[true,"denied","not granted","denied","crash","host call run failed"]`
	if string(got.Output) != want {
		t.Errorf("got %s %v, want %s", got.Output, got.Err, want)
	}
	if got.Cause == nil || !strings.Contains(got.Cause.Error(), "hunter2") {
		t.Errorf("the parent does not learn the cause: %v", got.Cause)
	}
}

func TestHostThatPanicsFailsTheCallOnly(t *testing.T) {
	t.Parallel()
	p := setup(t)
	r := run(`try { ctx.insertSpan() } catch (e) { return e.code }`,
		host(func(context.Context, string, json.RawMessage) (json.RawMessage, error) { panic("boom") }))
	if got := output(t, p, r); got != `"crash"` {
		t.Errorf("got %s", got)
	}
}

func TestWaitingIsNotJavaScriptTime(t *testing.T) {
	t.Parallel()
	p := setup(t)
	// Three waits of 300 ms each, with a limit of 200 ms of JavaScript, both ways of waiting.
	slow := func(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
		timer := time.NewTimer(300 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return echo(ctx, name, args)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	got := p.RunCode(t.Context(), run(`await ctx.find(); ctx.insertSpan(); await ctx.find(); return 1`,
		host(slow)))
	if got.Err != nil {
		t.Fatalf("refused: %v", got.Err)
	}
	if got.JSTime > 100*time.Millisecond || got.Duration < 900*time.Millisecond {
		t.Errorf("JSTime %s, Duration %s", got.JSTime, got.Duration)
	}
}

func TestNativeLoopDiesWhileACallIsOpen(t *testing.T) {
	t.Parallel()
	p := setup(t)
	never := func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	got := p.RunCode(t.Context(), run(`ctx.find(); /(?=a)(a+)+b/.test('a'.repeat(40))`, host(never)))
	if got.Err == nil || got.Err.Code != CodeTimeout || got.Duration > 1500*time.Millisecond {
		t.Errorf("got %v after %s", got.Err, got.Duration)
	}
}

func TestContextEndsRunsPromptly(t *testing.T) {
	t.Parallel()
	p := setup(t)
	long := limits(func(l *Limits) { l.Timeout = 20 * time.Second; l.IOTimeout = 20 * time.Second })
	waiting := make(chan struct{}, 10)
	never := host(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		waiting <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	for _, test := range []struct {
		name, source string
		do           func(context.Context, Run) Result
	}{
		{"code loop", "ctx.find(); ctx.insertSpan(); for (;;);", p.RunCode},
		{"code waiting", "await ctx.find()", p.RunCode},
		{"code native", "return Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)", p.RunCode},
		{"kernel waiting", "await ctx.find()", p.RunKernel},
		{"kernel loop", "for (;;);", p.RunKernel},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if strings.Contains(test.name, "waiting") {
				ctx, cancel = context.WithCancel(t.Context())
				go func() { <-waiting; cancel() }()
			}
			begun := time.Now()
			got := test.do(ctx, run(test.source, never, long))
			if took := time.Since(begun); took > time.Second {
				t.Errorf("took %s", took)
			}
			if got.Err == nil || got.Err.Code != CodeCancelled && got.Err.Code != CodeTimeout {
				t.Errorf("got %v", got.Err)
			}
		})
	}
	if got := output(t, p, run("return 1")); got != "1" {
		t.Errorf("the pool does not serve on: %s", got)
	}
}

func TestSameSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	p := setup(t)
	source := `return [Math.random(), Math.random(), ctx.id(), ctx.id(), ctx.crypto.randomUUID(), crypto.randomUUID()]`
	seed := func(b byte) func(*Run) { return func(r *Run) { r.Seed[31] = b } }
	first, second, other := output(t, p, run(source, seed(1))), output(t, p, run(source, seed(1))), output(t,
		p, run(source, seed(2)))
	if first != second || first == other {
		t.Errorf("got %s, %s, %s", first, second, other)
	}
	millis := fmt.Sprintf("%012x", begin.UnixMilli())
	millis = millis[:8] + "-" + millis[8:]
	form := regexp.MustCompile(`^\[0\.\d+,0\.\d+,"` + millis +
		`-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}","` + millis + `-8.{21}",` +
		`"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",".{36}"\]$`)
	if !form.MatchString(first) {
		t.Errorf("got %s", first)
	}
}

func TestClockStartsAtNow(t *testing.T) {
	t.Parallel()
	p := setup(t)
	got := output(t, p, run(`const d = Date.now() - Date.UTC(2026, 10, 5, 12, 0, 0, 123)
		return [d >= 0 && d < 1000, ctx.now().slice(0, 20), ctx.now().length,
			new Date().getTimezoneOffset(), Date.now() >= +new Date(input.n)]`))
	if got != `[true,"2026-11-05T12:00:00.",27,0,true]` {
		t.Errorf("got %s", got)
	}
}

func TestCrypto(t *testing.T) {
	t.Parallel()
	p := setup(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash,
		_ := hex.DecodeString("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262") // BLAKE3 of nothing
	sig := ed25519.Sign(private, hash)
	r := run(fmt.Sprintf(`const { blake3, hex, toU8, verify } = ctx.crypto
		const h = blake3(new Uint8Array(0)), sig = '%x', pub = '%x'
		let refused = 0
		for (const f of [() => blake3('x'), () => toU8('zz'), () => verify(1, 2, 3)])
			try { f() } catch (e) { refused += e instanceof TypeError }
		return [hex(h), h instanceof Uint8Array, verify(sig, h, pub), verify(toU8(sig), hex(h), toU8(pub)),
			verify(sig, blake3(h), pub), verify(sig, h, '00'),
			refused, hex(new Uint8Array([1, 255]).subarray(1))]`, sig, public))
	want := `["` + hex.EncodeToString(hash) + `",true,true,true,false,false,3,"ff"]`
	if got := output(t, p, r); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLogsComeWithTheResult(t *testing.T) {
	t.Parallel()
	p := setup(t)
	got := p.RunCode(t.Context(),
		run(`ctx.log('a', 1, {b: [true]}, null, undefined); console.warn(new Error('e')); console.error('x\u0000'); throw 1`))
	if got.Err == nil || len(got.Logs) != 3 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []Log{{Level: "log", Message: `a 1 {"b":[true]} null undefined`},
		{Level: "warn", Message: "Error: e"}, {Level: "error", Message: "x\uFFFD"}} {
		if got := got.Logs[i]; got.Level != want.Level || got.Message != want.Message {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestRunsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	r := run(`const before = [typeof leaked, Object.prototype.x, [].y, Math.z, JSON.stringify({}), ctx.w]
		globalThis.leaked = 1; Object.prototype.x = 1; Array.prototype.y = 1
		Math.z = 1; JSON.stringify = () => 'bad'; ctx.w = 1
		return before.map(String)`)
	for range 3 {
		if got := output(t, p,
			r); got != `["undefined","undefined","undefined","undefined","{}","undefined"]` {
			t.Errorf("got %s", got)
		}
	}
}

// TestKernelsNest runs kernels that await runs of kernels and code, many more than there are workers.
func TestKernelsNest(t *testing.T) {
	t.Parallel()
	p := setup(t)
	var nested atomic.Int64
	var answer HostFunc
	answer = func(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
		nested.Add(1)
		var list []struct{ Depth int }
		if err := json.Unmarshal(args, &list); err != nil || len(list) != 1 {
			return nil, fmt.Errorf("read arguments %s: %w", args, err)
		}
		r := run("export default (ctx) => ctx.input.depth", host(nil))
		do := p.RunCode
		if list[0].Depth > 0 {
			r = run("export default async function main(ctx) { return 1 + await ctx.run({depth: ctx.input.depth - 1}) }", host(answer))
			do = p.RunKernel
		}
		r.Limits = Limits{}
		r.Data = json.RawMessage(fmt.Sprintf(`{"input":{"depth":%d}}`, list[0].Depth))
		got := do(ctx, r)
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Output, nil
	}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			r := run("export default async (ctx) => (await Promise.all([3, 2].map((depth) => ctx.run({depth})))).join()", host(answer))
			r.Limits = Limits{}
			if got := p.RunKernel(t.Context(), r); string(got.Output) != `"3,2"` {
				t.Errorf("got %s %v", got.Output, got.Err)
			}
		})
	}
	all.Wait()
	if n := nested.Load(); n != 40*7 {
		t.Errorf("%d nested calls", n)
	}
}
