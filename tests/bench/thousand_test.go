package bench

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkThousandPolicies appends spans of which one in a hundred is of a type that one policy is for, with
// a thousand policies in force, each for a type of its own, and with that one alone, which is the baseline.
// Latency goes from the client's commit to the commit of what the policy emits; CPU is per span appended.
func BenchmarkThousandPolicies(b *testing.B) {
	const batch = 100 // one of them matches
	batches := scaled(500)
	announce("ThousandPolicies", 2*(time.Duration(batches)*20*time.Millisecond+20*time.Second))
	c := newCells(b)
	out := newResults(b, "thousand", c.server.URL("postgres"))
	for b.Loop() {
		used := map[int]float64{}
		for _, policies := range []int{1, 1000} {
			s, drop := c.ledger()
			conn := s.connect(b)
			must(b, asTenant(b.Context(), conn, 0, func(tx pgx.Tx) error {
				_, err := tx.Exec(b.Context(), `insert into ledger.universal_registry
					(entity_type, name, status, language, code, metadata)
					select 'policy', 'bench ' || n, 'active', 'javascript', 'function on(span) { return [{ emit_span: {
						entity_type: "alert", name: span.name, trace_id: span.trace_id } }]; }',
						jsonb_build_object('when', jsonb_build_object('entity_type', 'kind' || n))
					from generate_series(1, $1) as n`, policies)
				return err
			}))
			a := s.attach(b, binary, s.login)
			arrivals, closeReader := s.reader(b)
			s.judge(b, conn, arrivals, 5, batch) // warm
			before := s.cpu(b)
			took := s.judge(b, conn, arrivals, batches, batch)
			after := s.cpu(b)
			values := spread(took)
			sidecar := after.sidecar - before.sidecar + after.children - before.children
			values["sidecar_us_per_span"] = round3(float64(sidecar.Microseconds()) / float64(batches*batch))
			used[policies] = values["sidecar_us_per_span"]
			system := "1,000 policies"
			if policies == 1 {
				system = "1 policy (baseline)"
			}
			out.add(figure{Case: "one span in 100 matches one", System: system, Round: 1, Values: values})
			a.stop()
			closeReader()
			drop()
		}
		b.ReportMetric(used[1000]/max(used[1], 1), "cpu_ratio_to_one_policy")
	}
}

// judge appends batches of spans, one of each for a policy, 20 ms apart, and returns how long after the
// commit each emission was committed.
func (s *system) judge(b *testing.B, conn *pgx.Conn, arrivals <-chan arrival,
	batches, size int) []time.Duration {
	b.Helper()
	var took []time.Duration
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	committed := map[string]time.Time{}
	name := strconv.FormatInt(time.Now().UnixNano(), 36)
	see := func(a arrival) {
		if at, mine := committed[a.trace]; mine && a.entityType == "alert" {
			took = append(took, max(a.at.Sub(at), 0))
		}
	}
	deadline := time.After(2 * time.Minute)
	for i := 0; len(took) < batches; {
		select {
		case <-ticker.C:
			if i == batches {
				continue
			}
			trace := fmt.Sprintf("%s-%d", name, i)
			must(b, asTenant(b.Context(), conn, 0, func(tx pgx.Tx) error {
				_, err := tx.Exec(b.Context(), `insert into ledger.universal_registry (entity_type, name, trace_id)
					select case n when 1 then 'kind1' else 'note' end, 'bench', $1 from generate_series(1, $2) as n`,
					trace, size)
				return err
			}))
			committed[trace] = time.Now()
			i++
		case a := <-arrivals:
			see(a)
		case <-deadline:
			b.Fatalf("%d of %d emissions within 2 min", len(took), batches)
		}
	}
	return took
}
