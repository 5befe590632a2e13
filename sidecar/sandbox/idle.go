package sandbox

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

// idleFunction returns where the first function of a source stands that does nothing but define functions. A
// run of it would end complete with null, and its author would not learn that main has another name.
func idleFunction(tree *ast.Program, closed bool) (at file.Idx, found bool) {
	for _, statement := range authorsBody(tree, closed) {
		if at == 0 {
			at = functionIn(statement)
		}
		if !isIdle(statement) {
			return 0, false
		}
	}
	return at, at != 0
}

// authorsBody takes the wrapper of form.text apart: its statements, without the return that closes them.
func authorsBody(tree *ast.Program, closed bool) []ast.Statement {
	if len(tree.Body) != 1 {
		return nil
	}
	outer, _ := tree.Body[0].(*ast.ExpressionStatement)
	if outer == nil {
		return nil
	}
	wrapper, _ := outer.Expression.(*ast.FunctionLiteral)
	if wrapper == nil || len(wrapper.Body.List) != 1 {
		return nil
	}
	result, _ := wrapper.Body.List[0].(*ast.ReturnStatement)
	if result == nil {
		return nil
	}
	call, _ := result.Argument.(*ast.CallExpression)
	if call == nil {
		return nil
	}
	inner, _ := call.Callee.(*ast.FunctionLiteral)
	if inner == nil || len(inner.Body.List) == 0 {
		return nil
	}
	list := inner.Body.List
	if closed {
		body, _ := list[0].(*ast.FunctionDeclaration)
		if body == nil || len(body.Function.Body.List) == 0 {
			return nil
		}
		list = body.Function.Body.List
	}
	return list[:len(list)-1]
}

// functionIn is the place of a function that a statement defines, 0 without one.
func functionIn(statement ast.Statement) file.Idx {
	if f, ok := statement.(*ast.FunctionDeclaration); ok {
		return f.Idx0()
	}
	for _, b := range bindings(statement) {
		switch b.Initializer.(type) {
		case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
			return b.Initializer.Idx0()
		}
	}
	return 0
}

func bindings(statement ast.Statement) []*ast.Binding {
	switch s := statement.(type) {
	case *ast.LexicalDeclaration:
		return s.List
	case *ast.VariableStatement:
		return s.List
	}
	return nil
}

func isIdle(statement ast.Statement) bool {
	switch s := statement.(type) {
	case *ast.EmptyStatement, *ast.FunctionDeclaration:
		return true
	case *ast.ExpressionStatement:
		_, isText := s.Expression.(*ast.StringLiteral) // "use strict"
		return isText || isExport(s.Expression)
	case *ast.ClassDeclaration:
		return isIdleClass(s.Class)
	case *ast.LexicalDeclaration, *ast.VariableStatement:
		for _, b := range bindings(s) {
			if !isIdleValue(b.Initializer) {
				return false
			}
		}
		return true
	}
	return false
}

// isExport knows what the form puts at the end for an export: $ll_x.name=name.
func isExport(x ast.Expression) bool {
	if assigned, ok := x.(*ast.AssignExpression); ok {
		if member, ok := assigned.Left.(*ast.DotExpression); ok {
			object, ok := member.Left.(*ast.Identifier)
			return ok && object.Name == "$ll_x"
		}
	}
	return false
}

func isIdleValue(value ast.Expression) bool {
	switch v := value.(type) {
	case nil, *ast.FunctionLiteral, *ast.ArrowFunctionLiteral, *ast.NumberLiteral, *ast.StringLiteral,
		*ast.BooleanLiteral, *ast.NullLiteral, *ast.RegExpLiteral, *ast.Identifier:
		return true
	case *ast.DotExpression:
		return isIdleValue(v.Left)
	case *ast.ArrayLiteral:
		for _, x := range v.Value {
			if !isIdleValue(x) {
				return false
			}
		}
		return true
	case *ast.ObjectLiteral:
		return len(v.Value) == 0
	}
	return false
}

func isIdleClass(class *ast.ClassLiteral) bool {
	for _, element := range class.Body {
		switch x := element.(type) {
		case *ast.ClassStaticBlock:
			return false
		case *ast.FieldDefinition:
			if x.Static || x.Computed {
				return false
			}
		}
	}
	return isIdleValue(class.SuperClass)
}
