package stage0

import (
	"context"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// quotas count executions against throttle of the manifest, by tenant and user and UTC day.
//
// The ledger is the truth: an execution that counts says so in metadata.run.quota. The leader, who alone
// runs requests, counts in memory, from what the ledger says at the first use of a tenant and day. A run is
// counted before it starts; one whose end another sidecar has written is counted no more. What is cancelled
// meanwhile stays counted, and leaves an execution (Cancelled).
// It is safe for concurrent use.
type quotas struct {
	ledger *ledger.Ledger

	mu      sync.Mutex
	days    map[quotaKey]*quotaDay
	pending map[span.ID]*reservation // by request: counted, and not yet in the ledger
	forced  map[span.Key]span.ID     // versions of functions, and the request that runs by their force
}

type quotaKey struct{ tenant, day string }

type quotaDay struct {
	ready chan struct{} // closed when the counts, or err, are there
	err   error
	used  ledger.Used
}

// reservation is one execution that counts.
type reservation struct {
	key    quotaKey // zero where an earlier attempt of the request has been counted
	user   string   // "" where the run counts for its tenant alone
	isOver bool     // settled, and isKept says how
	isKept bool
	forced *forcedRecord
	begun
}

// begun is what is known of a run that has a reservation.
type begun struct {
	cause  *span.Span // the attempt, as it was handed over
	at     time.Time
	record runRecord
	isLost bool // its sidecar is gone: it counts, and no more is known of it
}

// quotaRecord is metadata.run.quota: the execution counts on that day.
type quotaRecord struct {
	Day     string `json:"day"`
	PerUser bool   `json:"per_user"`
}

// forcedRecord is metadata.run.forced: the run was over a limit, and the key that signed for it.
type forcedRecord struct {
	KeyID string `json:"key_id"`
}

func newQuotas(l *ledger.Ledger) *quotas {
	return &quotas{ledger: l, days: map[quotaKey]*quotaDay{}, pending: map[span.ID]*reservation{},
		forced: map[span.Key]span.ID{}}
}

// forget drops all counts: somebody else may have led meanwhile. What is under way stays counted.
func (q *quotas) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.days)
	clear(q.forced)
}

// settle takes the end of a request's run: isKept says that its execution is in the ledger.
func (q *quotas) settle(request span.ID, isKept bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.pending[request]
	if r == nil {
		return
	}
	delete(q.pending, request)
	r.isOver, r.isKept = true, isKept
	if !isKept {
		if day := q.days[r.key]; day != nil && day.used.Users != nil {
			day.add(r, -1)
		}
		for function, by := range q.forced {
			if by == request {
				delete(q.forced, function)
			}
		}
	}
}

// day returns the counts of key, read from the ledger at the first use.
func (q *quotas) day(ctx context.Context, key quotaKey, begin time.Time) (*quotaDay, error) {
	q.mu.Lock()
	day := q.days[key]
	if day == nil {
		day = &quotaDay{ready: make(chan struct{})}
		for old := range q.days {
			if old.day < key.day {
				delete(q.days, old)
			}
		}
		q.days[key] = day
		var pending []*reservation
		var except []span.ID
		for request, r := range q.pending {
			if r.key == key {
				pending, except = append(pending, r), append(except, request)
			}
		}
		// It outlives its first user, because others wait for it; the pool's statement timeout bounds it.
		go q.fill(context.WithoutCancel(ctx), day, key, begin, pending, except)
	}
	q.mu.Unlock()
	select {
	case <-day.ready:
		return day, day.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *quotas) fill(ctx context.Context, day *quotaDay, key quotaKey, begin time.Time,
	pending []*reservation, except []span.ID) {
	used, err := q.ledger.UsedQuota(ctx, key.tenant, begin, key.day, except)
	q.mu.Lock()
	defer q.mu.Unlock()
	defer close(day.ready)
	if err != nil {
		if day.err = err; q.days[key] == day {
			delete(q.days, key)
		}
		return
	}
	day.used = *used
	for _, r := range pending { // left out of the query; some may have ended meanwhile
		if !r.isOver || r.isKept {
			day.add(r, 1)
		}
	}
}

// add counts r, by +1 or -1.
func (d *quotaDay) add(r *reservation, by int) {
	d.used.Tenant += by
	if r.user != "" {
		d.used.Users[r.user] += by
	}
}

// take counts r, unless a limit is reached: then it returns that one, and nothing is counted but where
// isForced.
func (q *quotas) take(ctx context.Context, request span.ID, r *reservation, begin time.Time,
	limits span.Throttle, isForced bool) (*overLimit, error) {
	for {
		day, err := q.day(ctx, r.key, begin)
		if err != nil {
			return nil, err
		}
		q.mu.Lock()
		if q.days[r.key] != day { // forgotten meanwhile
			q.mu.Unlock()
			continue
		}
		over := day.over(r.user, limits)
		if over == nil || isForced {
			q.pending[request] = r
			day.add(r, 1)
		}
		q.mu.Unlock()
		return over, nil
	}
}

// overLimit is a daily limit that is reached.
type overLimit struct {
	reason       string // tenant, user
	limit, today int
}

func (d *quotaDay) over(user string, limits span.Throttle) *overLimit {
	if d.used.Tenant >= limits.PerTenantDailyExecLimit {
		return &overLimit{"tenant", limits.PerTenantDailyExecLimit, d.used.Tenant}
	}
	if user != "" && d.used.Users[user] >= limits.PerUserDailyExecLimit {
		return &overLimit{"user", limits.PerUserDailyExecLimit, d.used.Users[user]}
	}
	return nil
}

// held returns what a request has reserved and not yet used, or nil.
func (q *quotas) held(request span.ID) *reservation {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pending[request]
}

// run returns what is known of a request's run; its cause is nil where none has begun.
func (q *quotas) run(request span.ID) (*reservation, begun) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.pending[request]
	if r == nil {
		return nil, begun{}
	}
	return r, r.begun
}

// keep lets a request run whose earlier attempt has been counted.
func (q *quotas) keep(request span.ID) *reservation {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := &reservation{}
	q.pending[request] = r
	return r
}

// begin notes which run uses r.
func (q *quotas) begin(r *reservation, run begun) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.begun = run
}

// note adds what runs now to what a request has reserved.
func (q *quotas) note(request span.ID, record runRecord) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.pending[request]; r != nil {
		record.Kernels = r.record.Kernels
		r.record = record
	}
}

// claimForce lets one request at a time run by the force of a version.
func (q *quotas) claimForce(function span.Key, request span.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if by, taken := q.forced[function]; taken {
		return by == request
	}
	q.forced[function] = request
	return true
}
