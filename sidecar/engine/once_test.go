package engine

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// emits is a policy kernel whose policies emit so many spans for each span, as its host derives them: a part
// for each policy, behind its fence.
func (b *bench) emits(spans int) func(context.Context, Job) error {
	return func(_ context.Context, job Job) error {
		for _, m := range matchesIn(b.t, job) {
			group, err := emission(m.policy, m.cause, spans)
			if err != nil {
				return err
			}
			job.Emit(m.cause.Key(), ledger.Group{Parts: []ledger.Group{group}}, nil)
		}
		return nil
	}
}

func emission(policy span.Key, cause *span.Span, spans int) (ledger.Group, error) {
	var rows []*span.Span
	for i := range spans {
		s := derived("policy", cause, span.Emission(policy.ID, cause.Key(), cause.AcceptedAt.Time, i))
		s.EntityType, s.PolicyID, s.Name = "alert", &policy.ID, new(fmt.Sprintf("%d by %d", i, policy.Seq))
		rows = append(rows, s)
	}
	group := ledger.Group{Fence: rows[0], Rows: rows[1:]}
	return group, group.Seal((*span.Span).Seal)
}

// alerts are the names of what policies have emitted for a span, in order.
func (b *bench) alerts(cause span.ID) (names []string) {
	b.t.Helper()
	rows, err := b.connect().Query(b.t.Context(), `select name from ledger.universal_registry
		where entity_type = 'alert' and metadata->'engine'->'cause'->>0 = $1 order by name`, cause.String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			b.t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return names
}

// Whoever judges a span second has no effect at all, not even where he would have done more.
func TestASpanIsJudgedOnceByEachPolicy(t *testing.T) {
	t.Parallel()
	one := setup(t, func(b *bench) { b.kernels[policyKernel] = b.emits(1) })
	other := one.start(func(b *bench) { b.kernels[policyKernel] = b.emits(3) })
	policy := one.put(1, "policy", policyOf("alice", "t1", ofNotes))
	next := *policy
	next.Seq, next.PrevHash = 1, policy.CurrHash
	one.append(ledger.Group{Fence: &next})
	note := one.put(0x10, "note", noteOf("alice", "t1", "private"))
	eventually(t, "the first judges it", one.deliver(policy, note))
	eventually(t, "a later version judges it, too", other.deliver(policy, &next, note))
	eventually(t, "and the first one once more", one.deliver(note))
	if got := one.alerts(note.ID); !slices.Equal(got, []string{"0 by 0"}) {
		t.Errorf("got %q", got)
	}
	if n := one.engine.Stats().Repeated.Load() + other.engine.Stats().Repeated.Load(); n != 2 {
		t.Errorf("%d judgments are counted as repeated, want 2", n)
	}
}

// A version that is lost to another writer takes the fence back with it: the span is judged anew, and once.
func TestALostVersionLeavesNoFence(t *testing.T) {
	t.Parallel()
	var b *bench
	var target *span.Span
	var tries atomic.Int64
	b = setup(t, func(n *bench) {
		n.kernels[policyKernel] = func(_ context.Context, job Job) error {
			before := b.latest(target.ID)
			if tries.Add(1) == 1 {
				quicker := *before
				quicker.Seq, quicker.PrevHash, quicker.Status = before.Seq+1, before.CurrHash, new("moved")
				b.append(ledger.Group{Fence: &quicker})
			}
			cause := job.Batch[0]
			group, err := emission(span.Key{ID: idOf(1)}, cause, 2)
			if err != nil {
				return err
			}
			version, err := nextOf(before, cause, idOf(1))
			if err != nil {
				return err
			}
			group.Rows = append(group.Rows, version.Rows...)
			job.Emit(cause.Key(), ledger.Group{Parts: []ledger.Group{group}}, nil)
			return nil
		}
	})
	target = b.put(0x10, "task", noteOf("alice", "t1", "private"))
	b.deliver(b.put(1, "policy", policyOf("alice", "t1", ofNotes)))
	note := b.put(0x11, "note", noteOf("alice", "t1", "private"))
	eventually(t, "the note is disposed of", b.deliver(note))
	versions, _ := b.versions(target.ID)
	if got := b.alerts(note.ID); versions != "open moved seen" || len(got) != 2 || tries.Load() != 2 {
		t.Errorf("after %d tries: %s, %q", tries.Load(), versions, got)
	}
	eventually(t, "it is judged again", b.deliver(note))
	if versions, _ = b.versions(target.ID); versions != "open moved seen" {
		t.Errorf("judged twice it has the versions %s", versions)
	}
}

// What the ledger does not take of one policy's answer is that policy's error, in the place of the answer;
// the other policy's, for the same span, is kept, and so are their neighbors in the batch.
func TestAnAnswerThatTheLedgerRefusesCostsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		b.kernels[policyKernel] = func(_ context.Context, job Job) error {
			parts := map[span.Key][]ledger.Group{}
			for _, m := range matchesIn(b.t, job) {
				group, err := emission(m.policy, m.cause, 2)
				if err != nil {
					return err
				}
				if m.policy.ID == idOf(1) && m.cause.ID == idOf(0x11) {
					group.Rows[0].EntityType = "manifest" // which is not the engine's to write
					if err := group.Seal((*span.Span).Seal); err != nil {
						return err
					}
				}
				parts[m.cause.Key()] = append(parts[m.cause.Key()], group)
			}
			for key, groups := range parts {
				job.Emit(key, ledger.Group{Parts: groups}, nil)
			}
			return nil
		}
	})
	b.deliver(b.put(1, "policy", policyOf("alice", "t1", ofNotes)),
		b.put(2, "policy", policyOf("alice", "t1", ofNotes)))
	var notes []*span.Span
	for i := range 3 {
		notes = append(notes, b.put(0x10+i, "note", noteOf("alice", "t1", "private")))
	}
	eventually(t, "all are disposed of", b.deliver(notes...))
	for i, want := range []int{4, 2, 4} {
		if got := b.alerts(notes[i].ID); len(got) != want {
			t.Errorf("note %d: %q, want %d", i, got, want)
		}
	}
	id := span.Emission(idOf(1), notes[1].Key(), notes[1].AcceptedAt.Time, 0)
	report := b.latest(id)
	if report == nil || report.EntityType != "policy_error" || *report.PolicyID != idOf(1) {
		t.Errorf("in the place of the answer stands %+v", report)
	}
	eventually(t, "it is judged again", b.deliver(notes[1]))
	if got := b.alerts(notes[1].ID); len(got) != 2 {
		t.Errorf("judged again it has %q", got)
	}
}
