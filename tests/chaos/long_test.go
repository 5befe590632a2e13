package chaos_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/tests/program"
)

// long skips a test that belongs to the long form alone, and returns how long that is to take.
func long(t *testing.T) time.Duration {
	t.Helper()
	given := os.Getenv("CHAOS_MINUTES")
	if given == "" {
		t.Skip("the long form: make chaos (CHAOS_MINUTES says how many minutes)")
	}
	minutes, err := strconv.Atoi(given)
	if err != nil {
		t.Fatalf("CHAOS_MINUTES: %v", err)
	}
	return time.Duration(minutes) * time.Minute
}

// longFaults take too long for the short form.
var longFaults = []fault{
	{"freeze for 10 s", func(w *world) { w.freeze(10 * time.Second) }},
	{"freeze of two at once", func(w *world) {
		both := []*sidecar{w.leader(), w.any()}
		for _, s := range both {
			s.Send(syscall.SIGSTOP)
		}
		w.pass(5 * time.Second)
		for _, s := range both {
			s.Send(syscall.SIGCONT)
		}
	}},
	{"a black hole for longer than anybody waits", func(w *world) {
		w.weather(weather{holdUp: true, holdDown: true}, 20*time.Second)
	}},
	{"the slot is invalidated", (*world).loseSlot},
	{"kill -9 at a random place", (*world).killSomewhere},
	{"kill -9 five times in a row", func(w *world) {
		for range 5 {
			w.pass(time.Duration(w.random.IntN(300)) * time.Millisecond)
			w.any().strike()
		}
	}},
	{"Postgres is killed twice", func(w *world) {
		w.crashPostgres()
		w.pass(time.Duration(w.random.IntN(1000)) * time.Millisecond)
		w.crashPostgres()
	}},
	{"another manifest takes force", func(w *world) { w.setLimit(1_000_000 + w.random.IntN(1000)) }},
}

// killSomewhere arms a place at random, on a hit at random, and waits for a while whether it is passed.
func (w *world) killSomewhere() {
	w.t.Helper()
	places := slices.Sorted(maps.Keys(failpoint.Names()))
	place := places[w.random.IntN(len(places))]
	s := w.any()
	s.Kill()
	s.start(fmt.Sprintf("LOGLINE_FAILPOINTS=%s=kill@%d", place, 1+w.random.IntN(5)))
	program.Within(w.t, 3*time.Second, s.HasEnded)
	s.strike()
}

// TestRandomFaults is the long form: worlds of random seeds, one after another, until the time is over.
// CHAOS_SEED makes one world of that seed.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(long(t))
	for round := 0; round == 0 || time.Now().Before(deadline) && os.Getenv("CHAOS_SEED") == ""; round++ {
		seed := seedOf(t)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			w := newWorld(t, options{seed: seed})
			random := rand.New(rand.NewPCG(seed, 3))
			w.backdateTicks()
			for i := range 1 + random.IntN(3) {
				more := []string{}
				if random.IntN(4) == 0 {
					more = append(more, "LOGLINE_SOURCE=poll")
				}
				w.add(string(rune('a'+i)), more...)
			}
			all := slices.Concat(faults, longFaults)
			var planned []fault
			for range 5 + random.IntN(6) {
				planned = append(planned, all[random.IntN(len(all))])
			}
			w.storm(200+random.IntN(300), planned)
			w.conclude()
		})
	}
}

func TestAMillionRowsInOneTransaction(t *testing.T) {
	t.Parallel()
	long(t)
	w := newWorld(t, options{})
	w.add("a")
	w.add("b")
	w.storm(60, []fault{
		{"a million rows", func(w *world) { w.bulk(1_000_000, true) }},
		{"a million rows are rolled back", func(w *world) { w.bulk(1_000_000, false) }},
		faultNamed("kill -9 of the leader"),
		{"the cursor is lost, with a million rows to read", faultNamed("the cursor is lost").do},
	})
	w.conclude()
}

func TestAFreezeOf90Seconds(t *testing.T) {
	t.Parallel()
	long(t)
	w := newWorld(t, options{})
	w.add("a")
	w.add("b")
	w.storm(120, []fault{{"freeze for 90 s", func(w *world) { w.freeze(90 * time.Second) }}})
	w.conclude()
}
