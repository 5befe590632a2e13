package e2e_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// comply runs `logline compliance --json` as the owner.
func (s *system) comply(code int, env []string, args ...string) *app.Compliance {
	s.t.Helper()
	env = append([]string{"DATABASE_URL=" + s.db.URL, "LOGLINE_URL=http://127.0.0.1:1"}, env...)
	p := program.Start(s.t, env, append([]string{"compliance", "--json"}, args...)...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("compliance %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	report := &app.Compliance{}
	if err := json.Unmarshal([]byte(p.Out.String()), report); err != nil {
		s.t.Fatalf("decode %s: %v", p.Out.String(), err)
	}
	for i, p := range report.Principles {
		if p.Number != i+1 || len(p.Evidence) == 0 {
			s.t.Errorf("principle %d, %s, has no evidence", p.Number, p.Name)
		}
	}
	return report
}

// broken are the numbers of the principles that have failed.
func broken(report *app.Compliance) (numbers []int) {
	for _, p := range report.Principles {
		if p.Level == app.Fault {
			numbers = append(numbers, p.Number)
		}
	}
	return numbers
}

func TestComplianceShowsEvidenceForSevenPrinciples(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	sidecar := s.serveSigned("sidecar")
	s.endToEnd(0)
	program.Eventually(t, "what has booted is recorded", func() bool { // once a minute, and at the end
		if len(s.read("entity_type = 'boot_event'")) > 0 {
			return true
		}
		sidecar.Stop(15)
		sidecar = s.serveSigned("sidecar")
		return false
	})
	s.keys(0, "generate", "--purpose", "span", "--name", `<script>alert("&")</script>`, "--key", s.file("root"),
		"--out", s.file("other"))
	before := s.rows()
	env := []string{"LOGLINE_TRUST_ROOT=" + s.root, "LOGLINE_URL=" + sidecar.URL()}
	page := filepath.Join(s.dir, "compliance.html")
	report := s.comply(0, env, "--html", page, "--strict")
	if len(report.Principles) != 7 || !report.OK || report.TrustRoot != s.root {
		t.Errorf("%d principles, ok %t, root %s", len(report.Principles), report.OK, report.TrustRoot)
	}
	tried := 0
	for _, p := range report.Principles {
		for _, e := range p.Evidence {
			if e.Level != app.Fine {
				t.Errorf("%d: %+v", p.Number, e)
			}
			if e.Statement != "" && e.As != "" && e.Answer != "" {
				tried++
			}
		}
	}
	if later := report.Principles[6].Later; tried < 60 || !strings.Contains(later, "transparency log") {
		t.Errorf("%d statements were tried; of what is not proved it says %q", tried, later)
	}
	if after := s.rows(); after != before {
		t.Errorf("it has left %d spans", after-before)
	}

	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, words := range []string{s.db.Name + " at 127.0.0.1:", s.root, report.Version,
		report.At.Format("2006-01-02 15:04:05"), "LL001",
		"truncate ledger.universal_registry", "&lt;script&gt;alert(&#34;&amp;&#34;)&lt;/script&gt;",
		"Not proved by this version", "default-src &#39;none&#39;"} {
		if !strings.Contains(text, words) && !strings.Contains(text, strings.ReplaceAll(words, "&#39;", "'")) {
			t.Errorf("the page lacks %q", words)
		}
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|https?:|url\(|@import| src=| href=`).FindString(
		strings.ReplaceAll(text, sidecar.URL(), "")); found != "" {
		t.Errorf("the page refers to something outside of it, or runs something: %q", found)
	}
}

func TestComplianceNamesTheBrokenPrinciple(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if report := s.comply(0, nil); len(broken(report)) != 0 || report.Unchecked == 0 ||
		report.Principles[2].Level != app.Skipped {
		t.Errorf("without a sidecar %v is broken, and %d could not be tested", broken(report), report.Unchecked)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	s.comply(1, nil, "--strict", "--html", page)
	if raw, err := os.ReadFile(page); err != nil || strings.Contains(string(raw), "have failed") ||
		!strings.Contains(string(raw), "all was to be tested") {
		t.Errorf("where nothing has failed, and not all was tested, the page says otherwise, %v", err)
	}
	const table = "alter table ledger.universal_registry "
	for _, c := range []struct {
		name, spoil string
		want        []int
	}{
		{"a statement trigger is gone", "drop trigger universal_registry_before_change_statement on " +
			"ledger.universal_registry", []int{2}},
		{"a row trigger is gone", "drop trigger universal_registry_before_change_row on ledger.universal_registry",
			[]int{2}},
		{"triggers sleep with a replica", table + "enable trigger universal_registry_before_change_statement, " +
			"enable trigger universal_registry_before_change_row", []int{2}},
		{"row level security is off", table + "disable row level security", []int{4}},
		{"a policy opens what is the tenant's", "drop policy universal_registry_select_authenticated on " +
			"ledger.universal_registry; create policy universal_registry_select_authenticated on " +
			"ledger.universal_registry for select to authenticated using (true)", []int{4}},
		{"another table stands beside", "create table ledger.more (id int)", []int{5}},
		{"a guard lies", `create or replace function ledger.may_follow(p_entity_type text, p_tenant_id text,
			p_before text, p_after text, p_is_engine boolean) returns boolean language sql immutable as 'select true'`,
			[]int{6}},
	} {
		s.exec(c.spoil)
		if got := broken(s.comply(1, nil)); !slices.Equal(got, c.want) {
			t.Errorf("%s: broken is %v, want %v", c.name, got, c.want)
		}
		s.exec("drop table if exists ledger.more")
		if p := program.Start(t, nil, "migrate", "--again", "--database", s.db.URL); p.Wait() != 0 {
			t.Fatalf("%s: migrate --again: %s", c.name, p.Err.String())
		}
		if got := broken(s.comply(0, nil)); len(got) != 0 {
			t.Fatalf("%s: after the mend %v is broken", c.name, got)
		}
	}
	// What a client states as a hash is his own affair.
	s.insert(alice, columns{"id": "019a5f0e-0000-7d6e-8c55-0d9c2f6b1a11", "seq": 0, "entity_type": "note",
		"who": "user:alice", "this": "x", "at": time.Now(), "owner_id": "alice", "tenant_id": "acme",
		"visibility": "private", "is_deleted": false, "curr_hash": strings.Repeat("0", 64)})
	proofs := s.comply(0, nil).Principles[6].Evidence[0]
	if !strings.Contains(proofs.Answer, "1 spans that clients") {
		t.Errorf("a client's own hash: %+v", proofs)
	}
	s.exec(`insert into ledger.universal_registry
			(id, seq, entity_type, who, did, owner_id, tenant_id, visibility, status, name)
		select id, seq + 1, entity_type, 'system:governor', 'switched off', owner_id, tenant_id, visibility,
			'draft', name
		from ledger.visible_timeline where name = 'throttle'`)
	if off := s.comply(0, nil).Principles[0].Evidence; !slices.ContainsFunc(off, func(e app.Evidence) bool {
		return strings.Contains(e.Answer, "throttle switched off by version 1 (draft, system:governor)")
	}) {
		t.Errorf("a policy that its governor has switched off: %+v", off)
	}
	s.exec(`insert into ledger.universal_registry
			(id, seq, entity_type, who, did, owner_id, tenant_id, visibility, status, name, code)
		select id, seq + 1, entity_type, 'system:governor', 'replaced', owner_id, tenant_id, visibility,
			'active', name, 'return null;'
		from ledger.visible_timeline where name = 'throttle'`)
	if got := s.comply(1, nil).Principles[0].Evidence; !slices.ContainsFunc(got, func(e app.Evidence) bool {
		return e.Level == app.Fault && strings.Contains(e.Answer, "throttle version 2 has no hash") &&
			!strings.Contains(e.Answer, "not what was hashed") && strings.Contains(e.Mend, "--over NAME")
	}) {
		t.Errorf("a policy that was replaced without a hash: %+v", got)
	}
	p := program.Start(t, nil, "compliance", "--brief", "--database", s.db.URL)
	if p.Wait(); !strings.Contains(p.Err.String(), "failed: 1. Ledger first") {
		t.Errorf("its last line is %q", p.Err.String())
	}
	s.logline(0, "bootstrap", "--policies", "--over", "throttle")
	s.forge("code = code || ' ' where name = 'request_worker'")
	if got := broken(s.comply(1, nil)); !slices.Equal(got, []int{1, 7}) {
		t.Errorf("with a forged kernel broken is %v", got)
	}
	s.forge("code = rtrim(code, ' ') where name = 'request_worker'")
	version := s.next(span.ManifestID)
	version.Status = new("deprecated")
	s.publish(version)
	if got := broken(s.comply(1, nil)); !slices.Equal(got, []int{6}) {
		t.Errorf("without a manifest in force broken is %v", got)
	}
}

// A span that somebody signed with a key that counts, and that says something else now, is named. What is not
// signed by such a key stays its author's affair.
func TestComplianceNamesASignedSpanThatWasChanged(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	c := s.signed("root", columns{"entity_type": "function", "status": "active", "name": "mine",
		"language": "javascript", "code": "return 1", "visibility": "private"}, alice)
	id := s.insert(alice, c).ID.String()
	env := []string{"LOGLINE_TRUST_ROOT=" + s.root}
	if p := s.comply(0, env).Principles[6]; p.Level != app.Fine {
		t.Fatalf("before the change principle 7 is %s: %+v", p.Level, p.Evidence)
	}
	s.forge("code = 'return 2' where id = '" + id + "'")
	p := s.comply(0, env).Principles[6]
	isNamed := slices.ContainsFunc(p.Evidence, func(e app.Evidence) bool {
		return e.Level == app.Warning && strings.Contains(e.Answer, id)
	})
	if p.Level != app.Warning || !isNamed {
		t.Errorf("principle 7 is %s: %+v", p.Level, p.Evidence)
	}
}

// The page is no file that somebody has laid in its way, and where it can not be written no test is made.
func TestThePageOfComplianceGoesWhereItIsToldAndNowhereElse(t *testing.T) {
	t.Parallel()
	s := setup(t)
	dir := t.TempDir()
	page, other := filepath.Join(dir, "page.html"), filepath.Join(dir, "other")
	err := errors.Join(os.WriteFile(other, []byte("mine"), 0o600), os.Symlink(other, page+".new"))
	if err != nil {
		t.Fatal(err)
	}
	s.comply(0, nil, "--html", page)
	if raw, err := os.ReadFile(other); err != nil || string(raw) != "mine" {
		t.Errorf("it has written through a link: %d bytes, %v", len(raw), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 3 {
		t.Errorf("it has left %v, %v", left, err)
	}
	for path, code := range map[string]int{filepath.Join(dir, "nowhere", "page.html"): 1, dir: 2} {
		p := program.Start(t, nil, "compliance", "--html", path, "--database", s.db.URL)
		if got := p.Wait(); got != code || p.Out.String() != "" {
			t.Errorf("--html %s exits with %d, want %d, and prints %s", path, got, code, p.Out.String())
		}
	}
}
