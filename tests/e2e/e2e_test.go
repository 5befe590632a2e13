// Package e2e_test drives the real binary against a real Postgres: what a client commits comes back as
// exactly one execution, visible to those who may see it, whatever is killed in between.
//
//	test ──► PostgREST's transaction ──► Postgres ◄── WAL ── logline serve (a process, killed for real)
//	  ▲                                     │
//	  └────── reads as owner or user ◄──────┘
//
// Each test takes a Postgres of its own, because each makes a replication slot. Waiting is polling with a
// deadline that is far beyond what a busy machine needs; nothing else depends on time. A random test prints
// its seed; LOGLINE_E2E_SEED=… runs it again.
package e2e_test

import (
	"fmt"
	"os"
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
	if len(os.Args) > 1 && os.Args[1] == bareRootArg {
		fmt.Fprintln(os.Stderr, "e2e: enter a bare root:", enterBareRoot(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(program.Run(m, pgtest.Run))
}

// pause lets a random moment pass before a kill. Nothing is expected of it.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
