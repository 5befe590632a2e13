package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

func clock(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestTimingsHaveTheirBoundaries(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]string{
		`{"every":"minute"}`:             "2026-03-02T10:44:00Z",
		`{"every":"hour"}`:               "2026-03-02T10:00:00Z",
		`{"every":"day"}`:                "2026-03-02T00:00:00Z",
		`{"every":"day","at":"02:00"}`:   "2026-03-02T02:00:00Z",
		`{"every":"day","at":"10:45"}`:   "2026-03-01T10:45:00Z",
		`{"every":"day","at":"00:00"}`:   "2026-03-02T00:00:00Z",
		`{"every":"minute","at":""}`:     "2026-03-02T10:44:00Z",
		`{}`:                             "",
		`{"every":"week"}`:               "want minute",
		`{"every":"hour","at":"02:00"}`:  "for every day, not for every hour",
		`{"every":"day","at":"25:00"}`:   "of every day",
		`{"every":"day","per":"person"}`: "want tenant or owner",
		`{"every":"day","window":"all"}`: "want at, ttl_at or none",
		`{"every":1}`:                    "decode",
	} {
		timing, err := readTiming(json.RawMessage(metadata), span.When{}, false)
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case timing != nil:
			got = timing.last(clock(t, "2026-03-02T10:44:59Z")).Format(time.RFC3339)
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", metadata, got, want)
		}
	}
}

// tick makes the policies of the bench as old as the time before, and lets this moment come.
func (b *bench) tick(at time.Time) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() {
		for _, p := range b.engine.policies.timed {
			if p.judged.After(at) {
				p.judged = p.timing.last(at.Add(-p.timing.every))
			}
		}
		b.engine.tickAt(at)
	}); err != nil {
		b.t.Fatal(err)
	}
	b.quietTicks()
}

// quietTicks waits until no tick is under way.
func (b *bench) quietTicks() {
	b.t.Helper()
	eventually(b.t, "no tick is under way", func() bool {
		left := 0
		if err := b.engine.tell(b.t.Context(), func() {
			left = len(b.engine.ticks.queue)
			for _, p := range b.engine.policies.timed {
				left += p.open
			}
		}); err != nil {
			b.t.Fatal(err)
		}
		return left == 0
	})
}

// ticked lists the subjects that a policy was judged for: tenant/owner/visibility/to/round.
func (b *bench) ticked() (subjects []string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, job := range b.boots {
		var input struct {
			Matches []struct {
				Tick *struct {
					To    string `json:"to"`
					Round int    `json:"round"`
				} `json:"tick"`
			} `json:"matches"`
		}
		if err := json.Unmarshal(job.Input, &input); err != nil {
			b.t.Fatal(err)
		}
		for i, m := range input.Matches {
			if m.Tick == nil {
				continue
			}
			s := job.Batch[i]
			subjects = append(subjects, fmt.Sprintf("%s/%s/%s/%s/%d", s.TenantID, s.OwnerID, s.Visibility,
				m.Tick.To[11:16], m.Tick.Round))
		}
	}
	slices.Sort(subjects)
	return subjects
}

// executions appends what a tick finds.
func (b *bench) execution(n int, owner, tenant, at string, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	change = append([]func(*span.Span){noteOf(owner, tenant, "private"), func(s *span.Span) {
		s.At, s.Status = span.NewTime(clock(b.t, at)), new("complete")
	}}, change...)
	return b.put(n, "execution", change...)
}

func TestATickIsJudgedOncePerSubject(t *testing.T) {
	t.Parallel()
	const perTenant = `{"every":"minute","when":{"entity_type":"execution"}}`
	const perOwner = `{"every":"minute","per":"owner","when":{"entity_type":"execution","status":"complete"}}`
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	for i, at := range []string{"10:43:59", "10:44:00", "10:44:59", "10:45:00"} {
		b.execution(0x100+i, "alice", fmt.Sprint("t", i), "2026-03-02T"+at+"Z")
	}
	b.execution(0x110, "bob", "t1", "2026-03-02T10:44:30Z")
	b.execution(0x111, "carol", "t1", "2026-03-02T10:44:30Z", func(s *span.Span) { s.Status = new("error") })
	b.put(0x112, "note", noteOf("alice", "t9", "private"), func(s *span.Span) {
		s.At = span.NewTime(clock(t, "2026-03-02T10:44:30Z"))
	})
	b.deliver(
		b.put(1, "policy", policyOf("system", "system", perTenant)),
		b.put(2, "policy", policyOf("system", "system", perOwner)),
		b.put(3, "policy", policyOf("dave", "t5", `{"every":"minute"}`)),
		b.put(4, "policy", policyOf("dave", "t5", `{"every":"day","at":"10:45"}`)),
		b.put(5, "policy", policyOf("dave", "t5", `{"every":"day","at":"10:46"}`)),
	)
	want := []string{
		"t1/alice/private/10:45/0", "t1/bob/private/10:45/0", "t1/system/tenant/10:45/0",
		"t2/alice/private/10:45/0", "t2/system/tenant/10:45/0", "t5/dave/tenant/10:45/0", "t5/dave/tenant/10:45/0",
	}
	b.tick(clock(t, "2026-03-02T10:45:04Z")) // within the time of settling it is another minute's
	if got := b.ticked(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "10:45") }) {
		t.Errorf("before its commits have settled: %v", got)
	}
	b.mu.Lock()
	b.boots = nil
	b.mu.Unlock()
	b.tick(clock(t, "2026-03-02T10:45:05Z"))
	if got := b.ticked(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.tick(clock(t, "2026-03-02T10:45:55Z"))
	if got := b.ticked(); !slices.Equal(got, want) {
		t.Errorf("a boundary is judged twice: %v", got)
	}
}

// What a tick appends has ids that whoever judges it derives, and an owner's tick is another's no business.
func TestATicksIDIsDerived(t *testing.T) {
	t.Parallel()
	p := &policy{id: idOf(1), seq: 3, owner: "system", tenant: "system", timing: &timing{per: "owner"}}
	at := clock(t, "2026-03-02T10:45:00Z")
	seen := map[span.ID]string{}
	for name, s := range map[string]*span.Span{
		"it":            p.tickSpan(at, ledger.Subject{TenantID: "t", OwnerID: "o"}, 0),
		"another owner": p.tickSpan(at, ledger.Subject{TenantID: "t", OwnerID: "p"}, 0),
		"moved texts":   p.tickSpan(at, ledger.Subject{TenantID: "to", OwnerID: ""}, 0),
		"another turn":  p.tickSpan(at, ledger.Subject{TenantID: "t", OwnerID: "o"}, 1),
		"another time":  p.tickSpan(at.Add(time.Minute), ledger.Subject{TenantID: "t", OwnerID: "o"}, 0),
	} {
		if other := seen[s.ID]; other != "" {
			t.Errorf("%s has the id of %s", name, other)
		}
		seen[s.ID] = name
	}
	again := p.tickSpan(at, ledger.Subject{TenantID: "t", OwnerID: "o"}, 0)
	if seen[again.ID] != "it" || again.Seq != 3 || *again.PolicyID != p.id || again.Xact != nil {
		t.Errorf("got %+v", again)
	}
}

func TestAPolicyMayAskForMoreTurns(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) {
		b.kernels[policyKernel] = func(_ context.Context, job Job) error {
			for _, s := range job.Batch {
				var input struct {
					Matches []struct{ Tick struct{ Round int } }
				}
				if err := json.Unmarshal(job.Input, &input); err != nil {
					return err
				}
				job.Emit(s.Key(), ledger.Group{Again: input.Matches[0].Tick.Round < 3}, nil)
			}
			return nil
		}
	})
	b.deliver(b.put(1, "policy", policyOf("dave", "t5", `{"every":"hour"}`)))
	b.tick(clock(t, "2026-03-02T10:00:05Z"))
	want := []string{"t5/dave/tenant/10:00/0", "t5/dave/tenant/10:00/1", "t5/dave/tenant/10:00/2",
		"t5/dave/tenant/10:00/3"}
	if got := b.ticked(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Rows go by while a tick takes its time.
func TestATickHoldsUpNoRow(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := setup(t, func(b *bench) {
		b.kernels[policyKernel] = func(_ context.Context, job Job) error {
			if job.Batch[0].EntityType == "tick" {
				<-release
			}
			return nil
		}
	})
	b.deliver(b.put(1, "policy", policyOf("dave", "t5", `{"every":"hour"}`)),
		b.put(2, "policy", policyOf("alice", "t1", ofNotes)))
	if err := b.engine.tell(t.Context(), func() {
		for _, p := range b.engine.policies.timed {
			p.judged = time.Time{}
		}
		b.engine.tickAt(clock(t, "2026-03-02T10:00:05Z"))
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the note is judged", b.deliver(b.put(0x11, "note", noteOf("alice", "t1", "private"))))
	close(release)
	b.quietTicks()
	if got := b.judged(); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestATenantHasAHundredTimers(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	var rows []*span.Span
	for i := range timersMax + 1 {
		owner := fmt.Sprint("dave", i/timersPer)
		rows = append(rows, b.put(i, "policy", policyOf(owner, "t5", `{"every":"hour"}`)))
	}
	rows = append(rows, b.put(0x500, "policy", policyOf("erin", "t6", `{"every":"hour"}`)))
	for i := range timersPer {
		rows = append(rows, b.put(0x501+i, "policy", policyOf("erin", "t6", `{"every":"hour"}`)))
	}
	next := *b.latest(idOf(0)) // takes no place more
	next.Seq, next.PrevHash = 1, next.CurrHash
	b.append(ledger.Group{Fence: &next})
	rows = append(rows, &next)
	eventually(t, "all are disposed of", b.deliver(rows...))
	b.quiet()
	var faults, own int
	if err := b.connect().QueryRow(t.Context(), `select count(*) filter (where tenant_id = 't5'
			and error ->> 'message' like 'the tenant has%archive one'), count(*) filter (where owner_id = 'erin'
			and error ->> 'message' like 'you have%archive one') from ledger.universal_registry
		where entity_type = 'policy_error'`).Scan(&faults, &own); err != nil || faults != 1 || own != 1 {
		t.Errorf("%d and %d policies are refused, want 1 each, %v", faults, own, err)
	}
	timers := 0
	if err := b.engine.tell(t.Context(), func() { timers = len(b.engine.policies.timed) }); err != nil {
		t.Fatal(err)
	}
	if timers != timersMax+timersPer {
		t.Errorf("%d timers, want %d", timers, timersMax+timersPer)
	}
}

// Bookkeeping is shown to who asks for it by name, and a request is run all the same.
func TestBookkeepingIsForPoliciesThatNameIt(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels[policyKernel] = silent })
	deep := func(depth int) func(*span.Span) {
		return func(s *span.Span) {
			metadata, err := span.SetEngine(nil, span.EngineMeta{Cause: span.Key{ID: idOf(9)}, Root: idOf(9),
				Depth: depth, Kind: "execution"})
			if err != nil {
				t.Fatal(err)
			}
			s.Metadata = metadata
		}
	}
	b.deliver(
		b.put(1, "policy", policyOf("alice", "t1", `{"when":{"entity_type":["execution","request"]}}`)),
		b.put(2, "policy", policyOf("alice", "t1", `{"when":{"not_entity_type":["note","policy"]}}`)),
		b.put(3, "policy", policyOf("alice", "t1", `{"when":{"status":"complete"}}`)),
		b.put(4, "policy", policyOf("bob", "t1", `{"when":{"entity_type":"execution"}}`)),
	)
	request := b.put(0x20, "request")
	eventually(t, "all are disposed of", b.deliver(
		b.execution(0x11, "alice", "t1", "2026-03-02T10:44:00Z"),
		b.execution(0x12, "alice", "t1", "2026-03-02T10:44:00Z", deep(span.MaxDepth-1)),
		b.execution(0x13, "alice", "t1", "2026-03-02T10:44:00Z", deep(span.MaxDepth)),
		b.put(0x14, "metric", noteOf("alice", "t1", "private")),
		request))
	b.becomes(request.ID, "complete")
	b.quiet()
	want := []string{"0001@0:0011", "0001@0:0012", "0001@0:0020"}
	if got := b.judged(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// nextOf is the version of a span that a policy appends after the one that it has read.
func nextOf(before, cause *span.Span, policy span.ID) (ledger.Group, error) {
	next := *before
	next.Seq, next.PrevHash, next.Status, next.PolicyID = before.Seq+1, before.CurrHash, new("seen"), &policy
	var err error
	next.Metadata, err = span.SetEngine(nil,
		span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1, Kind: "policy"})
	group := ledger.Group{Rows: []*span.Span{&next}}
	if err == nil {
		err = group.Seal((*span.Span).Seal)
	}
	return group, err
}

// Who was not quick enough with a version is judged anew, by what stands now.
func TestALostVersionIsJudgedAnew(t *testing.T) {
	t.Parallel()
	var b *bench
	var target *span.Span
	tries, losses := 0, 1
	b = setup(t, func(n *bench) {
		n.kernels[policyKernel] = func(_ context.Context, job Job) error {
			before := b.latest(target.ID)
			if tries++; tries <= losses {
				quicker := *before
				quicker.Seq, quicker.PrevHash, quicker.Status = before.Seq+1, before.CurrHash, new("moved")
				b.append(ledger.Group{Fence: &quicker})
			}
			group, err := nextOf(before, job.Batch[0], idOf(1))
			if err == nil {
				job.Emit(job.Batch[0].Key(), group, nil)
			}
			return err
		}
	})
	target = b.put(0x10, "task", noteOf("alice", "t1", "private"))
	b.deliver(b.put(1, "policy", policyOf("alice", "t1", ofNotes)))
	eventually(t, "the note is disposed of", b.deliver(b.put(0x11, "note", noteOf("alice", "t1", "private"))))
	if versions, _ := b.versions(target.ID); versions != "open moved seen" || tries != 2 {
		t.Errorf("after %d tries: %s", tries, versions)
	}

	tries, losses = 0, 100
	eventually(t, "it is given up", b.deliver(b.put(0x12, "note", noteOf("alice", "t1", "private"))))
	var reports int
	if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
		where entity_type = 'policy_error' and policy_id = $1::text::uuid and owner_id = 'alice'
			and error ->> 'message' like 'somebody else%'`, idOf(1).String()).Scan(&reports); err != nil || reports != 1 ||
		tries != racesMax+1 {
		t.Errorf("%d reports after %d tries, %v", reports, tries, err)
	}
}

// Of two groups of one commit that want the same version, one has it, and the other learns that it lost.
func TestOneOfTwoInACommitLosesTheVersion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	target := b.put(0x10, "task", noteOf("alice", "t1", "private"))
	groups := make([]ledger.Group, 2)
	for i := range groups {
		var err error
		if groups[i], err = nextOf(target, b.put(0x20+i, "note"), idOf(1+i)); err != nil {
			t.Fatal(err)
		}
	}
	outcomes, err := b.ledger.Append(t.Context(), groups)
	if err != nil || len(outcomes[0].Existing) != 0 || len(outcomes[1].Existing) != 1 {
		t.Errorf("got %+v, %v", outcomes, err)
	}
	if stands := b.latest(target.ID); *stands.PolicyID != idOf(1) {
		t.Errorf("the second one's version stands")
	}
}
