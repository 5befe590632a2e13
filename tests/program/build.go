// Package program is for tests of whole programs: it builds the real `logline` once for a test binary, runs
// it and others beside a test, hears what they say, and knows which of them `make test` installs.
//
//	func TestMain(m *testing.M) { os.Exit(program.Run(m, pgtest.Run)) }
//
//	p := program.Start(t, []string{"DATABASE_URL=" + db.SidecarURL, "LOGLINE_LISTEN=127.0.0.1:0"}, "serve")
//	p.AwaitReady()
//	p.Kill() // kill -9; Stop is a signal and its exit code
//
// What it starts ends with its test, or with the test binary, however that ends (on Linux). It knows no
// database and no span: those are pgtest's and the tests' own.
//
// To let a test use one more program: a line in tools.txt, and Find in the test.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// source is what the binary is built from.
const source = "github.com/loglineos/loglineos/sidecar"

// binary is the path of `logline`. Run sets it before any test begins.
var binary string

// Run builds `logline` with more flags of go build, then has tests run them all, and returns the exit code.
func Run(m *testing.M, tests func(*testing.M) int, flags ...string) int {
	dir, err := os.MkdirTemp("", "loglineos-program-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "program: make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "logline")
	if err := Build(binary, source, flags...); err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		return 1
	}
	return tests(m)
}

// Logline is the path of the binary that Run has built.
func Logline() string {
	if binary == "" {
		panic("program: the package needs func TestMain(m *testing.M) { os.Exit(program.Run(m, pgtest.Run)) }")
	}
	return binary
}

// OnPath is a PATH on which `logline` comes first, and then more folders, as a variable of an environment.
func OnPath(more ...string) string {
	folders := append([]string{filepath.Dir(Logline())}, more...)
	return "PATH=" + strings.Join(append(folders, os.Getenv("PATH")), ":")
}

// Build builds a command as it is shipped: without cgo.
func Build(path, source string, flags ...string) error {
	build := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), source)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return nil
}
