package stage0

import (
	"slices"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rates keeps the manifest's rate_limits: boots of a kernel by one tenant within any minute. They live in
// the memory of the leader; a new one recalls the runs of the last minute from the ledger, but no bookings:
// what had one asks again at its time. It is safe for concurrent use.
type rates struct {
	recalls[rateKey]
	mu    sync.Mutex
	lanes map[rateKey]*rateLane
}

type rateKey struct{ kernel, tenant string }

// bookedMax is how many boots one owner may have booked ahead, where a minute has more of them.
const bookedMax = 1000

// bookingRest is how long after its time a booking waits for its request.
const bookingRest = 10 * time.Minute

// rateLane holds the boots of one tenant and kernel.
type rateLane struct {
	minute
	perMinute int
	owners    map[string]*rateOwner
	freed     []time.Time // booked moments that were given back, in no order
}

// rateOwner holds what one owner's requests wait for.
type rateOwner struct {
	booked map[span.ID]time.Time // by request
	told   map[span.ID]time.Time // when the requests ask again that have booked nothing
	after  minute                // of told
}

// minute holds the last boots, as many as a minute may have, the oldest first; some of them are to come.
type minute struct{ boots []time.Time }

// forget drops all: somebody else may have led meanwhile.
func (r *rates) forget() {
	r.mu.Lock()
	r.lanes = nil
	r.mu.Unlock()
	r.recalls.forget()
}

// recall takes the boots that the ledger tells of, the oldest first.
func (r *rates) recall(key rateKey, perMinute int, starts []time.Time, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lane := r.lane(key, perMinute, now)
	for _, at := range starts {
		lane.push(perMinute, at)
	}
	slices.SortFunc(lane.boots, time.Time.Compare)
}

// take takes one boot of perMinute, and returns the zero time; or when there is one, and nothing is taken.
func (r *rates) take(key rateKey, perMinute int, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	lane := r.lane(key, perMinute, now)
	if at := lane.next(perMinute, now); at.After(now) {
		return at
	}
	lane.push(perMinute, now)
	return time.Time{}
}

// book is take for a request that will come back: where there is no boot now, the next free one is its own.
// An owner books as many as a minute has; his further requests ask again one after the other behind those, so
// that a mate who comes later waits a minute for him, and not for all that he has asked for.
func (r *rates) book(key rateKey, perMinute int, now time.Time, request *span.Span) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	lane := r.lane(key, perMinute, now)
	owner := lane.owner(request.OwnerID)
	if at, isTold := owner.told[request.ID]; isTold && at.After(now) {
		return at
	}
	delete(owner.told, request.ID)
	if at, isBooked := owner.booked[request.ID]; isBooked {
		if at.After(now) {
			return at
		}
		delete(owner.booked, request.ID)
		return time.Time{}
	}
	at, last := lane.claim(perMinute, now), now
	if !at.After(now) {
		lane.push(perMinute, now)
		return time.Time{}
	}
	ahead := 0
	for id, booked := range owner.booked {
		switch {
		case booked.After(now):
			ahead++
			last = later(last, booked)
		case now.Sub(booked) > bookingRest: // its request went another way
			delete(owner.booked, id)
		}
	}
	if ahead >= min(perMinute, bookedMax) {
		at = later(owner.after.next(perMinute, last), last.Add(time.Minute))
		owner.after.push(perMinute, at)
		if len(owner.told) >= guardsMax {
			clear(owner.told)
		}
		owner.told[request.ID] = at
		return at
	}
	if !lane.reuse(at) {
		lane.push(perMinute, at)
	}
	owner.booked[request.ID] = at
	return at
}

// release gives back what a request has booked: it will not come.
func (r *rates) release(request *span.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, lane := range r.lanes {
		if key.tenant != request.TenantID || lane.owners[request.OwnerID] == nil {
			continue
		}
		owner := lane.owners[request.OwnerID]
		delete(owner.told, request.ID)
		if at, isBooked := owner.booked[request.ID]; isBooked {
			delete(owner.booked, request.ID)
			lane.freed = append(lane.freed, at)
		}
	}
}

// lane returns the boots of key. Where the limit is another one than before, nothing is booked.
func (r *rates) lane(key rateKey, perMinute int, now time.Time) *rateLane {
	if r.lanes == nil || len(r.lanes) >= guardsMax {
		r.lanes = map[rateKey]*rateLane{}
	}
	lane := r.lanes[key]
	if lane == nil {
		lane = &rateLane{perMinute: perMinute, owners: map[string]*rateOwner{}}
		r.lanes[key] = lane
	}
	if lane.perMinute != perMinute {
		lane.boots = slices.DeleteFunc(lane.boots, func(at time.Time) bool { return at.After(now) })
		lane.perMinute, lane.freed = perMinute, nil
		clear(lane.owners)
	}
	return lane
}

func (l *rateLane) owner(name string) *rateOwner {
	owner := l.owners[name]
	if owner == nil {
		if len(l.owners) >= guardsMax {
			clear(l.owners)
		}
		owner = &rateOwner{booked: map[span.ID]time.Time{}, told: map[span.ID]time.Time{}}
		l.owners[name] = owner
	}
	return owner
}

// claim is when a boot is free that may be booked: one that was given back, or the next one.
func (l *rateLane) claim(perMinute int, now time.Time) time.Time {
	at := l.next(perMinute, now)
	l.freed = slices.DeleteFunc(l.freed, func(free time.Time) bool { return !free.After(now) })
	for _, free := range l.freed {
		if free.Before(at) {
			at = free
		}
	}
	return at
}

// reuse takes a boot that was given back.
func (l *rateLane) reuse(at time.Time) bool {
	i := slices.Index(l.freed, at)
	if i < 0 {
		return false
	}
	l.freed = slices.Delete(l.freed, i, i+1)
	return true
}

// next is when a boot is free, now or later.
func (m *minute) next(perMinute int, now time.Time) time.Time {
	if len(m.boots) < perMinute {
		return now
	}
	return later(now, m.boots[len(m.boots)-perMinute].Add(time.Minute))
}

func (m *minute) push(perMinute int, at time.Time) {
	m.boots = append(m.boots, at)
	if len(m.boots) > 2*perMinute+16 {
		m.boots = append(m.boots[:0], m.boots[len(m.boots)-perMinute:]...)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
