package stage0

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

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
		_ = b.another().Reload(t.Context()) // a second sidecar, or the next start
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

// another is a second sidecar over the same ledger, or the next start of this one.
func (b *bench) another() *Stage0 { return New(b.config) }

// age moves the acceptance of a version of a system span back, as time would.
func (b *bench) age(id span.ID, seq, hours int) {
	b.t.Helper()
	b.tamper(fmt.Sprintf("accepted_at = case seq when %d then accepted_at - interval '%d hours' else accepted_at end",
		seq, hours), id)
}

// timelocked is a manifest under which others wait for so many hours.
func (b *bench) timelocked(version string, hours int) *span.Span {
	return b.manifestSpan(document(b.t, map[string]any{"version": version,
		"timelocks": map[string]any{"manifest": map[string]any{"activate_after_hours": hours}}}))
}

func TestManifestWaitsForTheTimelockOfTheOneBefore(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string]any{"timelocks": map[string]any{
		"manifest": map[string]any{"activate_after_hours": 24}}}, nil)
	check := func(what, want string) {
		t.Helper()
		for name, s := range map[string]*Stage0{"running": b.Stage0, "started anew": b.another()} {
			if err := s.Reload(t.Context()); err != nil || s.Manifest().Version != want {
				t.Errorf("%s, %s: version %s, %v; want %s", what, name, s.Manifest().Version, err, want)
			}
		}
	}
	check("the first is free", "1.0.0")
	b.publish(b.timelocked("2.0.0", 0))
	check("a second one waits, whatever it says itself", "1.0.0")
	b.publish(b.timelocked("3.0.0", 0))
	check("so does a third", "1.0.0")
	b.age(span.ManifestID, 1, 25)
	check("the second's time has come, and it frees the third", "3.0.0")
	b.publish(b.timelocked("4.0.0", 720))
	b.publish(b.timelocked("5.0.0", 0))
	check("the fourth takes force, and holds the fifth", "4.0.0")
	b.age(span.ManifestID, 4, 719)
	check("not yet", "4.0.0")
	b.age(span.ManifestID, 4, 2)
	check("the longest timelock is over", "5.0.0")
}

// The database goes by the manifest, too: both must know the same one in force, once the sidecar has looked.
func TestSQLAndSidecarAgreeOnTheManifestInForce(t *testing.T) {
	t.Parallel()
	locked := map[string]any{"timelocks": map[string]any{"manifest": map[string]any{"activate_after_hours": 24}}}
	for name, prepare := range map[string]func(*bench){
		"one":       func(*bench) {},
		"a second":  func(b *bench) { b.publish(b.timelocked("2", 0)) },
		"malformed": func(b *bench) { b.publish(b.manifestSpan([]byte(`{"version": "2", "nonsense": 1}`))) },
		"malformed, and one after it": func(b *bench) {
			b.publish(b.manifestSpan([]byte(`{"version": "2", "timelocks": {"manifest": 9}}`)))
			b.publish(b.timelocked("3", 0))
		},
		"tampered": func(b *bench) {
			b.publish(b.timelocked("2", 0))
			b.tamper(`metadata = case seq when 1 then metadata || '{"version": "6"}' else metadata end`, span.ManifestID)
		},
		"effective later": func(b *bench) {
			later := b.timelocked("2", 0)
			later.EffectiveAt = new(span.NewTime(time.Now().Add(time.Hour)))
			b.publish(later)
		},
		"timelocked": func(b *bench) {
			b.publish(b.manifestSpan(document(b.t, locked)))
			b.publish(b.timelocked("3", 0))
		},
		"timelocked long ago": func(b *bench) {
			b.publish(b.manifestSpan(document(b.t, locked)))
			b.publish(b.timelocked("3", 720))
			b.publish(b.timelocked("4", 0))
			b.age(span.ManifestID, 2, 25)
			b.age(span.ManifestID, 3, 700)
		},
		"older than any timelock": func(b *bench) {
			b.publish(b.timelocked("2", 720))
			b.publish(b.timelocked("3", 0))
			b.age(span.ManifestID, 0, 2000)
			b.age(span.ManifestID, 1, 1900)
			b.age(span.ManifestID, 2, 721)
		},
		"revoked": func(b *bench) {
			b.publish(system(span.ManifestID, "manifest", func(s *span.Span) {
				s.Status, s.Metadata = new("revoked"), document(b.t, locked)
			}))
		},
		"deprecated, and back": func(b *bench) {
			b.publish(system(span.ManifestID, "manifest", func(s *span.Span) {
				s.Status, s.Metadata = new("deprecated"), document(b.t, nil)
			}))
			b.publish(b.timelocked("3", 0))
		},
		"revoked long ago, and back under a timelock": func(b *bench) {
			b.publish(b.timelocked("2", 24))
			b.publish(system(span.ManifestID, "manifest", func(s *span.Span) {
				s.Status, s.Metadata = new("revoked"), document(b.t, nil)
			}))
			b.age(span.ManifestID, 1, 1000)
			b.age(span.ManifestID, 2, 900)
			b.publish(b.timelocked("3", 0))
		},
		"deleted": func(b *bench) {
			gone := b.timelocked("2", 0)
			gone.IsDeleted = true
			b.publish(gone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil, nil)
			prepare(b)
			s := b.another()
			err, version := s.Reload(t.Context()), "none"
			if manifest := s.Manifest(); manifest != nil {
				version = manifest.Version
			}
			database := ask[string](b, "select coalesce(ledger_private.manifest_in_force() ->> 'version', 'none')")
			if version != database {
				t.Errorf("the sidecar has version %s in force (%v), the database %s", version, err, database)
			}
			b.checkInForce(s)
		})
	}
}

func TestKernelsAreThoseOfPinsAndTimelocks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		manifest map[string]any
		prepare  func(*bench)
		want     string
		code     span.RunCode
	}{
		"newest":       {nil, nil, "v2", ""},
		"pinned":       {map[string]any{"pins": map[string]int{"observer_bot": 1}}, nil, "v1", ""},
		"pinned first": {map[string]any{"pins": map[string]int{"observer_bot": 0}}, nil, "v0", ""},
		"pinned to what is not there": {map[string]any{"pins": map[string]int{"observer_bot": 3}}, nil, "",
			span.RunNotFound},
		"another one pinned": {map[string]any{"pins": map[string]int{"run_code": 0}}, nil, "v2", ""},
		"pinned, and effective later": {map[string]any{"pins": map[string]int{"observer_bot": 1}}, func(b *bench) {
			b.tamper("effective_at = now() + interval '1 hour'", span.ObserverBotID)
		}, "", span.RunNotEffective},
		"pinned, and tampered": {map[string]any{"pins": map[string]int{"observer_bot": 1}}, func(b *bench) {
			b.tamper("code = code || ' '", span.ObserverBotID)
		}, "", span.RunHashMismatch},
		"pinned, and revoked": {map[string]any{"pins": map[string]int{"observer_bot": 1}}, func(b *bench) {
			b.publish(system(span.ObserverBotID, "function", func(s *span.Span) { s.Status = new("revoked") }))
		}, "", span.RunRevoked},
		"under a timelock": {lock("observer_bot", 24), nil, "v0", ""},
		"under a timelock that is over": {lock("observer_bot", 24),
			func(b *bench) { b.age(span.ObserverBotID, 1, 24) }, "v1", ""},
		"another one's timelock": {lock("run_code", 24), nil, "v2", ""},
		"revoked under a timelock": {lock("observer_bot", 24), func(b *bench) {
			b.publish(system(span.ObserverBotID, "function", func(s *span.Span) { s.Status = new("revoked") }))
		}, "", span.RunRevoked},
		"effective later": {nil, func(b *bench) {
			b.tamper("effective_at = case seq when 2 then now() + interval '1 hour' end", span.ObserverBotID)
		}, "v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			emits := func(name string) string {
				return `ctx.insertSpan({entity_type: "note", name: "` + name + `"})`
			}
			manifest := grants("insertSpan:note")
			for key, value := range c.manifest {
				manifest[key] = value
			}
			b := setup(t, manifest, kernelOf(emits("v0")))
			for _, version := range []string{"v1", "v2"} {
				b.publish(system(span.ObserverBotID, "function", func(s *span.Span) {
					s.Name, s.Code = new("observer_bot"), new(kernelOf(emits(version))["observer_bot"])
				}))
			}
			if c.prepare != nil {
				c.prepare(b)
			}
			cause := b.put(1, "function")
			results, err := b.boot("observer_bot", "", cause)
			wantCode(t, name, err, c.code, "")
			if c.code == "" && *results[cause.Key()].group.Rows[0].Name != c.want {
				t.Errorf("%s booted, want %s", *results[cause.Key()].group.Rows[0].Name, c.want)
			}
		})
	}
}

func lock(kernel string, hours int) map[string]any {
	return map[string]any{"timelocks": map[string]any{
		"kernel:" + kernel: map[string]any{"activate_after_hours": hours}}}
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
