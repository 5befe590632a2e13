package tail

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// refusal runs a tail that cannot start and returns why.
func (f *fixture) refusal(t *testing.T, change func(*Config)) *SetupError {
	t.Helper()
	w := f.follow(t, func(w *follower) { change(&w.config) })
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatal("the tail goes on trying")
	}
	var setup *SetupError
	if !errors.As(w.err, &setup) {
		t.Fatalf("got %v, want a SetupError", w.err)
	}
	return setup
}

func TestSetupErrorsNameCauseAndMend(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	execute(t, f.conn, "create role plain login password 'hunter2'; grant loglineos_sidecar to plain")
	execute(t, f.conn, "select pg_create_physical_replication_slot('physical')")
	plain, err := url.Parse(f.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	plain.User = url.UserPassword("plain", "hunter2")
	wrong := *plain
	wrong.User = url.UserPassword("nobody", "hunter2")
	for name, c := range map[string]struct {
		change      func(*Config)
		cause, mend string
	}{
		"publication": {func(c *Config) { c.Publication = "other" }, `the publication "other"`, "logline migrate"},
		"no right": {func(c *Config) { c.ReplicationURL = plain.String() }, `the login "plain" may not replicate`,
			`alter role "plain" replication`},
		"no login": {func(c *Config) { c.ReplicationURL = wrong.String() }, `refuses the login "nobody"`,
			"correct its password"},
		"slot in use": {func(c *Config) { c.Slot = "physical" }, `slot "physical" belongs to another use`,
			"LOGLINE_SLOT"},
		"database url": {func(c *Config) { c.DatabaseURL = "postgres://%zz" }, "DATABASE_URL is malformed",
			"postgres://"},
		"replication url": {func(c *Config) { c.ReplicationURL = "postgres://%zz" }, "REPLICATION_URL is malformed",
			"postgres://"},
		"prepare": {func(c *Config) {
			c.Prepare = func(context.Context, *pgx.Conn) error { return errors.New("grant it the role") }
		}, "cannot do the sidecar's work", "grant it the role"},
	} {
		setup := f.refusal(t, c.change)
		if !strings.Contains(setup.Cause, c.cause) || !strings.Contains(setup.Mend, c.mend) ||
			strings.Contains(setup.Error(), "hunter2") {
			t.Errorf("%s: got %q", name, setup.Error())
		}
	}
	execute(t, f.conn, "alter schema engine owner to plain; revoke all on schema engine from loglineos_sidecar")
	if setup := f.refusal(t, func(*Config) {}); !strings.Contains(setup.Cause, "schema engine") {
		t.Errorf("a stranger's schema: got %q", setup.Error())
	}
}

func TestSetupErrorForWALLevel(t *testing.T) {
	t.Parallel()
	f := setup(t, map[string]string{"wal_level": "replica"})
	setup := f.refusal(t, func(*Config) {})
	if !strings.Contains(setup.Cause, "wal_level=replica") || !strings.Contains(setup.Mend,
		"restart the server") {
		t.Errorf("got %q", setup.Error())
	}
}

// Where every slot is in use, also at the first start, polling serves, and says what to do.
func TestWithoutAFreeSlotPollingServes(t *testing.T) {
	t.Parallel()
	f := setup(t, map[string]string{"max_replication_slots": "1"})
	execute(t, f.conn, "select pg_create_physical_replication_slot('the_only_one')")
	w := f.follow(t)
	w.reaches(t, Polling)
	w.receives(t, insert(t, f.conn, "row"))
	eventually(t, "the fault names the mend", func() bool {
		_, fault := w.tail.State()
		return strings.Contains(fault, "every replication slot") && strings.Contains(fault, "max_replication_slots")
	})
	execute(t, f.conn, "select pg_drop_replication_slot('the_only_one')")
	w.streams(t)
}

// A new slot waits for open write transactions; the fault names them, and the tail goes on when they end.
func TestOpenWriteTransactionDelaysTheSlotAndIsNamed(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	execute(t, f.conn, "begin; select pg_current_xact_id()")
	pid := ask[string](t, f.conn, "select pg_backend_pid()::text")
	w := f.follow(t)
	eventually(t, "the tail names who is in its way", func() bool {
		_, fault := w.tail.State()
		return strings.Contains(fault, "waits for open write transactions") &&
			strings.Contains(fault, "pid "+pid) &&
			strings.Contains(fault, "in "+f.db.Name+")") // since when, this login may not see
	})
	w.reaches(t, Polling)
	execute(t, f.conn, "commit")
	w.streams(t)
}

func TestExplainsPoolersAndNoSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"pgbouncer":   {errors.New("unsupported startup parameter: replication"), "points to a pooler"},
		"supavisor":   {&pgconn.PgError{Code: "08P01", Message: "protocol error"}, "points to a pooler"},
		"too many":    {&pgconn.PgError{Code: "53300", Message: "full"}, "max_wal_senders"},
		"other":       {&pgconn.PgError{Code: "57P03", Message: "starting up"}, "connect to REPLICATION_URL"},
		"nobody":      {errors.New("connection refused"), "connect to REPLICATION_URL"},
		"not allowed": {&pgconn.PgError{Code: "42501"}, `the login "me" may not replicate`},
	} {
		if err := explainReplication("me", c.err); !strings.Contains(err.Error(), c.want) || !errors.Is(err,
			c.err) {
			t.Errorf("%s: got %q", name, err)
		}
	}
	s := &session{Tail: New(Config{ReplicationURL: "postgres://me:hunter2@h/d"}, Handler{}), user: "me"}
	err := s.explainCreate(&pgconn.PgError{Code: "42501"})
	if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), `"me"`) {
		t.Errorf("creating a slot without the right: got %q", err)
	}
}

// Only waiting for the server counts as its silence: a handler may block as long as it must.
func TestBlockedHandlerIsNoSilenceOfTheServer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tail := New(Config{}, Handler{})
	if got := tail.silence(now); got != 0 {
		t.Errorf("before it waits: %s", got)
	}
	tail.waiting.Store(now.Add(-time.Minute).UnixNano())
	if got := tail.silence(now); got != time.Minute {
		t.Errorf("waiting for a minute: %s", got)
	}
	f := setup(t, nil)
	blocked, goOn := make(chan struct{}), make(chan struct{})
	w := f.follow(t, func(w *follower) {
		w.onRow = func(*span.Published) { close(blocked); <-goOn }
	}).streams(t)
	insert(t, f.conn, "blocks")
	<-blocked
	if got := w.tail.silence(time.Now().Add(time.Hour)); got != 0 {
		t.Errorf("while the handler blocks: %s", got)
	}
	close(goOn)
	eventually(t, "it waits again",
		func() bool { return w.tail.silence(time.Now().Add(time.Hour)) > time.Minute })
}

// The server is killed without warning; after its restart the tail goes on and nothing is lost.
func TestServerCrashCostsNoRow(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, map[string]string{"fsync": "on", "synchronous_commit": "on"})
	db := cluster.New(t)
	f := &fixture{db, connect(t, db.URL)}
	w := f.follow(t).streams(t)
	want := map[string]bool{}
	for range 20 {
		want[insert(t, f.conn, "before")] = true
	}
	if err := cluster.Server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.conn = connect(t, db.URL)
	for range 20 {
		want[insert(t, f.conn, "after")] = true
	}
	eventually(t, "every row has come", func() bool {
		for _, id := range w.ids() {
			delete(want, id)
		}
		return len(want) == 0
	})
}
