// Command testrun runs `go test` and shows what it says, with one thing more: the tests that were
// skipped, by name, with their reasons and a count.
//
//	go run ./scripts/testrun [-race PACKAGES] [-packages PACKAGES] -- [FLAGS OF go test]
//
// Its lines about packages (ok, FAIL, no test files) and whatever a failed test or build printed come
// verbatim and as soon as they are there; its exit code is kept. Packages of -race run with the race
// detector, where a C compiler is found. Before it, on Debian as root, programs that a test can use are
// installed by apt-get (tests/program/tools.txt); elsewhere those tests are skipped. With CI=true they fail
// instead where it should have installed them. After them the laws of the ledger run on the other versions of
// Postgres (versions.go).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const module = "github.com/loglineos/loglineos/"

func main() {
	race := flag.String("race", "", "packages that run with the race detector, with spaces")
	packages := flag.String("packages", "./...", "packages to test, with spaces")
	flag.Parse()
	code, err := run(strings.Fields(*race), strings.Fields(*packages), flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run tests packages in two passes, because the race detector is a matter of a whole build.
func run(race, packages, flags []string) (int, error) {
	installTools()
	installNodePackages()
	r := newReport(os.Stdout)
	major := settleVersion()
	all, err := list(packages)
	if err != nil {
		return 1, err
	}
	raced, err := list(race)
	if err != nil {
		return 1, err
	}
	if cause := noRace(); cause != "" && len(raced) > 0 {
		r.skips = append(r.skips, skip{"", "race detector", cause})
		raced = nil
	}
	plain := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(raced, p) })
	raced = slices.DeleteFunc(raced, func(p string) bool { return !slices.Contains(all, p) })
	code := 0
	for _, pass := range []struct{ flags, packages []string }{
		{flags, plain}, {append([]string{"-race"}, flags...), raced},
	} {
		if len(pass.packages) == 0 {
			continue
		}
		exit, err := goTest(r, append(slices.Clone(pass.flags), pass.packages...))
		if err != nil {
			return 1, err
		}
		code = max(code, exit)
	}
	if slices.Contains(all, matrixPackage) {
		exit, err := otherVersions(r, major, flags)
		if err != nil {
			return 1, err
		}
		code = max(code, exit)
	}
	r.printEnd(code)
	return code, nil
}

// list resolves patterns to import paths.
func list(patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	command := exec.Command("go", append([]string{"list"}, patterns...)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// noRace says why the race detector cannot run, "" where it can.
func noRace() string {
	out, err := exec.Command("go", "env", "CC", "CGO_ENABLED").Output()
	words := strings.Fields(string(out))
	if err != nil || len(words) < 2 {
		return "go env CC CGO_ENABLED has no answer"
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return "no C compiler (" + words[0] + ")"
	}
	if words[len(words)-1] == "0" {
		return "CGO_ENABLED is 0"
	}
	return ""
}

// goTest runs `go test -json -count=1 args`, with env over the environment, and returns its exit code.
func goTest(r *report, args []string, env ...string) (int, error) {
	command := exec.Command("go", append([]string{"test", "-json", "-count=1"}, args...)...)
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), env...)
	stdout, err := command.StdoutPipe()
	if err != nil {
		return 1, fmt.Errorf("run go test: %w", err)
	}
	if err := command.Start(); err != nil {
		return 1, fmt.Errorf("run go test: %w", err)
	}
	readErr := r.read(stdout)
	var exit *exec.ExitError
	if err := command.Wait(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), readErr
	} else if err != nil {
		return 1, fmt.Errorf("run go test: %w", err)
	}
	return 0, readErr
}
