package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// BenchmarkQuota measures what the reservation of each run costs: throughput with run_code as it is, and, in
// turns within the same run, with a run_code that reserves nothing. quota/bare is the ratio of the two.
func BenchmarkQuota(b *testing.B) {
	const functions, batch, turns = 3000, 100, 3
	s := start(b)
	arrivals := s.watch(b)
	conn := s.connect(b)
	owner := ledger.NewOwner(conn)
	all, err := kernels.All()
	must(b, err)
	source := all[0].Source
	bare := strings.Replace(source, `{ reserve: { name: "exec", n: 1 } }`, "{}", 1)
	if all[0].ID != span.RunCodeID || bare == source {
		b.Fatal("run_code no longer reserves as this benchmark knows it")
	}
	load := func(code string) time.Duration {
		row := &span.Span{ID: span.RunCodeID, EntityType: "function", Who: "system:bootstrap",
			At: span.NewTime(time.Now()), OwnerID: "system", TenantID: "system", Visibility: "public",
			Status: new("active"), Name: &all[0].Name, Description: &all[0].Description, Code: &code,
			Language: new("javascript")}
		_, err := owner.Publish(b.Context(), []*span.Span{row})
		must(b, err)
		insert(b, conn, "warm", batch)
		countExecutions(b, arrivals, "warm", batch)
		began := time.Now()
		for range functions / batch {
			insert(b, conn, "load", batch)
		}
		countExecutions(b, arrivals, "load", functions)
		return time.Since(began)
	}
	for b.Loop() {
		var with, without time.Duration
		for range turns {
			without += load(bare)
			with += load(source)
		}
		perSecond := func(d time.Duration) float64 { return turns * functions / d.Seconds() }
		b.ReportMetric(perSecond(with), "quota_executions/s")
		b.ReportMetric(perSecond(without), "bare_executions/s")
		b.ReportMetric(perSecond(with)/perSecond(without), "quota/bare")
	}
}
