package e2e_test

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/metrics"
	"github.com/loglineos/loglineos/tests/program"
)

var sample = regexp.MustCompile(`(?m)^(logline_[a-z_]+(?:\{[^}]*\})?) (\S+)$`)

// scrape reads /metrics: the values by name with its label, and the text.
func scrape(t *testing.T, p *program.Process) (map[string]float64, string) {
	t.Helper()
	text, code, err := p.Get("/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("/metrics answers %d, %v:\n%s", code, err, text)
	}
	values := map[string]float64{}
	for _, found := range sample.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			t.Fatalf("%s: %v", found[0], err)
		}
		values[found[1]] = value
	}
	return values, text
}

// series are the samples of m that a scrape must have, whatever the load.
func series(m metrics.Metric) []string {
	switch {
	case m.Kind == metrics.Histogram:
		return []string{m.Name + "_count", m.Name + "_sum", m.Name + `_bucket{le="+Inf"}`}
	case m.Label == "":
		return []string{m.Name}
	}
	var all []string
	for _, value := range m.Values {
		all = append(all, m.Name+`{`+m.Label+`="`+value+`"}`)
	}
	return all
}

// Every metric of the reference is in a scrape of a new sidecar, those of tenants alone but where they wait.
func TestEveryMetricIsThereBeforeAnythingHappens(t *testing.T) {
	t.Parallel()
	s := setup(t)
	values, text := scrape(t, s.serve())
	for _, m := range metrics.All() {
		for _, name := range series(m) {
			if _, found := values[name]; !found {
				t.Errorf("%s is missing", name)
			}
		}
		if m.Name != metrics.BuildInfo && m.Label != "tenant" &&
			!strings.Contains(text, "# TYPE "+m.Name+" "+string(m.Kind)+"\n") {
			t.Errorf("%s is no %s", m.Name, m.Kind)
		}
	}
	known := map[string]bool{}
	for _, m := range metrics.All() {
		known[m.Name] = true
	}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (logline_\S+)`).FindAllStringSubmatch(text, -1) {
		if !known[line[1]] {
			t.Errorf("%s is not in the list", line[1])
		}
	}
}

// moves are the series that must have risen after one of everything has happened. In part it is what a
// scrape must show at some moment of it.
var moves = []string{
	"logline_tail_rows_total", "logline_requests_ended_total{status=\"complete\"}",
	"logline_requests_ended_total{status=\"error\"}", "logline_requests_ended_total{status=\"cancelled\"}",
	"logline_requests_retried_total", "logline_requests_blocked_total",
	"logline_reservations_refused_total{reason=\"tenant\"}",
	"logline_reservations_refused_total{reason=\"breaker\"}",
	"logline_circuits{state=\"open\"}", "logline_latency_seconds_count", "logline_latency_seconds_sum",
	"logline_run_seconds_count", "logline_kernel_boots_total", "logline_commits_total",
	"logline_commit_rows_total",
	"logline_commit_rows_count", "logline_commit_seconds_count", "logline_sandbox_runs_total",
	"logline_sandbox_starts_total", "logline_sandbox_breaches_total", "logline_requests_open",
	"logline_requests_waiting", "logline_sandbox_workers{state=\"busy\"}", "logline_requests_in_flight",
	"logline_requests_queued", "logline_queue_oldest_seconds", "logline_tenant_requests_queued{tenant=\"acme\"}",
	"logline_tenant_oldest_seconds{tenant=\"acme\"}", "logline_tail_phase{phase=\"streaming\"}", "logline_ready",
	"logline_leading", "logline_leader_sessions_total", "logline_wal_retained_bytes",
}

func TestMetricsMoveUnderLoad(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(func(manifest map[string]any) {
		limit(40, 1000)(manifest)
		manifest["policy"] = map[string]any{"circuit_breaker_threshold": 3}
	})
	sidecar := s.serve("LOGLINE_MAX_IN_FLIGHT=2")
	before, _ := scrape(t, sidecar)
	for _, name := range []string{"logline_tail_phase{phase=\"streaming\"}", "logline_ready", "logline_leading",
		"logline_leader_sessions_total"} {
		before[name]-- // it has moved already
	}

	s.run(alice, `const hoard = []; while (true) hoard.push(new Array(1e5).fill(hoard.length));`)
	s.run(alice, `throw new Error("no");`, columns{"metadata": columns{"retry": columns{
		"max_attempts": 2, "base_ms": 10}}})
	broken := s.insert(alice, function(`throw new Error("no");`, columns{"status": "active"})).ID
	for range 3 {
		s.stands(s.callMany(alice, broken, 1), "error 1, error 1")
	}
	s.stands(s.callMany(alice, broken, 1), "error 1, error 1") // the circuit is open
	slow := s.insert(alice, function(`await new Promise((done) => setTimeout(done, 50)); return 1;`,
		columns{"status": "active"})).ID
	s.insert(alice, function(`return 1;`, columns{"scheduled_at": time.Now().Add(2 * time.Minute)}))
	trace := s.callMany(alice, slow, 60)
	missing := append([]string(nil), moves...)
	risen := func() bool {
		now, _ := scrape(t, sidecar)
		var left []string
		for _, name := range missing {
			if now[name] <= before[name] {
				left = append(left, name)
			}
		}
		missing = left
		return len(missing) == 0
	}
	cancelled := false
	isOver := program.Within(t, patience, func() bool {
		if !cancelled && strings.Contains(s.states(trace), "blocked") {
			blocked := s.read("trace_id = $1 and status = 'blocked'", trace)[0]
			s.insert(alice, columns{"id": blocked.ID, "seq": blocked.Seq + 1, "entity_type": "request",
				"status": "cancel_requested"})
			cancelled = true
		}
		return risen()
	})
	if !isOver {
		t.Errorf("these have not moved: %v (requests: %s)", missing, s.states(trace))
	}
	after, _ := scrape(t, sidecar)
	if mean := after["logline_latency_seconds_sum"] / after["logline_latency_seconds_count"]; mean <= 0 ||
		mean > patience.Seconds() {
		t.Errorf("the mean latency is %v s", mean)
	}
}

// A life that ended leaves its mark in the next one's metrics.
func TestATakeoverIsCounted(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	c := function(`await new Promise((done) => setTimeout(done, 1000)); return 1;`)
	s.insert(alice, c)
	s.awaitRunning(c["trace_id"].(string))
	killAndCheck(t, sidecar)
	sidecar = s.serve()
	s.settled(c["trace_id"].(string), 1)
	program.Eventually(t, "the takeover is counted", func() bool {
		values, _ := scrape(t, sidecar)
		return values["logline_takeovers_total"] >= 1 &&
			values["logline_requests_ended_total{status=\"complete\"}"] >= 1
	})
}
