package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// archived is a system whose WAL goes to a folder, as docs/operations.md says, and its base backup.
type archived struct {
	*system
	backup string   // stands for /backup
	env    []string // of the page's commands
}

// types runs a block of the page.
func (a *archived) types(block string) string {
	a.t.Helper()
	return pages.Paste(a.t, ".", a.env, strings.ReplaceAll(block, "/backup", a.backup))
}

func (a *archived) restart(before func()) {
	a.t.Helper()
	a.owner.Reset()
	a.api.Reset()
	server := a.cluster.Server
	if err := server.Kill(); err != nil {
		a.t.Fatal(err)
	}
	<-server.Done()
	before()
	if err := server.Restart(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	program.Eventually(a.t, "the server has recovered", func() bool {
		var isOver bool
		err := a.owner.QueryRow(a.t.Context(), "select not pg_is_in_recovery()").Scan(&isOver)
		return err == nil && isOver
	})
}

// The drill of docs/operations.md: a base backup while it works, the WAL since then, and back to a moment.
// What was done by then is not done again, what was open then runs once, what came later is gone.
func TestARestoreToAPointInTimeGoesOnExactly(t *testing.T) {
	t.Parallel()
	blocks := pages.Marked(t, "docs/operations.md").Under("Restore to a point in time", 3)
	s := setup(t)
	bin := filepath.Dir(s.postgresTool("pg_basebackup"))
	s.postgresTool("psql")
	a := &archived{system: s, backup: pgtest.Dir(t)}
	data := s.cluster.Server.Data()
	a.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DATABASE_URL=" + s.db.URL, "PGDATA=" + data}
	wal := filepath.Join(a.backup, "wal")
	if err := os.Mkdir(wal, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(wal, 0o777); err != nil { // whatever the umask is: the server writes there
		t.Fatal(err)
	}
	a.types(blocks[0])
	a.restart(func() {})

	sidecar := s.serve()
	f := s.insert(alice, function(`return input;`, columns{"status": "active"}))
	s.insert(alice, policy("order", alarm))
	s.lives(f.ID, "before the backup", 5)
	if said := a.types(blocks[1]); strings.TrimSpace(said) == "" {
		t.Error("the archiver has nothing to say")
	}
	s.lives(f.ID, "after the backup", 5)
	if exit := sidecar.Stop(syscall.SIGTERM); exit != 0 {
		t.Fatalf("the sidecar exits with %d", exit)
	}
	s.leaves(f.ID, "open", 5)
	a.env = append(a.env, "MOMENT="+one[string](s, "select clock_timestamp()::text"))
	sidecar = s.serve()
	s.emitted("alert", "open", 5)
	s.settled("runs of open", 5)
	s.lives(f.ID, "lost", 5)
	sidecar.Kill()
	last := one[string](s, "select pg_walfile_name(pg_switch_wal())")
	program.Eventually(t, "the last WAL is archived", func() bool {
		_, err := os.Stat(filepath.Join(wal, last))
		return err == nil
	})

	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	a.restart(func() {
		a.types(blocks[2])
		owner := info.Sys().(*syscall.Stat_t) // the page's reader is the server's user, this test may be root
		a.types(fmt.Sprintf("chown -R %d:%d %q", owner.Uid, owner.Gid, data))
	})
	s.hasExactly("after the backup", 5)
	s.hasExactly("open", 0)
	s.serve()
	s.emitted("alert", "open", 5)
	s.settled("runs of open", 5)
	s.lives(f.ID, "new", 5)
	for name, want := range map[string]int{
		"before the backup": 5, "after the backup": 5, "open": 5, "lost": 0, "new": 5,
	} {
		s.hasExactly(name, want)
	}
	judge(t, s)
}
