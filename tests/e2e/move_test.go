package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// move runs scripts/deploy/move.sh from one ledger to another and returns what it says.
func move(t *testing.T, dir, from, to string, code int, args ...string) string {
	t.Helper()
	env := []string{"FROM_URL=" + from, "TO_URL=" + to, "MOVE_DIR=" + dir}
	p := program.StartOf(t, "../../scripts/deploy/move.sh", env, args...)
	if got := p.Wait(); got != code {
		t.Fatalf("move.sh %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	return p.Said()
}

// emptyLedger is a migrated database in a cluster of its own, whose owner is no superuser, as on a hosted
// service.
func emptyLedger(t *testing.T) (s *system, owner string) {
	t.Helper()
	cluster := pgtest.NewCluster(t, nil)
	s = &system{t: t, cluster: cluster, db: cluster.Empty(t)}
	s.owner = s.open(s.db.URL)
	s.exec("create role platform login createrole replication password 'platform'")
	s.exec("grant create on database " + s.db.Name + " to platform")
	owner = s.urlOf("platform", "platform")
	if p := program.Start(t, nil, "migrate", "--database", owner); p.Wait() != 0 {
		t.Fatalf("migrate exits with %d: %s", p.Code(), p.Err.String())
	}
	s.letClientsIn()
	s.exec("create role app login replication password 'app'")
	s.exec("grant loglineos_sidecar to app")
	return s, owner
}

// A ledger goes from one provider to another while its sidecar works, and back: counts and bytes are the
// same, and the sidecar over there goes on with the functions that it finds.
func TestALedgerMovesBetweenProvidersAndBack(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash", "psql")
	set := pages.Marked(t, "docs/migration.md")
	migrate, again, finish := set.Take("logline migrate"), set.Take("move.sh copy"), set.Take("move.sh finish")
	first := setup(t)
	sidecar := first.serve()
	shared := first.insert(alice, function("return input", columns{"status": "active"})).ID
	call := func(s *system, n int, trace string) {
		t.Helper()
		for i := range n {
			s.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": shared,
				"input": fmt.Sprintf("%s %d é\n\t\\N", trace, i), "trace_id": trace})
		}
		for _, run := range s.settled(trace, n) {
			run.execution(t)
		}
	}
	call(first, 20, "before")
	second, owner := emptyLedger(t)
	dir := filepath.Join(t.TempDir(), `a folder's \name`)
	types := func(b pages.Block) string {
		t.Helper()
		return pages.Paste(t, pages.Root(), []string{program.OnPath(), "FROM_URL=" + first.db.URL,
			"TO_URL=" + owner, "MOVE_DIR=" + dir}, b.Text)
	}
	types(migrate)
	said := move(t, dir, first.db.URL, owner, 1, "copy") // the folder is not there, so nothing is done
	if strings.Contains(said, "undone") || !strings.Contains(said, "the copy is not whole") {
		t.Errorf("without its folder it says %q", said)
	}
	must(t, os.Mkdir(dir, 0o700))
	types(again) // the sidecar works on
	call(first, 20, "meanwhile")
	types(again)
	call(first, 5, "last")
	if said := move(t, dir, first.db.URL, owner, 1, "finish"); !strings.Contains(said, "a sidecar still works") {
		t.Errorf("beside a sidecar it says %q", said)
	}
	sidecar.Stop(syscall.SIGTERM)
	first.awaitDetached()
	open := first.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": shared})
	if said := move(t, dir, first.db.URL, owner, 1, "finish"); !strings.Contains(said, "1 requests are open") {
		t.Errorf("with an open request it says %q", said)
	}
	first.insert(alice, columns{"id": open.ID, "seq": 1, "entity_type": "request", "status": "cancel_requested"})
	sidecar = first.serve()
	program.Eventually(t, "the open request is cancelled", func() bool {
		return first.latest(open.ID).StatusText() == "cancelled"
	})
	sidecar.Stop(syscall.SIGTERM)
	first.awaitDetached()

	said = types(finish)
	rows := one[int](first, "select count(*)::int from ledger.universal_registry")
	if !regexp.MustCompile(fmt.Sprintf(`ms +compared +%d rows, sum \d+ on both sides`, rows)).MatchString(said) {
		t.Errorf("it says %q, want %d rows compared", said, rows)
	}
	t.Logf("%d rows:\n%s", rows, said)
	serves := []string{"DATABASE_URL=" + second.urlOf("app", "app")}
	sidecar = second.serve(serves...)
	call(second, 5, "over there")
	sidecar.Stop(syscall.SIGTERM)
	second.awaitDetached()

	third, back := emptyLedger(t)
	dir = t.TempDir()
	move(t, dir, owner, back, 0, "finish") // at once, without a copy before
	third.serve("DATABASE_URL=" + third.urlOf("app", "app"))
	call(third, 5, "back")
	checkChains(t, third)
	ran := one[int](third, "select count(*)::int from ledger.universal_registry where entity_type = 'execution'")
	if ran != 55 {
		t.Errorf("%d executions stand there, want 55", ran)
	}
}

// Whoever changes a row on the way is noticed, and the sidecar does not start there.
func TestAMoveNoticesAChangedRow(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash", "psql")
	first := setup(t)
	first.insert(alice, columns{"entity_type": "note", "name": "right"})
	second, owner := emptyLedger(t)
	dir := t.TempDir()
	move(t, dir, first.db.URL, owner, 0, "copy")
	for _, statement := range []string{"alter table ledger.universal_registry disable trigger all",
		"update ledger.universal_registry set name = 'wrong' where name = 'right'",
		"alter table ledger.universal_registry enable trigger all"} {
		second.exec(statement)
	}
	if said := move(t, dir, first.db.URL, owner, 1, "finish"); !strings.Contains(said, "the ledgers differ") {
		t.Errorf("it says %q", said)
	}
	if said := move(t, t.TempDir(), first.db.URL, owner, 1, "copy"); !strings.Contains(said, "is not empty") {
		t.Errorf("into a ledger that is not empty it says %q", said)
	}
	move(t, dir, first.db.URL, owner, 2, "all")
	move(t, dir, "", owner, 2, "copy")
}
