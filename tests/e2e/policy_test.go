package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// policy is an active policy on spans of one type.
func policy(on, code string, more ...columns) columns {
	return with(columns{"entity_type": "policy", "status": "active", "name": "e2e", "language": "javascript",
		"code": code, "metadata": columns{"when": columns{"entity_type": on}}}, more...)
}

const alarm = `function on(span, ctx) {
	return [{ emit_span: { entity_type: "alert", name: "alert for " + span.name, visibility: "public",
		content: { amount: span.content.amount } } }];
}`

// emitted awaits n spans of a type in a trace.
func (s *system) emitted(entityType, trace string, n int) []*span.Span {
	s.t.Helper()
	var found []*span.Span
	program.Eventually(s.t, fmt.Sprintf("%d spans of type %s", n, entityType), func() bool {
		found = s.read("entity_type = $1 and trace_id = $2", entityType, trace)
		return len(found) >= n
	})
	return found
}

func order(more ...columns) columns {
	return with(columns{"entity_type": "order", "name": "an order", "content": columns{"amount": 7},
		"visibility": "tenant", "trace_id": rand.Text()}, more...)
}

func TestAPolicyActsOncePerSpanInItsOwnersName(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	key := s.insert(alice, policy("order", alarm))
	o := order()
	trace := o["trace_id"].(string)
	cause := s.insert(carol, o)
	alert := s.emitted("alert", trace, 1)[0]
	if alert.OwnerID != "alice" || alert.TenantID != "acme" || alert.Visibility != "tenant" ||
		alert.PolicyID == nil || *alert.PolicyID != key.ID || text(alert.Name) != "alert for an order" {
		t.Errorf("the alert is of %s, %s, %s by policy %v, named %s", alert.OwnerID, alert.TenantID,
			alert.Visibility, alert.PolicyID, text(alert.Name))
	}
	sameJSON(t, alert.Content, `{"amount": 7}`)
	accepted := s.latest(cause.ID).AcceptedAt.Time
	want := span.Emission(key.ID, cause, accepted, 0)
	meta, _ := alert.Engine()
	if alert.ID != want || meta == nil || meta.Cause != cause || meta.Root != cause.ID {
		t.Errorf("the alert is %s with metadata.engine %+v, derived is %s of %v", alert.ID, meta, want, cause)
	}

	// After kill -9 and a lost cursor every span is shown again, and the alert is there once.
	killAndCheck(t, sidecar)
	s.exec("drop table engine.cursor")
	s.serve()
	later := order()
	s.insert(carol, later)
	s.emitted("alert", later["trace_id"].(string), 1)
	if again := s.read("entity_type = 'alert' and trace_id = $1", trace); len(again) != 1 {
		t.Errorf("%d alerts for one order", len(again))
	}
	judge(t, s)
}

func TestAPolicySeesWhatItsOwnerMayRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("order", alarm))
	draft := policy("order", alarm, columns{"status": "draft"})
	s.insert(alice, draft)
	hidden := []columns{
		order(columns{"visibility": "private"}),
		order(columns{"visibility": "private"}),
		order(columns{"visibility": "tenant"}),
		order(columns{"entity_type": "invoice"}),
	}
	for i, u := range []user{bob, carol, bob, alice} { // none of which alice's policy may act on
		s.insert(u, hidden[i])
	}
	// Order is that of the commits: when the last one has its alerts, the others had their turn.
	for _, visibility := range []string{"private", "tenant"} {
		own := order(columns{"visibility": visibility})
		s.insert(alice, own)
		alert := s.emitted("alert", own["trace_id"].(string), 1)[0]
		if alert.Visibility != visibility {
			t.Errorf("an alert about a %s span is %s", visibility, alert.Visibility)
		}
	}
	for _, c := range hidden {
		if found := s.read("trace_id = $1 and entity_type <> $2", c["trace_id"], c["entity_type"]); len(found) > 0 {
			t.Errorf("a %s %v of another triggered %s", c["visibility"], c["entity_type"], found[0].EntityType)
		}
	}
}

func TestAPolicyIsInForceFromItsVersionOn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	before, during, after := order(), order(), order()
	s.insert(alice, before)
	p := policy("order", alarm)
	key := s.insert(alice, p)
	s.insert(alice, during)
	s.insert(alice, with(p, columns{"id": key.ID, "seq": 1, "status": "archived"}))
	s.insert(alice, after)
	s.emitted("alert", during["trace_id"].(string), 1)
	s.insert(alice, policy("sentinel", alarm))
	last := order(columns{"entity_type": "sentinel"})
	s.insert(alice, last)
	s.emitted("alert", last["trace_id"].(string), 1)
	for name, c := range map[string]columns{"before": before, "after": after} {
		if found := s.read("trace_id = $1 and entity_type = 'alert'", c["trace_id"]); len(found) > 0 {
			t.Errorf("an order %s the policy has %d alerts", name, len(found))
		}
	}
}

func TestAPolicyThatFailsIsOneErrorAndHarmsNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("order", alarm))
	failing := map[string]span.RunCode{
		`function on(span, ctx) { ctx.insertSpan({ entity_type: "alert" }); throw new Error("no"); }`: span.RunException,
		`function on(span, ctx) { return 1; }`:                                                        span.RunException,
		`function on(span, ctx) { return [{ emit_span: { entity_type: "alert", name: "half" } },
			{ emit_span: { entity_type: "execution" } }]; }`: span.RunDenied,
		`function on(span, ctx) { while (true) {} }`: span.RunTimeout,
		`function on(span, ctx) { oops`:              span.RunSyntax,
	}
	codes := map[span.ID]span.RunCode{}
	for code, want := range failing {
		codes[s.insert(alice, policy("order", code, columns{"timeout_ms": 200})).ID] = want
	}
	o := order()
	trace := o["trace_id"].(string)
	s.insert(alice, o)
	for _, row := range s.emitted("policy_error", trace, len(failing)) {
		want, known := codes[*row.PolicyID]
		if fault := failure(t, row); !known || fault.Code != want {
			t.Errorf("policy_error %s of policy %s, want %s", row.Error, row.PolicyID, want)
		}
		delete(codes, *row.PolicyID)
		if row.OwnerID != "alice" || row.TenantID != "acme" {
			t.Errorf("a policy_error is of %s, %s", row.OwnerID, row.TenantID)
		}
	}
	if alerts := s.emitted("alert", trace, 1); len(alerts) != 1 || text(alerts[0].Name) != "alert for an order" {
		t.Errorf("%d alerts, want the one of the policy that does not fail", len(alerts))
	}
	judge(t, s)
}

func TestPoliciesDoNotRunInCircles(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	emit := func(entityType string) string {
		return `function on(span, ctx) { return [{ emit_span: { entity_type: "` + entityType + `" } }]; }`
	}
	t.Run("of one", func(t *testing.T) {
		s.insert(alice, policy("alert", emit("alert")))
		first, second := rand.Text(), rand.Text()
		s.insert(alice, columns{"entity_type": "alert", "trace_id": first})
		s.emitted("alert", first, 2)
		s.insert(alice, columns{"entity_type": "alert", "trace_id": second})
		s.emitted("alert", second, 2)
		for _, trace := range []string{first, second} {
			if alerts := s.read("entity_type = 'alert' and trace_id = $1", trace); len(alerts) != 2 {
				t.Errorf("%d alerts: want the client's and one more", len(alerts))
			}
		}
	})
	t.Run("of two", func(t *testing.T) {
		s.insert(alice, policy("ping", emit("pong")))
		s.insert(alice, policy("pong", emit("ping")))
		trace := rand.Text()
		s.insert(alice, columns{"entity_type": "ping", "trace_id": trace})
		faults := s.emitted("policy_violation", trace, 1)
		if fault := failure(t, faults[0]); len(faults) != 1 || fault.Code != span.RunDenied {
			t.Errorf("%d violations, the first is %+v: want one, denied", len(faults), fault)
		}
		deepest := 0
		for _, row := range s.read("entity_type in ('ping', 'pong') and trace_id = $1", trace) {
			if meta, derived := row.Engine(); derived {
				deepest = max(deepest, meta.Depth)
			}
		}
		if deepest != span.MaxDepth {
			t.Errorf("the chain is %d deep, want %d", deepest, span.MaxDepth)
		}
	})
	judge(t, s)
}

func TestASystemPolicyActsInEachTenant(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	metadata, err := json.Marshal(columns{"when": columns{"entity_type": "order"}})
	if err != nil {
		t.Fatal(err)
	}
	s.exec(`insert into ledger.universal_registry (entity_type, status, name, language, code, metadata,
		owner_id, tenant_id, visibility, who) values ('policy', 'active', 'system', 'javascript', $1, $2,
		'system', 'system', 'public', 'system:e2e')`, alarm, string(metadata))
	for _, u := range []user{alice, bob} {
		o := order(columns{"visibility": "private"})
		s.insert(u, o)
		alert := s.emitted("alert", o["trace_id"].(string), 1)[0]
		if alert.OwnerID != u.sub || alert.TenantID != u.tenant || alert.Visibility != "private" {
			t.Errorf("the alert about a private span of %v is of %s, %s, %s", u, alert.OwnerID, alert.TenantID,
				alert.Visibility)
		}
	}
}
