package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/span"
)

// session is one turn as standby and leader, with its own connections.
//
//	open ─► waitToLead ─► start ─► Lead ─► (poll until the slot is there) ─► (scan) ─► stream
//	                                  └──► poll                                           or to the end
//
// Beside it, while it leads: keepBeating, bookkeep.
type session struct {
	*Tail
	lock        *pgx.Conn      // holds the lock; of waitToLead, then of keepBeating alone
	sql         *pgx.Conn      // of start, then of the bookkeeper alone
	reader      *pgx.Conn      // reads pages of rows: of lead alone
	replication *pgconn.PgConn // nil where polling is the source
	systemID    string         // "" where the server does not tell it
	timeline    int32
	user        string // of the replication connection
	isHeir      bool   // the leader before was ended by us: what it left may be, too

	begun  time.Time    // of the session, by the clock that a frozen process keeps
	beatAt atomic.Int64 // when the last beat was sent, since begun

	cursor     cursor // as stored; after start owned by the bookkeeper, as are the next five
	storedAt   time.Time
	storedRows int64
	seen       string  // a snapshot whose rows are disposed of, and that is not stored yet
	walMark    *cursor // of the stream, waiting for what is before it
	isShedding bool
	mayNotDrop bool // a slot that nobody reads, while polling

	progress *Progress
	place    pglogrepl.LSN // the last one of rows that no stream brings; small beside any of the WAL
	marksMu  sync.Mutex
	marks    []placed
	words    words
	dirty    atomic.Bool   // rows came since the last mark
	streams  atomic.Bool   // replication has started
	received atomic.Uint64 // up to where the stream was read
	replyNow chan struct{}
	creator  sync.WaitGroup // makes the slot, beside polling
	epoch    epoch
	writer   uint32 // the transaction that the stream is in, without its upper half
}

// session runs one turn and returns whether it came to lead.
func (t *Tail) session(ctx context.Context, everLed bool) (hasLed bool, err error) {
	s := &session{Tail: t, progress: &Progress{}, words: words{}, begun: time.Now(),
		replyNow: make(chan struct{}, 1)}
	sessionCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer s.close()
	if err := s.open(ctx); err != nil {
		return false, err
	}
	if err := s.waitToLead(ctx); err != nil {
		return false, err
	}
	var beside sync.WaitGroup
	var beatErr, bookErr error
	// The last beat comes after the last cursor: until then we lead.
	beatCtx, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeating()
	beside.Go(func() {
		if beatErr = s.keepBeating(beatCtx); beatErr != nil {
			cancel()
		}
	})
	// A stop before there is anything to hand over ends the start; a lost lock does, too.
	startCtx, cancelStart := context.WithCancel(ctx)
	defer s.creator.Wait()
	defer cancelStart()
	context.AfterFunc(sessionCtx, cancelStart)
	origin, err := s.start(startCtx, everLed)
	if err != nil {
		stopBeating()
		beside.Wait()
		return false, errors.Join(beatErr, err)
	}
	t.began(s, origin)
	var bookkeeper sync.WaitGroup
	bookkeeper.Go(func() {
		bookErr = s.bookkeep(ctx, sessionCtx)
		cancel()
	})
	err = s.lead(sessionCtx, origin)
	cancel()
	bookkeeper.Wait() // after the last cursor: nothing that is forgotten now counts as disposed of
	stopBeating()
	beside.Wait()
	t.ended()
	if t.handler.Lose != nil && ctx.Err() == nil {
		t.handler.Lose(ctx)
	}
	if ctx.Err() != nil {
		s.config.Log.Info("leading no more: it stops", "slot", s.config.Slot, "undisposed", s.progress.Undisposed())
	}
	for _, cause := range []error{beatErr, bookErr, err} {
		if cause != nil {
			return true, s.explainEnd(cause)
		}
	}
	return true, nil
}

// explainEnd says whose doing it was that the server ended a leader's session.
func (s *session) explainEnd(err error) error {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "57P01" && s.isLate() {
		return fmt.Errorf("another sidecar has ended this leader, for it had not beaten in time: %w", err)
	}
	return err
}

// open makes the connections and checks what the source needs.
func (s *session) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, openMax)
	defer cancel()
	if s.sql, err = s.connect(ctx, "loglineos-tail"); err != nil {
		return err
	}
	if err := s.preconditions(ctx); err != nil {
		return err
	}
	if s.lock, err = s.connect(ctx, "loglineos-leader"); err != nil {
		return err
	}
	if s.reader, err = s.connect(ctx, "loglineos-reader"); err != nil {
		return err
	}
	// A page is a walk along the index on xact, whatever the statistics say, or whether there are any yet.
	for _, setting := range []string{"statement_timeout = 0", "idle_in_transaction_session_timeout = 0",
		"enable_seqscan = off", "enable_bitmapscan = off", "enable_sort = off", "jit = off"} {
		if _, err = s.reader.Exec(ctx, "set "+setting); err != nil {
			return fmt.Errorf("prepare the gap scan: %w", err)
		}
	}
	if s.config.source() == Poll {
		return s.identifyBySQL(ctx)
	}
	return s.connectReplication(ctx)
}

func (s *session) connect(ctx context.Context, application string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.config.DatabaseURL)
	if err != nil {
		return nil, &SetupError{"DATABASE_URL is malformed", "use postgres://user:password@host:port/database", err}
	}
	config.RuntimeParams["application_name"] = named(application, s.config.Incarnation)
	config.DialFunc = dialer().DialContext
	config.RuntimeParams["timezone"], config.RuntimeParams["datestyle"] = "UTC", "ISO"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to DATABASE_URL: %w", err)
	}
	if err := s.config.Prepare(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return nil, &SetupError{"this login cannot do the sidecar's work", err.Error(), err}
	}
	return conn, nil
}

// close ends the connections, the lock last: who leads next finds the slot free.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// The server ends the sessions by itself when the sockets close; there is nothing to do about an error here.
	if s.replication != nil {
		_ = s.replication.Close(ctx)
	}
	for _, conn := range []*pgx.Conn{s.reader, s.sql, s.lock} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
}

// origin is where a session's rows begin.
type origin struct {
	since  string // what this snapshot sees is disposed of
	reason string // why the stream does not bring it all; "" where it does
	slot   <-chan made
}

// made is a new slot, and the snapshot with which it begins.
type made struct {
	snapshot string
	err      error
}

// start finds out where the rows begin, and takes the slot if the cursor vouches for it.
func (s *session) start(ctx context.Context, everLed bool) (origin, error) {
	begun := time.Now()
	for pause := slotEvery; ; pause = min(2*pause, slotEveryMax) {
		stored, slot, reason, err := s.take(ctx)
		switch {
		case err == nil && s.config.source() == Poll:
			return origin{since: stored.snapshot}, nil
		case err == nil && reason == "":
			s.cursor = stored
			s.streams.Store(true)
			return origin{since: stored.snapshot}, nil
		case err == nil:
			return s.createSlot(ctx, origin{since: stored.snapshot, reason: reason}, everLed, false)
		}
		var refusal *pgconn.PgError
		if !errors.As(err, &refusal) {
			return origin{}, fmt.Errorf("take the slot: %w", err)
		}
		switch refusal.Code {
		case "55006": // object_in_use
			if time.Since(begun) > slotWait {
				return s.createSlot(ctx, origin{since: stored.snapshot,
					reason: cmp.Or(reason, "another one held the slot")}, everLed, true)
			}
			s.standsBy("another session holds the slot " + s.config.Slot)
			s.disinherit(ctx, slot, time.Since(begun))
		case "55000", "42704": // lost or dropped since it was read
		default:
			return origin{}, fmt.Errorf("take the slot: %w", err)
		}
		if !wait(ctx, pause) {
			return origin{}, ctx.Err()
		}
	}
}

// take reads the cursor and the slot, and starts the stream where the one vouches for the other. Else it says
// why not, and the slot is gone.
func (s *session) take(ctx context.Context) (stored cursor, slot slot, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	if stored, err = s.readCursor(ctx); err != nil || s.config.source() == Poll {
		return stored, slot, "", err
	}
	if slot, err = s.readSlot(ctx); err != nil {
		return stored, slot, "", err
	}
	reason = slot.distrust(stored)
	switch {
	case reason == "":
		err = s.startStream(ctx, stored.lsn)
	case slot.exists:
		err = pglogrepl.DropReplicationSlot(ctx, s.replication, s.config.Slot,
			pglogrepl.DropReplicationSlotOptions{})
		if err == nil {
			s.config.Log.Warn("the slot is made anew", "slot", s.config.Slot, "reason", reason)
		}
	}
	return stored, slot, reason, err
}

// lead hands over what the stream does not bring, then the stream.
func (s *session) lead(ctx context.Context, o origin) error {
	failpoint.Hit(failpoint.SlotTaken)
	if err := s.handler.Lead(ctx, o.since); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if o.slot == nil && s.config.source() == Poll {
		_, _, err := s.poll(ctx, o.since, nil)
		return err
	}
	var done span.Snapshot
	if o.slot != nil {
		since, slot, err := s.poll(ctx, o.since, o.slot)
		if err != nil {
			return err
		}
		if slot.err != nil {
			return slot.err
		}
		// What polling has handed over comes by the stream, too, where it committed after the slot's beginning.
		if done, err = span.ParseSnapshot(since); err != nil {
			return err
		}
		if err := s.scan(ctx, delta{since: since, upto: slot.snapshot, reason: o.reason}); err != nil {
			return err
		}
		s.dirty.Store(true) // the next mark stores a cursor that has a place in the stream
	}
	s.fault.Store("")
	s.phase.Store(Streaming)
	return s.stream(ctx, done)
}
