package stage0

import (
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// A policy that waits holds up the spans behind it as one that computes does.
func TestAPolicyWaitsNoLongerThanItMayCompute(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	const sleeps = `async function on() { await new Promise((ends) => setTimeout(ends, 40000)); return [] }`
	note := b.put(1, "task", shared("alice", "t1"))
	b.refusedAs("one that sleeps", b.rule(10, "alice", "t1", sleeps), note, span.RunTimeout,
		"waited longer than 2s")

	timed := b.rule(11, "alice", "t1", sleeps)
	cause, tick := tickOf(timed, "alice", "t1", time.Now().Add(-time.Minute), time.Now())
	rows := b.judge(timed, cause, tick)
	if len(rows) != 1 || rows[0].EntityType != "policy_error" {
		t.Fatalf("of a tick: got %d spans, want a policy_error", len(rows))
	}
	wantCode(t, "of a tick", rows[0], span.RunTimeout, "waited longer than 10s")
}
