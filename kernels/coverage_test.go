package kernels

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// probe is a text that instrument puts into the source.
type probe struct {
	at    int // byte offset
	order int // of probes at one place: enclosing ones first when they open, last when they close
	text  string
}

type instrumenter struct {
	t      *testing.T
	source string
	probes []probe
	places map[string]string
}

// instrument returns source with a console.log at each statement, at both arms of each if and ?:, and at the
// right side of each && and ||; and the place that each text which is logged stands for.
func instrument(t *testing.T, source string) (string, map[string]string) {
	t.Helper()
	const export = "export default "
	plain := strings.Replace(source, export, strings.Repeat(" ", len(export)), 1) // the parser reads scripts
	program, err := parser.ParseFile(nil, "kernel.js", plain, 0, parser.WithDisableSourceMaps)
	if err != nil {
		t.Fatal(err)
	}
	i := &instrumenter{t: t, source: source, places: map[string]string{}}
	i.walk(reflect.ValueOf(program.Body))
	slices.SortStableFunc(i.probes, func(a, b probe) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
	})
	var out strings.Builder
	last := 0
	for _, p := range i.probes {
		out.WriteString(source[last:p.at] + p.text)
		last = p.at
	}
	return out.String() + source[last:], i.places
}

// walk visits every node below v; the library has no walker of its own.
func (i *instrumenter) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return
		}
		if node, ok := v.Interface().(ast.Node); ok && v.Kind() == reflect.Pointer {
			i.visit(node)
		}
		i.walk(v.Elem())
	case reflect.Slice:
		for n := range v.Len() {
			i.walk(v.Index(n))
		}
	case reflect.Struct:
		for n := range v.NumField() {
			// Lists of declarations name nodes that stand in the tree as well.
			if field := v.Type().Field(n); field.IsExported() && field.Name != "DeclarationList" &&
				field.Name != "File" {
				i.walk(v.Field(n))
			}
		}
	}
}

func (i *instrumenter) visit(node ast.Node) {
	switch n := node.(type) {
	case *ast.BlockStatement:
		for _, statement := range n.List {
			i.insert(i.start(statement), 0, i.hit(i.start(statement), "statement")+";")
		}
	case *ast.IfStatement:
		i.arm(n.Consequent, "if: true")
		if n.Alternate != nil {
			i.arm(n.Alternate, "if: false")
			return
		}
		i.insert(i.end(n.Consequent), -1, " else {"+i.hit(i.start(n), "if: false")+"}")
	case *ast.ConditionalExpression:
		i.expression(n.Consequent, "condition: true")
		i.expression(n.Alternate, "condition: false")
	case *ast.BinaryExpression:
		if operator := n.Operator.String(); operator == "||" || operator == "&&" {
			i.expression(n.Right, "right of "+operator)
		}
	case *ast.ArrowFunctionLiteral:
		if body, ok := n.Body.(*ast.ExpressionBody); ok {
			i.expression(body.Expression, "function")
		}
	}
}

// hit makes a probe.
func (i *instrumenter) hit(at file.Idx, what string) string {
	name := fmt.Sprintf("probe %d", len(i.places))
	line := 1 + strings.Count(i.source[:at-1], "\n")
	i.places[name] = fmt.Sprintf("line %d: %s", line, what)
	return fmt.Sprintf("console.log(%q)", name)
}

func (i *instrumenter) insert(at file.Idx, order int, text string) {
	i.probes = append(i.probes, probe{int(at) - 1, order, text})
}

// arm puts a probe before a statement that need not be a block.
func (i *instrumenter) arm(statement ast.Statement, what string) {
	at := i.start(statement)
	i.insert(at, -2, "{"+i.hit(at, what)+";")
	if _, isBlock := statement.(*ast.BlockStatement); !isBlock {
		i.insert(at, -1, i.hit(at, "statement")+";")
	}
	i.insert(i.end(statement), -2, "}")
}

func (i *instrumenter) expression(e ast.Expression, what string) {
	i.insert(e.Idx0(), -1, "("+i.hit(e.Idx0(), what)+",")
	i.insert(e.Idx1(), -3, ")")
}

// start is where a statement begins; the parser notes no place for the word if.
func (i *instrumenter) start(statement ast.Statement) file.Idx {
	if n, ok := statement.(*ast.IfStatement); ok {
		return file.Idx(strings.LastIndex(i.source[:n.Test.Idx0()-1], "if") + 1)
	}
	return statement.Idx0()
}

// end is behind a statement, its semicolon included.
func (i *instrumenter) end(statement ast.Statement) file.Idx {
	at := int(statement.Idx1()) - 1
	if strings.HasPrefix(i.source[at:], ";") && i.source[at-1] != '}' && i.source[at-1] != ';' {
		at++
	}
	return file.Idx(at + 1)
}
