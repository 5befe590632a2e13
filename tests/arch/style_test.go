package arch_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits of CONTRIBUTING.md. A tab counts as one column, as in lll. Lengths of files and
// functions do not bind tests (tables), nor does any of them bind generated files. A line with a
// struct tag cannot be broken, a long literal in a test's table need not be.
const (
	maxFileLines     = 600
	maxFunctionLines = 70
	maxLineColumns   = 110
)

var (
	structTag   = regexp.MustCompile("`[a-z]+:\".*\"`$")
	longLiteral = regexp.MustCompile("`[^`]{60,}`|`[^`]{60,}$|\"(?:[^\"\\\\]|\\\\.){60,}\"")
)

func TestLinesAndFilesAreShort(t *testing.T) {
	t.Parallel()
	for _, f := range source(t).files {
		if f.generated {
			continue
		}
		count := 0
		f.lines(func(number int, line []byte) {
			count = number
			exempt := structTag.Match(line) || f.test && longLiteral.Match(line)
			if columns := utf8.RuneCount(line); columns > maxLineColumns && !exempt {
				t.Errorf("%s:%d has %d columns, the limit is %d", f.path, number, columns, maxLineColumns)
			}
		})
		if count > maxFileLines && !f.test {
			t.Errorf("%s has %d lines, the limit is %d: split it by duty", f.path, count, maxFileLines)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	t.Parallel()
	read := source(t)
	for _, f := range read.files {
		if f.generated || f.test {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			function, isFunction := declaration.(*ast.FuncDecl)
			if !isFunction {
				continue
			}
			first, last := read.line(function.Pos()), read.line(function.End())
			if count := last - first + 1; count > maxFunctionLines {
				t.Errorf("%s:%d %s has %d lines, the limit is %d", f.path, first, function.Name.Name, count,
					maxFunctionLines)
			}
		}
	}
}

func (r *tree) line(place token.Pos) int { return r.set.Position(place).Line }

func TestNoInit(t *testing.T) {
	t.Parallel()
	read := source(t)
	for _, f := range read.files {
		for _, declaration := range f.syntax.Decls {
			function, isFunction := declaration.(*ast.FuncDecl)
			if isFunction && function.Recv == nil && function.Name.Name == "init" {
				t.Errorf("%s:%d declares init: build it where it is used", f.path, read.line(function.Pos()))
			}
		}
	}
}

func TestNoSleep(t *testing.T) {
	t.Parallel()
	read := source(t)
	for _, f := range read.files {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if ok && isName(selector.X, "time") && selector.Sel.Name == "Sleep" {
				t.Errorf("%s:%d sleeps: wait for the event, with a timer and a stop", f.path, read.line(node.Pos()))
			}
			return true
		})
	}
}

func TestErrorsAreSentencesThatWrap(t *testing.T) {
	t.Parallel()
	read := source(t)
	for _, f := range read.files {
		if f.test {
			continue
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			format, isText := call.Args[0].(*ast.BasicLit)
			if !isText || format.Kind != token.STRING || !isErrorMaker(call.Fun) {
				return true
			}
			text, err := strconv.Unquote(format.Value)
			if err != nil {
				t.Fatal(err)
			}
			if fault := errorFault(text, call.Args[1:]); fault != "" {
				t.Errorf("%s:%d %s: %q", f.path, read.line(node.Pos()), fault, text)
			}
			return true
		})
	}
}

func isErrorMaker(function ast.Expr) bool {
	selector, ok := function.(*ast.SelectorExpr)
	return ok && (isName(selector.X, "fmt") && selector.Sel.Name == "Errorf" ||
		isName(selector.X, "errors") && selector.Sel.Name == "New")
}

func isName(expression ast.Expr, name string) bool {
	identifier, ok := expression.(*ast.Ident)
	return ok && identifier.Name == name
}

var verb = regexp.MustCompile(`%[-+# 0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?([a-zA-Z%])`)

// errorFault says what is wrong with the format of an error, "" where nothing is. Without types an
// error among the arguments is known by its name: err, errSomething, somethingErr, x.Err, x.Error().
func errorFault(format string, arguments []ast.Expr) string {
	if strings.Contains(strings.ToLower(format), "failed to") {
		return "says failed to: begin with the verb (decode insert: %w)"
	}
	next := 0
	for _, match := range verb.FindAllStringSubmatch(format, -1) {
		if match[1] == "%" {
			continue
		}
		next += strings.Count(match[0], "*")
		if next < len(arguments) && match[1] != "w" && match[1] != "T" && isErrorByName(arguments[next]) {
			return "prints an error with %" + match[1] + ": wrap it with %w"
		}
		next++
	}
	return ""
}

func isErrorByName(argument ast.Expr) bool {
	switch e := argument.(type) {
	case *ast.Ident:
		return e.Name == "err" || strings.HasPrefix(e.Name, "err") && len(e.Name) > 3 && e.Name[3] < 'a' ||
			strings.HasSuffix(e.Name, "Err")
	case *ast.SelectorExpr:
		return e.Sel.Name == "Err"
	case *ast.CallExpr:
		selector, ok := e.Fun.(*ast.SelectorExpr)
		return ok && selector.Sel.Name == "Error" && len(e.Args) == 0
	}
	return false
}

func TestErrorRuleCanFail(t *testing.T) {
	t.Parallel()
	err, count := ast.NewIdent("err"), ast.NewIdent("count")
	for _, c := range []struct {
		format    string
		arguments []ast.Expr
		faulty    bool
	}{
		{"decode insert: %w", []ast.Expr{err}, false},
		{"%d of %*d%%: %w", []ast.Expr{count, count, count, err}, false},
		{"decode insert: %v", []ast.Expr{err}, true},
		{"%d rows: %s", []ast.Expr{count, err}, true},
		{"failed to decode: %w", []ast.Expr{err}, true},
		{"got %v", []ast.Expr{count}, false},
	} {
		if fault := errorFault(c.format, c.arguments); (fault != "") != c.faulty {
			t.Errorf("%q: got %q", c.format, fault)
		}
	}
}
