package stage0

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/span"
)

// watch publishes the policies of the system, and returns them by name.
func (b *bench) watch() map[string]*span.Span {
	b.t.Helper()
	all, err := kernels.Policies()
	if err != nil {
		b.t.Fatal(err)
	}
	byName := map[string]*span.Span{}
	for _, policy := range all {
		byName[policy.Name] = system(policy.ID, "policy", func(s *span.Span) {
			s.Name, s.Code, s.Metadata = &policy.Name, &policy.Source, policy.Metadata
			s.Language = new("javascript")
		})
		b.publish(byName[policy.Name])
	}
	return byName
}

// noon is about when the executions of these tests were.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// executed appends executions of an owner in the minute before noon.
func (b *bench) executed(from, n int, owner, tenant, status string, change ...func(*span.Span)) {
	b.t.Helper()
	for i := range n {
		b.put(from+i, "execution", append([]func(*span.Span){func(s *span.Span) {
			s.OwnerID, s.TenantID, s.Status, s.DurationMs = owner, tenant, &status, new(10+i)
			s.At = span.NewTime(noon.Add(-time.Minute + time.Duration(i)*time.Millisecond))
			s.ParentID = new(idOf(0xf000))
			if status == "error" {
				s.Error = json.RawMessage(`{"code":"exception","message":"secret of ` + owner + `"}`)
			}
		}}, change...)...)
	}
}

// turn judges one tick, commits what it gave, and returns it.
func (b *bench) turn(policy *span.Span, owner, tenant string, to time.Time, every time.Duration) (
	rows []*span.Span) {
	b.t.Helper()
	cause, tick := tickOf(policy, owner, tenant, to.Add(-every), to)
	rows = b.judge(policy, cause, tick)
	for _, row := range rows {
		if row.EntityType == "policy_error" {
			b.t.Fatalf("%s fails: %s", *policy.Name, row.Error)
		}
		if row.TenantID != tenant {
			b.t.Errorf("%s writes %s of %s for %s", *policy.Name, row.EntityType, row.TenantID, tenant)
		}
	}
	if len(rows) > 0 {
		b.land(rows)
	}
	return rows
}

func TestTheSystemsPoliciesCountEachTenantAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	policies := b.watch()
	b.executed(0x100, 18, "alice", "t1", "complete")
	b.executed(0x200, 2, "alice", "t1", "error")
	b.executed(0x300, 5, "bob", "t1", "complete")
	b.executed(0x400, 30, "alice", "t2", "error")
	b.executed(0x500, 1, "alice", "t1", "complete", func(s *span.Span) { s.DurationMs = new(9000) })

	metrics := b.turn(policies["metrics_exec_duration"], "system", "t1", noon, time.Minute)
	if len(metrics) != 2 || metrics[0].OwnerID != "system" || metrics[0].Visibility != "tenant" ||
		*metrics[0].TTLAt != span.NewTime(noon.Add(-time.Minute+90*24*time.Hour)) ||
		metrics[0].Who != "policy:metrics_exec_duration" || *metrics[0].Value != "391.375" ||
		!strings.Contains(string(metrics[0].Metadata), `"count":24`) {
		t.Errorf("metrics: %+v", metrics)
	}
	b.executed(0x600, 1, "bob", "t1", "complete") // late
	late := b.turn(policies["metrics_exec_duration"], "system", "t1", noon.Add(time.Minute), time.Minute)
	if len(late) != 1 || late[0].ID != metrics[0].ID || late[0].Seq != 1 {
		t.Errorf("late: %+v", late)
	}

	counts := b.turn(policies["daily_exec_rollup"], "alice", "t1", noon, time.Hour)
	if len(counts) != 2 || counts[0].OwnerID != "alice" || counts[0].Visibility != "private" ||
		*counts[0].Value != "19" || *counts[1].Value != "2" {
		t.Errorf("counts: %+v", counts)
	}

	slow := b.turn(policies["slow_exec"], "alice", "t1", noon, time.Minute)
	if len(slow) != 1 || *slow[0].ParentID != idOf(0x500) || slow[0].OwnerID != "alice" {
		t.Errorf("slow: %+v", slow)
	}

	alerts := b.turn(policies["high_error_rate"], "system", "t1", noon, time.Minute)
	if len(alerts) != 1 || *alerts[0].Value != "7.4" || alerts[0].StatusText() != "open" ||
		*alerts[0].Severity != "high" {
		t.Errorf("alerts: %+v", alerts)
	}
	more := b.turn(policies["high_error_rate"], "system", "t1", noon.Add(time.Minute), time.Minute)
	if len(more) > 0 {
		t.Errorf("a second alert of the hour: %+v", more)
	}

	for tenant, want := range map[string]int{"t1": 2, "t2": 30} {
		reports := b.turn(policies["error_report"], "alice", tenant, noon, time.Minute)
		if len(reports) != 1 || reports[0].Visibility != "private" || reports[0].OwnerID != "alice" ||
			!strings.Contains(string(reports[0].Metadata), fmt.Sprintf(`"count":%d`, want)) ||
			!strings.Contains(string(reports[0].Error), "secret of alice") {
			t.Errorf("reports of %s: %+v", tenant, reports)
		}
	}
	if reports := b.turn(policies["error_report"], "bob", "t1", noon, time.Minute); len(reports) > 0 {
		t.Errorf("bob gets a report of alice's error")
	}

	// Whoever judges the same once more, and whatever they wrote meanwhile, appends nothing.
	for name, policy := range policies {
		for _, owner := range []string{"system", "alice"} {
			if owner != subjectOf(name) {
				continue
			}
			if rows := b.turn(policy, owner, "t1", noon.Add(time.Minute), time.Minute); len(rows) > 0 {
				t.Errorf("%s feeds itself, or others: %s %s", name, rows[0].EntityType, rows[0].Metadata)
			}
		}
	}
}

// subjectOf is for whom a policy is judged: per tenant or per owner.
func subjectOf(name string) string {
	switch name {
	case "slow_exec", "daily_exec_rollup", "error_report":
		return "alice"
	}
	return "system"
}

func TestTheSystemsPoliciesEndWhatHasItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	policies := b.watch()
	ends := func(at time.Time) func(*span.Span) {
		return func(s *span.Span) { s.TTLAt = new(span.NewTime(at)) }
	}
	b.put(1, "prompt_block", ends(noon.Add(-time.Minute)))
	b.put(2, "memory", ends(noon.Add(-time.Hour)), shared("bob", "t1"))
	b.put(3, "memory", ends(noon.Add(time.Minute)))
	b.put(4, "note", ends(noon.Add(-time.Hour)))
	b.put(5, "memory", ends(noon.Add(-time.Hour)), func(s *span.Span) { s.TenantID = "t2" })
	b.put(6, "memory", ends(noon.Add(-time.Hour)), func(s *span.Span) { s.Status = new("needsReview") })
	rows := b.turn(policies["ttl_reaper"], "system", "t1", noon, time.Minute)
	if len(rows) != 2 {
		t.Fatalf("%d spans are archived, want 2", len(rows))
	}
	for _, row := range rows {
		if row.StatusText() != "archived" || *row.Reason != "ttl" || row.Who != "policy:ttl_reaper" ||
			row.Seq != 1 || row.ID == idOf(2) && (row.OwnerID != "bob" || row.Visibility != "tenant") {
			t.Errorf("got %+v", row)
		}
	}
	rows = b.turn(policies["ttl_reaper"], "system", "t1", noon.Add(time.Second), time.Minute)
	if len(rows) > 0 {
		t.Errorf("archived twice: %+v", rows)
	}

	for i, days := range []int{89, 91, 400} {
		b.put(0x10+i, "metric", func(s *span.Span) {
			s.Status, s.At = new("complete"), span.NewTime(noon.AddDate(0, 0, -days))
		})
	}
	old := b.turn(policies["metrics_retention"], "system", "t1", noon, 24*time.Hour)
	if len(old) != 2 || old[0].StatusText() != "archived" || *old[0].Reason != "retention" {
		t.Errorf("retention: %+v", old)
	}

	b.put(0x20, "policy_violation", func(s *span.Span) {
		s.This, s.At = new("quota.exec.per_tenant.daily"), span.NewTime(noon.Add(-time.Second))
	})
	marks := b.turn(policies["throttle"], "system", "t1", noon, time.Minute)
	if len(marks) != 1 || *marks[0].This != "status=throttled" || marks[0].Visibility != "tenant" {
		t.Errorf("throttle: %+v", marks)
	}
	b.put(0x21, "policy_violation", func(s *span.Span) {
		s.This, s.At = new("quota.exec.per_tenant.daily"), span.NewTime(noon.Add(time.Second))
	})
	marks = b.turn(policies["throttle"], "system", "t1", noon.Add(time.Minute), time.Minute)
	if len(marks) > 0 {
		t.Errorf("a second mark of the day: %+v", marks)
	}
}
