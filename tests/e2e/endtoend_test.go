package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// endToEnd runs `logline e2e --json` as the owner.
func (s *system) endToEnd(code int, args ...string) app.E2EReport {
	s.t.Helper()
	p := program.Start(s.t, nil, append([]string{"e2e", "--json", "--database", s.db.URL}, args...)...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("e2e %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	return reportOf(s.t, p)
}

func reportOf(t *testing.T, p *program.Process) (report app.E2EReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.Out.String()), &report); err != nil {
		t.Fatalf("decode %s: %v", p.Out.String(), err)
	}
	return report
}

// failedStep fails unless the step has failed with these words; a cleanup must be sound.
func failedStep(t *testing.T, report app.E2EReport, name string, words ...string) {
	t.Helper()
	place := slices.IndexFunc(report.Steps, func(s app.E2EStep) bool { return s.Level == app.Fault })
	if place < 0 || report.Steps[place].Step != name {
		t.Fatalf("the first step that fails is not %s: %+v", name, report.Steps)
	}
	for _, word := range words {
		if step := report.Steps[place]; !strings.Contains(step.Found+" | "+step.Mend, word) {
			t.Errorf("%s does not say %q: %+v", name, word, step)
		}
	}
}

// unclosed counts what stands or is open of the test's tenants.
func (s *system) unclosed() int {
	s.t.Helper()
	return one[int](s, `select count(*)::int from ledger.visible_timeline
		where tenant_id like 'logline-e2e%' and (entity_type = 'function'
			or entity_type = 'request' and status in ('scheduled', 'running', 'retry', 'blocked',
				'cancel_requested'))`)
}

func TestEndToEndRunsTheWholeFlowAndLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.endToEnd(1)
	if n := s.unclosed() + len(s.read("tenant_id = 'logline-e2e'")); n != 0 {
		t.Errorf("without a sidecar it has left %d spans", n)
	}
	s.serveSigned("sidecar")
	report := s.endToEnd(0, "--within", "60s")
	var steps []string
	for _, step := range report.Steps {
		if step.Level != app.Fine || step.Ms <= 0 {
			t.Errorf("%+v", step)
		}
		steps = append(steps, step.Step)
	}
	if got := strings.Join(steps, " "); got != "sidecar function request execution versions call refusals cleanup" {
		t.Errorf("the steps are %s", got)
	}
	if !report.OK || report.Open != 0 || s.unclosed() != 0 {
		t.Errorf("open is %d, by itself %+v", s.unclosed(), report)
	}
	made := s.read("trace_id = $1", report.TraceID)
	if len(made) != 8 { // two versions of the function, two requests of two, two executions
		t.Errorf("it has made %d spans", len(made))
	}
	s.logline(2, "e2e", "--within", "0s")

	s.require("root", true)
	failedStep(t, s.endToEnd(1), "execution", "unsigned", "--key FILE")
	s.endToEnd(0, "--key", s.file("root"), "--tenant", "logline-e2e-2")
	if n := s.unclosed(); n != 0 {
		t.Errorf("%d are open", n)
	}
}

func TestEndToEndCleansUpAfterFailureInterruptAndKill(t *testing.T) {
	t.Parallel()
	s := setup(t)
	failedStep(t, s.endToEnd(1), "sidecar", "no sidecar leads", "logline serve")
	sidecar := s.serve()
	s.govern(func(m map[string]any) { m["throttle"] = map[string]int{"per_tenant_daily_exec_limit": 0} })
	failedStep(t, s.endToEnd(1), "execution", "blocked", "--tenant")
	if n := s.unclosed(); n != 0 {
		t.Errorf("after a failure %d are open", n)
	}
	s.govern(func(m map[string]any) { delete(m, "throttle") })

	// A frozen sidecar lets it wait, until somebody has had enough.
	sidecar.Send(syscall.SIGSTOP)
	defer sidecar.Send(syscall.SIGCONT)
	start := func() *program.Process {
		t.Helper()
		p := program.Start(t, nil, "e2e", "--json", "--database", s.db.URL)
		program.Eventually(t, "its function is there", func() bool { return s.unclosed() == 1 })
		return p
	}
	waiting := start()
	if code := waiting.Stop(syscall.SIGINT); code != 1 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
	failedStep(t, reportOf(t, waiting), "request", "interrupted")
	if n := s.unclosed(); n != 0 {
		t.Errorf("after Ctrl-C %d are open", n)
	}
	start().Kill()
	if n := s.unclosed(); n != 1 {
		t.Fatalf("after a kill %d are open", n)
	}
	sidecar.Send(syscall.SIGCONT)
	sidecar.AwaitReady()
	// However old it is: another one may run until its deadline.
	s.forge("accepted_at = accepted_at - interval '2 minutes' where tenant_id = 'logline-e2e'")
	if report := s.endToEnd(0); report.Steps[0].Step == "sweep" || s.unclosed() == 0 {
		t.Errorf("it sweeps what another one may run: %+v", report.Steps)
	}
	s.pastDeadline("tenant_id = 'logline-e2e'")
	if report := s.endToEnd(0); report.Steps[0].Step != "sweep" {
		t.Errorf("it sweeps nothing: %+v", report.Steps)
	}
	program.Eventually(t, "what the frozen sidecar has seen late ends", func() bool { return s.unclosed() == 0 })
}

// pastDeadline makes runs of the test ones that were killed long ago.
func (s *system) pastDeadline(where string) {
	s.t.Helper()
	s.forge(`metadata = jsonb_set(metadata, '{logline_e2e,deadline}', '"2020-02-02T02:02:02Z"')
		where metadata ? 'logline_e2e' and not is_deleted and ` + where)
}

// The tenant is a real one: what its users call as the test calls its own, and what they put into a trace of
// the test, is theirs.
func TestEndToEndTouchesNothingOfRealUsers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	killed := user{"e2e-0123456789abcdef", "acme"}
	mark := columns{"logline_e2e": columns{"deadline": "2020-02-02T02:02:02Z"}}
	function := columns{"entity_type": "function", "status": "active", "language": "javascript",
		"code": "return 1", "visibility": "tenant", "name": "logline-e2e", "metadata": mark}
	own := s.insert(alice, with(function, columns{"trace_id": "alices"}))
	named := s.insert(alice, with(function, columns{"trace_id": "alice"})) // as her user id is
	payroll := s.insert(alice, with(function, columns{"trace_id": "alices", "name": "payroll"}))
	guest := s.insert(carol, with(function, columns{"trace_id": killed.sub}))
	other := s.insert(killed, with(function, columns{"trace_id": killed.sub, "name": "payroll"}))
	left := s.insert(killed, with(function, columns{"trace_id": killed.sub}))
	later := s.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": payroll.ID,
		"trace_id": "alices", "scheduled_at": "2999-01-01T00:00:00Z"})
	s.forge("accepted_at = accepted_at - interval '1 day' where tenant_id = 'acme'")

	report := s.endToEnd(0, "--tenant", "acme", "--within", "60s")
	if report.Steps[0].Step != "sweep" || report.Steps[0].Level != app.Fine {
		t.Errorf("it begins with %+v", report.Steps[0])
	}
	if !s.latest(left.ID).IsDeleted {
		t.Error("what a killed run has left stands")
	}
	for name, key := range map[string]span.Key{"alice's function of that name": own, "alice's payroll": payroll,
		"alice's of a trace with her name": named, "carol's of the test's trace": guest,
		"another one of the killed user": other, "alice's request": later} {
		if newest := s.latest(key.ID); newest.Seq != 0 {
			t.Errorf("%s got version %d, %s", name, newest.Seq, newest.StatusText())
		}
	}

	// What can not be put away is said, and the system is judged all the same.
	s.exec(`create function public.refuse() returns trigger language plpgsql as
		$$ begin raise exception 'not this one'; end $$`)
	s.exec(`create trigger z_refuse before insert on ledger.universal_registry for each row
		when (new.is_deleted and new.owner_id = 'e2e-fedcba9876543210') execute function public.refuse()`)
	stubborn := user{"e2e-fedcba9876543210", "acme"}
	s.insert(stubborn, with(function, columns{"trace_id": stubborn.sub}))
	report = s.endToEnd(0, "--tenant", "acme", "--within", "60s")
	if step := report.Steps[0]; !report.OK || step.Step != "sweep" || step.Level != app.Warning ||
		!strings.Contains(step.Found, "not this one") {
		t.Errorf("a sweep that fails: %+v", report)
	}
}
