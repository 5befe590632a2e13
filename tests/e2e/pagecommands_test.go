package e2e_test

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// bare is a database with nothing in it, in a cluster of its own.
func bare(t *testing.T) *system {
	t.Helper()
	cluster := pgtest.NewCluster(t, nil)
	s := &system{t: t, cluster: cluster, db: cluster.Empty(t)}
	s.owner = s.open(s.db.URL)
	return s
}

// The first keys of a ledger, made as docs/keys.md says: what the bootstrap publishes is signed under the
// root, and a sidecar starts with its key.
func TestTheFirstKeysAreMadeAsThePageSays(t *testing.T) {
	t.Parallel()
	set := pages.Marked(t, "docs/keys.md")
	s := migrated(t, pgtest.NewCluster(t, nil))
	dir := t.TempDir()
	commands := set.Take("--purpose span").With(t,
		"postgres://postgres:…@db.example:5432/postgres", "'"+s.db.URL+"'",
		"--out root.key", "--out root.key | tee root.said",
		"LOGLINE_TRUST_ROOT=…", "LOGLINE_TRUST_ROOT=$(awk '/^fingerprint/ {print $2}' root.said)")
	said := pages.Paste(t, dir, []string{program.OnPath()}, commands+"echo root $LOGLINE_TRUST_ROOT\n")
	_, root, _ := strings.Cut(strings.TrimSpace(said), "\nroot ")
	if len(root) != 64 {
		t.Fatalf("the page's commands print\n%s", said)
	}
	s.serve("LOGLINE_TRUST_ROOT="+root, "LOGLINE_SIGNING_KEY_FILE="+dir+"/sidecar.key")
	ran := s.run(alice, "return 6 * 7").execution(t)
	if string(ran.Output) != "42" || ran.Signature == nil {
		t.Errorf("a function answers %s, signed %v", ran.Output, ran.Signature != nil)
	}
}

// The three steps of docs/deployment.md make a database in which a sidecar starts with their login.
func TestTheStepsBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	set := pages.Marked(t, "docs/deployment.md")
	s := bare(t)
	commands := set.Take("logline migrate").With(t, "$(openssl rand -hex 24)", "of the tests")
	pages.Paste(t, t.TempDir(), []string{program.OnPath(), "OWNER_URL=" + s.db.URL}, commands)
	s.letClientsIn()
	s.serve("DATABASE_URL=" + s.urlOf("logline_app", "of the tests"))
	if output := s.run(alice, "return 6 * 7").execution(t).Output; string(output) != "42" {
		t.Errorf("a function answers %s", output)
	}
}

// Each command of docs/operations.md about requests does what stands behind it, of two that are dead.
func TestTheCommandsAboutRequestsRunAsThePageSays(t *testing.T) {
	t.Parallel()
	set := pages.Marked(t, "docs/operations.md")
	s := setup(t)
	f := s.insert(alice, function(`return 1;`, columns{"status": "active"})).ID
	trace := s.callMany(alice, f, 3)
	ids := s.dies(trace, 2)
	said := pages.Paste(t, t.TempDir(), []string{program.OnPath(), "DATABASE_URL=" + s.db.URL,
		"REQUEST_ID=" + ids[0], "FUNCTION_ID=" + f.String()}, set.Take("logline requests").Text)
	for _, want := range []string{"redrive: 1 of 1 requests\n", "would redrive 1 requests; nothing is changed",
		"cancel: 1 of 1 requests\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page's commands do not print %q:\n%s", want, said)
		}
	}
	s.serve()
	s.stands(trace, "cancelled 1, complete 2, complete 2")
}
