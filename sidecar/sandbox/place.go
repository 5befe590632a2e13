package sandbox

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

const framesMost = 10 // of an error's stack

// authored is what is remembered of a source to name places in it. Lines end as in ECMAScript; columns count
// UTF-16 units, as editors do. Both count from 1.
type authored struct {
	lines int
	wide  map[int]string // those that are not ASCII
	end   int            // the column behind the last line
}

func newAuthored(source string) authored {
	a := authored{wide: map[int]string{}}
	for more := true; more; {
		var line string
		line, source, more = cutLine(source)
		a.lines++
		if strings.IndexFunc(line, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			a.wide[a.lines] = line
		}
		a.end = units(line) + 1
	}
	return a
}

func cutLine(source string) (line, rest string, more bool) {
	i := strings.IndexAny(source, "\n\r\u2028\u2029")
	if i < 0 {
		return source, "", false
	}
	_, size := utf8.DecodeRuneInString(source[i:])
	if strings.HasPrefix(source[i:], "\r\n") {
		size = 2
	}
	return source[:i], source[i+size:], true
}

func units(text string) int {
	n := 0
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}

// column turns a column that counts bytes into one that counts units.
func (a *authored) column(line, inBytes int) int {
	text, isWide := a.wide[line]
	if !isWide || inBytes <= 0 {
		return inBytes
	}
	return units(strings.ToValidUTF8(text[:min(inBytes-1, len(text))], "\uFFFD")) + 1
}

// settle puts the place of a syntax error into the author's source. What is expected behind its end, the
// wrapper has there.
func (a *authored) settle(e *Error) *Error {
	if e.Line <= a.lines {
		e.Column = a.column(e.Line, e.Column)
		return e
	}
	e.Line, e.Column = a.lines, a.end
	if strings.HasPrefix(e.Message, "SyntaxError: Unexpected token") {
		e.Message = "SyntaxError: Unexpected end of input"
	}
	return e
}

// place is a place in the author's source, and the name of the function around it.
type place struct {
	name         string
	line, column int
}

// settle turns what goja says of compiled source into a place; false where it is none of the author's.
func (p *program) settle(name string, line, column int) (place, bool) {
	at := place{line: line - p.shift, column: column + p.left}
	if at.line < 1 || at.line > p.source.lines || column < 0 {
		return place{}, false
	}
	if p.left == 0 {
		at.column = p.source.column(at.line, at.column)
	}
	if !strings.HasPrefix(name, "<") && name != bodyName {
		at.name = name
	}
	return at, true
}

// places are the author's frames of a stack, the innermost first.
func (p *program) places(stack []goja.StackFrame) []place {
	var list []place
	for i := range stack {
		if stack[i].SrcName() != codeName {
			continue
		}
		at := stack[i].Position()
		if found, ok := p.settle(stack[i].FuncName(), at.Line, at.Column); ok {
			list = append(list, found)
		}
	}
	return list
}

// traceLine is a frame in the text of an Error's stack: "\tat f (code:3:5(7))", or without a name.
var traceLine = regexp.MustCompile(`(?m)^\s*at (?:(.+) \()?` + codeName +
	`:(\d{1,9}):(\d{1,9})\(\d+\)\)?\s*$`)

// traced finds the author's frames in the text of an Error's stack.
func (p *program) traced(stack string) []place {
	var list []place
	for _, m := range traceLine.FindAllStringSubmatch(stack, 4*framesMost) {
		line, err := strconv.Atoi(m[2])
		column, worse := strconv.Atoi(m[3])
		if err != nil || worse != nil {
			continue
		}
		if found, ok := p.settle(m[1], line, column); ok {
			list = append(list, found)
		}
	}
	return list
}

// readable puts the author's places into a text that shows the stack of an Error.
func (p *program) readable(text string) string {
	if p == nil || !strings.Contains(text, codeName+":") {
		return text
	}
	return traceLine.ReplaceAllStringFunc(text, func(line string) string {
		list := p.traced(line)
		if len(list) == 0 {
			return "    at (the sandbox)"
		}
		return "    " + list[0].String()
	})
}

// String is "at name (line:column)".
func (p place) String() string {
	if p.name == "" {
		return fmt.Sprintf("at %d:%d", p.line, p.column)
	}
	return fmt.Sprintf("at %s (%d:%d)", cutTo(p.name, 100), p.line, p.column)
}

// blame puts the first place into e, and all of them as a stack where there are several.
func (e *Error) blame(list []place) {
	if len(list) == 0 {
		return
	}
	e.Line, e.Column = list[0].line, list[0].column
	if len(list) == 1 {
		return
	}
	lines := make([]string, 0, framesMost)
	for _, at := range list[:min(len(list), framesMost)] {
		lines = append(lines, at.String())
	}
	e.Stack = strings.Join(lines, "\n")
}

// shiftColumns moves the generated side of a source map's mappings one column to the right: goja asks with
// columns that count from 1, in a map whose columns count from 0.
func shiftColumns(mappings []byte) []byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	lines := bytes.Split(mappings, []byte(";"))
	for i, line := range lines {
		value, length := 0, 0
		for shift := 0; length < len(line); shift += 5 {
			digit := strings.IndexByte(digits, line[length])
			if digit < 0 {
				return mappings
			}
			length++
			if value |= digit & 31 << shift; digit&32 == 0 {
				break
			}
		}
		if length == 0 {
			continue
		}
		var moved []byte
		for value += 2; ; value >>= 5 { // the lowest bit is the sign
			if value < 32 {
				moved = append(moved, digits[value])
				break
			}
			moved = append(moved, digits[value&31|32])
		}
		lines[i] = append(moved, line[length:]...)
	}
	return bytes.Join(lines, []byte(";"))
}
