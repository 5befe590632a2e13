// Package node runs what the tests have in JavaScript, with the Node of the machine and the packages that
// are pinned in this folder. Where they are missing, the test ends as program.Lacking says.
package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// oldest is what supabase-js needs.
const oldest = 20

// here is this folder.
func here() string {
	_, file, _, _ := runtime.Caller(0) // go test is run from a checkout
	return filepath.Dir(file)
}

// modules is the folder of the packages. Call it before anything else is lost.
func modules(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(program.Find(t, "node"), "--version").Output()
	if err != nil {
		t.Fatalf("ask node for its version: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if number, err := strconv.Atoi(major); err != nil || number < oldest {
		t.Skipf("node is %s, supabase-js needs %d or later", strings.TrimSpace(string(out)), oldest)
	}
	path := filepath.Join(here(), "node_modules")
	if _, err := os.Stat(filepath.Join(path, ".package-lock.json")); err != nil {
		program.Lacking(t, "what npm ci --prefix tests/node installs", "npm")
	}
	return path
}

// Tool is the path of a program that one of the packages brings: tsc, supabase.
func Tool(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(modules(t), ".bin", name)
}

// Folder is a new folder in which node finds the packages, with copies of files.
func Folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	err := os.Symlink(modules(t), filepath.Join(dir, "node_modules"))
	for _, name := range files {
		var text []byte
		if err == nil {
			text, err = os.ReadFile(name)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644)
		}
	}
	if err != nil {
		t.Fatalf("make a folder for node: %v", err)
	}
	return dir
}

// Checker is a run of tests/vectors/check.mjs, the second implementation of hashes and signatures, in its
// own folder.
func Checker(t testing.TB, arguments ...string) *exec.Cmd {
	t.Helper()
	modules(t)
	cmd := exec.Command(program.Find(t, "node"), append([]string{"check.mjs"}, arguments...)...)
	cmd.Dir = filepath.Join(here(), "..", "vectors")
	return cmd
}
