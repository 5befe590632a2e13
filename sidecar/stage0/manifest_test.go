package stage0

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// observe tells Stage-0 of the latest version of a system span, as the tail does.
func (b *bench) observe(id span.ID) {
	b.t.Helper()
	found, err := b.config.Ledger.Latest(b.t.Context(), []span.ID{id})
	if err != nil {
		b.t.Fatal(err)
	}
	row := found[id]
	if err := b.Observe(b.t.Context(), &span.Published{ID: id, Seq: row.Seq,
		EntityType: row.EntityType}); err != nil {
		b.t.Fatal(err)
	}
}

func TestManifestTakesForceWhenItIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.publish(b.manifestSpan(document(t, map[string]any{"version": "2.0.0"})))
	if got := b.Manifest().Version; got != "1.0.0" {
		t.Errorf("before it is seen: %s", got)
	}
	b.observe(span.ManifestID)
	if got := b.Manifest().Version; got != "2.0.0" {
		t.Errorf("after it is seen: %s", got)
	}
}

func TestMalformedManifestNeverTakesForce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for i, broken := range []map[string]any{
		{"nonsense": 1}, {"policy": map[string]any{"slow_ms": -1}},
		{"grants": map[string]any{"run_code": []string{"fly"}}},
		{"triggers": []any{map[string]any{"kernel": "nobody"}}},
	} {
		b.publish(b.manifestSpan(document(t, broken)))
		b.observe(span.ManifestID)
		if got := b.Manifest().Version; got != "1.0.0" {
			t.Errorf("%v took force", broken)
		}
		var malformed *span.Refusal
		if err := b.Reload(t.Context()); !errors.As(err, &malformed) {
			t.Errorf("%v: Reload says %v", broken, err)
		}
		if n := ask[int](b, `select count(*) from ledger.universal_registry where entity_type = 'incident'
			and parent_id = $1::text::uuid and tenant_id = 'system' and visibility = 'private'`,
			span.ManifestID.String()); n != i+1 {
			t.Errorf("%d incidents after %d malformed manifests", n, i+1)
		}
	}
	if _, err := b.boot("observer_bot", "", b.put(1, "function")); err != nil {
		t.Errorf("the manifest before does not work any more: %v", err)
	}
	b.publish(b.manifestSpan(document(t, map[string]any{"version": "3.0.0"})))
	b.observe(span.ManifestID)
	if got := b.Manifest().Version; got != "3.0.0" {
		t.Errorf("a sound one after it: %s", got)
	}
}

func TestTamperedManifestNeverTakesForce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.publish(b.manifestSpan(document(t, map[string]any{"version": "2.0.0"})))
	b.tamper("metadata = metadata || '{\"version\": \"6.6.6\"}'", span.ManifestID)
	wantCode(t, "reload", errors.Unwrap(b.Reload(t.Context())), span.RunHashMismatch, "not what was hashed")
	if got := b.Manifest().Version; got != "1.0.0" {
		t.Errorf("%s took force", got)
	}
}

func TestKernelVersionTakesForceWhenItIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t, grants("insertSpan:note"), kernelOf(`ctx.insertSpan({entity_type: "note", name: "v0"})`))
	cause := b.put(1, "function")
	name := func() string {
		results, err := b.boot("observer_bot", "", cause)
		if err != nil {
			t.Fatal(err)
		}
		return *results[cause.Key()].group.Rows[0].Name
	}
	if got := name(); got != "v0" {
		t.Errorf("got %s", got)
	}
	b.publish(system(span.ObserverBotID, "function", func(s *span.Span) {
		s.Name, s.Code = new("observer_bot"), new(`function main(ctx) { ctx.insertSpan({entity_type: "note", name: "v1"}) }`)
	}))
	b.observe(span.ObserverBotID)
	if got := name(); got != "v1" {
		t.Errorf("after version 1 was seen: %s", got)
	}
}

// One boot event for each kernel version and minute, with its count; private to the system.
func TestBootEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	f := b.function(1, "return 1")
	const times = 3
	for i := range times {
		if _, err := b.boot("request_worker", "", b.request(10+i, f.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := b.AppendBoots(t.Context(), true); err != nil { // nothing is left
		t.Fatal(err)
	}
	rows, err := b.connect().Query(t.Context(), `select this, sum((output->>'count')::int)::int, bool_and(visibility = 'private'
			and tenant_id = 'system' and curr_hash is not null and output->'function'->>'curr_hash' is not null)
		from ledger.universal_registry where entity_type = 'boot_event' group by this order by this`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var name string
		var count int
		var sound bool
		if err := rows.Scan(&name, &count, &sound); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d %v", name, count, sound))
	}
	if fmt.Sprint(got) != "[request_worker 3 true run_code 3 true]" {
		t.Errorf("got %v", got)
	}
}

func TestNoBootEventsWithoutAuditLog(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"features": map[string]any{"audit_log": false}}, nil)
	if _, err := b.boot("observer_bot", "", b.put(1, "function")); err != nil {
		t.Fatal(err)
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](b, "select count(*) from ledger.universal_registry where entity_type = 'boot_event'"); n != 0 {
		t.Errorf("%d boot events", n)
	}
}

// What kernels see as ctx.manifest has its defaults filled in, and no triggers.
func TestKernelsSeeTheManifestWithDefaults(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"policy": map[string]any{"slow_ms": 7}, "throttle": map[string]any{},
		"grants": map[string]any{"observer_bot": []string{"insertSpan:note"}}}, kernelOf(`
		ctx.insertSpan({entity_type: "note", output: {...ctx.manifest, kernels: 0, allowed_boot_ids: 0}});`))
	cause := b.put(1, "function")
	results, err := b.boot("observer_bot", "", cause)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Policy, Throttle map[string]int
		Grants           map[string][]string
		Triggers         any
	}
	if err := json.Unmarshal(results[cause.Key()].group.Rows[0].Output, &got); err != nil {
		t.Fatal(err)
	}
	if got.Policy["slow_ms"] != 7 || got.Policy["timeout_ms"] != 30000 || got.Triggers != nil ||
		got.Throttle["per_tenant_daily_exec_limit"] != 1000 || got.Grants["observer_bot"][0] != "insertSpan:note" {
		t.Errorf("got %+v", got)
	}
}
