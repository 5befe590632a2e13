package arch_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced   = regexp.MustCompile("(?ms)^```.*?^```$")
	notInIDs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Each link of a page leads to a file that is there, and to a heading that it has.
func TestLinksOfPagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(fenced.ReplaceAllString(contents(t, page), ""), -1) {
			target, anchor, hasAnchor := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			seen++
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), filepath.FromSlash(target))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which is not there", page, link[1])
				continue
			}
			if hasAnchor && !anchors(contents(t, file))[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, link[1])
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d links are looked at, want at least 50", seen)
	}
}

// linkedHosts are the hosts that pages may send a reader to. That they answer is not tried: tests work
// without a network.
var linkedHosts = []string{"docs.postgrest.org", "github.com", "keepachangelog.com", "supabase.com",
	"www.postgresql.org"}

// Others' names in examples, and addresses of this machine, are no links.
func TestExternalLinksAreSoundAndOfKnownHosts(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, fault := range linkFaults(contents(t, page)) {
			t.Errorf("%s: %s", page, fault)
		}
	}
	for text, want := range map[string]int{"[a](https://docs.postgrest.org/en)": 0,
		"[a](http://github.com/x)": 1,
		"[a](https://example.org)": 1, "[a](https://docs.postgrest.org/%zz)": 1, "[a](ftp://github.com)": 1,
		"[a](other.md)": 0, "```\n[a](http://x)\n```\n": 0, "<http://x.org>": 1} {
		if got := linkFaults(text); len(got) != want {
			t.Errorf("%q has the faults %q, want %d", text, got, want)
		}
	}
}

// autoLinks are addresses between < and >.
var autoLinks = regexp.MustCompile(`<([a-z]+://[^>]*)>`)

// linkFaults says what is wrong with the external links of a page.
func linkFaults(text string) (faults []string) {
	text = fenced.ReplaceAllString(text, "")
	found := append(links.FindAllStringSubmatch(text, -1), autoLinks.FindAllStringSubmatch(text, -1)...)
	for _, link := range found {
		if !strings.Contains(link[1], "://") {
			continue
		}
		switch address, err := url.Parse(link[1]); {
		case err != nil:
			faults = append(faults, err.Error())
		case address.Scheme != "https":
			faults = append(faults, link[1]+" is not https")
		case !slices.Contains(linkedHosts, address.Host):
			faults = append(faults, link[1]+" is of a host that linkedHosts does not name")
		}
	}
	return faults
}

// docs/README.md lists every page of docs.
func TestEveryPageIsListed(t *testing.T) {
	t.Parallel()
	docs := filepath.Join(root, "docs")
	list := contents(t, filepath.Join(docs, "README.md"))
	for _, page := range pages(t) {
		name, err := filepath.Rel(docs, page)
		if err != nil || strings.HasPrefix(name, "..") || name == "README.md" {
			continue
		}
		if !strings.Contains(list, "]("+filepath.ToSlash(name)+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

func pages(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (entry.Name() == "node_modules" || entry.Name()[0] == '.'):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors are the names that headings get: lower case, without marks, spaces as hyphens.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, heading := range headings.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := notInIDs.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading[1])), "")
		names[strings.ReplaceAll(name, " ", "-")] = true
	}
	return names
}
