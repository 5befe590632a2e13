package chaos_test

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/tests/program"
)

// named returns the faults of these names.
func named(names ...string) []fault {
	var found []fault
	for _, name := range names {
		found = append(found, faultNamed(name))
	}
	return found
}

func TestNothingIsLostOrDoubledByProcessesThatDie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.add("b")
	w.storm(150, named("kill -9 of the leader", "pg_ctl stop -m immediate", "SIGTERM of any sidecar",
		"freeze for 2 s", "every backend of the sidecars is terminated", "kill -9 of any sidecar"))
	w.conclude()
}

func TestNothingIsLostOrDoubledWithTheSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.storm(150, append(named("the slot is dropped", "the slot is made anew ahead of the cursor",
		"the slot is advanced behind the sidecars' back", "the cursor is lost", "the walsender is terminated",
		"the schema engine is dropped while the leader works",
		"the slot is dropped while a transaction stays open"), fault{"the slot is invalidated", (*world).loseSlot}))
	w.conclude()
}

func TestNothingIsLostOrDoubledByTheNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.add("b")
	w.storm(150, named("connections are reset", "acknowledgements are lost", "answers of commits are lost",
		"a black hole of SQL", "connections are half open", "the database refuses connections",
		"the network is slow"))
	w.conclude()
}

func TestNothingIsLostOrDoubledByWhatClientsAndOwnersDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.add("a")
	w.storm(120, []fault{
		{"a large transaction", func(w *world) { w.bulk(50_000, true) }},
		{"a large transaction is rolled back", func(w *world) { w.bulk(50_000, false) }},
		faultNamed("a transaction stays open"),
		faultNamed("the table changes"),
	})
	w.conclude()
}

func TestNothingIsLostOrDoubledByPolling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{more: []string{"LOGLINE_SOURCE=poll"}})
	w.add("a")
	w.add("b")
	w.storm(120, named("kill -9 of the leader", "a transaction stays open", "answers of commits are lost",
		"pg_ctl stop -m immediate", "the cursor is lost", "the schema engine is dropped while the leader works"))
	w.conclude()
}

// The places themselves, which exist in binaries of the tag alone.
func TestFailpointsDoWhatIsPlanned(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-tags", "failpoints",
		"github.com/loglineos/loglineos/sidecar/failpoint").CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// slow runs long enough to be marked as running.
const slow = `let n = 0; for (let i = 0; i < 6e6; i++) n += i; return {};`

// provoke inserts one of each that some place of the code needs to be passed.
func (w *world) provoke() {
	w.t.Helper()
	w.insert(alice, w.scheduled(w.random, alice, 1).rows[0], spanOf(w.random, "order", nil),
		w.scheduled(w.random, alice, 0, columns{"code": slow}).rows[0],
		columns{"id": newID(w.random), "entity_type": "request", "status": "scheduled",
			"parent_id": w.shared(alice.tenant), "input": columns{"n": 1}})
	later := columns{"id": newID(w.random), "entity_type": "request", "status": "scheduled",
		"parent_id": w.shared(alice.tenant), "scheduled_at": time.Now().Add(time.Hour)}
	wish := maps.Clone(later)
	wish["seq"], wish["status"] = 1, "cancel_requested"
	w.insert(alice, later)
	w.insert(alice, wish)
}

// atStop are the places that are passed when a sidecar is told to stop.
var atStop = map[string]bool{failpoint.DrainBegun: true, failpoint.LastCursor: true}

// Each place of the list is passed, and a sidecar that is killed there loses and doubles nothing.
func TestKill9AtEachFailpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.backdateTicks()
	w.recur()
	w.plan(40).start()
	s := w.add("a")
	for _, name := range slices.Sorted(maps.Keys(failpoint.Names())) {
		s.Kill()
		if strings.HasPrefix(name, "gap-") {
			w.dropEngine()
		}
		w.provoke()
		if name == failpoint.ClaimBegun {
			w.insert(alice, w.moreThanMemoryHas()...)
		}
		s.start("LOGLINE_FAILPOINTS=" + name + "=kill")
		switch {
		case atStop[name]:
			w.leader()
			s.Send(syscall.SIGTERM)
		case !program.Within(t, time.Second, s.HasEnded):
			w.provoke()
			for range 15 { // alone: what is made while others wait runs behind them
				if program.Within(t, time.Second, s.HasEnded) {
					break
				}
				w.insert(alice, w.scheduled(w.random, alice, 1).rows[0])
			}
		}
		if !program.Within(t, patience/3, s.HasEnded) || s.said("does=kill") == 0 {
			t.Errorf("seed %d: nothing passes the failpoint %s:\n%s", w.seed, name, program.Tail(s.Said()))
		}
	}
	s.start()
	w.conclude()
}

// moreThanMemoryHas are more requests of alice than the engine keeps in memory of one tenant: what the stream
// brings first is no orphan, and it may bring all others before the ledger is asked for them.
func (w *world) moreThanMemoryHas() []columns {
	var rows []columns
	for range 1100 {
		rows = append(rows, columns{"id": newID(w.random), "entity_type": "request", "status": "scheduled",
			"parent_id": w.shared(alice.tenant), "input": columns{"n": 1}})
	}
	return rows
}

// backdateTicks gives alice a policy on time that is two minutes old: its last boundary is judged at once.
func (w *world) backdateTicks() {
	w.t.Helper()
	w.exec(`begin; ` + withoutTriggers + `;
		insert into ledger.universal_registry (id, seq, entity_type, who, did, this, at, owner_id, tenant_id,
			visibility, is_deleted, status, name, language, code, metadata, accepted_at, xact)
		values ('` + newID(w.random).String() + `', 0, 'policy', 'user:alice', 'defined', 'policy',
			now() - interval '2 min', 'alice', 'acme', 'private', false, 'active', 'chaos-tick', 'javascript',
			'function on(span, ctx) { return [{ emit_span: { entity_type: "tock", name: ctx.input.tick.to } }]; }',
			'{"every": "minute"}', now() - interval '2 min', pg_current_xact_id());
		` + withTriggers + ` commit`)
}
