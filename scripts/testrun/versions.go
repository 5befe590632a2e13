package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/devdb"
)

// matrixPackage is what runs on every supported version of Postgres.
const matrixPackage = module + "tests/sqlrules"

// matrix says how much of it: all, or one test that walks through the whole path.
var matrix = []struct {
	major string
	whole bool
}{{"15", true}, {"17", true}, {"16", false}, {"18", false}}

// settleVersion returns the major version that the tests run on, and makes it the environment's, so that
// a container and a server of this machine are of the same one. It returns "" where the tests have a
// server of their own.
func settleVersion() string {
	if os.Getenv("TEST_DATABASE_URL") != "" {
		return ""
	}
	major := os.Getenv("PG")
	if major == "" {
		ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
		defer cancel()
		version, err := devdb.Find(ctx, devdb.Options{Log: func(text string) { fmt.Println(text) }})
		if err != nil {
			fmt.Fprintln(os.Stderr, "testrun:", err)
			return ""
		}
		major, _, _ = strings.Cut(version, ".")
	}
	if err := os.Setenv("PG", major); err != nil {
		fmt.Fprintln(os.Stderr, "testrun: set PG:", err)
	}
	return major
}

// otherVersions runs the laws of the ledger on the versions that the tests have not run on. One that can
// not be had is skipped by name, and so are all where flags pick some tests or the server is given.
func otherVersions(r *report, done string, flags []string) (int, error) {
	picks := slices.ContainsFunc(flags, func(flag string) bool {
		return strings.HasPrefix(strings.TrimLeft(flag, "-"), "run") ||
			strings.HasPrefix(strings.TrimLeft(flag, "-"), "skip")
	})
	code := 0
	for _, version := range matrix {
		name := "Postgres " + version.major
		switch {
		case version.major == done:
			continue
		case done == "":
			r.skips = append(r.skips, skip{"", name, "the tests have run on the server of TEST_DATABASE_URL"})
			continue
		case picks:
			r.skips = append(r.skips, skip{"", name, "the flags pick tests"})
			continue
		}
		if err := fetch(version.major); err != nil {
			reason, _, _ := strings.Cut(err.Error(), "\n")
			r.skips = append(r.skips, skip{"", name, reason})
			continue
		}
		installTools() // this Postgres may be new, and want its extensions
		args := append(slices.Clone(flags), matrixPackage)
		if !version.whole {
			args = append([]string{"-run", "^TestSmoke$"}, args...)
		}
		r.begin(name)
		exit, err := goTest(r, args, "PG="+version.major)
		r.end()
		if err != nil {
			return 1, err
		}
		code = max(code, exit)
	}
	return code, nil
}

func fetch(major string) error {
	ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
	defer cancel()
	_, err := devdb.Find(ctx, devdb.Options{Version: major, Log: func(text string) { fmt.Println(text) }})
	return err
}

// pass is one run of go test that the summary names.
type pass struct {
	name                    string
	passed, failed, skipped int
	took                    time.Duration
}

// begin counts what follows as a pass of its own, too.
func (r *report) begin(name string) {
	r.started = time.Now()
	r.passes = append(r.passes, pass{name: name, passed: r.passed, failed: r.failed, skipped: len(r.skips)})
	fmt.Fprintf(r.out, "%s\n", name)
}

// end closes the pass and puts its name before what it skipped.
func (r *report) end() {
	p := &r.passes[len(r.passes)-1]
	for i := p.skipped; i < len(r.skips); i++ {
		r.skips[i].pkg, r.skips[i].test = "", p.name+" "+r.skips[i].test
	}
	p.passed, p.failed, p.skipped = r.passed-p.passed, r.failed-p.failed, len(r.skips)-p.skipped
	p.took = time.Since(r.started)
}
