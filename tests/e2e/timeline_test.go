package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// logline runs a command with the database of s, and returns what it prints; it must exit with code.
func (s *system) logline(code int, args ...string) (out, said string) {
	s.t.Helper()
	p := program.Start(s.t, []string{"DATABASE_URL=" + s.db.URL}, args...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("logline %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	return p.Out.String(), p.Err.String()
}

// actingAs is a command with the flags by which a command acts as a user.
func actingAs(u user, args ...string) []string {
	return append(args, "--as", u.sub, "--tenant", u.tenant)
}

// acts runs a command as a user.
func (s *system) acts(code int, u user, args ...string) (out, said string) {
	s.t.Helper()
	return s.logline(code, actingAs(u, args...)...)
}

func TestLoglineSpanAppendsAndReadsAsAUser(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const first = `{"entity_type": "note", "name": "one"}`
	out, _ := s.acts(0, alice, "span", "append", first, "--json")
	var added struct {
		ID    span.ID
		Seq   int
		IsNew bool `json:"is_new"`
	}
	if err := json.Unmarshal([]byte(out), &added); err != nil || !added.IsNew || added.Seq != 0 {
		t.Fatalf("append prints %q, %v", out, err)
	}
	file := filepath.Join(t.TempDir(), "next.json")
	next := `{"id": "` + added.ID.String() + `", "seq": 1, "entity_type": "note", "name": "two"}`
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	s.acts(0, alice, "span", "append", "@"+file)
	again, _ := s.acts(0, alice, "span", "append", "@"+file)
	if !strings.HasPrefix(again, "was there") {
		t.Errorf("the same again prints %q", again)
	}
	id := added.ID.String()
	if row := s.latest(added.ID); row.Who != "user:alice" || row.TenantID != alice.tenant || *row.Name != "two" {
		t.Errorf("appended %+v", row)
	}
	shown, _ := s.acts(0, alice, "span", "get", id)
	if !strings.Contains(shown, "name             two\n") {
		t.Errorf("get prints\n%s", shown)
	}
	old, _ := s.acts(0, alice, "span", "get", id, "--seq", "0", "--json")
	if !strings.Contains(old, `"name": "one"`) {
		t.Errorf("--seq 0 prints\n%s", old)
	}
	history, _ := s.acts(0, alice, "span", "history", id)
	if lines := strings.Split(history, "\n"); len(lines) != 4 || !strings.HasSuffix(lines[2], "  name") {
		t.Errorf("history prints\n%s", history)
	}
	// A stranger learns nothing, and nobody is the owner without saying so.
	for _, words := range [][]string{{"span", "get", id}, {"span", "history", id}} {
		if _, said := s.acts(1, bob, words...); !strings.Contains(said, "may read no such span") {
			t.Errorf("bob's %v says %q", words, said)
		}
		if _, said := s.logline(2, words...); !strings.Contains(said, "say who you are") {
			t.Errorf("nobody's %v says %q", words, said)
		}
		s.logline(0, append(words, "--as-owner")...)
	}
	for _, wrong := range []string{"span append {", "span append", "span get x", "span gte",
		"span append {} --as-owner"} {
		s.acts(2, alice, strings.Fields(wrong)...)
	}
	_, said := s.acts(1, alice, "span", "append", `{"entity_type":"note","colour":1}`)
	if !strings.Contains(said, "colour") {
		t.Errorf("a faulty span: %q", said)
	}
}

func TestLoglineTimelineFollowsWhatCommitsLate(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.insert(alice, columns{"entity_type": "note", "name": "before", "status": "new"})
	tx, err := s.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const insert = `insert into ledger.universal_registry (entity_type, name, owner_id, tenant_id, who, status)
		values ('note', $1, 'alice', $2, 'user:alice', 'new')`
	if _, err := tx.Exec(t.Context(), insert, "late", alice.tenant); err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, []string{"DATABASE_URL=" + s.db.URL},
		actingAs(alice, "timeline", "--follow", "--type", "note,order", "--json")...)
	names := func() string {
		var list []string
		for line := range strings.Lines(p.Out.String()) {
			var row struct{ Name string }
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &row) == nil {
				list = append(list, row.Name)
			}
		}
		return strings.Join(list, " ")
	}
	program.Eventually(t, "what was there", func() bool { return names() == "before" })
	other := s.owner
	for _, name := range []string{"early", "second"} {
		if _, err := other.Exec(t.Context(), insert, name, alice.tenant); err != nil {
			t.Fatal(err)
		}
	}
	s.acts(0, bob, "span", "append", `{"entity_type": "note", "name": "bob's"}`)
	program.Eventually(t, "what committed before", func() bool { return names() == "before early second" })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	program.Eventually(t, "what committed late", func() bool { return names() == "before early second late" })
	if code := p.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
	if text, _ := s.acts(0, bob, "timeline", "--type", "note"); strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, "bob's") {
		t.Errorf("bob sees\n%s", text)
	}
	all, _ := s.logline(0, "timeline", "--as-owner", "--in", alice.tenant, "--status", "new", "--since", "1h")
	if strings.Count(all, "\n") != 4 {
		t.Errorf("the owner sees\n%s", all)
	}
	for _, wrong := range []string{"timeline --limit 0x", "timeline --since 3days", "timeline what"} {
		s.acts(2, alice, strings.Fields(wrong)...)
	}
}

func TestLoglineTimelineNamesTheFunctionOfEachRequestAndExecution(t *testing.T) {
	t.Parallel()
	s := setup(t)
	f := s.insert(alice, function(`return 1;`, columns{"status": "active", "name": "greet\x1b[2J"})).ID
	nameless := s.insert(alice, function(`return 1;`, columns{"status": "active", "name": nil})).ID
	p := program.Start(t, []string{"DATABASE_URL=" + s.db.URL},
		actingAs(alice, "timeline", "--follow", "--type", "request,execution")...)
	s.serve()
	for _, id := range []span.ID{f, nameless} {
		s.stands(s.callMany(alice, id, 1), "complete 1, complete 1")
	}
	// Each has a request in two versions at least, and an execution.
	program.Eventually(t, "all of them", func() bool {
		text := p.Out.String()
		return strings.Count(text, "  greet [2J") >= 3 && strings.Count(text, "  "+nameless.String()) >= 3 &&
			!strings.Contains(text, "\x1b")
	})
	out, _ := s.acts(0, alice, "timeline", "--type", "execution,note", "--json")
	for line := range strings.Lines(out) {
		var row struct {
			EntityType string   `json:"entity_type"`
			Parent     *span.ID `json:"parent_id"`
			Function   string   `json:"function_name"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		want := ""
		if row.EntityType == "execution" && *row.Parent == f {
			want = "greet\x1b[2J"
		}
		if row.Function != want {
			t.Errorf("function_name is %q, want %q, in %s", row.Function, want, line)
		}
	}
	if strings.Count(out, "\n") != 2 {
		t.Errorf("timeline --json prints\n%s", out)
	}
}
