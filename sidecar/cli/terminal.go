package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// output is where a command prints. It remembers that some of it could not be written. It is safe for
// concurrent use where its Writer is.
type output struct {
	io.Writer
	fault atomic.Pointer[error]
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.fault.CompareAndSwap(nil, &err)
	}
	return n, err
}

// isTerminal reports whether w is one: only there is anything colored, and only there is told what a script
// does not want to read (headings, progress, hints).
func isTerminal(w io.Writer) bool {
	if to, isOutput := w.(*output); isOutput {
		w = to.Writer
	}
	file, isFile := w.(*os.File)
	if !isFile {
		return false
	}
	return term.IsTerminal(int(file.Fd()))
}

// paint colors text for one writer. Its zero value leaves text as it is.
type paint struct{ isOn bool }

// paintFor colors where w is a terminal that may be colored (NO_COLOR, see no-color.org, and TERM=dumb).
func paintFor(w io.Writer) paint {
	return paint{isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p paint) in(code, text string) string {
	if !p.isOn || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) red(text string) string    { return p.in("31", text) }
func (p paint) green(text string) string  { return p.in("32", text) }
func (p paint) yellow(text string) string { return p.in("33", text) }
func (p paint) dim(text string) string    { return p.in("2", text) }

// status colors the state of a span by what it means to whoever waits.
func (p paint) status(text string) string {
	switch strings.TrimSpace(text) {
	case "complete", "ok":
		return p.green(text)
	case "error", "dead", "fault", "failed":
		return p.red(text)
	case "running", "retry", "blocked", "cancelled", "cancel_requested", "warn":
		return p.yellow(text)
	}
	return text
}

// isHidden reports whether a letter does something to a terminal, or to the order of a line, and shows
// nothing. Lines and tabs count, too.
func isHidden(letter rune) bool {
	return unicode.In(letter, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// plainText is text on one line of a terminal, of at most n letters: it is a stranger's.
func plainText(text string, n int) string {
	letters := []rune(strings.Map(func(letter rune) rune {
		if isHidden(letter) {
			return ' '
		}
		return letter
	}, text))
	if len(letters) > n {
		letters = append(letters[:n-1], '…')
	}
	return string(letters)
}

// plainLines is plainText of a text that has lines of its own.
func plainLines(text string) string {
	return strings.Map(func(letter rune) rune {
		if isHidden(letter) && letter != '\n' && letter != '\t' {
			return ' '
		}
		return letter
	}, text)
}

// printJSON writes a value in JSON: on lines of their own for people, on one line where it is one of many. A
// terminal gets nothing to act on: what encoding/json leaves as it is stands escaped, which says the same.
func printJSON(w io.Writer, value any, isOneOfMany bool) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if !isOneOfMany {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode what is to be printed: %w", err)
	}
	_, err := w.Write(escapeHidden(text.Bytes()))
	return err
}

// escapeHidden escapes letters of strings in JSON; outside of strings only lines and spaces are hidden.
func escapeHidden(text []byte) []byte {
	if bytes.IndexFunc(text, func(letter rune) bool { return isHidden(letter) && letter != '\n' }) < 0 {
		return text
	}
	var escaped []byte
	for _, letter := range string(text) {
		if isHidden(letter) && letter != '\n' {
			escaped = fmt.Appendf(escaped, "\\u%04x", letter)
			continue
		}
		escaped = utf8.AppendRune(escaped, letter)
	}
	return escaped
}

// table aligns columns of plain text, and colors the cells of one that says how something stands. The last
// column is not padded.
type table struct {
	rows   [][]string
	status int // the column that is colored; -1: none
}

// add keeps a row.
func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the rows, of which the first is the heading.
func (t *table) print(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	color := paintFor(w)
	var text strings.Builder
	for n, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			padding := ""
			if i < len(row)-1 {
				padding = strings.Repeat(" ", widths[i]-len([]rune(cell))+2)
			}
			switch {
			case n == 0:
				cell = color.dim(cell)
			case i == t.status:
				cell = color.status(cell)
			}
			line.WriteString(cell + padding)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}
