package stage0

import (
	"context"
	"fmt"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

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
	// The stop comes within a minute that has its event already.
	if _, err := b.boot("request_worker", "", b.request(10+times, f.ID)); err != nil {
		t.Fatal(err)
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
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
	if fmt.Sprint(got) != "[request_worker 4 true run_code 4 true]" {
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

// A failed append is tried again with the same boots, and later ones count beside them.
func TestBootsOutliveAFailedAppend(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	ended, end := context.WithCancel(t.Context())
	end()
	for i := range 2 {
		if _, err := b.boot("observer_bot", "", b.put(1+i, "function")); err != nil {
			t.Fatal(err)
		}
		if err := b.AppendBoots(ended, true); err == nil {
			t.Fatal("an append without a connection succeeds")
		}
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](b, `select sum((output->>'count')::int)::int from ledger.universal_registry
		where entity_type = 'boot_event'`); n != 2 {
		t.Errorf("%d boots are on record, want 2", n)
	}
}

// With audit_log "full" each boot has its event, and no boot is without.
func TestFullAuditHasAnEventForEachBoot(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"features": map[string]any{"audit_log": "full"}}, nil)
	f := b.function(1, "return 1")
	for i := range 3 {
		if _, err := b.boot("request_worker", "", b.request(10+i, f.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AppendBoots(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := ask[int](b, `select count(*) from ledger.universal_registry b
		join ledger.universal_registry r on b.output->'causes' = jsonb_build_array(jsonb_build_array(r.id, r.seq))
		where b.entity_type = 'boot_event' and (b.output->>'count')::int = 1`); n != 6 {
		t.Errorf("%d boot events, want 6", n)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	manifest := b.Stage0.manifest.Load()
	kernel, err := b.kernel(t.Context(), manifest, "observer_bot")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.countBoot(ended, manifest, kernel, []*span.Span{f}); err == nil {
		t.Error("a kernel boots though its event cannot be written")
	}
}
