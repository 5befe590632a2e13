package sandbox

import (
	"strings"
	"testing"
	"time"
)

// The mark stands in the sources of TestErrorsNameTheAuthorsPlace before what is to blame. It is taken out.
const mark = "¦"

// marked takes the mark out of source and returns where it stood, in UTF-16 units.
func marked(t *testing.T, source string) (clean string, line, column int) {
	t.Helper()
	before, after, found := strings.Cut(source, mark)
	if !found {
		t.Fatalf("%q has no mark", source)
	}
	a := newAuthored(strings.TrimPrefix(before, "\uFEFF"))
	return before + after, a.lines, a.end
}

func TestErrorsNameTheAuthorsPlace(t *testing.T) {
	t.Parallel()
	p := setup(t)
	tests := []struct{ name, source, message, stack string }{
		{"callback", "const a = 1;\n[1].map((x) => {\n  throw ¦new Error('x')\n})", "Error: x", "at 3:9\nat 2:"},
		{"promise", "await Promise.resolve(1).then((x) => {\n\n  throw ¦new Error('x') })", "Error: x", ""},
		{"rejection", "const e = ¦new Error('x')\nawait Promise.reject(e)", "Error: x", ""},
		{"getter", "const o = {\n  get a() { throw ¦new Error('x') }\n}\nreturn o.a", "Error: x",
			"at a (2:19)\nat 4:10"},
		{"class field", "class A {\n  b = 1;\n  c = (() => { throw ¦new Error('f') })();\n}\nreturn new A()",
			"Error: f", "at 3:22\nat 3:"},
		{"static field", "class A {\n  static c = ¦nope;\n}", "ReferenceError: nope", ""},
		{"private method", "class A {\n  #m() {\n    throw ¦new Error('p') }\n  go() { this.#m() }\n}\nnew A().go()",
			"Error: p", "at #m (3:11)\nat go (4:"},
		{"in a template", "const a = `\n\n${¦nope}\n`", "ReferenceError", ""},
		{"after a template", "const a = `\n\n`; ¦nope", "ReferenceError", ""},
		{"CRLF", "const a = 1\r\nconst b = 2\r\n  throw ¦new Error('x')\r\n", "Error: x", ""},
		{"line separator", "const a = 1\u2028  throw ¦new Error('x')", "Error: x", ""},
		{"byte order mark", "\uFEFFthrow ¦new Error('x')", "Error: x", ""},
		{"byte order mark, second line", "\uFEFF\nthrow ¦new Error('x')", "Error: x", ""},
		{"tabs", "\tif (1) {\n\t\tthrow ¦new Error('x') }", "Error: x", ""},
		{"wide characters", "const é = '😀'; throw ¦new Error('x')", "Error: x", ""},
		{"wide characters above", "const é = '😀'\n throw ¦new Error('x')", "Error: x", ""},
		{"one line", "const a=()=>{throw ¦new Error('x')},b=()=>a();b()", "Error: x", "at a (1:20)\nat b (1:4"},
		{"async", "async function f() {\n  await null\n  throw ¦new Error('x')\n}\nawait f()", "Error: x",
			"at f (3:9)\nat 5:"},
		{"generator", "function* g() {\n  yield 1\n  throw ¦new Error('x')\n}\nfor (const x of g());", "Error: x",
			"at g (3:9)"},
		{"constructor", "class A { constructor() {\n throw ¦new TypeError('c') } }\nconst f = () => new A();\nf()",
			"TypeError: c", "at 2:8\nat f (3:17)"},
		{"called back by a built-in", "[3,1].sort((a, b) => {\n  throw ¦new Error('s') })", "Error: s",
			"at 2:9\nat 1:"},
		{"toJSON", "return {a: {toJSON() {\n throw ¦new Error('j') }}}", "Error: j", ""},
		{"timer", "setTimeout(() => {\n throw ¦new Error('t') }, 1); await new Promise(() => 1)", "Error: t", ""},
		{"rethrown", "function a() {\n throw ¦new Error('r') }\ntry { a() } catch (e) {\n  throw e }", "Error: r",
			"at a (2:8)\nat 3:"},
		{"with a cause", "try { null.x } catch (e) { throw ¦new Error('outer', {cause: e}) }", "Error: outer", ""},
		{"main", "function helper() {\n  ¦nope\n}\nexport default async function main(ctx) {\n  helper()\n}",
			"ReferenceError", "at helper (2:3)\nat main (5:"},
		{"export list", "const f = () => {\n  throw ¦new Error('x')\n}\nexport { f as default }", "Error: x", ""},
		{"in a URL", "const u = 1;\n¦new URL('nope')", "TypeError: Invalid URL: nope", ""},
		{"syntax", "const a = 1\r\nconst b = ¦;\r\n", "SyntaxError: Unexpected", ""},
		{"syntax, wide", "const é = '😀😀'; const ¦= 2", "SyntaxError", ""},
		{"syntax, byte order mark", "\uFEFFconst ¦= 2", "SyntaxError", ""},
		{"syntax in a template", "const a = `\n\n${¦)}`", "SyntaxError: Unexpected", ""},
		{"syntax in an object", "const a = 1;\nconst x = {¦;\n", "SyntaxError: ", ""},
		{"a brace too many", "if (1) {\n}\n¦}", "SyntaxError: Unexpected \"}\"", ""},
		{"a brace too many, return", "return 1\n¦}\n", "SyntaxError: Unexpected \"}\"", ""},
		{"syntax at the end", "if (1) {\n¦", "SyntaxError: Unexpected end", ""},
	}
	for _, test := range tests {
		for _, language := range []string{"javascript", "typescript"} {
			t.Run(test.name+" "+language, func(t *testing.T) {
				t.Parallel()
				source, line, column := marked(t, test.source)
				r := run(source, limits(func(l *Limits) { l.Timeout = 5 * time.Second }))
				r.Program.Language = language
				got := p.RunCode(t.Context(), r).Err
				if got == nil || !strings.Contains(got.Message, test.message) {
					t.Fatalf("got %+v, want %q", got, test.message)
				}
				if got.Line != line || got.Column != column {
					t.Errorf("got %d:%d, want %d:%d", got.Line, got.Column, line, column)
				}
				if !strings.HasPrefix(got.Stack, test.stack) || strings.Contains(got.Stack, "$ll") {
					t.Errorf("got the stack %q, want %q", got.Stack, test.stack)
				}
			})
		}
	}
}

func TestLoggedStacksNameTheAuthorsPlaces(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, language := range []string{"javascript", "typescript"} {
		r := run("function f() {\n  return new Error('x') }\nconsole.log(f().stack)")
		r.Program.Language = language
		got := p.RunCode(t.Context(), r)
		if len(got.Logs) != 1 || !strings.HasPrefix(got.Logs[0].Message, "Error: x\n    at f (2:10)\n    at 3:") ||
			strings.Contains(got.Logs[0].Message, "github.com") {
			t.Errorf("got %+v %v", got.Logs, got.Err)
		}
	}
}

// A rejection that nobody waits for ends no run, but its author is told.
func TestRejectionsThatNobodyTakesAreLogged(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, test := range []struct{ source, want string }{
		{"async function f() {\n  throw new Error('lost') }\nf(); return 1",
			"error nothing handles this rejection: Error: lost (2:9)"},
		{"Promise.reject(7); return 1", "error nothing handles this rejection: 7"},
		{"Promise.reject({toString() { throw 1 }}); return 1",
			"error nothing handles this rejection: an error whose text cannot be read"},
		{"ctx.find('no'); await ctx.find(2); return 1", "error nothing handles this rejection: no (1:9)"},
		{"Promise.reject(1).catch(() => 1); return 1", ""},
		{"const q = Promise.reject(1); await null; try { await q } catch {} return 1", ""},
		{"try { await Promise.all([Promise.reject(1), 2]) } catch { return 1 }", ""},
	} {
		r := run(test.source, host(uneven), limits(func(l *Limits) { l.Timeout = 5 * time.Second }))
		got := p.RunCode(t.Context(), r)
		var lines []string
		for _, l := range got.Logs {
			lines = append(lines, l.Level+" "+l.Message)
		}
		if string(got.Output) != "1" || strings.Join(lines, "|") != test.want {
			t.Errorf("%s: got %s %v, logged %q, want %q", test.source, got.Output, got.Err, lines, test.want)
		}
	}
	for _, source := range []string{"throw new Error('main')",
		"export default async () => { throw new Error('main') }", "return Promise.reject(new Error('main'))"} {
		if got := p.RunCode(t.Context(), run(source)); len(got.Logs) != 0 || got.Err == nil {
			t.Errorf("%s: logged %v besides %v", source, got.Logs, got.Err)
		}
	}
	got := p.RunCode(t.Context(), run("Promise.reject({toString() { for (;;); }}); return 1")).Err
	if got == nil || got.Code != CodeTimeout {
		t.Errorf("an endless text: got %v", got)
	}
}

func TestMessagesDoNotNameTheInterpretersParts(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for source, want := range map[string]string{
		"new RegExp('[b-a]')": "SyntaxError: Invalid regular expression: [b-a] (invalid character class range: `b-a`)",
		"JSON.parse('')":      "SyntaxError: Unexpected end of JSON input",
		"eval('(')":           "SyntaxError: in evaluated code: Line 1:2 Unexpected end of input (and 1 more errors)",
	} {
		if got := p.RunCode(t.Context(), run(source)).Err; got == nil || got.Message != want {
			t.Errorf("%s: got %v, want %q", source, got, want)
		}
	}
}

func TestStacksAreShort(t *testing.T) {
	t.Parallel()
	p := setup(t)
	got := p.RunCode(t.Context(), run("const f = (n) => { if (n === 0) throw 1; f(n - 1) }; f(100)")).Err
	if got == nil || strings.Count(got.Stack, "\n") != framesMost-1 {
		t.Errorf("got %+v", got)
	}
}

// Every form in which a program may state what is called, in both languages and for both entries.
func TestEveryFormInEveryLanguage(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, form := range map[string]string{
		"top level": "ASYNC function NAME(PARAMS) { BODY }", "const": "const NAME = ASYNC (PARAMS) => { BODY }",
		"let": "let NAME = ASYNC function (PARAMS) { BODY }", "var": "var NAME = ASYNC (PARAMS) => { BODY };",
		"export default": "export default ASYNC function (PARAMS) { BODY }",
		"named":          "export default ASYNC function NAME(PARAMS) { BODY }",
		"other name":     "export default ASYNC function other(PARAMS) { BODY }",
		"arrow":          "export default ASYNC (PARAMS) => { BODY }",
		"export":         "export ASYNC function NAME(PARAMS) { BODY }",
		"export const":   "export const NAME = ASYNC (PARAMS) => { BODY }",
		"list":           "ASYNC function f(PARAMS) { BODY }\nexport { f as default }",
		"list, name":     "ASYNC function NAME(PARAMS) { BODY }\nexport { NAME }",
		"list, renamed":  "ASYNC function f(PARAMS) { BODY }\nexport { f as NAME };",
		"global default": "globalThis.default = ASYNC (PARAMS) => { BODY }",
		"global name":    "globalThis.NAME = ASYNC function NAME(PARAMS) { BODY }",
		"below helpers":  "const k = 1\nclass A { x = k }\nexport default ASYNC function NAME(PARAMS) { BODY }\nfunction h() {}",
	} {
		for _, entry := range []Entry{EntryFunction, EntryPolicy} {
			for _, async := range []string{"", "async"} {
				for _, language := range []string{"javascript", "typescript"} {
					entryName, params, body := "main", "ctx", "return ctx.input.span.id"
					if entry == EntryPolicy {
						entryName, params, body = "on", "span, ctx", "return [span.id, ctx.input.span.id][0]"
					}
					if language == "typescript" {
						params = strings.NewReplacer("ctx", "ctx: any", "span", "span: { id: string }").Replace(params)
					}
					source := strings.NewReplacer("ASYNC", async, "NAME", entryName, "PARAMS", params, "BODY",
						body).Replace(form)
					r := run(source, limits(func(l *Limits) { l.Timeout = 5 * time.Second }))
					r.Program.Language, r.Entry = language, entry
					if got := p.RunCode(t.Context(), r); string(got.Output) != `"s"` {
						t.Errorf("%s: %s, %s: got %s %v", name, language, source, got.Output, got.Err)
					}
				}
			}
		}
	}
}

// Else its run would end complete with null.
func TestAFunctionThatNobodyCallsIsRefused(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, test := range []struct{ source, want string }{
		{"export ¦function handler(ctx) { return 1 }", "no main"},
		{"export const handler = ¦async (ctx) => 1", "no main"},
		{"const a = 1\n¦function handler(ctx) { return a }", "no main"},
		{"// a comment\n\nconst handler = ¦(ctx) => 1", "no main"},
		{"'use strict'; class A { b = 1 } ¦function handler() {}\nfunction other() {}", "no main"},
		{"¦async function handler(ctx) { return await ctx.find({}) }", "no main"},
		{"export { f }; ¦function f() {}", "no main"},
		{"¦function handler(ctx) { return 1 }\nhandler(ctx)", ""},
		{"¦function handler(ctx) { return 1 }\nreturn handler(ctx)", ""},
		{"globalThis.default = handler; ¦function handler(ctx) { return 1 }", ""},
		{"class A { static { ctx.log(1) } } ¦function f() {}", ""},
		{"const x = ctx.log('runs'); ¦function f() {}", ""},
		{"¦// nothing", ""},
	} {
		for _, language := range []string{"javascript", "typescript"} {
			source, line, column := marked(t, test.source)
			r := run(source, host(echo))
			r.Program.Language = language
			got := p.RunCode(t.Context(), r).Err
			switch {
			case test.want == "" && got != nil, test.want != "" && got == nil:
				t.Errorf("%s in %s: got %v", source, language, got)
			case got != nil && (got.Code != CodeSyntax || !strings.HasPrefix(got.Message, test.want) ||
				got.Line != line || got.Column != column):
				t.Errorf("%s in %s: got %+v at %d:%d, want %q at %d:%d", source, language, got, got.Line,
					got.Column, test.want, line, column)
			}
		}
	}
}

func TestAnErrorSaysWhy(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, test := range [][2]string{
		{"throw new Error('a', {cause: new TypeError('b', {cause: {c: 1}})})",
			`Error: a; cause: TypeError: b; cause: {"c":1}`},
		{"throw new AggregateError([new Error('x'), 2], 'all')", "AggregateError: all; Error: x; 2"},
		{"await Promise.any([Promise.reject(new Error('x'))])", "Error: x"},
		{"const e = new Error('loop'); e.cause = e; throw e", "Error: loop; cause: Error: loop; cause: Error: l"},
		{"fetch('https://example.org')", "fetch is not defined: there is ctx.fetch"},
		{"const x = Deno.env", "Deno is not defined: there is ctx.env"},
		{"require('fs')", "a function is one file"},
		{"Buffer.from('a')", "TextEncoder"},
		{"return process.env.X", "there is ctx.env"},
		{"other", "other is not defined"},
	} {
		source, want := test[0], test[1]
		got := p.RunCode(t.Context(), run(source)).Err
		if got == nil || got.Code != CodeException || !strings.Contains(got.Message, want) {
			t.Errorf("%s: got %v, want %q", source, got, want)
		}
	}
}

func TestAThenableIsAwaited(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for source, want := range map[string]string{
		"return {then(yes) { yes(7) }}":                                        "7",
		"export default () => ({then(yes) { setTimeout(() => yes([1]), 1) }})": "[1]",
		"return {then: 1}": `{"then":1}`,
	} {
		if got := output(t, p, run(source)); got != want {
			t.Errorf("%s: got %s, want %s", source, got, want)
		}
	}
	for source, code := range map[string]string{
		"return {then(yes, no) { no(new Error('x')) }}": CodeException, "return {then() {}}": CodePending,
		"return {get then() { throw 1 }}": CodeException, "return {get then() { for (;;); }}": CodeTimeout,
	} {
		if got := p.RunCode(t.Context(), run(source)).Err; got == nil || got.Code != code {
			t.Errorf("%s: got %v, want %s", source, got, code)
		}
	}
}
