package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/program"
)

// What a signing sidecar leaves behind, whatever the code was, is verified by an implementation that shares
// nothing with it.
func TestASecondImplementationVerifiesALedger(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.ndjson")
	checker := node.Checker(t, file)
	s := setupSigned(t)
	sidecar := s.serveSigned("sidecar")
	s.insert(alice, policy("number", `function on(span, ctx) { ctx.log("é"); return [{ emit_span: {
		entity_type: "copy", content: span.content, name: "\u2028 \u{1F600} e\u0301", tags: ["b", "a"] } }]; }`))
	emitting := s.run(alice, `ctx.insertSpan({ entity_type: "number", content: { n: [0.1 + 0.2, -0, 1e21, 5e-324],
		deep: { "": [{}], "\uFB33": 1, "\u{1F602}": null, "10": 1, "9": 2 } }, value: "12.500", confidence: 0.25,
		ttl_at: "2030-01-01T00:00:00+05:30", related_to: [ctx.id(), ctx.id()] });
		return { at: ctx.now(), id: ctx.id(), text: "\u0001\"\\/" }`)
	if x := emitting.execution(t); x.StatusText() != "complete" {
		t.Fatalf("the function ended with %s", x.Error)
	}
	s.run(alice, `throw new Error("\u{1F600}")`)
	s.run(carol, `const found = await ctx.find({ entity_type: "function" }); console.log(found); return found.length`)
	program.Eventually(t, "the policy's copy", func() bool { return len(s.read("entity_type = 'copy'")) == 1 })
	sidecar.Stop(syscall.SIGTERM) // the last boot events are written then

	rows, err := s.owner.Query(t.Context(), `select who, to_jsonb(r)::text as row from ledger.universal_registry as r
		where curr_hash is not null order by accepted_at`)
	if err != nil {
		t.Fatal(err)
	}
	type line struct{ Who, Row string }
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.Row + "\n")
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := checker.CombinedOutput()
	if err != nil {
		t.Errorf("check.mjs: %v", err)
	}
	verdicts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(verdicts) != len(lines) {
		t.Fatalf("%d verdicts on %d spans:\n%s", len(verdicts), len(lines), out)
	}
	signed := 0
	for i, l := range lines {
		actor, _, _ := strings.Cut(l.Who, ":")
		isOurs := actor == "kernel" || actor == "policy" || actor == "sidecar" || actor == "client"
		if verdicts[i] != "ok" && (isOurs || verdicts[i] != "unsigned") {
			t.Errorf("%s: %s", verdicts[i], l.Row)
		}
		if verdicts[i] == "ok" && isOurs {
			signed++
		}
	}
	if signed < 12 { // six versions of requests, three executions, two spans of code, boot events
		t.Errorf("%d signed spans of %d: too few to say anything", signed, len(lines))
	}
}
