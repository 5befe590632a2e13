package stage0

import (
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rates keeps the manifest's rate_limits: boots of a kernel by one tenant within any minute. They live in
// the memory of the leader; a new one begins with none. It is safe for concurrent use.
type rates struct {
	mu    sync.Mutex
	lanes map[rateKey]*rateLane
}

type rateKey struct{ kernel, tenant string }

// rateLane holds the last boots, as many as a minute may have, the oldest first; some of them are to come.
type rateLane struct {
	boots  []time.Time
	booked map[span.ID]time.Time // by request
}

// take takes one boot of perMinute, and returns the zero time; or when there is one, and nothing is taken.
func (r *rates) take(key rateKey, perMinute int, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	lane := r.lane(key)
	if at := lane.next(perMinute, now); at.After(now) {
		return at
	}
	lane.push(perMinute, now)
	return time.Time{}
}

// book is take for a request that will come back: where there is no boot now, the next free one is its
// own, so that each waits once.
func (r *rates) book(key rateKey, perMinute int, now time.Time, request span.ID) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	lane := r.lane(key)
	if at, isBooked := lane.booked[request]; isBooked {
		if at.After(now) {
			return at
		}
		delete(lane.booked, request)
		return time.Time{}
	}
	at := lane.next(perMinute, now)
	lane.push(perMinute, at)
	if !at.After(now) {
		return time.Time{}
	}
	if len(lane.booked) >= guardsMax {
		clear(lane.booked)
	}
	lane.booked[request] = at
	return at
}

func (r *rates) lane(key rateKey) *rateLane {
	if r.lanes == nil || len(r.lanes) >= guardsMax {
		r.lanes = map[rateKey]*rateLane{}
	}
	lane := r.lanes[key]
	if lane == nil {
		lane = &rateLane{booked: map[span.ID]time.Time{}}
		r.lanes[key] = lane
	}
	return lane
}

// next is when a boot is free, now or later.
func (l *rateLane) next(perMinute int, now time.Time) time.Time {
	if len(l.boots) < perMinute {
		return now
	}
	if at := l.boots[len(l.boots)-perMinute].Add(time.Minute); at.After(now) {
		return at
	}
	return now
}

func (l *rateLane) push(perMinute int, at time.Time) {
	l.boots = append(l.boots, at)
	if len(l.boots) > 2*perMinute+16 {
		l.boots = append(l.boots[:0], l.boots[len(l.boots)-perMinute:]...)
	}
}

// overRate says that a tenant has booted a kernel as often as rate_limits lets it this minute, or nil. Of
// run_code, and of a kernel that a request calls, reserve asks, because a request can wait.
func (inv *invocation) overRate(kernel string, cause *span.Span) *span.RunError {
	perMinute, isLimited := inv.manifest.RateLimits[kernel]
	if !isLimited || kernel == "run_code" || inv.isCalled(kernel, cause) {
		return nil
	}
	s := inv.stage0
	at := s.rates.take(rateKey{kernel, cause.TenantID}, perMinute, s.now())
	if at.IsZero() {
		return nil
	}
	return refuse(span.RunDenied, "kernel %s runs %d times a minute for one tenant: try again at %s", kernel,
		perMinute, span.NewTime(at))
}
