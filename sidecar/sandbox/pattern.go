package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/parser"
)

// goja hands a regular expression to Go's regexp, or to regexp2 where that cannot do it, and both read some
// things by other rules than ECMAScript: property escapes are plain letters, named groups are lost in
// Unicode, [[:alpha:]] is a POSIX class, and lines, words and dots end elsewhere. translatePattern says the
// same in words that both read alike. testdata/patterns.json holds what Node answers.

const (
	maxPattern = 1 << 20 // bytes of a translated pattern
	lineEnds   = `\n\r\u2028\u2029`
)

var errPatternSize = errors.New("it is too large")

// patternReader rewrites one pattern.
type patternReader struct {
	source    string
	pos       int
	unicode   bool
	multiline bool
	dotAll    bool
	// strict: regexp2 may match it, whose dot and whose \b differ.
	strict bool
	inside bool // of a class
	named  bool // it has a named group
	out    strings.Builder
}

// translatePattern returns source itself where nothing has to change. What is malformed in another way than
// by a property is left to goja.
func translatePattern(source, flags string) (string, error) {
	out, err := rewritePattern(source, flags, strings.ContainsAny(flags, "gy"))
	if err != nil {
		return "", err
	}
	_, refused := parser.TransformRegExp(out, strings.Contains(flags, "s"), strings.Contains(flags, "u"))
	var incompatible parser.RegexpErrorIncompatible
	if errors.As(refused, &incompatible) {
		return rewritePattern(source, flags, true)
	}
	return out, nil
}

func rewritePattern(source, flags string, strict bool) (string, error) {
	r := patternReader{source: source, strict: strict, unicode: strings.Contains(flags, "u"),
		multiline: strings.Contains(flags, "m"), dotAll: strings.Contains(flags, "s")}
	for r.pos < len(source) {
		if err := r.next(); err != nil {
			return "", err
		}
		if r.out.Len() > maxPattern {
			return "", errPatternSize
		}
	}
	if r.named && r.unicode {
		r.out.WriteString("(?=)") // regexp2 keeps the groups
	}
	return r.out.String(), nil
}

// put writes with and goes on behind length bytes of the source.
func (r *patternReader) put(with string, length int) {
	r.out.WriteString(with)
	r.pos += length
}

func (r *patternReader) next() error {
	rest := r.source[r.pos:]
	switch c := rest[0]; {
	case c == '\\':
		return r.escape(rest)
	case r.inside && c == '[':
		r.put(`\[`, 1)
	case r.inside:
		r.inside = c != ']'
		r.put(rest[:1], 1)
	case c == '[':
		r.class(rest)
	case c == '.' && r.strict && !r.dotAll:
		r.put(`[^`+lineEnds+`]`, 1)
	case c == '^' && r.multiline:
		r.put(`(?<![^`+lineEnds+`])`, 1)
	case c == '$' && r.multiline:
		r.put(`(?![^`+lineEnds+`])`, 1)
	default:
		if strings.HasPrefix(rest, "(?<") && len(rest) > 3 && rest[3] != '=' && rest[3] != '!' {
			r.named = true
		}
		r.put(rest[:1], 1)
	}
	return nil
}

// class writes the head of a class. goja's own forms of [] and [^] end below the last planes.
func (r *patternReader) class(rest string) {
	switch {
	case r.unicode && strings.HasPrefix(rest, "[]"):
		r.put(`[^\0-\u{10FFFF}]`, 2)
	case r.unicode && strings.HasPrefix(rest, "[^]"):
		r.put(`[\0-\u{10FFFF}]`, 3)
	case strings.HasPrefix(rest, "[]"), strings.HasPrefix(rest, "[^]"):
		r.put(rest[:strings.IndexByte(rest, ']')+1], strings.IndexByte(rest, ']')+1)
	default:
		r.inside = true
		head := 1
		if strings.HasPrefix(rest, "[^") {
			head = 2
		}
		r.put(rest[:head], head)
	}
}

func (r *patternReader) escape(rest string) error {
	if len(rest) == 1 {
		r.put(rest, 1)
		return nil
	}
	switch c := rest[1]; {
	case r.unicode && (c == 'p' || c == 'P'):
		return r.property(rest, c == 'P')
	case c == 'b' && r.strict && !r.inside:
		r.put(`(?:(?<=\w)(?!\w)|(?<!\w)(?=\w))`, 2)
	case c == 'B' && r.strict && !r.inside:
		r.put(`(?:(?<=\w)(?=\w)|(?<!\w)(?!\w))`, 2)
	default:
		_, size := utf8.DecodeRuneInString(rest[1:])
		r.put(rest[:1+size], 1+size)
	}
	return nil
}

func (r *patternReader) property(rest string, negated bool) error {
	name, _, closed := strings.Cut(rest[2:], "}")
	if !closed || !strings.HasPrefix(name, "{") {
		return errors.New("a property escape without a {name}")
	}
	name = name[1:]
	ranges, err := propertyRanges(name)
	if err != nil {
		return err
	}
	if negated {
		ranges = complement(ranges)
	}
	length := len(`\p{}`) + len(name)
	switch {
	case r.inside:
		r.put(classText(ranges), length)
	case len(ranges) == 0:
		r.put(`[^\0-\u{10FFFF}]`, length)
	default:
		r.put("["+classText(ranges)+"]", length)
	}
	return nil
}

// classText writes ranges as they stand in a class.
func classText(ranges []runeRange) string {
	var b strings.Builder
	one := func(r rune) {
		if r < utf8.RuneSelf || !utf8.ValidRune(r) {
			fmt.Fprintf(&b, `\u{%X}`, r)
			return
		}
		b.WriteRune(r)
	}
	for _, x := range ranges {
		one(x.from)
		if x.to > x.from {
			b.WriteByte('-')
			one(x.to)
		}
	}
	return b.String()
}
