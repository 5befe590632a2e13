package tail

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

func TestRowsArriveInCommitOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	before := insert(t, f.conn, "before the slot")
	w := f.follow(t).streams(t)
	other := connect(t, f.db.URL)
	long, err := f.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := insert(t, long, "first inserted, last committed")
	between := insert(t, other, "between")
	second := insert(t, long, "second")
	if err := long.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := insert(t, other, "last")
	w.receives(t, before, between, first, second, last)
}

func TestAbortedWorkIsInvisible(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	execute(t, f.conn, "begin")
	insert(t, f.conn, "rolled back")
	execute(t, f.conn, "rollback")
	execute(t, f.conn, "begin")
	kept := insert(t, f.conn, "kept")
	execute(t, f.conn, "savepoint a")
	insert(t, f.conn, "in a savepoint rolled back")
	execute(t, f.conn, "savepoint b")
	insert(t, f.conn, "deeper")
	execute(t, f.conn, "rollback to a")
	execute(t, f.conn, "savepoint c")
	also := insert(t, f.conn, "in a savepoint released")
	execute(t, f.conn, "release c")
	execute(t, f.conn, "commit")
	execute(t, f.conn, "create table public.other (n int); insert into public.other values (1)")
	w.receives(t, kept, also, insert(t, f.conn, "last"))
	// The same through a gap scan.
	w.end()
	execute(t, f.conn, "delete from engine.cursor")
	again := f.follow(t).streams(t)
	ids := again.ids() // the slot may bring what was not acknowledged once more
	slices.Sort(ids)
	want := ask[int](t, f.conn, "select count(*) from ledger.universal_registry")
	if got := len(slices.Compact(ids)); got != want {
		t.Errorf("the gap scan brings %d rows, want %d", got, want)
	}
}

// Every published column comes as it stands in the table, by stream and by gap scan.
func TestEveryPublishedColumnArrives(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	l, err := ledger.Open(t.Context(), f.db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w := f.follow(t).streams(t)
	at, _ := span.ParseTime("1999-12-31T23:59:59.999999Z")
	first := &span.Span{ID: span.MustID("018f0000-0000-7000-8000-00000000000f"), EntityType: "request",
		Who: "user:alice", At: at, OwnerID: "al'ice \\ 𝕌", TenantID: "t\"1\n", Visibility: "tenant",
		Status: new("scheduled"), ParentID: new(span.RunCodeID), ScheduledAt: &at, TraceID: new("\t𝕌\u2028'")}
	if err := first.Seal(nil); err != nil {
		t.Fatal(err)
	}
	next := first.NextRequest("sidecar:x", "running")
	next.IsDeleted = true
	if err := next.Seal(next.PrevHash); err != nil {
		t.Fatal(err)
	}
	plain := &span.Span{ID: span.MustID("018f0000-0000-7000-8000-0000000000ff"), EntityType: "note",
		Who: "user:alice", At: at, OwnerID: "a", TenantID: "t", Visibility: "private"}
	for _, group := range []ledger.Group{{Rows: []*span.Span{first}}, {Fence: next},
		{Rows: []*span.Span{plain}}} {
		if _, err := l.Append(t.Context(), []ledger.Group{group}); err != nil {
			t.Fatal(err)
		}
	}
	compare := func(door string, w *follower) {
		eventually(t, "three rows come by "+door, func() bool { n, _ := w.count(); return n >= 3 })
		for i, key := range []span.Key{first.Key(), next.Key(), plain.Key()} {
			stored, err := l.Load(t.Context(), []span.Key{key})
			if err != nil || stored[key] == nil {
				t.Fatal(err)
			}
			got := w.rows[i].Span()
			for _, name := range span.PublishedColumns {
				column := span.Columns[span.ColumnNames[name]]
				a, hasA := column.Text(got)
				b, hasB := column.Text(stored[key])
				if a != b || hasA != hasB {
					t.Errorf("%s: row %d: %s is %q, in the table %q", door, i, name, a, b)
				}
			}
		}
	}
	compare("stream", w)
	w.end()
	execute(t, f.conn, "delete from engine.cursor")
	compare("gap scan", f.follow(t).streams(t))
}

func TestSlotNeverPassesAnUndisposedRow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	held := ""
	w := f.follow(t, func(w *follower) {
		w.hold = func(row *span.Published) bool { return row.ID.String() == held }
	}).streams(t)
	done := insert(t, f.conn, "done")
	w.receives(t, done)
	f.settled(t)

	id := span.MustID("018f0000-0000-7000-8000-00000000000f").String()
	w.mu.Lock()
	held = id
	w.mu.Unlock()
	execute(t, f.conn, `insert into ledger.universal_registry (id, entity_type, who, owner_id, tenant_id)
		values ($1, 'note', 'client:test', 'alice', 't1')`, id)
	end := ask[string](t, f.conn, "select pg_current_wal_insert_lsn()::text")
	for range 20 {
		insert(t, f.conn, "after")
	}
	const confirmed = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1"
	const passed = "select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots where slot_name = $1"
	replies := map[string]bool{}
	eventually(t, "the tail reports four times", func() bool {
		if at := f.reportedAt(t); at != "" {
			replies[at] = true
		}
		if ask[bool](t, f.conn, passed, f.db.Name, end) {
			t.Fatalf("the slot is at %s, past the undisposed row that ends at %s",
				ask[string](t, f.conn, confirmed, f.db.Name), end)
		}
		return len(replies) >= 4
	})
	w.release()
	eventually(t, "the slot moves on after Done", func() bool {
		return ask[bool](t, f.conn, passed, f.db.Name,
			end)
	})
}

func TestIdleSlotHoldsBackNoWAL(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	w.receives(t, insert(t, f.conn, "one"))
	execute(t, f.conn, "create table public.other (n int)")
	execute(t, f.conn, "insert into public.other select generate_series(1, 10000)")
	end := ask[string](t, f.conn, "select pg_current_wal_insert_lsn()::text")
	eventually(t, "the idle slot passes what others wrote", func() bool {
		// The cursor stays where it is for little: the last of it needs more behind it.
		execute(t, f.conn, "insert into public.other select generate_series(1, 100)")
		return ask[bool](t, f.conn, `select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots
			where slot_name = $1`, f.db.Name, end)
	})
	if rows, leads := w.count(); rows != 1 || leads != 1 {
		t.Errorf("%d rows in %d sessions", rows, leads)
	}
}

// A handler that is slow inside one huge transaction costs no session: the status goes out meanwhile
// (the session's wal_sender_timeout is 5 s).
func TestHugeTransactionWithSlowHandlerKeepsTheSession(t *testing.T) {
	t.Parallel()
	f := setup(t, map[string]string{"logical_decoding_work_mem": "64MB"})
	const rows = 100_000
	seen, slow := 0, time.NewTimer(6*time.Second)
	defer slow.Stop()
	w := f.follow(t, func(w *follower) {
		w.onRow = func(*span.Published) {
			if seen++; seen == rows/2 {
				<-slow.C
			}
		}
	}).streams(t)
	slow.Reset(6 * time.Second)
	execute(t, f.conn, "alter table ledger.universal_registry disable trigger all")
	execute(t, f.conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact, accepted_at,
			owner_id, tenant_id, visibility, is_deleted)
		select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 0, 'note', 'client:test', now(),
			pg_current_xact_id(), now(), 'alice', 't1', 'private', false
		from generate_series(1, $1::int) n`, rows)
	eventually(t, "every row comes", func() bool { n, _ := w.count(); return n >= rows })
	if n, leads := w.count(); n != rows || leads != 1 {
		t.Errorf("%d rows in %d sessions, want %d in one", n, leads, rows)
	}
}

func TestRestartBringsUndisposedRowsOnly(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t, func(w *follower) {
		w.hold = func(row *span.Published) bool { return row.TenantID == "held" }
	}).streams(t)
	for range 50 {
		insert(t, f.conn, "disposed long ago")
	}
	old := w.ids()
	eventually(t, "fifty rows come", func() bool { old = w.ids(); return len(old) >= 50 })
	f.settled(t)
	held := ask[string](t, f.conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id)
		values ('note', 'client:test', 'alice', 'held') returning id::text`)
	eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), held) })
	w.end()
	again := f.follow(t).streams(t)
	eventually(t, "the undisposed row comes again", func() bool { return slices.Contains(again.ids(), held) })
	last := insert(t, f.conn, "last")
	eventually(t, "the stream goes on", func() bool { return slices.Contains(again.ids(), last) })
	counts := map[string]int{}
	for _, id := range again.ids() {
		if counts[id]++; counts[id] > 1 {
			t.Errorf("%s came twice in one session", id)
		}
	}
	for _, id := range old {
		if counts[id] > 0 {
			t.Fatalf("%s came again, which was disposed of before the stored cursor", id)
		}
	}
}

func TestDroppedSlotCostsNoRow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	halt := sync.OnceFunc(func() { close(stop); writers.Wait() })
	for writer := range 4 {
		conn := connect(t, f.db.URL)
		t.Cleanup(halt)
		writers.Go(func() { write(t, conn, rand.New(rand.NewPCG(1, uint64(writer))), stop) })
	}
	eventually(t, "the writers are at work and a cursor is stored", func() bool {
		n, _ := w.count()
		return n >= 200 && ask[bool](t, f.conn, "select exists (select from engine.cursor)")
	})
	long := connect(t, f.db.URL) // a transaction that began before and commits in the gap
	execute(t, long, "begin")
	straggler := insert(t, long, "straggler")
	w.end()
	before := map[string]bool{}
	for _, id := range w.ids() {
		before[id] = true
	}
	snapshot := ask[string](t, f.conn, "select snapshot::text from engine.cursor")
	f.dropSlot(t)
	execute(t, long, "commit")
	again := f.follow(t).streams(t)
	halt()
	last := insert(t, f.conn, "last")
	eventually(t, "the stream goes on", func() bool { return slices.Contains(again.ids(), last) })

	rows, err := f.conn.Query(t.Context(), `select id::text from ledger.universal_registry
		where not pg_visible_in_snapshot(xact, $1::text::pg_snapshot)`, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := again.ids()
	slices.Sort(got)
	slices.Sort(missing)
	if !slices.Equal(got, missing) {
		t.Errorf("the gap scan and the stream bring %d rows, exactly %d were missing", len(got), len(missing))
	}
	if !slices.Contains(got, straggler) {
		t.Error("the transaction that was open at the cursor is lost")
	}
	for _, id := range got {
		before[id] = true
	}
	if total := ask[int](t, f.conn, "select count(*) from ledger.universal_registry"); len(before) != total {
		t.Errorf("%d of %d rows came", len(before), total)
	}
}

// write commits transactions of odd lengths, some aborted, until stop.
func write(t *testing.T, conn *pgx.Conn, random *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		for range 1 + random.IntN(4) {
			if _, err := tx.Exec(t.Context(), insertSQL, "write"); err != nil {
				t.Error(err)
				return
			}
		}
		if random.IntN(5) == 0 {
			err = tx.Rollback(t.Context())
		} else {
			err = tx.Commit(t.Context())
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// dropSlot drops the slot as soon as the server has noticed that its connection is gone.
func (f *fixture) dropSlot(t *testing.T) {
	t.Helper()
	eventually(t, "the slot is dropped", func() bool {
		_, err := f.conn.Exec(t.Context(), "select pg_drop_replication_slot($1)", f.db.Name)
		return err == nil
	})
}

func TestLostCursorBringsEverything(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	want := []string{insert(t, f.conn, "0"), insert(t, f.conn, "1")}
	f.follow(t).streams(t).end()
	want = append(want, insert(t, f.conn, "2"))
	for _, loss := range []string{
		"delete from engine.cursor", "drop table engine.cursor", "update engine.cursor set system_id = '1'",
		"update engine.cursor set snapshot = '9000000:9000000:'",
	} {
		execute(t, f.conn, loss)
		w := f.follow(t).streams(t)
		if loss == "update engine.cursor set snapshot = '9000000:9000000:'" {
			w.end()
			f.dropSlot(t)
			execute(t, f.conn, loss)
			w = f.follow(t).streams(t)
		}
		got := w.ids()
		slices.Sort(got)
		// A row that the slot holds still may come by the scan and by the stream.
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("after %s: got %v, want %v", loss, got, want)
		}
		w.end()
	}
}

// A cursor of another cluster, brought by a restore, may be far ahead of this one's WAL: it says nothing to
// this slot.
func TestCursorOfAnotherClusterMovesNoSlot(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	execute(t, f.conn, `set role loglineos_sidecar; `+cursorSQL+`; reset role;
		insert into engine.cursor values ('`+f.db.Name+`', '1', 1, 'F/0', '3:3:')`)
	w := f.follow(t).streams(t)
	replies := map[string]bool{}
	eventually(t, "the tail reports three times", func() bool {
		if at := f.reportedAt(t); at != "" {
			replies[at] = true
		}
		return len(replies) >= 3
	})
	id := insert(t, f.conn, "row")
	eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
	w.end()
	again := f.follow(t).streams(t)
	last := insert(t, f.conn, "last")
	eventually(t, "the stream goes on", func() bool { return slices.Contains(again.ids(), last) })
}

// After a clean stop of an idle tail the slot brings what came meanwhile, once: no scan is due.
func TestCleanStopLeavesNoGap(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	w.receives(t, insert(t, f.conn, "0"))
	f.settled(t)
	execute(t, f.conn, "create table public.other as select generate_series(1, 10000)")
	end := ask[string](t, f.conn, "select pg_current_wal_insert_lsn()::text")
	eventually(t, "the tail has seen what others wrote", func() bool {
		return ask[bool](t, f.conn, "select sent_lsn >= $1::text::pg_lsn from pg_stat_replication", end)
	})
	w.end()
	var missed []string
	for range 5 {
		missed = append(missed, insert(t, f.conn, "meanwhile"))
	}
	again := f.follow(t).streams(t)
	last := insert(t, f.conn, "last")
	eventually(t, "the stream goes on", func() bool { return slices.Contains(again.ids(), last) })
	// What the last cursor did not cover may come once more.
	got := slices.DeleteFunc(again.ids(), func(id string) bool { return slices.Contains(w.ids(), id) })
	if !slices.Equal(got, append(missed, last)) {
		t.Errorf("got %v, want %v and %s", got, missed, last)
	}
}

func TestSlotThatSomebodyMovedCostsNoRow(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	insert(t, f.conn, "0")
	f.settled(t)
	w.end()
	var want []string
	for i := range 3 {
		want = append(want, insert(t, f.conn, fmt.Sprint(i)))
	}
	eventually(t, "the slot is moved", func() bool {
		_, err := f.conn.Exec(t.Context(), "select pg_replication_slot_advance($1, pg_current_wal_lsn())", f.db.Name)
		return err == nil
	})
	again := f.follow(t).streams(t)
	for _, id := range want {
		if !slices.Contains(again.ids(), id) {
			t.Errorf("%s is lost", id)
		}
	}
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	one := f.follow(t).streams(t)
	other := f.follow(t)
	other.reaches(t, Standby)
	ids := []string{insert(t, f.conn, "0")}
	one.receives(t, ids...)
	f.settled(t)
	if _, fault := other.tail.State(); fault != "another sidecar leads: leader" {
		t.Errorf("the standby says %q", fault)
	}
	if n, leads := other.count(); n != 0 || leads != 0 {
		t.Errorf("the standby got %d rows and led %d times", n, leads)
	}
	// The leader's connection dies; its process lives on and stands by in its turn, or leads again.
	execute(t, f.conn, "select pg_terminate_backend(pid) from pg_stat_replication")
	one.stop()
	other.streams(t)
	last := insert(t, f.conn, "1")
	eventually(t, "rows come to the new leader", func() bool { return slices.Contains(other.ids(), last) })
	if _, leads := other.count(); leads != 1 {
		t.Errorf("it led %d times", leads)
	}
}

func TestLostConnectionIsReconnected(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	for round := range 3 {
		id := insert(t, f.conn, "row")
		eventually(t, "the row comes", func() bool { return slices.Contains(w.ids(), id) })
		execute(t, f.conn, `select pg_terminate_backend(pid) from pg_stat_activity
			where split_part(application_name, ' ', 1) in ('loglineos-tail', 'loglineos-replication')`)
		eventually(t, "the tail leads again", func() bool { _, leads := w.count(); return leads == round+2 })
	}
	w.streams(t)
	if w.tail.Rows() == 0 {
		t.Error("no rows counted")
	}
}
