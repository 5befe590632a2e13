package chaos_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/program"
)

// A rolling restart of three sidecars under load loses nothing, and the work goes on: how long nobody led is
// measured.
func TestARollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.leader()
	w.add("b")
	w.add("c")
	l := w.plan(120)
	l.release(0.1)
	l.start()
	for i := range 3 {
		l.release(0.2 + 0.25*float64(i+1))
		leader := w.leader()
		leader.Send(syscall.SIGTERM)
		began := time.Now()
		program.Eventually(t, "another one leads", func() bool { return w.isLedWithout(leader) })
		t.Logf("handed over in %d ms after SIGTERM", time.Since(began).Milliseconds())
		if code := leader.Wait(); code != 0 {
			t.Errorf("SIGTERM ends %s with %d", leader.name, code)
		}
		leader.start()
	}
	w.conclude()
	if lost := one[int](w, `select count(*) from ledger.universal_registry
		where entity_type = 'request' and status = 'dead' and did is distinct from 'failed'`); lost > 0 {
		t.Errorf("%d requests are dead after a graceful restart", lost)
	}
}

// Kills of the leader under load: who stands by goes on at once.
func TestTakeoverAfterKill9(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for _, name := range []string{"a", "b", "c"} {
		w.add(name)
	}
	l := w.plan(90)
	l.release(0.1)
	l.start()
	var took []time.Duration
	for i := range 5 {
		l.release(0.1 + 0.15*float64(i+1))
		leader := w.leader()
		leader.Kill()
		began := time.Now()
		program.Eventually(t, "another one leads", func() bool { return w.isLedWithout(leader) })
		took = append(took, time.Since(began))
		leader.start()
		program.Eventually(t, "the killed one stands by", func() bool {
			return leader.Readiness().Phase == "standby"
		})
	}
	slices.Sort(took)
	t.Logf("taken over after kill -9 in %s", took)
	w.conclude()
}

// The ledger is the truth of quotas: however often the leader changes, nobody has more runs than his limit.
func TestQuotasAreExactAcrossTakeovers(t *testing.T) {
	t.Parallel()
	const limit = 40
	w := newWorld(t, options{tenantLimit: limit})
	w.add("a")
	w.add("b")
	w.plan(0)
	for range 4 {
		w.insert(bob, w.scheduledOf(bob, limit/2)...)
		w.pass(time.Duration(w.random.IntN(300)) * time.Millisecond)
		w.any().strike()
	}
	program.Eventually(t, "the limit is reached, and the rest is blocked", func() bool {
		n, err := ask[int](w, `select count(distinct id) from ledger.universal_registry
			where entity_type = 'request' and tenant_id = 'globex' and status in ('complete', 'blocked')`)
		return err == nil && n == 2*limit
	})
	w.heal()
	w.leader()
	program.Eventually(t, "what the last leader has asked again is blocked anew", func() bool {
		n, err := ask[int](w, `select count(*) from ledger.universal_registry r
			where entity_type = 'request' and tenant_id = 'globex' and status not in ('complete', 'blocked')
				and not exists (select from ledger.universal_registry n where n.id = r.id and n.seq = r.seq + 1)`)
		return err == nil && n == 0
	})
	ran := one[int](w, `select count(*) from ledger.universal_registry
		where entity_type = 'execution' and tenant_id = 'globex'`)
	if ran != limit {
		t.Errorf("seed %d: %d executions, the limit is %d", w.seed, ran, limit)
	}
	w.mustHold("at the limit")
}

// scheduledOf are n functions of a user.
func (w *world) scheduledOf(u user, n int) []columns {
	var rows []columns
	for range n {
		rows = append(rows, w.scheduled(w.random, u, 0).rows[0])
	}
	return rows
}

// One tenant's hundreds do not make another wait for more than its share.
func TestAFloodDoesNotMakeOthersWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.plan(0)
	w.leader()
	for range 4 {
		w.insert(mallory, w.scheduledOf(mallory, 200)...)
	}
	for i := range 10 {
		w.insert([]user{alice, bob}[i%2], columns{"id": newID(w.random), "entity_type": "request",
			"status": "scheduled", "name": "fair", "parent_id": w.shared([]user{alice, bob}[i%2].tenant),
			"input": columns{"n": i}})
		w.pass(20 * time.Millisecond)
	}
	w.awaitEnded(810)
	w.conclude()
}
