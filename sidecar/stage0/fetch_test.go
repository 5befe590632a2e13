package stage0

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const secretValue = "sk-hunter2hunter2"

// reach gives b a client that may reach host, with a secret for it.
func (b *bench) reach(host string) {
	b.t.Helper()
	client, err := fetch.New(fetch.Config{Allow: []string{host},
		Secrets: []fetch.Secret{{Name: "API_KEY", Value: secretValue, Hosts: []string{host}}}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	b.config.Fetch = client
}

// server is one that sends back what it was sent.
func server(t testing.TB) (url, host string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Auth", r.Header.Get("Authorization"))
		w.WriteHeader(202)
		_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "type": r.Header.Get("Content-Type"),
			"body": string(body), "auth": r.Header.Get("Authorization"), "key": r.Header.Get("Idempotency-Key")})
	}))
	t.Cleanup(s.Close)
	return s.URL, strings.TrimPrefix(s.URL, "http://")
}

func TestAGrantedFunctionReachesItsHost(t *testing.T) {
	t.Parallel()
	url, host := server(t)
	f := idOf(1)
	b := setup(t, map[string]any{"grants": map[string]any{"run_code": []string{"run", "reserve",
		"insertSpan:execution",
		"version:request"}, f.String(): []string{"fetch:" + host, "secret:API_KEY"}}}, nil)
	b.reach(host)
	b.function(1, fmt.Sprintf(`
		const r = await ctx.fetch(%q, {method: "POST", body: {a: 1},
			headers: {authorization: "Bearer {{API_KEY}}"}});
		console.log(r.headers.get("X-Auth"));
		return [r.status, r.ok, await r.json()]`, url))
	execution, _ := b.execute(2, f)
	request := b.put(3, "request", func(s *span.Span) { s.ParentID, s.Status = &f, new("scheduled") })
	key := idOf(2).String() + ":0"
	want := fmt.Sprintf(`[202,true,{"auth":"Bearer ***","body":"{\"a\":1}","key":%q,"method":"POST",`+
		`"type":"application/json"}]`, key)
	if execution.Error != nil || string(execution.Output) != want {
		t.Errorf("got %s %s, want %s", execution.Output, execution.Error, want)
	}
	encoded, err := json.Marshal(execution)
	if err != nil || strings.Contains(string(encoded), "hunter2") {
		t.Errorf("the execution shows the secret: %s, %v", encoded, err)
	}
	// The same request again, as after a lost sidecar: the same key. Another request: another.
	again := b.latest(idOf(2))
	again.Attempt = new(2)
	for _, c := range []struct {
		request *span.Span
		same    bool
	}{{again, true}, {request, false}} {
		results, err := b.boot("run_code", "", c.request)
		if err != nil {
			t.Fatal(err)
		}
		got := string(results[c.request.Key()].group.Rows[0].Output)
		if strings.Contains(got, key) != c.same {
			t.Errorf("the key of %s is %s, want the same: %v", c.request.ID, got, c.same)
		}
	}
}

func (b *bench) latest(id span.ID) *span.Span {
	b.t.Helper()
	found, err := b.config.Ledger.Latest(b.t.Context(), []span.ID{id})
	if err != nil {
		b.t.Fatal(err)
	}
	return found[id]
}

func TestFetchNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	url, host := server(t)
	b := setup(t, map[string]any{"limits": map[string]any{"net_calls": 3}, "grants": map[string]any{
		"run_code":        []string{"run", "reserve", "insertSpan:execution", "version:request"},
		idOf(10).String(): []string{"fetch:" + host},
		idOf(30).String(): []string{"fetch:elsewhere.example:443"}}}, nil)
	b.reach(host)
	attempt := func(url, init string) string {
		return fmt.Sprintf(`try { return (await ctx.fetch(%s%s)).status }
			catch (e) { return e.code + ": " + e.message }`, url, init)
	}
	quoted := fmt.Sprintf("%q", url)
	for n, c := range map[int]struct{ code, want string }{
		10: {attempt(quoted, ""), "202"},
		20: {attempt(quoted, ""), "denied: fetch: the manifest does not grant " + host + " to " +
			idOf(20).String()},
		30: {attempt(`"https://elsewhere.example/"`, ""), "add it to LOGLINE_FETCH_ALLOW"},
	} {
		if got := b.output(n, c.code); !strings.Contains(got, c.want) {
			t.Errorf("%d: got %s, want %s", n, got, c.want)
		}
	}
	for i, c := range []struct{ url, init, want string }{
		{`undefined`, ``, "a URL as text"}, {`{}`, ``, "a URL as text"}, {`""`, ``, "a URL as text"},
		{quoted, `, {headers: {a: 1}}`, "headers with texts"},
		{quoted, `, {redirect: "error"}`, "{method, headers"},
		{quoted, `, []`, "{method, headers"}, {quoted, `, {timeout_ms: 120001}`, "120000 at most"},
		{quoted, `, {timeout_ms: -1}`, "timeout_ms"}, {quoted, `, {retry: 4}`, "retry 3"},
		{quoted, `, {headers: {authorization: "{{API_KEY}}"}}`, "does not grant the secret"},
		{quoted, `, {body: "x"}`, "has no body"},
	} {
		f := b.put(100+10*i, "function", func(s *span.Span) { s.Code = new(attempt(c.url, c.init)) })
		manifest := *b.manifest.Load().Manifest
		manifest.Grants = map[string][]span.Grant{"run_code": manifest.Grants["run_code"],
			f.ID.String(): {{Action: span.ActionFetch, Objects: []string{host}}}}
		governedNow := *b.manifest.Load()
		governedNow.Manifest = &manifest
		b.manifest.Store(&governedNow)
		x, _ := b.execute(101+10*i, f.ID)
		if !strings.Contains(string(x.Output), c.want) {
			t.Errorf("fetch(%s%s): got %s %s, want %s", c.url, c.init, x.Output, x.Error, c.want)
		}
	}
}

func TestFetchIsCountedByTheManifest(t *testing.T) {
	t.Parallel()
	url, host := server(t)
	f := idOf(1)
	b := setup(t, map[string]any{"limits": map[string]any{"net_calls": 3}, "grants": map[string]any{
		"run_code": []string{"run", "reserve", "insertSpan:execution", "version:request"},
		f.String(): []string{"fetch:" + host}}}, nil)
	b.reach(host)
	b.function(1, fmt.Sprintf(`for (let i = 0; i < 4; i++) await ctx.fetch(%q)`, url))
	x, _ := b.execute(2, f)
	wantCode(t, "the fourth call", x, span.RunLimitNet, "may make 3 calls")
}

func TestAPolicyHasNoFetch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	cause := b.put(1, "note")
	policy := b.put(2, "policy", func(s *span.Span) {
		s.Code = new(`function on(span, ctx) {
			return [{emit_span: {entity_type: "note", name: typeof ctx.fetch}}]
		}`)
	})
	results, err := b.boot("policy_agent", fmt.Sprintf(
		`{"matches":[{"span":["%s",0],"policy":{"id":"%s","seq":0}}]}`, cause.ID, policy.ID), cause)
	if err != nil {
		t.Fatal(err)
	}
	rows := flat(results[cause.Key()].group).Rows
	if len(rows) != 1 || rows[0].Name == nil || *rows[0].Name != "undefined" {
		t.Errorf("got %+v", rows)
	}
}

// A kernel that the manifest calls callable is run for a request, and ends it; no other is.
func TestOnlyCallableKernelsAreCalled(t *testing.T) {
	t.Parallel()
	code := kernelOf(`
		const request = ctx.batch[0];
		await ctx.run({id: request.parent_id, cause: {id: request.id, seq: request.seq}});`)
	code["provider_exec"] = `export default async function main(ctx) {
		ctx.insertSpan({entity_type: "provider_execution", status: "complete", metadata: {kept: 1}});
		ctx.version(ctx.batch[0].id, {status: "complete"});
	}`
	granting := map[string]any{"grants": map[string]any{
		"observer_bot": []string{"run"}, "run_code": []string{"run"},
		"provider_exec": []string{"insertSpan:provider_execution", "version:request"}}}
	b := setup(t, granting, code)
	called, other := b.request(1, span.ProviderExecID), b.request(2, span.RequestWorkerID)
	results, err := b.boot("observer_bot", "", called)
	if err != nil || results[called.Key()].group.Fence == nil {
		t.Fatalf("got %+v, %v", results, err)
	}
	var metadata struct {
		Kept int
		Run  struct{ Kernels []kernelRef }
	}
	row := results[called.Key()].group.Rows[0]
	if err := json.Unmarshal(row.Metadata, &metadata); err != nil || metadata.Kept != 1 ||
		len(metadata.Run.Kernels) != 2 || metadata.Run.Kernels[1].Name != "provider_exec" {
		t.Errorf("the provider_execution does not say what ran: %s, %v", row.Metadata, err)
	}
	results, err = b.boot("observer_bot", "", other)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "request_worker", results[other.Key()].err, span.RunNotAllowed, "a request cannot call it")

	granting["callable"] = []string{}
	closed := setup(t, granting, code)
	called = closed.request(1, span.ProviderExecID)
	if results, err = closed.boot("observer_bot", "", called); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a kernel off the list", results[called.Key()].err, span.RunNotAllowed, "cannot call it")
}

// A kernel that a called kernel runs does not end the request: its spans go with those of its caller, with
// ids of their own however often it is run.
func TestANestedKernelsSpansGoWithItsCaller(t *testing.T) {
	t.Parallel()
	url, host := server(t)
	code := kernelOf(fmt.Sprintf(`
		const r = await ctx.fetch(%q, {headers: {"idempotency-key": "{{idempotency_key}}"}});
		ctx.insertSpan({entity_type: "provider_execution", input: ctx.input, output: (await r.json()).key});
		return ctx.input;`, url))
	code["provider_exec"] = `export default async function main(ctx) {
		const results = [];
		for (const n of [1, 2]) results.push(await ctx.run({id: ctx.manifest.kernels.observer_bot, input: n}));
		ctx.insertSpan({entity_type: "note", output: results.map((r) => [r.ok, r.output])});
		ctx.version(ctx.batch[0].id, {status: "complete"});
	}`
	b := setup(t, map[string]any{"callable": []string{"provider_exec"}, "grants": map[string]any{
		"provider_exec": []string{"run", "insertSpan:note", "version:request"},
		"observer_bot":  []string{"insertSpan:provider_execution", "fetch:" + host}}}, code)
	b.reach(host)
	request := b.request(1, span.ProviderExecID)
	results, err := b.boot("provider_exec", "", request)
	if err != nil {
		t.Fatal(err)
	}
	rows := results[request.Key()].group.Rows
	if len(rows) != 3 || string(rows[0].Input) != "1" || string(rows[1].Input) != "2" ||
		string(rows[2].Output) != "[[true,1],[true,2]]" {
		t.Fatalf("got %+v, %+v", rows, results[request.Key()].err)
	}
	if rows[0].ID == rows[1].ID || string(rows[0].Output) == string(rows[1].Output) {
		t.Errorf("two nested runs share the id %s or the key %s", rows[0].ID, rows[0].Output)
	}
}

// Where the manifest wants providers signed, a kernel is given no other; a hash must hold in any case.
func TestAProviderIsGivenToKernelsVerified(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"provider"})
	provider := func(n int) *span.Span {
		return system(idOf(n), "provider", func(s *span.Span) { s.Metadata = json.RawMessage(`{"type":"ollama"}`) })
	}
	plain, signed, changed := provider(1), provider(2), provider(3)
	b.publish(plain)
	b.publishSigned(b.root, signed, changed)
	b.tamper("name = 'another'", changed.ID)
	call := func(n int, provider span.ID) *span.Span {
		request := b.request(n, span.ProviderExecID, func(s *span.Span) {
			s.Input = json.RawMessage(fmt.Sprintf(`{"provider_id":%q}`, provider))
		})
		results, err := b.boot("provider_exec", "", request)
		if err != nil {
			t.Fatal(err)
		}
		return results[request.Key()].group.Rows[0]
	}
	wantCode(t, "unsigned", call(11, plain.ID), span.RunUnsigned, "signature")
	wantCode(t, "changed", call(12, changed.ID), span.RunHashMismatch, "is not what was hashed")
	wantCode(t, "signed", call(13, signed.ID), span.RunDenied, "base_url")
}

func TestARequestThatCallsAKernelIsSignedWhereRequestsAre(t *testing.T) {
	t.Parallel()
	b := setupSigned(t, []string{"request"})
	for n, sealed := range []bool{false, true} {
		request := b.request(1+n, span.ProviderExecID, func(s *span.Span) {
			if err := sign.NewSigner(b.sidecar).Seal(s, nil); sealed && err != nil {
				t.Fatal(err)
			} else if !sealed {
				s.CurrHash, s.Signature, s.PublicKey, s.SigAlg, s.SigKeyID = nil, nil, nil, nil, nil
			}
		})
		results, err := b.boot("request_worker", "", request)
		if err != nil {
			t.Fatal(err)
		}
		if got := results[request.Key()]; sealed {
			wantCode(t, "signed", got.group.Rows[0], span.RunDenied, "provider_id")
		} else {
			wantCode(t, "unsigned", got.err, span.RunUnsigned, "request")
		}
	}
}

// A call counts as an execution does: over a limit it waits, and nothing is asked.
func TestCallsOfProvidersAreLimited(t *testing.T) {
	t.Parallel()
	for name, manifest := range map[string]map[string]any{
		"rate": {"rate_limits": map[string]any{"kernel:provider_exec": map[string]any{"per_tenant_per_min": 1}}},
		"tenant": {"throttle": map[string]any{"per_tenant_daily_exec_limit": 1,
			"per_user_daily_exec_limit": 100}},
	} {
		b := setup(t, manifest, nil)
		for n, want := range []string{"error", "blocked"} { // the first finds no provider
			request := b.request(1+n, span.ProviderExecID, func(s *span.Span) {
				s.Input = json.RawMessage(fmt.Sprintf(`{"provider_id":%q}`, idOf(99)))
			})
			results, err := b.boot("request_worker", "", request)
			if err != nil {
				t.Fatal(err)
			}
			group := results[request.Key()].group
			if group.Fence == nil || group.Fence.StatusText() != want {
				t.Fatalf("%s: request %d is %+v, want %s", name, n, results[request.Key()], want)
			}
			if want == "blocked" && group.Fence.ScheduledAt == nil {
				t.Errorf("%s: the request waits for nothing", name)
			}
		}
	}
}
