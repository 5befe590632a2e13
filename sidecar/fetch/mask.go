package fetch

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maskText     = "***"
	maskedMin    = 8 // bytes of a form that is not the secret itself: as config asks of a secret
	escapesDeep  = 3 // such as JSON in JSON in a URL
	escapeBegins = `\%&`
	entityMax    = 10   // bytes of an HTML entity
	hiddenByte   = 0xff // stands in no UTF-8
)

// formsOf are the texts by which a server could give a secret back, in lower case: itself and its encodings.
// Escapes of single characters are no forms: they are undone in the answer.
func formsOf(value string) []string {
	raw := []byte(value)
	forms := []string{value, hex.EncodeToString(raw),
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)}
	for text := value; len(text) >= maskedMin; text = unescape(text, nil) { // it may itself look escaped
		if forms = append(forms, text); text == unescape(text, nil) {
			break
		}
	}
	for i, form := range forms {
		forms[i] = string(lower(form))
	}
	return forms
}

// longestFirst sorts forms: one that is part of another must leave no rest of it.
func longestFirst(forms []string) []string {
	slices.SortFunc(forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(forms)
}

// hide replaces every secret of the operator in text, in whatever case and behind whatever escapes.
func (c *Client) hide(text string) string {
	for depth := range escapesDeep + 1 {
		plain := text
		for range depth {
			next := unescape(plain, nil)
			if next == plain {
				return text
			}
			plain = next
		}
		if folded := lower(plain); c.blot(folded) {
			text = cutOut(text, folded, origins(text, depth))
		}
	}
	return text
}

// blot overwrites the secrets in folded, and reports whether there were any.
func (c *Client) blot(folded []byte) (isFound bool) {
	for _, form := range c.masks {
		for from := 0; ; from += len(form) {
			next := bytes.Index(folded[from:], []byte(form))
			if next < 0 {
				break
			}
			from, isFound = from+next, true
			copy(folded[from:], bytes.Repeat([]byte{hiddenByte}, len(form)))
		}
	}
	return isFound
}

// origins tells for each byte of text without depth layers of escapes, and for its end, where in text it
// begins.
func origins(text string, depth int) []int {
	at := make([]int, len(text)+1)
	for i := range at {
		at[i] = i
	}
	for range depth {
		var next []int
		end := len(text)
		text = unescape(text, func(from int) { next = append(next, at[from]) })
		at = append(next, at[end])
	}
	return at
}

// cutOut replaces each run of hidden bytes in text, where they came from.
func cutOut(text string, folded []byte, at []int) string {
	var b strings.Builder
	kept := 0
	for i := 0; i < len(folded); i++ {
		if folded[i] != hiddenByte {
			continue
		}
		b.WriteString(text[kept:at[i]])
		b.WriteString(maskText)
		for i < len(folded) && folded[i] == hiddenByte {
			i++
		}
		kept = at[i]
	}
	b.WriteString(text[kept:])
	return b.String()
}

// lower folds ASCII alone: no letter changes its length.
func lower(text string) []byte {
	folded := []byte(text)
	for i, c := range folded {
		if 'A' <= c && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return folded
}

// unescape takes one layer of escapes off: those of JSON, of URLs and of HTML. note, if there is one, hears
// for each byte of the result where its escape begins.
func unescape(text string, note func(from int)) string {
	if !strings.ContainsAny(text, escapeBegins) && note == nil {
		return text
	}
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		size, before := 0, len(plain)
		switch text[i] {
		case '\\':
			plain, size = appendJSON(plain, text[i:])
		case '%':
			plain, size = appendCode(plain, text[i:], 1, 3)
		case '&':
			plain, size = appendEntity(plain, text[i:])
		}
		if size == 0 {
			plain, size = append(plain, text[i]), 1
		}
		for range len(plain) - before {
			if note != nil {
				note(i)
			}
		}
		i += size
	}
	return string(plain)
}

// appendJSON appends what the escape of JSON at the start of text means. A size of 0 says that there is none.
func appendJSON(plain []byte, text string) ([]byte, int) {
	if len(text) < 2 {
		return plain, 0
	}
	if text[1] == 'u' {
		return appendCode(plain, text, 2, 6)
	}
	at := strings.IndexByte(`"\/bfnrt`, text[1])
	if at < 0 {
		return plain, 0
	}
	return append(plain, "\"\\/\b\f\n\r\t"[at]), 2
}

// appendCode appends the character whose number stands in text[from:to] in hexadecimal digits.
func appendCode(plain []byte, text string, from, to int) ([]byte, int) {
	if len(text) < to {
		return plain, 0
	}
	code, err := strconv.ParseUint(text[from:to], 16, 16)
	if err != nil || code >= utf8.RuneSelf {
		return plain, 0 // secrets are ASCII
	}
	return append(plain, byte(code)), to
}

func appendEntity(plain []byte, text string) ([]byte, int) {
	end := strings.IndexByte(text[:min(len(text), entityMax)], ';')
	if end < 0 {
		return plain, 0
	}
	entity := text[:end+1]
	meant := html.UnescapeString(entity)
	if meant == entity || strings.LastIndexByte(entity, '&') > 0 {
		return plain, 0
	}
	return append(plain, meant...), len(entity)
}
