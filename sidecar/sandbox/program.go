package sandbox

import (
	"container/list"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

const (
	codeName      = "code" // the file name in stack traces
	maxPrograms   = 256    // in the cache of one child
	maxCacheBytes = 512 << 10
	maxExports    = 16 // in plain JavaScript; more go through esbuild
)

// program is compiled source. shift is the number of lines that stand above the author's first one; left
// is what a column lacks (columns of a source map count from 0).
type program struct {
	code  *goja.Program
	async bool
	shift int
	left  int
	// source is the author's.
	source authored
	// exports: it has some. idle: it defines functions and does nothing else; the first of them.
	exports bool
	idle    place
	// globals that the source may look at, beside those of the language.
	globals []string
	// patterns are the author's by what they were translated to. mendsPatterns: what works with them has to be
	// mended; makesPatterns: RegExp may be called.
	patterns                     map[string]string
	mendsPatterns, makesPatterns bool
	namesStatics                 bool
	namesContext                 bool // it may look at ctx before its entry is called
}

// recent is a set of keys bounded by number and bytes: the least recently used leave first. The parent keeps
// one for each child as a guess of what the child has; a wrong guess costs a frame.
type recent[V any] struct {
	order *list.List // of *kept[V], most recent first
	index map[programKey]*list.Element
	bytes int
}

type kept[V any] struct {
	key   programKey
	size  int
	value V
}

func newRecent[V any]() *recent[V] {
	return &recent[V]{order: list.New(), index: map[programKey]*list.Element{}}
}

func (r *recent[V]) get(key programKey) (value V, ok bool) {
	at, ok := r.index[key]
	if !ok {
		return value, false
	}
	r.order.MoveToFront(at)
	return at.Value.(*kept[V]).value, true
}

func (r *recent[V]) put(key programKey, size int, value V) {
	r.drop(key)
	r.index[key] = r.order.PushFront(&kept[V]{key: key, size: size, value: value})
	r.bytes += size
	for r.order.Len() > 1 && (r.order.Len() > maxPrograms || r.bytes > maxCacheBytes) {
		r.drop(r.order.Back().Value.(*kept[V]).key)
	}
}

func (r *recent[V]) drop(key programKey) {
	if at, ok := r.index[key]; ok {
		r.bytes -= at.Value.(*kept[V]).size
		r.order.Remove(at)
		delete(r.index, key)
	}
}

// programs is the cache of a child. A program that two tasks want at once is compiled once.
type programs struct {
	mu     sync.Mutex
	recent *recent[*compiled]
}

type compiled struct {
	once    sync.Once
	source  Program
	entry   Entry
	program *program
	failed  *Error
}

func newPrograms() *programs { return &programs{recent: newRecent[*compiled]()} }

func (p *programs) offer(key programKey, source Program, entry Entry) *compiled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.recent.get(key); ok {
		return c
	}
	c := &compiled{source: source, entry: entry}
	p.recent.put(key, len(source.Source), c)
	return c
}

func (p *programs) find(key programKey) *compiled {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, _ := p.recent.get(key)
	return c
}

func (c *compiled) get() (*program, *Error) {
	c.once.Do(func() {
		if c.program, c.failed = compileProgram(c.source, c.entry); c.program != nil {
			c.program.globals = namesGlobals(c.source.Source)
			c.program.namesContext = strings.Contains(c.source.Source, "ctx") ||
				hidesNames.MatchString(c.source.Source)
			c.program.namesStatics = namesStatics.MatchString(c.source.Source)
			c.program.makesPatterns = namesRegExp.MatchString(c.source.Source)
		}
		c.source.Source = ""
	})
	return c.program, c.failed
}

// compileProgram tries goja first and esbuild for what goja does not read. A byte order mark is no part of
// the source.
func compileProgram(p Program, entry Entry) (*program, *Error) {
	p.Source = strings.TrimPrefix(p.Source, "\uFEFF")
	source := newAuthored(p.Source)
	compiled, failed := p.compile(entry)
	if failed != nil {
		return nil, source.settle(p.located(failed))
	}
	compiled.source = source
	return compiled, nil
}

func (p Program) compile(entry Entry) (*program, *Error) {
	if p.Language == "typescript" {
		return translate(p.Source, entry, true)
	}
	form := form{source: p.Source, entry: entry}
	compiled, failed := form.compile()
	if failed == nil || failed.Message == noImports {
		return compiled, failed
	}
	if translated, worse := translate(p.Source, entry, false); worse == nil {
		return translated, nil
	}
	return nil, failed
}

// located prefers what esbuild says of the source as it is, where that stands further up: goja names the
// place where it gave up, and a surplus brace closes the wrapper.
func (p Program) located(failed *Error) *Error {
	if failed.Code != CodeSyntax || failed.Message == noImports {
		return failed
	}
	_, _, other := transform(p.Source, p.Language == "typescript")
	if other == nil || other.Line == 0 || other.Line > failed.Line ||
		other.Line == failed.Line && other.Column >= failed.Column {
		return failed
	}
	return other
}

// bodyName is the function that a body is put into before it is translated.
const bodyName = "$ll_body"

const noImports = "SyntaxError: import is not available, ledger code is one file"

// form is a source on its way into the wrapper, which makes every form a function of (input, ctx):
//
//	(function(input, ctx, $ll_entry, $ll_x){return (function(){
//	…source…
//	;return $ll_entry(typeof main==="function"?main:undefined)})()})
//
// A body returns its output; everything else falls through to $ll_entry. The inner function lets the source
// declare names like ctx itself. `export` is no token inside a function, so goja's parser points at each
// one; it is then overwritten by text of the same length ("export default " by "$ll_x.default= "), which
// moves no position and cannot hit a string or a comment.
type form struct {
	source  string
	entry   Entry
	shift   int    // lines above the author's first in source itself
	mapping []byte // source map of source, nil if it is the author's
	closed  bool   // source defines bodyName, which has the trailer already
	named   []string
	module  bool
}

func (f *form) entryName() string {
	if f.entry == EntryPolicy {
		return "on"
	}
	return "main"
}

func (f *form) trailer() string {
	name := f.entryName()
	return `;return $ll_entry(typeof ` + name + `==="function"?` + name + `:undefined)`
}

func (f *form) text(async bool) string {
	var b strings.Builder
	b.WriteString("(function(input, ctx, $ll_entry, $ll_x){return (")
	if async {
		b.WriteString("async ")
	}
	b.WriteString("function(){")
	if f.module {
		b.WriteString(`"use strict";`)
	}
	b.WriteString("\n" + f.source + "\n")
	for _, assignment := range f.named {
		b.WriteString(";" + assignment)
	}
	if f.closed {
		b.WriteString(";return " + bodyName + "()")
	} else {
		b.WriteString(f.trailer())
	}
	b.WriteString("})()})")
	if f.mapping != nil {
		b.WriteString("\n//# sourceMappingURL=map")
	}
	return b.String()
}

// compile returns the program, or the syntax error that no rewriting of exports could cure.
func (f *form) compile() (*program, *Error) {
	async := strings.Contains(f.source, "await")
	options := []parser.Option{parser.WithDisableSourceMaps}
	if f.mapping != nil {
		options[0] = parser.WithSourceMapLoader(func(string) ([]byte, error) { return f.mapping, nil })
	}
	for attempt := 0; ; attempt++ {
		text := f.text(async)
		tree, err := parseSource(text, options)
		if err == nil {
			return f.program(tree, async)
		}
		var faults parser.ErrorList
		if !errors.As(err, &faults) || len(faults) == 0 {
			return nil, &Error{Code: CodeSyntax, Message: cut(err.Error())}
		}
		first := faults[0]
		if attempt > maxExports || !f.cure(text, first.Position) {
			return nil, f.syntaxError(text, first)
		}
	}
}

// parseSource is goja's parser, which panics at "\u{10FFFF}"; esbuild writes that in another way.
func parseSource(text string, options []parser.Option) (tree *ast.Program, err error) {
	defer func() {
		if fault, ok := recover().(error); ok && strings.HasPrefix(fault.Error(), "unexpected unicode length") {
			err = errors.New("SyntaxError: " + fault.Error())
		} else if ok {
			panic(fault)
		}
	}()
	return parser.ParseFile(nil, codeName, text, 0, options...)
}

func (f *form) program(tree *ast.Program, async bool) (*program, *Error) {
	// A mapped position is the author's own but for what was put above it before mapping.
	p := &program{async: async, shift: 1 + f.shift}
	if f.mapping != nil {
		p.shift, p.left = f.shift, 1
	}
	if mayHoldPattern(f.source) {
		found := translatePatterns(tree)
		if found.failed != nil {
			e := &Error{Code: CodeSyntax, Message: cut("SyntaxError: " + badPattern + found.failed.Error())}
			f.place(e, tree.File, int(found.at)-1)
			return nil, e
		}
		p.patterns, p.mendsPatterns = found.authors, found.mends
	}
	p.exports = f.module
	if at, found := idleFunction(tree, f.closed); found {
		e := &Error{}
		f.place(e, tree.File, int(at)-1)
		p.idle = place{line: e.Line, column: e.Column}
	}
	code, err := goja.CompileAST(tree, false)
	if err != nil {
		return nil, f.compilerError(err)
	}
	p.code = code
	return p, nil
}

// place puts a place of the parsed text into e.
func (f *form) place(e *Error, text *file.File, offset int) {
	at := text.Position(offset)
	e.Line, e.Column = max(at.Line-1-f.shift, 1), at.Column
	if f.mapping != nil {
		e.Line, e.Column = max(at.Line-f.shift, 1), at.Column+1
	}
}

func (f *form) syntaxError(text string, fault *parser.Error) *Error {
	e := &Error{Code: CodeSyntax, Message: cut("SyntaxError: " + fault.Message)}
	e.Line, e.Column = max(fault.Position.Line-1-f.shift, 1), fault.Position.Column
	if f.wordAt(text, "import", fault.Position) >= 0 {
		e.Message = noImports
	}
	return e
}

func (f *form) compilerError(err error) *Error {
	e := &Error{Code: CodeSyntax, Message: cut(err.Error())}
	var fault *goja.CompilerSyntaxError
	if errors.As(err, &fault) {
		e.Message = cut("SyntaxError: " + strings.TrimPrefix(fault.Message, "SyntaxError: "))
		if fault.File != nil {
			f.place(e, fault.File, fault.Offset)
		}
	}
	return e
}

// wordAt returns the offset of word in text if it stands at that position, else -1.
func (f *form) wordAt(text, word string, at file.Position) int {
	lines := file.NewFile(codeName, text, 1)
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return -1
		}
		if p := lines.Position(from + i); p.Line == at.Line && p.Column == at.Column {
			return from + i
		} else if p.Line > at.Line {
			return -1
		}
		from += i + len(word)
	}
}

var (
	exportDefault = regexp.MustCompile(
		`^export[ \t]+default\b(?:\s+(?:async\s+)?(?:function\s*\*?|class)\s+([A-Za-z_$][\w$]*))?`)
	exportDeclared = regexp.MustCompile(
		`^export\s+(?:(?:async\s+)?function\s*\*?|class|const|let|var)\s*([A-Za-z_$][\w$]*)`)
	exportList = regexp.MustCompile(`^export\s*\{([\w$\s,]*)\}(\s*from\b)?`)
)

// cure overwrites the export at this position of the wrapped text. It reports false if there is none that it
// knows.
func (f *form) cure(text string, at file.Position) bool {
	offset := f.wordAt(text, "export", at)
	head := strings.IndexByte(text, '\n') + 1
	if offset < head || offset-head >= len(f.source) {
		return false
	}
	i := offset - head
	rest := f.source[i:]
	replace := func(length int, with string) {
		f.source = f.source[:i] + with + strings.Repeat(" ", max(length-len(with), 0)) + f.source[i+length:]
		f.module = true
	}
	if m := exportDefault.FindStringSubmatchIndex(rest); m != nil {
		word := strings.Index(rest, "default") + len("default")
		if m[2] < 0 || rest[m[2]:m[3]] == "extends" {
			replace(word, "$ll_x.default=")
			return true
		}
		f.named = append(f.named, "$ll_x.default="+rest[m[2]:m[3]])
		replace(word, "")
		return true
	}
	if m := exportDeclared.FindStringSubmatch(rest); m != nil {
		if m[1] == f.entryName() || m[1] == "default" {
			f.named = append(f.named, "$ll_x."+m[1]+"="+m[1])
		}
		replace(len("export"), "")
		return true
	}
	m := exportList.FindStringSubmatch(rest)
	if m == nil || m[2] != "" {
		return false
	}
	for clause := range strings.SplitSeq(m[1], ",") {
		words := strings.Fields(clause)
		switch {
		case len(words) == 1:
			f.named = append(f.named, fmt.Sprintf("$ll_x.%s=%s", words[0], words[0]))
		case len(words) == 3 && words[1] == "as":
			f.named = append(f.named, fmt.Sprintf("$ll_x.%s=%s", words[2], words[0]))
		case len(words) != 0:
			return false
		}
	}
	replace(len(m[0]), ";"+strings.Repeat("\n", strings.Count(m[0], "\n")))
	return true
}
