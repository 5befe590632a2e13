package engine

import (
	"context"

	"github.com/loglineos/loglineos/sidecar/span"
)

// policiesRead is how many versions of policies, of 256 KiB at most, are read at once.
const policiesRead = 100

// heldRow is a row that waits because a version of a policy is being read: the rows after that are judged
// by it.
type heldRow struct {
	arrival
	body   *span.Span // of a policy
	isRead bool
}

// arrive takes a row from the tail, in order.
func (e *Engine) arrive(row *span.Published, done func()) {
	e.config.Ledger.Grew(1)
	isPolicy := row.EntityType == "policy" && !e.judging.start.Sees(row.Xact)
	if !isPolicy && len(e.judging.arrivals) == 0 {
		e.route(row, done)
		return
	}
	e.judging.arrivals = append(e.judging.arrivals, &heldRow{arrival: arrival{row, done}, isRead: !isPolicy})
	e.readPolicies()
}

// readPolicies reads the versions of policies that have arrived, many at once.
func (e *Engine) readPolicies() {
	if e.judging.isReading || e.draining || e.isDeposed {
		return
	}
	var wanted []*heldRow
	var keys []span.Key
	for _, a := range e.judging.arrivals {
		if len(wanted) < policiesRead && !a.isRead {
			wanted, keys = append(wanted, a), append(keys, a.row.Key())
		}
	}
	if len(wanted) == 0 {
		return
	}
	e.judging.isReading = true
	e.start(func(ctx context.Context) {
		found, err := e.config.Ledger.LoadPolicies(ctx, keys)
		e.do(func() {
			if err != nil {
				e.config.Log.Warn("versions of policies not read, trying again", "error", err)
				e.after(backoffMin, func() {
					e.judging.isReading = false
					e.readPolicies()
				})
				return
			}
			e.judging.isReading = false
			for _, a := range wanted {
				a.body, a.isRead = found[a.row.Key()], true
			}
			e.passArrivals()
			e.readPolicies()
		})
	})
}

// passArrivals routes the rows before which nothing is left to read.
func (e *Engine) passArrivals() {
	n := 0
	for _, a := range e.judging.arrivals {
		if !a.isRead {
			break
		}
		n++
		e.setPolicy(a.body)
		e.route(a.row, a.done)
	}
	e.judging.arrivals = append([]*heldRow(nil), e.judging.arrivals[n:]...)
}

// forgetArrivals disposes of them: the tail brings them again, to whoever leads.
func (e *Engine) forgetArrivals() {
	for _, a := range e.judging.arrivals {
		<-e.slots
		a.done()
	}
	e.judging.arrivals = nil
}
