// Package arch_test holds the layout and the style rules that a machine can hold: who may import
// whom (CONTRIBUTING.md), and the limits of CONTRIBUTING.md. It reads the source as text and syntax,
// builds nothing, and takes well below a second. A package that does not exist breaks no rule.
//
// To add a rule: one test that names it, over source(t), with the mend in the message.
package arch_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/loglineos/loglineos/"
)

// file is one Go file of the repository.
type file struct {
	path      string // from the root, for example sidecar/span/id.go
	dir       string
	test      bool
	generated bool
	text      []byte
	syntax    *ast.File
	imports   []string
}

// tree is the whole repository, read once.
type tree struct {
	files   []file
	folders map[string][]string // folder to the names of its files
	set     *token.FileSet
}

var readTree = sync.OnceValues(func() (*tree, error) {
	read := &tree{folders: map[string][]string{}, set: token.NewFileSet()}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("walk %s: %w", path, err)
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("walk %s: %w", path, err)
		}
		dir := filepath.ToSlash(filepath.Dir(relative))
		read.folders[dir] = append(read.folders[dir], name)
		if filepath.Ext(name) != ".go" || strings.Contains(relative, "testdata") {
			return nil
		}
		return read.add(filepath.ToSlash(relative), dir)
	})
	return read, err
})

func (r *tree) add(path, dir string) error {
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	syntax, err := parser.ParseFile(r.set, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse source: %w", err)
	}
	f := file{path: path, dir: dir, test: strings.HasSuffix(path, "_test.go"), text: text, syntax: syntax,
		generated: ast.IsGenerated(syntax)}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("parse source: %w", err)
		}
		f.imports = append(f.imports, imported)
	}
	r.files = append(r.files, f)
	return nil
}

func source(t *testing.T) *tree {
	t.Helper()
	read, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// lines calls visit with the number and text of each line of f.
func (f *file) lines(visit func(number int, line []byte)) {
	number := 0
	for line := range bytes.Lines(f.text) {
		number++
		visit(number, bytes.TrimSuffix(line, []byte("\n")))
	}
}
