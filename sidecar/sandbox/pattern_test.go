package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// testdata/patterns says how the answers were taken.
func TestPatternsMatchAsInNode(t *testing.T) {
	t.Parallel()
	p := setup(t)
	sweep, err := os.ReadFile("testdata/patterns/sweep.js")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/patterns/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers [][2]string
	if err := json.Unmarshal(text, &answers); err != nil || len(answers) < 400 {
		t.Fatal(len(answers), err)
	}
	for _, answer := range answers {
		r := run(string(sweep)+"try { return String(JSON.stringify("+answer[0]+
			")) } catch (error) { return '!' + error.name }", limits(func(l *Limits) {
			l.Timeout = 5 * time.Second
		}))
		got := p.RunCode(t.Context(), r)
		var shown string
		if got.Err != nil {
			shown = got.Err.Message
		} else if err := json.Unmarshal(got.Output, &shown); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256([]byte(shown)); strings.HasPrefix(answer[0], "sweep(") {
			shown = hex.EncodeToString(sum[:8])
		}
		if shown != answer[1] {
			t.Errorf("%s\n got %s\nwant %s", answer[0], shown, answer[1])
		}
	}
}

func TestPatternsThatNobodyKnowsAreRefused(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, test := range []struct{ source, message string }{
		{`const a = 1;
return ¦/\p{Nope}/u.test("a")`, "no property is called Nope"},
		{`return [1, ¦/\p{scx=Greek}/u]`, "take Script="},
		{`return ¦/\p{sc=Grek}/u`, "long names"},
		{`return ¦/\p{Other_Math}/u`, "no property"},
		{`return ¦/\p/u`, "without a {name}"},
		{`export default () => ¦/[\p{L}--[a-z]]/v`, "flags"},
		{`return ¦/a/d`, "flags"},
	} {
		for _, language := range []string{"javascript", "typescript"} {
			source, line, column := marked(t, test.source)
			r := run(source)
			r.Program.Language = language
			got := p.RunCode(t.Context(), r).Err
			if got == nil || got.Code != CodeSyntax || !strings.Contains(got.Message, test.message) ||
				got.Line != line || got.Column != column {
				t.Errorf("%s in %s: got %+v at %d:%d, want %q at %d:%d", source, language, got, got.Line, got.Column,
					test.message, line, column)
			}
		}
	}
	got := p.RunCode(t.Context(), run(`return new RegExp("\\p{Nope}", "u")`)).Err
	if got == nil || got.Code != CodeException || !strings.HasPrefix(got.Message, "SyntaxError: Invalid reg") {
		t.Errorf("got %+v", got)
	}
}

// What docs/functions.md says of the rest: another answer than Node's, or none.
func TestPatternsDifferWhereTheGuideSaysSo(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for source, want := range map[string]string{
		`/(?:(a)|(b))+/.exec("ab")`:   `["ab","a","b"]`, // Node: ["ab",null,"b"]
		`/k/i.test("\u212a")`:         "true",           // Node: false, the sign of kelvin
		`eval("/\\p{L}/u").test("a")`: "false",          // Node: true
		`/\-/u.test("-")`:             "true",           // Node: a SyntaxError
	} {
		if got := output(t, p, run("return "+source)); got != want {
			t.Errorf("%s: got %s, want %s: correct the guide", source, got, want)
		}
	}
}

// Whatever it is given, and what goja takes before, it takes after.
func FuzzTranslatePattern(f *testing.F) {
	for _, seed := range []string{
		`\p{L}`, `[^\P{Lu}]`, `(?<a>.)\k<a>`, `[[:alpha:]]`, `^\b.$`, `[^][]`, `\p{`, "[\xff", `\`,
	} {
		for _, flags := range []string{"", "u", "gm", "isuy"} {
			f.Add(seed, flags)
		}
	}
	f.Fuzz(func(t *testing.T, source, flags string) {
		if len(source) > 100 || strings.Trim(flags, "gimsuy") != "" || !utf8.ValidString(source) {
			return
		}
		out, err := translatePattern(source, flags)
		if err != nil || out == source {
			return
		}
		vm := goja.New()
		build, _ := goja.AssertConstructor(vm.Get("RegExp"))
		_, before := build(nil, vm.ToValue(source), vm.ToValue(flags))
		if _, after := build(nil, vm.ToValue(out), vm.ToValue(flags)); before == nil && after != nil {
			t.Errorf("%q with %q becomes %q: %v", source, flags, out, after)
		}
	})
}

// The cost of a program with patterns, compiled anew each time, and of a run of it.
func BenchmarkPatterns(b *testing.B) {
	plain := strings.Repeat("const f = (a, b) => { if (a.x > b.y) { return [a.x, b.y].map((z) => z + 1) } }\n", 12)
	plain = strings.ReplaceAll(plain, "const f", "var f")
	for name, source := range map[string]string{
		"none":     plain + "return 1",
		"plain":    plain + `return /a+b/.test("aab")`,
		"lines":    plain + `return "a\nb".replace(/^\w/gm, "x")`,
		"property": plain + `return /^\p{L}+$/u.test("été")`,
		"RegExp":   plain + `return new RegExp("a+").test("aab")`,
	} {
		b.Run("compile/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, failed := compileProgram(Program{Source: source}, EntryFunction); failed != nil {
					b.Fatal(failed)
				}
			}
		})
		b.Run("run/"+name, func(b *testing.B) {
			p := setup(b)
			for b.Loop() {
				if got := p.RunCode(b.Context(), run(source)); got.Err != nil {
					b.Fatal(got.Err)
				}
			}
		})
	}
}
