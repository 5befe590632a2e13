package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	policiesEvery = time.Second // between two looks at what policies have judged
	cursorEvery   = time.Minute // between two policy_cursor spans, where rows came
	policiesPage  = 100         // versions of policies, of 256 KiB at most, that a new leader reads at once
)

// judging is what the engine knows about up to where policies have judged. All but stored belongs to the
// loop.
type judging struct {
	leader    span.ID                       // a new one for each time that this sidecar comes to lead
	start     span.Snapshot                 // what it sees had been judged when this sidecar came to lead
	stored    atomic.Pointer[span.Snapshot] // the newest cursor of the tail: what it sees is disposed of
	arrivals  []*heldRow                    // behind a version of a policy that is being read
	isReading bool
	readers   int // reads of lanes that are behind, under way
	wanting   []*behind
	keys      int // of large transactions, that lanes which are behind hold

	cursors   int           // counts the cursors that were stored
	seen      span.Snapshot // the last of them
	touched   int           // cursors, when the last row came that is no bookkeeping of the system's
	isTouched bool          // one came that the last policy_cursor does not cover
	written   time.Time     // when the last policy_cursor was
	told      string        // its snapshot
}

// Stored tells the engine that the tail has stored a cursor: all that its snapshot (the text of a
// pg_snapshot) sees is disposed of. It may be called at any time, from any goroutine.
func (e *Engine) Stored(snapshot string) {
	parsed, err := span.ParseSnapshot(snapshot)
	if err != nil {
		e.config.Log.Error("the cursor's snapshot is malformed", "error", err)
		return
	}
	e.judging.stored.Store(&parsed)
}

// judgedUpTo is a snapshot of which all is judged, but by the lanes that are behind.
func (e *Engine) judgedUpTo() span.Snapshot {
	if stored := e.judging.stored.Load(); stored != nil {
		return *stored
	}
	return e.judging.start
}

// readJudged finds out where policies begin: where the tail's cursor stands; or, where that or the list of
// the lanes that are behind is gone, where the newest policy_cursor says; or where 0.1.0 has ended.
func (e *Engine) readJudged(ctx context.Context, since string) (ledger.Judged, error) {
	start, err := span.ParseSnapshot(since)
	if err != nil {
		return ledger.Judged{}, err
	}
	if !start.IsZero() {
		behind, isKnown, err := e.config.Ledger.LanesBehind(ctx)
		if err != nil || isKnown {
			return ledger.Judged{Snapshot: start, Behind: behind}, err
		}
	}
	last, err := e.config.Ledger.LastPolicyCursor(ctx)
	if err != nil || !last.Snapshot.IsZero() {
		return last, err
	}
	before, err := e.judgedBefore(ctx)
	if err == nil && !before.Snapshot.IsZero() && !start.IsZero() {
		before.Snapshot = start // which 0.1.0 has left; no lane of its was behind
	}
	return before, err
}

// refusedPolicy is a version that is not in force, and why.
type refusedPolicy struct {
	row   *span.Span // without its metadata
	fault error
}

// readVersions reads the policies that may judge a row from the transaction horizon on. Of those that are
// refused it returns some of each tenant.
func (e *Engine) readVersions(ctx context.Context, horizon uint64) (r *rules, refused []refusedPolicy,
	err error) {
	r = newRules()
	of := map[string]int{}
	for after := (span.Key{}); ; {
		page, err := e.config.Ledger.PolicyVersions(ctx, horizon, after, policiesPage)
		if err != nil || len(page) == 0 {
			return r, refused, err
		}
		for _, row := range page {
			fault := r.put(row)
			if fault == nil {
				continue
			}
			if of[row.TenantID]++; of[row.TenantID] <= refusedMax {
				row.Metadata = nil
				refused = append(refused, refusedPolicy{row, fault})
			}
		}
		after = page[len(page)-1].Key()
	}
}

// leadPolicies reads the policies, and from where on they are to judge. It returns those that go by time, and
// what the loop has to do.
func (e *Engine) leadPolicies(ctx context.Context, since string) (timed []span.ID, start func(),
	err error) {
	judged, err := e.readJudged(ctx, since)
	if err != nil {
		return nil, nil, fmt.Errorf("read up to where policies have judged: %w", err)
	}
	horizon := judged.Snapshot.Min()
	for _, snapshot := range judged.Behind {
		horizon = min(horizon, snapshot.Min())
	}
	policies, refused, err := e.readVersions(ctx, horizon)
	if err != nil {
		return nil, nil, err
	}
	var leader span.ID
	rand.Read(leader[:]) // never fails: crypto/rand
	if err := e.config.Ledger.StoreLanes(ctx, leader, judged.Behind, judged.Behind); err != nil {
		return nil, nil, err
	}
	return slices.Collect(maps.Keys(policies.timed)), func() {
		e.forgetArrivals()
		e.forgetBehind()
		e.judging.leader, e.judging.start = leader, judged.Snapshot
		e.judging.stored.Store(&judged.Snapshot)
		e.judging.isTouched, e.judging.told, e.judging.written = false, judged.Snapshot.String(), time.Now()
		e.policies = policies
		for _, one := range refused {
			e.policyFault(one.row, one.fault)
		}
		for key, snapshot := range judged.Behind {
			e.resume(key, snapshot)
		}
	}, nil
}

// keepPolicies looks after what policies have judged from time to time.
func (e *Engine) keepPolicies() {
	e.after(policiesEvery, func() {
		e.tendPolicies()
		e.keepPolicies()
	})
}

func (e *Engine) tendPolicies() {
	if e.isDeposed || e.draining || e.judging.leader.IsZero() {
		return
	}
	e.readPolicies()
	e.tendLanes()
	upTo := e.judgedUpTo()
	if upTo.String() != e.judging.seen.String() {
		e.judging.seen = upTo
		e.judging.cursors++
	}
	horizon := upTo.Min()
	for _, snapshot := range e.behind() {
		horizon = min(horizon, snapshot.Min())
	}
	e.policies.prune(horizon)
	if e.isCursorDue() && time.Since(e.judging.written) >= cursorEvery {
		e.writeCursor()
	}
}

// noteRow notes that something came which is worth a policy_cursor. The system's own bookkeeping is not, or
// an idle ledger would fill with it.
func (e *Engine) noteRow(row *span.Published) {
	if row.TenantID != "system" || !span.IsEngineType(row.EntityType) {
		e.judging.isTouched, e.judging.touched = true, e.judging.cursors
	}
}

// isCursorDue reports whether a policy_cursor would say more than the last one.
func (e *Engine) isCursorDue() bool {
	return e.judging.isTouched && e.judgedUpTo().String() != e.judging.told
}

func (e *Engine) writeCursor() {
	row, err := e.cursorSpan()
	if err != nil {
		e.config.Log.Error("policy_cursor not made", "error", err)
		return
	}
	e.judging.written = time.Now()
	e.submit(ledger.Group{Rows: []*span.Span{row}}, func(outcome ledger.Outcome) {
		if outcome.Err != nil {
			e.config.Log.Error("policy_cursor not recorded", "error", outcome.Err)
		}
	})
}

// cursorSpan is the policy_cursor of this moment.
func (e *Engine) cursorSpan() (*span.Span, error) {
	judged := ledger.Judged{Snapshot: e.judgedUpTo(), Behind: e.behind()}
	encoded, err := json.Marshal(map[string]any{"judged": judged})
	if err != nil {
		return nil, fmt.Errorf("encode the policy_cursor: %w", err)
	}
	// A row that came when this cursor, or the one before, stood may be after it.
	e.judging.isTouched = e.judging.touched+1 >= e.judging.cursors
	e.judging.told = judged.Snapshot.String()
	at := e.now()
	row := &span.Span{
		ID:         span.Derive("policy_cursor", at, []span.ID{e.judging.leader}, at.UnixNano()),
		EntityType: "policy_cursor", Who: "sidecar:" + e.config.Node, Did: new("judged"),
		This: new(ledger.PolicyCursorName), At: span.NewTime(at), OwnerID: "system", TenantID: "system",
		Visibility: "private", Status: new("complete"), Metadata: encoded,
	}
	return row, e.config.Seal(row, nil)
}

// AppendCursor appends a last policy_cursor after Run has returned, and after the tail has stored its last
// cursor.
func (e *Engine) AppendCursor(ctx context.Context) error {
	if e.isDeposed || e.judging.leader.IsZero() || !e.isCursorDue() {
		return nil
	}
	row, err := e.cursorSpan()
	if err != nil {
		return err
	}
	outcomes, err := e.config.Ledger.Append(ctx, []ledger.Group{{Rows: []*span.Span{row}}})
	if err == nil {
		err = outcomes[0].Err
	}
	if err != nil {
		return fmt.Errorf("append the last policy_cursor: %w", err)
	}
	return nil
}
