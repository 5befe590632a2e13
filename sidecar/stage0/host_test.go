package stage0

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// output runs a function of alice and returns what it gave.
func (b *bench) output(n int, source string, change ...func(*span.Span)) string {
	b.t.Helper()
	x, _ := b.execute(n+1, b.function(n, source).ID, change...)
	if x.Error != nil {
		return string(x.Error)
	}
	return string(x.Output)
}

func (b *bench) note(n int, name, owner, tenant, visibility string) {
	b.t.Helper()
	b.put(n, "note", func(s *span.Span) {
		s.Name, s.OwnerID, s.TenantID, s.Visibility = &name, owner, tenant, visibility
	})
}

func TestFindSeesWhatTheCauseMayRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.note(1, "own", "alice", "t1", "private")
	b.note(2, "bob's", "bob", "t1", "private")
	b.note(3, "shared", "bob", "t1", "tenant")
	b.note(4, "elsewhere", "alice", "t2", "private")
	b.note(5, "public", "eve", "t3", "public")
	const find = `const all = await ctx.find({entity_type: "note"}); return all.map((s) => s.name).sort()`
	if got := b.output(10, find); got != `["own","public","shared"]` {
		t.Errorf("alice finds %s", got)
	}
	const filtered = `const [one] = await ctx.find({name: ["own", "bob's"], tenant_id: ["t1", "t2"]}, 1); return one.name`
	if got := b.output(20, filtered); got != `"own"` {
		t.Errorf("filtered: %s", got)
	}
	const none = `return [await ctx.find({name: []}), await ctx.find({name: null}), (await ctx.find(null)).length > 0]`
	if got := b.output(30, none); got != `[[],[],true]` {
		t.Errorf("empty filters: %s", got)
	}
	const caught = `try { await ctx.find({id: "x"}) } catch (error) { return error.code }`
	if got := b.output(40, caught); got != `"denied"` {
		t.Errorf("a refused find: %s", got)
	}
	// A batch of several owners is read as the system, which owns nothing of theirs.
	kernel := setup(t, grants("insertSpan:note"), kernelOf(`
		const all = await ctx.find({entity_type: "note"});
		for (const {id, seq} of ctx.batch) ctx.insertSpan({entity_type: "note", name: all.map((s) =>
			s.name).sort().join()},
			{cause: {id, seq}});`))
	kernel.note(1, "own", "alice", "t1", "private")
	kernel.note(5, "public", "eve", "t3", "public")
	for _, c := range []struct{ owner, want string }{{"alice", "own,public"}, {"bob", "public"}} {
		batch := []*span.Span{kernel.put(6+len(c.owner), "function"), kernel.put(16+len(c.owner), "function",
			func(s *span.Span) { s.OwnerID = c.owner })}
		results, err := kernel.boot("observer_bot", "", batch...)
		if err != nil || *results[batch[0].Key()].group.Rows[0].Name != c.want {
			t.Errorf("alice and %s: %v, %v", c.owner, results, err)
		}
	}
}

func TestSQLIsForKernelsWithTheGrant(t *testing.T) {
	t.Parallel()
	if got := setup(t, nil, nil).output(1, "return typeof ctx.sql + typeof ctx.run + typeof ctx.version"); got !=
		`"undefinedundefinedundefined"` {
		t.Errorf("a function's ctx has %s", got)
	}
	manifest := grants("sql", "insertSpan:note")
	manifest["limits"] = map[string]any{"sql_rows": 10}
	b := setup(t, manifest, kernelOf(`
		const codes = {};
		const attempt = async (name, query) => {
			try { codes[name] = (await query()).rows } catch (error) { codes[name] = error.code }
		};
		await attempt("one", () => ctx.sql`+"`select ${1}::int as a, ${'x'} as b, ${null}::text as c`"+`);
		await attempt("mine", () => ctx.sql`+"`select id, name from ledger.visible_timeline where entity_type = ${'note'}`"+`);
		await attempt("many", () => ctx.sql`+"`select generate_series(1, 11)`"+`);
		await attempt("slow", () => ctx.sql`+"`select count(*) from generate_series(1, 10000000000)`"+`);
		await attempt("insert", () => ctx.sql`+"`insert into ledger.universal_registry (entity_type) values ('note')`"+`);
		await attempt("role", () => ctx.sql`+"`set role loglineos_sidecar`"+`);
		await attempt("syntax", () => ctx.sql`+"`selec`"+`);
		await attempt("value", () => ctx.sql`+"`select ${{a: 1}}::int`"+`);
		await attempt("plain", () => ctx.sql("select 1"));
		ctx.insertSpan({entity_type: "note", output: codes});`))
	b.note(1, "own", "alice", "t1", "private")
	b.note(2, "bob's", "bob", "t1", "private")
	cause := b.put(3, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(results[cause.Key()].group.Rows[0].Output, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"one": "[map[a:1 b:x c:<nil>]]", "mine": fmt.Sprintf("[map[id:%s name:own]]", idOf(1)),
		"many": "limit.rows",
		"slow": "denied", "insert": "denied", "syntax": "denied", "value": "denied",
	} {
		if fmt.Sprint(got[name]) != want {
			t.Errorf("%s: got %v, want %s", name, got[name], want)
		}
	}
	if n := ask[int](b, "select count(*) from ledger.universal_registry where entity_type = 'note'"); n != 2 {
		t.Errorf("%d notes", n)
	}
	// The connections work for everybody as before.
	for i := range 6 {
		b.note(10+i, "after", "alice", "t1", "private")
	}
}

func TestNestedKernels(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"grants": map[string]any{"observer_bot": []string{"run"},
		"run_code": []string{"run", "reserve",
			"insertSpan:execution", "version:request"}}}, kernelOf(`
		const results = [];
		for (const {id, seq} of ctx.batch) {
			const result = await ctx.run({id: ctx.manifest.kernels.run_code, cause: {id, seq}});
			results.push([result.ok, result.error ? result.error.code : result.output]);
		}
		return results;`))
	f := b.function(1, "return 1")
	batch := []*span.Span{b.request(2, f.ID), b.request(3, f.ID), b.request(4, idOf(0xfff0))}
	results, err := b.boot("observer_bot", "", batch...)
	if err != nil || len(results) != 3 {
		t.Fatalf("got %+v, %v", results, err)
	}
	for i, want := range []string{"complete", "complete", "error"} {
		if got := results[batch[i].Key()].group.Fence.StatusText(); got != want {
			t.Errorf("request %d is %s, want %s", i, got, want)
		}
	}
	b.tamper("code = ''", span.RunCodeID)
	b.Stage0.mu.Lock()
	clear(b.Stage0.kernels)
	b.Stage0.mu.Unlock()
	results, err = b.boot("observer_bot", "", batch[0])
	if err != nil || results[batch[0].Key()].err == nil ||
		results[batch[0].Key()].err.Code != span.RunHashMismatch {
		t.Errorf("a nested kernel that is refused: %+v, %v", results, err)
	}
}

func TestKernelsNestFourDeepAtMost(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("run"), kernelOf(`
		const result = await ctx.run({id: ctx.manifest.kernels.observer_bot});
		if (!result.ok) throw new Error(result.error.message);`))
	cause := b.put(1, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err == nil && results[cause.Key()].err == nil {
		t.Fatal("a kernel that runs itself ends well")
	}
}

// Policies run where the router matched them, as their owner, and their actions are derived from both.
func TestPolicies(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.note(1, "alice's", "alice", "t1", "private")
	policy := func(n int, code string) *span.Span {
		return b.put(n, "policy", func(s *span.Span) { s.OwnerID, s.Code = "bob", &code })
	}
	emits := policy(2, `export default function on(span, ctx) {
		return [{emit_span: {entity_type: "note", name: span.name, metadata: {engine: 1}}}, {emit_span: {entity_type: "task"}}];
	}`)
	finds := policy(3, `export default async function on(span, ctx) {
		return [{emit_span: {entity_type: "note", name: (await ctx.find({name: "alice's"})).length + " found"}}];
	}`)
	forbidden := policy(4, `export default () => [{emit_span: {entity_type: "note"}}, {emit_span: {entity_type: "execution"}},
		{emit_span: {entity_type: "manifest"}}, {emit_span: {entity_type: "note"}}]`)
	unmatched := policy(5, "export default () => []")
	cause := b.put(6, "note", func(s *span.Span) { s.Name = new("seen") })
	input := func(policies ...*span.Span) string {
		var matches []string
		for _, p := range policies {
			matches = append(matches, fmt.Sprintf(`{"span":[%q,0],"policy":{"id":%q,"seq":0}}`, cause.ID, p.ID))
		}
		return `{"matches":[` + strings.Join(matches, ",") + `]}`
	}
	results, err := b.boot("policy_agent", input(emits, finds, forbidden), cause)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	at := cause.AcceptedAt.Time
	group := results[cause.Key()].group
	rows := flat(group).Rows
	for _, row := range rows {
		got = append(got, fmt.Sprint(row.EntityType, " ", deref(row.Name), " ",
			row.Who == "policy:"+row.PolicyID.String()))
		if row.OwnerID != "bob" || row.ID == (span.ID{}) { // a stranger's policy acts in his name
			t.Errorf("got %+v", row)
		}
		if *row.PolicyID == forbidden.ID && !strings.Contains(string(row.Error), "execution") {
			t.Errorf("the first refusal is lost: %s", row.Error)
		}
	}
	want := []string{"note seen true", "task  true", "note 0 found true", "policy_error  true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if rows[1].ID != span.Emission(emits.ID, cause.Key(), at, 1) {
		t.Errorf("id %s", rows[1].ID)
	}
	for turn, want := range []bool{true, false} { // of two judgments the second has no effect
		outcomes, err := b.config.Ledger.Append(t.Context(), group.Parts)
		if err != nil || len(outcomes) != 3 {
			t.Fatalf("the ledger: %+v, %v", outcomes, err)
		}
		for i, outcome := range outcomes {
			if outcome.Err != nil || outcome.Won != want {
				t.Errorf("turn %d, part %d: %+v", turn, i, outcome)
			}
		}
	}
	kernel := setup(t, grants("run"), kernelOf(`return (await ctx.run({id: "`+unmatched.ID.String()+`", seq:
		0})).error.code`))
	kernel.put(5, "policy", func(s *span.Span) { s.Code = unmatched.Code })
	if _, err := kernel.boot("observer_bot", "", kernel.put(6, "note")); err != nil {
		t.Error(err)
	}
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func TestFailureEndsARequest(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	request := b.request(1, idOf(0xfff0), func(s *span.Span) { s.Visibility = "tenant" })
	group, err := b.Failure(request, &span.RunError{Code: span.RunRevoked, Message: "why"})
	if err != nil {
		t.Fatal(err)
	}
	x := group.Rows[0]
	wantCode(t, "execution", x, span.RunRevoked, "why")
	if x.ID != span.Derive("execution", request.AcceptedAt.Time, []span.ID{request.ID}, 1) || x.Visibility != "tenant" ||
		x.Who != "sidecar:test" || group.Fence.StatusText() != "error" || group.Fence.Seq != 1 {
		t.Errorf("got %+v and %+v", x, group.Fence)
	}
	outcomes, err := b.config.Ledger.Append(t.Context(), []ledger.Group{group})
	if err != nil || outcomes[0].Err != nil || !outcomes[0].Won {
		t.Errorf("the ledger: %+v, %v", outcomes, err)
	}
}

// What ctx.sql reads is rounded no more than what ctx.find reads: a number that no double holds is its text.
func TestSQLRoundsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("sql", "insertSpan:note"), kernelOf(
		"const {rows: [r]} = await ctx.sql`select content, content -> 'n' as n, array[content -> 'n'] as list,"+
			" value, (content ->> 'n')::bigint as big, 1.5::numeric as small, 2::bigint as two"+
			" from ledger.visible_timeline where name = 'odd'`;"+
			`ctx.insertSpan({entity_type: "note", content: r});`))
	b.put(5, "note", func(s *span.Span) {
		s.Name, s.Value = new("odd"), new(span.Decimal("9007199254740993.5"))
	})
	b.tamper(`content = '{"n":9007199254740993,"ok":10.50}'`, idOf(5)) // what a client without a hash may send
	cause := b.put(1, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"content":{"n":"9007199254740993","ok":10.5},"n":"9007199254740993",` +
		`"list":["9007199254740993"],"value":"9007199254740993.5","big":"9007199254740993","small":1.5,"two":2}`
	var got, wanted any
	if json.Unmarshal(results[cause.Key()].group.Rows[0].Content, &got) != nil ||
		json.Unmarshal([]byte(want), &wanted) != nil || fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("got %s, want %s", results[cause.Key()].group.Rows[0].Content, want)
	}
}
