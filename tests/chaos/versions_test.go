package chaos_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// older builds the binary of an older state of this repository: of the commit CHAOS_OLD, else of the tenth
// before the newest.
func older(t *testing.T) string {
	t.Helper()
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	commit := os.Getenv("CHAOS_OLD")
	if commit == "" {
		var err error
		if commit, err = git("rev-parse", "--verify", "HEAD~10"); err != nil {
			t.Skipf("an older version takes the history of this repository: %s", commit)
		}
	}
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "source"), filepath.Join(dir, "logline")
	if out, err := git("worktree", "add", "--detach", source, commit); err != nil {
		t.Fatalf("check %s out: %s", commit, out)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "git", "worktree", "remove", "--force", source).
			CombinedOutput(); err != nil {
			t.Errorf("remove the older source: %s", out)
		}
	})
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./sidecar")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("commit %s does not build: %s", commit, out)
	}
	t.Logf("the older version is of %.12s", commit)
	return binary
}

// Three sidecars of an older version are replaced by this one's, one after another, under load, and one of
// them goes back and forth.
func TestARollingUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	long(t)
	old := older(t)
	w := newWorld(t, options{})
	for _, name := range []string{"a", "b", "c"} {
		w.add(name).binary = old
	}
	w.killAll()
	for _, s := range w.sidecars {
		s.start()
		w.leader() // one after another: an older version may not make its tables beside others
	}
	l := w.plan(240)
	l.release(0.1)
	l.start()
	for i, step := range []struct {
		sidecar int
		binary  string
	}{{0, logline()}, {1, logline()}, {1, old}, {2, logline()}, {1, logline()}} {
		l.release(0.1 + 0.15*float64(i+1))
		w.leader()
		s := w.sidecars[step.sidecar]
		s.Send(syscall.SIGTERM)
		if code := s.Wait(); code != 0 {
			t.Errorf("seed %d: SIGTERM ends %s with %d", w.seed, s.name, code)
		}
		s.binary = step.binary
		s.start()
		w.pass(time.Second) // of the load
	}
	w.conclude()
}
