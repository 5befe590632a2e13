package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// policyOf drafts an active policy.
func policyOf(owner, tenant, when string) func(*span.Span) {
	return func(s *span.Span) {
		s.OwnerID, s.TenantID, s.Status, s.Metadata = owner, tenant, new("active"), json.RawMessage(when)
		s.Visibility, s.ParentID = "tenant", nil
	}
}

func noteOf(owner, tenant, visibility string) func(*span.Span) {
	return func(s *span.Span) {
		s.OwnerID, s.TenantID, s.Visibility, s.Status, s.ParentID = owner, tenant, visibility, new("open"), nil
	}
}

const ofNotes = `{"when":{"entity_type":"note"}}`

// matched is a policy and the span that it is shown.
type matched struct {
	policy span.Key
	cause  *span.Span
}

// matchesIn reads what a run of the policies' kernel is to judge, in its order.
func matchesIn(t testing.TB, job Job) (list []matched) {
	var input struct {
		Matches []struct {
			Span   span.Key  `json:"span"`
			Policy policyKey `json:"policy"`
		} `json:"matches"`
	}
	if err := json.Unmarshal(job.Input, &input); err != nil {
		t.Error(err)
	}
	for _, m := range input.Matches {
		place := slices.IndexFunc(job.Batch, func(s *span.Span) bool { return s.Key() == m.Span })
		list = append(list, matched{span.Key{ID: m.Policy.ID, Seq: m.Policy.Seq}, job.Batch[place]})
	}
	return list
}

// judged collects which policies judged which spans, in order.
func (b *bench) judged() (pairs []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, job := range b.boots {
		if job.Kernel != policyKernel {
			continue
		}
		for _, m := range matchesIn(b.t, job) {
			pairs = append(pairs, fmt.Sprintf("%x@%d:%x", m.policy.ID[4:6], m.policy.Seq, m.cause.ID[4:6]))
		}
	}
	return pairs
}

func silent(context.Context, Job) error { return nil }

func TestPoliciesJudgeWhatTheirOwnerMayRead(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	rows := []*span.Span{
		b.put(1, "policy", policyOf("alice", "t1", ofNotes)),
		b.put(2, "policy", policyOf("bob", "t1", ofNotes)),
		b.put(3, "policy", policyOf("alice", "t2", ofNotes)),
		b.put(4, "policy", policyOf("system", "system", ofNotes)),
		b.put(5, "policy", policyOf("alice", "t1", `{"when":{"entity_type":"task"}}`)),
		b.put(6, "policy", policyOf("alice", "t1", ofNotes), func(s *span.Span) { s.Status = new("draft") }),
		b.put(0x11, "note", noteOf("alice", "t1", "private")),
		b.put(0x12, "note", noteOf("alice", "t1", "tenant")),
		b.put(0x13, "note", noteOf("eve", "t3", "private")),
	}
	eventually(t, "all are disposed of", b.deliver(rows...))
	want := []string{"0001@0:0011", "0001@0:0012", "0002@0:0012", "0004@0:0011", "0004@0:0012", "0004@0:0013"}
	if got := slices.Sorted(slices.Values(b.judged())); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.lead() // the policies come from the ledger as well
	eventually(t, "it is disposed of", b.deliver(b.put(0x14, "note", noteOf("eve", "t3", "private"))))
	if got := b.judged(); got[len(got)-1] != "0004@0:0014" || len(got) != len(want)+1 {
		t.Errorf("after a take-over: got %v", got)
	}
}

// madeBy is the metadata of a span that the engine derived from cause.
func madeBy(t *testing.T, kind string, cause *span.Span) json.RawMessage {
	t.Helper()
	meta := span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1, Kind: kind}
	metadata, err := span.SetEngine(nil, meta)
	if err != nil {
		t.Fatal(err)
	}
	return metadata
}

// A column that a client may state keeps no policy away.
func TestAStatedPolicyIsNoShield(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	rule := b.put(1, "policy", policyOf("alice", "t1", ofNotes))
	note := b.put(0x11, "note", noteOf("alice", "t1", "private"), func(s *span.Span) { s.PolicyID = &rule.ID })
	eventually(t, "all are disposed of", b.deliver(rule, note))
	if got := b.judged(); !slices.Equal(got, []string{"0001@0:0011"}) {
		t.Errorf("got %v", got)
	}
}

// A span is judged by the version that is in force at its own place, whenever it comes.
func TestTheVersionAtASpansPlaceJudgesIt(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	var policy *span.Span
	version := func(status, when string) *span.Span {
		s := *b.latest(policy.ID)
		s.Seq, s.PrevHash, s.Status, s.Metadata = s.Seq+1, s.CurrHash, &status, json.RawMessage(when)
		b.append(ledger.Group{Fence: &s})
		return &s
	}
	note := func(n int) *span.Span { return b.put(0x20+n, "note", noteOf("alice", "t1", "private")) }
	notes := []*span.Span{note(0)}
	policy = b.put(1, "policy", policyOf("alice", "t1", ofNotes))
	notes = append(notes, note(1))
	versions := []*span.Span{policy, version("active", ofNotes)}
	notes = append(notes, note(2), b.put(0x15, "note", noteOf("alice", "t1", "private"), func(s *span.Span) {
		s.PolicyID, s.Metadata = &policy.ID, madeBy(t, "policy", policy)
	}))
	versions = append(versions, version("active", `{"when":{"nonsense":1}}`))
	notes = append(notes, note(3))
	versions = append(versions, version("active", ofNotes))
	notes = append(notes, note(4))
	versions = append(versions, version("archived", ofNotes))
	notes = append(notes, note(5))
	want := []string{"0001@0:0021", "0001@1:0022", "0001@3:0024"}

	eventually(t, "all are disposed of", b.deliver(append(versions, notes...)...))
	if got := b.judged(); !slices.Equal(got, want) {
		t.Errorf("the versions came first: got %v, want %v", got, want)
	}
	b.lead() // with all versions, too
	eventually(t, "all are disposed of", b.deliver(notes...))
	if got := b.judged()[len(want):]; !slices.Equal(got, want) {
		t.Errorf("read again by the next leader: got %v, want %v", got, want)
	}
	b.quiet()
	var fault string
	if err := b.connect().QueryRow(t.Context(), `select error->>'message' from ledger.universal_registry
		where entity_type = 'policy_error' and owner_id = 'alice'`).Scan(&fault); err != nil ||
		!strings.Contains(fault, "nonsense") {
		t.Errorf("the malformed condition: got %q, %v", fault, err)
	}
}

// Policies run one batch at a time, in commit order, and what engine types tell is never judged.
func TestPolicyLaneKeepsCommitOrder(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 1)
	b := setup(t, func(b *bench) {
		b.kernels[policyKernel] = func(context.Context, Job) error {
			select {
			case running <- struct{}{}:
			default:
				b.t.Error("two policy runs at once")
			}
			<-running
			return nil
		}
	})
	var rows, bookkeeping []*span.Span
	b.deliver(b.put(0xa, "policy", policyOf("alice", "t1", `{}`)))
	for i := range 150 {
		rows = append(rows, b.put(0x100+i, "note", noteOf("alice", "t1", "private")))
	}
	for i, entityType := range []string{"execution", "incident", "metric", "policy_error"} {
		bookkeeping = append(bookkeeping, b.put(i, entityType, noteOf("alice", "t1", "private")))
	}
	eventually(t, "all are disposed of", b.deliver(append(bookkeeping, rows...)...))
	var want []string
	for i := range rows {
		want = append(want, fmt.Sprintf("000a@0:%04x", 0x100+i))
	}
	if got := b.judged(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A tenant's policies are bounded, and a version of one that is in force takes no place more.
func TestATenantHasAThousandPolicies(t *testing.T) {
	t.Parallel()
	r := newRules()
	for i := range policiesMax {
		r.set(&policy{id: idOf(i), tenant: "t1"})
	}
	r.set(&policy{id: idOf(0), seq: 1, tenant: "t1", xact: 7})
	if got := r.counts["t1"]; got != policiesMax {
		t.Fatalf("%d policies, want %d", got, policiesMax)
	}
	e := New(Config{Log: slog.New(slog.DiscardHandler),
		Seal: func(*span.Span, *string) error { return errors.New("told") }})
	e.policies = r
	for _, c := range []struct {
		tenant string
		isIn   bool
	}{{"t1", false}, {"t2", true}} {
		row := &span.Span{ID: idOf(policiesMax), EntityType: "policy", OwnerID: "dave", TenantID: c.tenant,
			Status: new("active"), At: span.NewTime(time.Now())}
		row.ID[15] = c.tenant[1]
		if e.setPolicy(row); (r.inForce(row.ID) != nil) != c.isIn {
			t.Errorf("one more of %s: in force %v, want %v", c.tenant, !c.isIn, c.isIn)
		}
	}
}
