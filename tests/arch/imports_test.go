package arch_test

import (
	"slices"
	"strings"
	"testing"
)

// mayImport is the third column of CONTRIBUTING.md: the folders of the module that each folder may
// import, outside its tests. Anyone may import sidecar/metrics and sidecar/failpoint.
var mayImport = map[string][]string{
	"sidecar": {"sidecar/app", "sidecar/cli", "sidecar/config", "sidecar/sandbox"},
	"sidecar/cli": {"sidecar/app", "sidecar/config", "sidecar/ledger", "sidecar/sign", "sidecar/span",
		"sidecar/devdb", "kernels", "supabase", "sql"},
	"sidecar/app": {"sidecar/config", "sidecar/cron", "sidecar/span", "sidecar/sign", "sidecar/ledger",
		"sidecar/tail",
		"sidecar/engine", "sidecar/stage0", "sidecar/sandbox", "sidecar/fetch", "sidecar/seal",
		"sidecar/httpapi", "sidecar/devdb", "kernels", "supabase", "sql"},
	"sidecar/config":  {},
	"sidecar/span":    {},
	"sidecar/edwards": {},
	"sidecar/sign":    {"sidecar/edwards", "sidecar/span"},
	"sidecar/turns":   {},
	"sidecar/cron":    {},
	"sidecar/ledger":  {"sidecar/span", "sidecar/turns", "kernels", "supabase", "sql"},
	"sidecar/tail":    {"sidecar/span"},
	"sidecar/engine":  {"sidecar/cron", "sidecar/span", "sidecar/ledger"},
	"sidecar/fetch":   {},
	"sidecar/stage0": {"sidecar/fetch", "sidecar/ledger", "sidecar/sandbox", "sidecar/sign",
		"sidecar/span"},
	"sidecar/sandbox":   {"sidecar/edwards", "sidecar/turns"},
	"sidecar/seal":      {"sidecar/ledger", "sidecar/sign", "sidecar/span"},
	"sidecar/httpapi":   {"sidecar/ledger", "sidecar/sign", "sidecar/span"},
	"sidecar/metrics":   {},
	"sidecar/failpoint": {},
	"sidecar/devdb":     {},
	"kernels":           {"sidecar/span"},
	"supabase":          {},
	"sql":               {},
}

// onlyIn says where a library may be imported, outside tests/ and scripts/.
var onlyIn = map[string][]string{
	"github.com/jackc/pgx":        {"sidecar/ledger", "sidecar/tail"},
	"github.com/jackc/pglogrepl":  {"sidecar/tail"},
	"github.com/robfig/cron":      {"sidecar/cron"},
	"github.com/dop251/goja":      {"sidecar/sandbox"},
	"github.com/evanw/esbuild":    {"sidecar/sandbox"},
	"github.com/prometheus":       {"sidecar/metrics"},
	"github.com/kelseyhightower/": {"sidecar/config"},
}

// onlyImports says which libraries a folder may import besides the standard library.
var onlyImports = map[string][]string{
	"sidecar/edwards":   {},
	"sidecar/span":      {"lukechampine.com/blake3", "github.com/gowebpki/jcs"},
	"sidecar/sign":      {"lukechampine.com/blake3"},
	"sidecar/devdb":     {},
	"sidecar/fetch":     {},
	"sidecar/turns":     {},
	"sidecar/metrics":   {"github.com/prometheus/"},
	"sidecar/failpoint": {},
	"kernels":           {},
	"supabase":          {},
	"sql":               {},
}

// folderOf returns the entry of mayImport that dir belongs to: itself, or the folder around it.
func folderOf(dir string) (string, bool) {
	for folder := dir; ; {
		if _, known := mayImport[folder]; known && (folder != "sidecar" || dir == "sidecar") {
			return folder, true
		}
		slash := strings.LastIndexByte(folder, '/')
		if slash < 0 {
			return "", false
		}
		folder = folder[:slash]
	}
}

func inTestsOrScripts(dir string) bool {
	return strings.HasPrefix(dir, "tests") || strings.HasPrefix(dir, "scripts")
}

func TestPackagesImportDownwardsOnly(t *testing.T) {
	t.Parallel()
	for _, f := range source(t).files {
		folder, known := folderOf(f.dir)
		if !known && !inTestsOrScripts(f.dir) {
			t.Errorf("%s: the folder %s is not in the layout (CONTRIBUTING.md)", f.path, f.dir)
		}
		for _, imported := range f.imports {
			target, inside := strings.CutPrefix(imported, module)
			if !inside {
				continue
			}
			targetFolder, _ := folderOf(target)
			switch {
			case strings.HasPrefix(target, "scripts"):
				t.Errorf("%s imports %s: nothing imports scripts", f.path, target)
			case strings.HasPrefix(target, "tests") && !f.test && !strings.HasPrefix(f.dir, "tests"):
				t.Errorf("%s imports %s: only tests import tests", f.path, target)
			case f.test || inTestsOrScripts(f.dir), target == "sidecar/metrics",
				target == "sidecar/failpoint", targetFolder == folder:
			case !slices.Contains(mayImport[folder], targetFolder):
				t.Errorf("%s imports %s: %s may import %v; hand it a func in app", f.path, target, folder,
					mayImport[folder])
			}
		}
	}
}

func TestLibrariesStayWhereTheyAreNamed(t *testing.T) {
	t.Parallel()
	for _, f := range source(t).files {
		folder, _ := folderOf(f.dir)
		if f.test || inTestsOrScripts(f.dir) {
			continue
		}
		for _, imported := range f.imports {
			for library, folders := range onlyIn {
				if strings.HasPrefix(imported, library) && !slices.Contains(folders, folder) {
					t.Errorf("%s imports %s: only %v may", f.path, imported, folders)
				}
			}
			libraries, limited := onlyImports[folder]
			host, _, _ := strings.Cut(imported, "/")
			if limited && strings.Contains(host, ".") && !strings.HasPrefix(imported, module) &&
				!slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(imported, l) }) {
				t.Errorf("%s imports %s: %s may import the standard library and %v", f.path, imported, folder, libraries)
			}
		}
	}
}

// TestRulesCanFail proves on made-up cases that the table is read as meant.
func TestRulesCanFail(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{
		"sidecar": "sidecar", "sidecar/span": "sidecar/span", "sidecar/httpapi/web": "sidecar/httpapi",
		"kernels/policies": "kernels", "sidecar/other": "", "elsewhere": "",
	} {
		if got, _ := folderOf(dir); got != want {
			t.Errorf("%s belongs to %q, want %q", dir, got, want)
		}
	}
	siblings := []string{"sidecar/tail", "sidecar/engine", "sidecar/stage0", "sidecar/seal", "sidecar/httpapi"}
	for _, a := range siblings {
		for _, b := range siblings {
			if slices.Contains(mayImport[a], b) {
				t.Errorf("%s may import its sibling %s", a, b)
			}
		}
	}
}
