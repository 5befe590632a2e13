package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/span"
)

// cursorSQL makes the tail's one table. It is disposable: without it the next start reads the whole
// ledger once, which changes nothing, because every effect has a derived id.
const cursorSQL = `create table if not exists engine.cursor (
	slot text primary key,
	system_id text not null,
	timeline int not null,
	lsn pg_lsn not null,
	snapshot pg_snapshot not null,
	stored_at timestamptz not null default now()
) with (fillfactor = 50)`

// makeTables makes the tail's tables, and the schema where somebody dropped it. A table that several make at
// once is there afterwards, whoever won.
func (s *session) makeTables(ctx context.Context) error {
	for _, statement := range []string{"select ledger_private.make_engine()", cursorSQL} {
		_, err := s.sql.Exec(ctx, statement)
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) && slices.Contains([]string{"23505", "42P07", "42710"}, refusal.Code) {
			continue // duplicate key of the catalog, duplicate table, duplicate type
		}
		if err != nil {
			return fmt.Errorf("make the tables of the tail: %w", err)
		}
	}
	return nil
}

// isMissing reports that a table of the schema engine, the schema, or the right to it is gone.
func isMissing(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && slices.Contains([]string{"42P01", "3F000", "42501"}, refusal.Code)
}

// cursor is a place in the ledger: everything that commits before lsn, and everything that snapshot
// sees, is disposed of. Its zero value is the beginning.
type cursor struct {
	systemID string
	timeline int32
	lsn      pglogrepl.LSN
	snapshot string
}

func (s *session) readCursor(ctx context.Context) (cursor, error) {
	var c cursor
	var lsn string
	err := s.sql.QueryRow(ctx, `select system_id, timeline, lsn::text, snapshot::text
		from engine.cursor where slot = $1`,
		s.config.Slot).
		Scan(&c.systemID, &c.timeline, &lsn, &c.snapshot)
	if errors.Is(err, pgx.ErrNoRows) {
		return cursor{}, nil
	}
	if err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	if c.lsn, err = pglogrepl.ParseLSN(lsn); err != nil {
		return cursor{}, fmt.Errorf("read the cursor: %w", err)
	}
	return c, nil
}

func (s *session) storeCursor(ctx context.Context, c cursor) error {
	const statement = `insert into engine.cursor (slot, system_id, timeline, lsn, snapshot)
		values ($1, $2, $3, $4::text::pg_lsn, $5::text::pg_snapshot)
		on conflict (slot) do update set system_id = excluded.system_id, timeline = excluded.timeline,
			lsn = excluded.lsn, snapshot = excluded.snapshot, stored_at = now()`
	store := func() error {
		_, err := s.sql.Exec(ctx, statement, s.config.Slot, c.systemID, c.timeline, c.lsn.String(), c.snapshot)
		return err
	}
	err := store()
	if isMissing(err) {
		s.config.Log.Warn("the tail's table is gone; making it anew", "error", err)
		if err = s.makeTables(ctx); err == nil {
			err = store()
		}
	}
	if err != nil {
		return fmt.Errorf("store the cursor: %w", err)
	}
	s.cursor, s.storedAt = c, time.Now()
	return nil
}

// bookkeep stores the cursor and answers the server until the session or ctx ends. When ctx ends
// (the process stops) it does both a last time.
func (s *session) bookkeep(ctx, sessionCtx context.Context) error {
	ticker := time.NewTicker(bookkeepEvery)
	defer ticker.Stop()
	var mark *cursor
	for {
		if err := s.advance(sessionCtx, &mark, false); err != nil {
			return err
		}
		if err := failpoint.Err(failpoint.CursorStored); err != nil {
			return err
		}
		if err := s.acknowledge(sessionCtx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			failpoint.Hit(failpoint.LastCursor)
			if err := s.advance(stopCtx, &mark, true); err != nil {
				return err
			}
			return s.acknowledge(stopCtx)
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

// silence is how long the stream has waited for a word of the server.
func (t *Tail) silence(now time.Time) time.Duration {
	since := t.waiting.Load()
	if since == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, since))
}

// advance moves the cursor. A mark is taken (snapshot first, then the WAL's end, so that whatever
// the snapshot sees commits before that end), and stored once everything before it is disposed of.
func (s *session) advance(ctx context.Context, mark **cursor, isLast bool) error {
	if *mark == nil {
		if !s.dirty.Swap(false) {
			return s.advanceIdle(ctx, isLast)
		}
		c := cursor{systemID: s.systemID, timeline: s.timeline}
		var lsn string
		query := "select pg_current_snapshot()::text"
		if failpoint.Disabled(failpoint.Snapshot) { // a high-water mark: what was open then counts as seen
			query = "select format('%s:%1$s:', pg_snapshot_xmax(pg_current_snapshot()))"
		}
		if err := s.sql.QueryRow(ctx, query).Scan(&c.snapshot); err != nil {
			return fmt.Errorf("mark the cursor: %w", err)
		}
		if err := s.sql.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&lsn); err != nil {
			return fmt.Errorf("mark the cursor: %w", err)
		}
		var err error
		if c.lsn, err = pglogrepl.ParseLSN(lsn); err != nil {
			return fmt.Errorf("mark the cursor: %w", err)
		}
		*mark = &c
	}
	if disposed, _ := s.progress.Disposed(); disposed < (*mark).lsn {
		return nil
	}
	if err := s.storeCursor(ctx, **mark); err != nil {
		return err
	}
	*mark = nil
	return nil
}

// advanceIdle moves the cursor over WAL without rows of ours, so that an idle slot holds back none. What
// its snapshot sees stays as it is. Neither often nor for little, but at the end: storing makes WAL itself.
func (s *session) advanceIdle(ctx context.Context, isLast bool) error {
	disposed, quiet := s.progress.Disposed()
	if !quiet || s.dirty.Load() || s.cursor.snapshot == "" || disposed <= s.cursor.lsn {
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
// start finds the slot where the cursor says.
func (s *session) acknowledge(ctx context.Context) error {
	err := pglogrepl.SendStandbyStatusUpdate(ctx, s.replication, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: s.cursor.lsn,
		// A server that hears from us every second says nothing by itself.
		ReplyRequested: s.silence(time.Now()) > askAfter,
	})
	if err != nil {
		return fmt.Errorf("acknowledge to the slot: %w", err)
	}
	return nil
}

// gap is the rows that the stream does not bring. Its zero value is none.
type gap struct {
	conn     *pgx.Conn
	tx       pgx.Tx
	since    string // snapshot of the cursor; "" is the beginning
	snapshot string // what the transaction sees
	reason   string
}

func (g gap) close() {
	if g.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = g.conn.Close(ctx) // read-only: the server rolls back by itself
}

// gapOf decides whether an existing slot covers everything since the cursor. It does not when
// somebody else moved it on, or when the cluster is another one or an older state of this one.
func (s *session) gapOf(ctx context.Context, stored cursor, slot slot) (gap, error) {
	switch {
	case stored.lsn == 0:
		return s.openGap(ctx, stored, "", "there is no cursor")
	case stored.systemID != s.systemID || stored.timeline != s.timeline:
		return s.openGap(ctx, cursor{}, "", "the cluster or its timeline is another one")
	case slot.confirmed > stored.lsn:
		return s.openGap(ctx, stored, "", "the slot is ahead of the cursor")
	}
	return gap{}, nil
}

func (s *session) openGap(ctx context.Context, stored cursor,
	snapshotName, reason string) (g gap, err error) {
	g.reason = reason
	if g.conn, err = pgx.ConnectConfig(ctx, s.sql.Config()); err != nil {
		return gap{}, fmt.Errorf("connect for the gap scan: %w", err)
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err = s.config.Prepare(ctx, g.conn); err != nil {
		return gap{}, fmt.Errorf("prepare the gap scan: %w", err)
	}
	if _, err = g.conn.Exec(ctx, "set statement_timeout = 0"); err != nil {
		return gap{}, fmt.Errorf("prepare the gap scan: %w", err)
	}
	if _, err = g.conn.Exec(ctx, "set idle_in_transaction_session_timeout = 0"); err != nil {
		return gap{}, fmt.Errorf("prepare the gap scan: %w", err)
	}
	g.tx, err = g.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return gap{}, fmt.Errorf("begin the gap scan: %w", err)
	}
	if snapshotName != "" {
		if _, err = g.tx.Exec(ctx, "set transaction snapshot '"+snapshotName+"'"); err != nil {
			return gap{}, fmt.Errorf("import the slot's snapshot: %w", err)
		}
	}
	var rewound bool
	err = g.tx.QueryRow(ctx, `select pg_current_snapshot()::text,
		case when $1 = '' then false
		else pg_snapshot_xmax($1::text::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) end`,
		stored.snapshot).
		Scan(&g.snapshot, &rewound)
	if err != nil {
		return gap{}, fmt.Errorf("read the gap's snapshot: %w", err)
	}
	g.since = stored.snapshot
	if rewound || stored.systemID != s.systemID {
		g.since = ""
	}
	return g, nil
}

// gapSQL reads what the second snapshot sees and the first one did not, but for rows of the import door:
// their transactions are another cluster's. Order inside a gap is by transaction, not by commit
// (docs/contract.md §7).
const gapSQL = `select id::text, seq::text, entity_type, status, owner_id, tenant_id, visibility,
	is_deleted::text, parent_id::text, at::text, accepted_at::text, scheduled_at::text, trace_id, xact::text,
	curr_hash, prev_hash
	from ledger.universal_registry
	where accepted_at > $2 and ($1 = '' or ((xact >= pg_snapshot_xmax($1::text::pg_snapshot)
			or xact = any(array(select pg_snapshot_xip($1::text::pg_snapshot))))
		and not pg_visible_in_snapshot(xact, $1::text::pg_snapshot)))
	order by xact, at, id, seq`

// scan hands over the rows of the gap and waits until they are disposed of; then the gap's snapshot
// is the cursor. The rows come as the server reads them: nothing is held here.
func (s *session) scan(ctx context.Context, g gap) error {
	if g.conn == nil {
		return nil
	}
	defer g.close()
	started, count := time.Now(), 0
	position := s.progress.Begin()
	disposed := make(chan struct{})
	position.onDone = func() { close(disposed) }
	rows, err := g.tx.Query(ctx, gapSQL, g.since, s.imported)
	if err != nil {
		return fmt.Errorf("scan the gap: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		row := new(span.Published)
		for i, raw := range rows.RawValues() {
			if raw == nil {
				continue
			}
			if err := setColumn(row, span.PublishedColumns[i], string(raw)); err != nil {
				return fmt.Errorf("scan the gap: %w", err)
			}
		}
		row.IsDeleted = string(rows.RawValues()[7]) == "true"
		if err := failpoint.Err(failpoint.GapRow); err != nil {
			return err
		}
		count++
		s.rows.Add(1)
		position.Add(1)
		if err := s.handler.Row(ctx, row, position); err != nil {
			return fmt.Errorf("hand over a row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("scan the gap: %w", err)
	}
	position.close(0)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-disposed:
	}
	failpoint.Hit(failpoint.GapDisposed)
	s.dirty.Store(true) // the next mark stores a cursor that covers the gap
	s.config.Log.Info("gap scanned", "reason", g.reason, "rows", count, "ms", time.Since(started).Milliseconds())
	return nil
}
