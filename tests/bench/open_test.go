package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkOpenRequests lays a million open requests while the sidecar is down, and starts it: of 1, 50 and
// 1,000 tenants, and such as are due in an hour. first_ms is from the start of the process to the first
// committed result, drain_per_s the pace of the ten seconds after that; rss_mb is the most that the sidecar
// had until then. The baseline is a ledger with one open request.
func BenchmarkOpenRequests(b *testing.B) {
	all := scaled(1_000_000)
	announce("OpenRequests", 4*time.Duration(all)*60*time.Microsecond+90*time.Second)
	c := newCells(b)
	out := newResults(b, "open", c.server.URL("postgres"))
	for b.Loop() {
		for _, of := range []struct {
			name       string
			n, tenants int
			due        string
		}{
			{"one request (baseline)", 1, 1, "null"},
			{"1 tenant", all, 1, "null"},
			{"50 tenants", all, 50, "null"},
			{"1,000 tenants", all, 1000, "null"},
			{"due in an hour, 50 tenants", all, 50, "now() + interval '1 hour'"},
		} {
			s, drop := c.ledger()
			s.attach(b, binary, s.login).stop() // it has a slot
			conn := s.connect(b)
			layRequests(b, conn, of.n, of.tenants, of.due)
			values := s.openAndDrain(b, conn, of.due != "null")
			out.add(figure{Case: fmt.Sprintf("%d open requests", of.n), System: of.name, Round: 1, Values: values})
			b.ReportMetric(values["rss_mb"], strings.Fields(of.name)[0]+"_rss_mb")
			must(b, conn.Close(b.Context()))
			drop()
		}
	}
}

const openFunction = "20000000-0000-4000-a000-000000000001"

func layRequests(b *testing.B, conn *pgx.Conn, n, tenants int, due string) {
	b.Helper()
	_, err := conn.Exec(b.Context(), `insert into ledger.universal_registry (id, entity_type, name, who, owner_id,
			tenant_id, visibility, status, language, code)
		values ($1::text::uuid, 'function', 'shared', 'user:alice', 'alice', 'acme', 'public', 'active',
			'javascript', 'return 1;')`, openFunction)
	must(b, err)
	layRows(b, conn, n, min(n, 1000), fmt.Sprintf(`insert into ledger.universal_registry (id, seq, entity_type, who, at,
			xact, accepted_at, owner_id, tenant_id, visibility, status, is_deleted, parent_id, scheduled_at, input)
		select gen_random_uuid(), 0, 'request', 'user:alice', now(), pg_current_xact_id(), statement_timestamp(),
			'alice', 'tenant' || n %% %d, 'private', 'scheduled', false, '%s', %s, '{"a": 41}'
		from`, tenants, openFunction, due))
	_, err = conn.Exec(b.Context(), "vacuum analyze ledger.universal_registry")
	must(b, err)
}

// openAndDrain starts the sidecar. Where all wait for an hour, one more request, which does not, is the first
// to run.
func (s *system) openAndDrain(b *testing.B, conn *pgx.Conn, isLater bool) map[string]float64 {
	b.Helper()
	if isLater {
		_, err := conn.Exec(b.Context(), `insert into ledger.universal_registry (entity_type, who, owner_id,
				tenant_id, status, parent_id)
			values ('request', 'user:alice', 'alice', 'tenant0', 'scheduled', $1::text::uuid)`, openFunction)
		must(b, err)
	}
	began := time.Now()
	a := s.spawn(b, binary, s.login)
	await(b, 2*time.Minute, func() bool { return a.ended(b, "complete") > 0 })
	values := map[string]float64{"first_ms": round3(float64(time.Since(began).Milliseconds()))}
	before, from := a.ended(b, "complete"), time.Now()
	<-time.After(time.Duration(scaled(10)) * time.Second)
	ended, took := a.ended(b, "complete"), time.Since(from)
	values["drain_per_s"] = round3(float64(ended-before) / took.Seconds())
	values["rss_mb"] = round3(peakMB(b, s.sidecar))
	values["in_memory"] = a.metric(b, "logline_requests_open")
	a.kill()
	return values
}

// peakMB is the most memory that a process has had resident.
func peakMB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kB, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	must(b, err)
	return kB / 1024
}
