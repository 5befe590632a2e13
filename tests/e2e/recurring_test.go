package e2e_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// ticked returns the first versions of the requests that ticks of a function became, in order.
func (s *system) ticked(function span.ID) []*span.Span {
	s.t.Helper()
	ticks := s.read("parent_id = $1 and entity_type = 'request' and seq = 0 and metadata ? 'tick'",
		function.String())
	return ticks // derived ids begin with the time: key order is theirs
}

// checkTicks wants a request and an execution of every second from one tick to another, each once.
func (s *system) checkTicks(function span.ID, from, to time.Time) {
	s.t.Helper()
	for second := from; !second.After(to); second = second.Add(time.Second) {
		id := span.Derive("tick", second, []span.ID{function}, second.Unix())
		versions := s.read("id = $1", id.String())
		executions := s.read("entity_type = 'execution' and related_to = array[$1::uuid]", id.String())
		if len(versions) < 2 || len(executions) != 1 {
			s.t.Errorf("tick %s has %d versions of a request and %d executions", second, len(versions),
				len(executions))
			continue
		}
		request, execution := versions[0], executions[0]
		if request.Who != "kernel:observer_bot" || !request.At.Equal(second) || request.OwnerID != "alice" ||
			request.TenantID != "acme" || request.Visibility != "tenant" || !request.ScheduledAt.Equal(second) ||
			*request.TraceID != id.String() {
			s.t.Errorf("the request of %s is %+v", second, request)
		}
		if request.AcceptedAt.Before(second) {
			s.t.Errorf("the request of %s is there at %s", second, request.AcceptedAt)
		}
		sameJSON(s.t, execution.Output, `{"n": 2}`)
	}
}

// A function that recurs, through two sidecars, a kill -9 and a time with none: every second once.
func TestARecurringFunctionOutlivesItsSidecars(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := s.serve()
	c := function(`return { n: input.n + 1 };`, columns{"status": "active", "visibility": "tenant",
		"metadata": columns{"schedule": columns{"cron": "* * * * * *", "tz": "Europe/Lisbon",
			"input": columns{"n": 1}}}})
	key := s.insert(alice, c)
	await := func(n int) {
		t.Helper()
		program.Eventually(t, "the function has ticked", func() bool { return len(s.ticked(key.ID)) >= n })
	}
	await(3)
	killAndCheck(t, first)
	pause(2 * time.Second) // nobody is there
	s.serve()
	second := s.spawn()
	await(len(s.ticked(key.ID)) + 5)
	s.exec("drop schema engine cascade")
	await(len(s.ticked(key.ID)) + 2)

	s.insert(alice, with(c, columns{"id": key.ID, "seq": 1, "status": "archived"}))
	at := s.latest(key.ID).AcceptedAt.Time
	s.run(alice, "return 1") // behind it in the stream
	known := s.ticked(key.ID)
	pause(1500 * time.Millisecond)
	if now := s.ticked(key.ID); len(now) > len(known)+1 || now[len(now)-1].At.After(at.Add(time.Second)) {
		t.Errorf("archived at %s, and it ticks at %s", at, now[len(now)-1].At)
	}
	program.Eventually(t, "what it has ticked has ended", func() bool {
		return len(s.read(`entity_type = 'request' and status in ('complete', 'error')
			and parent_id = $1`, key.ID.String())) == len(s.ticked(key.ID))
	})
	s.checkTicks(key.ID, known[0].At.Time, at.Add(-500*time.Millisecond).Truncate(time.Second))
	judge(t, s)
	if code := second.Stop(15); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
}

// A schedule that cannot be read is told to its owner, once, and costs nobody else.
func TestAMalformedScheduleIsToldToItsOwner(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	bad := s.insert(alice, function(`return 1;`, columns{"status": "active", "visibility": "tenant",
		"metadata": columns{"schedule": columns{"cron": "0 25 * * *"}}}))
	good := s.insert(alice, function(`return { n: 2 };`, columns{"status": "active", "visibility": "tenant",
		"metadata": columns{"schedule": columns{"cron": "* * * * * *"}}}))
	program.Eventually(t, "the other one ticks", func() bool { return len(s.ticked(good.ID)) > 0 })
	const told = "entity_type = 'incident' and parent_id = $1"
	var incidents []*span.Span
	program.Eventually(t, "alice is told", func() bool {
		incidents = s.seen(alice, "ledger.visible_timeline", told, bad.ID.String())
		return len(incidents) == 1
	})
	if fault := failure(t, incidents[0]); fault.Code != span.RunSyntax ||
		!strings.HasPrefix(fault.Message, `metadata.schedule: cron "0 25 * * *": the hour is "25": want 0 to 23`) {
		t.Errorf("alice reads %+v", fault)
	}
	if seen := s.seen(carol, "ledger.visible_timeline", told, bad.ID.String()); len(seen) != 0 {
		t.Errorf("carol sees it, too")
	}
	if len(s.ticked(bad.ID)) != 0 {
		t.Errorf("it ticks")
	}
	// It can be called all the same.
	s.insert(carol, columns{"entity_type": "request", "status": "scheduled", "parent_id": bad.ID,
		"trace_id": "call"})
	s.settled("call", 1)[0].execution(t)
}

// Authors see beforehand when a schedule ticks, and what is wrong with it.
func TestScheduleCheckPrintsTheNextTicks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"30 2 * * *|--tz|America/New_York|--after|2026-03-07T12:00:00Z|-n|2",
			"Sun 2026-03-08 03:00:00 -04:00  2026-03-08T07:00:00Z\n" +
				"Mon 2026-03-09 02:30:00 -04:00  2026-03-09T06:30:00Z\n", 0},
		{"@daily|--after|2026-11-23T10:00:00Z|-n|1|--json", `"utc": "2026-11-24T00:00:00Z"`, 0},
		{"0 25 * * *", `cron "0 25 * * *": the hour is "25": want 0 to 23`, 2},
		{"@daily|--tz|Mars", `tz "Mars" is not in the tz database`, 2},
		{"@daily|-n|0", "want 1 to 1000", 2},
		{"@daily|--after|soon", "want a time such as", 2},
		{"|--help", "Usage: logline schedule check", 0},
	} {
		args := append([]string{"schedule", "check"}, strings.Split(c.args, "|")...)
		command := exec.Command(program.Logline(), args...)
		out, err := command.CombinedOutput()
		if code := command.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: exit %d, %v\n%s", args, code, err, out)
		}
	}
}
