package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

var statements = regexp.MustCompile(`(?s)<<'SQL'[^\n]*\n(.*?)\nSQL\n`)

// The way to change the manifest that docs/manifest.md shows, and the way back.
func TestTheManifestIsChangedAsItsPageSays(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "manifest.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := statements.FindAllStringSubmatch(string(page), -1)
	if len(found) != 2 {
		t.Fatalf("the page has %d statements, want 2", len(found))
	}
	read, write := found[0][1], strings.Replace(found[1][1], `:'span'`, "$1", 1)
	s := setupSigned(t)
	s.serveSigned("sidecar")
	change := func(edit func(document map[string]any)) {
		var next columns
		if err := json.Unmarshal([]byte(one[string](s.system, read)), &next); err != nil {
			t.Fatal(err)
		}
		edit(next["metadata"].(map[string]any))
		encoded, err := json.Marshal(s.signed("root", next, user{"system", "system"}))
		if err != nil {
			t.Fatal(err)
		}
		var seq int
		var isNew bool
		if err := s.owner.QueryRow(t.Context(), write, string(encoded)).Scan(&seq, &isNew); err != nil || !isNew {
			t.Fatalf("append: new %v, %v", isNew, err)
		}
	}
	limited := func(most int) func(map[string]any) {
		return func(document map[string]any) {
			document["throttle"].(map[string]any)["per_tenant_daily_exec_limit"] = most
		}
	}
	first := s.latest(span.ManifestID)
	change(limited(0))
	f := s.insert(alice, function(`return 1;`, columns{"status": "active"})).ID
	trace := s.callMany(alice, f, 2)
	s.stands(trace, "blocked 2")
	change(limited(5000))
	s.stands(trace, "complete 2, complete 2")
	change(func(document map[string]any) {
		clear(document)
		if err := json.Unmarshal(first.Metadata, &document); err != nil {
			t.Fatal(err)
		}
	})
	sameJSON(t, json.RawMessage(one[string](s.system, "select ledger_private.manifest_in_force()::text")),
		string(first.Metadata))
}

// Each refusal of Stage-0 is a span with its code: an execution where somebody has asked for a run, an
// incident where a kernel was to react, a policy_error where a policy was to judge.
func TestEveryRefusalIsASpan(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("order", alarm))
	tampered := s.read("entity_type = 'policy' and owner_id = 'alice'")[0]
	s.run(alice, `return 1;`)
	good := order()
	s.insert(alice, good)
	s.emitted("alert", good["trace_id"].(string), 1)

	s.insert(alice, columns{"id": tampered.ID, "seq": 1, "entity_type": "policy", "status": "active",
		"language": "cobol", "code": *tampered.Code, "metadata": tampered.Metadata})
	bad := order()
	s.insert(alice, bad)
	report := s.emitted("policy_error", bad["trace_id"].(string), 1)[0]
	if got := failure(t, report); got.Code != span.RunNotAllowed {
		t.Errorf("the policy_error says %+v", got)
	}
	s.govern(forbid(span.ObserverBotID))
	c := function(`return 1;`)
	key := s.insert(alice, c)
	program.Eventually(t, "an incident is there", func() bool {
		return len(s.read("entity_type = 'incident' and parent_id = $1", key.ID.String())) == 1
	})
	incident := s.read("entity_type = 'incident' and parent_id = $1", key.ID.String())[0]
	if got := failure(t, incident); got.Code != span.RunNotAllowed || *incident.This != "observer_bot" {
		t.Errorf("the incident says %+v", got)
	}
}

// After an upgrade the manifest may lack what the new kernels need: bootstrap says so, and how to give it.
func TestBootstrapNamesTheRightsThatKernelsLack(t *testing.T) {
	t.Parallel()
	s := migrated(t, pgtest.NewCluster(t, nil))
	s.bootstrap()
	said := func() string {
		p := program.Start(t, nil, "bootstrap", "--database", s.db.URL)
		if code := p.Wait(); code != 0 {
			t.Fatalf("bootstrap exits with %d: %s", code, p.Err.String())
		}
		return p.Out.String()
	}
	if out := said(); strings.Contains(out, "lacking") {
		t.Errorf("the shipped manifest lacks something: %s", out)
	}
	s.govern(func(m map[string]any) {
		m["grants"].(map[string]any)["run_code"] = []string{"run", "insertSpan:execution,policy_violation",
			"version:request"}
	})
	out := said()
	for _, want := range []string{"--give run_code=reserve\n", "--give run_code=insertSpan:status_patch\n"} {
		if !strings.Contains(out, want) || strings.Count(out, "lacking") != 2 {
			t.Errorf("bootstrap says %s, want %q", out, want)
		}
	}
}
