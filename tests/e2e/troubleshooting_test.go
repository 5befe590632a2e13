package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/program"
)

// shows runs what docs/troubleshooting.md has below a heading, with the database's owner, and returns what it
// prints. The page's reader goes on where a statement fails.
func (s *system) shows(heading string) string {
	s.t.Helper()
	var said strings.Builder
	env := append(os.Environ(), program.OnPath(), "DATABASE_URL="+s.db.URL)
	run := func(command *exec.Cmd) {
		command.Env = env
		out, err := command.CombinedOutput()
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", heading, err, out)
		}
		said.Write(out)
	}
	for _, block := range pages.Section(s.t, "docs/troubleshooting.md", heading, "sql") {
		command := exec.CommandContext(s.t.Context(), s.postgresTool("psql"), "-X", s.db.URL)
		command.Stdin = strings.NewReader(block)
		run(command)
	}
	for _, block := range pages.Section(s.t, "docs/troubleshooting.md", heading, "sh") {
		run(exec.CommandContext(s.t.Context(), "bash", "-euo", "pipefail", "-c", block))
	}
	return said.String()
}

// The page's commands show what they are said to show: here each of its first three symptoms is made, seen,
// and mended as the page says.
func TestTroubleshootingShowsWhatIsWrong(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash", "jq")
	s := setup(t)
	key := s.insert(alice, function(`return 1;`, columns{"name": "waits", "trace_id": "waits"}))
	if said := s.shows("Nothing runs"); !strings.Contains(said, `relation "engine.leader" does not exist`) ||
		!strings.Contains(said, key.ID.String()) {
		t.Errorf("without a sidecar the page's commands say\n%s", said)
	}
	s.serve()
	s.settled("waits", 1)
	said := s.shows("Nothing runs")
	if strings.Contains(said, "does not exist") || !strings.Contains(said, "e2e") {
		t.Errorf("with a sidecar they say\n%s", said)
	}

	if said := s.shows("Everything is refused"); !strings.Contains(said, `  "`+span.RunCodeID.String()+`"`) {
		t.Errorf("of a manifest that is fine they say\n%s", said)
	}
	s.govern(forbid(span.RunCodeID))
	failed := s.run(alice, `return 1;`).last()
	if said := s.shows("Everything is refused"); strings.Contains(said, `  "`+span.RunCodeID.String()+`"`) {
		t.Errorf("of a manifest that forbids run_code (%s) they say\n%s", *failed.Status, said)
	}

	claims := pages.Section(t, "docs/troubleshooting.md", "Rows can not be read or written", "sql")[0]
	for metadata, tenant := range map[string]string{"app_metadata": "acme", "user_metadata": ""} {
		command := exec.CommandContext(t.Context(), s.postgresTool("psql"), "-qXAt", s.db.URL)
		command.Stdin = strings.NewReader(strings.Replace(claims, "app_metadata", metadata, 1))
		out, err := command.CombinedOutput()
		if want := "alice|" + tenant + "|f"; err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("a tenant in %s: %s, %v, want %s", metadata, out, err, want)
		}
	}
}
