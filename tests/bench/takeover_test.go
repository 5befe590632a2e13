package bench

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTakeover ends the leader under load, with a standby beside it, and measures from the signal to
// the commit of the first execution of a function that was scheduled after it: SIGKILL, and SIGSTOP, which
// leaves its connections open. The baseline is the same with a leader that lives.
func BenchmarkTakeover(b *testing.B) {
	kills, stops := scaled(10), scaled(10)
	announce("Takeover", time.Duration(kills)*5*time.Second+time.Duration(stops)*9*time.Second)
	c := newCells(b)
	out := newResults(b, "takeover", c.server.URL("postgres"))
	for b.Loop() {
		s, drop := c.ledger()
		arrivals, closeReader := s.reader(b)
		leader := s.attach(b, binary, s.login, "LOGLINE_NODE=first")
		var alive []time.Duration
		for i := range scaled(50) {
			alive = append(alive, s.firstAfter(b, arrivals, "alive-"+strconv.Itoa(i), func() {}))
		}
		out.add(figure{Case: "takeover", System: "leader alive (baseline)", Round: 1, Values: spread(alive)})
		for _, way := range []struct {
			name   string
			metric string
			signal syscall.Signal
			times  int
		}{{"after kill -9", "kill_p50_ratio_to_alive", syscall.SIGKILL, kills},
			{"after SIGSTOP", "stop_p50_ratio_to_alive", syscall.SIGSTOP, stops}} {
			var took []time.Duration
			for i := range way.times {
				standby := s.spawn(b, binary, s.login, "LOGLINE_NODE=standby-"+strconv.Itoa(i))
				await(b, 30*time.Second, func() bool { return standby.phase(b) == "standby" })
				took = append(took, s.firstAfter(b, arrivals, way.name+strconv.Itoa(i), func() {
					must(b, leader.command.Process.Signal(way.signal))
				}))
				if way.signal == syscall.SIGSTOP {
					must(b, leader.command.Process.Kill())
				}
				leader.kill()
				leader = standby
			}
			out.add(figure{Case: "takeover", System: way.name, Round: 1, Values: spread(took)})
			b.ReportMetric(percentile(took, 50)/percentile(alive, 50), way.metric)
		}
		leader.stop()
		closeReader()
		drop()
	}
}

// firstAfter does something to the leader, then schedules a function every 20 ms, and returns how long after
// it the first of them has its execution.
func (s *system) firstAfter(b *testing.B, arrivals <-chan arrival, name string, do func()) time.Duration {
	b.Helper()
	conn := s.connect(b)
	defer conn.Close(b.Context())
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	do()
	began := time.Now()
	for i := 0; ; {
		select {
		case <-ticker.C:
			must(b, schedule(b.Context(), conn, 0, name+"/"+strconv.Itoa(i)))
			i++
		case a := <-arrivals:
			if a.entityType == "execution" && len(a.trace) > len(name) && a.trace[:len(name)+1] == name+"/" {
				return a.at.Sub(began)
			}
		case <-deadline:
			b.Fatalf("nothing ran within a minute after %s", name)
		}
	}
}

// spread is what a table shows of durations.
func spread(took []time.Duration) map[string]float64 {
	return map[string]float64{"p50_ms": percentile(took, 50), "p95_ms": percentile(took, 95),
		"p99_ms": percentile(took, 99), "max_ms": percentile(took, 100), "times": float64(len(took))}
}
