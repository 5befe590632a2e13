package sqlrules

import (
	"testing"
	"time"
)

// setupDefiner is a ledger beside functions with its owner's rights, as apps on Supabase have them.
func setupDefiner(t *testing.T) *ledger {
	t.Helper()
	l := setup(t)
	execute(t, l.conn, []byte(`create schema app;
		grant usage on schema app to public;
		create function app.write(p jsonb) returns void language sql security definer
			as 'insert into ledger.universal_registry
				select * from jsonb_populate_record(null::ledger.universal_registry, p)';
		create function app.append(p jsonb) returns void language plpgsql security definer
			as 'begin perform ledger.append(p); end';
		create function app.governs() returns boolean language sql security definer
			as 'select ledger.is_governor()';
		create function app.read(p_door text) returns text language plpgsql security definer as $$
			declare v_names text;
			begin
				execute 'select string_agg(name, '' '' order by name) from ' || p_door into v_names;
				return v_names;
			end $$;`))
	return l
}

// Who comes through a definer function of the owner's is as a backend: it states for whom it writes, and has
// no governing right that its caller has not. The owner himself remains the owner.
func TestDefinerFunctionsOfTheOwnerAreABackend(t *testing.T) {
	t.Parallel()
	l := setupDefiner(t)
	const forBob, asSystem = `"owner_id":"bob","tenant_id":"t2","who":"client:app"`,
		`"owner_id":"system","tenant_id":"system","who":"system:app"`
	l.given(bob, "id", id(1), "entity_type", "function", "status", "active")
	l.given(alice, "id", id(2), "entity_type", "function", "status", "active")
	for _, c := range []struct {
		name string
		who  actor
		span string
		code string
	}{
		{"own", alice, `"entity_type":"note"`, ""},
		{"another's", alice, `"entity_type":"note",` + forBob, ""},
		{"nobody's", nobody, `"entity_type":"note"`, "LL005"},
		{"of nobody for another", nobody, `"entity_type":"note",` + forBob, ""},
		{"of anon for another", anon, `"entity_type":"note",` + forBob, ""},
		{"the system's", alice, `"entity_type":"note",` + asSystem, "LL006"},
		{"the system's, by a governor", governor, `"entity_type":"note",` + asSystem, ""},
		{"a manifest", alice, `"entity_type":"manifest","status":"active",` + asSystem, "LL006"},
		{"a manifest of a tenant", alice, `"entity_type":"manifest","status":"active",` + forBob, "LL004"},
		{"a kernel", service, `"entity_type":"function","status":"active",` + asSystem, "LL006"},
		{"an execution", alice, `"entity_type":"execution",` + forBob, "LL004"},
		{"a system id", alice, `"entity_type":"prompt_block","id":"` + manifestID + `",` + forBob, "LL007"},
		{"as a kernel", alice, `"entity_type":"note",` + forBob + `,"who":"kernel:x"`, "LL008"},
		{"as the system", alice, `"entity_type":"note",` + forBob + `,"who":"system:x"`, "LL008"},
		{"public", alice, `"entity_type":"note","visibility":"public",` + forBob, "LL010"},
		{"long ago", alice, `"entity_type":"note","at":"2001-01-01T00:00:00Z",` + forBob, "LL011"},
		{"a request of another for what he may call", alice,
			`"entity_type":"request","status":"scheduled","parent_id":"` + id(1) + `",` + forBob, ""},
		{"a request of another for what he may not call", alice,
			`"entity_type":"request","status":"scheduled","parent_id":"` + id(2) + `",` + forBob, "LL015"},
		{"by the owner himself", owner, `"entity_type":"manifest","status":"active",` + asSystem, ""},
		{"long ago by the owner himself", owner, `"entity_type":"note","at":"2001-01-01T00:00:00Z",` + forBob, ""},
	} {
		for _, door := range []string{"append", "write"} {
			t.Run(c.name+" by "+door, func(t *testing.T) {
				wantCode(t, l.do(c.who, "select app."+door+"($1::text::jsonb)", "{"+c.span+"}"), c.code)
			})
		}
	}
	for who, want := range map[*actor]bool{
		&alice: false, &nobody: false, &service: false, &governor: true, &owner: true,
	} {
		if got := ask[bool](l, *who, "select app.governs()"); got != want {
			t.Errorf("%s governs through a definer: %v, want %v", who.role+who.claims, got, want)
		}
	}
	run(t, l.conn, importBegin)
	for who, code := range map[*actor]string{&alice: "LL018", &nobody: "LL018", &service: "LL018", &owner: ""} {
		wantCode(t, l.do(*who, "select app.write($1::text::jsonb)", `{"id":"`+id(9)+`","seq":0,
			"entity_type":"note","who":"client:x","at":"now","xact":"1","accepted_at":"now","owner_id":"bob",
			"tenant_id":"t2","visibility":"private","is_deleted":false}`), code)
	}
}

// Every door shows what is, and nothing that is over, also to who reads with the owner's rights.
func TestReadingDoorsUnderADefiner(t *testing.T) {
	t.Parallel()
	l := setupDefiner(t)
	for n, visibility := range []string{"private", "tenant"} {
		note := []any{"id", id(10 * n), "entity_type", "note", "visibility", visibility}
		l.given(alice, with(note, "name", "old")...)
		l.given(alice, with(note, "name", "new", "seq", 1)...)
		gone := with(note, "id", id(10*n+1))
		l.given(alice, with(gone, "name", "gone")...)
		l.given(alice, with(gone, "name", "deleted", "seq", 1, "is_deleted", true)...)
		function := with(note, "id", id(10*n+2), "entity_type", "function")
		l.given(alice, with(function, "name", "draft", "status", "draft")...)
		l.given(alice, with(function, "name", "code", "status", "active", "seq", 1)...)
	}
	before := moment(l)
	l.given(alice, "id", id(10), "seq", 2, "entity_type", "note", "name", "late", "visibility", "private")
	l.given(alice, "id", id(30), "entity_type", "request", "status", "scheduled", "parent_id", id(2))
	l.given(alice, "id", id(30), "seq", 1, "entity_type", "request", "status", "cancel_requested",
		"parent_id", id(2), "name", "call")
	at := before.Format(time.RFC3339Nano)
	for door, want := range map[string]string{
		"ledger.visible_timeline":                                           "call code code late new",
		"ledger.history":                                                    "call code code deleted deleted draft draft gone gone late new new old old",
		"ledger.as_of('" + at + "', p_tenant_id => 't1')":                   "code code new new",
		"ledger.as_of(now(), p_tenant_id => 't1')":                          "call code code late new",
		"ledger.as_of('" + at + "', p_id => '" + id(0) + "')":               "new",
		"ledger.as_of('" + at + "', p_id => '" + id(1) + "')":               "",
		"ledger.function_state":                                             "code code",
		"(select status as name from ledger.result('" + id(30) + "')) as r": "cancel_requested",
	} {
		for _, who := range []actor{alice, ann, bob, nobody, anon, service, owner} {
			if got := ask[string](l, who, "select coalesce(app.read($1), '')", door); got != want {
				t.Errorf("%s%s reads %q from %s, want %q", who.role, who.claims, got, door, want)
			}
		}
	}
}
