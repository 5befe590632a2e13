package sandbox

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostileScriptsEnd runs what beat goja's own limits when it was measured in one process. Each script
// must end with one of its codes, or by timeout on a busy machine, within the limit, the grace and some room.
// It runs before the parallel tests, since it measures time.
func TestHostileScriptsEnd(t *testing.T) {
	p := setup(t)
	over := []string{CodeTimeout, CodeMemory}
	tests := []struct {
		name, source string
		codes        []string
	}{
		{"loop", "for (;;);", []string{CodeTimeout}},
		{"generator loop", "function* g() { for (;;) yield 1 }; for (const x of g());",
			[]string{CodeTimeout}},
		{"finally loop", "function f() { try { return f } finally { for (;;); } }; f()",
			[]string{CodeTimeout}},
		{"job flood",
			"const f = () => { Promise.resolve().then(f); Promise.resolve().then(f) }; f(); return 1", over},
		{"regex look-ahead", "return /(?=a)(a+)+b/.test('a'.repeat(40))", []string{CodeTimeout}},
		{"regex backreference", `return /^(a+)+\1b$/.test('a'.repeat(40))`, []string{CodeTimeout}},
		{"indexOf of a huge length", "return Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
			[]string{CodeTimeout}},
		{"reverse of a huge length", "return Array.prototype.reverse.call({length: 2 ** 53 - 1})", over},
		{"join of a huge length", "return Array.prototype.join.call({length: 2 ** 53 - 1}, '')", over},
		{"fill", "return new Array(1e9).fill(0)", over},
		{"Array.from", "return Array.from({length: 1e9})", over},
		{"spread", "return Math.max(...new Array(2e7))", []string{CodeTimeout, CodeMemory, CodeException,
			CodeNotSerializable, ""}},
		{"BigInt power", "return String(9n ** (9n ** 8n))", over},
		{"BigInt parse", "return BigInt('9'.repeat(3e6)) > 0n", append(over, "")},
		{"sort", "return Array.from({length: 3e6}, (_, i) => -i).sort((a, b) => a - b).length", over},
		{"repeat 2**40", "return 'x'.repeat(2 ** 40)", []string{CodeMemory, CodeException}},
		{"repeat 2**30", "return 'x'.repeat(2 ** 30).length", over},
		{"repeat in catch", "for (;;) try { 'x'.repeat(2 ** 40) } catch { }", over},
		{"padEnd", "return 'a'.padEnd(2 ** 32)", over},
		{"string doubling", "let s = 'x'; for (;;) s += s", over},
		{"array growth", "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", over},
		{"object growth", "const a = []; for (;;) a.push({a: 1, b: {}})", over},
		{"map growth", "const m = new Map(); for (let i = 0; ; i++) m.set(i, [i])", over},
		{"Uint8Array 2**33", "return new Uint8Array(2 ** 33)", []string{CodeMemory, CodeException}},
		{"ArrayBuffer 2**52", "return new ArrayBuffer(2 ** 52)", []string{CodeMemory, CodeException}},
		{"many buffers", "const a = []; for (;;) a.push(new Uint8Array(1e7).fill(1))", over},
		{"split", "return 'a'.repeat(5e7).split('').length", over},
		{"recursion", "function f() { return f() + 1 }; f()", []string{CodeStack}},
		{"recursion by getter", "const o = {get a() { return this.a }}; return o.a", []string{CodeStack}},
		{"recursion by sort", "function f() { [2, 1].sort(f); return 0 }; f()", []string{CodeStack,
			CodeTimeout}},
		{"recursion by proxy", "const p = new Proxy({}, {get: (t, k, r) => r[k]}); return p.x",
			[]string{CodeStack}},
		{"recursion by toJSON", "const o = {toJSON() { return JSON.stringify(o) }}; return o",
			[]string{CodeStack, CodeTimeout}},
		{"JSON.parse brackets", "return JSON.parse('['.repeat(5e6))", []string{CodeStack, CodeMemory}},
		{"JSON.parse objects", "return JSON.parse('{\"a\":'.repeat(2e6))", []string{CodeStack, CodeMemory}},
		{"JSON.stringify deep", "let a = []; for (let i = 0; i < 2e5; i++) a = [a]; return JSON.stringify(a)",
			[]string{CodeStack, CodeMemory, CodeTimeout}},
		{"toString deep", "let a = []; for (let i = 0; i < 2e5; i++) a = [a]; return String(a)",
			[]string{CodeStack, CodeMemory, CodeTimeout}},
		{"eval parens", "return eval('('.repeat(2e6))", []string{CodeStack, CodeMemory, CodeTimeout}},
		{"Function parens", "return new Function('('.repeat(2e6))", []string{CodeStack, CodeMemory,
			CodeTimeout}},
		{"RegExp parens", "return new RegExp('('.repeat(2e6))", []string{CodeStack, CodeMemory, CodeTimeout,
			CodeException}},
		{"source of parens", "return " + strings.Repeat("(", 120000) + strings.Repeat(")", 120000),
			[]string{CodeStack, CodeMemory, CodeTimeout, CodeSyntax}},
		{"source of brackets", "return " + strings.Repeat("[", 250000), []string{CodeStack, CodeMemory,
			CodeTimeout, CodeSyntax}},
		{"source of nots", "return " + strings.Repeat("!", 250000) + "1", []string{CodeStack, CodeMemory,
			CodeTimeout, CodeSyntax, ""}},
		{"source of templates", "return " + strings.Repeat("`${", 80000), []string{CodeStack, CodeMemory,
			CodeTimeout, CodeSyntax}},
		{"log flood", "for (;;) console.log('x'.repeat(1e5))", []string{CodeLimitLogs}},
		{"hostile log", "ctx.log({toJSON() { for (;;); }})", []string{CodeTimeout}},
		{"huge error", "throw new Error('x'.repeat(5e7))", []string{CodeException, CodeMemory, CodeTimeout}},
		{"hostile stack", "throw {get stack() { for (;;); }}", []string{CodeTimeout, CodeException}},
		{"hostile then", "return {then(f) { f(this) }}", []string{CodeTimeout, CodeStack, ""}},
		{"thenable loop", "const t = {then(f) { f(t) }}; return (async () => t)()", over},
		{"wide graph", `let a = {x: undefined}; for (let i = 0; i < 60; i++) a = {a, b: a}; return a`, []string{CodeLimitOutput}},
		{"silent graph", `const u = {}; for (let i = 0; i < 1e5; i++) u[i] = undefined
			const a = []; for (let i = 0; i < 6e4; i++) a.push(u); return a`, []string{CodeTimeout}},
		{"replaced builtins", `JSON.stringify = JSON.parse = Object.keys = Promise = Error = Array.prototype.push = null
			Object.defineProperty(Object.prototype, 'a',
				{set() { throw 1 }})
			return [input.n]`, []string{""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			r := run(test.source)
			got := p.RunCode(t.Context(), r)
			code := ""
			if got.Err != nil {
				code = got.Err.Code
			}
			if !slices.Contains(test.codes, code) && code != CodeTimeout {
				t.Errorf("got %q (%+v), want one of %q", code, got.Err, test.codes)
			}
			if late := got.Duration - r.Limits.Timeout - killGrace; late > 1500*time.Millisecond {
				t.Errorf("ended %s after the last limit", late)
			}
			t.Logf("%-8s %4d ms (%d with waiting) %v", code, got.Duration.Milliseconds(),
				time.Since(begun).Milliseconds(), got.Err)
		})
	}
}

// TestDeepNestingIsAStackError gives the same scripts the time that a busy machine needs to come to the
// real end.
func TestDeepNestingIsAStackError(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, source := range map[string]string{
		"JSON.parse":        "return JSON.parse('['.repeat(5e6))",
		"getter":            "const o = {get a() { return this.a }}; return o.a",
		"eval":              "return eval('('.repeat(2e6))",
		"source":            "return " + strings.Repeat("(", 120000) + strings.Repeat(")", 120000),
		"typescript":        "const a: number = " + strings.Repeat("(", 120000) + strings.Repeat(")", 120000),
		"native toString":   "const o = {toString() { return String(o) }}\nreturn String(o)",
		"sort":              "function f() { [2, 1].sort(f); return 0 }; f()",
		"uncaught by catch": "function f() { try { f() } catch { f() } finally { f() } }; f()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(source, limits(func(l *Limits) { l.Timeout, l.MemoryBytes = 10*time.Second, 256<<20 }))
			if name == "typescript" {
				typescript(&r)
			}
			if got := p.RunCode(t.Context(), r); got.Err == nil || got.Err.Code != CodeStack {
				t.Errorf("got %v after %s", got.Err, got.Duration)
			}
		})
	}
}
