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
	"strconv"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

const (
	patience  = program.Patience
	pollEvery = 10 * time.Millisecond
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "5"); err != nil { // scenarios wait more than they work
		fmt.Fprintln(os.Stderr, "chaos: run tests at once:", err)
		os.Exit(1)
	}
	if os.Getenv("CHAOS_BINARY") != "" {
		os.Exit(pgtest.Run(m))
	}
	os.Exit(program.Run(m, pgtest.Run, "-tags", "failpoints"))
}

// logline is the path of the binary under test.
func logline() string {
	if given := os.Getenv("CHAOS_BINARY"); given != "" {
		return given
	}
	return program.Logline()
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

// pass lets time go by: the length of a fault, the gap between two inserts. Nothing is expected of it.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
