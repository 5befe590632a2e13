package stage0

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// rule appends a policy of a user, or of the system.
func (b *bench) rule(n int, owner, tenant, code string) *span.Span {
	b.t.Helper()
	set := func(s *span.Span) {
		s.OwnerID, s.TenantID, s.Code, s.Visibility = owner, tenant, &code, "tenant"
	}
	if tenant != "system" {
		return b.put(n, "policy", set)
	}
	s := system(idOf(n), "policy", set, func(s *span.Span) { s.Name, s.Visibility = new("test_rule"), "public" })
	b.publish(s)
	return s
}

// judge shows a cause to policies, and returns what the run appends for it.
func (b *bench) judge(policy, cause *span.Span, tick string) []*span.Span {
	b.t.Helper()
	return b.judgeAll(cause, tick, policy).Rows
}

// flat is a judgment as one group without a fence, in the order of its policies. What only says that there
// was one is left out.
func flat(group ledger.Group) ledger.Group {
	for _, part := range group.Parts {
		if part.Fence != nil && part.Fence.EntityType != "policy_cursor" {
			group.Rows = append(group.Rows, part.Fence)
		}
		group.Rows = append(group.Rows, part.Rows...)
	}
	return group
}

func (b *bench) judgeAll(cause *span.Span, tick string, policies ...*span.Span) ledger.Group {
	b.t.Helper()
	var matches []map[string]any
	for _, policy := range policies {
		match := map[string]any{"span": cause.Key(),
			"policy": map[string]any{"id": policy.ID, "seq": policy.Seq}}
		if tick != "" {
			match["tick"] = json.RawMessage(tick)
		}
		matches = append(matches, match)
	}
	input, err := json.Marshal(map[string]any{"matches": matches})
	if err != nil {
		b.t.Fatal(err)
	}
	results, err := b.boot("policy_agent", string(input), cause)
	if err != nil || results[cause.Key()].err != nil {
		b.t.Fatal(err, results)
	}
	return flat(results[cause.Key()].group)
}

// land appends what a judgment gave.
func (b *bench) land(rows []*span.Span) {
	b.t.Helper()
	outcomes, err := b.config.Ledger.Append(b.t.Context(), []ledger.Group{{Rows: rows}})
	if err != nil || outcomes[0].Err != nil || len(outcomes[0].Existing) > 0 {
		b.t.Fatal(err, outcomes)
	}
}

// refusedAs judges, and wants a single policy_error.
func (b *bench) refusedAs(what string, policy, cause *span.Span, code span.RunCode, message string) {
	b.t.Helper()
	rows := b.judge(policy, cause, "")
	if len(rows) != 1 || rows[0].EntityType != "policy_error" {
		b.t.Errorf("%s: got %d spans, want a policy_error", what, len(rows))
		return
	}
	wantCode(b.t, what, rows[0], code, message)
}

func shared(owner, tenant string) func(*span.Span) {
	return func(s *span.Span) { s.OwnerID, s.TenantID, s.Visibility = owner, tenant, "tenant" }
}

// A policy may run a function, and not as somebody else: what a mate's span triggers runs in the name of the
// policy's owner. Otherwise any policy would read all that the one may read who shares a span.
func TestAPolicyRunsFunctionsInItsOwnName(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	spy := b.function(1, `return (await ctx.find({entity_type: "note"})).map((s) => s.name)`, shared("mallory", "t1"))
	b.note(2, "alice's secret", "alice", "t1", "private")
	b.note(3, "mallory's own", "mallory", "t1", "private")
	bait := b.put(4, "task", shared("alice", "t1"))
	run := fmt.Sprintf(`function on(span) { return [{run: "run_code", span_id: %q, input: {of: span.id}}] }`, spy.ID)

	rows := b.judge(b.rule(10, "mallory", "t1", run), bait, "")
	if len(rows) != 1 || rows[0].EntityType != "request" || rows[0].OwnerID != "mallory" ||
		rows[0].Visibility != "private" || rows[0].StatusText() != "scheduled" || *rows[0].ParentID != spy.ID {
		t.Fatalf("got %+v", rows)
	}
	b.land(rows)
	rows[0].Attempt = new(1)
	results, err := b.boot("run_code", "", rows[0])
	if err != nil {
		t.Fatal(err)
	}
	execution := results[rows[0].Key()].group.Rows[0]
	if execution.OwnerID != "mallory" || string(execution.Output) != `["mallory's own"]` {
		t.Errorf("run as %s it finds %s", execution.OwnerID, execution.Output)
	}

	// His own span, and the system's policy: in the name of the span's owner.
	own := b.judge(b.rule(11, "alice", "t1", run), bait, "")
	if len(own) != 1 || own[0].OwnerID != "alice" || own[0].Visibility != "tenant" {
		t.Errorf("alice's policy on alice's span: got %+v", own)
	}
	hidden := b.function(5, "return 1", func(s *span.Span) { s.OwnerID = "mallory" })
	kernel := fmt.Sprintf(`function on() { return [{run: "run_code", span_id: %q}] }`, span.RunCodeID)
	of := func(id span.ID) string {
		return fmt.Sprintf(`function on() { return [{run: "run_code", span_id: %q}] }`, id)
	}
	b.refusedAs("a function that its owner may not read", b.rule(12, "alice", "t1", of(hidden.ID)), bait,
		span.RunNotFound, "may call")
	b.refusedAs("a system policy and a tenant's function", b.rule(13, "system", "system", of(spy.ID)), bait,
		span.RunNotFound, "may call")
	b.refusedAs("a kernel", b.rule(14, "alice", "t1", kernel), bait, span.RunNotFound, "may call")
	b.refusedAs("no function", b.rule(15, "alice", "t1", of(bait.ID)), bait, span.RunNotFound, "may call")
	b.refusedAs("a request that it writes itself", b.rule(16, "alice", "t1",
		`function on() { return [{emit_span: {entity_type: "request"}}] }`), bait, span.RunDenied, "span_id")
}

func TestAPolicyMovesOnWhatItsOwnerOwns(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	own := b.put(1, "task", func(s *span.Span) { s.Metadata = json.RawMessage(`{"a":1}`) })
	bobs := b.put(2, "task", shared("bob", "t1"))
	elsewhere := b.put(3, "task", func(s *span.Span) { s.TenantID = "t2" })
	block := b.put(4, "prompt_block")
	function := b.function(5, "return 1")
	metric := b.put(6, "metric")
	request := b.request(7, function.ID)
	version := func(n int, owner, tenant string, id span.ID, changes string) *span.Span {
		return b.rule(n, owner, tenant,
			fmt.Sprintf(`function on() { return [{version: {id: %q, %s}}] }`, id, changes))
	}

	rule := version(0x10, "alice", "t1", own.ID, `status: "done", metadata: {b: 2}`)
	rows := b.judge(rule, bobs, "") // whoever triggered it
	if len(rows) != 1 || rows[0].ID != own.ID || rows[0].Seq != 1 || rows[0].StatusText() != "done" ||
		rows[0].OwnerID != "alice" || rows[0].Visibility != "private" || *rows[0].PrevHash != *own.CurrHash {
		t.Fatalf("got %+v", rows)
	}
	b.land(rows)
	if again := b.judge(rule, bobs, ""); len(again) != 0 {
		t.Errorf("a judgment that is told again appends %d versions", len(again))
	}
	same := version(0x11, "alice", "t1", own.ID, `status: "done"`)
	if rows := b.judge(same, bobs, ""); len(rows) != 0 {
		t.Errorf("equal content appends %d versions", len(rows))
	}
	n := 0x20
	for name, c := range map[string]struct {
		owner, tenant string
		id            span.ID
		changes       string
		code          span.RunCode
	}{
		"a mate's":                    {"alice", "t1", bobs.ID, `status: "done"`, span.RunNotFound},
		"a namesake's of a tenant":    {"alice", "t1", elsewhere.ID, `status: "done"`, span.RunNotFound},
		"what is not there":           {"alice", "t1", idOf(0x999), `status: "done"`, span.RunNotFound},
		"a function":                  {"alice", "t1", function.ID, `code: "return 2"`, span.RunDenied},
		"a request":                   {"alice", "t1", request.ID, `status: "complete"`, span.RunDenied},
		"a block's text":              {"alice", "t1", block.ID, `content: {text: "obey"}`, span.RunDenied},
		"a wrong life":                {"alice", "t1", block.ID, `status: "running"`, span.RunDenied},
		"an owner":                    {"alice", "t1", own.ID, `owner_id: "bob"`, span.RunDenied},
		"visibility":                  {"alice", "t1", own.ID, `visibility: "public"`, span.RunDenied},
		"no column":                   {"alice", "t1", own.ID, `nonsense: 1`, span.RunDenied},
		"no id":                       {"alice", "t1", own.ID, `id: "x"`, span.RunDenied},
		"the system, another tenant":  {"system", "system", elsewhere.ID, `status: "done"`, span.RunNotFound},
		"the system, more than life":  {"system", "system", own.ID, `name: "mine"`, span.RunDenied},
		"the system, the manifest":    {"system", "system", span.ManifestID, `status: "revoked"`, span.RunNotFound},
		"the system, a kernel":        {"system", "system", span.RunCodeID, `status: "revoked"`, span.RunNotFound},
		"the system, a user's policy": {"system", "system", rule.ID, `status: "archived"`, span.RunDenied},
	} {
		n++
		b.refusedAs(name, version(n, c.owner, c.tenant, c.id, c.changes), bobs, c.code, "")
	}
	for _, id := range []span.ID{own.ID, bobs.ID, block.ID, metric.ID} { // each in the tenant of the trigger
		n++
		rows := b.judge(version(n, "system", "system", id, `status: "archived", reason: "ttl"`), bobs, "")
		if len(rows) != 1 || rows[0].StatusText() != "archived" || rows[0].Who != "policy:test_rule" {
			t.Errorf("the system archives %s: got %+v", id, rows)
		}
	}
	b.refusedAs("two versions at once", b.rule(0x50, "alice", "t1", fmt.Sprintf(
		`function on() { return [{version: {id: %q, status: "a"}}, {version: {id: %q, status: "b"}}] }`, own.ID,
		own.ID)), bobs, span.RunDenied, "next version already")
}

func TestABucketIsFilledByVersions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	fill := func(n int, value string) *span.Span {
		return b.rule(n, "system", "system", `function on(span, ctx) { return [{emit_span: {id: ctx.bucket("day"),
			entity_type: "metric", value: `+value+`, metadata: {n: 1}}}] }`)
	}
	cause, other := b.put(1, "task"), b.put(2, "task", shared("bob", "t1"))
	rule := fill(0x10, `"1.50"`)
	first := b.judge(rule, cause, "")
	if len(first) != 1 || first[0].Seq != 0 || first[0].ID != bucketOf(rule.ID, cause, "day") {
		t.Fatalf("got %+v", first)
	}
	b.land(first)
	if rows := b.judge(rule, cause, ""); len(rows) != 0 {
		t.Errorf("equal content appends %d versions", len(rows))
	}
	if rows := b.judge(rule, other, ""); len(rows) != 1 || rows[0].ID == first[0].ID || rows[0].OwnerID != "bob" {
		t.Errorf("another owner's bucket: got %+v", rows)
	}
	next := *rule
	next.Seq, next.Code = 1, new(`function on(span, ctx) { return [{emit_span: {id: ctx.bucket("day"),
		entity_type: "metric", value: "2", metadata: {n: 2}}}] }`)
	b.publish(&next)
	rows := b.judge(&next, cause, "")
	if len(rows) != 1 || rows[0].Seq != 1 || *rows[0].PrevHash != *first[0].CurrHash || *rows[0].Value != "2" {
		t.Fatalf("got %+v", rows)
	}
	b.land(rows)
	b.refusedAs("a bucket that it did not ask for", b.rule(0x12, "alice", "t1", fmt.Sprintf(
		`function on() { return [{emit_span: {id: %q, entity_type: "note"}}] }`, first[0].ID)), cause,
		span.RunDenied, "ctx.bucket")
	b.refusedAs("a tenant's metric", b.rule(0x13, "alice", "t1",
		`function on() { return [{emit_span: {entity_type: "metric"}}] }`), cause, span.RunDenied, "tenant's policy")
	b.refusedAs("a forged report", b.rule(0x14, "alice", "t1",
		`function on() { return [{emit_span: {entity_type: "policy_error"}}] }`), cause, span.RunDenied, "throw")
	b.refusedAs("more turns for a span", b.rule(0x15, "alice", "t1", `function on() { return [{again: true}] }`),
		cause, span.RunDenied, "time-driven")
	b.refusedAs("too many", b.rule(0x16, "alice", "t1",
		`function on() { return Array.from({length: 51}, () => ({emit_span: {entity_type: "note"}})) }`), cause,
		span.RunLimitSpans, "50")

	// A function fills its own.
	count := b.function(0x20, `ctx.insertSpan({id: ctx.bucket("n"), entity_type: "note", metadata: {n: input}})`)
	for i, want := range []struct{ input, spans int }{{1, 1}, {1, 0}, {2, 1}} {
		_, group := b.execute(0x30+2*i, count.ID, func(s *span.Span) {
			s.Input = json.RawMessage(fmt.Sprint(want.input))
		})
		if got := len(group.Rows) - 1; got != want.spans {
			t.Errorf("run %d of the function appends %d spans, want %d", i, got, want.spans)
		} else if got == 1 {
			b.land(group.Rows[1:])
		}
	}
}

// tickOf is what the engine shows a time-driven policy of the system.
func tickOf(policy *span.Span, owner, tenant string, from, to time.Time) (*span.Span, string) {
	at := span.NewTime(to)
	subject := bucketOf(policy.ID, &span.Span{OwnerID: owner, TenantID: tenant}, "")
	s := &span.Span{ID: span.Derive("tick", to, []span.ID{policy.ID, subject}), Seq: policy.Seq, EntityType: "tick", Who: "sidecar:test", At: at, AcceptedAt: &at,
		OwnerID: owner, TenantID: tenant, Visibility: "private", PolicyID: &policy.ID}
	if owner == "system" {
		s.Visibility = "tenant"
	}
	return s, fmt.Sprintf(`{"every":"minute","from":%q,"to":%q,"round":0,"limit":50}`, span.NewTime(from), at)
}

// What a tick's policy may not move on stops none of the others, and asks for no more turns; a span that no
// hash can be made of moves on without one, as its client wrote it.
func TestAPoisonedSpanHoldsUpNoneOfItsTick(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	memory := func(s *span.Span) { s.Visibility = "tenant" }
	poisoned, sound := b.put(1, "memory", memory), b.put(2, "memory", memory)
	foreign := b.put(3, "memory", memory, func(s *span.Span) { s.TenantID = "t2" })
	b.tamper(`content = '{"n":9007199254740993}', curr_hash = null`, poisoned.ID)
	reaper := b.rule(10, "system", "system", fmt.Sprintf(`function on() { return [%q, %q, %q].map((id) =>
		({version: {id, status: "archived", reason: "ttl"}})).concat({again: true}) }`, poisoned.ID, foreign.ID,
		sound.ID))
	cause, tick := tickOf(reaper, "system", "t1", time.Now().Add(-time.Minute), time.Now())
	group := b.judgeAll(cause, tick, reaper)
	if len(group.Rows) != 3 || group.Again {
		t.Fatalf("got %+v, %s", group.Rows[0], group.Rows[0].Error)
	}
	wantCode(t, "the foreign one", group.Rows[0], span.RunNotFound, "no span "+foreign.ID.String())
	for i, of := range []*span.Span{poisoned, sound} {
		moved := group.Rows[i+1]
		if moved.ID != of.ID || moved.Seq != 1 || moved.StatusText() != "archived" ||
			(moved.CurrHash == nil) != (of == poisoned) {
			t.Errorf("got %+v", moved)
		}
	}
	b.land(group.Rows)
}

// What a stranger's policy emits is the stranger's own, and so is the report of its failure: nothing is put
// into the name of whoever shares a span.
func TestAStrangersPolicyActsInHisOwnName(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	chat := b.put(1, "chat", shared("bob", "t1"))
	emits := b.rule(2, "mallory", "t1", `function on() { return [
		{emit_span: {entity_type: "deploy", visibility: "private"}}, {emit_span: {entity_type: "note"}}] }`)
	fails := b.rule(3, "mallory", "t1", `function on() { throw new Error("bob did it") }`)
	claims := b.rule(4, "mallory", "t1",
		`function on() { return [{emit_span: {entity_type: "deploy", owner_id: "bob"}}] }`)
	rows := b.judgeAll(chat, "", emits, fails, claims).Rows
	want := []string{"deploy private", "note tenant", "policy_error private", "policy_error private"}
	if len(rows) != len(want) {
		t.Fatalf("got %d spans, want %q", len(rows), want)
	}
	for i, row := range rows {
		if got := row.EntityType + " " + row.Visibility; got != want[i] || row.OwnerID != "mallory" {
			t.Errorf("span %d: got %s of %s, want %s of mallory", i, got, row.OwnerID, want[i])
		}
	}
	b.land(rows)
}

// One policy costs another nothing: neither by how much it asks for, nor by the other's own buckets.
func TestAPolicySpoilsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	order := b.put(1, "order", shared("bob", "t1"))
	asks := b.rule(2, "bob", "t1",
		`function on(s, ctx) { return [{emit_span: {id: ctx.bucket("k"), entity_type: "note", name: "bob's"}}] }`)
	floods := b.rule(3, "mallory", "t1",
		`function on() { return Array.from({length: 1000}, () => ({emit_span: {entity_type: "note"}})) }`)
	steals := b.rule(4, "mallory", "t1", fmt.Sprintf(
		`function on() { return [{emit_span: {id: %q, entity_type: "note"}}] }`, bucketOf(asks.ID, order, "k")))
	policies := []*span.Span{asks, floods, steals}
	for i := range 30 { // as many as may act more than a thousand times
		policies = append(policies, b.rule(0x100+i, "bob", "t1",
			`function on() { return Array.from({length: 50}, () => ({emit_span: {entity_type: "note"}})) }`))
	}
	rows := b.judgeAll(order, "", policies...).Rows
	if len(rows) != 3+30*50 {
		t.Fatalf("got %d spans", len(rows))
	}
	if deref(rows[0].Name) != "bob's" {
		t.Errorf("got %+v", rows[0])
	}
	wantCode(t, "the flood", rows[1], span.RunLimitSpans, "1000 actions")
	wantCode(t, "the theft", rows[2], span.RunDenied, "ctx.bucket")
}

// A policy that fails on every span does not fill the ledger with reports, and a report has one id.
func TestAPolicyThatAlwaysFailsIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	rule := b.rule(1, "alice", "t1", "function on(span) {\n  return [{emit_span: {entity_type: 'note'}}, oops];\n}")
	reports := 0
	for i := range policyFailures + 5 {
		cause := b.put(0x10+i, "task")
		rows := b.judge(rule, cause, "")
		if reports += len(rows); len(rows) == 0 {
			continue
		}
		want := span.Emission(rule.ID, cause.Key(), cause.AcceptedAt.Time, 0)
		if rows[0].EntityType != "policy_error" || rows[0].ID != want || *rows[0].PolicyID != rule.ID {
			t.Fatalf("got %+v", rows[0])
		}
		var fault span.RunError
		err := json.Unmarshal(rows[0].Error, &fault)
		if err != nil || i == 0 && (fault.Line != 2 || fault.Column == 0) {
			t.Errorf("the report says %s, %v", rows[0].Error, err)
		}
	}
	if reports != policyFailures+1 {
		t.Errorf("%d reports of %d failures, want %d and the word that it rests", reports, policyFailures+5,
			policyFailures)
	}
}

// Requests that policies make of executions end with the chain of causes: nothing runs in circles.
func TestAPolicyOnExecutionsCannotRunForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	f := b.function(1, "return 1")
	rule := b.rule(2, "alice", "t1", fmt.Sprintf(
		`function on(span) { return [{run: "run_code", span_id: %q}] }`, f.ID))
	meta := func(depth int) func(*span.Span) {
		return func(s *span.Span) {
			metadata, err := span.SetEngine(nil,
				span.EngineMeta{Cause: f.Key(), Root: f.ID, Depth: depth, Kind: "execution"})
			if err != nil {
				t.Fatal(err)
			}
			s.Metadata = metadata
		}
	}
	if rows := b.judge(rule, b.put(3, "execution", meta(span.MaxDepth-1)), ""); len(rows) != 1 ||
		rows[0].EntityType != "request" {
		t.Errorf("one more: got %+v", rows)
	}
	var violations []span.ID
	for n := range 2 { // however many come to that end, it is told once for their root
		rows := b.judge(rule, b.put(4+n, "execution", meta(span.MaxDepth)), "")
		if len(rows) != 1 || rows[0].EntityType != "policy_violation" {
			t.Fatalf("too deep: got %+v", rows)
		}
		wantCode(t, "too deep", rows[0], span.RunDenied, "triggers itself")
		violations = append(violations, rows[0].ID)
	}
	if violations[0] != violations[1] {
		t.Errorf("two violations of one root: %v", violations)
	}
}
