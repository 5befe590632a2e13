package stage0

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// kernelOf is a kernel of these statements, under the name observer_bot.
func kernelOf(statements string) map[string]string {
	return map[string]string{"observer_bot": "export default async function main(ctx) { " + statements + " }"}
}

func grants(list ...string) map[string]any {
	return map[string]any{"grants": map[string]any{"observer_bot": list}}
}

func TestKernelsSpansAreCompletedByTheHost(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:*,status_patch,metric"), kernelOf(`
		ctx.insertSpan({entity_type: "note", name: "a", who: "kernel:other", seq: 7, at: "2020-01-02T03:04:05Z",
			visibility: "public", curr_hash: "x", xact: "9", signature: "y", prev_hash: "z",
			metadata: {mine: 1, engine: {cause: ["x", 1], depth: 0}}, tags: null});
		ctx.insertSpan({entity_type: "note", visibility: "private", trace_id: "own"});
		ctx.insertSpan({entity_type: "metric", owner_id: "alice", tenant_id: "t1"});
		ctx.insertSpan({entity_type: "request"});`))
	cause := b.put(1, "function", func(s *span.Span) { s.Visibility, s.TraceID = "tenant", new("trace") })
	_, err := b.boot("observer_bot", "", cause)
	if err == nil {
		t.Fatal("* grants requests")
	}
	wantCode(t, "request by *", err, span.RunDenied, "insertSpan:request")

	b.publish(b.manifestSpan(document(t, grants("insertSpan:*,status_patch,metric,request"))))
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	rows := results[cause.Key()].group.Rows
	if len(rows) != 4 || results[cause.Key()].group.Fence != nil {
		t.Fatalf("got %+v", results)
	}
	at := cause.AcceptedAt.Time
	for i, row := range rows {
		want := span.Derive("observer_bot", at, []span.ID{cause.ID}, 0, int64(i))
		kind := "observer_bot"
		if i == 3 {
			want, kind = span.Derive("request", at, []span.ID{cause.ID}, 0), "request"
		}
		meta, ok := row.Engine()
		if row.ID != want || !ok || *meta != (span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1,
			Kind: kind}) {
			t.Errorf("row %d: id %s, want %s; engine %+v", i, row.ID, want, meta)
		}
		if row.OwnerID != "alice" || row.TenantID != "t1" || row.Seq != 0 || row.Who != "kernel:observer_bot" ||
			row.PrevHash != nil || row.Signature != nil || row.Xact != nil || row.VerifyHash() != nil {
			t.Errorf("row %d: got %+v", i, row)
		}
	}
	if rows[0].Visibility != "tenant" || rows[1].Visibility != "private" || rows[2].Visibility != "tenant" {
		t.Errorf("visibility: %s %s %s", rows[0].Visibility, rows[1].Visibility, rows[2].Visibility)
	}
	if *rows[0].TraceID != "trace" || *rows[1].TraceID != "own" ||
		rows[0].At.String() != "2020-01-02T03:04:05.000000Z" ||
		!strings.Contains(string(rows[0].Metadata), `"mine":1`) || !rows[3].At.Equal(cause.At.Time) {
		t.Errorf("got %+v", rows)
	}
	again, err := b.boot("observer_bot", "", cause)
	if err != nil || again[cause.Key()].group.Rows[2].ID != rows[2].ID {
		t.Errorf("a second run gives other ids: %v", err)
	}
}

func TestKernelCallsThatAreDenied(t *testing.T) {
	t.Parallel()
	const foreign = "018f0000-0077-7000-8000-000000000000"
	for name, c := range map[string]struct{ code, message string }{
		`ctx.insertSpan({entity_type: "execution"})`:          {"denied", "does not grant insertSpan:execution"},
		`ctx.insertSpan({entity_type: "manifest"})`:           {"denied", "does not grant"},
		`ctx.insertSpan({entity_type: "note", id: ctx.id()})`: {"denied", "host derives the id"},
		`ctx.insertSpan({entity_type: "note", id: ctx.manifest.kernels.run_code})`: {"denied",
			"host derives the id"},
		`ctx.insertSpan({entity_type: "note", id: "` + foreign + `", seq: 1})`: {"denied", "made by ctx.version"},
		`ctx.insertSpan({entity_type: "note", id: ctx.batch[0].id})`:           {"denied", "is in the batch"},
		`for (let i = 0; i < 2; i++) ctx.insertSpan({entity_type: "note", id: "` + foreign + `"})`: {"denied",
			"an earlier span of this run"},
		`ctx.insertSpan({entity_type: "note", id: "no uuid"})`: {"denied", "no span"},
		`ctx.insertSpan({entity_type: "note", when: "2026-01-01T00:00:00Z", at: "2026-01-02T00:00:00Z"})`: {"denied",
			"two names"},
		`ctx.insertSpan({entity_type: "note", owner_id: "bob"})`: {"denied", "takes owner and tenant"},
		`ctx.insertSpan({entity_type: "note", tenant_id: "t2"})`: {"denied", "takes owner and tenant"},
		`ctx.insertSpan({entity_type: "note", nonsense: 1})`:     {"denied", "no column"},
		`ctx.insertSpan({entity_type: "note", metadata: [1]})`:   {"denied", "metadata"},
		`ctx.insertSpan({entity_type: "note", duration_ms: -1})`: {"denied", "duration_ms"},
		`ctx.insertSpan(null)`:                                   {"denied", "object of columns"},
		`ctx.insertSpan({entity_type: "note"}, 7)`:               {"denied", "origin"},
		`ctx.insertSpan({entity_type: "note"}, {cause: {id: "` + foreign + `"}})`: {"denied",
			"not in the batch"},
		`ctx.insertSpan({entity_type: "note"}, {policy: {id: "` + foreign + `"}})`: {"denied",
			"was not matched"},
		`for (let i = 0; i < 111; i++) ctx.insertSpan({entity_type: "note"})`: {"limit.spans", "more than 110"},
		`for (let i = 0; i < 101; i++) await ctx.find({name: "x"})`:           {"limit.sql", "more than 100"},
		`ctx.version("` + foreign + `", {status: "complete"})`: {"denied",
			"not in the batch"},
		`ctx.version("x", {status: "complete"})`:             {"denied", "id of a span"},
		`ctx.version(ctx.batch[0].id, {status: "complete"})`: {"denied", "does not grant version:function"},
		"await ctx.sql`select 1`":                            {"denied", "does not grant sql"},
		`await ctx.run({id: "` + foreign + `"})`:             {"denied", "does not grant run"},
		`await ctx.find({code: "x"})`:                        {"denied", "cannot be filtered"},
		`await ctx.find({id: "x"})`:                          {"denied", "uuid"},
		`await ctx.find({name: {a: 1}})`:                     {"denied", "{gt, gte, lt, lte}"},
		`await ctx.find({name: ["a", 1]})`:                   {"denied", "text or a list"},
		`await ctx.find("x")`:                                {"denied", "object of columns"},
		`await ctx.find({}, 0)`:                              {"denied", "1 to 1000"},
		`await ctx.find({}, 1.5)`:                            {"denied", "1 to 1000"},
		`try { ctx.insertSpan({entity_type: "execution"}).id } catch (e) { throw e }`: {"denied", "does not grant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, grants("insertSpan:*"), kernelOf(name))
			results, err := b.boot("observer_bot", "", b.put(1, "function"))
			wantCode(t, name, err, span.RunCode(c.code), c.message)
			if len(results) != 0 {
				t.Errorf("it emits %+v", results)
			}
		})
	}
}

func TestBatchOfSeveralNeedsACause(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:*"), kernelOf(`
		let refused;
		try { ctx.insertSpan({entity_type: "note"}).id } catch (error) { refused = error.code }
		for (const {id, seq} of ctx.batch.slice(1)) ctx.insertSpan({entity_type: "note", name: refused}, {cause:
			{id, seq}});`))
	batch := []*span.Span{b.put(1, "function"), b.put(2, "function", func(s *span.Span) { s.OwnerID = "bob" }),
		b.put(3, "function", func(s *span.Span) { s.TenantID = "t2" })}
	results, err := b.boot("observer_bot", "", batch...)
	if err != nil || len(results) != 2 {
		t.Fatalf("got %+v, %v", results, err)
	}
	for _, cause := range batch[1:] {
		row := results[cause.Key()].group.Rows[0]
		if row.OwnerID != cause.OwnerID || row.TenantID != cause.TenantID || *row.Name != "denied" {
			t.Errorf("got %+v", row)
		}
	}
}

// A chain of causes ends at depth 16; what reports a fault may stand deeper.
func TestDepthIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:*,incident"), kernelOf("ctx.insertSpan({entity_type: ctx.batch[0].name})"))
	root := span.MustID("018f0000-0099-7000-8000-000000000000")
	for i, c := range []struct {
		depth      int
		entityType string
		code       span.RunCode
	}{{15, "note", ""}, {16, "note", span.RunDenied}, {16, "incident", ""}, {40, "note", span.RunDenied}} {
		cause := b.put(i+1, "function", func(s *span.Span) {
			s.Name = &c.entityType
			var err error
			s.Metadata, err = span.SetEngine(nil,
				span.EngineMeta{Cause: span.Key{ID: root}, Root: root, Depth: c.depth, Kind: "x"})
			if err != nil {
				t.Fatal(err)
			}
		})
		results, err := b.boot("observer_bot", "", cause)
		wantCode(t, fmt.Sprint(c.depth, c.entityType), err, c.code, "")
		if c.code != "" {
			continue
		}
		meta, ok := results[cause.Key()].group.Rows[0].Engine()
		if !ok || meta.Depth != c.depth+1 || meta.Root != root || meta.Cause != cause.Key() {
			t.Errorf("got %+v", meta)
		}
	}
}

// metadata.run is the host's own record: whatever the kernel writes there is replaced.
func TestKernelCannotForgeTheAudit(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, map[string]string{"run_code": `export default async function main(ctx) {
		const r = ctx.batch[0];
		const result = await ctx.run({id: r.parent_id});
		ctx.insertSpan({entity_type: "execution", status: "complete", attempt: 99, output: result.output,
			metadata: {mine: true, run: {function: {id: "forged"}, kernels: []}}});
		ctx.version(r.id, {status: "complete"});
	}`})
	f := b.function(1, "await ctx.find({name: 'x'}); ctx.log('said'); return Math.random()")
	results, err := b.boot("request_worker", "", b.request(2, f.ID))
	if err != nil || len(results) != 1 {
		t.Fatal(results, err)
	}
	for _, r := range results {
		x := r.group.Rows[0]
		var metadata struct {
			Mine bool
			Run  runRecord
		}
		if err := json.Unmarshal(x.Metadata, &metadata); err != nil {
			t.Fatal(err)
		}
		run := metadata.Run
		if !metadata.Mine || run.Function.ID != f.ID || *run.Function.CurrHash != *f.CurrHash ||
			len(run.Seed) != 64 ||
			run.StartedAt == nil || len(run.Calls) != 1 || len(run.Logs) != 1 || *x.Attempt != 1 {
			t.Errorf("got %s", x.Metadata)
		}
		var names []string
		for _, k := range run.Kernels {
			names = append(names, k.Name)
			if k.CurrHash == nil {
				t.Errorf("%s has no hash", k.Name)
			}
		}
		if !slices.Equal(names, []string{"request_worker", "run_code"}) {
			t.Errorf("kernels: %v", names)
		}
		if want := span.Derive("execution", r.group.Fence.At.Time, nil); x.ID.Version() != want.Version() {
			t.Errorf("the id %s is not derived", x.ID)
		}
	}
}

// The same request and attempt give the same execution, randomness included.
func TestRunsAreRepeatable(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	f := b.function(1, "ctx.insertSpan({entity_type: 'note', name: ctx.id()}); return [Math.random(), ctx.id().slice(15)]")
	request := b.request(2, f.ID)
	run := func(attempt int) (string, span.ID, span.ID) {
		again := *request
		again.Attempt = &attempt
		results, err := b.boot("run_code", "", &again)
		if err != nil {
			t.Fatal(err)
		}
		rows := results[again.Key()].group.Rows
		return string(rows[0].Output), rows[0].ID, rows[1].ID
	}
	output, execution, emitted := run(1)
	at := request.AcceptedAt.Time
	if execution != span.Derive("execution", at, []span.ID{request.ID}, 1) ||
		emitted != span.Derive("function", at, []span.ID{request.ID, f.ID}, 1, 0) {
		t.Errorf("ids %s and %s", execution, emitted)
	}
	if o, x, e := run(1); o != output || x != execution || e != emitted {
		t.Errorf("%s and %s differ", o, output)
	}
	if o, x, e := run(2); o == output || x == execution || e == emitted {
		t.Error("a second attempt repeats the first")
	}
}

// A kernel inserts what a function emitted exactly as it was emitted, or drops it.
func TestKernelCannotChangeWhatAFunctionEmitted(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"grants": map[string]any{"run_code": []string{"run"}}},
		map[string]string{"run_code": `export default async function main(ctx) {
			const result = await ctx.run({id: ctx.batch[0].parent_id});
			ctx.insertSpan({...result.spans[0], entity_type: "execution", name: "changed", metadata: {run: "forged"}});
		}`})
	request := b.request(2, b.function(1, "ctx.insertSpan({entity_type: 'note', name: 'mine'})").ID)
	results, err := b.boot("run_code", "", request)
	if err != nil || len(results[request.Key()].group.Rows) != 1 {
		t.Fatal(results, err)
	}
	for _, row := range results[request.Key()].group.Rows {
		if row.EntityType != "note" || *row.Name != "mine" {
			t.Errorf("a kernel without any grant to insert wrote %s %q", row.EntityType, *row.Name)
		}
	}
}

func TestVersionMovesOnlyRequestsOfTheBatchOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("version:request,function"), kernelOf(`
		const codes = [];
		for (const change of [{status: ""}, {status: "complete", did: "ran", owner_id: "bob", input: {forged: 1},
				id: ctx.batch[0].parent_id, reason: "because"}, {status: "error"}]) {
			try { codes.push(ctx.version(ctx.batch[0].id, change).status) } catch (error) { codes.push(error.code) }
		}
		return codes;`))
	request := b.request(2, idOf(0xfff0), func(s *span.Span) { s.Input = json.RawMessage(`{"n":1}`) })
	results, err := b.boot("observer_bot", "", request)
	if err != nil {
		t.Fatal(err)
	}
	fence := results[request.Key()].group.Fence
	if fence == nil || fence.ID != request.ID || fence.Seq != 1 || fence.StatusText() != "complete" ||
		*fence.Did != "ran" || *fence.Reason != "because" || fence.OwnerID != "alice" || fence.Input != nil ||
		*fence.PrevHash != *request.CurrHash || fence.Who != "kernel:observer_bot" || fence.VerifyHash() != nil {
		t.Errorf("got %+v", fence)
	}
	_, err = b.boot("observer_bot", "", b.put(3, "function"))
	if err == nil {
		return // the refusals were caught
	}
	wantCode(t, "a function", err, span.RunDenied, "only requests")
}
