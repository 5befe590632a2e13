// Package tail follows the ledger: in commit order through one logical replication slot, or by polling.
//
// It owns the leader's lock, the slot, the decoding of pgoutput, the cursor and the acknowledgement. It
// hands over the published columns of each inserted row and a Position; whoever takes the row says Done
// when the row is disposed of, and only then may the slot move past it. It decides nothing about a row.
//
//	            START_REPLICATION          row, Position                  Done
//	Postgres ──────────────────────► read ───────────────► handler ───────────────► progress
//	    ▲                                                                              │ low-water mark
//	    └── standby status ◄── bookkeeper, every second ◄── cursor (LSN, snapshot) ◄───┘
//
// The slot may vanish at any time (Supabase drops one that falls 4 GB behind), so a cursor is
// (system identifier, end LSN, pg_snapshot): rows that the last snapshot had not seen are read from the
// table, then the stream goes on. The slot never moves past the stored cursor while rows flow, so a row
// may come twice but is never lost. The same reading of the table, again and again, is polling. Whoever holds
// the lock leads (leader.go); others stand by.
package tail

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of the tail.
const (
	bookkeepEvery  = time.Second            // standby status and cursor
	careTurns      = 5                      // look after the slot at every fifth of them
	standbyEvery   = 200 * time.Millisecond // how often a standby tries to lead
	slotEvery      = 20 * time.Millisecond  // how often the leader tries to take a slot that is in use,
	slotEveryMax   = 250 * time.Millisecond // later
	askAfter       = 2 * time.Second        // no message for so long: ask for one
	silenceMax     = 15 * time.Second       // no message for so long: the connection is dead
	backoffMin     = 100 * time.Millisecond
	backoffMax     = 5 * time.Second
	slotWait       = time.Second            // a slot waits for open write transactions; then polling serves
	letGoWait      = 300 * time.Millisecond // how long a sidecar that leads no more may keep the slot
	createEvery    = 5 * time.Second        // how often a slot is tried again that could not be made
	askEvery       = 5 * time.Second        // how often a standby asks whether its connections are alive
	idleEvery      = 5 * time.Second        // how often the cursor moves over WAL without rows of ours,
	idleBytes      = 64 << 10               // and over how much of it at least
	pollStoreEvery = time.Minute            // how often polling stores a cursor while no row comes
	leaveWait      = 2 * time.Second        // how long a stop waits for the slot to show the last cursor
	settleWait     = 300 * time.Millisecond // and for what was handed over to be disposed of
	leaveEvery     = 10 * time.Millisecond
	readBytes      = 256 << 10 // of the stream, at once
)

// Bounds of one statement. A connection that died without a word is found out by them alone.
const (
	openMax      = 30 * time.Second // all that makes a session ready
	statementMax = 5 * time.Second  // what reads or writes a row or two
	probeMax     = 15 * time.Second // it passes what open transactions have written
	pageMax      = 10 * time.Minute // the first page of a large transaction sorts it
)

// streamName is the application name of who streams.
const streamName = "loglineos-replication"

// named is the application name of a session of this process: who takes over finds all of them by it.
func named(application, incarnation string) string {
	return strings.TrimSpace(application + " " + incarnation)
}

// dialer finds out within seconds that the other host is gone, also while nothing is said.
func dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true,
		Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
}

// Config says where to read from.
type Config struct {
	// DatabaseURL is a direct connection that may become loglineos_sidecar; ReplicationURL one whose
	// login has the REPLICATION attribute. Both must reach the same server without a pooler.
	DatabaseURL, ReplicationURL string
	Slot, Publication           string
	// Source is where rows come from; "" is WAL. Polling needs no ReplicationURL, no slot and no wal_level.
	Source Source
	// Node and Incarnation name this process to others, in engine.leader.
	Node, Incarnation string
	// Prepare readies a SQL session: its settings and its role.
	Prepare func(ctx context.Context, conn *pgx.Conn) error
	Log     *slog.Logger
}

// Source is where rows come from.
type Source string

// The sources.
const (
	WAL  Source = "wal"
	Poll Source = "poll"
)

func (c *Config) source() Source {
	if c.Source == "" {
		return WAL
	}
	return c.Source
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
	// Stored is called when a cursor has been stored: what its snapshot sees is disposed of. It may be nil, and
	// is called from another goroutine than the others.
	Stored func(snapshot string)
	// Row takes one row. It may block: that is back-pressure. It must see to it that position.Done
	// is called once, when the row is disposed of.
	Row func(ctx context.Context, row *span.Published, position *Position) error
}

// Phase is what the tail is doing.
type Phase string

// The phases of a tail.
const (
	Connecting Phase = "connecting"
	Standby    Phase = "standby" // another sidecar leads, or holds the slot
	CatchingUp Phase = "catching up"
	Streaming  Phase = "streaming"
	Polling    Phase = "polling" // by choice, or while the slot can not be made: then there is a fault, too
)

// Tail is one follower. Make it with New, run it once with Run.
type Tail struct {
	config  Config
	handler Handler
	phase   atomic.Value // Phase
	fault   atomic.Value // string: the last error, "" when streaming
	rows    atomic.Int64
	waiting atomic.Int64 // since when it waits for a message, in Unix nanoseconds; 0 while it does not
	watch
}

// New returns a tail that is not running yet.
func New(config Config, handler Handler) *Tail {
	t := &Tail{config: config, handler: handler}
	t.phase.Store(Connecting)
	t.fault.Store("")
	t.slotFault.Store("")
	t.health.LagBytes, t.health.RetainedBytes, t.health.SafeBytes = -1, -1, -1
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
	backoff, everLed := backoffMin, false
	for {
		hasLed, err := t.session(ctx, everLed)
		if ctx.Err() != nil {
			return nil
		}
		var setup *SetupError
		if everLed = everLed || hasLed; errors.As(err, &setup) && !everLed {
			return err
		}
		t.phase.Store(Connecting)
		t.fault.Store(err.Error())
		t.config.Log.Warn("the tail's session ended", "error", err, "retry_in_ms", backoff.Milliseconds())
		if hasLed {
			backoff = backoffMin
		}
		if !wait(ctx, backoff) {
			return nil
		}
		backoff = min(2*backoff, backoffMax)
	}
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
