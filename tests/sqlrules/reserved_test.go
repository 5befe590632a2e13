package sqlrules

import (
	"strings"
	"testing"
	"time"
)

// What is not a client's to write, and who may after all.
func TestReservedWords(t *testing.T) {
	t.Parallel()
	l := setup(t)
	note := func(pairs ...any) []any { return with([]any{"entity_type", "note"}, pairs...) }
	stated := func(pairs ...any) []any {
		return with(note("owner_id", "alice", "tenant_id", "t1", "who", "client:x"), pairs...)
	}
	system := func(pairs ...any) []any {
		return with(note("owner_id", "system", "tenant_id", "system", "who", "system:boot"), pairs...)
	}
	const systemID = "00000000-0000-4000-8000-000000000999"
	const nilID, maxID = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	governing := system("entity_type", "prompt_block")
	l.given(engine, stated("id", derived(50), "who", "policy:alerts")...)
	l.given(engine, stated("id", derived(51), "entity_type", "execution", "who", "kernel:run_code")...)

	for _, c := range []struct {
		name string
		who  actor
		span []any
		code string
	}{
		{"system id", alice, note("id", systemID), "LL007"},
		{"system id, a later version", alice, note("id", systemID, "seq", 1), "LL007"},
		{"system id, service_role", service, stated("id", systemID), "LL007"},
		{"system id, the engine first", engine, with(governing, "id", systemID), "LL007"},
		{"system id, the engine's note", engine, stated("id", systemID), "LL007"},
		{"system id, governor", governor, with(governing, "id", systemID), ""},
		{"system id, owner", owner, with(governing, "id", systemID, "seq", 1), ""},
		{"system id, engine", engine, with(governing, "id", systemID, "seq", 2), ""},
		{"system id, a note", governor, system("id", manifestID), "LL007"},
		{"system id, the owner's note", owner, system("id", manifestID), "LL007"},
		{"system id, a tenant's function", owner, stated("id", manifestID, "entity_type", "function",
			"status", "active"), "LL007"},
		{"system id, the engine's note at the manifest's", engine, system("id", manifestID), "LL007"},
		{"first id behind the system's", alice, note("id", "00000000-0000-4000-8001-000000000000"), ""},
		{"derived id", alice, note("id", derived(1)), "LL007"},
		{"derived id, service_role", service, stated("id", derived(1)), "LL007"},
		{"derived id, governor", governor, note("id", derived(1)), "LL007"},
		{"derived id, owner", owner, stated("id", derived(1)), "LL007"},
		{"derived id, engine", engine, stated("id", derived(1)), ""},
		{"derived id, its owner's later version", alice, note("id", derived(50), "seq", 1), ""},
		{"derived id, a stranger's later version", bob, note("id", derived(50), "seq", 2), "LL002"},
		{"derived execution, its owner's later version", alice,
			note("id", derived(51), "seq", 1, "entity_type", "execution"), "LL004"},
		{"nil id", alice, note("id", nilID), "LL007"},
		{"max id", alice, note("id", maxID), "LL007"},
		{"nil id, owner", owner, stated("id", nilID), "LL007"},

		{"who kernel", alice, note("who", "kernel:run_code"), "LL008"},
		{"who policy", alice, note("who", "policy:x"), "LL008"},
		{"who sidecar", alice, note("who", "sidecar:x"), "LL008"},
		{"who system", alice, note("who", "system:x"), "LL008"},
		{"who in capitals", alice, note("who", "Kernel:x"), "LL008"},
		{"who behind a space", alice, note("who", " kernel:x"), "LL008"},
		{"who behind a tab", alice, note("who", "\tsystem :x"), "LL008"},
		{"who kernel, service_role", service, stated("who", "kernel:x"), "LL008"},
		{"who kernel, owner", owner, stated("who", "kernel:x"), "LL008"},
		{"who system, owner", owner, system(), ""},
		{"who kernel, engine", engine, stated("who", "kernel:run_code"), ""},
		{"who client", alice, note("who", "client:web"), ""},
		{"who with a longer first word", alice, note("who", "kernelish:x"), ""},

		{"metadata.engine", alice, note("metadata", `{"engine":{"depth":0}}`), "LL009"},
		{"metadata.engine null", alice, note("metadata", `{"engine":null}`), "LL009"},
		{"metadata.engine, owner", owner, stated("metadata", `{"engine":{}}`), "LL009"},
		{"policy_id", alice, note("policy_id", "018f0000-0000-7000-8000-000000000001"), "LL009"},
		{"attempt", alice, note("attempt", 2147483647), "LL009"},
		{"metadata.engine, engine", engine, stated("metadata", `{"engine":{"depth":0}}`), ""},
		{"a deeper engine", alice, note("metadata", `{"a":{"engine":1}}`), ""},

		{"visibility public", alice, note("visibility", "public"), "LL010"},
		{"visibility public, service_role", service, stated("visibility", "public"), "LL010"},
		{"visibility public, governor", governor, note("visibility", "public"), ""},
		{"visibility public, owner", owner, system("visibility", "public"), ""},
		{"visibility public, engine", engine, stated("visibility", "public"), ""},

		{"at long ago", alice, note("at", ago(31*24*time.Hour)), "LL011"},
		{"at a month ago", alice, note("at", ago(29*24*time.Hour)), ""},
		{"at soon", alice, note("at", ago(-4*time.Minute)), ""},
		{"at later", alice, note("at", ago(-6*time.Minute)), "LL011"},
		{"at infinity", alice, note("at", "infinity"), "LL011"},
		{"at -infinity", alice, note("at", "-infinity"), "LL011"},
		{"at long ago, service_role", service, stated("at", ago(31*24*time.Hour)), "LL011"},
		{"at long ago, engine", engine, stated("at", ago(999*24*time.Hour)), ""},
		{"at infinity, engine", engine, stated("at", "infinity"), "LL017"},

		{"no type", alice, []any{"name", "x"}, "LL017"},
	} {
		t.Run(c.name, func(t *testing.T) { wantCode(t, l.append(c.who, c.span...), c.code) })
	}
}

// Each engine-written and each governed type, by everybody.
func TestTypesBelongToTheirWriter(t *testing.T) {
	t.Parallel()
	l := setup(t)
	written := []string{"execution", "boot_event", "policy_cursor", "policy_error", "policy_violation",
		"checkpoint", "incident", "epoch", "metric", "status_patch", "provider_execution"}
	tenant := func(entity string) []any {
		return []any{"entity_type", entity, "status", "active", "owner_id", "alice", "tenant_id", "t1",
			"who", "client:x"}
	}
	system := func(entity string) []any {
		return with(tenant(entity), "owner_id", "system", "tenant_id", "system")
	}
	check := func(name string, who actor, span []any, code string) {
		t.Run(name, func(t *testing.T) { wantCode(t, l.append(who, span...), code) })
	}
	for _, entity := range written {
		for name, who := range map[string]actor{"client": alice, "service": service, "owner": owner} {
			check(entity+" by "+name, who, tenant(entity), "LL004")
		}
		check(entity+" by governor", governor, system(entity), "LL004")
		check(entity+" by engine", engine, tenant(entity), "")
	}
	for _, entity := range []string{"manifest", "key"} {
		check(entity+" by client", alice, tenant(entity), "LL004")
		check(entity+" by service", service, tenant(entity), "LL004")
		check(entity+" by engine", engine, system(entity), "LL004")
		check(entity+" by governor", governor, system(entity), "")
		check(entity+" by owner", owner, system(entity), "")
	}
	for _, entity := range []string{"function", "provider"} {
		check("system "+entity+" by client", alice, system(entity), "LL006")
		check("system "+entity+" by service", service, system(entity), "LL006")
		check("system "+entity+" by engine", engine, system(entity), "LL004")
		check("system "+entity+" by governor", governor, system(entity), "")
		check("system "+entity+" by owner", owner, system(entity), "")
		check(entity+" by client", alice, tenant(entity), "")
	}
}

func TestSystemBootsAsOwner(t *testing.T) {
	t.Parallel()
	l := setup(t)
	manifest := []any{"id", manifestID, "entity_type", "manifest", "status", "active", "owner_id", "system",
		"tenant_id", "system", "visibility", "public", "who", "system:boot"}
	l.given(owner, manifest...)
	l.given(owner, with(manifest, "seq", 1)...)
	l.given(governor, with(manifest, "seq", 2)...)
	wantCode(t, l.append(alice, with(manifest, "seq", 3)...), "LL006")
	own := []any{"id", manifestID, "seq", 3, "entity_type", "manifest", "status", "active"}
	wantCode(t, l.append(alice, own...), "LL004")
	wantCode(t, l.append(engine, with(manifest, "seq", 3)...), "LL004")
	if seq := ask[int](l, bob, "select seq from ledger.visible_timeline"); seq != 2 {
		t.Errorf("a stranger sees manifest version %d, want 2", seq)
	}
}

// A malformed span is refused with the name of its column.
func TestShape(t *testing.T) {
	t.Parallel()
	l := setup(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name string
		span []any
		code string
	}{
		{"type in capitals", []any{"entity_type", "Note"}, "LL017"},
		{"empty type", []any{"entity_type", ""}, "LL017"},
		{"type with a dot", []any{"entity_type", "email.verified"}, ""},
		{"empty who", []any{"who", ""}, "LL017"},
		{"long who", []any{"who", long(257)}, "LL017"},
		{"name of 1000 characters", []any{"name", strings.Repeat("é", 1000)}, ""},
		{"name of 1001", []any{"name", long(1001)}, "LL017"},
		{"status with a space", []any{"status", "not so"}, "LL017"},
		{"visibility", []any{"visibility", "all"}, "LL017"},
		{"sensitivity", []any{"sensitivity", "some"}, "LL017"},
		{"layer", []any{"layer", "top"}, "LL017"},
		{"code of 256 KiB", []any{"code", long(256 << 10)}, ""},
		{"code over 256 KiB", []any{"code", long(256<<10 + 1)}, "LL017"},
		{"span of 9000 bytes", []any{"content", `"` + long(9000) + `"`}, ""},
		{"content over 1 MiB", []any{"content", `"` + long(1<<20) + `"`}, "LL017"},
		{"metadata over 256 KiB", []any{"metadata", `{"a":"` + long(256<<10) + `"}`}, "LL017"},
		{"metadata is no object", []any{"metadata", `["engine_"]`}, "LL017"},
		{"links is no object", []any{"links", `[]`}, "LL017"},
		{"infinite scheduled_at", []any{"scheduled_at", "infinity"}, "LL017"},
		{"infinite ttl_at", []any{"ttl_at", "-infinity"}, "LL017"},
		{"expires_at in a year of five digits", []any{"expires_at", "10000-01-01 00:00:00+00"}, "LL017"},
		{"effective_at before Christ", []any{"effective_at", "0001-12-31 00:00:00+00 BC"}, "LL017"},
		{"NaN value", []any{"value", "NaN"}, "LL017"},
		{"infinite cost", []any{"cost", "Infinity"}, "LL017"},
		{"value of 39 digits", []any{"value", "1" + strings.Repeat("0", 38)}, "LL017"},
		{"value of 38 digits", []any{"value", "1" + strings.Repeat("0", 37) + ".5"}, ""},
		{"confidence over 1", []any{"confidence", "1.01"}, "LL017"},
		{"negative duration_ms", []any{"duration_ms", -1}, "LL017"},
		{"timeout_ms of 0", []any{"timeout_ms", 0}, "LL017"},
		{"tags with null", []any{"tags", "{a,NULL}"}, "LL017"},
		{"tags in two dimensions", []any{"tags", "{{a},{b}}"}, "LL017"},
		{"no tags", []any{"tags", "{}"}, ""},
		{"related_to with null", []any{"related_to", "{NULL}"}, "LL017"},
		{"empty trace_id", []any{"trace_id", ""}, "LL017"},
		{"prev_hash in capitals", []any{"compiled_hash", strings.Repeat("A", 64)}, "LL017"},
		{"short public_key", []any{"public_key", "ab"}, "LL017"},
		{"signature without hash", []any{"signature", strings.Repeat("a", 128), "public_key", hashOne}, "LL017"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantCode(t, l.append(alice, with([]any{"entity_type", "note"}, c.span...)...), c.code)
		})
	}
}
