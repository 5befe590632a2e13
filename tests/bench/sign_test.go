package bench

import (
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/sign"
)

// BenchmarkSigning runs the same load on two systems in turn, one of which signs all that its sidecar
// appends, and measures the CPU of each for a run: one request, one execution, one terminal version.
func BenchmarkSigning(b *testing.B) {
	notQuick(b)
	const functions, batch, rounds = 1000, 100, 6
	key, err := sign.Generate()
	must(b, err)
	systems := map[string]*system{"hashed": start(b)}
	b.Setenv("SIGNING_KEY_HEX", key.Secret())
	systems["signed"] = start(b)
	arrivals := map[string]<-chan arrival{}
	for name, s := range systems {
		arrivals[name] = s.watch(b)
		insert(b, s.connect(b), "warm", batch)
		countExecutions(b, arrivals[name], "warm", batch)
	}
	for b.Loop() {
		used := map[string]time.Duration{}
		took := map[string]time.Duration{}
		for range rounds {
			for name, s := range systems {
				conn := s.connect(b)
				began, before := time.Now(), s.cpu(b)
				for range functions / batch {
					insert(b, conn, "load", batch)
				}
				countExecutions(b, arrivals[name], "load", functions)
				used[name] += s.cpu(b).sidecar - before.sidecar
				took[name] += time.Since(began)
			}
		}
		for name := range systems {
			b.ReportMetric(float64(used[name].Microseconds())/(functions*rounds), name+"_sidecar_cpu_us/run")
			b.ReportMetric(functions*rounds/took[name].Seconds(), name+"_executions/s")
		}
	}
}
