package e2e_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// has waits until the doctor tells it.
func (s *system) has(check string, level app.Level, word string, more ...string) {
	s.t.Helper()
	program.Eventually(s.t, "the doctor says "+word, func() bool {
		for _, f := range s.doctor(more...) {
			if f.Check == check && f.Level == level && strings.Contains(f.Cause, word) {
				return true
			}
		}
		return false
	})
}

// What the doctor says of the slot and of the leader fits together: of one that leads, is frozen, is gone,
// and of one that has another source.
func TestTheDoctorSaysOneThingOfTheLeader(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	tells(t, s.doctor(), "leader", app.Fine, "e2e leads, by wal; it beat", "ago")
	sidecar.Send(syscall.SIGSTOP)
	s.has("leader", app.Warning, "e2e holds the lead, and beat")
	sidecar.Send(syscall.SIGCONT)
	s.has("leader", app.Fine, "e2e leads")
	sidecar.Kill()
	program.Eventually(t, "the server has seen it go", func() bool {
		return one[bool](s, "select not active from pg_replication_slots")
	})
	found := s.doctor()
	tells(t, found, "slot", app.Warning, "nobody reads it", "logline serve")
	tells(t, found, "leader", app.Warning, "nobody leads: e2e did last", "logline serve")

	other := s.serve("LOGLINE_SOURCE=poll", "LOGLINE_NODE=other")
	s.has("slot", app.Fine, "not needed while other leads by poll")
	tells(t, s.doctor(), "leader", app.Warning, "other leads, by poll, and LOGLINE_SOURCE is wal here")
	standby := s.spawn()
	program.Eventually(t, "the standby says for whom it stands by, and what is wrong", func() bool {
		log := standby.Err.String()
		return strings.Contains(log, "standing by: another sidecar leads\" node=other source=poll") &&
			strings.Contains(log, "the leader has another LOGLINE_SOURCE")
	})
	other.Send(syscall.SIGSTOP)
	s.has("leader", app.Fine, "e2e leads, by wal")
	other.Send(syscall.SIGCONT)
	// Which connection it looks at first decides whether it also reads that its session was ended.
	program.Eventually(t, "who was frozen says for whom it stands by", func() bool {
		return strings.Contains(other.Err.String(), "standing by: another sidecar leads\" node=e2e source=wal")
	})
}

// A slot that waits for a transaction is not said to lead; the transaction is named, however young, also to a
// login that may not see since when it is open.
func TestTheDoctorNamesWhatASlotWaitsFor(t *testing.T) {
	t.Parallel()
	s := setup(t)
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "begin; select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	sidecar := s.spawn()
	s.has("slot", app.Warning, "is being made, and waits")
	tells(t, s.doctor(), "transactions", app.Warning, "may not see since when", "no slot can be made")
	tells(t, s.doctor("DATABASE_URL="+s.db.URL), "transactions", app.Warning, "has been open for")
	program.Eventually(t, "/readyz names it", func() bool {
		return strings.Contains(sidecar.Readiness().Degraded["tail"], "in "+s.db.Name+")")
	})
}

// A login that can not replicate polls, and no reader of the walls takes it for a stranger.
func TestAPlainLoginThatPollsIsNoFallenWall(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.exec("create role plain login password 'plain'; grant loglineos_sidecar to plain")
	parsed, err := url.Parse(s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword("plain", "plain")
	s.serve("DATABASE_URL="+parsed.String(), "LOGLINE_SOURCE=poll")
	for _, reader := range []string{s.db.URL, s.db.SidecarURL, parsed.String()} {
		tells(t, s.doctor("DATABASE_URL="+reader, "LOGLINE_SOURCE=poll"), "walls", app.Fine)
	}
}

// Whoever pins a root and forgets the key hears of it, as does who misspells a variable.
func TestAForgottenKeyAndAMisspeltVariableAreTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	root := "LOGLINE_TRUST_ROOT=" + strings.Repeat("ab", 32)
	found := s.doctor(root, "LOGLINE_SOURC=poll")
	tells(t, found, "signing key", app.Warning, "not signed", "LOGLINE_SIGNING_KEY_FILE")
	tells(t, found, "environment", app.Warning, "LOGLINE_SOURC ")
	tells(t, s.doctor("LOGLINE_SIGNING_KEY_FILE="+filepath.Join(t.TempDir(), "none")), "signing key", app.Fault,
		"correct the path")
	sidecar := s.serve(root, "LOGLINE_SOURC=poll")
	for _, line := range []string{"what this sidecar appends is not signed", "LOGLINE_SOURC"} {
		if !strings.Contains(sidecar.Err.String(), line) {
			t.Errorf("the log lacks %q", line)
		}
	}
}

// up.env is enough to start a second sidecar that signs.
func TestUpEnvNamesTheSidecarsKey(t *testing.T) {
	t.Parallel()
	l := up(t, pgtest.Dir(t), "--quiet")
	if _, err := os.Stat(l.env["LOGLINE_SIGNING_KEY_FILE"]); err != nil {
		t.Fatal(err)
	}
	env := []string{"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=second"}
	for _, name := range []string{"DATABASE_URL", "LOGLINE_TRUST_ROOT", "LOGLINE_SIGNING_KEY_FILE"} {
		env = append(env, name+"="+l.env[name])
	}
	tells(t, examine(t, env), "signing key", app.Fine, "leads to the pinned root")
}
