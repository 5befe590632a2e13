// Package chaos_test breaks a running ledger in every way that it is meant to survive, and then asks one
// oracle in SQL whether anything is missing, doubled or out of place.
//
//	plan(seed) ─┬─► load: clients of several tenants ─────► Postgres ◄── proxies ◄── 1 to 3 sidecars
//	            └─► faults: kill, freeze, cut, crash, … ──────┴───────────┴─────────────┘
//	then: quiet? ─► oracle.sql ─► drop schema engine, start again ─► quiet? ─► nothing new ─► oracle.sql
//
// The sidecars are the real binary, built with the tag failpoints. Everything random comes from one seed,
// which is printed; CHAOS_SEED=… makes the same plan of load and faults again. What the machine does
// meanwhile is not planned, so a race may need several runs of its seed.
//
// The short form runs in `make test`. CHAOS_MINUTES=15 (`make chaos`) adds the long one: scenarios from
// random seeds until the time is over.
//
// To add a fault: one entry in faults (faults_test.go). To add an invariant: one query in oracle.sql that
// returns a sentence for each breach, and one case in TestEachInvariantCanFail.
package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const (
	patience  = 90 * time.Second // for what takes seconds at most on an idle machine
	pollEvery = 10 * time.Millisecond
)

// logline is the path of the binary under test. TestMain sets it.
var logline string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "5"); err != nil { // scenarios wait more than they work
		fmt.Fprintln(os.Stderr, "chaos: run tests at once:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "loglineos-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos: make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	logline = filepath.Join(dir, "logline")
	if given := os.Getenv("CHAOS_BINARY"); given != "" {
		logline = given
		return pgtest.Run(m)
	}
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", logline,
		"github.com/loglineos/loglineos/sidecar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: build the binary:", err)
		return 1
	}
	return pgtest.Run(m)
}

// seedOf returns the seed of a scenario and prints it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if given := os.Getenv("CHAOS_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	t.Logf("run it again with CHAOS_SEED=%d and -run '^%s$'", seed, t.Name())
	return seed
}

// eventually polls until done answers true, and fails the test when that takes longer than patience.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !within(t, patience, done) {
		t.Fatalf("not within %s: %s", patience, what)
	}
}

// within polls for at most limit and says whether done answered true.
func within(t testing.TB, limit time.Duration, done func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// pass lets time go by: the length of a fault, the gap between two inserts. Nothing is expected of it.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
