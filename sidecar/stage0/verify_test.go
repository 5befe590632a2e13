package stage0

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

func TestFunctionRunsEndToEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	f := b.function(1, "export default async function main(ctx) { return { twice: ctx.input.n * 2 } }")
	x, group := b.execute(2, f.ID, func(s *span.Span) {
		s.Input, s.TraceID, s.Visibility = json.RawMessage(`{"n":21}`), new("trace"), "tenant"
	})
	if x.StatusText() != "complete" || string(x.Output) != `{"twice":42}` || *x.TraceID != "trace" ||
		x.OwnerID != "alice" || x.TenantID != "t1" || x.Visibility != "tenant" || x.Who != "kernel:run_code" ||
		*x.ParentID != f.ID || x.RelatedTo[0] != idOf(2) || x.VerifyHash() != nil {
		t.Errorf("got %+v, output %s", x, x.Output)
	}
	if group.Fence.Seq != 1 || group.Fence.StatusText() != "complete" || group.Fence.VerifyHash() != nil {
		t.Errorf("got %+v", group.Fence)
	}
	outcomes, err := b.config.Ledger.Append(t.Context(), []ledger.Group{group})
	if err != nil || !outcomes[0].Won || outcomes[0].Err != nil {
		t.Errorf("the ledger: %+v, %v", outcomes, err)
	}
}

func TestKernelRefusals(t *testing.T) {
	t.Parallel()
	note := "ctx.insertSpan({entity_type: 'request'})"
	for name, c := range map[string]struct {
		prepare func(b *bench)
		kernel  string
		code    span.RunCode
		message string
	}{
		"unknown": {func(*bench) {}, "nobody", span.RunNotFound, "names no kernel"},
		"hash": {func(b *bench) { b.tamper("code = code || ' '", span.ObserverBotID) }, "observer_bot",
			span.RunHashMismatch, "not what was hashed"},
		"no hash": {func(b *bench) { b.tamper("curr_hash = null", span.ObserverBotID) }, "observer_bot",
			span.RunHashMismatch, "has no hash"},
		"no code": {func(b *bench) { b.tamper("code = null", span.ObserverBotID) }, "observer_bot",
			span.RunNotFound, "logline bootstrap"},
		"draft": {func(b *bench) { b.tamper("status = 'draft'", span.ObserverBotID) }, "observer_bot",
			span.RunNotEffective, "not active"},
		"revoked": {func(b *bench) {
			b.publish(system(span.ObserverBotID, "function", func(s *span.Span) {
				s.Code, s.Status = &note,
					new("revoked")
			}))
		}, "observer_bot", span.RunRevoked, "revoked"},
		"whitelist": {func(b *bench) {
			b.publish(b.manifestSpan(document(t, map[string]any{"allowed_boot_ids": []span.ID{span.RunCodeID}})))
			if err := b.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		}, "observer_bot", span.RunNotAllowed, "does not allow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, nil)
			c.prepare(b)
			_, err := b.boot(c.kernel, "", b.put(1, "function"))
			wantCode(t, name, err, c.code, c.message)
			if _, known := b.Manifest().Kernels[c.kernel]; known && b.Verify(t.Context()) == nil {
				t.Error("Verify finds no fault")
			}
		})
	}
}

func TestKernelThatIsMissingIsNotFound(t *testing.T) {
	t.Parallel()
	id := idOf(9)
	b := setup(t, map[string]any{"kernels": map[string]any{"mine": id}, "allowed_boot_ids": []any{id},
		"triggers": []any{}, "callable": []any{}, "grants": map[string]any{}}, nil)
	_, err := b.boot("mine", "")
	wantCode(t, "missing", err, span.RunNotFound, id.String())
}

func TestFunctionRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	next := 100
	strange := func(owner, tenant, visibility string) func(*span.Span) {
		return func(s *span.Span) { s.OwnerID, s.TenantID, s.Visibility = owner, tenant, visibility }
	}
	for name, c := range map[string]struct {
		change  func(*span.Span)
		tamper  string
		code    span.RunCode
		message string
	}{
		"own":             {func(*span.Span) {}, "", "", ""},
		"tenant's":        {strange("bob", "t1", "tenant"), "", "", ""},
		"public":          {strange("eve", "t2", "public"), "", "", ""},
		"no hash":         {func(*span.Span) {}, "curr_hash = null", "", ""},
		"scheduled later": {func(s *span.Span) { s.Status = new("scheduled") }, "", "", ""},
		"bob's":           {strange("bob", "t1", "private"), "", span.RunNotFound, "may read"},
		"other tenant's":  {strange("alice", "t2", "tenant"), "", span.RunNotFound, "may read"},
		"deleted":         {func(s *span.Span) { s.IsDeleted = true }, "", span.RunNotFound, "may read"},
		"no code":         {func(s *span.Span) { s.Code = nil }, "", span.RunNotFound, "may read"},
		"not a function":  {func(s *span.Span) { s.EntityType = "note" }, "", span.RunNotAllowed, "type note"},
		"policy":          {func(s *span.Span) { s.EntityType = "policy" }, "", span.RunNotAllowed, "not matched"},
		"archived": {func(s *span.Span) { s.EntityType, s.Status = "task", new("x") }, "",
			span.RunNotAllowed, "task"},
		"was archived": {func(*span.Span) {}, "status = 'archived'", span.RunRevoked, "archived"},
		"language":     {func(s *span.Span) { s.Language = new("cobol") }, "", span.RunNotAllowed, "cobol"},
		"tampered":     {func(*span.Span) {}, "code = 'return 2'", span.RunHashMismatch, "not what was hashed"},
		"too early": {func(s *span.Span) { s.EffectiveAt = new(span.NewTime(time.Now().Add(time.Hour))) }, "",
			span.RunNotEffective, "takes force at"},
	} {
		next += 2
		f := b.function(next, "return 1", c.change)
		if c.tamper != "" {
			b.tamper(c.tamper, f.ID)
		}
		x, _ := b.execute(next+1, f.ID)
		wantCode(t, name, x, c.code, c.message)
		if (x.StatusText() == "complete") != (c.code == "") {
			t.Errorf("%s: status %s", name, x.StatusText())
		}
	}
	x, _ := b.execute(99, idOf(0xfff0))
	wantCode(t, "absent", x, span.RunNotFound, "may read")
}

func TestStrangerLearnsNothingOfWhatExists(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	foreign := b.function(1, "return 1", func(s *span.Span) { s.OwnerID = "bob" })
	there, _ := b.execute(2, foreign.ID)
	absent, _ := b.execute(3, idOf(0xfff0))
	a := strings.ReplaceAll(string(there.Error), foreign.ID.String(), "X")
	if c := strings.ReplaceAll(string(absent.Error), idOf(0xfff0).String(), "X"); a != c {
		t.Errorf("%s and %s differ", a, c)
	}
}

func TestRunOutcomesHaveTheirCodes(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"policy": map[string]any{"timeout_ms": 300},
		"limits": map[string]any{"spans": 3,
			"output_bytes": 1000, "log_bytes": 1000, "source_bytes": 2000, "sql_calls": 5, "memory_mb": 32}}, nil)
	n := 10
	for name, c := range map[string]struct {
		source string
		code   span.RunCode
	}{
		"syntax":     {"return return", span.RunSyntax},
		"memory":     {"const a = []; for (;;) a.push(new ArrayBuffer(1 << 22))", span.RunMemory},
		"stack":      {"const f = () => f() + 1; return f()", span.RunStack},
		"logs":       {"for (let i = 0; i < 100; i++) ctx.log('x'.repeat(100))", span.RunLimitLogs},
		"no JSON":    {"const a = {}; a.a = a; return a", span.RunNotSerializable},
		"denied":     {"throw Object.assign(new Error('mine'), {code: 'denied'})", span.RunException},
		"exception":  {"throw new Error('x')", span.RunException},
		"timeout":    {"for (;;) {}", span.RunTimeout},
		"pending":    {"return new Promise(() => {})", span.RunPending},
		"output":     {"return 'x'.repeat(2000)", span.RunLimitOutput},
		"source":     {"/*" + strings.Repeat("x", 2000) + "*/ return 1", span.RunLimitSource},
		"spans":      {"for (let i = 0; i < 4; i++) ctx.insertSpan({entity_type: 'note'})", span.RunLimitSpans},
		"type":       {"ctx.insertSpan({entity_type: 'execution'})", span.RunDenied},
		"manifest":   {"ctx.insertSpan({entity_type: 'manifest'})", span.RunDenied},
		"no type":    {"ctx.insertSpan({})", span.RunDenied},
		"id":         {"ctx.insertSpan({entity_type: 'note', id: '" + idOf(1).String() + "'})", span.RunDenied},
		"owner":      {"ctx.insertSpan({entity_type: 'note', owner_id: 'bob'})", span.RunDenied},
		"tenant":     {"ctx.insertSpan({entity_type: 'note', tenant_id: 't2'})", span.RunDenied},
		"column":     {"ctx.insertSpan({entity_type: 'note', nonsense: 1})", span.RunDenied},
		"form":       {"ctx.insertSpan({entity_type: 'note', attempt: 'x'})", span.RunDenied},
		"no object":  {"ctx.insertSpan('note')", span.RunDenied},
		"nul":        {"ctx.insertSpan({entity_type: 'note', name: '\\u0000'})", span.RunNotSerializable},
		"visibility": {"ctx.insertSpan({entity_type: 'note', visibility: 'all'})", span.RunDenied},
		"wider":      {"ctx.insertSpan({entity_type: 'note', visibility: 'tenant'})", span.RunDenied},
		"find":       {"await ctx.find({code: 'x'})", span.RunDenied},
		"find id":    {"await ctx.find({id: 'no uuid'})", span.RunDenied},
		"find nul":   {"await ctx.find({name: 'a\\u0000'})", span.RunNotSerializable},
		"find value": {"await ctx.find({name: 1})", span.RunDenied},
		"find none":  {"await ctx.find()", span.RunDenied},
		"find limit": {"await ctx.find({}, 1001)", span.RunDenied},
		"find much":  {"for (let i = 0; i < 20; i++) await ctx.find({name: 'x'})", span.RunLimitSQL},
		"find on":    {"for (let i = 0; i < 900; i++) await ctx.find({name: 'x'}).catch(() => 0)", span.RunDenied},
	} {
		n += 2
		x, group := b.execute(n+1, b.function(n, c.source).ID)
		wantCode(t, name, x, c.code, "")
		if len(group.Rows) != 1 {
			t.Errorf("%s: a run that failed emits %d spans", name, len(group.Rows)-1)
		}
	}
}

// The function's own time limit counts where it is shorter, never where it is longer.
func TestShorterTimeoutCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"policy": map[string]any{"timeout_ms": 400}}, nil)
	for i, ms := range []int{50, 3600_000} {
		f := b.function(10*i+1, "for (;;) {}", func(s *span.Span) { s.TimeoutMs = &ms })
		x, _ := b.execute(10*i+2, f.ID)
		wantCode(t, fmt.Sprint(ms), x, span.RunTimeout, "")
		if *x.DurationMs > 5000 {
			t.Errorf("%d: it ran %d ms", ms, *x.DurationMs)
		}
	}
}

func TestPinnedVersionRunsAndLatestFollowsTheTail(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	first := b.function(1, "return 'v0'", func(s *span.Span) { s.Visibility = "tenant" })
	if x, _ := b.execute(2, first.ID); string(x.Output) != `"v0"` {
		t.Errorf("got %s", x.Output)
	}
	b.nextVersion(first, func(s *span.Span) { s.Code = new("return 'v1'") })
	if x, _ := b.execute(3, first.ID); string(x.Output) != `"v1"` {
		t.Errorf("after the tail has seen version 1: got %s", x.Output)
	}
	pin := json.RawMessage(fmt.Sprintf(`{"function":{"id":%q,"seq":0}}`, first.ID))
	x, _ := b.execute(4, first.ID, func(s *span.Span) { s.Metadata = pin })
	if string(x.Output) != `"v0"` {
		t.Errorf("pinned to version 0: got %s", x.Output)
	}
}

// nextVersion commits and observes the next version of a function.
func (b *bench) nextVersion(row *span.Span, change func(*span.Span)) *span.Span {
	b.t.Helper()
	next := *row
	next.Seq, next.PrevHash, next.Xact, next.AcceptedAt = row.Seq+1, row.CurrHash, nil, nil
	change(&next)
	group := ledger.Group{Fence: &next}
	if err := group.Seal((*span.Span).Seal); err != nil {
		b.t.Fatal(err)
	}
	b.commit(group)
	seen := &span.Published{ID: next.ID, Seq: next.Seq, EntityType: "function"}
	if err := b.Observe(b.t.Context(), seen); err != nil {
		b.t.Fatal(err)
	}
	return &next
}

// A pin lets nobody run what could not be called without it, and an older version is its owner's to call.
func TestAPinGivesNobodyMoreThanACallWithoutIt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	alice := func(*span.Span) {}
	dan := func(s *span.Span) { s.OwnerID, s.Who = "dan", "user:dan" }
	madeFor := func(s *span.Span) {
		s.Metadata, _ = span.SetEngine(s.Metadata, span.EngineMeta{Cause: span.Key{ID: *s.ParentID},
			Root: *s.ParentID, Depth: 1, Kind: "request"})
	}
	status := func(text string) func(*span.Span) { return func(s *span.Span) { s.Status = &text } }
	cases := []struct {
		name    string
		then    func(*span.Span) // the version after the pinned one
		by      func(*span.Span)
		code    span.RunCode
		message string
	}{
		{"a mate's pin of an older version", status("active"), dan, span.RunNotAllowed,
			"leave metadata.function out"},
		{"its owner's", status("active"), alice, "", ""},
		{"the request that it was made for", status("active"), madeFor, "", ""},
		{"archived, a mate's", status("archived"), dan, span.RunRevoked, "archived"},
		{"archived, its owner's", status("archived"), alice, span.RunRevoked, "archived"},
		{"archived, what was scheduled", status("archived"), madeFor, span.RunRevoked, "archived"},
		{"deleted, its owner's", func(s *span.Span) { s.IsDeleted = true }, alice, span.RunNotFound, ""},
		{"private now, a mate's", func(s *span.Span) { s.Visibility = "private" }, dan, span.RunNotFound, ""},
		{"a later one that is not effective yet, a mate's", func(s *span.Span) {
			s.EffectiveAt = new(span.NewTime(time.Now().Add(time.Hour)))
		}, dan, "", ""},
	}
	for i, c := range cases {
		f := b.function(100+i, "return 'v0'", func(s *span.Span) { s.Visibility = "tenant" })
		b.nextVersion(f, func(s *span.Span) { s.Code = new("return 'v1'"); c.then(s) })
		pin := map[string]any{"function": map[string]any{"id": f.ID, "seq": 0}}
		x, _ := b.execute(200+i, f.ID, func(s *span.Span) { s.Metadata = encode(pin) }, c.by)
		if wantCode(t, c.name, x, c.code, c.message); c.code == "" && string(x.Output) != `"v0"` {
			t.Errorf("%s: got %s", c.name, x.Output)
		}
	}
}

// A version that is to come does not stop the one before it.
func TestTheNewestEffectiveVersionRuns(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	row := b.function(1, "return 'v0'")
	for seq, d := range []time.Duration{-time.Hour, time.Hour, 2 * time.Hour} {
		next := *row
		next.Seq, next.Code, next.PrevHash = seq+1, new(fmt.Sprintf("return 'v%d'", seq+1)), row.CurrHash
		next.Xact, next.AcceptedAt, next.EffectiveAt = nil, nil, new(span.NewTime(time.Now().Add(d)))
		group := ledger.Group{Fence: &next}
		if err := group.Seal((*span.Span).Seal); err != nil {
			t.Fatal(err)
		}
		b.commit(group)
		row = &next
	}
	x, _ := b.execute(2, row.ID)
	if string(x.Output) != `"v1"` {
		t.Errorf("got %s, want v1", x.Output)
	}
	pin := json.RawMessage(fmt.Sprintf(`{"function":{"id":%q,"seq":3}}`, row.ID))
	x, _ = b.execute(3, row.ID, func(s *span.Span) { s.Metadata = pin })
	wantCode(t, "pinned", x, span.RunNotEffective, "takes force at")
}
