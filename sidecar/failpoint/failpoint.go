// Package failpoint lets a test stop a sidecar at a named place of its code.
//
// It does nothing in the binary that is shipped: without the build tag `failpoints` its functions are
// empty, and the compiler drops the calls. With the tag, LOGLINE_FAILPOINTS says what happens where:
//
//	LOGLINE_FAILPOINTS="request-committed=kill@3,gap-row=stop,cursor-stored=error,run-ended=delay:50ms"
//
//	kill       the process ends by SIGKILL, as by `kill -9`
//	stop       it stops by SIGSTOP, until somebody sends SIGCONT
//	error      Err returns an error; Hit passes over it
//	delay:50ms the goroutine waits
//
// @3 is the third time that the place is passed, and only that one; without it the first one. @1+ is each
// time from the first on. LOGLINE_DISABLE, a list with commas, switches a defense off (Disabled).
//
// To add a place: a name below, with where it stands, and one line there. A name that is not in the list
// panics, and tests/chaos fails where no scenario passes it.
package failpoint

// The places.
const (
	RequestCommitted = "request-committed"
	RunEnded         = "run-ended"
	CommitAnswered   = "commit-answered"
	MarkCommitted    = "mark-committed"
	ClaimBegun       = "claim-begun"
	LeadBegun        = "lead-begun"
	LeadEnding       = "lead-ending"
	DrainBegun       = "drain-begun"
	PolicyJudged     = "policy-judged"
	PolicyCommitted  = "policy-committed"
	TickJudged       = "tick-judged"
	SlotTaken        = "slot-taken"
	GapRow           = "gap-row"
	GapDisposed      = "gap-disposed"
	CursorStored     = "cursor-stored"
	LastCursor       = "last-cursor"
	BirthBegun       = "birth-begun"
	BirthCommitted   = "birth-committed"
	TickMade         = "tick-made"
	CancelEnding     = "cancel-ending"
)

// names says of each place where it stands: what is done there, and what is not yet.

var names = map[string]string{
	RequestCommitted: "engine/commit.go: a new request is committed; the row that caused it is not disposed of",
	RunEnded:         "engine/request.go: a run has given its result, of which nothing is committed",
	CommitAnswered:   "engine/commit.go: a batch is committed; nobody here knows it yet",
	MarkCommitted:    "engine/takeover.go: a running version is committed",
	ClaimBegun:       "engine/takeover.go: an orphan's turn has come; its running version is not written",
	LeadBegun:        "engine/takeover.go: the slot is held; nothing is known of the ledger",
	LeadEnding:       "engine/takeover.go: the open requests are known; Lead has not returned",
	DrainBegun:       "engine/engine.go: the process is asked to stop, and starts nothing any more",
	PolicyJudged:     "engine/lane.go: policies have answered; nothing of it is committed",
	PolicyCommitted:  "engine/lane.go: what a policy emits is committed; its span is not disposed of",
	TickJudged:       "engine/lane.go: policies have answered to a tick; nothing of it is committed",
	SlotTaken:        "tail/session.go: this process leads; the engine has not been told to",
	GapRow:           "tail/gap.go: a row of the gap is about to be handed over",
	GapDisposed:      "tail/gap.go: every row of the gap is handed over; the cursor does not say so",
	CursorStored:     "tail/cursor.go: the cursor is stored; the slot is not told",
	LastCursor:       "tail/cursor.go: the process stops; the last cursor is not stored",
	BirthBegun:       "engine/birth.go: a request that stands nowhere is about to run",
	BirthCommitted:   "engine/birth.go: it is committed, mostly with its result; its cause is not disposed of",
	TickMade:         "engine/lane.go: a function's tick has come and its request is made; nothing is committed",
	CancelEnding:     "engine/cancel.go: the end of a cancelled request is known, and not committed",
}

// The defenses that LOGLINE_DISABLE can switch off, to show that the tests notice.
const (
	// Fence: what a request's run gives is written though somebody else has moved the request on.
	Fence = "fence"
	// Derived: ids of what the engine appends are random.
	Derived = "derived"
	// Sorted: a batch is written in any order.
	Sorted = "sorted"
	// Snapshot: the cursor is a high-water mark of transaction ids.
	Snapshot = "snapshot"
)

// Names returns the places.
func Names() map[string]string {
	listed := make(map[string]string, len(names))
	for name, where := range names {
		listed[name] = where
	}
	return listed
}
