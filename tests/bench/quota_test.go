package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// BenchmarkQuota measures what the reservation of each run costs: throughput with run_code as it is, and with
// one that reserves nothing, in turns within the same run (bare, quota, quota, bare …: the ledger grows
// meanwhile). quota/bare is the ratio of the two; cpu_quota/bare that of the processor time of sidecar and
// children a run, which other work on the machine disturbs less.
func BenchmarkQuota(b *testing.B) {
	notQuick(b)
	const functions, batch, turns = 2000, 100, 4
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
	load := func(code string) measured {
		row := &span.Span{ID: span.RunCodeID, EntityType: "function", Who: "system:bootstrap",
			At: span.NewTime(time.Now()), OwnerID: "system", TenantID: "system", Visibility: "public",
			Status: new("active"), Name: &all[0].Name, Description: &all[0].Description, Code: &code,
			Language: new("javascript")}
		_, err := owner.Publish(b.Context(), []*span.Span{row})
		must(b, err)
		insert(b, conn, "warm", batch)
		countExecutions(b, arrivals, "warm", batch)
		began, before := time.Now(), s.cpu(b)
		for range functions / batch {
			insert(b, conn, "load", batch)
		}
		countExecutions(b, arrivals, "load", functions)
		after := s.cpu(b)
		return measured{time.Since(began), after.sidecar - before.sidecar + after.children - before.children}
	}
	for b.Loop() {
		var with, without measured
		for turn := range turns {
			if turn%2 == 0 {
				without.add(load(bare))
				with.add(load(source))
				continue
			}
			with.add(load(source))
			without.add(load(bare))
		}
		b.ReportMetric(turns*functions/with.wall.Seconds(), "quota_executions/s")
		b.ReportMetric(turns*functions/without.wall.Seconds(), "bare_executions/s")
		b.ReportMetric(without.wall.Seconds()/with.wall.Seconds(), "quota/bare")
		b.ReportMetric(with.cpu.Seconds()/without.cpu.Seconds(), "cpu_quota/bare")
	}
}

// measured is what a load took.
type measured struct{ wall, cpu time.Duration }

func (m *measured) add(other measured) {
	m.wall += other.wall
	m.cpu += other.cpu
}
