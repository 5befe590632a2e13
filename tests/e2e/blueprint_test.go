package e2e_test

import (
	"crypto/rand"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// execMetricsID is the id of a kernel that is not one of the five.
var execMetricsID = span.MustID("00000000-0000-4000-8000-000000000e01")

// older publishes two kernels as they were written for the Blueprint: one in the place of observer_bot, one
// beside the five.
func (s *system) older() {
	s.t.Helper()
	source := func(name string) *string {
		code, err := os.ReadFile("../../kernels/testdata/blueprint/" + name + ".js")
		if err != nil {
			s.t.Fatal(err)
		}
		return new(string(code))
	}
	observer := s.next(span.ObserverBotID)
	observer.Code = source("observer")
	metrics := s.next(span.ObserverBotID)
	metrics.ID, metrics.Seq, metrics.Name = execMetricsID, 0, new("exec_metrics")
	metrics.Code = source("exec_metrics")
	for _, row := range []*span.Span{observer, metrics} {
		row.Signature, row.PublicKey, row.SigAlg, row.SigKeyID = nil, nil, nil, nil
	}
	s.publish(observer, metrics)
	s.govern(func(m map[string]any) {
		m["policy"].(map[string]any)["slow_ms"] = 1
		m["kernels"].(map[string]any)["exec_metrics"] = execMetricsID
		m["allowed_boot_ids"] = append(m["allowed_boot_ids"].([]any), execMetricsID)
		m["triggers"] = append(m["triggers"].([]any), map[string]any{"kernel": "exec_metrics",
			"when": map[string]any{"entity_type": "execution"}})
		grants := m["grants"].(map[string]any)
		grants["observer_bot"] = []string{"sql", "insertSpan:request,policy_violation"}
		grants["exec_metrics"] = []string{"sql", "insertSpan:metric,status_patch"}
	})
}

// Kernels that make their spans' ids by themselves, know SPAN_ID and ctx.sql, and sign where they have a key,
// run as they are; what they leave behind is the host's: derived ids, the cause's owner, real hashes.
func TestKernelsOfTheBlueprintRunUnchanged(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.older()
	s.serve()
	const slow = "for (let i = 0; i < 2e6; i++) { Math.sqrt(i) } return input.n"
	calls := map[string]user{rand.Text(): alice, rand.Text(): carol, rand.Text(): bob, rand.Text(): alice}
	for trace, who := range calls { // at once: each finds its own owner's functions by SQL, and no other's
		s.insert(who, function(slow, columns{"trace_id": trace, "input": columns{"n": 7}}))
	}
	for trace, who := range calls {
		request := s.requestOf(trace, who)
		execution := request.execution(t)
		sameJSON(t, execution.Output, "7")
		if first := request.request(); first.Who != "kernel:observer_bot" || first.OwnerID != who.sub ||
			first.TenantID != who.tenant || first.ID.Version() != 8 || first.VerifyHash() != nil {
			t.Errorf("the request is %+v", first)
		}
		s.measured(execution)
	}
	const requests = "select count(*)::int from ledger.universal_registry where entity_type = 'request' and seq = 0"
	if n := one[int](s, requests); n != len(calls) {
		t.Errorf("%d requests of %d functions", n, len(calls))
	}
	judge(t, s)

	s.govern(func(m map[string]any) {
		m["throttle"] = map[string]any{"per_tenant_daily_exec_limit": 1}
	})
	late := s.insert(alice, function(slow))
	program.Eventually(t, "the violation", func() bool {
		return len(s.read("parent_id = $1 and entity_type = 'policy_violation' and who = 'kernel:observer_bot' and"+
			" (metadata ->> 'limit')::int = 1", late.ID.String())) == 1
	})
}

// requestOf is the request of a function that was inserted with this trace. The observer gives requests
// traces of their own.
func (s *system) requestOf(trace string, who user) run {
	s.t.Helper()
	function := s.read("trace_id = $1 and entity_type = 'function'", trace)[0]
	var requests []*span.Span
	program.Eventually(s.t, "the request of "+who.sub, func() bool {
		requests = s.read("parent_id = $1 and entity_type = 'request'", function.ID.String())
		return len(requests) > 1
	})
	return s.settled(*requests[0].TraceID, 1)[0]
}

// measured sees that an execution has its metric and its slow mark, and that these name each other.
func (s *system) measured(execution *span.Span) {
	s.t.Helper()
	var left []*span.Span
	program.Eventually(s.t, "the metric of "+execution.ID.String(), func() bool {
		left = s.read("trace_id = $1 and who = 'kernel:exec_metrics'", *execution.TraceID)
		return len(left) == 2
	})
	metric, patch := left[0], left[1]
	if metric.EntityType != "metric" {
		metric, patch = patch, metric
	}
	if string(*metric.Value) == "0" || *metric.ParentID != execution.ID || metric.Visibility != "private" ||
		metric.OwnerID != execution.OwnerID || metric.ID.Version() != 8 || metric.VerifyHash() != nil ||
		time.Since(metric.At.Time) > time.Hour {
		s.t.Errorf("the metric is %+v", metric)
	}
	if *patch.ParentID != metric.ID || !slices.Equal(patch.RelatedTo, []span.ID{metric.ID, execution.ID}) {
		s.t.Errorf("the slow mark names %s and %v, want the metric %s", patch.ParentID, patch.RelatedTo, metric.ID)
	}
}
