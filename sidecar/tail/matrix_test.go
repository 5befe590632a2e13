package tail

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// incident is what happens to the slot or the cursor while nobody follows. It says which cursor is good after
// that; "" is none.
type incident struct {
	name, reason string // of the gap scan; "" where the slot brings everything
	settings     map[string]string
	source       Source
	makesSlot    bool // waits for open transactions
	happen       func(t *testing.T, f *fixture, cursor string) (good string)
}

// incidents is the matrix of docs/operations.md.
var incidents = []incident{
	{name: "nothing", happen: stays(func(*testing.T, *fixture) {})},
	{name: "slot dropped", reason: "the slot was gone", happen: stays(func(t *testing.T, f *fixture) {
		f.dropSlot(t)
	})},
	{name: "slot recreated ahead", reason: "the slot is ahead of the cursor", happen: stays(
		func(t *testing.T, f *fixture) {
			f.dropSlot(t)
			insert(t, f.conn, "before the other slot")
			execute(t, f.conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", f.db.Name)
		}), makesSlot: true},
	{name: "slot advanced behind our back", reason: "the slot is ahead of the cursor", happen: stays(
		func(t *testing.T, f *fixture) {
			insert(t, f.conn, "passed over")
			f.untilFree(t, "select pg_replication_slot_advance($1, pg_current_wal_lsn())")
		})},
	{name: "slot read by another process", reason: "the slot is ahead of the cursor", happen: stays(
		func(t *testing.T, f *fixture) {
			insert(t, f.conn, "read by another")
			f.untilFree(t, `select count(*) from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version',
				'1', 'publication_names', 'loglineos')`)
		})},
	{name: "slot invalidated", reason: "the server has invalidated the slot",
		settings: map[string]string{"max_slot_wal_keep_size": "1MB", "wal_keep_size": "0"},
		happen:   stays(invalidate)},
	{name: "timeline changed", reason: "the cursor has no place in this slot", happen: stays(
		func(t *testing.T, f *fixture) { execute(t, f.conn, "update engine.cursor set timeline = 99") })},
	{name: "cursor dropped", reason: "there is no cursor", happen: starts("drop table engine.cursor")},
	{name: "schema dropped", reason: "there is no cursor", happen: starts("drop schema engine cascade")},
	{name: "cursor of another cluster", reason: "there is no cursor",
		happen: starts("update engine.cursor set system_id = '1'")},
	{name: "transactions rewound", reason: "there is no cursor",
		happen: starts("update engine.cursor set snapshot = '9000000:9000000:'")},
	{name: "polling, nothing", source: Poll, happen: stays(func(*testing.T, *fixture) {})},
	{name: "polling, timeline changed", source: Poll, happen: stays(
		func(t *testing.T, f *fixture) { execute(t, f.conn, "update engine.cursor set timeline = 99") })},
	{name: "polling, schema dropped", source: Poll, happen: starts("drop schema engine cascade")},
	{name: "polling, transactions rewound", source: Poll,
		happen: starts("update engine.cursor set snapshot = '9000000:9000000:'")},
}

// stays is an incident that leaves the cursor good.
func stays(happen func(*testing.T, *fixture)) func(*testing.T, *fixture, string) string {
	return func(t *testing.T, f *fixture, cursor string) string { happen(t, f); return cursor }
}

// starts is an incident that leaves no cursor.
func starts(statement string) func(*testing.T, *fixture, string) string {
	return func(t *testing.T, f *fixture, _ string) string { execute(t, f.conn, statement); return "" }
}

// invalidate writes WAL until the server gives up the slot.
func invalidate(t *testing.T, f *fixture) {
	eventually(t, "the server invalidates the slot", func() bool {
		execute(t, f.conn, "select pg_logical_emit_message(false, 'x', 'x')")
		execute(t, f.conn, "select pg_switch_wal()")
		execute(t, f.conn, "checkpoint")
		return ask[bool](t, f.conn, "select wal_status = 'lost' from pg_replication_slots where slot_name = $1",
			f.db.Name)
	})
}

// untilFree runs a statement on the slot as soon as the server has noticed that its connection is gone.
func (f *fixture) untilFree(t *testing.T, statement string) {
	t.Helper()
	eventually(t, "the slot is free", func() bool {
		_, err := f.conn.Exec(t.Context(), statement, f.db.Name)
		return err == nil
	})
}

// writers commit and abort transactions until halt.
func (f *fixture) writers(t *testing.T, n int) (halt func()) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	for writer := range n {
		conn := connect(t, f.db.URL)
		group.Go(func() { write(t, conn, rand.New(rand.NewPCG(1, uint64(writer))), stop) })
	}
	halt = sync.OnceFunc(func() { close(stop); group.Wait() })
	t.Cleanup(halt)
	return halt
}

// Whatever happens while nobody follows: what the last cursor did not cover comes, each row once.
func TestNothingIsMissedAndNothingDoubled(t *testing.T) {
	t.Parallel()
	for _, c := range incidents {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, c.settings)
			from := func(w *follower) { w.config.Source = c.source }
			leads := Streaming
			if c.source == Poll {
				leads = Polling
			}
			w := f.follow(t, from)
			w.reaches(t, leads)
			halt := f.writers(t, 3)
			f.worksWithCursor(t, w)
			long := connect(t, f.db.URL) // begins before and commits while nobody follows
			execute(t, long, "begin")
			straggler := insert(t, long, "straggler")
			w.end()
			if c.makesSlot {
				execute(t, long, "commit")
			}
			good := c.happen(t, f, ask[string](t, f.conn, "select snapshot::text from engine.cursor"))
			if c.settings == nil { // else it would hold back the invalidation
				insert(t, f.conn, "while nobody follows")
			}
			if !c.makesSlot {
				execute(t, long, "commit")
			}
			again := f.follow(t, from)
			again.reaches(t, leads)
			halt()
			last := insert(t, f.conn, "last")
			eventually(t, "the last row comes", func() bool { return slices.Contains(again.ids(), last) })
			before := w
			if c.reason != "" || c.source == Poll {
				before = nil
			}
			f.wantExactly(t, again, good, before)
			if !slices.Contains(again.ids(), straggler) {
				t.Error("the transaction that was open at the cursor is lost")
			}
			if got := again.since; got != good {
				t.Errorf("it leads from %q, want %q", got, good)
			}
			want := map[string]int64{c.reason: 1}
			if c.reason == "" {
				want = nil
			}
			if got := again.tail.Health().GapScans; !maps.Equal(got, want) {
				t.Errorf("gap scans %v, want %v", got, want)
			}
		})
	}
}

// worksWithCursor waits until rows came and a cursor is stored.
func (f *fixture) worksWithCursor(t *testing.T, w *follower) {
	t.Helper()
	eventually(t, "the writers are at work and a cursor is stored", func() bool {
		n, _ := w.count()
		return n >= 100 && ask[bool](t, f.conn, "select exists (select from engine.cursor where lsn > '0/0' or $1)",
			w.config.Source == Poll)
	})
}

// wantExactly fails unless the rows of w are those that the snapshot does not see, each once. A slot goes on
// where everything was disposed of: of the rows that committed between the cursor's snapshot and its place in
// the WAL, which is read a moment later, those that had come before are not sent again.
func (f *fixture) wantExactly(t *testing.T, w *follower, snapshot string, before *follower) {
	t.Helper()
	rows, err := f.conn.Query(t.Context(), `select id::text from ledger.universal_registry
		where $1 = '' or not pg_visible_in_snapshot(xact, nullif($1, '')::pg_snapshot)`, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, id := range want {
		counts[id]--
	}
	for _, id := range w.ids() {
		counts[id]++
	}
	if before != nil {
		for _, id := range before.ids() {
			if counts[id] < 0 {
				counts[id] = 0
			}
		}
	}
	missed, doubled := 0, 0
	for _, n := range counts {
		missed += max(0, -n)
		doubled += max(0, n)
	}
	if missed > 0 || doubled > 0 {
		t.Errorf("%d of %d rows missed, %d came that should not have, or twice", missed, len(want), doubled)
	}
}

// Somebody else holds the slot, reads it to its end and goes: meanwhile the tail polls and says so.
func TestASlotTakenByAnotherCostsNoRow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	halt := f.writers(t, 2)
	f.worksWithCursor(t, w)
	w.end()
	good := ask[string](t, f.conn, "select snapshot::text from engine.cursor")
	thief := f.steal(t)
	again := f.follow(t)
	eventually(t, "it says who is in its way", func() bool {
		_, fault := again.tail.State()
		return strings.Contains(fault, "is held by another session")
	})
	end, err := pglogrepl.ParseLSN(ask[string](t, f.conn, "select pg_current_wal_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pglogrepl.SendStandbyStatusUpdate(t.Context(), thief,
		pglogrepl.StandbyStatusUpdate{WALWritePosition: end}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot is moved", func() bool {
		return ask[bool](t, f.conn, `select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots
			where slot_name = $1`, f.db.Name, end.String())
	})
	if err := thief.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.streams(t)
	halt()
	last := insert(t, f.conn, "last")
	eventually(t, "the last row comes", func() bool { return slices.Contains(again.ids(), last) })
	f.wantExactly(t, again, good, nil)
}

// steal takes the slot as a stranger does.
func (f *fixture) steal(t *testing.T) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(f.db.SidecarURL)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	eventually(t, "the slot is taken", func() bool {
		return pglogrepl.StartReplication(t.Context(), conn, f.db.Name, 0, pglogrepl.StartReplicationOptions{
			Mode:       pglogrepl.LogicalReplication,
			PluginArgs: []string{"proto_version '1'", "publication_names 'loglineos'"}}) == nil
	})
	return conn
}

// While it streams, connections die, the slot is dropped and moved, the schema goes. Each row comes, and in
// one session none comes twice.
func TestFaultsWhileStreamingCostNoRow(t *testing.T) {
	t.Parallel()
	for _, source := range []Source{WAL, Poll} {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			f := setup(t, nil)
			type arrival struct {
				lead int
				id   string
			}
			seen := map[arrival]int{}
			w := f.follow(t, func(w *follower) { w.config.Source = source })
			halt := f.writers(t, 3)
			for round, fault := range []string{
				"select pg_drop_replication_slot(slot_name) from pg_replication_slots",
				"drop schema engine cascade",
				`select pg_replication_slot_advance(slot_name, pg_current_wal_lsn())
					from pg_replication_slots`,
				"select 1",
			} {
				eventually(t, "it leads", func() bool { return w.tail.Health().Leads && w.tail.Health().Rows > 0 })
				// Whoever comes first after the cut: both ways are good.
				execute(t, f.conn, `select pg_terminate_backend(pid) from pg_stat_activity
					where application_name like 'loglineos%' and datname = current_database()`)
				_, _ = f.conn.Exec(t.Context(), fault)
				eventually(t, fmt.Sprintf("it leads after fault %d", round), func() bool {
					_, leads := w.count()
					return leads >= round+2
				})
			}
			halt()
			last := insert(t, f.conn, "last")
			eventually(t, "the last row comes", func() bool { return slices.Contains(w.ids(), last) })
			got := map[string]bool{}
			for i, id := range w.ids() {
				got[id] = true
				seen[arrival{w.leadOf[i], id}]++
			}
			if total := ask[int](t, f.conn, "select count(*) from ledger.universal_registry"); len(got) != total {
				t.Errorf("%d of %d rows came", len(got), total)
			}
			for a, n := range seen {
				if n > 1 {
					t.Errorf("%s came %d times in session %d", a.id, n, a.lead)
				}
			}
		})
	}
}

// A slot that can not be made for open transactions, here in another database: polling serves, and goes over
// into the stream without a gap and without a second time.
func TestPollingServesUntilTheSlotCanBeMade(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	halt := f.writers(t, 3)
	f.worksWithCursor(t, w)
	w.end()
	good := ask[string](t, f.conn, "select snapshot::text from engine.cursor")
	f.dropSlot(t)
	elsewhere := *f.conn.Config()
	elsewhere.Database = "postgres"
	long, err := pgx.ConnectConfig(t.Context(), &elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = long.Close(context.Background()) })
	execute(t, long, "begin; select pg_current_xact_id()")
	begun := time.Now()
	again := f.follow(t)
	again.reaches(t, Polling)
	id := insert(t, f.conn, "polled")
	eventually(t, "rows come by polling", func() bool { return slices.Contains(again.ids(), id) })
	t.Logf("polling served after %s", time.Since(begun).Round(time.Millisecond))
	execute(t, long, "commit")
	again.streams(t)
	halt()
	last := insert(t, f.conn, "last")
	eventually(t, "the last row comes", func() bool { return slices.Contains(again.ids(), last) })
	f.wantExactly(t, again, good, nil)
	if _, leads := again.count(); leads != 1 {
		t.Errorf("it led %d times", leads)
	}
}
