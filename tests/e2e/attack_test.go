package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// codeOf is the code of an execution's or a policy_error's error.
func codeOf(s *span.Span) string {
	var failure span.RunError
	if json.Unmarshal(s.Error, &failure) != nil {
		return ""
	}
	return string(failure.Code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func standsBy(t testing.TB, p *program.Process) {
	t.Helper()
	program.Eventually(t, "it stands by", func() bool { return p.Readiness().Phase == "standby" })
}

// Somebody's code never acts in the name of another: neither a policy on what another wrote, nor a
// shared function that another calls, leaves behind anything that runs or rules.
func TestCodeActsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	for _, kind := range []string{"function", "policy", "provider", "prompt_block"} {
		t.Run("a policy and a "+kind, func(t *testing.T) {
			s.insert(alice, policy("bait_"+kind, `function on() { return [{ emit_span: { entity_type: "`+kind+`",
				status: "active", language: "javascript", code: "return 1" } }]; }`))
			bait := order(columns{"entity_type": "bait_" + kind})
			s.insert(carol, bait)
			if failure := s.emitted("policy_error", bait["trace_id"].(string), 1)[0]; codeOf(failure) != "denied" {
				t.Errorf("the policy_error is %s", failure.Error)
			}
			if made := s.read("entity_type = $1 and owner_id = 'carol'", kind); len(made) > 0 {
				t.Errorf("alice's policy made carol's %s", kind)
			}
		})
		t.Run("a function and a "+kind, func(t *testing.T) {
			code := `return ctx.insertSpan({ entity_type: "` + kind + `", status: "active", code: "return 1" }).id`
			shared := s.insert(alice, columns{"entity_type": "function", "status": "active", "visibility": "tenant",
				"language": "javascript", "code": code})
			call := columns{"entity_type": "request", "status": "scheduled", "parent_id": shared.ID,
				"trace_id": rand.Text()}
			s.insert(carol, call)
			if ended := s.settled(call["trace_id"].(string), 1)[0]; codeOf(ended.execution(t)) != "denied" {
				t.Errorf("carol's call ended with %s", ended.execution(t).Error)
			}
		})
	}
	own := s.run(alice,
		`return ctx.insertSpan({ entity_type: "function", status: "draft", code: "return 1" }).owner_id`)
	sameJSON(t, own.execution(t).Output, `"alice"`)
}

// A policy has no other way to append than its actions, so that each is known as its own.
func TestAPolicyAppendsByActionsOnly(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("loop", `function on(span, ctx) { return [{ emit_span: {
		entity_type: "loop", name: typeof ctx.insertSpan } }]; }`))
	o := order(columns{"entity_type": "loop"})
	s.insert(alice, o)
	found := s.emitted("loop", o["trace_id"].(string), 2)
	emitted := slices.IndexFunc(found, func(s *span.Span) bool { return s.PolicyID != nil })
	if len(found) != 2 || emitted < 0 || text(found[emitted].Name) != "undefined" {
		t.Errorf("%d spans, of which number %d is the policy's", len(found), emitted)
	}
}

// Whatever a client may write, its request ends.
func TestEveryRequestEnds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	open := s.public("return 1")
	for _, c := range []struct {
		name string
		user user
		more columns
		code string // "" is complete
	}{
		{"metadata that no double holds", alice,
			columns{"metadata": json.RawMessage(`{"order": 9007199254740993}`)}, ""},
		{"input that no double holds", alice, columns{"input": json.RawMessage(`{"n": 9007199254740993}`)},
			"not_serializable"},
		{"a user with a space in front", user{" eve", "acme"}, nil, ""},
		{"a tenant of odd letters", user{"eve", "\u00a0ž\U0001F600"}, nil, ""},
		{"a kernel", alice, columns{"parent_id": span.PolicyAgentID,
			"input": columns{"matches": []columns{{"span": []any{span.RunCodeID, 0},
				"policy": columns{"id": span.RunCodeID, "seq": 0}}}}}, "not_allowed"},
		{"run_code itself", alice, columns{"parent_id": span.RunCodeID}, "not_allowed"},
		{"observer_bot", alice, columns{"parent_id": span.ObserverBotID}, "not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trace := rand.Text()
			s.insert(c.user, with(columns{"entity_type": "request", "status": "scheduled", "parent_id": open,
				"trace_id": trace}, c.more))
			if got := codeOf(s.settled(trace, 1)[0].execution(t)); got != c.code {
				t.Errorf("the execution ended with %q, want %q", got, c.code)
			}
		})
	}
	judge(t, s)
}

// poison is a span nested too deep for any reader, from before the ledger refused such.
const poison = `do $$
begin
	alter table ledger.universal_registry disable trigger universal_registry_before_insert_1_admit;
	insert into ledger.universal_registry (id, seq, entity_type, name, who, at, xact, accepted_at, owner_id,
		tenant_id, visibility, is_deleted, content)
	values (ledger.uuid7(), 0, 'order', 'an order', 'user:alice', now(), pg_current_xact_id(), now(), 'alice',
		'acme', 'tenant', false, (repeat('[', 1500) || repeat(']', 1500))::jsonb);
	alter table ledger.universal_registry enable always trigger universal_registry_before_insert_1_admit;
end
$$`

// A span that no kernel can take ends as an incident, and the others go on behind it.
func TestAPoisonedSpanStopsNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("order", alarm))
	for range 3 {
		s.exec(poison)
		good := order()
		s.insert(alice, good)
		s.emitted("alert", good["trace_id"].(string), 1)
	}
	program.Eventually(t, "each poisoned span is an incident", func() bool {
		return len(s.read("entity_type = 'incident'")) == 3
	})
	s.run(bob, "return 1").execution(t)
}

// A standby leads with the manifest of now, not with that of its start.
func TestAStandbyLeadsWithTheManifestOfNow(t *testing.T) {
	t.Parallel()
	s := setup(t)
	leader := s.serve()
	standby := s.spawn()
	standsBy(t, standby)
	s.govern(func(manifest map[string]any) {
		manifest["policy"].(map[string]any)["timeout_ms"] = 200
	})
	s.run(alice, "return 1").execution(t)
	killAndCheck(t, leader)
	standby.AwaitReady()
	if got := codeOf(s.run(alice, "for (;;);").execution(t)); got != "timeout" {
		t.Errorf("an endless function ended with %q", got)
	}
}

// A leader that was frozen and wakes up leads no more, and costs no request an attempt.
func TestAFrozenLeaderThatWakesTakesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	frozen := s.serve()
	other := s.spawn()
	standsBy(t, other)
	trace := rand.Text()
	s.insert(alice, columns{"entity_type": "function", "status": "scheduled", "language": "javascript",
		"code": "await new Promise((done) => setTimeout(done, 12000)); return 'once'", "trace_id": trace})
	program.Eventually(t, "it runs", func() bool {
		return len(s.read("trace_id = $1 and status = 'running'", trace)) == 1
	})
	must(t, syscall.Kill(frozen.Pid(), syscall.SIGSTOP))
	other.AwaitReady()
	program.Eventually(t, "it is taken over", func() bool {
		return len(s.read("trace_id = $1 and status = 'running'", trace)) == 2
	})
	must(t, syscall.Kill(frozen.Pid(), syscall.SIGCONT))
	got := s.settled(trace, 1)[0]
	sameJSON(t, got.execution(t).Output, `"once"`)
	if attempt := got.execution(t).Attempt; attempt == nil || *attempt != 2 {
		t.Errorf("the attempt is %v, want 2: %s", attempt, describe([]run{got}))
	}
	judge(t, s)
}
