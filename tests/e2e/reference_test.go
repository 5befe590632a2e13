package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/program"
)

// What a database of the reference implementation holds comes along: what was done stays done, nothing runs
// again by itself, and its functions can be called.
func TestTheRowsOfTheReferenceImplementationComeAlong(t *testing.T) {
	t.Parallel()
	set := pages.Marked(t, "docs/migration.md")
	s := bare(t)
	there, err := os.ReadFile("testdata/reference.sql")
	must(t, err)
	s.exec(string(there))
	psql := filepath.Dir(s.postgresTool("psql"))
	said := pages.Paste(t, pages.Root(), []string{program.OnPath(psql), "DATABASE_URL=" + s.db.URL},
		set.Take("ledger_reference").Text)
	counts := strings.Join(strings.Fields(strings.ReplaceAll(said, "|", " ")), " ")
	if !strings.Contains(counts, " 16 12 4 4 3 3 6 ") { // rows there, taken, left behind …
		t.Errorf("from_reference.sql does not count so:\n%s", said)
	}
	s.letClientsIn()
	s.exec("create role app login replication password 'app'")
	s.exec("grant loglineos_sidecar to app")
	s.serve("DATABASE_URL=" + s.urlOf("app", "app"))

	double := span.MustID("a0000000-0000-4000-a000-000000000001")
	s.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": double,
		"input": columns{"n": 4}, "trace_id": "today"})
	sameJSON(t, s.settled("today", 1)[0].execution(t).Output, `{"twice": 8}`)
	if ran := len(s.read("entity_type = 'execution'")); ran != 2 {
		t.Errorf("%d executions, want the imported one and that of today", ran)
	}
	imported := s.read("id = $1", double)[0]
	if imported.Name == nil || *imported.Name != "double" || imported.CurrHash != nil ||
		imported.At.Format("2006-01-02T15:04:05.000000") != "2025-03-04T05:06:07.123456" {
		t.Errorf("the function came along as %+v", imported)
	}
	sameJSON(t, imported.Metadata, `{"reference": {"seq": 0, "curr_hash": "bb", "metadata": {"reference": "RFC 1"}}}`)
	if gone := s.seen(bob, "ledger.visible_timeline", "name = 'gone'"); len(gone) != 0 {
		t.Error("a tombstone does not hide what it ended")
	}
	if seen := s.seen(alice, "ledger.visible_timeline", "name = 'of nobody'"); len(seen) != 0 {
		t.Error("what was nobody's is everybody's")
	}
	checkChains(t, s)
	s.plantedHasNoPower()
}

// plantedHasNoPower fails where a row of the reference implementation acts here. There everybody could state
// owner, tenant, type and visibility.
func (s *system) plantedHasNoPower() {
	t := s.t
	t.Helper()
	const imported = "id::text like 'f0000000-%' and "
	for what, where := range map[string]string{
		"of the system":     "(owner_id = 'system' or tenant_id = 'system')",
		"public":            "visibility = 'public'",
		"a policy in force": "entity_type = 'policy' and status is distinct from 'draft'",
		"planted, in force": "name = 'planted' and status in ('active', 'scheduled')",
		"planted, shown":    "name = 'planted' and (visibility <> 'private' or owner_id <> 'unknown')",
		"a key":             "entity_type = 'key'",
		"recurring":         "metadata ? 'schedule'",
		"the engine's":      "metadata ? 'engine'",
		"an emission's id":  "id::text like '%-8000-a000-%'",
	} {
		if found := s.read(imported + where); len(found) != 0 {
			t.Errorf("what came along is %s: %+v", what, found[0])
		}
	}
	recurring := s.read("name = 'recurring'")
	if len(recurring) != 1 || recurring[0].StatusText() != "active" {
		t.Fatalf("an honest function came along as %+v", recurring)
	}
	sameJSON(t, recurring[0].Metadata, `{"mine": 1, "reference": {"seq": 0,
		"metadata": {"mine": 1, "schedule": {"cron": "* * * * *"}}}}`)

	// Policies of today see what the planted ones would have seen.
	today := columns{"entity_type": "policy", "status": "active", "name": "of today", "language": "javascript",
		"code":     `function on() { return [{ emit_span: { entity_type: "alert", name: "of today" } }]; }`,
		"metadata": columns{"when": columns{"entity_type": "note"}}}
	s.insert(alice, today)
	s.exec(`insert into ledger.universal_registry
			(entity_type, status, name, language, code, metadata, owner_id, tenant_id, who)
		select entity_type, status, name, language, code, metadata, 'system', 'system', 'system:e2e'
		from ledger.universal_registry where name = 'of today'`)
	s.insert(alice, columns{"entity_type": "note", "name": "seen by policies"})
	program.Eventually(t, "both policies of today have seen the note", func() bool {
		return len(s.read("name = 'of today' and entity_type = 'alert'")) == 2
	})
	if alerts := s.read("entity_type = 'alert' and name in ('planted', 'lent')"); len(alerts) != 0 {
		t.Errorf("a planted policy acts: %+v", alerts[0])
	}
	// Who has read his policy puts it in force.
	s.insert(alice, with(today, columns{"id": "f0000000-0000-4000-a000-000000000002", "seq": 2, "name": "lent",
		"code": `function on() { return [{ emit_span: { entity_type: "alert", name: "lent" } }]; }`}))
	s.insert(alice, columns{"entity_type": "note", "name": "seen by hers"})
	program.Eventually(t, "her policy is in force", func() bool {
		return len(s.read("name = 'lent' and entity_type = 'alert'")) == 1
	})
}
