package sandbox

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// survey describes everything that a script can reach from its globals: each property, its value or the text
// of its function, its prototype and whether it can be changed.
const survey = `
const seen = new Map(), lines = []
const look = (value, path) => {
  const primitive = value === null || (typeof value !== 'object' && typeof value !== 'function')
  if (primitive) return typeof value + ' ' + String(value)
  if (seen.has(value)) return 'see ' + seen.get(value)
  seen.set(value, path)
  lines.push(path + ' ' + typeof value + (typeof value === 'function' ? ' ' + value : '') +
    (Object.isExtensible(value) ? '' : ' fixed'))
  lines.push(path + ' inherits ' + look(Object.getPrototypeOf(value), path + '.[[prototype]]'))
  for (const key of Reflect.ownKeys(value)) {
    const at = path + '.' + String(key), d = Object.getOwnPropertyDescriptor(value, key)
    const flags = [d.writable, d.enumerable, d.configurable].join()
    if ('value' in d) lines.push(at + ' ' + flags + ' ' + look(d.value, at))
    else lines.push([at, flags, 'get', look(d.get, at + '.get'), 'set', look(d.set, at + '.set')].join(' '))
  }
}
look(globalThis, 'globalThis')
for (const [name, value] of Object.entries({generator: function* () {}, async: async () => {}, ctx,
  text: 'a'.matchAll(/a/g),
  array: [][Symbol.iterator](), map: new Map()[Symbol.iterator](), set: new Set()[Symbol.iterator](),
  match: /(b)/.exec('b'),
  error: new Error('x').message, template: ((t) => t)` + "`a`" + `})) look(value, name)
return lines`

// TestNothingIsLeftForTheNextRun lets scripts change all that they can reach, and surveys what the next run
// in the same process finds, another tenant's and their own.
func TestNothingIsLeftForTheNextRun(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	process := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.idle[0].cmd.Process.Pid
	}
	look := func(tenant string) string {
		return output(t, p, run(survey, func(r *Run) { r.Tenant, r.Limits = tenant, Limits{} }))
	}
	clean, before := look("victim"), process()
	if strings.Count(clean, "\n")+strings.Count(clean, `","`) < 1000 {
		t.Fatalf("the survey sees little: %.300s", clean)
	}
	if polluted := output(t, p, run("Object.prototype.x = 1\n"+survey)); polluted == clean {
		t.Fatal("the survey does not see a property that was added")
	}
	for name, source := range map[string]string{
		"Object.prototype": "Object.prototype.x = 1; Object.prototype.toJSON = () => 'p'; Object.defineProperty(Object.prototype, 'span', {get: () => 1})",
		"Array.prototype":  "Array.prototype.map = Array.prototype.push = null; Array.prototype[0] = 1; Array.prototype.then = 1",
		"Function.prototype": `Function.prototype.call = Function.prototype.apply = () => 1
			Function.prototype.toString = () => 'x'; delete Function.prototype.bind`,
		"Promise": "Promise.prototype.then = () => 1; Promise = null; Object.freeze(Object.prototype)",
		"JSON":    "JSON.parse = JSON.stringify = () => 'x'; Math.random = () => 0; Date.now = () => 0",
		"iterators": `Object.getPrototypeOf([][Symbol.iterator]()).next = () => ({done: true})
			Object.getPrototypeOf(Object.getPrototypeOf(function* () {}())).next = 1`,
		"RegExp": "/(secret)/.test('secret'); RegExp.prototype.exec = () => null; RegExp.x = RegExp.$1",
		"globals": `globalThis.default = () => 1; globalThis.main = () => 2; globalThis.on = () => 3; globalThis.x = 1
			undefined_ = 1
			for (const k of Object.getOwnPropertyNames(globalThis)) try { delete globalThis[k] } catch {}`,
		"symbols":   "Symbol.for('left'); Symbol.prototype.x = 1; Error.prepareStackTrace = () => 1; Error.stackTraceLimit = 0",
		"ctx":       "ctx.x = 1; ctx.input = {}; input = 7; delete ctx.env; Object.setPrototypeOf(ctx, {get y() { return 1 }})",
		"the realm": "Object.setPrototypeOf(globalThis, {y: 1}); Object.preventExtensions(globalThis)",
		"a timer":   "setTimeout(() => { globalThis.x = 1 }, 1e6)",
		"an open promise": `globalThis.p = new Promise(() => {}); Promise.reject(1)
			Promise.resolve().then(() => { Object.prototype.x = 1 })`,
		"its own helpers": `for (const f of [URL, TextEncoder, TextDecoder, structuredClone, setTimeout, console.log, atob])
			try { f.prototype.x = f.x = 1 } catch {}`,
		"a template": "((t) => { try { t.x = 1; t.raw.x = 1 } catch {} })`a`",
	} {
		// What a script returns or throws here does not matter.
		_ = p.RunCode(t.Context(), run(source, func(r *Run) { r.Tenant = "attacker" }))
		for _, tenant := range []string{"victim", "attacker"} {
			if found := look(tenant); found != clean {
				t.Errorf("%s: %s's next run finds %s", name, tenant, difference(clean, found))
			}
		}
		if after := process(); after != before {
			t.Errorf("%s: process %d, then %d: the next run was in another, so this shows nothing", name, before, after)
			before = after
		}
	}
}

// difference names the first lines in which two surveys differ.
func difference(want, got string) string {
	a, b := strings.Split(want, `","`), strings.Split(got, `","`)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return b[i] + ", not " + a[i]
		}
	}
	return "more or less than before"
}

// TestNoConstructorLeadsOut asks for everything that other engines, or Go, might give.
func TestNoConstructorLeadsOut(t *testing.T) {
	t.Parallel()
	p := setup(t)
	outside := `['process', 'require', 'module', 'exports', 'global', 'window', 'self', 'document', 'Deno', 'Bun', 'Java',
		'fetch', 'XMLHttpRequest', 'WebSocket', 'EventSource', 'Worker', 'SharedArrayBuffer', 'Atomics',
		'WebAssembly', 'importScripts', 'load', 'read', 'print', 'quit', 'os', 'std', 'native', '__dirname',
		'__filename', 'navigator', 'localStorage', 'runtime', 'goja']
		.filter((name) => typeof globalThis[name] !== 'undefined' ||
		(0, eval)('typeof ' + name) !== 'undefined')`
	for name, source := range map[string]string{
		"globals": "return " + outside,
		"functions of texts": `return [Function, (async () => {}).constructor, (function* () {}).constructor,
			(async function* () {}).constructor, [].constructor.constructor, ctx.constructor.constructor,
			ctx.insertSpan.constructor, console.log.constructor, Math.random.constructor, Error.constructor]
			.filter((make) => { const f = make('return globalThis'), g = f()
				return g !== globalThis && !(g instanceof Promise) && typeof g.next !== 'function' })`,
		"this of a function": "return [(function () { return this })(), Function('return this')()].filter((v) => v !== globalThis)",
		"callers": `function f() { try { return [f.caller, f.arguments, arguments.callee.caller] } catch { return [] } }
			return f().filter((v) => v)`,
		"members of Go": `return [ctx, ctx.insertSpan, ctx.find, ctx.crypto, ctx.log, console, Math.random, Promise.resolve()]
			.flatMap((o) => Reflect.ownKeys(o)).filter((k) => typeof k === 'string' && /^[A-Z]/.test(k))`,
		"paths in a stack": `try { null.x } catch (e) { return [e.stack, new Error('x').stack]
			.filter((s) => /\.go\b|\/home|\/root|\/usr|goja/.test(s)) }`,
		"paths in a host's stack": `try { ctx.insertSpan(1n) } catch (e) { return [e.stack, String(e)]
			.filter((s) => /\.go\b|\/home|\/root|\/usr/.test(s)) }`,
		"imports": `const out = []; for (const s of ["import('fs')", "require('fs')", "import.meta.url"])
			try { out.push(eval(s)) } catch { }
			return out`,
		"an outer scope": `return ['t', 'vm', 'trailer', 'exports', 'wrapped', 'entry', 'program'].filter((name) => {
			try { return eval(name) !== undefined } catch { return false } })`,
		"another's memory": "const a = new Uint8Array(1e6); return a.some((b) => b !== 0) ? ['dirty'] : []",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(source, host(echo), func(r *Run) { r.Limits = Limits{} })
			if got := output(t, p, r); got != "[]" {
				t.Errorf("reaches %s", got)
			}
		})
	}
}

// TestAValueIsReadOnce holds what is checked and what is used to be the same: each member of a value that
// leaves a script is read once, when it leaves.
func TestAValueIsReadOnce(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, test := range map[string]struct{ source, want string }{
		"an argument": {`let n = 0; const got = await ctx.find({get type() { return n++ ? 'manifest' : 'note' }})
			return [n, got.args]`, `[1,[{"type":"note"}]]`},
		"an argument's toJSON": {`let n = 0; const got = await ctx.find({toJSON() { return {n: ++n} }})
			return [n, got.args]`, `[1,[{"n":1}]]`},
		"an argument that changes later": {`const o = {a: 1}, p = ctx.find(o); o.a = 2; o.b = 3
			return (await p).args`, `[{"a":1}]`},
		"an argument of a proxy": {`let n = 0; const o = new Proxy({a: 1}, {get: (t, k) => k === 'a' ? ++n : undefined})
			return (await ctx.find(o)).args`, `[{"a":1}]`},
		"a span": {`let n = 0; const got = ctx.insertSpan({get owner_id() { return n++ ? 'bob' : 'alice' }})
			return [n, got.args]`, `[1,[{"owner_id":"alice"}]]`},
		"a text of SQL": {"let n = 0; const parts = ['select 1']; parts.raw = parts\n" +
			`Object.defineProperty(parts, 0, {get: () => n++ ? 'drop' : 'select 1'}); return (await ctx.sql(parts)).args`,
			`[{"text":"select 1","values":[]}]`},
		"the output": {`let n = 0; return {get a() { return ++n }, get b() { return n }}`, `{"a":1,"b":1}`},
		"the output of an array": {`let n = 0; const a = [1, 2]; Object.defineProperty(a, 0, {get() { a.length = 1; return ++n }})
			return a`, `[1,null]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := output(t, p, run(test.source, host(echo))); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestAnAnswerIsTheRunsOwn keeps one run from changing what the host gave to another one.
func TestAnAnswerIsTheRunsOwn(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Workers = 1 })
	shared := json.RawMessage(`{"a":[1]}`)
	answer := func(context.Context, string, json.RawMessage) (json.RawMessage, error) { return shared, nil }
	for range 3 {
		source := "const r = await ctx.find(); r.a.push(2); r.b = 1; Object.freeze(r); return ctx.find()"
		if got := output(t, p, run(source, host(answer))); got != `{"a":[1]}` {
			t.Errorf("got %s", got)
		}
	}
}
