package sandbox

import (
	"encoding/base64"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// bytesValue makes a Uint8Array.
func (t *task) bytesValue(b []byte) goja.Value {
	v, err := t.vm.New(t.vm.Get("Uint8Array"), t.vm.ToValue(t.vm.NewArrayBuffer(b)))
	if err != nil {
		t.raise(err)
	}
	return v
}

func (t *task) encodeText(c goja.FunctionCall) goja.Value {
	return t.bytesValue([]byte(c.Argument(0).String()))
}

// decodeText is (bytes, fatal, stream) and gives [text, bytes that the next part must complete].
func (t *task) decodeText(c goja.FunctionCall) goja.Value {
	text, rest, ok := decodeUTF8(t.bytesOf(c.Argument(0), "decode"), c.Argument(2).ToBoolean())
	if !ok && c.Argument(1).ToBoolean() {
		panic(t.vm.NewTypeError("The encoded data was not valid for encoding utf-8"))
	}
	return t.vm.NewArray(text, t.bytesValue(append([]byte{}, rest...)))
}

// decodeUTF8 decodes as the Encoding Standard says: each longest start of a sequence that cannot go on is
// one U+FFFD, and ok is false. With more, an unfinished sequence at the end is rest.
func decodeUTF8(b []byte, more bool) (text string, rest []byte, ok bool) {
	var out strings.Builder
	ok = true
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			n := 1
			for n < len(b) && b[n] < utf8.RuneSelf {
				n++
			}
			out.Write(b[:n])
			b = b[n:]
			continue
		}
		n, need := sequence(b)
		switch {
		case n == need:
			out.Write(b[:n])
		case n == len(b) && need > 0 && more:
			return out.String(), b, ok
		default:
			out.WriteRune(utf8.RuneError)
			ok = false
		}
		b = b[n:]
	}
	return out.String(), nil, ok
}

// sequence measures the longest part of b that is the start of a UTF-8 sequence, at least one byte, and says
// how long the whole sequence is: 0 where b[0] starts none.
func sequence(b []byte) (n, need int) {
	low, high := byte(0x80), byte(0xBF)
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		need = 2
	case c >= 0xE0 && c <= 0xEF:
		need = 3
		if c == 0xE0 {
			low = 0xA0
		} else if c == 0xED {
			high = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		need = 4
		if c == 0xF0 {
			low = 0x90
		} else if c == 0xF4 {
			high = 0x8F
		}
	default:
		return 1, 0
	}
	for n = 1; n < need && n < len(b) && b[n] >= low && b[n] <= high; n++ {
		low, high = 0x80, 0xBF
	}
	return n, need
}

// btoa gives undefined where a character is beyond Latin1.
func (t *task) btoa(c goja.FunctionCall) goja.Value {
	text := c.Argument(0).String()
	latin1 := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xFF {
			return goja.Undefined()
		}
		latin1 = append(latin1, byte(r))
	}
	return t.vm.ToValue(base64.StdEncoding.EncodeToString(latin1))
}

// atob is the forgiving decoding of https://infra.spec.whatwg.org, and undefined where it fails.
func (t *task) atob(c goja.FunctionCall) goja.Value {
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune("\t\n\f\r ", r) {
			return -1
		}
		return r
	}, c.Argument(0).String())
	if len(text)%4 == 0 {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "="), "=")
	}
	decoded, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return goja.Undefined()
	}
	runes := make([]rune, len(decoded))
	for i, b := range decoded {
		runes[i] = rune(b)
	}
	return t.vm.ToValue(string(runes))
}

// parseForm reads application/x-www-form-urlencoded into [[name, value]…].
func (t *task) parseForm(c goja.FunctionCall) goja.Value {
	var list []any
	for part := range strings.SplitSeq(c.Argument(0).String(), "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		list = append(list, t.vm.NewArray(unescapeForm(name), unescapeForm(value)))
	}
	return t.vm.NewArray(list...)
}

// unescapeForm leaves what is no percent-encoded byte as it is.
func unescapeForm(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	text, _, _ := decodeUTF8(b, false)
	return text
}

func unhex(c byte) int { return strings.IndexByte("0123456789abcdef", byte(unicode.ToLower(rune(c)))) }

// formatForm writes [[name, value]…].
func (t *task) formatForm(c goja.FunctionCall) goja.Value {
	var list [][]string
	if err := t.vm.ExportTo(c.Argument(0), &list); err != nil {
		t.raise(err)
	}
	parts := make([]string, len(list))
	for i, pair := range list {
		parts[i] = escapeForm(pair[0]) + "=" + escapeForm(pair[1])
	}
	return t.vm.ToValue(strings.Join(parts, "&"))
}

// escapeForm differs from Go's QueryEscape in two characters.
func escapeForm(s string) string {
	return strings.NewReplacer("~", "%7E", "%2A", "*").Replace(url.QueryEscape(s))
}
