package sandbox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

const maxDepthIn = 1000 // of JSON from the parent; far below what the Go stack bears

var errJSON = errors.New("malformed JSON")

// jsonReader makes a script's value out of JSON from the parent. goja's JSON.parse does the same, at a
// quarter of the speed, and what a script did to its prototypes would show through.
type jsonReader struct {
	vm     *goja.Runtime
	s      string
	pos    int
	rounds bool // numbers, as JSON.parse does: of a stranger's text that no span holds
}

// parseJSON returns the value of one JSON text.
func parseJSON(vm *goja.Runtime, s string) (goja.Value, error) {
	r := jsonReader{vm: vm, s: s}
	return r.whole()
}

// whole reads the one value that the text is.
func (r *jsonReader) whole() (goja.Value, error) {
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.space(); r.pos != len(r.s) {
		return nil, r.fault()
	}
	return v, nil
}

func (r *jsonReader) fault() error { return fmt.Errorf("parse at byte %d: %w", r.pos, errJSON) }

func (r *jsonReader) space() {
	for r.pos < len(r.s) {
		switch r.s[r.pos] {
		case ' ', '\n', '\t', '\r':
			r.pos++
		default:
			return
		}
	}
}

// next skips space and returns the byte there, 0 at the end.
func (r *jsonReader) next() byte {
	r.space()
	if r.pos == len(r.s) {
		return 0
	}
	return r.s[r.pos]
}

func (r *jsonReader) value(depth int) (goja.Value, error) {
	if depth > maxDepthIn {
		return nil, r.fault()
	}
	switch c := r.next(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		s, err := r.text()
		return r.vm.ToValue(s), err
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	case c == 't':
		return r.word("true", r.vm.ToValue(true))
	case c == 'f':
		return r.word("false", r.vm.ToValue(false))
	case c == 'n':
		return r.word("null", goja.Null())
	}
	return nil, r.fault()
}

func (r *jsonReader) word(word string, v goja.Value) (goja.Value, error) {
	if !strings.HasPrefix(r.s[r.pos:], word) {
		return nil, r.fault()
	}
	r.pos += len(word)
	return v, nil
}

func (r *jsonReader) number() (goja.Value, error) {
	from, whole := r.pos, true
	for ; r.pos < len(r.s); r.pos++ {
		switch c := r.s[r.pos]; {
		case c >= '0' && c <= '9', c == '-' && r.pos == from:
			continue
		case c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-':
			whole = false
			continue
		}
		break
	}
	text := r.s[from:r.pos]
	if whole && len(text) <= 15 && text != "-0" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, r.fault()
		}
		return r.vm.ToValue(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, r.fault()
	}
	if !r.rounds && !isExact(text, f) {
		return r.vm.ToValue(text), nil
	}
	return r.vm.ToValue(f), nil
}

// isExact reports whether the shortest form of f is the same decimal as text. Of a number where it is not, a
// script gets the text: as a double it would be another one.
func isExact(text string, f float64) bool {
	if len(text) <= 15 && !strings.ContainsAny(text, "eE") {
		return true // 15 digits survive any double
	}
	if math.IsInf(f, 0) {
		return false
	}
	digits, point := significant(text)
	keptDigits, keptPoint := significant(strconv.FormatFloat(f, 'e', -1, 64))
	return digits == keptDigits && (point == keptPoint || digits == "")
}

// significant takes a number of JSON's grammar apart: its value is 0.digits × 10^point, with neither leading
// nor trailing zeros. The sign is left out.
func significant(text string) (digits string, point int) {
	text = strings.TrimPrefix(text, "-")
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		exponent, err := strconv.Atoi(text[e+1:])
		if err != nil { // beyond what any double reaches
			exponent = math.MaxInt32
		}
		text, point = text[:e], exponent
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	point += len(digits) - len(fraction)
	return strings.TrimRight(digits, "0"), point
}

func (r *jsonReader) array(depth int) (goja.Value, error) {
	r.pos++
	var items []any
	if r.next() == ']' {
		r.pos++
		return r.vm.NewArray(), nil
	}
	for {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
		switch r.next() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return r.vm.NewArray(items...), nil
		default:
			return nil, r.fault()
		}
	}
}

// members calls each with every key of an object; each must consume the value.
func (r *jsonReader) members(each func(key string) error) error {
	if r.next() != '{' {
		return r.fault()
	}
	r.pos++
	if r.next() == '}' {
		r.pos++
		return nil
	}
	for {
		if r.next() != '"' {
			return r.fault()
		}
		key, err := r.text()
		if err != nil {
			return err
		}
		if r.next() != ':' {
			return r.fault()
		}
		r.pos++
		if err := each(key); err != nil {
			return err
		}
		switch r.next() {
		case ',':
			r.pos++
		case '}':
			r.pos++
			return nil
		default:
			return r.fault()
		}
	}
}

func (r *jsonReader) object(depth int) (goja.Value, error) {
	o := r.vm.NewObject()
	return o, r.members(func(key string) error {
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		return define(o, key, v)
	})
}

// define makes an own property, whatever setters the prototypes have by now.
func define(o *goja.Object, key string, v goja.Value) error {
	return o.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
}

func (r *jsonReader) text() (string, error) {
	r.pos++
	from := r.pos
	for r.pos < len(r.s) {
		switch c := r.s[r.pos]; {
		case c == '"':
			s := r.s[from:r.pos]
			r.pos++
			return s, nil
		case c == '\\':
			return r.escaped(from)
		case c < 0x20:
			return "", r.fault()
		}
		r.pos++
	}
	return "", r.fault()
}

func (r *jsonReader) escaped(from int) (string, error) {
	buf := append(make([]byte, 0, r.pos-from+32), r.s[from:r.pos]...)
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		switch {
		case c == '"':
			return string(buf), nil
		case c < 0x20:
			return "", r.fault()
		case c != '\\':
			buf = append(buf, c)
			continue
		}
		if r.pos == len(r.s) {
			break
		}
		c = r.s[r.pos]
		r.pos++
		switch c {
		case '"', '\\', '/':
			buf = append(buf, c)
		case 'u':
			unit, err := r.unit()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, r.pair(unit))
		default:
			i := strings.IndexByte("bfnrt", c)
			if i < 0 {
				return "", r.fault()
			}
			buf = append(buf, "\b\f\n\r\t"[i])
		}
	}
	return "", r.fault()
}

func (r *jsonReader) unit() (rune, error) {
	if r.pos+4 > len(r.s) {
		return 0, r.fault()
	}
	n, err := strconv.ParseUint(r.s[r.pos:r.pos+4], 16, 16)
	if err != nil {
		return 0, r.fault()
	}
	r.pos += 4
	return rune(n), nil
}

// pair joins a surrogate with the one that follows; a lone one becomes U+FFFD, as in goja.
func (r *jsonReader) pair(high rune) rune {
	if !utf16.IsSurrogate(high) {
		return high
	}
	if strings.HasPrefix(r.s[r.pos:], `\u`) {
		back := r.pos
		r.pos += 2
		low, err := r.unit()
		if joined := utf16.DecodeRune(high, low); err == nil && joined != utf8.RuneError {
			return joined
		}
		r.pos = back
	}
	return utf8.RuneError
}
