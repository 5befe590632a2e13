package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// Bounds of one call of apt-get, and of npm.
const (
	aptTimeout = 5 * time.Minute
	npmTimeout = 5 * time.Minute // some 100 MB, nearly all of it the Supabase CLI
)

// toolList has, in its lines, a program that some test uses, Debian's package of it, and who uses it.
// Postgres is not in it: the tests' own helper finds or fetches it; but its extensions are below.
const toolList = "tests/program/tools.txt"

// unpacked are the programs that are taken out of their package, into the folder where tests look for them:
// to install prometheus would start a server.
var unpacked = []string{"promtool"}

// extensions are Postgres' own, by control file, and the end of Debian's package of them.
var extensions = []struct{ name, debianPackage string }{
	{"pgtap", "pgtap"},                 // tests/sqlrules, tests/supabase
	{"plpgsql_check", "plpgsql-check"}, // tests/supabase: supabase db lint
}

// installTools installs what is missing, on Debian as root. A failure is said and costs no test but those
// that need the tool: they are skipped by name, or fail where CI is set.
func installTools() {
	if os.Geteuid() != 0 || !isDebian() {
		return
	}
	packages, toUnpack := missingTools()
	packages = append(packages, missingExtensions()...)
	if len(packages) > 0 {
		fmt.Printf("installing %s by apt-get, for tests that use it\n", strings.Join(packages, ", "))
		say(withLists(func() error {
			return aptGet(append([]string{"install", "-y", "--no-install-recommends"}, packages...)...)
		}))
	}
	for program, debianPackage := range toUnpack {
		fmt.Printf("fetching %s out of Debian's package %s, for tests that use it\n", program, debianPackage)
		say(withLists(func() error { return unpack(program, debianPackage) }))
	}
}

func say(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
}

// withLists tries again with new lists of packages: a fresh container has none.
func withLists(install func() error) error {
	if install() == nil {
		return nil
	}
	if err := aptGet("update"); err != nil {
		return err
	}
	return install()
}

// missingTools are packages to install, and programs to unpack with their packages.
func missingTools() (packages []string, toUnpack map[string]string) {
	text, err := os.ReadFile(toolList)
	if err != nil {
		say(fmt.Errorf("read the list of tools: %w", err))
	}
	toUnpack = map[string]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] == "#" || isThere(fields[0]) {
			continue
		}
		if slices.Contains(unpacked, fields[0]) {
			toUnpack[fields[0]] = fields[1]
		} else if !slices.Contains(packages, fields[1]) {
			packages = append(packages, fields[1])
		}
	}
	return packages, toUnpack
}

func isThere(program string) bool {
	return slices.ContainsFunc([]string{program, "/usr/sbin/" + program, filepath.Join(toolFolder(), program)},
		func(path string) bool { _, err := exec.LookPath(path); return err == nil })
}

// toolFolder is where tests look for programs that are nowhere else (tests/program).
func toolFolder() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "loglineos-tools")
}

// unpack takes a program out of Debian's package, as a whole or not at all.
func unpack(program, debianPackage string) error {
	dir, err := os.MkdirTemp("", "loglineos-testrun-")
	if err != nil {
		return fmt.Errorf("make a directory for %s: %w", program, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-euc", `chmod 777 . # apt-get fetches as another user
apt-get -q download "$1" && dpkg-deb -x "$1"_*.deb . && mkdir -p "$3"
cp "usr/bin/$2" "$3/$2.new" && mv "$3/$2.new" "$3/$2"`, "sh", debianPackage, program, toolFolder())
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %.300s", debianPackage, err, out)
	}
	return nil
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
