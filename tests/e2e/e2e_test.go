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
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const (
	patience  = 60 * time.Second // for what takes milliseconds on an idle machine
	pollEvery = 10 * time.Millisecond
)

// logline is the path of the binary under test. TestMain sets it.
var logline string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == bareRootArg {
		fmt.Fprintln(os.Stderr, "e2e: enter a bare root:", enterBareRoot(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "loglineos-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	logline = filepath.Join(dir, "logline")
	build := exec.Command("go", "build", "-o", logline, "github.com/loglineos/loglineos/sidecar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: build the binary:", err)
		return 1
	}
	return pgtest.Run(m)
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

// pause lets a random moment pass before a kill. Nothing is expected of it.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
