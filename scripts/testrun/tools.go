package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// Bounds of one call of apt-get, and of npm.
const (
	aptTimeout = 5 * time.Minute
	npmTimeout = 5 * time.Minute // some 100 MB, nearly all of it the Supabase CLI
)

// tool is a program that some test uses, and Debian's package of it. Postgres is not here: the tests'
// own helper finds or fetches it; but its extensions are.
type tool struct{ program, debianPackage, usedBy string }

var tools = []tool{
	{"node", "nodejs", "tests/vectors: the second implementation of spans and signatures"},
	{"npm", "npm", "tests/supabase: the Supabase CLI and clients; kernels: TypeScript"},
	{"pg_prove", "libtap-parser-sourcehandler-pgtap-perl", "tests/supabase: the pgTAP files"},
	{"curl", "curl", "tests/supabase: the shell snippets of docs/clients.md"},
}

// extensions are Postgres' own, by control file, and the end of Debian's package of them.
var extensions = []struct{ name, debianPackage string }{
	{"pgtap", "pgtap"},                 // tests/sqlrules, tests/supabase
	{"plpgsql_check", "plpgsql-check"}, // tests/supabase: supabase db lint
}

// installTools installs what is missing, on Debian as root. A failure is said and costs no test but
// those that need the tool: they are skipped by name.
func installTools() {
	if os.Geteuid() != 0 || !isDebian() {
		return
	}
	packages := missingExtensions()
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			packages = append(packages, t.debianPackage)
		}
	}
	if len(packages) == 0 {
		return
	}
	fmt.Printf("installing %s by apt-get, for tests that use it\n", strings.Join(packages, ", "))
	install := append([]string{"install", "-y", "--no-install-recommends"}, packages...)
	if err := aptGet(install...); err == nil {
		return
	}
	err := aptGet("update") // a fresh container has no lists
	if err == nil {
		err = aptGet(install...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
}

// nodeDir holds the npm packages that tests use, with a lock file.
const nodeDir = "tests/node"

// installNodePackages installs the npm packages of tests/node where npm is there and they are not, or not
// in the versions of the lock file. A failure costs only the tests that use them: they are skipped by name.
func installNodePackages() {
	if hasNodePackages() {
		return
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return
	}
	fmt.Println("installing the packages of " + nodeDir + " by npm, for tests that use them")
	ctx, cancel := context.WithTimeout(context.Background(), npmTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "npm", "ci", "--prefix", nodeDir, "--no-audit", "--no-fund")
	if out, err := command.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		fmt.Fprintf(os.Stderr, "testrun: run npm ci: %v: %s\n", err, lines[len(lines)-1])
	}
}

// hasNodePackages compares what the lock file wants with what npm has written down when it installed.
func hasNodePackages() bool {
	type lock struct {
		Packages map[string]struct {
			Version  string
			Optional bool
		}
	}
	var wanted, installed lock
	for path, into := range map[string]*lock{
		"package-lock.json": &wanted, "node_modules/.package-lock.json": &installed,
	} {
		text, err := os.ReadFile(filepath.Join(nodeDir, path))
		if err != nil || json.Unmarshal(text, into) != nil {
			return false
		}
	}
	for name, p := range wanted.Packages {
		// Most optional packages are for other machines.
		if name != "" && !p.Optional && installed.Packages[name].Version != p.Version {
			return false
		}
	}
	return true
}

// missingExtensions lists Debian's packages of extensions for each Postgres that is installed. A machine
// without one gets it first, here instead of in the first test that asks for it.
func missingExtensions() []string {
	const installed = "/usr/lib/postgresql/*/bin/postgres"
	found, _ := filepath.Glob(installed) // the only error is a bad pattern
	if len(found) == 0 && os.Getenv("TEST_DATABASE_URL") == "" && os.Getenv("PG") == "" {
		if err := startOnce(); err != nil {
			fmt.Fprintln(os.Stderr, "testrun:", err)
		}
		found, _ = filepath.Glob(installed)
	}
	var packages []string
	for _, program := range found {
		major := filepath.Base(filepath.Dir(filepath.Dir(program)))
		for _, e := range extensions {
			control := "/usr/share/postgresql/" + major + "/extension/" + e.name + ".control"
			if _, err := os.Stat(control); err != nil {
				packages = append(packages, "postgresql-"+major+"-"+e.debianPackage)
			}
		}
	}
	return packages
}

// startOnce has devdb find or install Postgres.
func startOnce() error {
	dir, err := os.MkdirTemp("", "loglineos-testrun-")
	if err != nil {
		return fmt.Errorf("make a directory for Postgres: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // it runs as another user
		return fmt.Errorf("open the directory of Postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
	defer cancel()
	server, err := devdb.Start(ctx, devdb.Options{Dir: dir, Log: func(text string) { fmt.Println(text) }})
	if err != nil {
		return fmt.Errorf("look for Postgres: %w", err)
	}
	return server.Stop(ctx)
}

func isDebian() bool {
	_, err := os.Stat("/etc/debian_version")
	_, lookErr := exec.LookPath("apt-get")
	return err == nil && lookErr == nil
}

func aptGet(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
	defer cancel()
	options := []string{"-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"}
	command := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l")
	out, err := command.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("run apt-get %s: %w: %s", args[0], err, lines[len(lines)-1])
	}
	return nil
}
