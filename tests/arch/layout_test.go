package arch_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// topLevel are the entries of the repository's root (CONTRIBUTING.md). Dotfiles and what .gitignore
// leaves out may stand beside them.
var topLevel = []string{
	"README.md", "Makefile", "go.mod", "go.sum", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
	"sql", "supabase", "kernels", "sidecar", "scripts", "tests", "docs", "bin",
}

func TestRootHoldsTheLayoutOnly(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s stands in the root: move it to the folder that owns it", name)
		}
	}
}

func TestEveryFolderSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	read := source(t)
	explained := map[string]bool{}
	for _, f := range read.files {
		if f.syntax.Doc != nil {
			explained[f.dir] = true
		}
	}
	for folder, names := range read.folders {
		top, _, _ := strings.Cut(folder, "/")
		if folder == "." || !slices.Contains(topLevel, top) || strings.Contains(folder+"/", "/testdata/") {
			continue
		}
		if !explained[folder] && !slices.Contains(names, "README.md") && !explainedAbove(read, folder) {
			t.Errorf("%s has neither a README.md nor a package comment: say its one job, and how to add one more",
				folder)
		}
	}
}

// explainedAbove reports whether the README.md of the folder around it tells what folder is for.
func explainedAbove(read *tree, folder string) bool {
	parent := path.Dir(folder)
	if !slices.Contains(read.folders[parent], "README.md") {
		return false
	}
	text, err := os.ReadFile(path.Join(root, parent, "README.md"))
	return err == nil && strings.Contains(string(text), path.Base(folder)+"/")
}

func TestPackagesAreNouns(t *testing.T) {
	t.Parallel()
	for _, f := range source(t).files {
		switch name := strings.TrimSuffix(f.syntax.Name.Name, "_test"); name {
		case "util", "utils", "common", "helper", "helpers", "types", "models", "misc", "shared", "base":
			t.Errorf("%s: the package is called %s: name what it owns", f.path, name)
		}
	}
}
