// Command sqlbuild joins sql/src into the forms in which the ledger is shipped:
//
//	sql/src/*.sql + sql/wrap/migration_* ──► supabase/migrations/20261123000000_loglineos_0_1_0.sql
//	                sql/wrap/extension_* ──► sql/dist/loglineos--0.1.0.sql
//	                sql/wrap/paste_*     ──► sql/dist/loglineos.sql
//
// With -check it writes nothing and exits 1 if a file is stale.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// forms maps each wrap (head and tail) to the file that it makes.
var forms = []struct{ wrap, target string }{
	{"migration", "supabase/migrations/20261123000000_loglineos_0_1_0.sql"},
	{"extension", "sql/dist/loglineos--0.1.0.sql"},
	{"paste", "sql/dist/loglineos.sql"},
}

func main() {
	root := flag.String("root", ".", "the checkout")
	check := flag.Bool("check", false, "write nothing; exit 1 if a generated file is stale")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "sqlbuild:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	body, err := join(root)
	if err != nil {
		return err
	}
	var stale []error
	for _, form := range forms {
		text, err := wrap(root, form.wrap, body)
		if err != nil {
			return err
		}
		target := filepath.Join(root, form.target)
		if !check {
			if err := os.WriteFile(target, text, 0o644); err != nil {
				return fmt.Errorf("write form: %w", err)
			}
			continue
		}
		committed, err := os.ReadFile(target)
		if err != nil {
			return fmt.Errorf("read form: %w", err)
		}
		if !bytes.Equal(committed, text) {
			stale = append(stale, fmt.Errorf("%s is stale: run `go run ./scripts/sqlbuild`", form.target))
		}
	}
	return errors.Join(stale...)
}

// join returns the files of sql/src in the order of their numbers, with an empty line between.
func join(root string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(root, "sql/src/[0-9][0-9]_*.sql"))
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("list sources: no sql/src/NN_concern.sql below %q", root)
	}
	slices.Sort(files)
	var parts [][]byte
	for _, file := range files {
		part, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		parts = append(parts, part)
	}
	return bytes.Join(parts, []byte("\n")), nil
}

// wrap returns body between the head and the tail of the form.
func wrap(root, form string, body []byte) ([]byte, error) {
	head, err := os.ReadFile(filepath.Join(root, "sql/wrap", form+"_head.sql"))
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	tail, err := os.ReadFile(filepath.Join(root, "sql/wrap", form+"_tail.sql"))
	if err != nil {
		return nil, fmt.Errorf("read tail: %w", err)
	}
	text := slices.Concat(head, body)
	if len(tail) > 0 {
		text = slices.Concat(text, []byte("\n"), tail)
	}
	return text, nil
}
