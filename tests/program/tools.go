package program

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed tools.txt
var tools string

// Find returns the path of a program of tools.txt. Where it is missing, t ends as Lacking says.
func Find(t testing.TB, name string) string {
	t.Helper()
	debianPackage := ""
	for line := range strings.Lines(tools) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			debianPackage = fields[1]
		}
	}
	if debianPackage == "" {
		t.Fatal("tests/program/tools.txt has no " + name + ": add it, so that make test installs it")
	}
	for _, path := range []string{name, "/usr/sbin/" + name, filepath.Join(toolFolder(), name)} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	Lacking(t, name, debianPackage)
	return ""
}

// toolFolder is where `make test` puts a program that it takes out of a package without installing that.
func toolFolder() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "loglineos-tools")
}

// Need is Find of several, whose paths do not matter.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Find(t, name)
	}
}

// Lacking ends t for want of something that Debian's package has, as Unfetched does.
func Lacking(t testing.TB, what, debianPackage string) {
	t.Helper()
	Unfetched(t, what+" is missing: Debian's package "+debianPackage+"; make test installs it as root on Debian")
}

// Unfetched ends t for want of something that `make test` installs or fetches: it is skipped, but fails where
// CI is set and this is root on Debian. So CI never goes without a test and is green.
func Unfetched(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") != "" && os.Geteuid() == 0 && isDebian() {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func isDebian() bool {
	_, err := os.Stat("/etc/debian_version")
	_, lookErr := exec.LookPath("apt-get")
	return err == nil && lookErr == nil
}
