package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// terminal opens a pseudo-terminal: what a program writes to inner comes out of heard.
func terminal(t *testing.T) (inner *os.File, heard *program.Transcript) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { _ = outer.Close() })
	fd := int(outer.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { _ = inner.Close() })
	heard = &program.Transcript{}
	go func() {
		buffer := make([]byte, 4096)
		for n, err := 0, error(nil); err == nil; { // until inner is closed everywhere
			n, err = outer.Read(buffer)
			_, _ = heard.Write(buffer[:n])
		}
	}()
	return inner, heard
}

// Beside somebody who holds the history, migrate says on a terminal what it waits for, and nothing elsewhere.
func TestLongWorkTellsATerminalAndNobodyElse(t *testing.T) {
	t.Parallel()
	s := &system{t: t, db: pgtest.Empty(t)}
	s.owner = s.open(s.db.URL)
	s.logline(0, "migrate")
	tx, err := s.owner.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), "lock table supabase_migrations.schema_migrations in access exclusive mode")
	must(t, err)
	piped := program.Start(t, []string{"DATABASE_URL=" + s.db.URL}, "migrate")
	inner, heard := terminal(t)
	shown := program.Command(program.Logline(), "migrate")
	shown.Env = append(shown.Env, "DATABASE_URL="+s.db.URL)
	shown.Stderr, shown.SysProcAttr = inner, program.WithParent()
	must(t, shown.Start())
	program.Eventually(t, "a line on the terminal", func() bool {
		return strings.Contains(heard.String(), "logline: migrate, 3 s: applying what is missing")
	})
	must(t, tx.Rollback(t.Context()))
	must(t, shown.Wait())
	if piped.Wait() != 0 || piped.Said() != "nothing to apply: the schema is current\n" {
		t.Errorf("to a pipe it says %q", piped.Said())
	}
}

// A script that keeps what a command prints must learn that it was not kept: the disk may be full.
func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	function := span.MustID("b0000000-0000-4000-a000-000000000001")
	s.insert(alice, columns{"id": function, "entity_type": "function", "status": "scheduled", "name": "once",
		"code": "return 1", "trace_id": "once"})
	request := s.settled("once", 1)[0].request()
	page := filepath.Join(t.TempDir(), "page.html")
	for _, words := range []string{"version", "help", "help keys", "schedule check @daily", "doctor", "verify",
		"compliance", "compliance --brief --html " + page, "compliance --json --html " + page, "manifest",
		"bootstrap", "bootstrap --diff", "migrate --again", "keys list", "requests list",
		"requests show " + request.ID.String(), "requests cancel --status scheduled", "timeline --as-owner",
		"span get " + function.String() + " --as-owner", "span history " + function.String() + " --as-owner",
		"function logs once --as-owner", "login --print",
		"e2e", "completion bash"} {
		command := program.Command(program.Logline(), strings.Fields(words)...)
		command.Env = append(command.Env, "DATABASE_URL="+s.db.URL, "LOGLINE_TRUST_ROOT=")
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		must(t, err)
		var said strings.Builder
		command.Stdout, command.Stderr = full, &said
		err = command.Run()
		must(t, full.Close())
		if err == nil || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("logline %s ends with %v, and nothing of it was kept: %s", words, err, said.String())
		}
	}
}
