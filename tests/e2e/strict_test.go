package e2e_test

import (
	"slices"
	"testing"
)

// Strict mode needs no restart: it holds from the manifest's version on, and goes with it.
func TestAStrictLedgerSharesNoWorkerBetweenTenants(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve("LOGLINE_WORKERS=1")
	both := func() {
		for _, u := range []user{alice, bob} {
			sameJSON(t, s.run(u, `return 1;`).execution(t).Output, `1`)
		}
	}
	strict := func(on bool) {
		s.govern(func(m map[string]any) { m["features"] = map[string]any{"strict_mode": on} })
	}
	both()
	before := sidecar.Children()
	both()
	if after := sidecar.Children(); !sameProcesses(before, after) {
		t.Fatalf("children %v, then %v: without strict mode one worker serves both", before, after)
	}
	strict(true)
	both()
	if after := sidecar.Children(); sameProcesses(before, after) {
		t.Errorf("children %v as before: strict mode shares the worker", after)
	}
	strict(false)
	both()
	judge(t, s)
}

func sameProcesses(a, b []int) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// That a wall that is missing is named, and why, is the sandbox's own test.
func TestAStrictLedgerIsReadyBehindAllWalls(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	s.govern(func(m map[string]any) { m["features"] = map[string]any{"strict_mode": true} })
	sameJSON(t, s.run(alice, `return 1;`).execution(t).Output, `1`)
	answer := sidecar.Readiness()
	stand := answer.Sandbox["landlock"] == "stands" && answer.Sandbox["seccomp"] == "stands"
	if answer.Ready != stand || len(answer.Sandbox) != 7 {
		t.Errorf("/readyz answers %+v", answer)
	}
}
