package stage0

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// limited is a manifest with these daily limits.
func limited(tenant, user int) map[string]any {
	return map[string]any{"throttle": map[string]any{
		"per_tenant_daily_exec_limit": tenant, "per_user_daily_exec_limit": user}}
}

// perform runs a request by run_code as the engine does: it commits what that gives, and says so.
func (b *bench) perform(request *span.Span) ledger.Group {
	b.t.Helper()
	results, err := b.boot("run_code", "", request)
	if err != nil {
		b.t.Fatal(err)
	}
	got := results[request.Key()]
	if got.err != nil {
		b.t.Fatal(got.err)
	}
	b.commit(got.group)
	b.Settled(request.ID, true)
	return got.group
}

func (b *bench) commit(group ledger.Group) {
	b.t.Helper()
	outcomes, err := b.config.Ledger.Append(b.t.Context(), []ledger.Group{group})
	if err != nil || outcomes[0].Err != nil || !outcomes[0].Won {
		b.t.Fatal(err, outcomes)
	}
}

// again is the request as a later attempt takes it up.
func again(request *span.Span, group ledger.Group, attempt int) *span.Span {
	next := *request
	next.Seq, next.CurrHash, next.Status = group.Fence.Seq, group.Fence.CurrHash, group.Fence.Status
	next.Attempt, next.AcceptedAt = &attempt, group.Fence.AcceptedAt
	return &next
}

// tally counts how the requests of a run ended.
func tally(groups []ledger.Group) map[string]int {
	counts := map[string]int{}
	for _, group := range groups {
		counts[group.Fence.StatusText()]++
	}
	return counts
}

// scheduled makes a request one that observer_bot made: nobody asked for the run.
func scheduled(function span.ID) func(*span.Span) {
	return func(s *span.Span) {
		s.Metadata, _ = span.SetEngine(nil, span.EngineMeta{Cause: span.Key{ID: function}, Root: function, Depth: 1,
			Kind: "request"})
	}
}

func TestTheDailyLimitsHoldForTenantsAndUsers(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(5, 3), nil)
	f := b.function(1, "return 1", func(s *span.Span) { s.Visibility = "tenant" })
	var groups []ledger.Group
	run := func(n int, change ...func(*span.Span)) ledger.Group {
		group := b.perform(b.request(n, f.ID, change...))
		groups = append(groups, group)
		return group
	}
	bob := func(s *span.Span) { s.OwnerID = "bob" }
	for i := range 4 {
		run(10 + i)
	}
	if got := fmt.Sprint(tally(groups)); got != "map[blocked:1 complete:3]" {
		t.Fatalf("alice's four calls: %s", got)
	}
	blocked := groups[3]
	tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	if at := blocked.Fence.ScheduledAt; at == nil || !at.Equal(tomorrow) || len(blocked.Rows) != 1 ||
		blocked.Fence.Reason == nil || !strings.Contains(*blocked.Fence.Reason, "his 3 executions") {
		t.Errorf("blocked as %+v with %d rows", blocked.Fence, len(blocked.Rows))
	}
	run(20, scheduled(f.ID)) // counts for the tenant alone
	run(21, bob)
	if last := run(22, bob); last.Fence.StatusText() != "blocked" ||
		!strings.Contains(*last.Fence.Reason, "its 5 executions") {
		t.Errorf("the sixth run of the tenant: %+v", last.Fence)
	}
	run(23, scheduled(f.ID))
	if got := fmt.Sprint(tally(groups)); got != "map[blocked:3 complete:5]" {
		t.Errorf("all: %s", got)
	}
	other := b.function(30, "return 1", func(s *span.Span) { s.TenantID = "t2" })
	if x := b.perform(b.request(31, other.ID, func(s *span.Span) { s.TenantID = "t2" })); x.Fence.StatusText() !=
		"complete" {
		t.Error("one tenant's limit stops another")
	}
	rows := ask[string](b, `select string_agg(concat_ws(' ', this, owner_id, metadata->>'limit', metadata->>'today',
			visibility), ', ' order by this) from ledger.universal_registry where entity_type = 'policy_violation'`)
	if rows != "quota.exec.per_tenant.daily bob 5 5 private, quota.exec.per_user.daily alice 3 3 private" {
		t.Errorf("violations: %s", rows)
	}
}

// What counts is in the ledger: who starts anew counts the same.
func TestTheNextLeaderCountsWhatTheLedgerSays(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(4, 2), nil)
	f := b.function(1, "return 1", func(s *span.Span) { s.Visibility = "tenant" })
	var groups []ledger.Group
	for i := range 8 {
		if i%2 == 0 {
			if err := b.Lead(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			b.Stage0 = b.another()
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		change := func(*span.Span) {}
		if i > 3 {
			change = scheduled(f.ID)
		}
		groups = append(groups, b.perform(b.request(10+i, f.ID, change)))
	}
	if got := fmt.Sprint(tally(groups)); got != "map[blocked:4 complete:4]" {
		t.Errorf("got %s", got)
	}
}

func TestManyRequestsAtOnceDoNotPassTheLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(10, 100), nil)
	f := b.function(1, "return 1")
	var batch []*span.Span
	for i := range 40 {
		batch = append(batch, b.request(10+i, f.ID))
	}
	results, err := b.boot("request_worker", "", batch...)
	if err != nil {
		t.Fatal(err)
	}
	var groups []ledger.Group
	for _, got := range results {
		groups = append(groups, got.group)
	}
	if got := fmt.Sprint(tally(groups)); got != "map[blocked:30 complete:10]" {
		t.Errorf("got %s", got)
	}
}

// A new leader's first count runs while results are on their way: none is counted twice or not at all.
func TestWhatIsUnderWayIsCountedOnceWhenTheCountBeginsAnew(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(100, 100), nil)
	f := b.function(1, "return 1")
	var results []result
	var requests []*span.Span
	for i := range 6 {
		request := b.request(10+i, f.ID)
		got, err := b.boot("run_code", "", request)
		if err != nil {
			t.Fatal(err)
		}
		requests, results = append(requests, request), append(results, got[request.Key()])
	}
	b.quotas.forget()
	var all sync.WaitGroup
	for i, request := range requests {
		all.Go(func() {
			if i%2 == 0 {
				b.commit(results[i].group)
			}
			b.Settled(request.ID, i%2 == 0)
		})
	}
	begin := time.Now().UTC().Truncate(24 * time.Hour)
	key := quotaKey{"t1", begin.Format(time.DateOnly)}
	day, err := b.quotas.day(t.Context(), key, begin)
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	b.quotas.mu.Lock()
	defer b.quotas.mu.Unlock()
	if day.used.Tenant != 3 || day.used.Users["alice"] != 3 || len(b.quotas.pending) != 0 {
		t.Errorf("counted %+v, %d pending; want 3", day.used, len(b.quotas.pending))
	}
}

func TestARunThatLeavesNothingUsesNoQuota(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(1, 1), nil)
	f := b.function(1, "return 1")
	lost := b.request(10, f.ID)
	if _, err := b.boot("run_code", "", lost); err != nil {
		t.Fatal(err)
	}
	if got := b.perform(b.request(11, f.ID)); got.Fence.StatusText() != "blocked" {
		t.Errorf("while one is under way: %s", got.Fence.StatusText())
	}
	b.Settled(lost.ID, false)
	if got := b.perform(b.request(12, f.ID)); got.Fence.StatusText() != "complete" {
		t.Errorf("after that one was lost: %s", got.Fence.StatusText())
	}
}

// Attempts of one request count once, also across a restart; and the last failure is its end.
func TestRetriesCountOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(2, 2), nil)
	f := b.function(1, "throw new Error('no')", func(s *span.Span) {
		s.Metadata = json.RawMessage(`{"retry": {"max_attempts": 3, "base_ms": 1000}}`)
	})
	request := b.request(10, f.ID)
	group := b.perform(request)
	for attempt := 2; attempt <= 3; attempt++ {
		before := time.Until(group.Fence.ScheduledAt.Time)
		least := time.Duration(attempt-1) * 400 * time.Millisecond
		if group.Fence.StatusText() != "retry" || before < least || before > 4*least ||
			*group.Rows[0].Attempt != attempt-1 || group.Rows[0].StatusText() != "error" {
			t.Fatalf("attempt %d ends as %+v, due in %s", attempt-1, group.Fence, before)
		}
		b.Stage0 = b.another()
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		request = again(request, group, attempt)
		group = b.perform(request)
	}
	if why := group.Fence.Reason; group.Fence.StatusText() != "dead" || why == nil ||
		*why != "3 attempts failed, the last with exception: Error: no" ||
		!strings.Contains(string(group.Fence.Error), `"exception"`) || group.Rows[0].StatusText() != "error" {
		t.Errorf("the last attempt ends as %s", encode(group))
	}
	if got := b.perform(b.request(11, f.ID)); got.Fence.StatusText() != "retry" {
		t.Errorf("a second request: %s", got.Fence.StatusText())
	}
	if got := b.perform(b.request(12, f.ID)); got.Fence.StatusText() != "blocked" {
		t.Errorf("a third request: %s", got.Fence.StatusText())
	}
}

// Whoever has a dead request run once more gets as many attempts as at first, and pays for them.
func TestARedrivenRequestIsTriedAndCountsAnew(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(2, 2), nil)
	f := b.function(1, "throw new Error('no')", func(s *span.Span) {
		s.Metadata = json.RawMessage(`{"retry": {"max_attempts": 2, "base_ms": 1}}`)
	})
	request := b.request(10, f.ID)
	group := b.perform(again(request, b.perform(request), 2))
	for redriven := range 2 {
		if group.Fence.StatusText() != "dead" {
			t.Fatalf("two attempts end as %s", encode(group))
		}
		if _, err := b.connect().Exec(t.Context(), `insert into ledger.universal_registry (id, seq, entity_type, who,
				owner_id, tenant_id, visibility, status) values ($1::text::uuid, $2, 'request', 'user:alice', $3, $4,
				$5, 'scheduled')`, request.ID.String(), group.Fence.Seq+1, request.OwnerID, request.TenantID,
			request.Visibility); err != nil {
			t.Fatal(err)
		}
		found, err := b.config.Ledger.Requests(t.Context(), []span.ID{request.ID})
		if err != nil {
			t.Fatal(err)
		}
		next := found[request.ID]
		next.Attempt = new(*next.Attempt)
		group = b.perform(next)
		if redriven == 1 {
			break // of two executions none is left
		}
		if *next.Attempt != 3 || group.Fence.StatusText() != "retry" {
			t.Fatalf("attempt %d ends as %s", *next.Attempt, encode(group))
		}
		group = b.perform(again(next, group, 4))
	}
	if group.Fence.StatusText() != "blocked" {
		t.Errorf("the third execution ends as %s", encode(group))
	}
}

func TestAFunctionMayDropWhatIsOverTheLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(0, 0), nil)
	f := b.function(1, "return 1", func(s *span.Span) { s.Metadata = json.RawMessage(`{"quota": "drop"}`) })
	group := b.perform(b.request(10, f.ID))
	if group.Fence.StatusText() != "error" || len(group.Rows) != 2 {
		t.Fatalf("got %+v", group)
	}
	wantCode(t, "dropped", group.Rows[1], span.RunDenied, "0 executions of today")
	if strings.Contains(string(group.Rows[1].Metadata), `"quota"`) {
		t.Errorf("what did not run counts: %s", group.Rows[1].Metadata)
	}
}

func TestReserveNeedsItsGrantAndARequest(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:note", "reserve"), kernelOf(`
		const asked = [];
		const one = {name: "exec", n: 1};
		for (const quota of [one, one, {name: "exec", n: 2}, {name: "x", n: 1}, undefined]) {
			asked.push(await ctx.reserve(quota).then((q) => q.granted, (error) => error.code));
		}
		ctx.insertSpan({entity_type: "note", output: asked});`))
	f := b.function(1, "return 1")
	for name, c := range map[string]struct {
		cause *span.Span
		want  string
	}{
		"request":  {b.request(10, f.ID), `[1,1,"denied","denied","denied"]`},
		"function": {f, `["denied","denied","denied","denied","denied"]`},
	} {
		results, err := b.boot("observer_bot", "", c.cause)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(results[c.cause.Key()].group.Rows[0].Output); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	b = setup(t, map[string]any{"grants": map[string]any{"run_code": []string{"run", "insertSpan:execution",
		"version:request"}}}, nil)
	_, err := b.boot("run_code", "", b.request(11, b.function(2, "return 1").ID))
	wantCode(t, "no grant", err, span.RunDenied, "logline manifest --give run_code=reserve`")
}

func TestAnOpenCircuitRefusesWithoutQuota(t *testing.T) {
	t.Parallel()
	manifest := limited(6, 100)
	manifest["policy"] = map[string]any{"circuit_breaker_threshold": 3}
	b := setup(t, manifest, nil)
	f := b.function(1, "if (input.fail) throw new Error('no'); return 1",
		func(s *span.Span) { s.Visibility = "public" })
	n := 10
	call := func(input string, change ...func(*span.Span)) ledger.Group {
		n++
		change = append(change, func(s *span.Span) { s.Input = json.RawMessage(input) })
		return b.perform(b.request(n, f.ID, change...))
	}
	const fail, good = `{"fail": true}`, `{}`
	call(fail)
	call(good) // closes it again
	for range 3 {
		call(fail)
	}
	refused := call(good)
	wantCode(t, "open", refused.Rows[0], span.RunDenied, "circuit is open: it is tried at")
	if refused.Fence.StatusText() != "error" {
		t.Errorf("the request is %s", refused.Fence.StatusText())
	}
	stranger := func(s *span.Span) { s.TenantID = "t2" }
	if got := call(good, stranger); got.Fence.StatusText() != "complete" {
		t.Errorf("a tenant's failures stop another's use of a shared function: %s", got.Fence.StatusText())
	}
	if got := call(good); got.Fence.StatusText() != "error" {
		t.Errorf("another tenant's success closes it: %s", got.Fence.StatusText())
	}
	for range 3 {
		call(fail, stranger)
	}
	if got := call(good, stranger); got.Fence.StatusText() != "error" {
		t.Errorf("the stranger's own circuit stays closed: %s", got.Fence.StatusText())
	}
	incident := ask[string](b, `select concat_ws(' ', count(*) <= 2, min(owner_id), min(tenant_id), min(visibility),
		min(error->>'code')) from ledger.universal_registry where entity_type = 'incident'`)
	if incident != "t alice t1 private exception" { // two where an hour began meanwhile
		t.Errorf("incidents: %s", incident)
	}
	b.ahead.Add(int64(circuitRest + time.Second)) // a minute later: one is tried
	if got := call(good); got.Fence.StatusText() != "complete" {
		t.Errorf("the trial: %s", got.Fence.StatusText())
	}
	if got := call(good); got.Fence.StatusText() != "blocked" { // the seventh run: the refused ones used none
		t.Errorf("after the trial: %s", got.Fence.StatusText())
	}
}

// The breaker is no weapon: who calls a mate's function badly loses his own calls, and the owner hears of it
// once an hour.
func TestACallersFailuresStopNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"policy": map[string]any{"circuit_breaker_threshold": 3}}, nil)
	f := b.function(1, "if (input.fail) throw new Error('no'); return 1",
		func(s *span.Span) { s.Visibility = "public" })
	n := 10
	call := func(input, tenant, owner string) string {
		n++
		return b.perform(b.request(n, f.ID, func(s *span.Span) {
			s.Input, s.TenantID, s.OwnerID = json.RawMessage(input), tenant, owner
		})).Fence.StatusText()
	}
	for _, by := range [][2]string{{"t1", "mallory"}, {"t1", "mal"}, {"t2", "mallory"}, {"t3", "carl"}} {
		for range 4 {
			call(`{"fail": true}`, by[0], by[1])
		}
		if got := call(`{}`, by[0], by[1]); got != "error" {
			t.Errorf("the circuit of %s is closed: %s", by, got)
		}
	}
	for range 3 {
		if got := call(`{}`, "t1", "alice"); got != "complete" {
			t.Errorf("the owner's own call ends %s", got)
		}
	}
	if got := ask[int](b, `select count(*) from ledger.universal_registry
		where entity_type = 'incident' and this = 'circuit'`); got > 2 { // two where an hour began meanwhile
		t.Errorf("%d incidents", got)
	}
}

func TestCircuitLetsOneRunThroughWhenItIsHalfOpen(t *testing.T) {
	t.Parallel()
	var c circuits
	key, now := circuitKey{"t1", "alice", idOf(1)}, time.Now()
	for i := range 2 {
		if opened := c.note(key, true, 2, now); opened != (i == 1) {
			t.Errorf("failure %d: opened %v", i, opened)
		}
	}
	free := func(at time.Time) bool { return c.enter(key, 2, at).IsZero() }
	if free(now) || free(now.Add(circuitRest-1)) {
		t.Error("it is not open")
	}
	half := now.Add(circuitRest)
	if !free(half) || free(half) {
		t.Error("half open it lets not exactly one through")
	}
	if c.note(key, true, 2, half) {
		t.Error("the trial's failure is told as a new opening")
	}
	if free(half.Add(circuitRest - 1)) {
		t.Error("the trial's failure does not open it again")
	}
	if !free(half.Add(circuitRest)) {
		t.Error("it is never tried again")
	}
	if !free(half.Add(2 * circuitRest)) {
		t.Error("a trial that never ends holds it open for ever")
	}
	c.leave(key)
	if !free(half.Add(2 * circuitRest)) {
		t.Error("a trial that did not begin counts")
	}
	c.note(key, false, 2, half)
	for range 2 { // one trial, and one more
		if !free(half) {
			t.Error("a success does not close it")
		}
	}
}

func TestRatesBookTheNextFreeMoment(t *testing.T) {
	t.Parallel()
	var r rates
	key, now := rateKey{"run_code", "t1"}, time.Now()
	book := func(n int, at time.Time) time.Duration {
		until := r.book(key, 3, at, asked(n, "alice"))
		if until.IsZero() {
			return 0
		}
		return until.Sub(now)
	}
	for n, want := range []time.Duration{0, 0, 0, time.Minute, time.Minute, time.Minute, 2 * time.Minute} {
		if got := book(n, now); got != want {
			t.Errorf("request %d waits %s, want %s", n, got, want)
		}
	}
	if got := book(3, now.Add(time.Second)); got != time.Minute {
		t.Errorf("asked again it waits until %s", got)
	}
	if got := book(3, now.Add(time.Minute)); got != 0 {
		t.Errorf("in its time it waits until %s", got)
	}
	if at := r.take(key, 3, now.Add(time.Minute)); at.IsZero() {
		t.Error("who has not booked goes first")
	}
	if at := r.take(rateKey{"run_code", "t2"}, 3, now); !at.IsZero() {
		t.Error("another tenant waits")
	}
	if at := r.take(key, 3, now.Add(time.Hour)); !at.IsZero() {
		t.Error("an hour later it waits")
	}
}

func TestRateLimitsOfKernelsHold(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"rate_limits": map[string]any{
		"kernel:run_code": map[string]any{"per_tenant_per_min": 2}}}, nil)
	f := b.function(1, "return 1")
	var groups []ledger.Group
	for i := range 3 {
		groups = append(groups, b.perform(b.request(10+i, f.ID)))
	}
	if got := fmt.Sprint(tally(groups)); got != "map[blocked:1 complete:2]" {
		t.Fatalf("got %s", got)
	}
	wait := time.Until(groups[2].Fence.ScheduledAt.Time)
	if wait < 50*time.Second || wait > time.Minute+time.Second || len(groups[2].Rows) != 0 { // two clocks
		t.Errorf("the third waits %s with %d rows", wait, len(groups[2].Rows))
	}

	b = setup(t, map[string]any{"grants": map[string]any{"observer_bot": []string{"run", "insertSpan:note"}},
		"rate_limits": map[string]any{"kernel:provider_exec": map[string]any{"per_tenant_per_min": 1}}}, kernelOf(`
		const codes = [];
		for (let i = 0; i < 2; i++) {
			const result = await ctx.run({id: ctx.manifest.kernels.provider_exec});
			codes.push(result.error ? result.error.code + " " + result.error.message : "booted");
		}
		throw new Error(codes.join(", "));`))
	cause := b.request(20, b.function(2, "return 1").ID)
	_, err := b.boot("observer_bot", "", cause)
	wantCode(t, "the second boot", err, span.RunException,
		"denied kernel provider_exec runs 1 times a minute")
}

func BenchmarkReserve(b *testing.B) {
	s := New(Config{})
	begin := time.Now().UTC().Truncate(24 * time.Hour)
	key := quotaKey{"t1", begin.Format(time.DateOnly)}
	day := &quotaDay{ready: make(chan struct{}), used: ledger.Used{Users: map[string]int{}}}
	close(day.ready)
	s.quotas.days[key] = day
	manifest := &governed{Manifest: span.DefaultManifest()}
	manifest.Throttle.PerTenantDailyExecLimit, manifest.Throttle.PerUserDailyExecLimit = 1<<40, 1<<40
	manifest.Grants["run_code"] = []span.Grant{{Action: span.ActionReserve}}
	request := &span.Span{ID: idOf(1), EntityType: "request", OwnerID: "alice", TenantID: "t1",
		ParentID: new(idOf(2))}
	caller := &kernel{name: "run_code", span: &span.Span{}}
	inv := newInvocation(s, manifest, caller, Job{Batch: []*span.Span{request}}, nil)
	raw := json.RawMessage(`{"name":"exec","n":1}`)
	for b.Loop() {
		if got, err := inv.reserve(b.Context(), raw, request, nil); err != nil || got.Granted != 1 {
			b.Fatal(got, err)
		}
		s.Settled(request.ID, true)
	}
}

// A kernel that is called counts as a function does, also for the next leader.
func TestCallsOfKernelsCount(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(2, 100), nil)
	call := func(n int) ledger.Group {
		b.Stage0 = b.another()
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		request := b.request(n, span.ProviderExecID)
		results, err := b.boot("request_worker", "", request)
		if err != nil {
			t.Fatal(err)
		}
		group := results[request.Key()].group
		b.commit(group)
		b.Settled(request.ID, true)
		return group
	}
	for n, want := range []string{"error", "error", "blocked"} { // there is no such provider
		if got := call(10 + n).Fence.StatusText(); got != want {
			t.Errorf("call %d: %s, want %s", n+1, got, want)
		}
	}
}
