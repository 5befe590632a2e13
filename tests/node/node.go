// Package node runs what the tests have in JavaScript, with the Node of the machine and the packages that
// are pinned in this folder.
package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Checker is a run of tests/vectors/check.mjs, the second implementation of hashes and signatures, in its
// own folder. Where it can not be run, the test is skipped by name: call it before anything else is lost.
func Checker(t testing.TB, arguments ...string) *exec.Cmd {
	t.Helper()
	_, file, _, _ := runtime.Caller(0) // go test is run from a checkout
	here := filepath.Dir(file)
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip("check.mjs, the second implementation: Node is not installed (make test installs it where it can)")
	}
	if _, err := os.Stat(filepath.Join(here, "node_modules", "@noble", "curves")); err != nil {
		t.Skip("check.mjs, the second implementation: its packages are missing (npm ci --prefix tests/node)")
	}
	cmd := exec.Command(program, append([]string{"check.mjs"}, arguments...)...)
	cmd.Dir = filepath.Join(here, "..", "vectors")
	return cmd
}
