// Package docs_test runs the commands of the pages, so that what a page says is what happens.
//
// Each block ```sh, ```bash or ```sql of README.md, CONTRIBUTING.md and docs is one of three:
//
//	marked, by a second word after the language: why it can not run here, or which test runs it
//	of a page that another test reads (readers); how many blocks that test takes is counted
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

// block is a fenced block of commands.
type block struct {
	page, language, mark, text string
	line                       int
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// reader is a test elsewhere that takes the unmarked blocks of a page in one language and runs them.
type reader struct {
	page, language, test string
	blocks               int
}

var readers = []reader{
	{"README.md", "sql", "TestTheFirstPagesDoWhatTheyPrint", 2},
	{"docs/quickstart.md", "sql", "TestTheFirstPagesDoWhatTheyPrint", 11},
	{"docs/clients.md", "sh", "TestClients", 5},
	{"docs/clients.md", "sql", "TestClients", 3},
	{"docs/kernels.md", "sh", "TestFilesArePublishedAsThePagesSay", 4},
	{"docs/functions.md", "sh", "TestFilesArePublishedAsThePagesSay", 2},
	{"docs/functions.md", "sh", "TestFunctionsRunLaterAsThePageSays", 3},
	{"docs/functions.md", "sh", "TestAFunctionIsWrittenAndCalledAsThePageSays", 1},
	{"docs/providers.md", "sql", "TestThePageOnProvidersIsTrue", 3},
}

var (
	fence     = regexp.MustCompile("(?ms)^( *)```([^\n]*)\n(.*?)^ *```$")
	testNames = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// generated pages hold signatures and plans, which nobody types.
var generated = []string{"docs/reference/ledger.md", "docs/plans.md"}

// commands are the blocks of all pages that somebody would type.
func commands(t *testing.T) (all []block) {
	t.Helper()
	pages := []string{"README.md", "CONTRIBUTING.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if !slices.Contains(generated, page) {
			all = append(all, blocksOf(t, page)...)
		}
	}
	if len(all) < 60 {
		t.Fatalf("%d blocks are found, want at least 60", len(all))
	}
	return all
}

func blocksOf(t *testing.T, page string) (all []block) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		language, mark, _ := strings.Cut(text[at[4]:at[5]], " ")
		b := block{page, language, mark, text[at[6]:at[7]], 1 + strings.Count(text[:at[0]], "\n")}
		switch language {
		case "sh", "bash", "sql":
			all = append(all, b)
		case "", "console", "shell", "shell-session", "zsh":
			t.Errorf("%s: a block of language %q hides commands: say sh, sql, or text", b, language)
		}
	}
	return all
}

// isRead reports whether a test elsewhere takes a block.
func isRead(b block) bool {
	return b.mark == "" && slices.ContainsFunc(readers, func(r reader) bool {
		return r.page == b.page && r.language == b.language
	})
}

// Each mark is a known one, each test that is named is there, and readers take as many blocks as they say.
func TestEveryMarkIsTrue(t *testing.T) {
	t.Parallel()
	tests := allTests(t)
	seen := map[string]int{}
	for _, b := range commands(t) {
		name, isTested := strings.CutPrefix(b.mark, "tested:")
		_, isKnown := marks[b.mark]
		switch {
		case isTested && !tests[name]:
			t.Errorf("%s: there is no test %s", b, name)
		case b.mark != "" && !isTested && !isKnown:
			t.Errorf("%s: %q is no mark; write hosted, elsewhere, long, template or tested:TestName", b, b.mark)
		}
		if isRead(b) {
			seen[b.page+" "+b.language]++
		}
	}
	for _, r := range readers {
		if !tests[r.test] {
			t.Errorf("%s is to be run by %s, which is not there", r.page, r.test)
		}
		seen[r.page+" "+r.language] -= r.blocks
	}
	for what, unread := range seen {
		if unread != 0 {
			t.Errorf("%s: %+d unmarked blocks that the tests of readers do not run: mark them, or have one run them",
				what, unread)
		}
	}
}

// allTests are the names of the tests of the repository.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
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
			for _, match := range testNames.FindAllStringSubmatch(string(text), -1) {
				names[match[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
