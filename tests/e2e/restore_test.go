package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// postgresTool is a program of the server's own version.
func (s *system) postgresTool(name string) string {
	s.t.Helper()
	return pgtest.Tool(s.t, s.db.URL, name)
}

func (s *system) invoke(program string, args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), program, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}

// lives appends n orders, and a request of f for each, and waits for what comes of them.
func (s *system) lives(f span.ID, name string, n int) {
	s.t.Helper()
	s.leaves(f, name, n)
	s.emitted("alert", name, n)
	s.settled("runs of "+name, n)
}

func (s *system) leaves(f span.ID, name string, n int) {
	s.t.Helper()
	for i := range n {
		s.insert(carol, order(columns{"trace_id": name}))
		s.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": f,
			"input": fmt.Sprintf("%s %d", name, i), "trace_id": "runs of " + name})
	}
}

// hasExactly fails unless so many alerts and executions came of what has that name.
func (s *system) hasExactly(name string, want int) {
	s.t.Helper()
	alerts := s.read("entity_type = 'alert' and trace_id = $1", name)
	executions := s.read("entity_type = 'execution' and trace_id = $1", "runs of "+name)
	if len(alerts) != want || len(executions) != want {
		s.t.Errorf("%s: %d alerts and %d executions, want %d of each", name, len(alerts), len(executions), want)
	}
}

// A dump, restored into a young cluster through the import door, whose transactions are numbered far below
// those of the rows: nothing of before is run or judged again, everything of after is, once.
func TestARestoredDumpGoesOnWithoutDoingAnythingAgain(t *testing.T) {
	t.Parallel()
	from := setup(t)
	dump, restore := from.postgresTool("pg_dump"), from.postgresTool("pg_restore")
	for range 3000 { // so that its counter is ahead
		from.exec("select pg_current_xact_id()")
	}
	sidecar := from.serve()
	f := from.insert(alice, function(`return input;`, columns{"status": "active"}))
	from.insert(alice, policy("order", alarm))
	from.lives(f.ID, "old", 5)
	if exit := sidecar.Stop(syscall.SIGTERM); exit != 0 {
		t.Fatalf("the sidecar exits with %d", exit)
	}
	from.awaitDetached()
	from.leaves(f.ID, "open", 5)
	file := filepath.Join(t.TempDir(), "ledger.dump")
	from.invoke(dump, "-Fc", "-f", file, from.db.URL)

	to := migrated(t, pgtest.NewCluster(t, nil)) // migrating any database makes the roles
	to.db = to.cluster.Empty(t)
	to.owner = to.open(to.db.URL)
	login := to.api.Config()
	to.api = to.open(strings.Replace(login.ConnString(), "/"+login.ConnConfig.Database, "/"+to.db.Name, 1))
	from.invoke(restore, "--exit-on-error", "-d", to.db.URL, file)
	refusedStart(t, to.environment(), 1, "restored from another server")
	to.awaitDetached()
	to.exec("select ledger.import_begin()")
	to.exec("select ledger.import_end()")
	if isBehind := one[bool](to, `select pg_current_xact_id()::text::bigint < (
		select max(xact::text::bigint) from ledger.universal_registry)`); !isBehind {
		t.Error("the new cluster's counter is past the rows': the test shows less than it should")
	}
	for _, loss := range []string{"select 1", "drop schema engine cascade"} {
		to.exec(loss)
		sidecar := to.serve()
		name := "new after " + loss
		to.lives(f.ID, name, 5)
		if exit := sidecar.Stop(syscall.SIGTERM); exit != 0 {
			t.Fatalf("the sidecar exits with %d", exit)
		}
		to.awaitDetached()
		to.hasExactly(name, 5)
	}
	to.hasExactly("old", 5)
	to.hasExactly("open", 0)
}

// A copy of the server's files, put back in the place of what came later: the same server in an older state,
// with the slot and the cursor of then. What was open then runs, once; what was done is not done again.
func TestAServerSetBackToAnOlderStateGoesOnFromThere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	f := s.insert(alice, function(`return input;`, columns{"status": "active"}))
	s.insert(alice, policy("order", alarm))
	s.lives(f.ID, "done", 5)
	killAndCheck(t, sidecar) // with a cursor that is behind
	s.leaves(f.ID, "open", 5)

	server, data := s.cluster.Server, s.cluster.Server.Data()
	copied := filepath.Join(t.TempDir(), "backup")
	offline := func(do func() error) {
		t.Helper()
		s.owner.Reset()
		s.api.Reset()
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		<-server.Done()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := server.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	offline(func() error { return exec.Command("cp", "-a", data, copied).Run() }) // with owner and rights
	sidecar = s.serve()
	s.emitted("alert", "open", 5)
	s.settled("runs of open", 5)
	s.lives(f.ID, "lost", 5)
	sidecar.Kill()
	offline(func() error {
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return exec.Command("cp", "-a", copied, data).Run()
	})
	s.hasExactly("open", 0)
	s.serve()
	s.emitted("alert", "open", 5)
	s.settled("runs of open", 5)
	s.lives(f.ID, "new", 5)
	for name, want := range map[string]int{"done": 5, "open": 5, "lost": 0, "new": 5} {
		s.hasExactly(name, want)
	}
	judge(t, s)
}
