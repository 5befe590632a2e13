package e2e_test

import (
	"os"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// What a database of the reference implementation holds comes along: what was done stays done, nothing runs
// again by itself, and its functions can be called.
func TestTheRowsOfTheReferenceImplementationComeAlong(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	s := &system{t: t, cluster: cluster, db: cluster.Empty(t)}
	s.owner = s.open(s.db.URL)
	psql := s.postgresTool("psql")
	there, err := os.ReadFile("testdata/reference.sql")
	must(t, err)
	s.exec(string(there))
	s.exec("alter schema ledger rename to ledger_reference")
	if p := launch(t, nil, "migrate", "--database", s.db.URL); p.wait() != 0 {
		t.Fatalf("migrate exits with %d: %s", p.code(), p.err.String())
	}
	taken := launchOf(t, psql, nil, "-qAt", "-f", "../../scripts/deploy/from_reference.sql", s.db.URL)
	if taken.wait() != 0 || taken.out.String() != "8|6|1\n" {
		t.Fatalf("from_reference.sql exits with %d: %s%s", taken.code(), taken.out.String(), taken.err.String())
	}
	s.bootstrap()
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
	if gone := s.seen(bob, "ledger.visible_timeline", "name = 'gone'"); len(gone) != 0 {
		t.Error("a tombstone does not hide what it ended")
	}
	if seen := s.seen(alice, "ledger.visible_timeline", "name = 'of nobody'"); len(seen) != 0 {
		t.Error("what was nobody's is everybody's")
	}
	checkChains(t, s)
}
