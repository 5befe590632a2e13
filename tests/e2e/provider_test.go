package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/program"
)

const apiKey = "sk-e2e-hunter2-hunter2"

// vendor is a local server of the three shapes. It answers what behave says, and as a provider where that is
// nil or writes nothing.
type vendor struct {
	*httptest.Server
	host   string
	mu     sync.Mutex
	asked  []*http.Request
	bodies []string
	behave func(n int, w http.ResponseWriter, r *http.Request) (answered bool)
}

func newVendor(t *testing.T, behave func(n int, w http.ResponseWriter, r *http.Request) bool) *vendor {
	t.Helper()
	v := &vendor{behave: behave}
	v.Server = httptest.NewServer(v)
	v.host = strings.TrimPrefix(v.URL, "http://")
	t.Cleanup(v.Close)
	return v
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v.mu.Lock()
	v.asked, v.bodies = append(v.asked, r), append(v.bodies, string(body))
	n := len(v.asked)
	v.mu.Unlock()
	if v.behave != nil && v.behave(n, w, r) {
		return
	}
	// A vendor that sends back the key which it got.
	echo := r.Header.Get("Authorization") + r.Header.Get("X-Api-Key")
	switch r.URL.Path {
	case "/v1/chat/completions":
		fmt.Fprintf(w, `{"echo":%q,"choices":[{"message":{"content":"from openai"},"finish_reason":"stop"}],
			"usage":{"prompt_tokens":1234,"completion_tokens":56}}`, echo)
	case "/v1/messages":
		fmt.Fprintf(w, `{"echo":%q,"content":[{"type":"text","text":"from anthropic"}],"stop_reason":"end_turn",
			"usage":{"input_tokens":1234,"output_tokens":56}}`, echo)
	case "/api/chat":
		fmt.Fprintf(w, `{"echo":%q,"message":{"content":"from ollama"},"done_reason":"stop",
			"prompt_eval_count":1234,"eval_count":56}`, echo)
	default:
		http.NotFound(w, r)
	}
}

// calls returns what the vendor was asked so far.
func (v *vendor) calls() ([]*http.Request, []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked, v.bodies
}

// granting lets provider_exec reach hosts, and have the secret API_KEY.
func (s *system) granting(hosts ...string) {
	s.t.Helper()
	args := []string{"manifest", "--database", s.db.URL, "--give", "provider_exec=secret:API_KEY"}
	for _, host := range hosts {
		args = append(args, "--give", "provider_exec=fetch:"+host)
	}
	if p := program.Start(s.t, nil, args...); p.Wait() != 0 {
		s.t.Fatalf("logline manifest: %s", p.Err.String())
	}
}

// outward is the environment of a sidecar that may reach hosts, the first of which gets API_KEY.
func outward(hosts ...string) []string {
	return []string{"LOGLINE_FETCH_ALLOW=" + strings.Join(hosts, ","), "API_KEY=" + apiKey,
		"LOGLINE_SECRETS=API_KEY@" + hosts[0]}
}

// provider appends a provider of the system.
func (s *system) provider(metadata columns) span.ID {
	s.t.Helper()
	encoded, err := json.Marshal(metadata)
	if err != nil {
		s.t.Fatal(err)
	}
	return span.MustID(one[string](s, `insert into ledger.universal_registry
		(entity_type, status, name, owner_id, tenant_id, visibility, metadata)
		values ('provider', 'active', 'a provider', 'system', 'system', 'public', $1)
		returning id::text`, string(encoded)))
}

// ask calls a provider as a client does, and returns the request's trace.
func (s *system) ask(u user, provider span.ID, payload columns) (trace string) {
	s.t.Helper()
	trace = rand.Text()
	s.insert(u, columns{"entity_type": "request", "status": "scheduled", "parent_id": span.ProviderExecID,
		"trace_id": trace, "input": columns{"provider_id": provider, "payload": payload}})
	return trace
}

// called waits for the end of a call, and returns its provider_execution.
func (s *system) called(trace string) (run, *span.Span) {
	s.t.Helper()
	got := s.settled(trace, 1)[0]
	found := s.read("trace_id = $1 and entity_type = 'provider_execution'", trace)
	if len(found) != 1 || len(got.executions) != 0 {
		s.t.Fatalf("%d provider_executions: %s", len(found), describe([]run{got}))
	}
	return got, found[0]
}

var hi = columns{"messages": []columns{{"role": "user", "content": "Hi"}}}

func TestARequestCallsAProvider(t *testing.T) {
	t.Parallel()
	s, v := setup(t), newVendor(t, nil)
	s.granting(v.host)
	sidecar := s.serve(outward(v.host)...)
	price := columns{"input_per_million": "0.15", "output_per_million": 0.6, "currency": "USD"}
	for _, c := range []struct{ kind, base, header, body string }{
		{"openai", v.URL + "/v1", "Authorization", `{"model":"m","messages":[{"role":"user","content":"Hi"}],
			"temperature":0.2}`},
		{"anthropic", v.URL, "X-Api-Key", `{"model":"m","messages":[{"role":"user","content":"Hi"}],
			"temperature":0.2,"max_tokens":1024}`},
		{"ollama", v.URL, "Authorization", `{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":false,
			"options":{"temperature":0.2}}`},
	} {
		id := s.provider(columns{"type": c.kind, "base_url": c.base, "model": "m", "auth_env": "API_KEY",
			"price": price})
		got, x := s.called(s.ask(alice, id, hi))
		if x.StatusText() != "complete" || *x.TokensIn != 1234 || *x.TokensOut != 56 || *x.Cost != "0.0002187" ||
			*x.Model != "m" || *x.ProviderID != id || x.OwnerID != "alice" || x.Visibility != "private" ||
			x.DurationMs == nil || *x.Attempt != 1 || *x.ParentID != span.ProviderExecID {
			t.Errorf("%s: got %+v, error %s", c.kind, x, x.Error)
		}
		// What reaches outside leaves a trace before it starts.
		if len(got.versions) != 3 || got.versions[1].StatusText() != "running" ||
			got.last().StatusText() != "complete" {
			t.Errorf("%s: the request is %s", c.kind, describe([]run{got}))
		}
		asked, bodies := v.calls()
		last := asked[len(asked)-1]
		if value := strings.TrimPrefix(last.Header.Get(c.header), "Bearer "); value != apiKey {
			t.Errorf("%s: the provider gets the key %q", c.kind, value)
		}
		if key := last.Header.Get("Idempotency-Key"); key != got.versions[0].ID.String()+":provider_exec:0" ||
			last.Header.Get("X-LogLine-Attempt") != "1" {
			t.Errorf("%s: the key of the call is %q", c.kind, key)
		}
		sameJSON(t, json.RawMessage(bodies[len(bodies)-1]), c.body)
		var output struct{ Text, Reply string }
		if err := json.Unmarshal(x.Output, &output); err != nil || output.Text != "from "+c.kind ||
			!strings.Contains(output.Reply, "***") {
			t.Errorf("%s: output %s", c.kind, x.Output)
		}
		answer := one[string](s, "select output ->> 'text' from ledger.result($1::text::uuid)",
			got.last().ID.String())
		if answer != "from "+c.kind {
			t.Errorf("%s: ledger.result says %q", c.kind, answer)
		}
		metrics := s.read("trace_id = $1 and entity_type = 'metric'", *x.TraceID)
		if len(metrics) != 1 || *metrics[0].This != "llm_call" || *metrics[0].Unit != "ms" {
			t.Errorf("%s: metrics %+v", c.kind, metrics)
		}
	}
	const holds = "select count(*) from ledger.universal_registry r where r::text like '%hunter2%'"
	if n := one[int](s, holds); n != 0 {
		t.Errorf("%d spans hold the key", n)
	}
	for _, pid := range sidecar.Children() {
		for _, file := range []string{"environ", "cmdline"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err == nil && strings.Contains(string(text), "hunter2") {
				t.Errorf("the %s of a child holds the key", file)
			}
		}
	}
	if log := sidecar.Err.String() + sidecar.Out.String(); strings.Contains(log, "hunter2") {
		t.Error("the log holds the key")
	}
	judge(t, s)
}

func TestAProvidersFaultsAreRecorded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	v := newVendor(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		switch strings.Split(r.URL.Path, "/")[1] {
		case "broken":
			w.WriteHeader(500)
			fmt.Fprintf(w, `{"error":{"message":"it is broken, %s"}}`, r.Header.Get("Authorization"))
		case "slow":
			<-r.Context().Done()
		case "text":
			fmt.Fprint(w, "no JSON")
		case "inside":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		case "away":
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
		default:
			return false
		}
		return true
	})
	first := true
	flaky := newVendor(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		if first {
			first = false
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return true
		}
		return false
	})
	unlisted := newVendor(t, nil)
	s.granting(v.host, flaky.host, unlisted.host, "listed.example:443")
	s.serve(outward(v.host, flaky.host, "127.0.0.1:1")...)
	at := func(url string, more ...columns) columns {
		return with(columns{"type": "ollama", "base_url": url, "model": "m"}, more...)
	}
	key := columns{"auth_env": "API_KEY"}
	for name, c := range map[string]struct {
		metadata columns
		code     string
		says     string
		attempts float64
	}{
		"429, then well": {at(flaky.URL), "", "", 2},
		"500 three times": {at(v.URL+"/broken", key), "exception",
			"the provider answered 500: it is broken, Bearer ***", 3},
		"too slow":            {at(v.URL+"/slow", columns{"timeout_ms": 300}), "exception", "timeout", 0},
		"no JSON":             {at(v.URL + "/text"), "exception", "no text in the form of ollama", 1},
		"a redirect inside":   {at(v.URL + "/inside"), "denied", "169.254.169.254:80", 0},
		"one after a secret":  {at(v.URL+"/inside", key), "denied", "redirects to where this call may not go", 0},
		"a redirect away":     {at(v.URL + "/away"), "denied", "localhost:1", 0},
		"a host nobody lists": {at(unlisted.URL), "denied", "add it to LOGLINE_FETCH_ALLOW", 0},
		"a host nobody grants": {at("http://127.0.0.1:1"), "denied",
			"logline manifest --give provider_exec=fetch:127.0.0.1:1`", 0},
		"a secret nobody grants": {at(v.URL, columns{"auth_env": "OTHER_KEY"}), "denied",
			"does not grant the secret", 0},
		"a secret for another host": {at(flaky.URL, key), "denied", "is for other hosts", 0},
		"a type nobody knows":       {at(v.URL, columns{"type": "telnet"}), "denied", "metadata.type", 0},
	} {
		_, x := s.called(s.ask(alice, s.provider(c.metadata), hi))
		var metadata struct {
			Attempts float64 `json:"http_attempts"`
		}
		if err := json.Unmarshal(x.Metadata, &metadata); err != nil || metadata.Attempts != c.attempts {
			t.Errorf("%s: %s, want %v attempts", name, x.Metadata, c.attempts)
		}
		if c.code == "" {
			if x.StatusText() != "complete" {
				t.Errorf("%s: %s", name, x.Error)
			}
			continue
		}
		fault := failure(t, x)
		if x.StatusText() != "error" || string(fault.Code) != c.code ||
			!strings.Contains(string(x.Error), c.says) {
			t.Errorf("%s: got %s, want %s %s", name, x.Error, c.code, c.says)
		}
	}
	if asked, _ := unlisted.calls(); len(asked) != 0 {
		t.Error("a host that the operator does not list is asked")
	}
	judge(t, s)
}

// What is not the system's reaches granted hosts without a secret, and is its owner's own.
func TestATenantsOwnProviderHasNoSecret(t *testing.T) {
	t.Parallel()
	s, v := setup(t), newVendor(t, nil)
	s.granting(v.host)
	s.serve(outward(v.host)...)
	own := func(metadata columns) span.ID {
		return s.insert(alice, columns{"entity_type": "provider", "status": "active", "name": "own",
			"metadata": with(columns{"type": "ollama", "base_url": v.URL, "model": "m"}, metadata)}).ID
	}
	plain := own(nil)
	_, x := s.called(s.ask(alice, plain, hi))
	if x.StatusText() != "complete" {
		t.Errorf("without a secret: %s", x.Error)
	}
	for name, c := range map[string]struct {
		u        user
		provider span.ID
		code     string
	}{
		"with one":         {alice, own(columns{"auth_env": "API_KEY"}), "denied"},
		"of somebody else": {bob, plain, "not_found"},
	} {
		_, x := s.called(s.ask(c.u, c.provider, hi))
		if fault := failure(t, x); string(fault.Code) != c.code {
			t.Errorf("%s: %s, want %s", name, x.Error, c.code)
		}
	}
	asked, _ := v.calls()
	if len(asked) != 1 || asked[0].Header.Get("Authorization") != "" {
		t.Errorf("the host was asked %d times", len(asked))
	}
}

// A call that dies with its sidecar is made again, as the second attempt and with the same key.
func TestKill9DuringAProvidersCallIsOneCall(t *testing.T) {
	t.Parallel()
	s := setup(t)
	began := make(chan struct{})
	v := newVendor(t, func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			close(began)
			<-r.Context().Done()
		}
		return n == 1
	})
	s.granting(v.host)
	sidecar := s.serve(outward(v.host)...)
	trace := s.ask(alice, s.provider(columns{"type": "ollama", "base_url": v.URL, "model": "m"}), hi)
	select {
	case <-began:
	case <-time.After(patience):
		t.Fatal("the provider is not asked")
	}
	if held, _ := s.runs(trace); held[0].last().StatusText() != "running" {
		t.Errorf("a call that is under way: %s", describe(held))
	}
	killAndCheck(t, sidecar)
	s.serve(outward(v.host)...)
	got, x := s.called(trace)
	if x.StatusText() != "complete" || *x.Attempt != 2 || *got.last().Attempt != 2 {
		t.Errorf("attempt %d, %s: %s", *x.Attempt, x.Error, describe([]run{got}))
	}
	asked, _ := v.calls()
	if key := asked[0].Header.Get("Idempotency-Key"); len(asked) != 2 || key == "" ||
		key != asked[1].Header.Get("Idempotency-Key") || asked[1].Header.Get("X-LogLine-Attempt") != "2" {
		t.Errorf("asked %d times: %v", len(asked), asked[len(asked)-1].Header)
	}
	judge(t, s)
}

// The SQL of the page does what it says, with a local vendor in the place of the three.
func TestThePageOnProvidersIsTrue(t *testing.T) {
	t.Parallel()
	s, v := setup(t), newVendor(t, nil)
	s.granting(v.host)
	s.serve(append(outward(v.host), "LOGLINE_SECRETS=OPENAI_API_KEY@"+v.host+",API_KEY@"+v.host,
		"OPENAI_API_KEY="+apiKey)...)
	s.manifest(0, "--give", "provider_exec=secret:OPENAI_API_KEY")
	vendors := strings.NewReplacer("https://api.openai.com", v.URL, "https://api.anthropic.com", v.URL,
		"http://127.0.0.1:11434", v.URL)
	blocks := pages.Marked(t, "docs/providers.md").All()
	s.exec(vendors.Replace(blocks[0].Text))
	if err := s.as(alice, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, blocks[1].Text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.called("my first call")
	if err := s.as(alice, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, blocks[2].Text)
		if err != nil {
			return err
		}
		found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
		if found["text"] != "from openai" || found["status"] != "complete" || found["model"] != "gpt-4o-mini" {
			t.Errorf("got %v", found)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// Three tenants fill all that they may with calls of a provider that does not answer.
func TestASlowProviderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	answered := make(chan struct{})
	slow := newVendor(t, func(int, http.ResponseWriter, *http.Request) bool {
		<-answered
		return false
	})
	t.Cleanup(sync.OnceFunc(func() { close(answered) })) // before the vendor is closed
	quick := newVendor(t, nil)
	s.granting(slow.host, quick.host)
	s.serve(append(outward(slow.host, quick.host), "LOGLINE_MAX_IN_FLIGHT=16")...)
	provider := s.provider(columns{"type": "ollama", "base_url": slow.URL, "model": "m"})
	for i := range 45 {
		s.ask(user{fmt.Sprint("flooder", i%3), fmt.Sprint("flood", i%3)}, provider, hi)
	}
	// Of n places three tenants have about a quarter each, by the order in which they come.
	program.Eventually(t, "they wait for the provider", func() bool {
		asked, _ := slow.calls()
		return len(asked) >= 8
	})
	if got := s.run(alice, "return 1"); got.last().StatusText() != "complete" {
		t.Errorf("a neighbor's function: %s", describe([]run{got}))
	}
	other := s.provider(columns{"type": "ollama", "base_url": quick.URL, "model": "m"})
	_, x := s.called(s.ask(alice, other, hi))
	if x.StatusText() != "complete" {
		t.Errorf("a neighbor's provider: %s", x.Error)
	}
	if asked, _ := slow.calls(); len(asked) >= 16 {
		t.Errorf("no place was free: the provider was asked %d times", len(asked))
	}
}

// Functions of two tenants that wait for a server, more of them than there are code workers.
func TestSlowFetchesHoldUpNoFunction(t *testing.T) {
	t.Parallel()
	s := setup(t)
	answered := make(chan struct{})
	slow := newVendor(t, func(int, http.ResponseWriter, *http.Request) bool {
		<-answered
		return false
	})
	release := sync.OnceFunc(func() { close(answered) })
	t.Cleanup(release) // before the vendor is closed
	var traces []string
	var give []string
	for i := range 2 {
		owner := user{fmt.Sprint("fetcher", i), fmt.Sprint("tenant", i)}
		id := s.insert(owner, function(fmt.Sprintf(`return (await ctx.fetch(%q)).status`, slow.URL),
			columns{"status": "active"})).ID
		give = append(give, "--give", id.String()+"=fetch:"+slow.host)
		for range 4 {
			trace := rand.Text()
			traces = append(traces, trace)
			s.insert(owner, columns{"entity_type": "request", "status": "scheduled", "parent_id": id,
				"trace_id": trace})
		}
	}
	s.manifest(0, give...)
	s.serve(append(outward(slow.host), "LOGLINE_WORKERS=2")...)
	// Of eight runs at once two tenants have three each.
	program.Eventually(t, "they wait for the server", func() bool {
		asked, _ := slow.calls()
		return len(asked) >= 5
	})
	if got := s.run(alice, "return 1"); got.last().StatusText() != "complete" {
		t.Errorf("a neighbor's function: %s", describe([]run{got}))
	}
	release()
	for _, trace := range traces {
		if got := s.settled(trace, 1)[0]; got.last().StatusText() != "complete" {
			t.Errorf("a function that fetches: %s", describe([]run{got}))
		}
	}
}

// Its owner may end a call: the connection is closed, and no answer is recorded.
func TestACallIsCancelled(t *testing.T) {
	t.Parallel()
	s := setup(t)
	began, left := make(chan struct{}), make(chan struct{})
	v := newVendor(t, func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		close(began)
		<-r.Context().Done()
		close(left)
		return true
	})
	s.granting(v.host)
	s.serve(outward(v.host)...)
	trace := s.ask(alice, s.provider(columns{"type": "ollama", "base_url": v.URL, "model": "m"}), hi)
	await := func(what string, done chan struct{}) {
		t.Helper()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
	await("the provider is asked", began)
	held := s.awaitRunning(trace)
	s.insert(alice, columns{"id": held.request().ID, "seq": held.last().Seq + 1, "entity_type": "request",
		"status": "cancel_requested", "trace_id": trace})
	await("the connection is closed", left)
	got := s.settled(trace, 1)[0]
	if n := len(s.read("trace_id = $1 and entity_type = 'provider_execution'", trace)); n != 0 ||
		got.last().StatusText() != "cancelled" {
		t.Errorf("%d provider_executions: %s", n, describe([]run{got}))
	}
}

// A function with a grant reaches its host; its run can be repeated from the record, without asking again.
func TestAFunctionThatFetchesIsReplayed(t *testing.T) {
	t.Parallel()
	s, v := setup(t), newVendor(t, nil)
	id := s.insert(alice, function(fmt.Sprintf(`
		const answer = await ctx.fetch(%q, { method: "POST", body: { a: 1 },
			headers: { authorization: "Bearer {{API_KEY}}" } });
		const reply = await answer.json();
		return [answer.status, answer.headers.get("content-type"), reply.echo, reply.done_reason];`,
		v.URL+"/api/chat"), columns{"status": "active"})).ID
	s.manifest(0, "--give", id.String()+"=fetch:"+v.host, "--give", id.String()+"=secret:API_KEY")
	s.serve(outward(v.host)...)
	request := called(id, nil)
	s.insert(alice, request)
	got := s.settled(request["trace_id"].(string), 1)[0]
	execution := got.execution(t)
	sameJSON(t, execution.Output, `[200, "text/plain; charset=utf-8", "Bearer ***", "stop"]`)
	if len(got.versions) != 3 || got.versions[1].StatusText() != "running" {
		t.Errorf("what reaches outside leaves no trace before it starts: %s", describe([]run{got}))
	}
	if code, out := s.replay(execution.ID); code != 0 || !strings.Contains(out, "same output") {
		t.Errorf("replay exits with %d: %s", code, out)
	}
	if asked, _ := v.calls(); len(asked) != 1 {
		t.Errorf("the host is asked %d times", len(asked))
	}
}

// Who cancels what he has called has used it: the provider may have done the work.
func TestACancelledCallCountsAndIsRecorded(t *testing.T) {
	t.Parallel()
	v := newVendor(t, func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	s := setup(t)
	s.granting(v.host)
	s.govern(limit(1000, 2))
	sidecar := s.serve(outward(v.host)...)
	id := s.provider(columns{"type": "ollama", "base_url": v.URL, "model": "m"})
	for n := 1; n <= 2; n++ {
		trace := s.ask(alice, id, hi)
		program.Eventually(t, "the provider is asked", func() bool {
			asked, _ := v.calls()
			return len(asked) == n
		})
		call := s.read("trace_id = $1 and entity_type = 'request' and seq = 1", trace)[0]
		s.insert(alice, columns{"id": call.ID, "seq": 2, "entity_type": "request", "status": "cancel_requested"})
		got := s.settled(trace, 1)[0]
		if fault := failure(t, got.execution(t)); fault.Code != span.RunCancelled ||
			got.last().StatusText() != "cancelled" || *got.execution(t).Attempt != 1 {
			t.Errorf("call %d: %s", n, describe([]run{got}))
		}
		answer := one[string](s, "select status || ' ' || (error ->> 'code') from ledger.result($1::text::uuid)",
			call.ID.String())
		if answer != "cancelled cancelled" {
			t.Errorf("ledger.result says %q", answer)
		}
	}
	third := s.ask(alice, id, hi)
	s.stands(third, "blocked 1")
	killAndCheck(t, sidecar)
	s.serve(outward(v.host)...) // which counts from the ledger
	fourth := s.ask(alice, id, hi)
	s.stands(fourth, "blocked 1")
	for _, trace := range []string{third, fourth} {
		call := s.read("trace_id = $1 and status = 'blocked'", trace)[0]
		s.giveUp(alice, call.ID)       // which may just be asked again by whoever leads now
		s.stands(trace, "cancelled 1") // without an execution: it did not run
	}
	if asked, _ := v.calls(); len(asked) != 2 {
		t.Errorf("the provider was asked %d times, 2 are allowed", len(asked))
	}
	judge(t, s)
}
