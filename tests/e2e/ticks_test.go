package e2e_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/program"
)

// snippet returns the policy of this name in docs/policies.md.
func snippet(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)(?:```js|<<'EOF')\n(.*?)(?:```|EOF\n)")
	for _, block := range blocks.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(block[1], "// "+name+":") {
			return block[1]
		}
	}
	t.Fatalf("docs/policies.md has no policy %s", name)
	return ""
}

// The policies of docs/policies.md, and those of the system, through a real sidecar and a real minute.
func TestPoliciesReactToSpansAndToTime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("order", snippet(t, "large_orders")))
	small := order(columns{"content": columns{"amount": 10}})
	large := order(columns{"content": columns{"amount": 2000}})
	s.insert(alice, small)
	s.insert(alice, large)
	if alert := s.emitted("alert", large["trace_id"].(string), 1)[0]; text(alert.Name) != "order of 2000" {
		t.Errorf("the alert is named %q", text(alert.Name))
	}
	for range 2 {
		s.insert(alice, columns{"entity_type": "task", "status": "open"})
	}
	counts := policy("", snippet(t, "open_tasks"), columns{"metadata": columns{"every": "minute"}})
	s.insert(alice, counts)
	s.run(carol, `throw new Error("carol's secret")`)
	s.run(bob, "return 1")
	// One that ends in a moment: a minute of life, most of which is over.
	block := s.insert(carol, columns{"entity_type": "prompt_block", "status": "active",
		"at": time.Now().Add(-55 * time.Second), "metadata": columns{"ttl_minutes": 1}})

	const written = `entity_type in ('count', 'metric', 'error_report', 'alert', 'status_patch')
		and metadata -> 'engine' is not null and trace_id is distinct from $1`
	what := "metrics of both tenants, a report, a count, and the block's end"
	if !program.Within(t, 3*time.Minute, func() bool {
		return len(s.read(written, large["trace_id"])) >= 4 && s.latest(block.ID).StatusText() == "archived"
	}) {
		t.Fatalf("not there within three minutes: %s", what)
	}
	if found := s.read("trace_id = $1 and entity_type = 'alert'", small["trace_id"]); len(found) > 0 {
		t.Errorf("a small order has an alert")
	}
	tenants := map[string]int{}
	for _, row := range s.read(written, large["trace_id"]) {
		tenants[fmt.Sprintf("%s %s %s/%s", row.EntityType, row.Visibility, row.TenantID, row.OwnerID)]++
	}
	for _, want := range []string{"metric tenant acme/system", "metric tenant globex/system",
		"error_report private acme/carol", "count private acme/alice"} {
		if tenants[want] == 0 {
			t.Errorf("there is no %s: %v", want, tenants)
		}
	}
	if total := s.read("entity_type = 'count' and seq = 0"); len(total) != 1 || string(*total[0].Value) != "2" {
		t.Errorf("the tasks are counted as %v", total)
	}
	for _, u := range []user{alice, bob} {
		for _, row := range s.seen(u, "ledger.history", "entity_type in ('metric', 'error_report', 'alert')") {
			if strings.Contains(string(row.Error), "secret") || row.TenantID != u.tenant {
				t.Errorf("%s sees a %s of %s", u.sub, row.EntityType, row.OwnerID)
			}
		}
	}
	judge(t, s)
}

// A policy that its governor has switched off stays so when bootstrap comes again.
func TestBootstrapKeepsAPolicySwitchedOff(t *testing.T) {
	t.Parallel()
	s := setup(t)
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(.*?)```").FindStringSubmatch(string(page))
	s.exec(block[1])
	s.bootstrap()
	const metrics = "id = '00000000-0000-4000-8000-000000000402'"
	versions := s.read(metrics)
	if len(versions) != 2 || versions[1].StatusText() != "draft" {
		t.Errorf("got %d versions, the last one %s", len(versions), versions[len(versions)-1].StatusText())
	}
	if active := one[int](s, `select count(*) from ledger.visible_timeline
		where entity_type = 'policy' and tenant_id = 'system' and status = 'active'`); active != 7 {
		t.Errorf("%d policies are active, want 7", active)
	}
}
