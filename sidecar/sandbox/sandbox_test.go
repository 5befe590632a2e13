package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildArg {
		Main()
	}
	if len(os.Args) > 2 && os.Args[1] == "wall-probe" {
		probeMain(os.Args[2])
	}
	if mode := os.Getenv("SANDBOX_HELPER"); mode != "" {
		helperMain(mode)
		return
	}
	os.Exit(m.Run())
}

// setup returns a pool of two workers that is closed with the test.
func setup(t testing.TB, options ...func(*Options)) *Pool {
	t.Helper()
	o := Options{Workers: 2}
	for _, f := range options {
		f(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

var begin = time.Date(2026, 11, 5, 12, 0, 0, 123456000, time.UTC)

// run returns a Run of source with small limits of time.
func run(source string, options ...func(*Run)) Run {
	r := Run{
		Program: Program{Name: "function f@0", Source: source},
		Data:    json.RawMessage(`{"input":{"n":1,"span":{"id":"s"}},"env":{"APP_USER_ID":"u"}}`),
		Now:     begin,
		Limits:  Limits{Timeout: 200 * time.Millisecond, IOTimeout: 2 * time.Second},
	}
	for _, f := range options {
		f(&r)
	}
	return r
}

func typescript(r *Run) { r.Program.Language = "typescript" }
func policy(r *Run)     { r.Entry = EntryPolicy }

func host(f HostFunc) func(*Run) {
	return func(r *Run) {
		r.SyncCalls, r.AsyncCalls = []string{"insertSpan"}, []string{"find", "sql", "run"}
		r.Host = f
	}
}

// echo answers every call with its name and arguments.
func echo(_ context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	return json.RawMessage(`{"name":"` + name + `","args":` + string(args) + `}`), nil
}

func TestFormsGiveTheirOutput(t *testing.T) {
	t.Parallel()
	p := setup(t)
	tests := []struct {
		name, source string
		options      []func(*Run)
		want         string
	}{
		{"body", `return input.n + 1`, nil, `2`},
		{"body with strict", "'use strict'; return typeof this", nil, `"undefined"`},
		{"body awaits", `const r = await ctx.find({a: 1}, 2); return r.args`, []func(*Run){host(echo)},
			`[{"a":1},2]`},
		{"body returns promise", `return ctx.find(1)`, []func(*Run){host(echo)},
			`{"name":"find","args":[1]}`},
		{"body with ctx shadowed", `const input = ctx.input; return input.n`, nil, `1`},
		{"body ends in comment", "return 5 // done", nil, `5`},
		{"no return", `ctx.log(1)`, nil, `null`},
		{"empty", ``, nil, `null`},
		{"main", `function main(ctx) { return ctx.input.n }`, nil, `1`},
		{"async main", `async function main(ctx) { await null; return [ctx.input.n] }`, nil, `[1]`},
		{"const main", `const main = async (ctx) => ctx.env.APP_USER_ID`, nil, `"u"`},
		{"globalThis.default", `globalThis.default = async function main(ctx) { return 7 }`, nil, `7`},
		{"globalThis.main", `globalThis.main = () => 8`, nil, `8`},
		{"export default function", "export default function (ctx) { return 1 }", nil, `1`},
		{"export default named",
			"// export default\nexport default async function run_code(ctx) {\n return 2 }", nil, `2`},
		{"export default arrow", "const k = 3\nexport default async (ctx) => k", nil, `3`},
		{"export default name", "function f() { return 4 }\nexport default f", nil, `4`},
		{"export function main", "export function main(ctx) { return 5 }", nil, `5`},
		{"export const main", "export const x = 1; export const main = () => x + 5", nil, `6`},
		{"export list", "const a = () => 7\nfunction b() {}\nexport { a as default,\n b }", nil, `7`},
		{"export in string", "const s = `\nexport default 1`\nexport default () => s", nil,
			`"\nexport default 1"`},
		{"export strict", "export default function () { return this === undefined }", nil, `true`},
		{"for await", `let n = 0; async function* g() { yield 1; yield 2 }
			for await (const x of g()) n += x; return n`, nil, `3`},
		{"for await in main", `async function* g() { yield 1; yield 2 }
			export default async () => { let n = 0; for await (const x of g()) n += x; return n }`, nil, `3`},
		{"typescript body", `const n: number = input.n as number; return n + 1`, []func(*Run){typescript},
			`2`},
		{"typescript awaits", `const r: any = await ctx.find(); return r.name`, []func(*Run){typescript,
			host(echo)}, `"find"`},
		{"typescript main",
			"interface A { n: number }\nasync function main(ctx: any): Promise<A> { return { n: 2 } }",
			[]func(*Run){typescript}, `{"n":2}`},
		{"typescript export",
			"import type { Ctx } from './kernel'\nexport default async function main(ctx: Ctx) { return 3 }",
			[]func(*Run){typescript}, `3`},
		{"typescript enum", "enum E { A = 4 }\nexport default () => E.A", []func(*Run){typescript}, `4`},
		{"typescript export list", "const f = (): number => 5\nexport { f as default }",
			[]func(*Run){typescript}, `5`},
		{"typescript globalThis", "(globalThis as any).default = () => 6", []func(*Run){typescript}, `6`},
		{"policy export", `export function on(span, ctx) { return [span.id, ctx.input.n] }`,
			[]func(*Run){policy}, `["s",1]`},
		{"policy default", `export default function (span, ctx) { return span.id }`, []func(*Run){policy},
			`"s"`},
		{"policy top level", `async function on(span) { return [{ run: 'run_code', span_id: span.id }] }`,
			[]func(*Run){policy}, `[{"run":"run_code","span_id":"s"}]`},
		{"policy global", `globalThis.default = (span) => span.id`, []func(*Run){policy}, `"s"`},
		{"policy typescript", `export function on(span: any, ctx: any): any[] { return [] }`,
			[]func(*Run){policy, typescript}, `[]`},
		{"undefined", `return undefined`, nil, `null`},
		{"json",
			`return {a: [1, -0, 1e21, 0.1, NaN], b: undefined, c: "\u2028é\n", d: new Date(0), e: {toJSON() { return 1 }}}`,
			nil, `{"a":[1,0,1e+21,0.1,null],"c":"` + "\u2028" + `é\n","d":"1970-01-01T00:00:00.000Z","e":1}`},
		{"wrappers",
			`return [new Number(1), new String("a"), new Boolean(false), Symbol(), () => 1, new Map()]`,
			nil, `[1,"a",false,null,null,{}]`},
		{"lone surrogate", `return "\uD800"`, nil, "\"\uFFFD\""},
		{"globals", `return SPAN_ID`, []func(*Run){func(r *Run) {
			r.Globals = map[string]json.RawMessage{"SPAN_ID": json.RawMessage(`"x"`)}
		}}, `"x"`},
		{"proto key", `return [JSON.stringify(input), input.x]`, []func(*Run){func(r *Run) {
			r.Data = json.RawMessage(`{"input":{"__proto__":{"x":1},"a":"\ud83d\ude00\\\u0041"}}`)
		}}, `["{\"__proto__\":{\"x\":1},\"a\":\"😀\\\\A\"}",null]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := p.RunCode(t.Context(), run(test.source, test.options...))
			if got.Err != nil {
				t.Fatalf("refused: %+v", got.Err)
			}
			if string(got.Output) != test.want {
				t.Errorf("got %s, want %s", got.Output, test.want)
			}
			if !json.Valid(got.Output) {
				t.Errorf("invalid JSON")
			}
		})
	}
}
