package reference

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// In this text ~ stands for a backquote.
const ctxHead = `# Reference: ctx

What code sees, written by ~make gen~ from ~kernels/kernel.d.ts~. Do not edit. A function or a policy gets a
[FunctionCtx](#functionctx), a kernel the whole [Ctx](#ctx). The guides: [functions.md](../functions.md),
[policies.md](../policies.md), [kernels.md](../kernels.md); limits and walls: [sandbox.md](../sandbox.md).
`

var (
	// declaration is an exported interface or type with the comment before it.
	declaration = regexp.MustCompile(`(?ms)(?:^/\*\*\n?(.*?)\*/\n)?` +
		`^export (interface|type) (\w+)(.*?)\n(?:\}\n|\n|\z)`)
	stars  = regexp.MustCompile(`(?m)^ *\* ?|^ +\*/$`)
	spaces = regexp.MustCompile(`\s+`)
	inner  = regexp.MustCompile(`/\*\*.*?\*/ ?`)
	heads  = strings.NewReplacer("?", " ", "(", " ", ":", " ", "<", " ", "[column", "[column]",
		"[key", "[key]")
)

// member is one property or method of an interface.
type member struct{ name, signature, meaning string }

// plain is a comment without its stars.
func plain(comment string) string {
	return strings.TrimSpace(stars.ReplaceAllString(comment, ""))
}

// members splits the body of an interface, from after its first brace.
func members(body string) (found []member) {
	for body = strings.TrimSpace(body); body != "" && body != "}"; body = strings.TrimSpace(body) {
		var m member
		if rest, has := strings.CutPrefix(body, "/**"); has {
			comment, after, _ := strings.Cut(rest, "*/")
			m.meaning, body = spaces.ReplaceAllString(plain(comment), " "), strings.TrimSpace(after)
		}
		end := endOf(body)
		m.signature = strings.TrimSuffix(spaces.ReplaceAllString(body[:end], " "), ";")
		m.name, _, _ = strings.Cut(heads.Replace(m.signature), " ")
		found = append(found, m)
		body = body[end:]
	}
	return found
}

// endOf is the place behind the semicolon that ends the first member; comments within it do not count.
func endOf(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "/*"):
			i += strings.Index(text[i:], "*/") + 1
		case strings.ContainsRune("({[", rune(text[i])):
			depth++
		case strings.ContainsRune(")}]", rune(text[i])):
			depth--
		case text[i] == ';' && depth == 0:
			return i + 1
		}
	}
	return len(text)
}

func TestCtxPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../kernels/kernel.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t}
	p.put("%s", strings.ReplaceAll(ctxHead, "~", "`"))
	all := declaration.FindAllStringSubmatch(string(source), -1)
	if want := strings.Count(string(source), "\nexport "); len(all) != want || want < 10 {
		t.Fatalf("%d declarations are read of %d", len(all), want)
	}
	count := 0
	for _, match := range all {
		comment, kind, name, rest := match[1], match[2], match[3], match[4]
		if at := strings.LastIndex(comment, "/**"); at >= 0 {
			comment = comment[at+len("/**"):] // the one before is the file's
		}
		p.put("\n## %s\n\n", name)
		if comment != "" {
			p.put("%s\n\n", plain(comment))
		}
		if kind == "type" {
			p.put("```ts\ntype %s%s\n```\n", name, rest)
			continue
		}
		parent, body, _ := strings.Cut(rest, "{")
		if base, extends := strings.CutPrefix(strings.TrimSpace(parent), "extends "); extends {
			p.put("All of [%s](#%s), and:\n\n", base, strings.ToLower(base))
		}
		p.put("| name | form | meaning |\n|---|---|---|\n")
		for _, m := range members(body) {
			form := inner.ReplaceAllString(m.signature, "")
			p.put("| %s | `%s` | %s |\n", cell(m.name), strings.ReplaceAll(form, "|", `\|`), cell(m.meaning))
			count++
		}
	}
	if count < 80 {
		t.Errorf("%d members are read, want at least 80", count)
	}
	golden(t, "ctx.md", strings.TrimRight(p.String(), "\n")+"\n")
}
