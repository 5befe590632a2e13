package stage0

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// requests appends n requests for function, which differ in their input.
func (b *bench) requests(first, n int, function span.ID) []*span.Span {
	b.t.Helper()
	batch := make([]*span.Span, n)
	for i := range batch {
		batch[i] = b.request(first+i, function)
	}
	return batch
}

// wantEach checks that each request ended with its own execution and version, and how.
func wantEach(t *testing.T, results map[span.Key]result, batch []*span.Span, status string) {
	t.Helper()
	for _, request := range batch {
		group := results[request.Key()].group
		if group.Fence == nil || group.Fence.ID != request.ID || group.Fence.StatusText() != status ||
			len(group.Rows) != 1 || group.Rows[0].RelatedTo[0] != request.ID || group.Fence.CurrHash == nil {
			t.Errorf("%s: got %+v, want one execution and %s", request.ID, results[request.Key()], status)
		}
	}
}

func TestManyRequestsShareARunOfRunCode(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	batch := b.requests(10, 8, b.function(1, "return ctx.env").ID)
	results, err := b.boot("request_worker", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	wantEach(t, results, batch, "complete")
	counts := map[string]int{}
	for _, count := range b.boots.take(1 << 40) {
		counts[count.kernel.name] += count.count
	}
	if counts["run_code"] != 1 {
		t.Errorf("run_code booted %d times for 8 requests", counts["run_code"])
	}
}

// A slow request of a run holds up none of the others: theirs are handed on while it still runs.
func TestEachRequestOfARunIsCompleteOnItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	slow := b.request(10, b.function(1, "await new Promise(() => { setTimeout(() => 1, 60000) })").ID)
	quick := b.requests(20, 3, b.function(2, "return 1").ID)
	running, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	emitted := 0
	err := b.Boot(t.Context(), Job{Kernel: "request_worker", Batch: append(quick, slow),
		Cancel: func(cause span.Key) context.Context {
			if cause == slow.Key() {
				return running
			}
			return t.Context()
		},
		Emit: func(cause span.Key, _ ledger.Group, _ *span.RunError) {
			mu.Lock()
			defer mu.Unlock()
			if emitted++; emitted == len(quick) {
				if cause == slow.Key() {
					t.Error("the slow one came before another")
				}
				stop() // or it would go on for a minute
			}
		}})
	if err != nil || emitted != 4 {
		t.Errorf("%d of 4 requests are complete: %v", emitted, err)
	}
}

// A kernel that was written for one request at a time gets each alone, whatever its caller asks for.
func TestAKernelForOneCauseIsRunForEachAlone(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"that takes the first": `export default async function main(ctx) { const request = ctx.batch[0];
			const result = await ctx.run({id: request.parent_id});
			ctx.insertSpan({entity_type: "execution", output: result.output, related_to: [request.id]});
			ctx.version(request.id, {status: "complete"}) }`,
		"that names no cause": `export default async function main(ctx) { for (const request of ctx.batch) {
			ctx.insertSpan({entity_type: "execution", related_to: [request.id]});
			ctx.version(request.id, {status: "complete"}) } }`,
	} {
		b := setup(t, nil, map[string]string{"run_code": source})
		batch := b.requests(10, 4, b.function(1, "return 1").ID)
		results, err := b.boot("request_worker", "", batch...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantEach(t, results, batch, "complete")
	}
}

// What a kernel fails on costs the other requests of its run nothing.
func TestOneRequestThatAKernelFailsOnCostsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, map[string]string{"run_code": `export default async function main(ctx) {
		for (const request of ctx.batch) {
			if (request.input === "bad") throw new Error("bad input");
			const of = {cause: {id: request.id, seq: request.seq}};
			ctx.insertSpan({entity_type: "execution", related_to: [request.id]}, of);
			ctx.version(request.id, {status: "complete"});
			if (request.input === "late") ctx.insertSpan({entity_type: "execution"}, of);
		}
	}`})
	function := b.function(1, "return 1").ID
	with := func(input string) func(*span.Span) {
		return func(s *span.Span) { s.Input = []byte(`"` + input + `"`) }
	}
	batch := []*span.Span{b.request(10, function, with("a")), b.request(11, function, with("bad")),
		b.request(12, function, with("b"))}
	results, err := b.boot("request_worker", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	wantEach(t, results, []*span.Span{batch[0], batch[2]}, "complete")
	wantCode(t, "the bad one", results[batch[1].Key()].err, span.RunException, "bad input")
	// What comes behind the version is refused, and the version stands.
	late := []*span.Span{b.request(20, function, with("late")), b.request(21, function, with("c"))}
	if results, err = b.boot("request_worker", "", late...); err != nil {
		t.Fatal(err)
	}
	wantEach(t, results, late, "complete")
}

func TestSeveralCausesAreForKernels(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("run", "insertSpan:note"), kernelOf(`
		const causes = ctx.batch.map(({id, seq}) => ({id, seq}));
		const said = [];
		for (const target of [{id: ctx.batch[0].id, causes}, {id: ctx.manifest.kernels.run_code, causes: []},
			{id: ctx.manifest.kernels.run_code, causes: [causes[0], causes[0]]}])
			try { await ctx.run(target) } catch (e) { said.push(e.message) }
		ctx.insertSpan({entity_type: "note", name: said.join("|")}, {cause: causes[0]});`))
	batch := []*span.Span{b.function(1, "return 1"), b.function(2, "return 1")}
	results, err := b.boot("observer_bot", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	said := *results[batch[0].Key()].group.Rows[0].Name
	for i, want := range []string{"a function is run for one cause", "at least one", "listed twice"} {
		if parts := strings.Split(said, "|"); len(parts) != 3 || !strings.Contains(parts[i], want) {
			t.Errorf("got %q, want %q", said, want)
		}
	}
}
