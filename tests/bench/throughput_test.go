package bench

import (
	"testing"
	"time"
)

// BenchmarkThroughput inserts 5,000 scheduled functions in batches of 100 and measures until the last
// execution has arrived. The baseline is the insert of as many functions with status draft, which run
// nothing.
func BenchmarkThroughput(b *testing.B) {
	notQuick(b)
	const functions, batch = 5000, 100
	s := start(b)
	arrivals := s.watch(b)
	conn := s.connect(b)
	insert(b, conn, "warm", batch)
	countExecutions(b, arrivals, "warm", batch)
	for b.Loop() {
		began, before := time.Now(), s.cpu(b)
		for range functions / batch {
			insert(b, conn, "load", batch)
		}
		inserted := time.Since(began)
		countExecutions(b, arrivals, "load", functions)
		total := time.Since(began)
		after := s.cpu(b)
		perRun := func(used time.Duration) float64 { return float64(used.Microseconds()) / functions }
		b.ReportMetric(perRun(after.postgres-before.postgres), "postgres_cpu_us/run")
		b.ReportMetric(perRun(after.sidecar-before.sidecar), "sidecar_cpu_us/run")
		b.ReportMetric(perRun(after.children-before.children), "children_cpu_us/run")
		b.ReportMetric(functions/total.Seconds(), "executions/s")
		b.ReportMetric(functions/inserted.Seconds(), "inserts/s")
	}
}

func countExecutions(b *testing.B, arrivals <-chan arrival, trace string, want int) {
	deadline := time.After(2 * time.Minute)
	seen := 0
	for seen < want {
		select {
		case a, ok := <-arrivals:
			if !ok {
				b.Fatal("the second reader lost its connection")
			}
			if a.entityType == "execution" && a.trace == trace {
				seen++
				if a.status != "complete" {
					b.Fatalf("an execution ended as %s", a.status)
				}
			}
		case <-deadline:
			b.Fatalf("%d of %d executions within 2 min", seen, want)
		}
	}
}
