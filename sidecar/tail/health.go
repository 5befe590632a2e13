package tail

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
)

// Bounds of slot care.
const (
	stuckAfter = 30 * time.Second // lag that grows while nothing moves for so long is told
	stuckBytes = 1 << 20          // of at least so much
	shedBelow  = 0.25             // of max_slot_wal_keep_size
	firstLSN   = 1 << 20          // no place in the WAL is before its first segment ends
	historyMax = 720              // places of the WAL's end that are kept: an hour of them
)

// Health is what the tail knows of itself and of its slot. Bytes and counts are whole numbers, -1 is unknown.
type Health struct {
	Phase  Phase
	Source Source
	Fault  string // why it does not stream, or what is wrong although it does
	Leads  bool
	Rows   int64 // handed over since the start

	Undisposed    int64 // handed over, and not disposed of
	LagBytes      int64 // WAL that is not disposed of
	LagSeconds    float64
	RetainedBytes int64  // WAL that the slot holds back
	SafeBytes     int64  // that may be written before the server invalidates the slot; -1: no bound
	WALStatus     string // reserved, extended, unreserved, lost; "" without a slot
	InactiveSlots []string
	Stuck         string    // the cause, where lag grows and nothing moves; "" where all is well
	CursorAt      time.Time // when the last cursor was stored by this process; zero: never
	CareAt        time.Time // of the slot's figures; zero: never

	Sessions  int64            // times that it came to lead
	Takeovers int64            // sessions of others that it ended
	Sheds     int64            // times that it gave up WAL of a slot that would have been invalidated
	Polls     int64            // questions for new rows
	GapScans  map[string]int64 // by reason
	GapRows   map[string]int64 // by reason
}

// watch is the part of Tail that Health reads.
type watch struct {
	takeovers, polled atomic.Int64
	slotFault         atomic.Value // string: why the slot is not there yet

	mu      sync.Mutex
	health  Health   // what is not counted elsewhere
	current *session // nil: it does not lead
	history []reach  // WAL ends, oldest first, to tell lag in seconds
	still   reach    // the cursor, and since when it stands there
}

// reach is where the WAL ended, or the cursor stood, at a time.
type reach struct {
	at  time.Time
	lsn pglogrepl.LSN
	lag int64
}

// Health returns what is known now. It asks nobody, and is safe for concurrent use.
func (t *Tail) Health() Health {
	phase, fault := t.State()
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.health
	h.GapScans, h.GapRows = maps.Clone(h.GapScans), maps.Clone(h.GapRows)
	h.Phase, h.Fault, h.Source, h.Leads = phase, fault, t.config.source(), t.current != nil
	h.Rows, h.Takeovers, h.Polls = t.rows.Load(), t.takeovers.Load(), t.polled.Load()
	if t.current != nil {
		h.Undisposed = t.current.progress.Undisposed()
	}
	return h
}

// IsTrusted reports whether this sidecar leads for certain: no other one counts on it to have stopped. What
// it commits in doubt could be beyond what another one knows. It is safe for concurrent use.
func (t *Tail) IsTrusted() bool {
	t.mu.Lock()
	s := t.current
	t.mu.Unlock()
	return s != nil && !s.isLate()
}

// began notes that a session leads.
func (t *Tail) began(s *session, o origin) {
	t.fault.Store("")
	t.phase.Store(CatchingUp)
	t.waiting.Store(0)
	t.slotFault.Store("")
	t.mu.Lock()
	t.current = s
	t.history, t.still = nil, reach{}
	t.health.Sessions++
	t.mu.Unlock()
	t.config.Log.Info("leading", "source", t.config.source(), "slot", t.config.Slot,
		"from", s.cursor.lsn.String(), "gap_scan", o.reason)
}

func (t *Tail) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = nil
	t.health.Stuck = ""
}

func (t *Tail) stored(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.health.CursorAt = at
}

func (t *Tail) scanned(reason string, rows int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.health.GapScans == nil {
		t.health.GapScans, t.health.GapRows = map[string]int64{}, map[string]int64{}
	}
	t.health.GapScans[reason]++
	t.health.GapRows[reason] += rows
}

// figures are what the server says of the slot.
type figures struct {
	end            string
	status         *string
	safe, retained *int64
	keepMB         int64 // max_slot_wal_keep_size; -1: no bound
	inactive       []string
	blockers       string // open write transactions, while the slot waits for them
	holder         int    // who has the slot, while it does not stream to us; 0: nobody else
	holderName     string
	isSidecar      bool // the holder names itself a sidecar
}

// care reads the figures of the slot, and gives up WAL before the server takes it all: a slot that is
// invalidated ends the stream in the middle, one that is given up in part goes on. The cursor stays where it
// is, so a start after that scans the gap.
func (s *session) care(ctx context.Context) error {
	if s.config.source() == Poll {
		s.dropIdleSlot(ctx)
		return nil
	}
	var f figures
	streams := s.streams.Load()
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	err := s.sql.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text, m.wal_status, m.safe_wal_size,
			pg_wal_lsn_diff(pg_current_wal_insert_lsn(), m.restart_lsn)::bigint,
			(select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'),
			array(select slot_name::text from pg_replication_slots where not active order by 1),
			case when $2 then '' else coalesce((
				select string_agg(b.text, '; ')
				from (
					select format('pid %s (%s in %s%s)', pid, usename, datname,
						coalesce(', since ' || date_trunc('second', xact_start), ''))
					from pg_stat_activity
					where backend_xid is not null and pid <> pg_backend_pid()
					union all
					select format('prepared transaction %L (%s in %s, since %s)', gid, owner, database,
						date_trunc('second', prepared))
					from pg_prepared_xacts
				) b (text)
			), 'those have just ended') end,
			coalesce(a.pid, 0), format('%s, login %s', a.application_name, a.usename),
			coalesce(split_part(a.application_name, ' ', 1) = $4, false)
		from (select) one
		left join pg_replication_slots m on m.slot_name = $1
		left join pg_stat_activity a on a.pid = m.active_pid and a.pid <> $3 and not $2`,
		s.config.Slot, streams, s.replication.PID(), streamName).
		Scan(&f.end, &f.status, &f.safe, &f.retained, &f.keepMB, &f.inactive, &f.blockers, &f.holder,
			&f.holderName, &f.isSidecar)
	if err != nil {
		return fmt.Errorf("look after the slot: %w", err)
	}
	end, err := pglogrepl.ParseLSN(f.end)
	if err != nil {
		return fmt.Errorf("look after the slot: %w", err)
	}
	if !streams {
		s.fault.Store(s.whyPolling(f))
		if f.isSidecar { // the lock is ours, so it leads no more
			s.terminate(ctx, s.sql, f.holder)
		}
	}
	shed := streams && s.shed(f)
	s.note(f, end, shed)
	return nil
}

// dropIdleSlot drops the slot that a leader with the other source has left: nobody would read it, and it
// would hold back WAL for ever. Nothing is lost: a cursor of polling has no place in a slot, so that the next
// one is made anew anyway. Where the login may not, the operator has to (Health.InactiveSlots).
func (s *session) dropIdleSlot(ctx context.Context) {
	if s.mayNotDrop {
		return
	}
	const statement = `select pg_drop_replication_slot(slot_name) from pg_replication_slots
		where slot_name = $1 and not active and plugin = 'pgoutput' and database = current_database()`
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	tag, err := s.sql.Exec(ctx, statement, s.config.Slot)
	if err != nil {
		s.mayNotDrop = true
		s.config.Log.Warn("the slot of an earlier leader holds back WAL and can not be dropped by this login: "+
			"select pg_drop_replication_slot(…) as one that may", "slot", s.config.Slot, "error", err)
		return
	}
	if tag.RowsAffected() > 0 {
		s.config.Log.Info("the slot of an earlier leader is dropped: polling needs none", "slot", s.config.Slot)
	}
}

// whyPolling says why the slot is not there yet.
func (s *session) whyPolling(f figures) string {
	if f.holder != 0 {
		return fmt.Sprintf("polling, for the slot %q is held by another session, pid %d (%s): end it (select "+
			"pg_terminate_backend(%[2]d)), or set LOGLINE_SLOT to another name", s.config.Slot, f.holder,
			f.holderName)
	}
	if fault := s.slotFault.Load().(string); fault != "" {
		return "polling, for the slot can not be made: " + fault
	}
	return "polling, for the new slot waits for open write transactions of the cluster: " + f.blockers
}

// shed decides whether the slot is given up in part, and reports whether that begins now.
func (s *session) shed(f figures) bool {
	before := s.isShedding
	s.isShedding = f.keepMB > 0 && f.safe != nil && float64(*f.safe) < shedBelow*float64(f.keepMB<<20)
	if s.isShedding && !before {
		s.config.Log.Warn("the slot is close to max_slot_wal_keep_size: giving up its WAL; a restart before all "+
			"rows are disposed of scans the gap", "safe_bytes", *f.safe, "undisposed", s.progress.Undisposed())
	}
	return s.isShedding && !before
}

// note keeps the figures for Health.
func (s *session) note(f figures, end pglogrepl.LSN, hasShed bool) {
	now := time.Now()
	disposed, _ := s.progress.Disposed()
	disposed = max(disposed, s.cursor.lsn)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	h.RetainedBytes, h.SafeBytes, h.WALStatus = -1, -1, ""
	if f.retained != nil {
		h.RetainedBytes = max(0, *f.retained)
	}
	if f.safe != nil {
		h.SafeBytes = *f.safe
	}
	if f.status != nil {
		h.WALStatus = *f.status
	}
	h.InactiveSlots, h.CareAt = f.inactive, now
	h.LagBytes = h.RetainedBytes
	if disposed >= firstLSN { // not a place of a scan
		h.LagBytes = int64(max(end, disposed) - disposed)
	}
	if hasShed {
		h.Sheds++
	}
	s.history = append(s.history, reach{at: now, lsn: end})
	for len(s.history) > 1 && (s.history[1].lsn <= disposed || len(s.history) > historyMax) {
		s.history = s.history[1:]
	}
	h.LagSeconds = 0
	if s.history[0].lsn > disposed || len(s.history) > 1 {
		h.LagSeconds = now.Sub(s.history[0].at).Seconds()
	}
	if s.still.at.IsZero() || s.still.lsn != s.cursor.lsn {
		s.still = reach{now, s.cursor.lsn, h.LagBytes}
	}
	h.Stuck = ""
	if stands := now.Sub(s.still.at); stands > stuckAfter && h.LagBytes > max(s.still.lag, stuckBytes) {
		h.Stuck = fmt.Sprintf("the slot has not moved for %d s and is %d MB behind: %d rows are not disposed of",
			int(stands.Seconds()), h.LagBytes>>20, s.progress.Undisposed())
	}
}
