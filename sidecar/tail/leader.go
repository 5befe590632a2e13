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
)

// Who leads is who holds an advisory lock of the cell. The lock ends with its session, so a killed leader
// frees it at once. A frozen one, or one behind a dead network, keeps it: so the leader beats each second,
// and who stands by ends the session of one that has not beaten for staleAfter. By then the frozen one knows,
// too: it leads no longer than trustFor after its last beat, by its own clock.
const (
	beatEvery  = time.Second
	trustFor   = 2 * time.Second
	staleAfter = 4 * time.Second
)

// leaderSQL makes the table of beats, one row for each slot. It is disposable: the lock decides.
const leaderSQL = `create table if not exists engine.leader (
	slot text primary key,
	node text not null,
	incarnation text not null,
	pid int not null,
	source text not null,
	beat_at timestamptz not null
) with (fillfactor = 50)`

// LockClass is the first half of the lock's key; the second is the hash of the slot's name.
const LockClass = 1819240300

// makeTables makes the tail's tables, and the schema where somebody dropped it. A table that several make at
// once is there afterwards, whoever won.
func makeTables(ctx context.Context, conn *pgx.Conn) error {
	for _, statement := range []string{"select ledger_private.make_engine()", cursorSQL, leaderSQL} {
		_, err := conn.Exec(ctx, statement)
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

// withTables runs do, and once more where a table of the schema engine, the schema, or the right to it is
// gone: then it is made anew first.
func (s *session) withTables(ctx context.Context, conn *pgx.Conn, do func() error) error {
	err := do()
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || !slices.Contains([]string{"42P01", "3F000", "42501"}, refusal.Code) {
		return err
	}
	s.config.Log.Warn("a table of the schema engine is gone, or is not the sidecar's: making it anew",
		"error", err)
	if err := makeTables(ctx, conn); err != nil {
		return err
	}
	return do()
}

// holder is who has the lock.
type holder struct {
	pid, silentMs int
	node          string
	source        Source
	beatAt        time.Time // zero: it has not beaten yet
}

// waitToLead returns when the lock is ours.
func (s *session) waitToLead(ctx context.Context) error {
	var seen holder
	var seenAt time.Time
	told := 0 // the pid of the leader that was told of
	knownAt := time.Now()
	for {
		now, isOurs, err := s.tryLock(ctx)
		if err != nil {
			return err
		}
		if isOurs {
			if err := s.beat(ctx); err != nil {
				return err
			}
			s.standsBy("")
			return nil
		}
		if now.pid != seen.pid || !now.beatAt.Equal(seen.beatAt) {
			seen, seenAt = now, time.Now()
		}
		if now.source != "" && now.pid != told {
			told = now.pid
			s.tellStandby(now)
		}
		s.standsBy("another sidecar leads: " + now.node)
		if now.pid != 0 && (time.Since(seenAt) > staleAfter ||
			!now.beatAt.IsZero() && now.silentMs > int(staleAfter.Milliseconds())) {
			s.config.Log.Warn("the leader does not beat; ending its sessions", "node", now.node, "pid", now.pid,
				"silent_ms", now.silentMs)
			s.endProcess(ctx, now.pid)
			s.isHeir, seenAt = true, time.Now()
		}
		if time.Since(knownAt) > askEvery {
			if err := s.ask(ctx); err != nil {
				return err
			}
			knownAt = time.Now()
		}
		if !wait(ctx, standbyEvery) {
			return ctx.Err()
		}
	}
}

// tellStandby logs whom this one stands by for, once for each leader.
func (s *session) tellStandby(leader holder) {
	s.config.Log.Info("standing by: another sidecar leads", "node", leader.node, "source", leader.source,
		"pid", leader.pid)
	if leader.source != s.config.source() {
		s.config.Log.Warn("the leader has another LOGLINE_SOURCE: give all sidecars of a cell the same; with each "+
			"change of the leader the slot is dropped or made anew", "node", leader.node, "source", leader.source,
			"here", s.config.source())
	}
}

// standsBy sets the phase of who has no slot, or no lock; "" is the end of it.
func (s *session) standsBy(reason string) {
	if reason == "" {
		s.phase.Store(Connecting)
	} else {
		s.phase.Store(Standby)
	}
	s.fault.Store(reason)
}

func (s *session) tryLock(ctx context.Context) (h holder, isOurs bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	err = s.withTables(ctx, s.lock, func() error {
		var beatAt *time.Time
		err := s.lock.QueryRow(ctx, `select pg_try_advisory_lock($1, hashtext($2)), coalesce(h.pid, 0),
				coalesce(l.node, 'its name is not known yet'), coalesce(l.source, ''), l.beat_at,
				coalesce(extract(epoch from clock_timestamp() - l.beat_at) * 1000, 0)::bigint
			from (select) one
			left join pg_locks h on h.locktype = 'advisory' and h.granted and h.objsubid = 2
				and h.classid = $1::int4::oid and h.objid = (hashtext($2)::bigint & 4294967295)::oid
				and h.database = (select oid from pg_database where datname = current_database())
			left join engine.leader l on l.slot = $2 and l.pid = h.pid`, LockClass, s.config.Slot).
			Scan(&isOurs, &h.pid, &h.node, &h.source, &beatAt, &h.silentMs)
		if err == nil && beatAt != nil {
			h.beatAt = *beatAt
		}
		return err
	})
	if err != nil {
		return holder{}, false, fmt.Errorf("try to lead: %w", err)
	}
	return h, isOurs, nil
}

// ask finds out, while it stands by, whether its connections are alive: nothing else is said on them.
func (s *session) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	for _, conn := range []*pgx.Conn{s.sql, s.reader} {
		if err := conn.Ping(ctx); err != nil {
			return fmt.Errorf("stand by: %w", err)
		}
	}
	if s.replication == nil {
		return nil
	}
	if _, err := pglogrepl.IdentifySystem(ctx, s.replication); err != nil {
		return fmt.Errorf("stand by: %w", err)
	}
	return nil
}

// rivalsSQL names the sessions of the process that has the session $1, that one last. What a frozen process
// has left open holds up the next leader: a fence that was not committed, and the making of a slot.
const rivalsSQL = `select o.pid
	from pg_stat_activity h
	join pg_stat_activity o on o.pid = h.pid or o.application_name like 'loglineos%'
		and split_part(o.application_name, ' ', 2) = nullif(split_part(h.application_name, ' ', 2), '')
		and split_part(o.application_name, ' ', 2) <> split_part(current_setting('application_name'), ' ', 2)
	where h.pid = $1 and o.datname = current_database() and o.pid <> pg_backend_pid()
	order by o.pid = h.pid`

// endProcess ends all sessions of the process that holds the lock by the session pid.
func (s *session) endProcess(ctx context.Context, pid int) {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	rows, err := s.lock.Query(ctx, rivalsSQL, pid)
	pids := []int{pid}
	if err == nil {
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	if err != nil {
		s.config.Log.Warn("the sessions of another sidecar could not be found", "pid", pid, "error", err)
		pids = []int{pid}
	}
	for _, pid := range pids {
		s.terminate(ctx, s.lock, pid)
	}
}

// terminate ends a backend of another sidecar. As the sidecar's role it may end that role's own; a login of
// another name, which became the sidecar, may end its own. Where neither may, the server ends it by itself
// (wal_sender_timeout), or the operator.
func (s *session) terminate(ctx context.Context, conn *pgx.Conn, pid int) {
	_, err := conn.Exec(ctx, "select pg_terminate_backend($1)", pid)
	if err != nil {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set local role none"); err != nil {
				return fmt.Errorf("become the login: %w", err)
			}
			_, err := tx.Exec(ctx, "select pg_terminate_backend($1)", pid)
			return err
		})
	}
	if err != nil {
		s.config.Log.Warn("the session of another sidecar could not be ended", "pid", pid, "error", err)
		return
	}
	s.takeovers.Add(1)
}

// beat says that we lead. It goes through the session that has the lock, so that it tells of the lock, too.
func (s *session) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trustFor)
	defer cancel()
	begun := time.Now()
	err := s.withTables(ctx, s.lock, func() error {
		_, err := s.lock.Exec(ctx, `insert into engine.leader (slot, node, incarnation, pid, source, beat_at)
			values ($1, $2, $3, pg_backend_pid(), $4, clock_timestamp())
			on conflict (slot) do update set node = excluded.node, incarnation = excluded.incarnation,
				pid = excluded.pid, source = excluded.source, beat_at = excluded.beat_at`,
			s.config.Slot, s.config.Node, s.config.Incarnation, string(s.config.source()))
		return err
	})
	if err != nil {
		return fmt.Errorf("beat as the leader: %w", err)
	}
	s.beatAt.Store(int64(begun.Sub(s.begun)))
	return nil
}

// keepBeating ends with an error when the last beat is older than trustFor, or took so long. One that the
// server refused is tried again until then.
func (s *session) keepBeating(ctx context.Context) error {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.beat(ctx); err != nil && ctx.Err() == nil {
			if s.lock.IsClosed() {
				return err // and the lock is gone with it
			}
			s.config.Log.Warn("a beat failed", "error", err)
		}
		if s.isLate() {
			return errLate
		}
	}
}

// errLate is the end of a session that another sidecar may have taken over.
var errLate = fmt.Errorf("no beat for %d s: another sidecar may lead by now", int(trustFor.Seconds()))

// isLate reports whether the last beat is so old that another one may lead. A process that was frozen finds
// out here, before it hands over anything: the clock went on.
func (s *session) isLate() bool {
	return time.Since(s.begun)-time.Duration(s.beatAt.Load()) > trustFor
}
