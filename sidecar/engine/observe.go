package engine

import (
	"context"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Whether a function has a schedule is not published, and most have none. So the ledger is asked about all
// that came within a moment at once, by the index of those that have one: of the others nothing is read.

// Bounds of that.
const (
	unreadWait = 100 * time.Millisecond // between two questions
	unreadMax  = 10_000                 // functions that wait; the rows of more hold their places
)

// seen is a version of a function that was committed.
type seen struct {
	seq  int
	xact uint64
}

// unread are functions of which it is not known whether the version that was seen last has a schedule.
type unread struct {
	wanted  map[span.ID]seen
	asked   map[span.ID]seen // those of the question under way; nil: none is
	isArmed bool
	held    []*item // rows that came when there were too many
}

func (u *unread) isFull() bool { return len(u.wanted) > unreadMax }

// hold has the row of it keep its place until fewer wait: the tail waits when all places are taken.
func (u *unread) hold(it *item) {
	it.left.Add(1)
	u.held = append(u.held, it)
}

func (u *unread) release() {
	for _, it := range u.held {
		it.dispose()
	}
	u.held = nil
}

// pass forgets what is older than a version.
func (u *unread) pass(row *span.Published) {
	for _, list := range []map[span.ID]seen{u.wanted, u.asked} {
		if known, is := list[row.ID]; is && known.seq < row.Seq {
			delete(list, row.ID)
		}
	}
}

// observeFunction sees whether a version that was committed is in force, and has the ledger asked for its
// schedule. Nothing waits for that: after a loss of this sidecar, the next one reads all schedules.
func (e *Engine) observeFunction(row *span.Published) {
	s := e.schedules
	s.unread.pass(row)
	if row.Status == nil || *row.Status != "active" && *row.Status != "scheduled" || row.IsDeleted {
		if known := s.byID[row.ID]; known != nil && known.Seq < row.Seq {
			e.dropSchedule(row.ID)
		}
		return
	}
	if _, isNewer := s.unread.wanted[row.ID]; !isNewer {
		s.unread.wanted[row.ID] = seen{row.Seq, row.Xact}
	}
	e.armUnread(unreadWait)
}

// armUnread has the ledger asked after a while.
func (e *Engine) armUnread(wait time.Duration) {
	s := e.schedules
	if s.unread.isArmed || s.unread.asked != nil || len(s.unread.wanted) == 0 {
		return
	}
	s.unread.isArmed = true
	e.after(wait, func() {
		if s.unread.isArmed = false; s == e.schedules && !e.isDeposed && !e.draining {
			e.readFunctions()
		}
	})
}

// readFunctions asks for the schedules of functions that wait.
func (e *Engine) readFunctions() {
	s := e.schedules
	asked := make(map[span.ID]seen, min(len(s.unread.wanted), schedulesAt))
	for id, version := range s.unread.wanted {
		if asked[id] = version; len(asked) == schedulesAt {
			break
		}
	}
	if len(asked) == len(s.unread.wanted) {
		s.unread.wanted = map[span.ID]seen{} // one that was large stays so
	}
	xacts := map[uint64]bool{}
	ids := make([]span.ID, 0, len(asked))
	for id, version := range asked {
		delete(s.unread.wanted, id)
		ids, xacts[version.xact] = append(ids, id), true
	}
	s.unread.asked = asked
	e.start(func(ctx context.Context) {
		unseen, found, err := e.askSchedules(ctx, ids, xacts)
		e.do(func() {
			if s == e.schedules {
				e.functionsRead(unseen, found, err)
			}
		})
	})
}

// askSchedules returns the schedules of functions, and those of their transactions that it did not see.
func (e *Engine) askSchedules(ctx context.Context, ids []span.ID, xacts map[uint64]bool) (
	unseen map[uint64]bool, found []ledger.Schedule, err error) {
	list := make([]uint64, 0, len(xacts))
	for xact := range xacts {
		list = append(list, xact)
	}
	if unseen, err = e.config.Ledger.Unseen(ctx, list); err == nil {
		found, err = e.config.Ledger.SchedulesOf(ctx, ids)
	}
	return unseen, found, err
}

// functionsRead takes what the ledger said of those that were asked for. What was followed meanwhile by a
// version that came is not among them any more.
func (e *Engine) functionsRead(unseen map[uint64]bool, found []ledger.Schedule, err error) {
	s := e.schedules
	asked, wait := s.unread.asked, unreadWait
	s.unread.asked = nil
	if len(s.unread.wanted) >= schedulesAt && len(unseen) == 0 {
		wait = 0
	}
	if err != nil {
		e.config.Log.Warn("schedules of functions not read, trying again", "error", err)
		wait = backoffMax
	}
	stated := make(map[span.ID]ledger.Schedule, len(found))
	for _, one := range found {
		stated[one.ID] = one
	}
	for id, version := range asked {
		one, is := stated[id]
		switch known := s.byID[id]; {
		case err != nil || unseen[version.xact]:
			s.unread.wanted[id] = version
		case is:
			e.setFunction(one)
		case known != nil && known.Seq <= version.seq:
			e.dropSchedule(id)
		}
	}
	if !s.unread.isFull() {
		s.unread.release()
	}
	e.armUnread(wait)
}

// forgetSchedules begins anew, without any.
func (e *Engine) forgetSchedules() {
	e.schedules.unread.release()
	e.schedules = newSchedules(e.schedules.alarm)
}
