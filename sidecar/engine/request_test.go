package engine

import (
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Whoever reads that a request is dead, and sends it again, may be quicker than the word that the end was
// committed.
func TestARequestSentAgainBeforeItsEndIsKnownIsRead(t *testing.T) {
	t.Parallel()
	id := span.MustID("a0000000-0000-4000-9000-000000000001")
	e := &Engine{open: map[span.ID]*request{}, inFlight: map[span.ID]*request{}, own: map[span.Key]bool{},
		memory: newMemory()}
	r := &request{id: id, kernel: "request_worker", phase: committing, span: &span.Span{ID: id, Seq: 3}}
	e.open[id], e.inFlight[id] = r, r
	e.admitRow(&span.Published{ID: id, Seq: 5, EntityType: "request", Status: new("scheduled")}, r.kernel)
	dead := ledger.Group{Fence: &span.Span{ID: id, Seq: 4, Status: new("dead")}}
	e.finished(r, dead, ledger.Outcome{Won: true})
	again := e.open[id]
	if again == nil || again == r || again.seqSeen != 5 || again.kernel != r.kernel || e.loading.n != 1 {
		t.Errorf("open %+v, %d to be read: want version 5 to be read", again, e.loading.n)
	}
	if e.inFlight[id] != nil {
		t.Error("the run that is over still holds a place")
	}
}
