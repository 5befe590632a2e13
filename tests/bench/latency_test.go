package bench

import (
	"strconv"
	"testing"
	"time"
)

// BenchmarkIdleLatency schedules one function every 10 ms, 200 times, each a new one, and measures from the
// return of the client's COMMIT to the arrival of the execution's commit at a second reader of the WAL.
// The baseline is the same client's transaction alone: one commit with fsync.
func BenchmarkIdleLatency(b *testing.B) {
	notQuick(b)
	const rounds, warmup = 200, 20
	s := start(b)
	arrivals := s.watch(b)
	conn := s.connect(b)
	for b.Loop() {
		var took, alone []time.Duration
		ticker := time.NewTicker(10 * time.Millisecond)
		for i := range rounds + warmup {
			<-ticker.C
			trace := "latency-" + strconv.FormatInt(time.Now().UnixNano(), 36)
			began := time.Now()
			committed := insert(b, conn, trace, 1)
			done := s.awaitExecution(b, arrivals, trace)
			if i >= warmup {
				alone = append(alone, committed.Sub(began))
				took = append(took, done.Sub(committed))
			}
		}
		ticker.Stop()
		b.ReportMetric(percentile(took, 50), "p50_ms")
		b.ReportMetric(percentile(took, 95), "p95_ms")
		b.ReportMetric(percentile(took, 99), "p99_ms")
		b.ReportMetric(percentile(alone, 50), "baseline_insert_p50_ms")
		b.ReportMetric(percentile(took, 50)/percentile(alone, 50), "p50_ratio_to_insert")
	}
}

func (s *system) awaitExecution(b *testing.B, arrivals <-chan arrival, trace string) time.Time {
	deadline := time.After(10 * time.Second)
	for {
		select {
		case a, ok := <-arrivals:
			if !ok {
				b.Fatal("the second reader lost its connection")
			}
			if a.entityType == "execution" && a.trace == trace {
				if a.status != "complete" {
					b.Fatalf("the execution ended as %s: %s", a.status, s.failure(b, trace))
				}
				return a.at
			}
		case <-deadline:
			b.Fatal("no execution within 10 s")
		}
	}
}
