package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of time-driven policies.
const (
	tickLane     = "policy_agent by time"
	tickBatchMax = 16              // ticks per run of the kernel
	tickSettle   = 5 * time.Second // after the boundary: what began before it has been committed, mostly
	subjectsMax  = 10_000          // of one policy's tick
	roundsMax    = 200             // turns of one tick
	subjectsPer  = 1000            // of one tenant
	timersMax    = 100             // time-driven policies of one tenant
	timersPer    = 25              // and of one owner in it
	subjectTries = 3               // to find whom a tick is about
)

// ticks is the state of what time brings: one question to the ledger at once.
type ticks struct {
	alarm  *alarm
	isBusy bool
	queue  []dueTick
}

// dueTick is a boundary that a policy is to be judged for.
type dueTick struct {
	policy   *policy
	from, to time.Time
	isFill   bool // it was missed, or one before it: nobody led, or the one before took too long
	missed   int  // boundaries before it that are passed over
	tries    int
}

// timing says when a policy is judged.
type timing struct {
	every  time.Duration // a minute, an hour, a day
	at     time.Duration // of a day: after midnight, UTC
	name   string        // of every, as the policy states it
	per    string        // tenant or owner
	window string        // at, ttl_at or none: which spans make a subject
	fill   fill          // what becomes of boundaries that nobody judged
}

// readTiming reads metadata of a policy; nil where it is not time-driven.
func readTiming(raw json.RawMessage, when span.When, isOfSystem bool) (*timing, error) {
	var stated struct {
		Every, At, Per, Window, Fill string
		FillMax                      *int `json:"fill_max"`
	}
	if raw == nil {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &stated); err != nil {
		return nil, fmt.Errorf("decode every, at, per, window, fill and fill_max: %w", err)
	}
	if stated.Every == "" {
		return nil, nil
	}
	t := &timing{name: stated.Every, per: stated.Per, window: stated.Window}
	switch stated.Every {
	case "minute":
		t.every = time.Minute
	case "hour":
		t.every = time.Hour
	case "day":
		t.every = 24 * time.Hour
	default:
		return nil, fmt.Errorf("every is %.40q: want minute, hour or day", stated.Every)
	}
	if stated.At != "" {
		at, err := time.Parse("15:04", stated.At)
		if stated.Every != "day" {
			return nil, fmt.Errorf("at is for every day, not for every %s: leave it out", stated.Every)
		}
		if err != nil {
			return nil, fmt.Errorf("at is %.40q: want a time such as 02:00 (UTC), of every day", stated.At)
		}
		t.at = time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	}
	var err error
	if t.fill, err = readFill(fillLast, stated.Fill, stated.FillMax); err != nil {
		return nil, err
	}
	if t.per == "" {
		t.per = "tenant"
	}
	if t.window == "" {
		t.window = "at"
	}
	switch {
	case t.per != "tenant" && t.per != "owner":
		return nil, fmt.Errorf("per is %.40q: want tenant or owner", t.per)
	case t.window != "at" && t.window != "ttl_at" && t.window != "none":
		return nil, fmt.Errorf("window is %.40q: want at, ttl_at or none", t.window)
	case isOfSystem && (when.Names("entity_type") == nil || !when.NamesOnly("entity_type", "status")):
		return nil, fmt.Errorf("when: a time-driven policy of the system names entity_type, and may name status")
	}
	return t, nil
}

// last is the newest boundary that is not after now.
func (t *timing) last(now time.Time) time.Time {
	return now.UTC().Add(-t.at).Truncate(t.every).Add(t.at)
}

// armTicks sees to it that the ledger's time-driven policies are looked at after each full minute of the
// database's clock.
func (e *Engine) armTicks() {
	if e.ticks.alarm.isSet || len(e.policies.timed) == 0 {
		return
	}
	e.ticks.alarm.set(e.now().Add(-tickSettle).Truncate(time.Minute).Add(time.Minute + tickSettle))
}

// tickAt queues what is due at this moment of the database's clock.
func (e *Engine) tickAt(now time.Time) {
	if e.isDeposed || e.draining {
		return
	}
	for _, p := range e.policies.timed {
		to := p.timing.last(now.Add(-tickSettle))
		if !to.After(p.judged) || p.open > 0 {
			continue
		}
		e.queueTicks(p, to, now)
	}
	e.askSubjects()
}

// queueTicks queues the boundaries up to one, as many as the policy is to make up for, in order.
func (e *Engine) queueTicks(p *policy, to, now time.Time) {
	count, judged := int(to.Sub(p.judged)/p.timing.every), 1
	switch {
	case p.timing.fill.rule == fillAll:
		judged = min(count, p.timing.fill.most)
	case p.timing.fill.rule == fillNone && now.Sub(to) > tickSettle+tickLate:
		judged = 0
	}
	missed := 0
	if p.isNoted { // else they may have been judged by somebody
		missed = count - judged
	}
	if missed > 0 {
		last := to.Add(-time.Duration(judged) * p.timing.every)
		e.tellTicks(p, last, missed, fmt.Sprintf("%d boundaries up to %s are passed over: nobody was there, or "+
			"the one before took too long; fill is %s", missed, span.NewTime(last), p.timing.fill.rule))
	}
	for n := judged - 1; n >= 0; n-- {
		at := to.Add(-time.Duration(n) * p.timing.every)
		e.ticks.queue = append(e.ticks.queue,
			dueTick{policy: p, from: at.Add(-p.timing.every), to: at, isFill: count > 1, missed: missed})
		p.open++
		missed = 0
	}
	p.judged = to
}

// tickEnded notes that a policy has one tick less to judge.
func (e *Engine) tickEnded(p *policy) {
	p.open--
	if p.open == 0 && !e.isDeposed && e.policies.byID[p.id] == p {
		p.isNoted = true
		e.keepTick(p.id, p.judged)
	}
}

// resumeTicks goes on where a sidecar before has noted that it was.
func (e *Engine) resumeTicks(last map[span.ID]time.Time) {
	now := e.now()
	for _, p := range e.policies.timed {
		if at, isNoted := last[p.id]; isNoted {
			p.isNoted = true
			if at = p.timing.last(minTime(at, now)); at.After(p.judged) {
				p.judged = at
			}
		}
	}
}

// tellTicks tells the owner of a policy that it is not judged for all that it should be: one policy_error.
func (e *Engine) tellTicks(p *policy, at time.Time, missed int, fault string) {
	e.stats.TicksMissed.Add(int64(missed))
	e.config.Log.Warn("a time-driven policy is passed over", "policy", p.id.String(), "to", at, "boundaries",
		missed, "why", fault)
	failure, err := json.Marshal(&span.RunError{Code: span.RunTimeout, Message: fault})
	var metadata json.RawMessage
	if err == nil {
		metadata, err = span.SetEngine(nil, span.EngineMeta{Cause: span.Key{ID: p.id, Seq: p.seq}, Root: p.id,
			Depth: 1, Kind: "policy_error"})
	}
	report := &span.Span{
		ID:         span.Derive("policy_error:ticks", at, []span.ID{p.id}, int64(p.seq)),
		EntityType: "policy_error", Who: "sidecar:" + e.config.Node, Did: new("failed"), This: new("policy.ticks"),
		At: span.NewTime(at), OwnerID: p.owner, TenantID: p.tenant, Visibility: "private",
		Status: new("error"), ParentID: &p.id, PolicyID: &p.id, RelatedTo: []span.ID{p.id}, Error: failure,
		Metadata: metadata,
	}
	if err == nil {
		err = e.config.Seal(report, nil)
	}
	if err != nil {
		e.config.Log.Error("policy_error not recorded", "policy", p.id.String(), "error", err)
		return
	}
	e.submit(ledger.Group{Rows: []*span.Span{report}}, func(outcome ledger.Outcome) {
		if outcome.Err != nil {
			e.config.Log.Error("policy_error not recorded", "policy", p.id.String(), "error", outcome.Err)
		}
	})
}

// askSubjects finds whom the next tick of the queue is about.
func (e *Engine) askSubjects() {
	for !e.ticks.isBusy && len(e.ticks.queue) > 0 {
		due := e.ticks.queue[0]
		e.ticks.queue = e.ticks.queue[1:]
		if e.ticks.isBusy = due.policy.isOfSystem(); !e.ticks.isBusy { // a user's is about himself
			e.judgeTick(due, []ledger.Subject{{TenantID: due.policy.tenant, OwnerID: due.policy.owner}})
			e.tickEnded(due.policy)
		} else {
			e.searchSubjects(due)
		}
	}
}

// searchSubjects asks the ledger for the subjects of a policy of the system.
func (e *Engine) searchSubjects(due dueTick) {
	e.start(func(ctx context.Context) {
		subjects, err := e.config.Ledger.Subjects(ctx, due.search())
		e.do(func() {
			e.ticks.isBusy = false
			e.subjectsFound(due, subjects, err)
			e.askSubjects()
		})
	})
}

// subjectsFound judges a tick for those that it is about. Where they are not known it asks again.
func (e *Engine) subjectsFound(due dueTick, subjects []ledger.Subject, err error) {
	p := due.policy
	due.tries++
	switch {
	case err != nil && due.tries < subjectTries:
		e.config.Log.Warn("whom a tick is about is not known, trying again", "policy", p.id.String(), "error", err)
		e.after(backoffMax, func() {
			if e.policies.byID[p.id] == p && !e.isDeposed {
				e.ticks.queue = append(e.ticks.queue, due)
				e.askSubjects()
			}
		})
		return
	case err != nil:
		e.tellTicks(p, due.to, 1, fmt.Sprintf("whom the boundary is about is not known: %s", err))
	case len(subjects) == subjectsMax:
		e.tellTicks(p, due.to, 0, fmt.Sprintf("the boundary is about more than %d, and judged for so many",
			subjectsMax))
	}
	e.judgeTick(due, subjects)
	e.tickEnded(p)
}

// judgeTick queues one item for each subject.
func (e *Engine) judgeTick(due dueTick, subjects []ledger.Subject) {
	for _, subject := range subjects {
		e.addTick(due, subject, 0)
	}
}

func (e *Engine) addTick(due dueTick, subject ledger.Subject, round int) {
	p := due.policy
	if e.isDeposed || e.policies.byID[p.id] != p { // the next version has its own ticks
		return
	}
	s := p.tickSpan(due.to, subject, round)
	s.Who = "sidecar:" + e.config.Node
	limit := 0
	if manifest := e.config.Manifest(); manifest != nil {
		limit = manifest.Limits.Spans
	}
	tick := due.told(round, limit)
	p.open++
	row := &span.Published{ID: s.ID, Seq: s.Seq, EntityType: s.EntityType, OwnerID: s.OwnerID,
		TenantID: s.TenantID, Visibility: s.Visibility, At: s.At, AcceptedAt: s.At}
	e.queue(e.policyLane(tickLane, subject.TenantID, p), &item{row: row, span: s, matches: []*policy{p},
		tick: tick, round: round, left: newCount(1),
		again: func(next int) { e.addTick(due, subject, next) }, done: func() { e.tickEnded(p) }})
}

// told is what the policy's code sees of its tick, as ctx.input.tick.
func (d dueTick) told(round, limit int) json.RawMessage {
	told := map[string]any{"every": d.policy.timing.name, "from": span.NewTime(d.from), "to": span.NewTime(d.to),
		"round": round, "limit": limit}
	if d.missed > 0 {
		told["missed"] = d.missed
	}
	tick, err := json.Marshal(told)
	if err != nil {
		panic(err) // of texts and numbers: never
	}
	return tick
}

// search asks for the subjects of a policy of the system.
func (d dueTick) search() ledger.SubjectSearch {
	return ledger.SubjectSearch{Types: d.policy.when.Names("entity_type"),
		Statuses: d.policy.when.Names("status"), PerOwner: d.policy.timing.per == "owner",
		Window: d.policy.timing.window, From: d.from, To: d.to, Limit: subjectsMax, TenantLimit: subjectsPer,
		// What came due while nobody looked, or was written when it was due already, is found once an hour.
		IsOpenEnded: d.isFill || d.to.Equal(d.to.Truncate(time.Hour))}
}

// tickSpan is what p is shown when its time has come: no span of the ledger. Its id is derived, so what p
// appends for it has the same ids whoever judges it.
func (p *policy) tickSpan(to time.Time, subject ledger.Subject, round int) *span.Span {
	sum := sha256.Sum256([]byte(subject.TenantID + "\x00" + subject.OwnerID))
	at := span.NewTime(to)
	s := &span.Span{
		ID:  span.Derive("tick", to, []span.ID{p.id, span.ID(sum[:16])}, int64(p.seq), int64(round)),
		Seq: p.seq, EntityType: "tick", Who: "sidecar", At: at, AcceptedAt: &at, OwnerID: subject.OwnerID,
		TenantID: subject.TenantID, Visibility: "private", PolicyID: &p.id,
	}
	switch {
	case !p.isOfSystem():
		if s.Visibility = p.visibility; s.Visibility == "public" {
			s.Visibility = "tenant"
		}
	case p.timing.per == "tenant":
		s.OwnerID, s.Visibility = "system", "tenant"
	}
	return s
}

// nextRound judges a tick once more, as its policy asks.
func (e *Engine) nextRound(it *item) {
	if it.again == nil || it.round+1 >= roundsMax || e.draining {
		return
	}
	it.again(it.round + 1)
}
