package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// audit is metadata of an execution.
type audit struct {
	Run struct {
		Function struct {
			ID       span.ID `json:"id"`
			Seq      int     `json:"seq"`
			CurrHash *string `json:"curr_hash"`
		} `json:"function"`
		Kernels []struct {
			Name     string `json:"name"`
			Seq      int    `json:"seq"`
			CurrHash string `json:"curr_hash"`
		} `json:"kernels"`
		Seed      string    `json:"seed"`
		StartedAt span.Time `json:"started_at"`
	} `json:"run"`
	Engine span.EngineMeta `json:"engine"`
}

func TestScheduledFunctionIsOneRequestAndOneExecution(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()

	c := function(`return { sum: input.a + input.b };`, columns{"input": map[string]int{"a": 40, "b": 2}})
	key := s.insert(alice, c)
	got := s.settled(c["trace_id"].(string), 1)[0]
	f, request, execution := s.latest(key.ID), got.request(), got.execution(t)

	checkRequest(t, f, got)
	checkExecution(t, s, f, got)
	sameJSON(t, execution.Output, `{"sum": 42}`)
	sameJSON(t, execution.Input, `{"a": 40, "b": 2}`)
	for _, row := range []*span.Span{request, got.last(), execution} {
		if row.OwnerID != "alice" || row.TenantID != "acme" || row.Visibility != "private" {
			t.Errorf("%s is of %s, %s, %s: want alice, acme, private", row.EntityType, row.OwnerID, row.TenantID,
				row.Visibility)
		}
	}
	if *got.last().Xact != *execution.Xact {
		t.Errorf("terminal version and execution are of transactions %s and %s", *got.last().Xact, *execution.Xact)
	}

	if code := sidecar.Stop(15); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
	checkHashes(t, s)
}

// checkRequest holds the request against the function version that it is derived from.
func checkRequest(t *testing.T, f *span.Span, got run) {
	t.Helper()
	request := got.request()
	want := span.Derive("request", f.AcceptedAt.Time, []span.ID{f.ID}, int64(f.Seq))
	if request.ID != want {
		t.Errorf("the request has the id %s, derived is %s", request.ID, want)
	}
	if request.Who != "kernel:observer_bot" || request.At != f.At || *request.ParentID != f.ID {
		t.Errorf("the request is by %s at %s of %s, want kernel:observer_bot at %s of %s", request.Who, request.At,
			request.ParentID, f.At, f.ID)
	}
	meta, derived := request.Engine()
	if !derived || *meta != (span.EngineMeta{Cause: f.Key(), Root: f.ID, Depth: 1, Kind: "request"}) {
		t.Errorf("the request has metadata.engine %+v", meta)
	}
	for i, version := range got.versions {
		want := []string{"scheduled", "running", "complete"}[i]
		if i == len(got.versions)-1 {
			want = "complete"
		}
		if version.Seq != i || version.StatusText() != want {
			t.Errorf("version %d of the request has seq %d and status %s, want %s", i, version.Seq,
				version.StatusText(), want)
		}
	}
}

func checkExecution(t *testing.T, s *system, f *span.Span, got run) {
	t.Helper()
	request, execution := got.request(), got.execution(t)
	want := span.Derive("execution", request.ID.Time(), []span.ID{request.ID}, 1)
	if execution.ID != want || execution.Seq != 0 {
		t.Errorf("the execution is %s version %d, derived is %s", execution.ID, execution.Seq, want)
	}
	if *execution.ParentID != f.ID || execution.RelatedTo[0] != request.ID || *execution.Attempt != 1 ||
		execution.DurationMs == nil || *execution.TraceID != *f.TraceID || execution.Who != "kernel:run_code" {
		t.Errorf("the execution has parent %s, related_to %v, attempt %d, trace %s, who %s", execution.ParentID,
			execution.RelatedTo, *execution.Attempt, *execution.TraceID, execution.Who)
	}
	var record audit
	if err := json.Unmarshal(execution.Metadata, &record); err != nil {
		t.Fatalf("decode metadata: %v", err)
	}
	if record.Engine != (span.EngineMeta{Cause: request.Key(), Root: f.ID, Depth: 2, Kind: "execution"}) {
		t.Errorf("the execution has metadata.engine %+v", record.Engine)
	}
	if record.Run.Function.ID != f.ID || record.Run.Function.Seq != f.Seq || len(record.Run.Seed) != 64 ||
		record.Run.StartedAt.IsZero() {
		t.Errorf("metadata.run is %+v", record.Run)
	}
	ids := map[string]span.ID{"request_worker": span.RequestWorkerID, "run_code": span.RunCodeID}
	if len(record.Run.Kernels) != 2 {
		t.Fatalf("metadata.run names the kernels %+v, want request_worker and run_code", record.Run.Kernels)
	}
	for _, kernel := range record.Run.Kernels {
		version := s.read("id = $1 and seq = $2", ids[kernel.Name].String(), kernel.Seq)
		if len(version) != 1 || *version[0].CurrHash != kernel.CurrHash {
			t.Errorf("metadata.run names %+v, which the ledger does not have", kernel)
		}
	}
}

// checkHashes recomputes the hash of every row of the engine, which must have one, and follows every chain.
func checkHashes(t *testing.T, s *system) {
	t.Helper()
	before := map[span.Key]*span.Span{}
	engine := 0
	for _, row := range s.read("true") {
		before[row.Key()] = row
		if row.ID.Version() == 8 { // derived, so the engine's; later versions may be its owner's
			if strings.HasPrefix(row.Who, "user:") && row.EntityType == "request" {
				continue
			}
			engine++
			if row.CurrHash == nil {
				t.Errorf("%s %s version %d of the engine has no hash", row.EntityType, row.ID, row.Seq)
			} else if err := row.VerifyHash(); err != nil {
				t.Errorf("%s: %v", row.EntityType, err)
			}
		}
		if row.Seq == 0 {
			continue
		}
		previous := before[span.Key{ID: row.ID, Seq: row.Seq - 1}]
		if previous == nil {
			t.Errorf("%s %s version %d follows nothing", row.EntityType, row.ID, row.Seq)
		} else if text(previous.CurrHash) != text(row.PrevHash) {
			t.Errorf("%s %s version %d has prev_hash %s, before it is %s", row.EntityType, row.ID, row.Seq,
				text(row.PrevHash), text(previous.CurrHash))
		}
	}
	if engine == 0 {
		t.Error("the engine has appended nothing")
	}
}

func text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func TestEveryFormOfAFunctionRuns(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	cases := []struct{ name, language, code, want string }{
		{"body with return", "javascript", `return { form: "body", n: input.n };`, `{"form": "body", "n": 7}`},
		{"body with await", "javascript", `const n = await Promise.resolve(input.n + 1); return n;`, `8`},
		{"export default", "javascript", `export default async function main(ctx) { return ctx.input.n; }`, `7`},
		{"globalThis.default", "javascript", `globalThis.default = async (ctx) => ctx.env;`,
			`{"APP_USER_ID": "alice", "APP_TENANT_ID": "acme"}`},
		{"top-level main", "javascript", `function main(ctx) { return [ctx.input.n, ctx.batch.length]; }`, `[7, 0]`},
		{"nothing returned", "javascript", `const unused = input;`, `null`},
		{"TypeScript body", "typescript", `const n: number = (input as { n: number }).n; return n * 2;`, `14`},
		{"TypeScript module", "typescript",
			`interface Out { n: number } export default function main(ctx: any): Out { return { n: ctx.input.n } }`,
			`{"n": 7}`},
		{"language not stated", "", `return 1;`, `1`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			more := columns{"input": map[string]int{"n": 7}, "language": c.language}
			if c.language == "" {
				more["language"] = nil
			}
			got := s.run(alice, c.code, more)
			execution := got.execution(t)
			if execution.StatusText() != "complete" || got.last().StatusText() != "complete" {
				t.Fatalf("execution %s %s, request %s", execution.StatusText(), execution.Error, got.last().StatusText())
			}
			sameJSON(t, execution.Output, c.want)
		})
	}
}

func TestEachScheduledVersionRunsOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	c := function(`return "first";`)
	trace := c["trace_id"].(string)
	key := s.insert(alice, c)
	s.settled(trace, 1)
	s.insert(alice, with(c, columns{"id": key.ID, "seq": 1, "code": `return "second";`}))
	s.settled(trace, 2)
	// The same code again is a version again, and one that is not scheduled is none.
	s.insert(alice, with(c, columns{"id": key.ID, "seq": 2, "code": `return "second";`}))
	s.insert(alice, with(c, columns{"id": key.ID, "seq": 3, "code": `return "draft";`, "status": "draft"}))
	s.insert(alice, with(c, columns{"id": key.ID, "seq": 4, "code": `return "last";`}))

	outputs := map[int]string{}
	for _, r := range s.settled(trace, 4) {
		var record audit
		execution := r.execution(t)
		if err := json.Unmarshal(execution.Metadata, &record); err != nil {
			t.Fatal(err)
		}
		meta, _ := r.request().Engine()
		if meta.Cause.Seq != record.Run.Function.Seq {
			t.Errorf("the request of version %d ran version %d", meta.Cause.Seq, record.Run.Function.Seq)
		}
		outputs[meta.Cause.Seq] = string(execution.Output)
	}
	for seq, want := range map[int]string{0: `"first"`, 1: `"second"`, 2: `"second"`, 4: `"last"`} {
		if outputs[seq] != want {
			t.Errorf("version %d gave %s, want %s", seq, outputs[seq], want)
		}
	}
}

// Versions that are scheduled in one transaction with a later one run what they state, not what is newest.
func TestARequestRunsTheVersionThatItWasMadeFor(t *testing.T) {
	t.Parallel()
	s := setup(t)
	c := function(`return 0;`)
	key := s.insert(alice, c)
	for seq := 1; seq < 5; seq++ {
		s.insert(alice, with(c, columns{"id": key.ID, "seq": seq, "code": "return " + string('0'+rune(seq)) + ";"}))
	}
	s.serve() // finds all five at once
	for _, r := range s.settled(c["trace_id"].(string), 5) {
		meta, _ := r.request().Engine()
		sameJSON(t, r.execution(t).Output, string('0'+rune(meta.Cause.Seq)))
	}
}

func TestScheduledAtIsTheEarliestTime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	due := one[time.Time](s, "select clock_timestamp() + interval '1500 ms'")
	later := function(`return "later";`, columns{"scheduled_at": due})
	s.insert(alice, later)
	s.run(alice, `return "now";`)
	if runs, _ := s.runs(later["trace_id"].(string)); len(runs) == 1 && len(runs[0].executions) > 0 &&
		one[time.Time](s, "select clock_timestamp()").Before(due) {
		t.Error("the function has run before its time")
	}
	got := s.settled(later["trace_id"].(string), 1)[0]
	if at := got.execution(t).AcceptedAt; at.Before(due) {
		t.Errorf("executed at %s, scheduled for %s", at, due)
	}
	if len(got.versions) > 3 {
		t.Errorf("waiting cost versions: %s", describe([]run{got}))
	}
}

func TestCancelEndsARequest(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	cancel := func(t *testing.T, trace string, seq, executions int) {
		t.Helper()
		runs, _ := s.runs(trace)
		s.insert(alice, columns{"id": runs[0].request().ID, "seq": seq, "entity_type": "request",
			"status": "cancel_requested", "trace_id": trace})
		got := s.settled(trace, 1)[0]
		if got.last().StatusText() != "cancelled" || len(got.executions) != executions {
			t.Errorf("%s, want cancelled and %d executions", describe([]run{got}), executions)
		}
	}
	t.Run("while it waits", func(t *testing.T) {
		c := function(`return 1;`, columns{"scheduled_at": time.Now().Add(time.Hour)})
		s.insert(alice, c)
		program.Eventually(t, "the request is there", func() bool {
			runs, _ := s.runs(c["trace_id"].(string))
			return len(runs) == 1
		})
		cancel(t, c["trace_id"].(string), 1, 0)
	})
	t.Run("while it runs", func(t *testing.T) {
		c := function(`while (true) {}`)
		s.insert(alice, c)
		s.awaitRunning(c["trace_id"].(string))
		cancel(t, c["trace_id"].(string), 2, 1)
	})
	t.Run("by a stranger", func(t *testing.T) {
		c := function(`return 1;`, columns{"scheduled_at": time.Now().Add(time.Hour), "visibility": "tenant"})
		s.insert(alice, c)
		program.Eventually(t, "the request is there", func() bool {
			runs, _ := s.runs(c["trace_id"].(string))
			return len(runs) == 1
		})
		runs, _ := s.runs(c["trace_id"].(string))
		s.refused(carol, span.CodeNoPrevious, columns{"id": runs[0].request().ID, "seq": 1,
			"entity_type": "request", "status": "cancel_requested"})
	})
	// The worker of the run that was cancelled is free again.
	s.run(alice, `return 1;`).execution(t)
}

// awaitRunning returns when the only request of a trace has a running version, at which it stands.
func (s *system) awaitRunning(trace string) run {
	s.t.Helper()
	var got run
	program.Eventually(s.t, "a running version is there", func() bool {
		runs, _ := s.runs(trace)
		if len(runs) == 1 {
			got = runs[0]
		}
		return len(runs) == 1 && got.last().StatusText() == "running"
	})
	return got
}
