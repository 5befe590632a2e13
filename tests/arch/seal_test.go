package arch_test

import (
	"go/ast"
	"strings"
	"testing"
)

// sealsUnsigned reports whether call is row.Seal(…): the hash alone, of a plain variable. A sealer is a field
// (config.Seal, Signer.Seal), and a group is sealed by one.
func sealsUnsigned(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || method.Sel.Name != "Seal" {
		return false
	}
	if _, isVariable := method.X.(*ast.Ident); !isVariable {
		return false
	}
	for _, argument := range call.Args {
		if by, ok := argument.(*ast.SelectorExpr); ok && by.Sel.Name == "Seal" {
			return false
		}
	}
	return true
}

func TestWhatTheSidecarAppendsIsSealedByItsSigner(t *testing.T) {
	t.Parallel()
	sealers := 0
	for _, f := range source(t).files {
		isBelow := strings.HasPrefix(f.path, "sidecar/span/") || strings.HasPrefix(f.path, "sidecar/sign/")
		if f.test || isBelow || !strings.HasPrefix(f.path, "sidecar/") {
			continue
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Seal" {
				sealers++
			}
			if sealsUnsigned(call) {
				t.Errorf("%s:%d hashes a span and does not sign it: use config.Seal or config.Signer.Seal", f.path,
					source(t).set.Position(call.Pos()).Line)
			}
			return true
		})
	}
	if sealers == 0 {
		t.Error("nothing is sealed any more: this test looks for another name")
	}
}
