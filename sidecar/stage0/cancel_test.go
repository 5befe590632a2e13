package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// cancelledWhile runs a request by run_code, cancels it once the host that it asks has its call, and returns
// what ends it.
func (b *bench) cancelledWhile(request *span.Span, asked <-chan struct{}) ledger.Group {
	b.t.Helper()
	running, cancel := context.WithCancel(b.t.Context())
	go func() {
		<-asked
		cancel()
	}()
	err := b.Boot(running, Job{Kernel: "run_code", Batch: []*span.Span{request},
		Emit:   func(span.Key, ledger.Group, *span.RunError) {},
		Cancel: func(span.Key) context.Context { return running }})
	if err == nil {
		b.t.Error("the run ended before it was cancelled")
	}
	wish := *request
	wish.Seq, wish.Status, wish.Attempt = request.Seq+1, new("cancel_requested"), nil // as its owner states it
	wish.IsDeleted = true
	group, err := b.Cancelled(b.t.Context(), &wish, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return group
}

func TestACancelledRunCountsAndLeavesAnExecution(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	host := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(host.Close)
	address := strings.TrimPrefix(host.URL, "http://")
	change := limited(100, 2)
	change["grants"] = map[string]any{idOf(1).String(): []string{"fetch:" + address},
		"run_code": []string{"run", "reserve", "insertSpan:execution,policy_violation", "version:request"}}
	b := setup(t, change, nil)
	b.reach(address)
	f := b.function(1, fmt.Sprintf("await ctx.fetch(%q)", host.URL))
	for n := range 2 {
		request := b.request(10+n, f.ID)
		group := b.cancelledWhile(request, asked)
		if group.Fence.StatusText() != "cancelled" || !group.Fence.IsDeleted ||
			group.Fence.Seq != request.Seq+2 || len(group.Rows) != 1 {
			t.Fatalf("got %s", encode(group))
		}
		x := group.Rows[0]
		wantCode(t, "its execution", x, span.RunCancelled, "its owner cancelled it")
		var metadata struct {
			Run runRecord `json:"run"`
		}
		if err := json.Unmarshal(x.Metadata, &metadata); err != nil {
			t.Fatal(err)
		}
		run := metadata.Run
		if x.ID != executionID(request) || *x.Attempt != 1 || *x.ParentID != f.ID || x.OwnerID != "alice" ||
			x.DurationMs == nil || run.Quota == nil || !run.Quota.PerUser || run.Function == nil ||
			run.Function.ID != f.ID || run.Seed == "" || run.StartedAt == nil || len(run.Kernels) != 1 {
			t.Errorf("its execution is %s", encode(x))
		}
		b.Settled(request.ID, true)
	}
	if got := b.perform(b.request(20, f.ID)); got.Fence.StatusText() != "blocked" {
		t.Errorf("after two that were cancelled, of two: %s", got.Fence.StatusText())
	}

	// A request that waited only has used nothing.
	waiting := b.request(30, f.ID)
	if group, err := b.Cancelled(t.Context(), waiting, nil); err != nil || len(group.Rows) != 0 {
		t.Errorf("a request that never ran leaves %s, %v", encode(group), err)
	}
}

// A later attempt that is cancelled leaves an execution that counts no more than the earlier one did.
func TestACancelledRetryCountsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(2, 2), nil)
	f := b.function(1, "throw new Error('no')", func(s *span.Span) {
		s.Metadata = json.RawMessage(`{"retry": {"max_attempts": 3, "base_ms": 1}}`)
	})
	request := b.request(10, f.ID)
	second := again(request, b.perform(request), 2)
	if _, err := b.boot("run_code", "", second); err != nil {
		t.Fatal(err)
	}
	group, err := b.Cancelled(t.Context(), second, nil)
	if err != nil || len(group.Rows) != 1 {
		t.Fatal(encode(group), err)
	}
	if x := group.Rows[0]; *x.Attempt != 2 || strings.Contains(string(x.Metadata), `"quota"`) {
		t.Errorf("its execution is %s", encode(x))
	}
	b.commit(group)
	b.Settled(second.ID, true)
	var ended []ledger.Group
	for n := range 2 {
		ended = append(ended, b.perform(b.request(20+n, f.ID)))
	}
	if got := fmt.Sprint(tally(ended)); got != "map[blocked:1 retry:1]" {
		t.Errorf("one of two is free: %s", got)
	}
}

// A run whose sidecar died before its owner cancelled it leaves its execution, and counts, whoever leads.
func TestACancelledRunOfALostSidecarCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(100, 1), nil)
	f := b.function(1, "return 1")
	request := b.request(10, f.ID)
	lost := request.NextRequest("sidecar:gone", "running")
	lost.Attempt = new(1)
	b.commit(ledger.Group{Fence: lost})
	wish := *request
	wish.Seq, wish.Status, wish.Attempt, wish.CurrHash = lost.Seq+1, new("cancel_requested"), nil, nil
	if _, err := b.connect().Exec(t.Context(), `insert into ledger.universal_registry (id, seq, entity_type, who,
			owner_id, tenant_id, visibility, status) values ($1::text::uuid, $2, 'request', 'user:alice', $3, $4,
			'private', 'cancel_requested')`, request.ID.String(), wish.Seq, request.OwnerID,
		request.TenantID); err != nil {
		t.Fatal(err)
	}
	var group ledger.Group
	for range 2 { // the second time, because the first was not committed
		var err error
		if group, err = b.Cancelled(t.Context(), &wish, lost); err != nil || len(group.Rows) != 1 {
			t.Fatal(encode(group), err)
		}
	}
	x := group.Rows[0]
	wantCode(t, "its execution", x, span.RunCancelled, "after the sidecar that ran it was lost")
	if x.ID != executionID(&span.Span{ID: request.ID, AcceptedAt: wish.AcceptedAt, Attempt: new(1)}) ||
		*x.Attempt != 1 || *x.ParentID != f.ID || !strings.Contains(string(x.Metadata), `"per_user":true`) {
		t.Errorf("its execution is %s", encode(x))
	}
	if got := b.perform(b.request(20, f.ID)); got.Fence.StatusText() != "blocked" {
		t.Errorf("before it is committed: %s", got.Fence.StatusText())
	}
	b.commit(group)
	b.Settled(request.ID, true)
	b.Stage0 = b.another()
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.perform(b.request(21, f.ID)); got.Fence.StatusText() != "blocked" {
		t.Errorf("under another sidecar: %s", got.Fence.StatusText())
	}
}
