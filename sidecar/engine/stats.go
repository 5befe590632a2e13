package engine

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/metrics"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Stats counts since the start. It is safe to read at any time.
type Stats struct {
	Rows, Boots, Executed, Commits, CommittedRows, FencesLost, Takeovers, Refused atomic.Int64
	Complete, Failed, Dead, Cancelled, Retried, Blocked                           atomic.Int64
	InFlight, Open                                                                atomic.Int64
	// Repeated are judgments of policies that had been made before: nothing of them was written.
	Repeated atomic.Int64
	// PassedOver counts requests that memory had no room for, Refills the pages that gave them again.
	PassedOver, Refills atomic.Int64
	// Schedules are in force. Ticks of functions were handed over; TicksMissed are not made up for, and of
	// TicksSkipped no kernel made anything.
	Schedules, Ticks, TicksMissed, TicksSkipped atomic.Int64
	// LanesBehind are those of policies that read the ledger, because they are slower than their spans come.
	LanesBehind atomic.Int64
	// HeldUp counts commits that gave their place up to wait for somebody else's open transaction.
	HeldUp atomic.Int64
	// ClockSteps are the jumps of the database's clock that were seen.
	ClockSteps atomic.Int64

	Latency, Run, CommitTime, CommitRows *metrics.Distribution
}

func newStats() Stats {
	return Stats{Latency: metrics.NewDurations(), Run: metrics.NewDurations(),
		CommitTime: metrics.NewDurations(),
		CommitRows: metrics.NewDistribution(1, 2, 3, 5, 10, 20, 50, 100, 200, 300, 400, 500)}
}

// ended counts the committed end of a request, or of one attempt.
func (s *Stats) ended(status string) {
	switch status {
	case "complete":
		s.Complete.Add(1)
	case "error":
		s.Failed.Add(1)
	case "dead":
		s.Dead.Add(1)
	case "cancelled":
		s.Cancelled.Add(1)
	case "retry":
		s.Retried.Add(1)
	case "blocked":
		s.Blocked.Add(1)
	}
}

// took counts how long a request took whose execution is committed at now, by the database's clock.
func (s *Stats) took(request *span.Span, now time.Time) {
	if from := causedAt(request); !from.IsZero() {
		s.Latency.Took(now.Sub(from))
	}
}

// causedAt is when the cause of a request was accepted, to the millisecond where the request is derived; or
// when it was due, where that was later. The zero time where that is not known.
func causedAt(request *span.Span) time.Time {
	var at time.Time
	switch {
	case request.ID.Version() == 8: // its id begins with that moment (span.Derive)
		at = request.ID.Time()
	case request.AcceptedAt != nil && request.Seq == 0:
		at = request.AcceptedAt.Time
	}
	if due := request.ScheduledAt; due != nil && due.After(at) {
		at = due.Time
	}
	return at
}

// TenantDepth is what waits of one tenant.
type TenantDepth struct {
	Tenant string
	Queued int
	Oldest time.Duration
}

// Depths is what waits in the engine at one moment.
type Depths struct {
	Undisposed, Queued, Waiting int
	Oldest                      time.Duration // of the queued requests; 0 where there is none
	Tenants                     []TenantDepth // those with most, the first with the most

	Lanes, LaneSpans int // policies' lanes with something waiting, and what
	LaneOldest       time.Duration
}

// Depths looks at what waits, and names at most tenantsMax tenants. The loop answers it: the error is that of
// ctx, where it does not in time.
func (e *Engine) Depths(ctx context.Context, tenantsMax int) (Depths, error) {
	var d Depths
	err := e.tell(ctx, func() { d = e.depths(tenantsMax) })
	if err != nil {
		return Depths{}, err
	}
	return d, nil
}

func (e *Engine) depths(tenantsMax int) Depths {
	now := e.now()
	d := Depths{Undisposed: len(e.slots), Waiting: e.due.len()}
	byTenant := map[string]*TenantDepth{}
	for _, queue := range []*fair{e.ready, e.outward} {
		queue.each(func(r *request) {
			d.Queued++
			of := byTenant[r.span.TenantID]
			if of == nil {
				of = &TenantDepth{Tenant: r.span.TenantID}
				byTenant[r.span.TenantID] = of
			}
			of.Queued++
			if at := causedAt(r.span); !at.IsZero() {
				of.Oldest = max(of.Oldest, now.Sub(at))
			}
		})
	}
	for _, of := range byTenant {
		d.Oldest = max(d.Oldest, of.Oldest)
		d.Tenants = append(d.Tenants, *of)
	}
	slices.SortFunc(d.Tenants, func(a, b TenantDepth) int {
		return cmp.Or(b.Queued-a.Queued, cmp.Compare(a.Tenant, b.Tenant))
	})
	d.Tenants = d.Tenants[:min(len(d.Tenants), tenantsMax)]
	for _, l := range e.lanes {
		if l.places == nil || len(l.waiting) == 0 {
			continue
		}
		d.Lanes++
		d.LaneSpans += len(l.waiting)
		if row := l.waiting[0].row; row != nil {
			d.LaneOldest = max(d.LaneOldest, now.Sub(row.AcceptedAt.Time))
		}
	}
	return d
}
