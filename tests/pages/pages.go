// Package pages reads the blocks of the Markdown pages, so that a test runs what stands there and no copy.
//
// A block of commands that a test runs names the test behind its language (```sh tested:TestOrders). The test
// takes its blocks from here, all of them, and a block that it leaves is an error:
//
//	set := pages.Marked(t, "docs/keys.md")
//	pages.Paste(t, dir, env, set.Take("keys generate").Text)
//
// tests/docs sees to it that each test so named has a call of Marked for that page in its body. So whoever
// changes a block changes what the test runs, and who renames the test or drops a block is told.
package pages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// Block is a fenced block of a page.
type Block struct {
	Page, Heading  string // Heading is the `## ` above it
	Language, Mark string // the words behind the fence
	Text           string
	Shows          string // the block `text` right below it: what it prints
	Line           int
}

func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

var (
	fence   = regexp.MustCompile("(?ms)^( *)```([^\n]*)\n(.*?)^ *```$")
	heading = regexp.MustCompile(`(?m)^## (.*)$`)
)

// Root is the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0) // go test is run from a checkout
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Text is a whole page, by its path from the root.
func Text(t testing.TB, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Blocks are all blocks of a page, in order.
func Blocks(t testing.TB, page string) (blocks []Block) {
	t.Helper()
	text := Text(t, page)
	headings := heading.FindAllStringSubmatchIndex(text, -1)
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		b := Block{Page: page, Text: text[at[6]:at[7]], Line: 1 + strings.Count(text[:at[0]], "\n")}
		b.Language, b.Mark, _ = strings.Cut(text[at[4]:at[5]], " ")
		for _, h := range headings {
			if h[0] < at[0] {
				b.Heading = text[h[2]:h[3]]
			}
		}
		if last := len(blocks) - 1; b.Language == "text" && last >= 0 && blocks[last].Shows == "" {
			blocks[last].Shows = b.Text
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// Section are the texts of the blocks in a language below a heading.
func Section(t testing.TB, page, heading, language string) (texts []string) {
	t.Helper()
	for _, b := range Blocks(t, page) {
		if b.Heading == heading && b.Language == language {
			texts = append(texts, b.Text)
		}
	}
	if !strings.Contains(Text(t, page), "\n## "+heading+"\n") {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	return texts
}

// Set are the blocks of a page that name a test.
type Set struct {
	t      testing.TB
	blocks []Block
	taken  []bool
}

// Marked are the blocks of a page that are marked `tested:` with the name of t, or of the test around it. At
// the end of t it is an error where one has not been taken.
func Marked(t testing.TB, page string) *Set {
	t.Helper()
	s := &Set{t: t}
	name, _, _ := strings.Cut(t.Name(), "/")
	for _, b := range Blocks(t, page) {
		if b.Mark == "tested:"+name {
			s.blocks = append(s.blocks, b)
		}
	}
	if len(s.blocks) == 0 {
		t.Fatalf("%s has no block tested:%s", page, name)
	}
	s.taken = make([]bool, len(s.blocks))
	t.Cleanup(func() {
		for i, b := range s.blocks {
			if !s.taken[i] && !t.Failed() && !t.Skipped() {
				t.Errorf("%s:%d is marked tested:%s, which does not run it", page, b.Line, name)
			}
		}
	})
	return s
}

// where takes the blocks for which is answers true.
func (s *Set) where(is func(Block) bool) (found []Block) {
	for i, b := range s.blocks {
		if is(b) {
			s.taken[i] = true
			found = append(found, b)
		}
	}
	return found
}

// All takes all blocks, in order.
func (s *Set) All() []Block { return s.where(func(Block) bool { return true }) }

// Take takes the one block that has these words.
func (s *Set) Take(words string) Block {
	s.t.Helper()
	found := s.where(func(b Block) bool { return strings.Contains(b.Text, words) })
	if len(found) != 1 {
		s.t.Fatalf("%s: %d blocks of this test have %q, want 1", s.blocks[0].Page, len(found), words)
	}
	return found[0]
}

// Under takes the blocks below a heading, of which there must be n.
func (s *Set) Under(heading string, n int) (texts []string) {
	s.t.Helper()
	for _, b := range s.where(func(b Block) bool { return b.Heading == heading }) {
		texts = append(texts, b.Text)
	}
	if len(texts) != n {
		s.t.Fatalf("%s: %d blocks of this test are below %q, want %d", s.blocks[0].Page, len(texts), heading, n)
	}
	return texts
}

// With is the text of a block with replacements, each of which must be in it: what a reader fills in.
func (b Block) With(t testing.TB, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(b.Text, oldNew[i]) {
			t.Fatalf("%s:%d has no %q", b.Page, b.Line, oldNew[i])
		}
	}
	return strings.NewReplacer(oldNew...).Replace(b.Text)
}

// Paste has bash run commands in a folder with more of an environment, as a reader does. They must succeed;
// it returns all that they print.
func Paste(t testing.TB, dir string, env []string, text string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program.Find(t, "bash"), "-euo", "pipefail", "-c", text)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	command.SysProcAttr = program.WithParent()
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", text, err, said)
	}
	return string(said)
}
