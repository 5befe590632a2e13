// Package docs_test runs the commands of the pages, so that what a page says is what happens.
//
// Each block ```sh, ```bash or ```sql of README.md, CONTRIBUTING.md and docs is one of two:
//
//	marked, by a second word after the language: why it can not run here, or which test runs it (tests/pages)
//	run here: all such blocks of a page one after another, in one folder, beside one `logline up`
//
// So a new block that nobody has thought of runs, and is red where it fails. Links and the list of pages are
// held by tests/arch.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/program"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(program.Run(m, (*testing.M).Run)) }

// marks are the words that may stand after the language of a block, and what each promises to the reader.
var marks = map[string]string{
	"hosted":    "needs a hosted service: a Supabase project, a cloud account, a provider's key",
	"elsewhere": "another machine, login, cluster or program, as the text around it says",
	"long":      "minutes or more, or it installs something",
	"template":  "a form, not a command: it has places to fill in",
}

// body is the text of each test of a file, by its name.
var body = regexp.MustCompile(`(?ms)^func (Test\w+)\(.*?^}$`)

// generated pages hold signatures and plans, which nobody types.
var generated = []string{"docs/reference/ledger.md", "docs/plans.md"}

// commands are the blocks of all pages that somebody would type.
func commands(t *testing.T) (all []pages.Block) {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range names {
		if !slices.Contains(generated, page) {
			all = append(all, blocksOf(t, page)...)
		}
	}
	if len(all) < 60 {
		t.Fatalf("%d blocks are found, want at least 60", len(all))
	}
	return all
}

func blocksOf(t *testing.T, page string) (all []pages.Block) {
	t.Helper()
	for _, b := range pages.Blocks(t, filepath.ToSlash(page)) {
		switch b.Language {
		case "sh", "bash", "sql":
			all = append(all, b)
		case "", "console", "shell", "shell-session", "zsh":
			t.Errorf("%s: a block of language %q hides commands: say sh, sql, or text", b, b.Language)
		}
	}
	return all
}

// Each mark is a known one, and each test that is named runs the blocks of that page which name it: it takes
// them by pages.Marked, which tells of one that is left.
func TestEveryMarkIsTrue(t *testing.T) {
	t.Parallel()
	tests := allTests(t)
	for _, b := range commands(t) {
		if fault := untrue(b, tests); fault != "" {
			t.Errorf("%s: %s", b, fault)
		}
	}
}

// untrue says what is wrong with the mark of a block.
func untrue(b pages.Block, tests map[string]string) string {
	name, isTested := strings.CutPrefix(b.Mark, "tested:")
	_, isKnown := marks[b.Mark]
	call := fmt.Sprintf("pages.Marked(t, %q)", b.Page)
	switch {
	case isTested && tests[name] == "":
		return "there is no test " + name
	case isTested && !strings.Contains(tests[name], call):
		return fmt.Sprintf("%s does not read the page: its body has no %s", name, call)
	case b.Mark != "" && !isTested && !isKnown:
		return fmt.Sprintf("%q is no mark; write hosted, elsewhere, long, template or tested:TestName", b.Mark)
	}
	return ""
}

func TestAnUntrueMarkIsFound(t *testing.T) {
	t.Parallel()
	tests := map[string]string{"TestReads": `pages.Marked(t, "docs/a.md").All()`}
	for mark, isTrue := range map[string]bool{"": true, "hosted": true, "tested:TestReads": true,
		"tested:TestGone": false, "untested": false} {
		if fault := untrue(pages.Block{Page: "docs/a.md", Mark: mark}, tests); (fault == "") != isTrue {
			t.Errorf("of the mark %q it says %q", mark, fault)
		}
	}
	if untrue(pages.Block{Page: "docs/b.md", Mark: "tested:TestReads"}, tests) == "" {
		t.Error("a test that reads another page passes")
	}
}

// allTests are the tests of the repository: their bodies, by name.
func allTests(t *testing.T) map[string]string {
	t.Helper()
	bodies := map[string]string{}
	for _, dir := range []string{"tests", "sidecar", "scripts", "kernels"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "node_modules":
				return filepath.SkipDir
			case !strings.HasSuffix(path, "_test.go"):
				return nil
			}
			text, err := os.ReadFile(path)
			for _, match := range body.FindAllStringSubmatch(string(text), -1) {
				bodies[match[1]] = match[0]
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}
