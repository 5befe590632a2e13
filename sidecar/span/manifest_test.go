package span

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const functionID = "0198c0de-0000-7000-8000-00000000000f"

// contractManifest is the example of docs/contract.md §4, with each other key stated once.
const contractManifest = `{
  "version": "2", "created_at": "2026-01-01", "created_by": "seed",
  "kernels": {
    "run_code": "00000000-0000-4000-8000-000000000001",
    "observer_bot": "00000000-0000-4000-8000-000000000002",
    "request_worker": "00000000-0000-4000-8000-000000000003",
    "policy_agent": "00000000-0000-4000-8000-000000000004",
    "provider_exec": "00000000-0000-4000-8000-000000000005"},
  "allowed_boot_ids": ["00000000-0000-4000-8000-000000000001"],
  "throttle": {"per_tenant_daily_exec_limit": 7, "per_user_daily_exec_limit": 0},
  "policy": {"slow_ms": 1, "timeout_ms": 2, "circuit_breaker_threshold": 3},
  "features": {"signatures_required": ["function"], "strict_mode": true, "audit_log": "full"},
  "limits": {"memory_mb": 64, "spans": 10, "io_timeout_ms": 300000},
  "pins": {"run_code": 3},
  "timelocks": {"kernel:run_code": {"activate_after_hours": 24}, "manifest": {"activate_after_hours": 1}},
  "rate_limits": {"kernel:provider_exec": {"per_tenant_per_min": 10}},
  "triggers": [
    {"kernel": "observer_bot", "when": {"entity_type": "function", "status": ["scheduled"]}},
    {"kernel": "request_worker", "when": {"entity_type": "request", "status": ["scheduled", "retry"]}},
    {"kernel": "policy_agent", "when": {"not_entity_type": "<engine-written types>"}}],
  "grants": {
    "run_code": ["run", "reserve", "insertSpan:execution,status_patch,policy_violation"],
    "provider_exec": ["fetch:API.openai.com:443", "secret:OPENAI_API_KEY",
      "insertSpan:provider_execution,metric"],
    "policy_agent": ["insertSpan:*", "version:request",
		"version:*", "sql"],
    "user:alice": ["visibility:public"],
    "tenant:t1": ["visibility:public:note,prompt_block"],
    "0198C0DE-0000-7000-8000-00000000000F": ["fetch:example.com:443"]}}`

func contractExample(t testing.TB) *Manifest {
	t.Helper()
	m, err := ParseManifest(json.RawMessage(contractManifest))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEmptyManifestHasTheDefaults(t *testing.T) {
	t.Parallel()
	m, err := ParseManifest(json.RawMessage(`{}`))
	if err != nil || !reflect.DeepEqual(m, DefaultManifest()) {
		t.Fatalf("got %+v, %v", m, err)
	}
	if m.Features.SignaturesRequired.For("function") || m.Throttle.PerTenantDailyExecLimit != 1000 ||
		m.Allows("run_code", ActionRun, "") {
		t.Fatalf("the defaults are wrong: %+v", m)
	}
}

func TestManifestStatesEveryKey(t *testing.T) {
	t.Parallel()
	m, want := contractExample(t), DefaultManifest()
	want.Version, want.AllowedBootIDs = "2", []ID{RunCodeID}
	want.Throttle, want.Policy = Throttle{7, 0}, Policy{1, 2, 3}
	want.Pins, want.RateLimits = map[string]int{"run_code": 3}, map[string]int{"provider_exec": 10}
	want.Timelocks = map[string]int{"run_code": 24, "manifest": 1}
	want.Features = Features{SignaturesRequired{Types: []string{"function"}}, true, AuditFull}
	want.Limits.MemoryMB, want.Limits.Spans, want.Limits.IOTimeoutMs = 64, 10, 300000
	want.Triggers, want.Grants = m.Triggers, m.Grants
	if !reflect.DeepEqual(m, want) {
		t.Fatalf("got %+v, want %+v", m, want)
	}
	if all := (SignaturesRequired{All: true}); !all.For("policy") || all.For("request") || !all.IsAny() {
		t.Error("signatures_required as true is wrong")
	}
	if !m.Features.SignaturesRequired.For("function") || m.Features.SignaturesRequired.For("policy") {
		t.Error("signatures_required as a list is wrong")
	}
}

func TestManifestAllows(t *testing.T) {
	t.Parallel()
	m := contractExample(t)
	for _, c := range []struct {
		holder, action, object string
		want                   bool
	}{
		{"run_code", ActionRun, "", true},
		{"run_code", ActionSQL, "", false},
		{"run_code", ActionInsert, "execution", true},
		{"run_code", ActionInsert, "function", false},
		{"provider_exec", ActionFetch, "api.openai.com:443", true},
		{"provider_exec", ActionFetch, "api.openai.com:80", false},
		{"provider_exec", ActionSecret, "OPENAI_API_KEY", true},
		{"provider_exec", ActionSecret, "OPENAI", false},
		{"policy_agent", ActionInsert, "alert", true},
		{"policy_agent", ActionInsert, "execution", false},
		{"policy_agent", ActionInsert, "request", false},
		{"policy_agent", ActionInsert, "manifest", false},
		{"policy_agent", ActionInsert, "*", false},
		{"policy_agent", ActionVersion, "request", true},
		{"policy_agent", ActionVersion, "function", false},
		{functionID, ActionFetch, "example.com:443", true},
		{functionID, ActionInsert, "note", false},
		{"user:alice", ActionPublish, "function", true},
		{"user:bob", ActionPublish, "note", false},
		{"tenant:t1", ActionPublish, "prompt_block", true},
		{"tenant:t1", ActionPublish, "function", false},
		{"stranger", ActionRun, "", false},
	} {
		if got := m.Allows(c.holder, c.action, c.object); got != c.want {
			t.Errorf("%s %s %s: got %v", c.holder, c.action, c.object, got)
		}
	}
	if !m.HasNetwork(MustID(functionID)) || !m.HasNetwork(ProviderExecID) || m.HasNetwork(RunCodeID) {
		t.Error("HasNetwork is wrong")
	}
}

func TestManifestRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{`[]`, "manifest: want an object, found a list"},
		{`null`, "manifest: want an object, found null"},
		{`{"a":1,"a":1}`, "the key stands twice"},
		{`{"Throttle":{}}`, "Throttle: the key is unknown"},
		{`{"rate_limit":{}}`, "rate_limit: the key is unknown"},
		{`{"rate_limits":{"run_code":{}}}`, "rate_limits.run_code: is no kernel of this manifest (write"},
		{`{"rate_limits":{"kernel:nobody":{}}}`, "rate_limits.kernel:nobody: is no kernel"},
		{`{"rate_limits":{"kernel:run_code":{"per_tenant_per_min":0}}}`, "per_tenant_per_min: found 0"},
		{`{"rate_limits":{"kernel:run_code":{"per_min":1}}}`, "rate_limits.kernel:run_code.per_min: the key is"},
		{`{"rate_limits":{"kernel:observer_bot":{"per_tenant_per_min":1}}}`,
			"rate_limits.kernel:observer_bot: is a kernel that the engine starts"},
		{`{"rate_limits":{"kernel:policy_agent":{"per_tenant_per_min":1}}}`, "kernel:policy_agent: is a kernel that"},
		{`{"rate_limits":{"kernel:request_worker":{"per_tenant_per_min":1}}}`, "kernel:request_worker: is a kernel"},
		{`{"kernels":{"mine":"00000000-0000-4000-8000-000000000009"},
			"triggers":[{"kernel":"mine","when":{"entity_type":"note"}}],
			"rate_limits":{"kernel:mine":{"per_tenant_per_min":1}}}`, "kernel:mine: is a kernel that the engine"},
		{`{"pins":{"nobody":1}}`, "pins.nobody: is no kernel of this manifest"},
		{`{"pins":{"run_code":-1}}`, "pins.run_code: found -1"},
		{`{"pins":[]}`, "pins: want an object, found a list"},
		{`{"timelocks":{"kernel:nobody":{}}}`, "timelocks.kernel:nobody: is no kernel"},
		{`{"timelocks":{"kernel:manifest":{}}}`, "timelocks.kernel:manifest: is no kernel"},
		{`{"timelocks":{"manifest":{"activate_after_hours":721}}}`, "found 721 (write a whole number from 0"},
		{`{"timelocks":{"manifest":24}}`, "timelocks.manifest: want an object, found a number"},
		{`{"event_time":{}}`, "event_time: the key is unknown (remove it: the ledger's guard"},
		{`{"callable":["provider_exec","nobody"]}`, `callable[1]: "nobody" is no kernel of this manifest`},
		{`{"callable":["run_code"]}`, "callable[0]: run_code is for the engine to start"},
		{`{"callable":["observer_bot"]}`, "callable[0]: observer_bot is for the engine to start"},
		{`{"callable":["provider_exec","request_worker"]}`, "callable[1]: request_worker is for the engine to start"},
		{`{"callable":["policy_agent"]}`, "callable[0]: policy_agent is for the engine to start"},
		{`{"kernels":{"mine":"00000000-0000-4000-8000-000000000001"},"callable":["mine"]}`,
			"callable[0]: mine is for the engine to start"},
		{`{"callable":"run_code"}`, "callable: want a list, found a text"},
		{`{"limits":{"net_calls":1001}}`, "limits.net_calls: found 1001"},
		{`{"override_pubkey_hex":""}`, "append a key span with the purpose override"},
		{`{"version":1}`, "version: want a short text, found a number"},
		{`{"throttle":{"per_tenant_daily_exec_limit":-1}}`, "throttle.per_tenant_daily_exec_limit: found -1"},
		{`{"throttle":{"per_user_daily_exec_limit":1.5}}`, "found 1.5"},
		{`{"throttle":{"per_user_daily_exec_limit":"9"}}`, `found "9"`},
		{`{"throttle":{"x":1}}`, "throttle.x: the key is unknown"},
		{`{"throttle":null}`, "throttle: want an object, found null"},
		{`{"policy":{"timeout_ms":30001}}`, "found 30001 (write a whole number from 1 to 30000"},
		{`{"policy":{"timeout_ms":0}}`, "policy.timeout_ms: found 0"},
		{`{"limits":{"memory_mb":256}}`, "limits.memory_mb: found 256"},
		{`{"features":{"strict_mode":"yes"}}`, "features.strict_mode: want true or false"},
		{`{"features":{"signatures_required":"all"}}`, "features.signatures_required: found a text"},
		{`{"features":{"signatures_required":["A"]}}`, `features.signatures_required[0]: "A" is no entity type`},
		{`{"features":{"signatures_required":["note"]}}`, "features.signatures_required[0]: nobody looks at"},
		{`{"features":{"audit_log":1}}`, "features.audit_log: found 1"},
		{`{"kernels":{"run_code":"x"}}`, `kernels.run_code: want a UUID, found "x"`},
		{`{"kernels":{"A b":"00000000-0000-4000-8000-000000000001"}}`, "kernels.A b: the name is malformed"},
		{`{"kernels":{"a":"` + functionID + `","b":"` + functionID + `"}}`, "kernels.b: has the id of a"},
		{`{"allowed_boot_ids":"x"}`, "allowed_boot_ids: want a list"},
		{`{"allowed_boot_ids":[1]}`, "allowed_boot_ids[0]: want a UUID, found 1"},
		{`{"triggers":{}}`, "triggers: want a list"},
		{`{"triggers":[1]}`, "triggers[0]: want an object"},
		{`{"triggers":[{"kernel":"nobody","when":{"status":"x"}}]}`, `triggers[0].kernel: "nobody" is no kernel`},
		{`{"triggers":[{"kernel":"run_code"}]}`, "triggers[0].when: states no condition"},
		{`{"triggers":[{"kernel":"run_code","when":{}}]}`, "triggers[0].when: states no condition"},
		{`{"triggers":[{"kernel":"run_code","when":{"code":"x"}}]}`, "triggers[0].when.code: is no published"},
		{`{"triggers":[{"kernel":"run_code","if":1,"when":{"seq":0}}]}`, "triggers[0].if: the key is unknown"},
		{`{"kernels":{},"triggers":[{"kernel":"run_code","when":{"seq":0}}]}`, "is no kernel of this manifest"},
		{`{"grants":{"nobody":["run"]}}`, "grants.nobody: is neither a kernel"},
		{`{"grants":{"run_code":"run"}}`, "grants.run_code: want a list"},
		{`{"grants":{"run_code":[1]}}`, "grants.run_code[0]"},
		{`{"grants":{"run_code":["visibility:public"]}}`, "is no right of this holder"},
		{`{"grants":{"` + functionID + `":["visibility:public"]}}`, "is no right of this holder"},
		{`{"grants":{"user:alice":["run"]}}`, "is no right of this holder (write visibility:public or"},
		{`{"grants":{"user:alice":"visibility:public"}}`, "grants.user:alice: want a list"},
		{`{"grants":{"user:":["visibility:public"]}}`, "grants.user:: is neither a kernel"},
		{`{"grants":{"tenant:` + strings.Repeat("x", 201) + `":[]}}`, "is neither a kernel"},
		{`{"grants":{"User:alice":[]}}`, "is neither a kernel"},
	} {
		raw, want := c[0], c[1]
		_, err := ParseManifest(json.RawMessage(raw))
		refusalOf(t, err)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", raw, err, want)
		}
	}
}

func TestManifestNamesAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := ParseManifest(json.RawMessage(`{"limits":{"spans":-1},"features":{"audit_log":9},"x":1}`))
	if err == nil || strings.Count(err.Error(), "LL017") != 3 {
		t.Fatalf("got %v", err)
	}
}

func TestParseGrant(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"run", "reserve", "sql", "insertSpan:a,b_c", "insertSpan:*", "version:request",
		"version:*",
		"fetch:api.openai.com:443", "fetch:127.0.0.1:11434", "fetch:[::1]:80", "secret:OPENAI_API_KEY",
		"visibility:public", "visibility:public:note,prompt_block"} {
		if grant, err := ParseGrant(text); err != nil || grant.String() != text {
			t.Errorf("%s: got %s, %v", text, grant, err)
		}
	}
	for _, text := range []string{"", "fly", "run:x", "sql:", "insertSpan", "insertSpan:", "insertSpan:a,",
		"insertSpan:A",
		"fetch", "fetch:", "fetch:a", "fetch::443", "fetch:a:0", "fetch:a:65536", "fetch:a:+80",
		"fetch:*.a.com:443", "fetch:https://a:443", "fetch:a/b:443", "fetch:a..b:1", "fetch:[x]:1", "fetch:[::1:1",
		"secret:", "secret:lower", "secret:A-B", "visibility", "visibility:tenant", "visibility:publics",
		"visibility:public:", "visibility:public:*", "visibility:public:a,", "visibility:public:A"} {
		if grant, err := ParseGrant(text); err == nil {
			t.Errorf("%q: taken as %s", text, grant)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(contractManifest))
	f.Add([]byte(`{"features":{"signatures_required":[1]},"grants":{"run_code":["fetch:[::1]:1"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseManifest(raw)
		if err != nil {
			refusalOf(t, err)
			return
		}
		for _, trigger := range m.Triggers {
			trigger.When.Matches(&Published{})
		}
		for _, grants := range m.Grants {
			for _, grant := range grants {
				if again, err := ParseGrant(grant.String()); err != nil || !reflect.DeepEqual(again, grant) {
					t.Fatalf("grant %s reads back as %s, %v", grant, again, err)
				}
			}
		}
	})
}
