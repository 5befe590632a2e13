package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// named is `file:function`, as architecture.md writes it.
	named = regexp.MustCompile("`([a-z0-9_/]+\\.(go|sql|js)):([A-Za-z0-9_]+)`")
	steps = regexp.MustCompile(`(?m)^\d+\. \*\*`)
	files = regexp.MustCompile("`((?:sidecar|sql|kernels|tests|scripts|supabase|docs)/[A-Za-z0-9_./-]+)`")
)

// The path of one span names a function of a file at each step, and every one is there.
func TestThePathOfOneSpanIsInTheCode(t *testing.T) {
	t.Parallel()
	const heading = "\n## The path of one span through the code\n"
	_, path, found := strings.Cut(contents(t, "docs/architecture.md"), heading)
	path, _, _ = strings.Cut(path, "\n## ")
	starts := steps.FindAllStringIndex(path, -1)
	if !found || len(starts) != 12 {
		t.Fatalf("the path has %d steps, want 12", len(starts))
	}
	for i, start := range starts {
		step := path[start[0]:]
		if i+1 < len(starts) {
			step = path[start[0]:starts[i+1][0]]
		}
		names := named.FindAllStringSubmatch(step, -1)
		if len(names) == 0 {
			t.Errorf("step %d names no function", i+1)
		}
		for _, name := range names {
			if !defines(contents(t, name[1]), name[2], name[3]) {
				t.Errorf("step %d: %s has no %s", i+1, name[1], name[3])
			}
		}
	}
}

// defines reports whether a source of this kind defines a name: a function, in SQL also a policy.
func defines(source, kind, name string) bool {
	form := map[string]string{
		"go":  `(?m)^func (\([^)]*\) )?` + name + `(\[[^\]]*\])?\(`,
		"sql": `(?m)^create (or replace function \w+\.` + name + `\(|policy ` + name + ` )`,
		"js":  `(?m)^(export default )?(async )?function ` + name + `\(`,
	}[kind]
	return regexp.MustCompile(form).MatchString(source)
}

// A file that a page names by its path is there.
func TestFilesThatPagesNameAreThere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	pages = append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"))
	for _, page := range pages {
		name, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range files.FindAllStringSubmatch(contents(t, name), -1) {
			seen++
			if _, err := os.Stat(filepath.Join(root, match[1])); err != nil && !isMade(match[1]) {
				t.Errorf("%s names %s, which is not there", name, match[1])
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d names of files are found, want at least 40", seen)
	}
}

// isMade reports whether a path is one that a command makes, or a form with a place to fill in.
func isMade(path string) bool {
	return strings.HasPrefix(path, "supabase/migrations/2") || strings.HasSuffix(path, "/NAME.js") ||
		strings.Contains(path, "node_modules")
}

// CONTRIBUTING.md asks whoever changes something the five questions that the project was founded with.
func TestContributingAsksItsFiveQuestions(t *testing.T) {
	t.Parallel()
	_, asked, _ := strings.Cut(contents(t, "CONTRIBUTING.md"), "\n## Before you open a change\n")
	asked, _, _ = strings.Cut(asked, "\n## ")
	questions := regexp.MustCompile(`(?ms)^\d\. .*?\?`).FindAllString(asked, -1)
	for i, about := range []string{"append-only", "span", "killed", "tenant", "cost"} {
		if len(questions) != 5 || !strings.Contains(questions[i], about) {
			t.Fatalf("CONTRIBUTING.md asks %q, want five questions, the %d. about %q", questions, i+1, about)
		}
	}
}

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	joined = regexp.MustCompile("[\"`] \\+\\s+[\"`]")
)

// What a page says that the sidecar says, it says.
func TestTroubleshootingQuotesWhatIsSaid(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "sidecar"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	said := joined.ReplaceAllString(source.String(), "")
	_, section, _ := strings.Cut(contents(t, "docs/troubleshooting.md"), "\n## The sidecar does not start\n")
	section, _, _ = strings.Cut(section, "\n## ")
	seen := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		symptom, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, phrase := range quoted.FindAllStringSubmatch(symptom, -1) {
			seen++
			for part := range strings.SplitSeq(phrase[1], "…") {
				if !strings.Contains(said, strings.TrimSpace(part)) {
					t.Errorf("docs/troubleshooting.md quotes %q, which nothing says", phrase[1])
				}
			}
		}
	}
	if seen < 8 {
		t.Errorf("%d quotations are found, want at least 8", seen)
	}
}
