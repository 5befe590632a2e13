package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestABadFunctionIsOneErrorAndHarmsNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(func(manifest map[string]any) { manifest["limits"] = map[string]int{"source_bytes": 100_000} })
	sidecar := s.serve()
	cases := []struct {
		name string
		code string
		more columns
		want span.RunCode
		line int
	}{
		{"does not parse", "const a = 1;\nconst b = ;\nreturn a;", nil, span.RunSyntax, 2},
		{"is no TypeScript", "const a: number = 1;\nreturn a +;", columns{"language": "typescript"},
			span.RunSyntax, 2},
		{"throws", "\n\nthrow new Error('boom');", nil, span.RunException, 3},
		{"throws what is no error", "throw { a: 1 };", nil, span.RunException, 0},
		{"rejects", "return Promise.reject(new TypeError('late'));", nil, span.RunException, 0},
		{"never ends", "while (true) {}", columns{"timeout_ms": 200}, span.RunTimeout, 0},
		{"never ends inside a native loop", "return Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1);",
			columns{"timeout_ms": 200}, span.RunTimeout, 0},
		{"never settles", "return new Promise(() => {});", nil, span.RunPending, 0},
		{"allocates without end", "const a = []; while (true) a.push(new Array(10000).fill(a.length));", nil,
			span.RunMemory, 0},
		{"makes a string without end", "let s = 'x'; while (true) s += s;", nil, span.RunMemory, 0},
		{"recurses without end", "const f = () => 1 + f(); return f();", nil, span.RunStack, 0},
		{"returns 10 MB", "return 'x'.repeat(10 * 1024 * 1024);", nil, span.RunLimitOutput, 0},
		{"returns a cycle", "const a = {}; a.a = a; return a;", nil, span.RunNotSerializable, 0},
		{"returns a NUL", `return "a\u0000b";`, nil, span.RunNotSerializable, 0},
		{"logs without end", "while (true) ctx.log('x'.repeat(1000));", nil, span.RunLimitLogs, 0},
		{"is too long for the manifest", "/*" + strings.Repeat("x", 150_000) + "*/ return 1;", nil,
			span.RunLimitSource, 0},
		{"emits an execution", `ctx.insertSpan({ entity_type: "execution" });`, nil, span.RunDenied, 0},
		{"emits a manifest", `ctx.insertSpan({ entity_type: "manifest", status: "active" });`, nil, span.RunDenied, 0},
		{"emits for another user", `ctx.insertSpan({ entity_type: "note", owner_id: "bob" });`, nil,
			span.RunDenied, 0},
		{"emits an unknown column", `ctx.insertSpan({ entity_type: "note", color: "red" });`, nil,
			span.RunDenied, 0},
		{"emits what the ledger refuses", `ctx.insertSpan({ entity_type: "note", name: "n".repeat(1001) });`, nil,
			span.RunDenied, 0},
		{"emits a NUL", `ctx.insertSpan({ entity_type: "note", content: { a: "\u0000" } });`, nil,
			span.RunNotSerializable, 0},
		{"emits too much", `for (let i = 0; i < 100; i++) ctx.insertSpan({ entity_type: "note" });`, nil,
			span.RunLimitSpans, 0},
		{"asks for SQL", "return ctx.sql`select 1`;", nil, span.RunException, 0},
		{"asks for the network", `return fetch("http://127.0.0.1");`, nil, span.RunException, 0},
		{"asks for a module", `return require("fs").readFileSync("/etc/passwd");`, nil, span.RunException, 0},
		{"is written in a language that nobody runs", "print(1)", columns{"language": "python"},
			span.RunNotAllowed, 0},
		{"is not what was hashed", "return 1;", nil, span.RunHashMismatch, 0},
	}
	traces := make([]string, len(cases))
	var neighbors []string
	for i, c := range cases {
		row := function(c.code, columns{"name": c.name}, c.more)
		if c.want == span.RunHashMismatch {
			row = with(row, wrongHash(alice))
		}
		traces[i] = row["trace_id"].(string)
		s.insert(alice, row)
		neighbor := function(`return "fine";`)
		neighbors = append(neighbors, neighbor["trace_id"].(string))
		s.insert([]user{alice, bob}[i%2], neighbor)
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := s.settled(traces[i], 1)[0]
			execution := got.execution(t)
			if execution.StatusText() != "error" || got.last().StatusText() != "error" {
				t.Fatalf("execution %s, request %s: want error twice; output %.200s", execution.StatusText(),
					got.last().StatusText(), execution.Output)
			}
			fault := failure(t, execution)
			if fault.Code != c.want || fault.Message == "" || fault.Line != c.line && c.line != 0 {
				t.Errorf("got %+v, want %s in line %d", fault, c.want, c.line)
			}
			if notes := s.read("trace_id = $1 and entity_type in ('note', 'manifest')", traces[i]); len(notes) > 0 {
				t.Errorf("a run that failed has emitted %d spans", len(notes))
			}
		})
	}
	for _, trace := range neighbors {
		sameJSON(t, s.settled(trace, 1)[0].execution(t).Output, `"fine"`)
	}
	if answer := sidecar.Readiness(); !answer.Ready {
		t.Errorf("afterwards the sidecar is %+v", answer)
	}
	judge(t, s)
}

// wrongHash states everything that is hashed, and a hash of something else.
func wrongHash(u user) columns {
	return columns{"id": newID(), "seq": 0, "who": "user:" + u.sub, "at": time.Now().UTC(), "owner_id": u.sub,
		"tenant_id": u.tenant, "visibility": "private", "is_deleted": false, "curr_hash": strings.Repeat("ab", 32)}
}

// newID is a version 7 UUID.
func newID() span.ID {
	id := span.Derive(rand.Text(), time.Now(), nil)
	id[6] = id[6]&0x0f | 0x70
	return id
}

// A hash that a client states and that fits is as good as none.
func TestAFunctionWithTheRightHashRuns(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	f := &span.Span{ID: newID(), EntityType: "function", Who: "user:alice", At: span.NewTime(time.Now()),
		OwnerID: "alice", TenantID: "acme", Visibility: "private", Status: new("scheduled"), Name: new("hashed"),
		Language: new("javascript"), Code: new("return input;"), Input: json.RawMessage(`{"n":0.1}`),
		TraceID: new(rand.Text())}
	if err := f.Seal(nil); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var c columns
	if err := json.Unmarshal(encoded, &c); err != nil {
		t.Fatal(err)
	}
	s.insert(alice, c)
	execution := s.settled(*f.TraceID, 1)[0].execution(t)
	sameJSON(t, execution.Output, `{"n": 0.1}`)
	var record audit
	if err := json.Unmarshal(execution.Metadata, &record); err != nil {
		t.Fatal(err)
	}
	if text(record.Run.Function.CurrHash) != *f.CurrHash {
		t.Errorf("metadata.run names the hash %s, want %s", text(record.Run.Function.CurrHash), *f.CurrHash)
	}
}

func TestTheLedgerRefusesAFunctionOf256KiBAndMore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	long := func(bytes int) string { return "return 1;" + strings.Repeat(" ", bytes-len("return 1;")) }
	s.refused(alice, span.CodeBadSpan, function(long(span.MaxCodeBytes+1)))
	sameJSON(t, s.run(alice, long(span.MaxCodeBytes)).execution(t).Output, `1`)
}

func TestAnArchivedFunctionIsNotRun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	c := function(`return 1;`, columns{"status": "active", "visibility": "tenant"})
	f := s.insert(alice, c)
	request := called(f.ID, nil)
	s.insert(carol, request) // waits: nobody serves yet
	s.insert(alice, with(c, columns{"id": f.ID, "seq": 1, "status": "archived"}))
	s.refused(carol, span.CodeNotCallable, called(f.ID, nil))
	s.serve()
	got := s.settled(request["trace_id"].(string), 1)[0]
	if fault := failure(t, got.execution(t)); fault.Code != span.RunRevoked {
		t.Errorf("got %+v, want %s", fault, span.RunRevoked)
	}
}

// A worker that is killed from outside (the kernel's out-of-memory killer does that) costs its own run at
// most, and not the sidecar.
func TestKilledWorkersAreReplaced(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	c := function(gated, columns{"input": "e"})
	s.insert(alice, c)
	s.awaitRunning(c["trace_id"].(string))
	s.openGate(alice, "e")
	for _, pid := range sidecar.Children() {
		child, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	got := s.settled(c["trace_id"].(string), 1)[0]
	execution := got.execution(t)
	if execution.StatusText() != "complete" && failure(t, execution).Code != span.RunCrash {
		t.Errorf("%s, want complete or an error with code crash", describe([]run{got}))
	}
	sameJSON(t, s.run(bob, `return "fine";`).execution(t).Output, `"fine"`)
	judge(t, s)
}
