package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// failing answers "find" with a refusal and everything else with an internal error.
func failing(_ context.Context, name string, _ json.RawMessage) (json.RawMessage, error) {
	if name == "find" {
		return nil, &HostError{Code: "limit.sql", Message: "too many"}
	}
	return nil, errors.New("password is hunter2")
}

// wanted is an Error; Message is a part of it, and a line or column of 0 is not looked at.
type wanted struct {
	Code, Message string
	Line, Column  int
}

func limits(f func(*Limits)) func(*Run) { return func(r *Run) { f(&r.Limits) } }

func TestRunEndsWithItsCode(t *testing.T) {
	t.Parallel()
	p := setup(t)
	never := func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := []struct {
		name, source string
		options      []func(*Run)
		want         wanted // Message is a part of it
	}{
		{"syntax", "const a = 1\nreturn a +* 2", nil, wanted{CodeSyntax, "SyntaxError", 2, 11}},
		{"syntax twice declared", "let a = 1\n\n  let a = 2", nil, wanted{CodeSyntax, "already been declared",
			3, 7}},
		{"syntax at end", "function main() {", nil, wanted{CodeSyntax, "SyntaxError", 1, 0}},
		{"syntax after export", "export default function () {}\n\n  export const const", nil,
			wanted{CodeSyntax, "SyntaxError", 3, 16}},
		{"syntax typescript", "const a: number = 1\nconst b: = 2\nreturn a", []func(*Run){typescript},
			wanted{CodeSyntax, "SyntaxError", 2, 10}},
		{"syntax typescript module", "type A = number\nexport default ) {}", []func(*Run){typescript},
			wanted{CodeSyntax, "SyntaxError", 2, 16}},
		{"import", "const a = 1\nimport x from 'y'\nexport default () => x", nil, wanted{CodeSyntax,
			"import is not available", 2, 1}},
		{"import typescript", "const a = 1\nimport x from 'y'\nexport default () => x",
			[]func(*Run){typescript}, wanted{CodeSyntax, "import is not available", 2, 1}},
		{"import()", "return import('fs')", nil, wanted{CodeSyntax, "import is not available", 1, 8}},
		{"language", "", []func(*Run){func(r *Run) { r.Program.Language = "python" }}, wanted{CodeSyntax,
			"python", 0, 0}},
		{"no on", "return 1; ", []func(*Run){policy}, wanted{}},
		{"policy without on", "const x = 1", []func(*Run){policy}, wanted{CodeSyntax, "no function on", 0, 0}},
		{"default no function", "export default 7", nil, wanted{CodeSyntax, "no function", 0, 0}},
		{"throw", "const a = 1\n  throw new TypeError('bad ' + a)", nil, wanted{CodeException,
			"TypeError: bad 1", 2, 9}},
		{"throw in call", "function main() {\n  return f()\n}\nfunction f() { null.x }", nil,
			wanted{CodeException, "TypeError", 4, 21}},
		{"throw async", "async function main() {\n  await null\n    throw new Error('x')\n}", nil,
			wanted{CodeException, "Error: x", 3, 11}},
		{"throw export", "export default async function main() {\n  throw new Error('x')\n}", nil,
			wanted{CodeException, "Error: x", 2, 9}},
		{"throw typescript",
			"interface A {\n  b: number\n}\nexport default async function main(ctx: any) {\n  const a: A | null = null\n  throw new RangeError('x')\n}",
			[]func(*Run){typescript}, wanted{CodeException, "RangeError: x", 6, 9}},
		{"throw typescript body",
			"interface A {\n  b: number\n}\nconst a: A = { b: 1 }\nthrow new RangeError('x')",
			[]func(*Run){typescript}, wanted{CodeException, "RangeError: x", 5, 7}},
		{"throw string", "throw 'x'", nil, wanted{CodeException, "x", 1, 1}},
		{"throw object", "throw {a: 1}", nil, wanted{CodeException, `{"a":1}`, 1, 1}},
		{"throw undefined", "throw undefined", nil, wanted{CodeException, "undefined", 1, 1}},
		{"throw symbol", "throw Symbol('q')", nil, wanted{CodeException, "", 1, 1}},
		{"throw long", "throw new Error('x'.repeat(1e6))", nil, wanted{CodeException, "Error: xxx", 1, 7}},
		{"throw hostile toString", "throw {toString() { throw 1 }}", nil, wanted{CodeException,
			"cannot be read", 1, 1}},
		{"throw endless toString", "throw {toString() { for (;;); }}", nil, wanted{CodeTimeout, "", 0, 0}},
		{"throw later", "const a = 1;\n  if (a) { throw 'x' }", nil, wanted{CodeException, "x", 2, 12}},
		{"throw stack getter",
			"const e = new Error('x'); Object.defineProperty(e, 'stack', {get() { throw 1 }}); return Promise.reject(e)",
			nil, wanted{CodeException, "Error: x", 0, 0}},
		{"timeout", "for (;;);", nil, wanted{CodeTimeout, "function f@0 ran longer than 200ms", 0, 0}},
		{"timeout in catch", "for (;;) try { for (;;); } catch { } finally { continue }", nil,
			wanted{CodeTimeout, "ran longer", 0, 0}},
		{"timeout in jobs", "const f = () => Promise.resolve().then(f); return f()", nil, wanted{CodeTimeout,
			"ran longer", 0, 0}},
		{"timeout waiting", "return ctx.find()", []func(*Run){host(never),
			limits(func(l *Limits) { l.IOTimeout = 50 * time.Millisecond })},
			wanted{CodeTimeout, "waited longer than 50ms", 0, 0}},
		{"timeout waiting sync", "return ctx.insertSpan()", []func(*Run){host(never),
			limits(func(l *Limits) { l.IOTimeout = 50 * time.Millisecond })},
			wanted{CodeTimeout, "waited longer than 50ms", 0, 0}},
		{"stack", "const f = () => 1 + f()\nreturn f()", nil, wanted{CodeStack, "deeper than", 1, 0}},
		{"stack native", "const o = {toString() { return String(o) }}\nreturn String(o)",
			[]func(*Run){limits(func(l *Limits) { l.Timeout = 5 * time.Second })}, wanted{CodeStack,
				"deeper than", 1, 0}},
		{"stack in catch", "const f = () => { try { f() } catch { f() } }\nreturn f()", nil, wanted{CodeStack,
			"deeper than", 1, 0}},
		{"pending", "return new Promise(() => {})", nil, wanted{CodePending, "", 0, 0}},
		{"pending await", "await new Promise(() => {})", nil, wanted{CodePending, "", 0, 0}},
		{"bigint", "return 1n", nil, wanted{CodeNotSerializable, "BigInt", 0, 0}},
		{"cycle", "const a = {}; a.b = [a]; return a", nil, wanted{CodeNotSerializable, "contains itself", 0,
			0}},
		{"deep", "let a = []; for (let i = 0; i < 70; i++) a = [a]; return a", nil, wanted{CodeNotSerializable,
			"deeper than 64", 0, 0}},
		{"nul", `return {a: "x\u0000"}`, nil, wanted{CodeNotSerializable, `\u0000`, 0, 0}},
		{"nul key", `return {"\u0000": 1}`, nil, wanted{CodeNotSerializable, `\u0000`, 0, 0}},
		{"throwing getter", "return {get a() { throw new Error('g') }}", nil, wanted{CodeException, "Error: g",
			1, 25}},
		{"throwing toJSON", "return {toJSON() { throw new Error('j') }}", nil, wanted{CodeException,
			"Error: j", 1, 26}},
		{"endless getter", "return {get a() { for (;;); }}", nil, wanted{CodeTimeout, "", 0, 0}},
		{"endless proxy", "return new Proxy({}, {ownKeys() { for (;;); }})", nil, wanted{CodeTimeout, "", 0,
			0}},
		{"deepening getter",
			"class A { get a() { return new A() } }; Object.defineProperty(A.prototype, 'toJSON', {get() { return () => ({a: new A()}) }}); return new A()",
			nil, wanted{CodeNotSerializable, "deeper", 0, 0}},
		{"output", "return 'x'.repeat(1e6)", nil, wanted{CodeLimitOutput, "", 0, 0}},
		{"output of holes", "const a = []; a.length = 2 ** 32 - 1; return a", nil, wanted{CodeLimitOutput, "",
			0, 0}},
		{"logs", "for (;;) ctx.log('x'.repeat(100))", nil, wanted{CodeLimitLogs, "", 0, 0}},
		{"empty logs", "for (;;) console.log()", nil, wanted{CodeLimitLogs, "", 0, 0}},
		{"log of long", "ctx.log({a: 'x'.repeat(1e6)}); return 1", nil, wanted{CodeLimitLogs, "", 0, 0}},
		{"source", strings.Repeat(" ", 300<<10), nil, wanted{CodeLimitSource, "", 0, 0}},
		{"refused", "const a = 1\nreturn await ctx.find()", []func(*Run){host(failing)}, wanted{"limit.sql",
			"too many", 2, 0}},
		{"refused, not awaited at once", "const q = ctx.find()\nawait null\nreturn q",
			[]func(*Run){host(failing)}, wanted{"limit.sql", "too many", 1, 0}},
		{"forged", "throw Object.assign(new Error('e'), {code: 'denied'})", nil, wanted{CodeException,
			"Error: e", 1, 0}},
		{"host broke", "ctx.insertSpan({})", []func(*Run){host(failing)}, wanted{CodeCrash,
			"host call insertSpan failed", 1, 0}},
		{"no host", "ctx.insertSpan({})", []func(*Run){host(nil)}, wanted{CodeDenied, "not available", 1, 0}},
		{"too many calls", "for (;;) ctx.insertSpan({})", []func(*Run){host(echo)}, wanted{CodeDenied,
			"more than 1000 host calls", 0, 0}},
		{"too many async calls", "for (;;) ctx.find({})", []func(*Run){host(echo)}, wanted{CodeDenied,
			"more than 1000 host calls", 0, 0}},
		{"long argument", "ctx.insertSpan('x'.repeat(2e6))", []func(*Run){host(echo)}, wanted{CodeLimitOutput,
			"argument of insertSpan", 1, 0}},
		{"cyclic argument", "const a = []; a[0] = a; ctx.insertSpan(a)", []func(*Run){host(echo)},
			wanted{CodeNotSerializable, "argument of insertSpan", 1, 0}},
		{"bad data", "return 1", []func(*Run){func(r *Run) { r.Data = json.RawMessage(`{"a":`) }},
			wanted{CodeNotSerializable, "parse data", 0, 0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := p.RunCode(t.Context(), run(test.source, test.options...))
			if test.want.Code == "" {
				if got.Err != nil {
					t.Errorf("refused: %v", got.Err)
				}
				return
			}
			if got.Err == nil {
				t.Fatalf("gave %.100s", got.Output)
			}
			if got.Err.Code != test.want.Code || !strings.Contains(got.Err.Message, test.want.Message) ||
				len(got.Err.Message) > maxMessage+100 {
				t.Errorf("got %s %.300q", got.Err.Code, got.Err.Message)
			}
			if test.want.Line != 0 && (got.Err.Line != test.want.Line ||
				test.want.Column != 0 && got.Err.Column != test.want.Column) {
				t.Errorf("got position %d:%d, want %d:%d (%s)", got.Err.Line, got.Err.Column,
					test.want.Line, test.want.Column, got.Err.Message)
			}
			if strings.Contains(got.Err.Message, "hunter2") {
				t.Error("shows an internal error")
			}
			if got.Duration > 2*time.Second {
				t.Errorf("took %s", got.Duration)
			}
		})
	}
}
