package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// manifest runs `logline manifest` and returns what it prints.
func (s *system) manifest(code int, args ...string) string {
	s.t.Helper()
	p := program.Start(s.t, nil, append([]string{"manifest", "--database", s.db.URL}, args...)...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("logline manifest %q exits with %d, want %d: %s%s", args, got, code, p.Out.String(),
			p.Err.String())
	}
	return p.Said()
}

func TestTheManifestIsChangedByTheCommand(t *testing.T) {
	t.Parallel()
	s := setup(t)
	before := s.latest(span.ManifestID)
	file := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(file, []byte(s.manifest(0)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{0, []string{"--file", file}, "unchanged"},
		{0, []string{"--give", "run_code=sql", "--give", "provider_exec=fetch:a.example:443"},
			"in force now"},
		{0, []string{"--give", "run_code=sql"}, "unchanged"},
		{0, []string{"--take", "run_code=sql"}, "published"},
		{1, []string{"--take", "run_code=sql"}, "it has not got it"},
		{1, []string{"--give", "nobody=sql"}, "grants.nobody: is neither a kernel"},
		{1, []string{"--give", "run_code=fetch:*:443"}, "wildcards"},
		{2, []string{"--give", "run_code"}, "want HOLDER=GRANT"},
		{1, []string{"--file", "/nowhere"}, "read the manifest"},
		{1, []string{"--key", "/nowhere", "--give", "run_code=sql"}, "/nowhere"},
	} {
		if said := s.manifest(c.code, c.args...); !strings.Contains(said, c.says) {
			t.Errorf("%q says %s, want %s", c.args, said, c.says)
		}
	}
	s.refusesKernels()
	now := s.latest(span.ManifestID)
	if now.Seq != before.Seq+2 || now.Who != "system:manifest" || now.Did == nil || *now.Did != "changed" {
		t.Errorf("version %d of %s after %d of %s", now.Seq, now.Who, before.Seq, before.Who)
	}
	var document struct{ Grants map[string][]string }
	if err := json.Unmarshal(now.Metadata, &document); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(document.Grants["provider_exec"], " ")
	if !strings.HasSuffix(got, " fetch:a.example:443") ||
		strings.Contains(strings.Join(document.Grants["run_code"], " "), "sql") {
		t.Errorf("grants %v", document.Grants)
	}
	sameJSON(t, json.RawMessage(s.manifest(0)), string(now.Metadata))
	s.serve() // and it is one that takes force
	if got := s.run(alice, "return 1").execution(t); got.StatusText() != "complete" {
		t.Errorf("got %s", got.Error)
	}
	checkHashes(t, s)
}

// refusesKernels sees that the command refuses kernels and pins that the ledger has not: what they name
// could not boot.
func (s *system) refusesKernels() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "manifest.json")
	for says, change := range map[string]func(document map[string]any){
		"the ledger has no version 77 of it: the newest is 0": func(document map[string]any) {
			document["pins"] = map[string]int{"run_code": 77}
		},
		"kernels.receipts: the ledger has no " + receiptsID.String(): func(document map[string]any) {
			document["kernels"].(map[string]any)["receipts"] = receiptsID
		},
	} {
		var document map[string]any
		if err := json.Unmarshal([]byte(s.manifest(0)), &document); err != nil {
			s.t.Fatal(err)
		}
		change(document)
		encoded, err := json.Marshal(document)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(file, encoded, 0o600); err != nil {
			s.t.Fatal(err)
		}
		if said := s.manifest(1, "--file", file); !strings.Contains(said, says) {
			s.t.Errorf("it says %s, want %s", said, says)
		}
	}
}

// With a timelock the command says from when the new version is in force, and which is until then; a
// version that will not be is named, too.
func TestTheCommandSaysWhichManifestIsInForce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(func(m map[string]any) {
		m["timelocks"] = map[string]any{"manifest": map[string]any{"activate_after_hours": 24}}
	})
	ruling := s.latest(span.ManifestID)
	said := s.manifest(0, "--give", "run_code=sql")
	waiting := s.latest(span.ManifestID)
	want := fmt.Sprintf("in force from %s; in force now: version %d",
		waiting.AcceptedAt.Add(24*time.Hour).UTC().Format(time.RFC3339), ruling.Seq)
	if waiting.Seq != ruling.Seq+1 || !strings.Contains(said, want) {
		t.Errorf("it says %q, want %q in it", said, want)
	}
	if said := s.manifest(0); !strings.Contains(said, want) {
		t.Errorf("what is printed is not in force, and it says %s", said)
	}
}
