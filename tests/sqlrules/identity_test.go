package sqlrules

import "testing"

// Who sees which of five rows: alice's private, tenant and (by a governor) public one, bob's private one,
// and the engine's public one.
func TestReadersSeeOwnTenantAndPublicRows(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "entity_type", "note", "name", "private")
	l.given(alice, "entity_type", "note", "name", "shared", "visibility", "tenant")
	l.given(bob, "entity_type", "note", "name", "bobs")
	l.given(bob, "entity_type", "note", "name", "bobs-shared", "visibility", "tenant")
	l.given(engine, "entity_type", "note", "name", "public", "visibility", "public",
		"who", "sidecar:a", "owner_id", "system", "tenant_id", "system")

	claims := func(text string) actor { return actor{role: "authenticated", claims: text} }
	kernel := func(user, tenant string) actor {
		return actor{role: "loglineos_kernel",
			settings: map[string]string{"app.user_id": user, "app.tenant_id": tenant}}
	}
	settings := map[string]string{"app.user_id": "alice", "app.tenant_id": "t1"}
	const all = "bobs bobs-shared private public shared"
	readers := []struct {
		name string
		who  actor
		sees string
	}{
		{"the owner", alice, "private public shared"},
		{"another user of the tenant", ann, "public shared"},
		{"a user of another tenant", bob, "bobs bobs-shared public"},
		{"a user of the same name in another tenant", user("alice", "t9"), "public"},
		{"a governor reads no more than others", governor, "public shared"},
		{"anon", anon, ""},
		{"anon with the claims of a user", actor{role: "anon", claims: alice.claims}, ""},
		{"no claims", nobody, ""},
		{"empty claims", claims(""), ""},
		{"claims without anything", claims("{}"), ""},
		{"a user without tenant", claims(`{"sub":"alice"}`), "public"},
		{"an empty tenant", claims(`{"sub":"alice","app_metadata":{"tenant_id":""}}`), "public"},
		{"a tenant without user", claims(`{"app_metadata":{"tenant_id":"t1"}}`), ""},
		{"an empty user", claims(`{"sub":"","app_metadata":{"tenant_id":"t1"}}`), ""},
		{"the top-level tenant claim", claims(`{"sub":"ann","tenant_id":"t1"}`), "public shared"},
		{"app_metadata before the top level",
			claims(`{"sub":"ann","tenant_id":"t1","app_metadata":{"tenant_id":"t2"}}`), "bobs-shared public"},
		{"a tenant in user_metadata",
			claims(`{"sub":"ann","user_metadata":{"tenant_id":"t1"}}`), "public"},
		{"app settings of a client", actor{role: "authenticated", settings: settings}, ""},
		{"app settings beside claims",
			actor{role: "authenticated", claims: bob.claims, settings: settings}, "bobs bobs-shared public"},
		{"a kernel for a user", kernel("alice", "t1"), "private public shared"},
		{"a kernel for nobody", kernel("", ""), ""},
		{"a kernel with claims only", actor{role: "loglineos_kernel", claims: alice.claims}, ""},
		{"the engine", engine, all},
		{"service_role", service, all},
		{"the owner of the database", owner, all},
	}
	for _, reader := range readers {
		for _, relation := range []string{"universal_registry", "visible_timeline", "history"} {
			t.Run(reader.name+" in "+relation, func(t *testing.T) {
				got := ask[string](l, reader.who, `select coalesce(string_agg(name, ' ' order by name), '')
					from ledger.`+relation)
				if got != reader.sees {
					t.Errorf("sees %q, want %q", got, reader.sees)
				}
			})
		}
	}
}

func TestFillsWhatAClientLeavesOut(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "entity_type", "note")
	filled := ask[bool](l, alice, `select seq = 0 and who = 'user:alice' and owner_id = 'alice'
		and tenant_id = 't1' and visibility = 'private' and not is_deleted
		and substr(id::text, 15, 1) = '7' and "when" = at and at between now() - interval '1 minute' and now()
		and accepted_at between at and clock_timestamp() and xact::text::bigint > 0
		from ledger.visible_timeline`)
	if !filled {
		t.Error("a column is not filled as it should be")
	}
}

func TestStampsItsOwnColumnsOverAnybodys(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, who := range []actor{alice, service, engine, owner} {
		l.given(who, "entity_type", "note", "owner_id", "alice", "tenant_id", "t1", "who", "client:x",
			"accepted_at", "2001-01-01T00:00:00Z", "xact", "3")
	}
	forged := ask[int](l, owner, `select count(*) from ledger.history
		where accepted_at < now() - interval '1 hour' or xact = '3'`)
	if forged != 0 {
		t.Errorf("%d of 4 rows carry a forged accepted_at or xact", forged)
	}
}

func TestIdentityOfWriters(t *testing.T) {
	t.Parallel()
	l := setup(t)
	note := []any{"entity_type", "note"}
	of := func(owner, tenant string) []any { return with(note, "owner_id", owner, "tenant_id", tenant) }
	writers := []struct {
		name string
		who  actor
		span []any
		code string
	}{
		{"own span", alice, note, ""},
		{"own span, stated", alice, of("alice", "t1"), ""},
		{"for another owner", alice, of("ann", "t1"), "LL006"},
		{"for another tenant", alice, of("alice", "t2"), "LL006"},
		{"for the system", alice, of("system", "system"), "LL006"},
		{"without claims", nobody, note, "LL005"},
		{"without claims, stated", nobody, of("alice", "t1"), "LL005"},
		{"with empty claims", actor{role: "authenticated", claims: ""}, note, "LL005"},
		{"without tenant", actor{role: "authenticated", claims: `{"sub":"alice"}`}, note, "LL005"},
		{"app settings are no identity", actor{role: "authenticated",
			settings: map[string]string{"app.user_id": "alice", "app.tenant_id": "t1"}}, note, "LL005"},
		{"a tenant named system by its token", user("eve", "system"), note, "LL006"},
		{"system by its token", user("system", "system"), note, "LL006"},
		{"anon", anon, note, "42501"},
		{"a kernel", actor{role: "loglineos_kernel"}, of("alice", "t1"), "42501"},
		{"service_role states whom", service, of("bob", "t2"), ""},
		{"service_role without owner", service, note, "LL005"},
		{"service_role for the system", service, of("system", "system"), "LL006"},
		{"the engine states whom", engine, with(of("bob", "t2"), "who", "kernel:run_code"), ""},
		{"the engine without tenant", engine, []any{"entity_type", "note", "owner_id", "bob"}, "LL005"},
		{"the engine without who", engine, of("bob", "t2"), "LL017"},
		{"the owner states whom", owner, of("bob", "t2"), ""},
		{"the owner without tenant", owner, note, "LL005"},
		{"a governor as itself", governor, note, ""},
		{"a governor as the system", governor, of("system", "system"), ""},
		{"a governor as another user", governor, of("alice", "t1"), "LL006"},
		{"a governor as itself in the tenant system", governor, of("grace", "system"), "LL006"},
	}
	for _, writer := range writers {
		t.Run(writer.name, func(t *testing.T) {
			wantCode(t, l.append(writer.who, writer.span...), writer.code)
		})
	}
}

// A view with its owner's rights would show everything. None has a barrier: the policies hold leaky functions
// off, and a barrier keeps order and limit from the indexes (60_timeline).
func TestViewsObeyTheReader(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "entity_type", "note", "name", "secret")
	run(t, l.conn, `create function public.leak(text) returns boolean language plpgsql cost 0.0000001
		as $$ begin raise exception 'leaked %', $1; end $$`)
	l.given(alice, "entity_type", "function", "name", "secret", "status", "draft")
	for _, view := range []string{"visible_timeline", "history", "function_state"} {
		t.Run(view, func(t *testing.T) {
			if n := ask[int](l, bob, "select count(*) from ledger."+view+" where public.leak(name)"); n != 0 {
				t.Errorf("a stranger sees %d rows", n)
			}
			options := ask[string](l, owner, `select array_to_string(reloptions, ' ') from pg_class
				where oid = ('ledger.' || $1)::regclass`, view)
			if options != "security_invoker=true" {
				t.Errorf("options are %q", options)
			}
		})
	}
}

func TestTimelineShowsTheNewestVersionOnly(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for seq, name := range []string{"old", "new"} {
		l.given(alice, "id", id(1), "seq", seq, "entity_type", "note", "name", name, "visibility", "tenant")
		l.given(alice, "id", id(2), "seq", seq, "entity_type", "note", "name", name, "is_deleted", seq == 1)
	}
	// Narrowed: ann may still read the version that was shown to her, but it is not what is.
	l.given(alice, "id", id(3), "entity_type", "note", "name", "shown", "visibility", "tenant")
	l.given(alice, "id", id(3), "seq", 1, "entity_type", "note", "name", "hidden")

	const names = `select coalesce(string_agg(name, ' ' order by name), '') from ledger.`
	for _, view := range []struct {
		who      actor
		relation string
		want     string
	}{
		{alice, "visible_timeline", "hidden new"},
		{alice, "history", "hidden new new old old shown"},
		{ann, "visible_timeline", "new"},
		{ann, "history", "new old shown"},
		{bob, "visible_timeline", ""},
		{engine, "visible_timeline", "hidden new"},
	} {
		if got := ask[string](l, view.who, names+view.relation); got != view.want {
			t.Errorf("%s sees %q in %s, want %q", view.who.claims, got, view.relation, view.want)
		}
	}
}
