package engine

import (
	"context"
	"slices"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Many requests may be open at once, of up to 1 MiB each. Those that wait keep in memory what queuedBytesMax
// says; of the others the large columns are read again when their turn has come.

// bodyBytes is what the large columns of a request have.
func bodyBytes(s *span.Span) int {
	bytes := len(s.Input) + len(s.Output) + len(s.Content) + len(s.Metadata) + len(s.Links) + len(s.Error)
	if s.Code != nil {
		bytes += len(*s.Code)
	}
	return bytes
}

// slim is a copy without the large columns. No version is made of it.
func slim(s *span.Span) *span.Span {
	slimmed := *s
	slimmed.Input, slimmed.Output, slimmed.Content, slimmed.Metadata = nil, nil, nil, nil
	slimmed.Links, slimmed.Error, slimmed.Code = nil, nil, nil
	return &slimmed
}

// readBodies reads what batch has let go of, and returns the others. Who is read keeps its place in flight.
func (e *Engine) readBodies(batch []*request) []*request {
	var wanting []*request
	var ids []span.ID
	batch = slices.DeleteFunc(batch, func(r *request) bool {
		if r.isSlim {
			r.phase = reading
			e.inFlight[r.id] = r
			wanting, ids = append(wanting, r), append(ids, r.id)
		}
		return r.isSlim
	})
	if len(wanting) > 0 {
		e.start(func(ctx context.Context) {
			found, err := e.config.Ledger.Requests(ctx, ids)
			e.do(func() { e.bodiesRead(wanting, found, err) })
		})
	}
	return batch
}

// bodiesRead queues requests whose bodies are there: they are the next to run.
func (e *Engine) bodiesRead(batch []*request, found map[span.ID]*span.Span, err error) {
	if err != nil {
		e.config.Log.Warn("requests not read, trying again", "error", err)
	}
	for _, r := range batch {
		delete(e.inFlight, r.id)
		row := found[r.id]
		switch {
		case e.isDeposed:
			e.remove(r)
		case err != nil, row == nil, row.Seq < r.span.Seq: // or committed, and not visible yet
			e.after(backoffMin, func() {
				if e.open[r.id] == r && r.phase == reading {
					r.phase = queued
					e.queueOf(r).pushFirst(r)
				}
			})
		case row.Seq > r.span.Seq: // somebody else has moved it on
			r.isSlim, r.isMarked = false, false
			e.loading.push(r)
		default:
			r.span, r.isSlim, r.phase = row, false, queued
			e.queueOf(r).pushFirst(r)
		}
	}
}
