package span

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// maxJSONDepth is how deep arrays and objects may nest in a jsonb column.
const maxJSONDepth = 64

// A number of a jsonb column has at most maxNumberLength characters, an exponent of at most
// maxNumberExponent either way, and maxNumberDecimals digits behind the point as Postgres prints it
// (no exponent). Every double fits; what is longer, the ledger refuses.
const (
	maxNumberLength   = 1100
	maxNumberExponent = 400
	maxNumberDecimals = 400
)

// CheckJSON refuses a JSON text whose meaning would not survive jsonb and RFC 8785: a number that
// is no exact double (its shortest double form denotes another decimal value), nesting deeper
// than 64, U+0000, a lone surrogate, a repeated key, bytes that are not UTF-8, or no JSON at all.
// The error is a *Refusal with CodeBadSpan that names path and byte offset.
func CheckJSON(raw json.RawMessage) error {
	writer := jsonWriter{out: make([]byte, 0, len(raw))}
	if fault := writer.document(raw); fault != nil {
		return fault.refusal("JSON")
	}
	return nil
}

// jsonWriter reads one strict JSON text after another and appends the RFC 8785 form to out. One
// pass checks and writes, because both need every byte. gowebpki/jcs, which takes inexact numbers
// and repeated keys and needs 42 µs per KB, gives the number format here and is the oracle in the tests.
type jsonWriter struct {
	out       []byte
	moreBytes int // at most this much longer than in out is the last document as Postgres prints it

	raw     []byte
	offset  int
	depth   int
	members []jsonMember // of all open objects, innermost last
	scratch []byte
}

// jsonMember is one member of an open object: out[start:end] holds "key":value.
type jsonMember struct {
	key        []byte // decoded
	start, end int
}

// jsonFault is where and why a JSON text is refused. The path grows towards the front while the
// reader unwinds.
type jsonFault struct {
	path    string
	offset  int
	problem string
	mend    string
}

func (f *jsonFault) refusal(root string) *Refusal {
	return badSpan(fmt.Sprintf("%s%.200s at byte %d: %s", root, f.path, f.offset, f.problem), f.mend)
}

func (w *jsonWriter) fault(offset int, problem, mend string) *jsonFault {
	return &jsonFault{offset: offset, problem: problem, mend: mend}
}

func (w *jsonWriter) malformed(want string) *jsonFault {
	found := "the end"
	if w.offset < len(w.raw) {
		found = strconv.QuoteRune(rune(w.raw[w.offset]))
	}
	return w.fault(w.offset, "want "+want+", found "+found, "send well-formed JSON (RFC 8259)")
}

// document reads raw as one JSON text.
func (w *jsonWriter) document(raw []byte) *jsonFault {
	w.raw, w.offset, w.depth, w.members = raw, 0, 0, w.members[:0]
	w.moreBytes = 0
	if !utf8.Valid(raw) {
		offset := 0
		for offset < len(raw) {
			r, size := utf8.DecodeRune(raw[offset:])
			if r == utf8.RuneError && size <= 1 {
				break
			}
			offset += size
		}
		return w.fault(offset, "the bytes are not UTF-8", "encode the text as UTF-8")
	}
	if fault := w.value(); fault != nil {
		return fault
	}
	if w.space(); w.offset < len(raw) {
		return w.malformed("the end")
	}
	return nil
}

// isNullJSON reports whether raw is absent or JSON null.
func isNullJSON(raw json.RawMessage) bool {
	return raw == nil || string(bytes.Trim(raw, " \t\r\n")) == "null"
}

func (w *jsonWriter) space() {
	for w.offset < len(w.raw) {
		switch w.raw[w.offset] {
		case ' ', '\t', '\n', '\r':
			w.offset++
		default:
			return
		}
	}
}

// take skips space and consumes c where it is next.
func (w *jsonWriter) take(c byte) bool {
	w.space()
	if w.offset < len(w.raw) && w.raw[w.offset] == c {
		w.offset++
		return true
	}
	return false
}

func (w *jsonWriter) value() *jsonFault {
	w.space()
	if w.offset == len(w.raw) {
		return w.malformed("a value")
	}
	switch c := w.raw[w.offset]; {
	case c == '{', c == '[':
		if w.depth++; w.depth > maxJSONDepth {
			return w.fault(w.offset, "nested deeper than "+strconv.Itoa(maxJSONDepth), "flatten the value")
		}
		w.offset++
		w.out = append(w.out, c)
		var fault *jsonFault
		if c == '{' {
			fault = w.object()
		} else {
			fault = w.array()
		}
		w.depth--
		return fault
	case c == '"':
		text, plain, fault := w.text()
		if fault != nil {
			return fault
		}
		w.appendString(text, plain)
		return nil
	case c == '-' || '0' <= c && c <= '9':
		return w.number()
	}
	for _, literal := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(w.raw[w.offset:], []byte(literal)) {
			w.offset += len(literal)
			w.out = append(w.out, literal...)
			return nil
		}
	}
	return w.malformed("a value")
}

func (w *jsonWriter) array() *jsonFault {
	for i := 0; ; i++ {
		if i == 0 && w.take(']') {
			break
		}
		if i > 0 {
			w.out = append(w.out, ',')
			w.moreBytes++ // the space behind it
		}
		if fault := w.value(); fault != nil {
			fault.path = "[" + strconv.Itoa(i) + "]" + fault.path
			return fault
		}
		if w.take(']') {
			break
		}
		if !w.take(',') {
			return w.malformed("',' or ']'")
		}
	}
	w.out = append(w.out, ']')
	return nil
}

func (w *jsonWriter) object() *jsonFault {
	base, body, sorted := len(w.members), len(w.out), true
	for first := true; ; first = false {
		if first && w.take('}') {
			break
		}
		if w.space(); w.offset == len(w.raw) || w.raw[w.offset] != '"' {
			return w.malformed("a key")
		}
		keyOffset, start := w.offset, len(w.out)
		key, plain, fault := w.text()
		if fault != nil {
			return fault
		}
		w.appendString(key, plain)
		if !w.take(':') {
			return w.malformed("':'")
		}
		w.out = append(w.out, ':')
		w.moreBytes++
		if fault := w.value(); fault != nil {
			fault.path = "." + string(key) + fault.path
			return fault
		}
		if n := len(w.members); n > base {
			order := compareUTF16(w.members[n-1].key, key)
			if order == 0 {
				return repeatedKey(keyOffset, key)
			}
			sorted = sorted && order < 0
		}
		w.members = append(w.members, jsonMember{key: key, start: start, end: len(w.out)})
		if w.take('}') {
			break
		}
		if !w.take(',') {
			return w.malformed("',' or '}'")
		}
		w.out = append(w.out, ',')
		w.moreBytes++
	}
	if !sorted {
		if key := w.sortMembers(base, body); key != nil {
			return repeatedKey(w.offset, key)
		}
	}
	w.members = w.members[:base]
	w.out = append(w.out, '}')
	return nil
}

func repeatedKey(offset int, key []byte) *jsonFault {
	return &jsonFault{path: "." + string(key), offset: offset, problem: "the key stands twice in one object",
		mend: "state each key once"}
}

// sortMembers orders the members from w.members[base] on, whose text is out[body:]. It returns a
// key that stands twice, else nil.
func (w *jsonWriter) sortMembers(base, body int) []byte {
	members := w.members[base:]
	slices.SortFunc(members, func(a, b jsonMember) int { return compareUTF16(a.key, b.key) })
	w.scratch = append(w.scratch[:0], w.out[body:]...)
	w.out = w.out[:body]
	for i, member := range members {
		if i > 0 {
			if bytes.Equal(members[i-1].key, member.key) {
				return member.key
			}
			w.out = append(w.out, ',')
		}
		w.out = append(w.out, w.scratch[member.start-body:member.end-body]...)
	}
	return nil
}

// compareUTF16 orders two UTF-8 texts by their UTF-16 code units (RFC 8785 §3.2.3). That is byte
// order, but for characters from U+10000 (first byte from F0), whose surrogates come before
// U+E000 to U+FFFF (first byte EE or EF).
func compareUTF16(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x != y {
			if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
				return int(y) - int(x)
			}
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

// text consumes a string. Where plain is true the text needs no escapes: it is a part of raw.
func (w *jsonWriter) text() (text []byte, plain bool, fault *jsonFault) {
	w.offset++
	start := w.offset
	for ; w.offset < len(w.raw); w.offset++ {
		switch c := w.raw[w.offset]; {
		case c == '"':
			w.offset++
			return w.raw[start : w.offset-1], true, nil
		case c == '\\':
			text, fault = w.escapedText(start)
			return text, false, fault
		case c < 0x20:
			return nil, false, w.malformed("no bare control character in a string")
		}
	}
	return nil, false, w.malformed("the closing '\"' of a string")
}

// escapedText goes on with a string at its first backslash.
func (w *jsonWriter) escapedText(start int) ([]byte, *jsonFault) {
	text := append(make([]byte, 0, 2*(w.offset-start)+32), w.raw[start:w.offset]...)
	for w.offset < len(w.raw) {
		c := w.raw[w.offset]
		switch {
		case c == '"':
			w.offset++
			return text, nil
		case c < 0x20:
			return nil, w.malformed("no bare control character in a string")
		case c != '\\':
			text = append(text, c)
			w.offset++
			continue
		}
		if w.offset+1 == len(w.raw) {
			break
		}
		if i := bytes.IndexByte([]byte(`"\/bfnrt`), w.raw[w.offset+1]); i >= 0 {
			text = append(text, "\"\\/\b\f\n\r\t"[i])
			w.offset += 2
			continue
		}
		r, fault := w.unicodeEscape()
		if fault != nil {
			return nil, fault
		}
		text = utf8.AppendRune(text, r)
	}
	return nil, w.malformed("the closing '\"' of a string")
}

// unicodeEscape consumes \uXXXX, or a surrogate pair of them.
func (w *jsonWriter) unicodeEscape() (rune, *jsonFault) {
	start := w.offset
	r, ok := w.hexEscape()
	if !ok {
		return 0, w.malformed(`an escape of RFC 8259, for example \n or \u00e9`)
	}
	if r == 0 {
		return 0, w.fault(start, "the string holds U+0000", "remove it; Postgres cannot store it")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	low, ok := w.hexEscape()
	if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
		return pair, nil
	}
	return 0, w.fault(start, "the string holds a lone surrogate", "send both halves of the pair, or U+FFFD")
}

func (w *jsonWriter) hexEscape() (rune, bool) {
	if w.offset+6 > len(w.raw) || w.raw[w.offset] != '\\' || w.raw[w.offset+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range w.raw[w.offset+2 : w.offset+6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	w.offset += 6
	return r, true
}

func (w *jsonWriter) appendString(text []byte, plain bool) {
	if plain {
		w.out = append(w.out, '"')
		w.out = append(w.out, text...)
		w.out = append(w.out, '"')
		return
	}
	w.out = appendString(w.out, text)
}

// appendString writes a string as RFC 8785 §3.2.2.2 does. text must be UTF-8.
func appendString[T string | []byte](out []byte, text T) []byte {
	const hexDigits = "0123456789abcdef"
	out = append(out, '"')
	written := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		out = append(out, text[written:i]...)
		written = i + 1
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\b', '\t', '\n', '\f', '\r':
			out = append(out, '\\', "btn\x00fr"[c-'\b'])
		default:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	out = append(out, text[written:]...)
	return append(out, '"')
}

func (w *jsonWriter) digits() int {
	start := w.offset
	for w.offset < len(w.raw) && '0' <= w.raw[w.offset] && w.raw[w.offset] <= '9' {
		w.offset++
	}
	return w.offset - start
}

func (w *jsonWriter) number() *jsonFault {
	start, whole := w.offset, true
	if w.raw[w.offset] == '-' {
		w.offset++
	}
	if leading := w.offset; w.digits() == 0 || w.raw[leading] == '0' && w.offset > leading+1 {
		w.offset = leading
		return w.malformed("digits without a leading zero")
	}
	if w.offset < len(w.raw) && w.raw[w.offset] == '.' {
		w.offset++
		whole = false
		if w.digits() == 0 {
			return w.malformed("a digit")
		}
	}
	if w.offset < len(w.raw) && w.raw[w.offset]|0x20 == 'e' {
		w.offset++
		whole = false
		if w.offset < len(w.raw) && (w.raw[w.offset] == '+' || w.raw[w.offset] == '-') {
			w.offset++
		}
		if w.digits() == 0 {
			return w.malformed("a digit")
		}
	}
	number := w.raw[start:w.offset]
	if whole && len(number) <= 15 && string(number) != "-0" {
		w.out = append(w.out, number...) // fewer than 2^53: always exact
		return nil
	}
	exact, ok := exactNumber(string(number))
	if !ok {
		return w.fault(start, fmt.Sprintf("%.40s is no exact double: it would be stored as another number", number),
			"send it as a string, or rounded as JSON.stringify writes it")
	}
	w.moreBytes += max(0, printedBytes(string(number))-len(exact))
	w.out = append(w.out, exact...)
	return nil
}

// exactNumber returns number (of JSON's grammar) as RFC 8785 writes it, and false where no double
// has a shortest form of the same decimal value.
func exactNumber(number string) (string, bool) {
	if len(number) > maxNumberLength {
		return "", false
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return "", false // out of range; the grammar was checked
	}
	shortest, err := jcs.NumberToJSON(value)
	if err != nil {
		return "", false
	}
	stated, ok := parseDecimal(number)
	if !ok || stated.exponent > maxNumberExponent || stated.exponent < -maxNumberExponent ||
		stated.fraction-stated.exponent > maxNumberDecimals {
		return "", false
	}
	kept, _ := parseDecimal(shortest)
	return shortest, stated.value() == kept.value()
}
