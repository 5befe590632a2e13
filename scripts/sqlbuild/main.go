// Command sqlbuild joins sql/src into the forms in which the ledger is shipped. The body runs on an
// empty database and on one of the version before, where sql/upgrade has gone before it:
//
//	sql/upgrade/A--B.sql + sql/src/*.sql + sql/wrap/migration_* ──► supabase/migrations/<stamp>_loglineos_B.sql
//	sql/upgrade/A--B.sql + sql/src/*.sql + sql/wrap/upgrade_*   ──► sql/dist/loglineos--A--B.sql
//	                       sql/src/*.sql + sql/wrap/extension_* ──► sql/dist/loglineos--B.sql
//	sql/upgrade/A--B.sql + sql/src/*.sql + sql/wrap/paste_*     ──► sql/dist/loglineos.sql
//
// sql/src/84_walls.sql is generated first: what guard_check expects, as a Postgres says it (walls.go); and
// the fingerprints of all functions are filled in last (fingerprint.go).
//
// The files of earlier versions stay as they were released. With -check it writes nothing and exits 1 if
// a file is stale.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The version that sql/src is, and the one before it; the stamps are the migrations' versions in
// supabase_migrations.schema_migrations.
const (
	version, stamp      = "0.2.0", "20261124000000"
	before, beforeStamp = "0.1.0", "20261123000000"
)

// form is one shipped file: the wrap around the body, and whether it upgrades.
type form struct {
	wrap, target string
	upgrades     bool
}

var forms = []form{
	{"migration", "supabase/migrations/" + stamp + "_loglineos_" + underscored(version) + ".sql", true},
	{"extension", "sql/dist/loglineos--" + version + ".sql", false},
	{"upgrade", "sql/dist/loglineos--" + before + "--" + version + ".sql", true},
	{"paste", "sql/dist/loglineos.sql", true},
}

func underscored(version string) string { return strings.ReplaceAll(version, ".", "_") }

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
	walls, err := walls(root, check)
	if err != nil {
		return err
	}
	if !check {
		if err := os.WriteFile(filepath.Join(root, wallsFile), walls, 0o644); err != nil {
			return fmt.Errorf("write walls: %w", err)
		}
	}
	body, err := join(root, walls)
	if err != nil {
		return err
	}
	var stale []error
	for _, form := range forms {
		text, err := form.text(root, body)
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

// join returns the files of sql/src in the order of their numbers, with an empty line between, and walls for
// the one that is generated.
func join(root string, walls []byte) ([]byte, error) {
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
		if filepath.Base(file) == filepath.Base(wallsFile) {
			parts = append(parts, walls)
			continue
		}
		part, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		parts = append(parts, part)
	}
	return bytes.Join(parts, []byte("\n")), nil
}

// text returns the body between the head and the tail of the form, with the versions filled in.
func (f form) text(root string, body []byte) ([]byte, error) {
	parts := [][]byte{}
	add := func(path string) error {
		part, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
		if len(part) > 0 {
			parts = append(parts, part)
		}
		return nil
	}
	if err := add("sql/wrap/" + f.wrap + "_head.sql"); err != nil {
		return nil, err
	}
	if f.upgrades {
		if err := add("sql/upgrade/" + before + "--" + version + ".sql"); err != nil {
			return nil, err
		}
		parts = append(parts, []byte("\n"))
	}
	parts = append(parts, body)
	tail := len(parts)
	if err := add("sql/wrap/" + f.wrap + "_tail.sql"); err != nil {
		return nil, err
	}
	if len(parts) > tail {
		parts = slices.Insert(parts, tail, []byte("\n"))
	}
	filled := strings.NewReplacer(
		"@version@", version, "@version_@", underscored(version), "@stamp@", stamp,
		"@before@", before, "@before_@", underscored(before), "@before_stamp@", beforeStamp,
	).Replace(string(slices.Concat(parts...)))
	filled, err := fingerprint(filled)
	return []byte(filled), err
}
