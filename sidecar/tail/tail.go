// Package tail follows the ledger in commit order through one logical replication slot.
//
// It owns the slot, the decoding of pgoutput, the cursor and the acknowledgement. It hands over the
// published columns of each inserted row and a Position; whoever takes the row says Done when the row
// is disposed of, and only then may the slot move past it. It decides nothing about a row.
//
//	            START_REPLICATION          row, Position                  Done
//	Postgres ──────────────────────► read ───────────────► handler ───────────────► progress
//	    ▲                                                                              │ low-water mark
//	    └── standby status ◄── bookkeeper, every second ◄── cursor (LSN, snapshot) ◄───┘
//
// The slot may vanish at any time (Supabase drops one that falls 4 GB behind), so a cursor is
// (system identifier, end LSN, pg_snapshot): rows that the last snapshot had not seen are read from the
// table, then the stream goes on. The slot never moves past the stored cursor while rows flow, so a row
// may come twice but is never lost. Whoever holds the slot leads; others stand by.
package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of the tail.
const (
	bookkeepEvery = time.Second            // standby status and cursor
	standbyEvery  = 500 * time.Millisecond // how often a standby tries to take the slot
	askAfter      = 3 * time.Second        // no message for so long: ask for one
	silenceMax    = 15 * time.Second       // no message for so long: the connection is dead
	backoffMin    = 100 * time.Millisecond
	backoffMax    = 5 * time.Second
	slotWait      = 5 * time.Second // creating a slot waits for open write transactions
	idleEvery     = 5 * time.Second // how often the cursor moves over WAL without rows of ours,
	idleBytes     = 64 << 10        // and over how much of it at least
)

// Config says where to read from.
type Config struct {
	// DatabaseURL is a direct connection that may become loglineos_sidecar; ReplicationURL one whose
	// login has the REPLICATION attribute. Both must reach the same server without a pooler.
	DatabaseURL, ReplicationURL string
	Slot, Publication           string
	// Prepare readies a SQL session: its settings and its role.
	Prepare func(ctx context.Context, conn *pgx.Conn) error
	Log     *slog.Logger
}

// Handler takes what the tail reads. Its functions are called from one goroutine.
type Handler struct {
	// Lead is called when this process has come to lead, before the rows of the session. What the snapshot
	// since (the text of a pg_snapshot) sees is disposed of and does not come; "" is nothing, so that
	// everything comes.
	Lead func(ctx context.Context, since string) error
	// Lose is called when the session ends in which Lead was called; its rows that are not disposed of
	// come again. It may be nil.
	Lose func(ctx context.Context)
	// Row takes one row. It may block: that is back-pressure. It must see to it that position.Done
	// is called once, when the row is disposed of.
	Row func(ctx context.Context, row *span.Published, position *Position) error
}

// Phase is what the tail is doing.
type Phase string

// The phases of a tail.
const (
	Connecting Phase = "connecting"
	Standby    Phase = "standby" // another sidecar holds the slot
	CatchingUp Phase = "catching up"
	Streaming  Phase = "streaming"
)

// Tail is one follower. Make it with New, run it once with Run.
type Tail struct {
	config  Config
	handler Handler
	phase   atomic.Value // Phase
	fault   atomic.Value // string: the last error, "" when streaming
	rows    atomic.Int64
	waiting atomic.Int64 // since when it waits for a message, in Unix nanoseconds; 0 while it does not
}

// New returns a tail that is not running yet.
func New(config Config, handler Handler) *Tail {
	t := &Tail{config: config, handler: handler}
	t.phase.Store(Connecting)
	t.fault.Store("")
	return t
}

// State returns the phase, and the last fault where the tail is not streaming.
func (t *Tail) State() (Phase, string) { return t.phase.Load().(Phase), t.fault.Load().(string) }

// Rows returns how many rows were handed over since the start.
func (t *Tail) Rows() int64 { return t.rows.Load() }

// Run follows the ledger until ctx ends, and reconnects with backoff when the server goes away. A
// fault that no waiting mends (wal_level, rights, a pooler, a missing publication) met before the
// first session is returned at once, with its mend; later it is logged and retried.
func (t *Tail) Run(ctx context.Context) error {
	backoff, led := backoffMin, false
	for {
		err := t.session(ctx, &led)
		if ctx.Err() != nil {
			return nil
		}
		var setup *SetupError
		if errors.As(err, &setup) && !led {
			return err
		}
		t.phase.Store(Connecting)
		t.fault.Store(err.Error())
		t.config.Log.Warn("replication session ended", "error", err, "retry_in_ms", backoff.Milliseconds())
		if led {
			backoff = backoffMin
		}
		if !wait(ctx, backoff) {
			return nil
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// session is one pair of connections, from connect to the first fault.
func (t *Tail) session(ctx context.Context, led *bool) error {
	s := &session{Tail: t, progress: &Progress{}}
	sessionCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	gap, err := s.start(ctx)
	if err != nil {
		return err
	}
	*led = true
	t.fault.Store("")
	t.phase.Store(CatchingUp)
	t.waiting.Store(0)
	t.config.Log.Info("replication slot taken", "slot", t.config.Slot, "from", s.cursor.lsn.String(), "gap_scan",
		gap.reason)

	var bookkeeper sync.WaitGroup
	var bookErr error
	bookkeeper.Go(func() {
		bookErr = s.bookkeep(ctx, sessionCtx)
		cancel()
	})
	err = s.lead(sessionCtx, gap)
	cancel()
	bookkeeper.Wait() // after the last cursor: nothing that is forgotten now counts as disposed of
	if t.handler.Lose != nil && ctx.Err() == nil {
		t.handler.Lose(ctx)
	}
	if bookErr != nil {
		return bookErr
	}
	return err
}

// lead hands over the gap, then the stream.
func (s *session) lead(ctx context.Context, gap gap) error {
	failpoint.Hit(failpoint.SlotTaken)
	since := s.cursor.snapshot
	if gap.conn != nil {
		since = gap.since
	}
	if err := s.handler.Lead(ctx, since); err != nil {
		gap.close()
		return fmt.Errorf("take over: %w", err)
	}
	if err := s.scan(ctx, gap); err != nil {
		return err
	}
	s.phase.Store(Streaming)
	return s.read(ctx)
}

// session holds the connections of one turn as leader or standby.
type session struct {
	*Tail
	replication *pgconn.PgConn
	sql         *pgx.Conn // used by start, then by the bookkeeper alone
	systemID    string
	timeline    int32
	user        string // of the replication connection
	cursor      cursor // as stored; after start owned by the bookkeeper
	storedAt    time.Time
	progress    *Progress
	dirty       atomic.Bool // rows came since the last mark
	replyNow    chan struct{}
	imported    time.Time // rows accepted until then came through the import door: not handed over
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// The server ends both sessions by itself when the sockets close; there is nothing to do about
	// an error here.
	if s.replication != nil {
		_ = s.replication.Close(ctx)
	}
	if s.sql != nil {
		_ = s.sql.Close(ctx)
	}
}

// read decodes the stream until a fault or the end of ctx. The status goes out from the
// bookkeeper, so that a long transaction or a blocked handler never starves it.
func (s *session) read(ctx context.Context) error {
	decoder := newDecoder()
	var transaction *Position
	for {
		s.waiting.Store(time.Now().UnixNano())
		message, err := s.replication.ReceiveMessage(ctx)
		s.waiting.Store(0) // a handler that blocks is no silence of the server
		if err != nil {
			return fmt.Errorf("receive from the slot: %w", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			if refusal, ok := message.(*pgproto3.ErrorResponse); ok {
				return fmt.Errorf("stream from the slot: %w", pgconn.ErrorResponseToPgError(refusal))
			}
			continue
		}
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			if err := s.keepalive(data.Data[1:], transaction == nil); err != nil {
				return err
			}
		case pglogrepl.XLogDataByteID:
			payload, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return fmt.Errorf("decode WAL data: %w", err)
			}
			if transaction, err = s.apply(ctx, decoder, payload.WALData, transaction); err != nil {
				return err
			}
		}
	}
}

func (s *session) keepalive(raw []byte, outside bool) error {
	message, err := pglogrepl.ParsePrimaryKeepaliveMessage(raw)
	if err != nil {
		return fmt.Errorf("decode keepalive: %w", err)
	}
	if outside {
		s.progress.Idle(message.ServerWALEnd)
	}
	if message.ReplyRequested {
		select {
		case s.replyNow <- struct{}{}:
		default: // one is waiting already
		}
	}
	return nil
}

// apply takes one pgoutput message and returns the transaction that is open after it.
func (s *session) apply(ctx context.Context, d *decoder, raw []byte, open *Position) (*Position, error) {
	event, err := d.decode(raw)
	if err != nil {
		return nil, err
	}
	switch event.kind {
	case eventBegin:
		return s.progress.Begin(), nil
	case eventCommit:
		if open != nil {
			open.close(event.end)
		}
		return nil, nil
	case eventRow:
		s.dirty.Store(true)
		if !event.row.AcceptedAt.After(s.imported) {
			return open, nil
		}
		s.rows.Add(1)
		open.Add(1)
		if err := s.handler.Row(ctx, event.row, open); err != nil {
			return nil, fmt.Errorf("hand over a row: %w", err)
		}
	}
	return open, nil
}

// wait returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
