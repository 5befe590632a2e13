package tail

import (
	"slices"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Before the server invalidates a slot whose rows are held up, its WAL is given up: the stream goes on, and
// who comes next scans for what was not disposed of.
func TestASlotInDangerIsGivenUpInPart(t *testing.T) {
	t.Parallel()
	f := setup(t, map[string]string{"max_slot_wal_keep_size": "128MB", "max_wal_size": "2GB"})
	w := f.follow(t, func(w *follower) {
		w.hold = func(row *span.Published) bool { return row.TenantID == "held" }
	}).streams(t)
	f.settled(t)
	good := ask[string](t, f.conn, "select snapshot::text from engine.cursor")
	held := ask[string](t, f.conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id)
		values ('note', 'client:test', 'alice', 'held') returning id::text`)
	eventually(t, "the tail gives up WAL", func() bool {
		if w.tail.Health().Sheds > 0 {
			return true
		}
		if ask[bool](t, f.conn, "select safe_wal_size > (24 << 20) from pg_replication_slots") {
			execute(t, f.conn, "select pg_logical_emit_message(false, 'x', repeat('x', 1 << 22))")
		}
		return false
	})
	eventually(t, "the slot is ahead of the cursor", func() bool {
		return ask[bool](t, f.conn, `select s.confirmed_flush_lsn > c.lsn from pg_replication_slots s
			join engine.cursor c on c.slot = s.slot_name`)
	})
	h := w.tail.Health()
	if h.SafeBytes < 0 || h.RetainedBytes <= 0 || h.WALStatus == "" || h.Undisposed != 1 || !h.Leads {
		t.Errorf("the figures are %+v", h)
	}
	if _, leads := w.count(); leads != 1 {
		t.Errorf("it led %d times: the stream should go on", leads)
	}
	w.end()
	again := f.follow(t).streams(t)
	eventually(t, "the row that was held up comes again", func() bool {
		return slices.Contains(again.ids(), held)
	})
	if again.tail.Health().GapScans["the slot is ahead of the cursor"] != 1 || again.since == "" || good == "" {
		t.Errorf("gap scans %v since %q", again.tail.Health().GapScans, again.since)
	}
}

// A leader that polls leaves no slot behind that nobody reads; a stream after it misses nothing.
func TestPollingDropsTheSlotThatNobodyReads(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	w := f.follow(t).streams(t)
	w.receives(t, insert(t, f.conn, "streamed"))
	f.settled(t)
	w.end()
	polls := f.follow(t, func(w *follower) { w.config.Source = Poll })
	polls.reaches(t, Polling)
	eventually(t, "the slot is gone", func() bool {
		return ask[int](t, f.conn, "select count(*) from pg_replication_slots") == 0
	})
	id := insert(t, f.conn, "polled")
	eventually(t, "the row comes", func() bool { return slices.Contains(polls.ids(), id) })
	polls.end()
	good := ask[string](t, f.conn, "select snapshot::text from engine.cursor")
	insert(t, f.conn, "while nobody follows")
	again := f.follow(t).streams(t)
	last := insert(t, f.conn, "last")
	eventually(t, "the last row comes", func() bool { return slices.Contains(again.ids(), last) })
	f.wantExactly(t, again, good, nil)
}

// The row and the table that a sidecar of before has left do, and a sidecar of before reads ours: the columns
// are the same, and would only get more.
func TestTheCursorOfAnOlderSidecarIsGoodAndOursForIt(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	const columns = `select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)
		from pg_attribute where attrelid = 'engine.cursor'::regclass and attnum > 0`
	execute(t, f.conn, `set role loglineos_sidecar; create table engine.cursor (slot text primary key,
		system_id text not null, timeline int not null, lsn pg_lsn not null, snapshot pg_snapshot not null,
		stored_at timestamptz not null default now()) with (fillfactor = 50); reset role`)
	before := ask[string](t, f.conn, columns)
	execute(t, f.conn, "alter table engine.cursor add column of_a_later_version text default 'x'")
	w := f.follow(t).streams(t)
	w.receives(t, insert(t, f.conn, "row"))
	f.settled(t)
	w.end()
	good := ask[string](t, f.conn, "select snapshot::text from engine.cursor where lsn > '0/0' and timeline = 1")
	again := f.follow(t).streams(t)
	last := insert(t, f.conn, "last")
	eventually(t, "the last row comes", func() bool { return slices.Contains(again.ids(), last) })
	f.wantExactly(t, again, good, nil)
	again.end()
	execute(t, f.conn, "drop table engine.cursor")
	f.follow(t).streams(t)
	if now := ask[string](t, f.conn, columns); now != before {
		t.Errorf("the table has %s, a sidecar of before knows %s", now, before)
	}
}
