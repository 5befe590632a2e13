package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/failpoint"
)

// cursorSQL makes the table of cursors, one row for each slot. It is disposable: without it the next start
// reads the whole ledger once, which changes nothing, because every effect has a derived id. Columns are only
// ever added: an older sidecar reads what a newer one has written, and the other way round.
const cursorSQL = `create table if not exists engine.cursor (
	slot text primary key,
	system_id text not null,
	timeline int not null,
	lsn pg_lsn not null,
	snapshot pg_snapshot not null,
	stored_at timestamptz not null default now()
) with (fillfactor = 50)`

// cursor is a place in the ledger: everything that snapshot sees is disposed of, and everything that commits
// before lsn, where there is one. It has none (0/0) while no stream backs it: of a poll, or of a gap.
// Its zero value is the beginning.
type cursor struct {
	systemID string // "" where the server does not tell it
	timeline int32
	lsn      pglogrepl.LSN
	snapshot string
}

func (s *session) readCursor(ctx context.Context) (cursor, error) {
	var c cursor
	var lsn string
	err := s.withTables(ctx, s.sql, func() error {
		return s.sql.QueryRow(ctx, `select system_id, timeline, lsn::text, snapshot::text
			from engine.cursor where slot = $1`, s.config.Slot).
			Scan(&c.systemID, &c.timeline, &lsn, &c.snapshot)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return cursor{}, nil
	}
	if err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	if c.lsn, err = pglogrepl.ParseLSN(lsn); err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	return s.ofThisCluster(ctx, c)
}

// ofThisCluster returns c, or the beginning where c is another cluster's, or of a later state of this one: a
// restore has rewound the transactions. A timeline that is another one leaves the snapshot as it is: the
// cursor came with the rows, so what it sees is there.
func (s *session) ofThisCluster(ctx context.Context, c cursor) (cursor, error) {
	if c.systemID != "" && s.systemID != "" && c.systemID != s.systemID {
		return cursor{}, nil
	}
	var rewound bool
	err := s.sql.QueryRow(ctx, `select pg_snapshot_xmax($1::text::pg_snapshot)
		> pg_snapshot_xmax(pg_current_snapshot())`, c.snapshot).Scan(&rewound)
	if err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	if rewound {
		return cursor{}, nil
	}
	if c.timeline != s.timeline {
		c.lsn = 0
	}
	return c, nil
}

func (s *session) storeCursor(ctx context.Context, c cursor) error {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	err := s.withTables(ctx, s.sql, func() error {
		_, err := s.sql.Exec(ctx, `insert into engine.cursor (slot, system_id, timeline, lsn, snapshot)
			values ($1, $2, $3, $4::text::pg_lsn, $5::text::pg_snapshot)
			on conflict (slot) do update set system_id = excluded.system_id, timeline = excluded.timeline,
				lsn = excluded.lsn, snapshot = excluded.snapshot, stored_at = now()`,
			s.config.Slot, c.systemID, c.timeline, c.lsn.String(), c.snapshot)
		return err
	})
	if err != nil {
		return fmt.Errorf("store the cursor: %w", err)
	}
	s.cursor, s.storedAt = c, time.Now()
	s.stored(s.storedAt)
	if s.handler.Stored != nil {
		s.handler.Stored(c.snapshot)
	}
	return nil
}

// bookkeep stores the cursor, answers the server and looks after the slot until the session or ctx ends. When
// ctx ends (the process stops) it does the first two a last time.
func (s *session) bookkeep(ctx, sessionCtx context.Context) error {
	ticker := time.NewTicker(bookkeepEvery)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		if err := s.advance(sessionCtx, false); err != nil {
			return err
		}
		if err := failpoint.Err(failpoint.CursorStored); err != nil {
			return err
		}
		if err := s.acknowledge(sessionCtx); err != nil {
			return err
		}
		if turn%careTurns == 0 {
			if err := s.care(sessionCtx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return s.leave(ctx)
		case <-sessionCtx.Done():
			return nil
		case <-s.replyNow:
			if err := s.acknowledge(sessionCtx); err != nil {
				return err
			}
		case <-ticker.C:
		}
		if silence := s.silence(time.Now()); silence > silenceMax {
			return fmt.Errorf("no word from the server for %d s: reconnecting", int(silence.Seconds()))
		}
	}
}

// leave stores the last cursor and waits until the slot shows it, so that who comes next finds the slot where
// the cursor says.
func (s *session) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	failpoint.Hit(failpoint.LastCursor)
	settled := time.Now().Add(settleWait)
	for {
		if err := s.advance(ctx, true); err != nil {
			return err
		}
		if !s.streams.Load() {
			return nil
		}
		if s.walMark == nil && s.cursor.lsn != 0 || time.Now().After(settled) {
			break
		}
		// The server's answer says that nothing is before the mark any more.
		if err := s.tell(ctx, s.cursor.lsn, true); err != nil {
			return err
		}
		wait(ctx, leaveEvery)
	}
	for {
		if err := s.acknowledge(ctx); err != nil {
			return err
		}
		slot, err := s.readSlot(ctx)
		if err != nil {
			return err
		}
		if slot.confirmed >= s.cursor.lsn || !wait(ctx, leaveEvery) {
			return nil
		}
	}
}

// silence is how long the stream has waited for a word of the server.
func (t *Tail) silence(now time.Time) time.Duration {
	since := t.waiting.Load()
	if since == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, since))
}

// advance moves the cursor. From a poll or a gap scan come snapshots, which count when what was handed over
// before them is disposed of. Of the stream a mark is taken (snapshot first, then the WAL's end, so that
// whatever the snapshot sees commits before that end), and stored once everything before it is disposed of.
func (s *session) advance(ctx context.Context, isLast bool) error {
	streams := s.streams.Load()
	if snapshot, isFound := s.reached(); isFound {
		s.seen = snapshot
	}
	rows := s.rows.Load()
	// While no row comes, polling moves the snapshot and nothing else: that is stored at the end.
	if s.seen != "" && (streams || isLast || rows != s.storedRows || time.Since(s.storedAt) > pollStoreEvery) {
		c := cursor{systemID: s.systemID, timeline: s.timeline, snapshot: s.seen}
		if s.seen, s.storedRows = "", -1; s.progress.isQuiet() {
			s.storedRows = rows
		}
		return s.storeCursor(ctx, c)
	}
	if !streams {
		return nil
	}
	if s.walMark == nil {
		if !s.dirty.Swap(false) {
			return s.advanceIdle(ctx, isLast)
		}
		c := cursor{systemID: s.systemID, timeline: s.timeline}
		query := "select pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text"
		if failpoint.Disabled(failpoint.Snapshot) { // a high-water mark: what was open then counts as seen
			query = `select format('%s:%1$s:', pg_snapshot_xmax(pg_current_snapshot())),
				pg_current_wal_insert_lsn()::text`
		}
		var lsn string
		if err := s.sql.QueryRow(ctx, query).Scan(&c.snapshot, &lsn); err != nil {
			return fmt.Errorf("mark the cursor: %w", err)
		}
		var err error
		if c.lsn, err = pglogrepl.ParseLSN(lsn); err != nil {
			return fmt.Errorf("mark the cursor: %w", err)
		}
		s.walMark = &c
	}
	if disposed, _ := s.progress.Disposed(); disposed < s.walMark.lsn {
		return nil
	}
	if err := s.storeCursor(ctx, *s.walMark); err != nil {
		return err
	}
	s.walMark = nil
	return nil
}

// advanceIdle moves the cursor over WAL without rows of ours, so that an idle slot holds back none. What
// its snapshot sees stays as it is. Neither often nor for little, but at the end: storing makes WAL itself.
func (s *session) advanceIdle(ctx context.Context, isLast bool) error {
	disposed, quiet := s.progress.Disposed()
	if !quiet || s.dirty.Load() || s.cursor.lsn == 0 || disposed <= s.cursor.lsn {
		return nil
	}
	if !isLast && (disposed-s.cursor.lsn < idleBytes || time.Since(s.storedAt) < idleEvery) {
		return nil
	}
	c := s.cursor
	c.lsn = disposed
	return s.storeCursor(ctx, c)
}

// acknowledge tells the server what it may forget: never more than the stored cursor, so that the next
// start finds the slot where the cursor says. But for a slot that the server would invalidate soon: that one
// gives up what was received, and the next start scans the gap (care).
func (s *session) acknowledge(ctx context.Context) error {
	if !s.streams.Load() {
		return nil
	}
	safe := s.cursor.lsn
	if s.isShedding {
		safe = max(safe, pglogrepl.LSN(s.received.Load()))
	}
	// A server that hears from us every second says nothing by itself.
	return s.tell(ctx, safe, s.silence(time.Now()) > askAfter)
}

// tell says what is safe, and what has come: a server that is not told the latter asks again and again.
func (s *session) tell(ctx context.Context, safe pglogrepl.LSN, wantsReply bool) error {
	status := pglogrepl.StandbyStatusUpdate{WALWritePosition: safe, ReplyRequested: wantsReply}
	if safe != 0 { // for 0, the driver would put what was received
		status.WALFlushPosition, status.WALApplyPosition = safe, safe
		status.WALWritePosition = max(safe, pglogrepl.LSN(s.received.Load()))
	}
	err := pglogrepl.SendStandbyStatusUpdate(ctx, s.replication, status)
	if err != nil {
		return fmt.Errorf("acknowledge to the slot: %w", err)
	}
	return nil
}
