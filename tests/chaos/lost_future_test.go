package chaos_test

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// The server is set back to an older state, as by a restore or a failover that loses commits, while a sidecar
// lives: what it had under way for rows that are in no ledger any more must not be written.
func TestALostFutureHasNoEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.plan(0)
	w.add("a")
	w.leader()
	w.insert(alice, w.functions(2)...)
	w.awaitProbe()
	w.awaitQuiet()
	data := w.cluster.Server.Data()
	move := func(name string, args ...string) {
		t.Helper()
		if said, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, said)
		}
	}
	w.stopPostgres(syscall.SIGINT)
	move("cp", "-a", data, data+".old")
	w.restartPostgres()
	w.leader()
	for range 10 {
		var rows []columns
		for range 20 {
			rows = append(rows, spanOf(w.random, "order", nil))
		}
		w.insert(alice, append(rows, w.functions(10)...)...)
	}
	w.stopPostgres(syscall.SIGQUIT)
	move("mv", data, data+".lost")
	move("mv", data+".old", data)
	w.pass(3 * time.Second) // its commits are tried again and again
	w.restartPostgres()
	w.leader()
	w.insert(alice, w.functions(2)...)
	w.awaitProbe()
	w.awaitQuiet()
	for name, said := range w.judge() {
		t.Errorf("broken %d times: %s\n %s", len(said), name, said[0])
	}
}
