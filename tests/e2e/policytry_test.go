package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

const flagLarge = `export function on(span, ctx) {
  if (span.metadata.amount < 1000) return [];
  return [{ emit_span: { entity_type: "alert", name: "large " + span.name, parent_id: span.id } }];
}`

const orders = `{"entity_type": "order"}`

// policyFile writes a policy to a file of its own.
func policyFile(t *testing.T, name, code string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".js")
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// triedLine is one line of policy try --json.
type triedLine struct {
	Span    span.Span
	Emits   []span.Span
	Error   *span.RunError
	Summary *struct{ Read, Shown, Emits, Errors int }
}

func triedLines(t *testing.T, out string) (lines []triedLine) {
	t.Helper()
	for line := range strings.Lines(out) {
		var one triedLine
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, one)
	}
	return lines
}

// sameValue compares two values as JSON.
func sameValue(t *testing.T, a, b any) bool {
	t.Helper()
	var values [2]any
	for i, value := range []any{a, b} {
		encoded, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(encoded, &values[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// A try sees what the policy's owner may read, says what it would emit and where it fails, and needs no
// right to write: here nobody can.
func TestPolicyTryWritesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	order := func(u user, name, visibility string, amount int) {
		s.insert(u, columns{"entity_type": "order", "name": name, "visibility": visibility,
			"metadata": map[string]any{"amount": amount}})
	}
	order(alice, "small", "private", 20)
	order(alice, "own", "private", 4500)
	order(carol, "shared", "tenant", 5000)
	order(carol, "secret", "private", 6000)
	order(bob, "foreign", "tenant", 7000)
	s.insert(alice, columns{"entity_type": "order", "name": "broken"})
	s.insert(alice, columns{"entity_type": "note", "name": "other"})
	file := policyFile(t, "flag_large", flagLarge)
	state := func() int {
		return one[int](s, `select (select count(*)::int from ledger.universal_registry)
			+ (select count(*)::int from pg_class)`)
	}
	before := state()
	out, _ := s.acts(1, alice, "policy", "try", file, "--since", "24h", "--when", orders, "--json")
	lines := triedLines(t, out)
	got := map[string]string{}
	for _, line := range lines[:len(lines)-1] {
		what := "nothing"
		if line.Error != nil {
			what = string(line.Error.Code)
		}
		for _, emitted := range line.Emits {
			what = *emitted.Name + " of " + emitted.OwnerID
		}
		got[*line.Span.Name] = what
	}
	want := map[string]string{"small": "nothing", "own": "large own of alice", "shared": "large shared of alice",
		"broken": "exception"}
	if !sameValue(t, got, want) {
		t.Errorf("it says %v, want %v", got, want)
	}
	if sum := lines[len(lines)-1].Summary; sum == nil || sum.Shown != 4 || sum.Emits != 2 || sum.Errors != 1 {
		t.Errorf("the sum is %+v", sum)
	}
	if after := state(); after != before {
		t.Errorf("%d rows before, %d after", before, after)
	}
	// And it does not even try to.
	database := one[string](s, "select current_database()")
	s.exec("alter database " + pgx.Identifier{database}.Sanitize() + " set default_transaction_read_only = on")
	out, _ = s.acts(1, alice, "policy", "try", file, "--since", "24h", "--when", orders)
	if !strings.Contains(out, "flag_large.js:2:21: exception: TypeError") ||
		!strings.HasSuffix(out, "4 of 4 spans of the last 24h match: 2 would be appended, 1 errors; nothing is "+
			"written\n") {
		t.Errorf("it prints\n%s", out)
	}
	out, _ = s.acts(0, alice, "policy", "try", file, "--since", "1h", "--when", orders, "--limit", "2",
		"--quiet")
	if !strings.HasPrefix(out, "2 of ") || !strings.HasSuffix(out, "stopped after 2 spans (--limit)\n") {
		t.Errorf("--limit 2 prints\n%s", out)
	}
	all := policyFile(t, "all", `export default function on() { while (true); }`)
	out, _ = s.acts(1, alice, "policy", "try", all, "--since", "1h", "--errors", "1", "--quiet")
	if !strings.HasSuffix(out, "stopped after 1 errors (--errors)\n") {
		t.Errorf("--errors 1 prints\n%s", out)
	}
	for _, wrong := range []string{"", "--since 1h --when {", "--since 1h --limit 0", "--since yesterday"} {
		s.acts(2, alice, append([]string{"policy", "try", file}, strings.Fields(wrong)...)...)
	}
	if after := state(); after != before {
		t.Errorf("%d rows before, %d after", before, after)
	}
}

// What a try says is what the policy does: the very spans, but for what each moment makes.
func TestPolicyTrySaysWhatThePolicyDoes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if _, said := s.acts(2, alice, "policy", "try", "nope.js", "--since", "1h"); !strings.Contains(said,
		"the policy: read the file: ") || strings.Contains(said, "function") {
		t.Errorf("of a file that is not there it says %q", said)
	}
	s.serve()
	const code = `export function on(span, ctx) {
  if (span.name === "fails") throw new RangeError("no " + span.name);
  return [{ emit_span: { entity_type: "alert", name: span.name, status: "open", metadata: { of: span.id } } },
    { version: { id: span.id, status: "seen" } }];
}`
	file := policyFile(t, "twice", code)
	s.insert(alice, columns{"entity_type": "policy", "name": "twice", "status": "active", "code": code,
		"metadata": map[string]any{"when": map[string]any{"entity_type": "order", "status": "new"}}})
	for _, name := range []string{"one", "fails", "two"} {
		s.insert(alice, columns{"entity_type": "order", "name": name, "status": "new"})
	}
	program.Eventually(t, "what the policy does", func() bool {
		return one[int](s, `select count(*)::int from ledger.history where entity_type in ('alert', 'policy_error')
			or entity_type = 'order' and status = 'seen'`) == 5
	})
	out, _ := s.acts(1, alice, "policy", "try", file, "--since", "1h", "--json")
	lines := triedLines(t, out)
	if len(lines) != 4 {
		t.Fatalf("it prints\n%s", out)
	}
	for _, line := range lines[:3] {
		if *line.Span.Name == "fails" {
			failure := s.read("entity_type = 'policy_error'")[0].Error
			if line.Error == nil || !sameValue(t, line.Error, failure) {
				t.Errorf("it fails with %v, the policy with %s", line.Error, failure)
			}
			continue
		}
		alert := s.read("entity_type = 'alert' and name = $1", *line.Span.Name)[0]
		if len(line.Emits) < 1 || line.Emits[0].ID != alert.ID || line.Emits[0].Who != alert.Who ||
			!sameValue(t, line.Emits[0].Metadata, alert.Metadata) {
			t.Errorf("it emits %+v, the policy %+v", line.Emits, alert)
		}
	}
}

// Where policies must be signed, one that is not fails as it would, and --sign tries it as it will be.
func TestPolicyTryGoesByTheSignaturesThatAreRequired(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.keys(0, "generate", "--purpose", "policy", "--tenant", alice.tenant, "--owner", alice.sub, "--key",
		s.file("root"), "--out", s.file("alice"))
	s.insert(alice, columns{"entity_type": "order", "name": "one", "metadata": map[string]any{"amount": 5000}})
	var manifest map[string]any
	if err := json.Unmarshal([]byte(s.logline(0, "manifest")), &manifest); err != nil {
		t.Fatal(err)
	}
	manifest["features"].(map[string]any)["signatures_required"] = []string{"policy", "manifest"}
	document, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	s.save("required.json", string(document))
	s.logline(0, "manifest", "--file", filepath.Join(s.dir, "required.json"), "--key", s.file("root"))
	file := policyFile(t, "flag_large", flagLarge)
	try := actingAs(alice, "policy", "try", file, "--since", "1h", "--when", orders)
	if said := s.logline(1, try...); !strings.Contains(said, "unsigned") {
		t.Errorf("unsigned it prints\n%s", said)
	}
	if said := s.logline(0, append(try, "--sign", s.file("alice"))...); !strings.Contains(said, "large one") {
		t.Errorf("signed it prints\n%s", said)
	}
}

// A policy on time is shown each tick that was due, of a user for himself, of the system for each whom the
// window names, and what it says is what it does when its time comes.
func TestPolicyTryShowsTheTicksThatWereDue(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, u := range []user{alice, bob} {
		s.insert(u, columns{"entity_type": "task", "status": "open", "at": ago(s, "30 minutes")})
	}
	const count = `export async function on(span, ctx) {
  const { from, to, every, round, limit } = ctx.input.tick;
  const [all] = await ctx.summarize({ entity_type: "task", status: "open" });
  return [{ emit_span: { id: ctx.bucket("open"), entity_type: "count", name: all.count + " open",
    metadata: { from, to, every, round, limit, of: span.policy_id } } }, { again: true }];
}`
	file := policyFile(t, "open_tasks", count)
	before := one[int](s, "select count(*)::int from ledger.universal_registry")
	out, _ := s.acts(0, alice, "policy", "try", file, "--since", "3h", "--json",
		"--metadata", `{"every": "hour"}`)
	lines := triedLines(t, out)
	if len(lines) != 4 || lines[3].Summary.Shown != 3 || lines[3].Summary.Emits != 3 {
		t.Fatalf("three hours have the lines\n%s", out)
	}
	for _, line := range lines[:3] {
		if line.Span.EntityType != "tick" || line.Span.OwnerID != alice.sub || len(line.Emits) != 1 ||
			*line.Emits[0].Name != "1 open" || !strings.Contains(string(line.Emits[0].Metadata), `"every":"hour"`) {
			t.Errorf("a tick gives %+v", line)
		}
	}
	out, _ = s.acts(0, alice, "policy", "try", file, "--since", "3h", "--metadata", `{"every": "minute"}`,
		"--limit", "2")
	if strings.Count(out, "emits    count  1 open") != 2 || strings.Count(out, "asks for one more turn") != 2 ||
		!strings.HasSuffix(out, "stopped after 2 ticks (--limit)\n") {
		t.Errorf("--limit 2 prints\n%s", out)
	}
	out, _ = s.logline(0, "policy", "try", file, "--since", "1h", "--as-owner", "--json", "--metadata",
		`{"every": "hour", "per": "owner", "window": "none", "when": {"entity_type": "task"}}`)
	seen := map[string]bool{}
	for _, line := range triedLines(t, out) {
		seen[line.Span.OwnerID] = seen[line.Span.OwnerID] || len(line.Emits) == 1
	}
	if !seen[alice.sub] || !seen[bob.sub] {
		t.Errorf("of the system it is shown for %v:\n%s", seen, out)
	}
	broken := policyFile(t, "broken", "export function on() {\n  throw new Error('no');\n}")
	out, _ = s.acts(1, alice, "policy", "try", broken, "--since", "2h", "--metadata", `{"every": "hour"}`)
	if !strings.Contains(out, "broken.js:2:") ||
		!strings.Contains(out, "2 ticks of the last 2h, shown for 2: 0 ") {
		t.Errorf("one that fails prints\n%s", out)
	}
	out, _ = s.acts(0, alice, "policy", "try", file, "--since", "1ms", "--metadata", `{"every": "hour"}`)
	if !strings.HasPrefix(out, "0 ticks of the last 1ms") && !strings.HasPrefix(out, "tick") {
		t.Errorf("without a boundary it prints %q", out)
	}
	s.acts(2, alice, "policy", "try", file, "--since", "1h", "--metadata", "{}", "--when", "{}")
	if after := one[int](s, "select count(*)::int from ledger.universal_registry"); after != before {
		t.Errorf("%d rows before, %d after", before, after)
	}
}

// ago is a time before the database's now.
func ago(s *system, interval string) string {
	return one[string](s, "select to_char((now() - '"+interval+"'::interval) at time zone 'UTC', "+
		`'YYYY-MM-DD"T"HH24:MI:SS"Z"')`)
}
