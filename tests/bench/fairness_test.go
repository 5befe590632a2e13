package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkFairness measures what a flood does to its neighbors: fifty small tenants ask one after the other,
// first alone, then while one tenant has 100,000 requests open. Latency is from the acceptance of a request
// to that of its execution, by the database's clock. flood/alone is the ratio of their 99th percentiles; the
// target is 3 at most.
func BenchmarkFairness(b *testing.B) {
	notQuick(b)
	const tenants, each, flood = 50, 8, 100_000
	s := start(b)
	conn := s.connect(b)
	var function string
	must(b, conn.QueryRow(b.Context(), `insert into ledger.universal_registry (entity_type, name, who, owner_id,
			tenant_id, visibility, status, language, code)
		values ('function', 'shared', 'user:alice', 'alice', 'acme', 'public', 'active', 'javascript',
			'return { sum: input.a + 1 };') returning id::text`).Scan(&function))
	ask := func(phase string) []time.Duration {
		ticker := time.NewTicker(25 * time.Millisecond)
		defer ticker.Stop()
		for n := range tenants * each {
			<-ticker.C
			request(b, conn, fmt.Sprintf("small-%d", n%tenants), function, phase, 1)
		}
		await(b, time.Minute, func() bool { return executed(b, conn, phase) == tenants*each })
		return latencies(b, conn, phase)
	}
	for n := 0; b.Loop(); n++ {
		ask(fmt.Sprintf("warm-%d", n))
		alone := ask(fmt.Sprintf("alone-%d", n))
		trace := fmt.Sprintf("flood-%d", n)
		request(b, conn, "flood", function, trace, flood)
		probe := fmt.Sprintf("probe-%d", n) // of who commits just behind 100,000 rows, and is read behind them
		request(b, conn, "probe", function, probe, 1)
		await(b, time.Minute, func() bool { return executed(b, conn, probe) == 1 })
		b.ReportMetric(percentile(latencies(b, conn, probe), 50), "behind_commit_ms")
		beside := ask(fmt.Sprintf("beside-%d", n))
		left := flood - executed(b, conn, trace)
		if left == 0 {
			b.Error("the flood was over before its neighbors were: its figure says nothing")
		}
		b.ReportMetric(percentile(alone, 50), "alone_p50_ms")
		b.ReportMetric(percentile(alone, 99), "alone_p99_ms")
		b.ReportMetric(percentile(beside, 50), "beside_p50_ms")
		b.ReportMetric(percentile(beside, 99), "beside_p99_ms")
		b.ReportMetric(percentile(beside, 99)/percentile(alone, 99), "flood/alone_p99")
		b.ReportMetric(float64(left), "flood_left")
	}
}

// request appends n requests of a tenant.
func request(b *testing.B, conn *pgx.Conn, tenant, function, trace string, n int) {
	b.Helper()
	_, err := conn.Exec(b.Context(), `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id,
			status, parent_id, input, trace_id)
		select 'request', 'user:u', 'u', $1, 'scheduled', $2::text::uuid, '{"a": 41}', $3
		from generate_series(1, $4)`,
		tenant, function, trace, n)
	must(b, err)
}

func executed(b *testing.B, conn *pgx.Conn, trace string) (n int) {
	b.Helper()
	must(b, conn.QueryRow(b.Context(), `select count(*) from ledger.universal_registry
		where trace_id = $1 and entity_type = 'execution'`, trace).Scan(&n))
	return n
}

// latencies are those of the requests of a trace.
func latencies(b *testing.B, conn *pgx.Conn, trace string) []time.Duration {
	b.Helper()
	rows, err := conn.Query(context.WithoutCancel(b.Context()), `
		select extract(epoch from x.accepted_at - r.accepted_at)::float8
		from ledger.universal_registry x
		join ledger.universal_registry r on r.id = x.related_to[1] and r.seq = 0
		where x.trace_id = $1 and x.entity_type = 'execution'`, trace)
	must(b, err)
	seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	must(b, err)
	all := make([]time.Duration, len(seconds))
	for i, s := range seconds {
		all[i] = time.Duration(s * float64(time.Second))
	}
	return all
}
