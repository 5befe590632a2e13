package tail

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// walsender is another one's connection for replication.
func (f *fixture) walsender(t *testing.T, application string) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(f.db.SidecarURL)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"], config.RuntimeParams["application_name"] = "database", application
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// One that streams from our slot and answers all the time: polling serves, the fault names it and the mend,
// and the slot is made anew when it lets go.
func TestASlotThatAnotherConsumerHoldsIsPolledBy(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.follow(t).streams(t).end()
	other := f.walsender(t, "another consumer")
	err := pglogrepl.StartReplication(t.Context(), other, f.db.Name, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'loglineos'"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for wait(ctx, 200*time.Millisecond) {
			_ = pglogrepl.SendStandbyStatusUpdate(ctx, other, pglogrepl.StandbyStatusUpdate{WALWritePosition: 1})
		}
	}()
	w := f.follow(t)
	w.reaches(t, Polling)
	id := insert(t, f.conn, "row")
	eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
	eventually(t, "the fault names who has the slot", func() bool {
		_, fault := w.tail.State()
		return strings.Contains(fault, fmt.Sprintf("pid %d (another consumer", other.PID())) &&
			strings.Contains(fault, "LOGLINE_SLOT")
	})
	execute(t, f.conn, "select pg_terminate_backend($1)", other.PID())
	w.streams(t)
	last := insert(t, f.conn, "last")
	eventually(t, "the last row comes", func() bool { return slices.Contains(w.ids(), last) })
	if n := len(w.ids()); n != len(slices.Compact(slices.Sorted(slices.Values(w.ids())))) {
		t.Errorf("of %d rows one came twice: %v", n, w.ids())
	}
}

// A leader that was killed while its slot waited for an open transaction leaves a session that waits on: the
// next one ends it, and polls.
func TestAWalsenderOfADeadLeaderIsEnded(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	dead := f.walsender(t, named(streamName, "dead"))
	open := connect(t, f.db.URL)
	execute(t, open, "begin; select pg_current_xact_id()")
	go func() {
		_, _ = pglogrepl.CreateReplicationSlot(context.Background(), dead, f.db.Name, "pgoutput",
			pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication})
	}()
	eventually(t, "the dead one waits", func() bool {
		return ask[bool](t, f.conn, "select exists (select from pg_replication_slots where active_pid is not null)")
	})
	w := f.follow(t)
	w.reaches(t, Polling)
	id := insert(t, f.conn, "row")
	eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
	if ask[bool](t, f.conn, "select exists (select from pg_stat_activity where pid = $1)", dead.PID()) {
		t.Error("the dead one's session lives on")
	}
	execute(t, open, "commit")
	w.streams(t)
}

// What a frozen leader has left open ends with its lock: it holds up neither a fence nor a new slot.
func TestAllSessionsOfAFrozenLeaderEnd(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	aLine, throughA := f.through(t, "a", WAL)
	a := f.follow(t, throughA).streams(t)
	config, err := pgx.ParseConfig(f.db.SidecarURL)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = named("loglineos", "a")
	pool, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	execute(t, pool, "begin; select pg_current_xact_id()")
	_, throughB := f.through(t, "b", WAL)
	b := f.follow(t, throughB)
	b.reaches(t, Standby)
	aLine.freeze()
	eventually(t, "the other one leads", func() bool { return b.tail.Health().Leads })
	eventually(t, "the frozen one has no session", func() bool {
		return ask[int](t, f.conn, `select count(*) from pg_stat_activity
			where split_part(application_name, ' ', 2) = 'a'`) == 0
	})
	if a.tail.Health().Leads {
		t.Error("the frozen one leads on")
	}
}

// A standby finds out by itself that a connection of it is dead, before it has to lead with it.
func TestAStandbyFindsADeadConnection(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.follow(t).streams(t)
	line, through := f.through(t, "b", WAL)
	b := f.follow(t, func(w *follower) {
		direct := w.config.DatabaseURL
		through(w)
		w.config.DatabaseURL = direct
	})
	b.reaches(t, Standby)
	line.freeze()
	eventually(t, "it connects anew", func() bool {
		_, fault := b.tail.State()
		return strings.Contains(fault, "stand by: ")
	})
}

// Rows that came in from a cluster with higher transactions are no news for a poll: it rests.
func TestPollingRestsBesideRowsOfAnotherCluster(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	execute(t, f.conn, "select ledger.import_begin()")
	execute(t, f.conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact,
			accepted_at, owner_id, tenant_id, visibility, is_deleted)
		select ledger.uuid7(), 0, 'note', 'client:test', now(), n::text::xid8, now(), 'alice', 't1',
			'private', false
		from unnest(array[3, 5000000]) n`)
	execute(t, f.conn, "select ledger.import_end()")
	w := f.follow(t, func(w *follower) { w.config.Source = Poll })
	w.reaches(t, Polling)
	idle := time.NewTimer(2 * time.Second)
	<-idle.C
	before := w.tail.Health().Polls
	idle.Reset(3 * time.Second)
	<-idle.C
	if asked := w.tail.Health().Polls - before; asked > 10 || asked < 1 {
		t.Errorf("it asks %d times in 3 s, want 3 a second", asked)
	}
}

// One connection of the leader that dies without a word ends its session, whichever it is, and rows go on.
func TestOneDeadConnectionOfTheLeaderIsFoundOut(t *testing.T) {
	t.Parallel()
	for application, source := range map[string]Source{"loglineos-reader": Poll, "loglineos-tail": WAL} {
		t.Run(application, func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			line, through := f.through(t, "a", source)
			w := f.follow(t, through)
			eventually(t, "it leads", func() bool { return w.tail.Health().Leads })
			line.kill(ask[int](t, f.conn, `select client_port from pg_stat_activity
				where split_part(application_name, ' ', 1) = $1`, application))
			eventually(t, "it leads anew", func() bool { return w.tail.Health().Sessions > 1 })
			id := insert(t, f.conn, "row")
			eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
		})
	}
}
