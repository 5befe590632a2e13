package stage0

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A kernel that makes ids by itself and names them gets spans that name each other, by the host's ids.
func TestStatedIDsAreAliases(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:*"), kernelOf(`
		const [first, second] = [ctx.crypto.randomUUID(), ctx.crypto.randomUUID()];
		await ctx.insertSpan({id: first, seq: 0, entity_type: "note", name: "first", when: "2026-01-02T03:04:05Z",
			who: "edge:me", owner_id: ctx.env.APP_USER_ID, tenant_id: ctx.env.APP_TENANT_ID,
			curr_hash: "x", public_key: "y"});
		await ctx.insertSpan({id: second, entity_type: "note", name: "second", parent_id: first,
			related_to: [SPAN_ID, first, "018f0000-0077-7000-8000-000000000000"]});
		await ctx.insertSpan({entity_type: "note", name: "third", parent_id: second});`))
	cause := b.put(1, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	rows := results[cause.Key()].group.Rows
	if len(rows) != 3 {
		t.Fatalf("got %+v", results)
	}
	for _, row := range rows {
		if row.ID.Version() != 8 || row.OwnerID != "alice" || row.Who != "kernel:observer_bot" ||
			row.VerifyHash() != nil {
			t.Errorf("got %+v", row)
		}
	}
	if at := rows[0].At.Time; !at.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("when is %s", at)
	}
	if *rows[1].ParentID != rows[0].ID || *rows[2].ParentID != rows[1].ID ||
		!slices.Equal(rows[1].RelatedTo, []span.ID{cause.ID, rows[0].ID, idOf(0x77)}) {
		t.Errorf("the second names %s and %v, the third %s", rows[1].ParentID, rows[1].RelatedTo, rows[2].ParentID)
	}
	again, err := b.boot("observer_bot", "", cause)
	if err != nil || again[cause.Key()].group.Rows[0].ID != rows[0].ID {
		t.Errorf("another run of the same cause makes other ids: %v", err)
	}
	outcomes, err := b.config.Ledger.Append(t.Context(), []ledger.Group{results[cause.Key()].group})
	if err != nil || outcomes[0].Err != nil {
		t.Errorf("the ledger: %+v, %v", outcomes, err)
	}
}

// A kernel that never looks at the batch runs once for each cause, under the rights of that cause's owner.
func TestOlderKernelsRunOnceForEachCause(t *testing.T) {
	t.Parallel()
	const older = "const {rows} = await ctx.sql`select name from ledger.visible_timeline" +
		" where entity_type = 'note' order by name`;" +
		`ctx.insertSpan({entity_type: "seen", name: rows.map((r) => r.name).join(), description: SPAN_ID,
			owner_id: ctx.env.APP_USER_ID})`
	b := setup(t, grants("sql", "insertSpan:*"), kernelOf(older))
	b.note(11, "alice's", "alice", "t1", "private")
	b.note(12, "bob's", "bob", "t1", "private")
	of := func(owner string) func(*span.Span) { return func(s *span.Span) { s.OwnerID = owner } }
	batch := []*span.Span{b.put(1, "function"), b.put(2, "function", of("bob")), b.put(3, "function", of("eve"))}
	results, err := b.boot("observer_bot", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"alice's", "bob's", ""} {
		rows := results[batch[i].Key()].group.Rows
		if len(rows) != 1 || *rows[0].Name != want || *rows[0].Description != batch[i].ID.String() ||
			rows[0].OwnerID != batch[i].OwnerID {
			t.Errorf("%s sees %+v, want %q", batch[i].OwnerID, rows, want)
		}
	}
}

// What such an observer finds beside its cause makes its own request: here none is written for it.
func TestOlderObserversMakeOneRequestForEachFunction(t *testing.T) {
	t.Parallel()
	const list = "const {rows} = await ctx.sql`select id from ledger.visible_timeline where status = 'scheduled'`;" +
		`for (const {id} of rows) await ctx.insertSpan({id: ctx.crypto.randomUUID(), entity_type: "request",
			status: "scheduled", parent_id: id})`
	b := setup(t, grants("sql", "insertSpan:request"), kernelOf(list))
	scheduled := func(s *span.Span) { s.Status = new("scheduled") }
	batch := []*span.Span{b.function(1, "return 1", scheduled), b.function(2, "return 2", scheduled)}
	b.function(3, "return 3", scheduled) // known by SQL alone
	results, err := b.boot("observer_bot", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range batch {
		rows := results[cause.Key()].group.Rows
		want := span.Derive("request", acceptedAt(cause), []span.ID{cause.ID}, int64(cause.Seq))
		if len(rows) != 1 || rows[0].ID != want || *rows[0].ParentID != cause.ID {
			t.Errorf("%s: got %+v", cause.ID, rows)
		}
	}
}

// No stated value widens what a kernel may do.
func TestAliasesWidenNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:*"), kernelOf(`
		await ctx.insertSpan({id: ctx.crypto.randomUUID(), entity_type: "note", visibility: "public"});
		try { ctx.insertSpan({id: ctx.crypto.randomUUID(), entity_type: "note", owner_id: "bob"}).id }
		catch (error) { ctx.insertSpan({entity_type: "note", name: error.code + ": " + error.message}); }`))
	cause := b.put(1, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	rows := results[cause.Key()].group.Rows
	if len(rows) != 2 || rows[0].Visibility != "private" || rows[1].OwnerID != "alice" ||
		!strings.HasPrefix(*rows[1].Name, "denied: a span takes owner and tenant from its cause") {
		t.Errorf("got %+v", rows)
	}
}

func TestTheKernelOfTheDocsRuns(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/kernels.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```js\n")
	source, _, _ := strings.Cut(rest, "```")
	b := setup(t, grants("insertSpan:receipt"), map[string]string{"observer_bot": source})
	first, second := b.put(1, "order"), b.put(2, "order")
	results, err := b.boot("observer_bot", "", first, second)
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []*span.Span{first, second} {
		rows := results[cause.Key()].group.Rows
		if len(rows) != 1 || *rows[0].ParentID != cause.ID || rows[0].EntityType != "receipt" {
			t.Errorf("got %+v", rows)
		}
	}
}

// An older kernel in run_code's place is run by request_worker, and finds its request by SPAN_ID.
func TestAnOlderKernelMayBeNested(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"grants": map[string]any{
		"run_code":       []string{"sql", "run", "insertSpan:execution", "version:request"},
		"request_worker": []string{"run"},
	}}, map[string]string{"run_code": "globalThis.default = async ({sql, run, insertSpan, version, crypto}) => {" +
		"const {rows: [request]} = await sql`select * from ledger.visible_timeline where id = ${SPAN_ID}`;" +
		`const result = await run({id: request.parent_id, input: request.input});
		await insertSpan({id: crypto.randomUUID(), entity_type: "execution", parent_id: request.parent_id,
			related_to: [SPAN_ID], status: result.ok ? "complete" : "error", output: result.output});
		version(SPAN_ID, {status: "complete"}) }`})
	requests := []*span.Span{
		b.request(11, b.function(1, "return input.n + 1").ID, input(`{"n":1}`)),
		b.request(12, b.function(2, "return input.n + 2").ID, input(`{"n":1}`)),
	}
	results, err := b.boot("request_worker", "", requests...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"2", "3"} {
		group := results[requests[i].Key()].group
		if len(group.Rows) != 1 || string(group.Rows[0].Output) != want ||
			group.Fence.StatusText() != "complete" {
			t.Errorf("request %d: %+v, want %s", i, results[requests[i].Key()], want)
		}
	}
}

func input(raw string) func(*span.Span) {
	return func(s *span.Span) { s.Input = json.RawMessage(raw) }
}
