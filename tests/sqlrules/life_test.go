package sqlrules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// life is the transitions of one type by some writers, as docs/contract.md §1 has them; every pair that is
// not named is refused, and every pair to strangers.
type life struct {
	entity    string
	owner     string
	tenant    string
	writers   []actor
	strangers []actor
	starts    string            // statuses of version 0
	follows   map[string]string // before: after, after
	always    string            // may follow anything
	free      bool              // anything follows anything
}

// null is the status that is not stated.
const everyStatus = "draft active scheduled archived deprecated revoked running complete error retry dead " +
	"blocked cancelled cancel_requested nonsense null"

func lives() map[string]life {
	const work = "running complete error retry dead blocked cancelled"
	others := []actor{ann, bob, user("alice", "t2"), anon, nobody}
	governed := func(entity, afterDeprecated, afterRevoked string) life {
		return life{entity: entity, owner: "system", tenant: "system", starts: "draft active",
			writers: []actor{owner, governor}, strangers: append(others, alice, service, engine),
			follows: map[string]string{"draft": "active", "active": "active deprecated revoked",
				"deprecated": afterDeprecated, "revoked": afterRevoked}}
	}
	defined := func(entity, starts string) life {
		return life{entity: entity, owner: "alice", tenant: "t1", starts: starts, always: "archived",
			writers: []actor{owner, alice, service, engine}, strangers: others,
			follows: map[string]string{"draft": "draft active", "active": "draft active"}}
	}
	all := map[string]life{
		"manifest":        governed("manifest", "active revoked", "active"),
		"key":             governed("key", "revoked", "revoked"),
		"system provider": governed("provider", "revoked", ""),
		"kernel":          governed("function", "revoked", ""),
		"system policy": {entity: "policy", owner: "system", tenant: "system", starts: "draft active",
			writers: []actor{owner, governor}, strangers: append(others, alice, service, engine),
			always: "archived", follows: map[string]string{"draft": "draft active", "active": "draft active"}},
		"policy":   defined("policy", "draft active"),
		"provider": defined("provider", "draft active"),
		"function": {entity: "function", owner: "alice", tenant: "t1", starts: "draft active scheduled",
			writers: []actor{owner, alice, service, engine}, strangers: others, always: "archived",
			follows: map[string]string{"draft": "draft active scheduled", "active": "draft active scheduled",
				"scheduled": "draft active scheduled", "archived": "active"}},
		"note": {entity: "note", owner: "alice", tenant: "t1", starts: everyStatus, free: true,
			writers: []actor{owner, alice, service, engine}, strangers: others},
		"metric": {entity: "metric", owner: "alice", tenant: "t1", starts: everyStatus, free: true,
			writers: []actor{engine}, strangers: append(others, owner, alice, service, governor)},
		"request by the engine": {entity: "request", owner: "alice", tenant: "t1", starts: "scheduled",
			writers: []actor{engine}, strangers: others, follows: map[string]string{
				"scheduled": work, "running": work, "retry": "scheduled " + work, "cancel_requested": "cancelled",
				"blocked": "scheduled running complete error retry dead blocked cancelled"}},
		"request by its owner": {entity: "request", owner: "alice", tenant: "t1", starts: "scheduled",
			writers: []actor{owner, alice, service}, strangers: others, follows: map[string]string{
				"scheduled": "cancel_requested", "running": "cancel_requested", "retry": "cancel_requested",
				"blocked": "cancel_requested", "dead": "scheduled"}},
	}
	for _, entity := range []string{"execution", "boot_event", "policy_cursor", "policy_error",
		"policy_violation", "checkpoint", "incident", "epoch", "status_patch", "provider_execution"} {
		all[entity] = life{entity: entity, owner: "alice", tenant: "t1", starts: everyStatus,
			writers: []actor{engine}, strangers: append(others, owner, alice, service, governor)}
	}
	// What is defined lives like a policy; what has another status is a result, and keeps it.
	block := defined("prompt_block", everyStatus)
	for status := range strings.FieldsSeq(everyStatus) {
		if !strings.Contains("draft active archived", status) {
			block.follows[status] = status
		}
	}
	all["prompt_block"] = block
	return all
}

// may reports whether the contract lets after follow before.
func (c life) may(before, after string) bool {
	return c.free || after == c.always || slices.Contains(strings.Fields(c.follows[before]), after)
}

// outcomes tries each span on its own, as whoever calls, keeps none, and answers with SQLSTATEs: ” is taken.
const outcomes = `create function public.outcomes(p_spans jsonb) returns text[] language plpgsql as $$
	declare
		v_span jsonb;
		v_all text[];
	begin
		for v_span in select * from jsonb_array_elements(p_spans) loop
			begin
				insert into ledger.universal_registry
				select * from jsonb_populate_record(null::ledger.universal_registry, v_span);
				raise sqlstate 'ZZ000';
			exception when others then
				v_all := v_all || case sqlstate when 'ZZ000' then '' else sqlstate end;
			end;
		end loop;
		return v_all;
	end $$;
	grant execute on function public.outcomes(jsonb) to public`

// Every pair of statuses, of every type, by every writer, against docs/contract.md §1. The first of the pair
// is put there by a session without guards, so that all states can be reached.
func TestTransitions(t *testing.T) {
	t.Parallel()
	statuses := strings.Fields(everyStatus)
	for name, c := range lives() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := setup(t)
			run(t, l.conn, outcomes)
			run(t, l.conn, "grant usage on schema public to public")
			run(t, l.conn, `insert into ledger.universal_registry (id, entity_type, status, who, owner_id,
				tenant_id, visibility) values ($1, 'function', 'active', 'client:x', 'alice', 't1', 'private')`, id(0))
			span := func(n, seq int, status string) map[string]any {
				s := map[string]any{"id": id(n), "seq": seq, "entity_type": c.entity, "owner_id": c.owner,
					"tenant_id": c.tenant, "who": "client:x", "parent_id": id(0)}
				if status != "null" {
					s["status"] = status
				}
				return s
			}
			var spans []map[string]any
			var pairs, starts []string
			for i, before := range statuses {
				var pairsOf []any
				for column, value := range span(1+i, 0, before) {
					pairsOf = append(pairsOf, column, value)
				}
				unguarded(l, pairsOf)
				for _, after := range statuses {
					spans = append(spans, span(1+i, 1, after))
					pairs = append(pairs, before+" "+after)
				}
			}
			for i, status := range statuses {
				spans = append(spans, span(1000+i, 0, status))
				starts = append(starts, status)
			}
			sent, err := json.Marshal(spans)
			if err != nil {
				t.Fatal(err)
			}
			for i, who := range append(slices.Clone(c.writers), c.strangers...) {
				got := ask[[]string](l, who, "select public.outcomes($1::text::jsonb)", string(sent))
				for n, code := range got {
					var may bool
					var which string
					if n < len(pairs) {
						before, after, _ := strings.Cut(pairs[n], " ")
						which, may = after+" after "+before, c.may(before, after)
					} else {
						which = "start with " + starts[n-len(pairs)]
						may = slices.Contains(strings.Fields(c.starts), starts[n-len(pairs)])
					}
					stranger := i >= len(c.writers)
					if stranger && code == "" || !stranger && may != (code == "") || !stranger && !may && code != "LL003" {
						t.Errorf("%s, %s: got %q, the contract says %t", which, who.claims+who.role, code, may && !stranger)
					}
				}
				if len(got) != len(spans) {
					t.Errorf("%d answers to %d spans", len(got), len(spans))
				}
			}
		})
	}
}

// unguarded inserts a row past the triggers.
func unguarded(l *ledger, pairs []any) {
	l.t.Helper()
	statement, values := insert(with(pairs, "at", "now", "xact", "1", "accepted_at", "now",
		"visibility", "private", "is_deleted", false))
	run(l.t, l.conn, "alter table ledger.universal_registry disable trigger user")
	run(l.t, l.conn, statement, values...)
	run(l.t, l.conn, `alter table ledger.universal_registry enable always trigger
		universal_registry_before_insert_1_admit, enable always trigger universal_registry_before_insert_2_follow`)
}

func TestEngineWrittenSpansHaveOneVersion(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for n, entity := range []string{"execution", "boot_event", "policy_cursor", "policy_error",
		"policy_violation", "checkpoint", "incident", "epoch", "status_patch", "provider_execution", "metric"} {
		span := []any{"id", derived(n), "entity_type", entity, "status", "complete", "owner_id", "alice",
			"tenant_id", "t1", "who", "kernel:x"}
		l.given(engine, span...)
		want := "LL003"
		if entity == "metric" {
			want = ""
		}
		t.Run(entity, func(t *testing.T) { wantCode(t, l.append(engine, with(span, "seq", 1)...), want) })
	}
}

// A client calls what it may read and what is in use, and nothing else.
func TestRequestsCallReadableFunctionsOnly(t *testing.T) {
	t.Parallel()
	l := setup(t)
	function := func(n int, pairs ...any) []any {
		return with([]any{"id", id(n), "entity_type", "function", "status", "active"}, pairs...)
	}
	l.given(alice, function(1)...)
	l.given(alice, function(2, "visibility", "tenant")...)
	l.given(alice, function(3, "visibility", "tenant")...)
	l.given(alice, function(3, "seq", 1, "status", "archived", "visibility", "tenant")...)
	l.given(alice, function(4, "visibility", "tenant")...)
	l.given(alice, function(4, "seq", 1, "is_deleted", true, "visibility", "tenant")...)
	l.given(alice, function(5, "visibility", "tenant")...)
	l.given(alice, function(5, "seq", 1)...) // narrowed
	l.given(alice, "id", id(6), "entity_type", "note", "visibility", "tenant")
	l.given(owner, function(7, "visibility", "public", "owner_id", "system", "tenant_id", "system")...)
	l.given(owner, function(8, "visibility", "public", "owner_id", "system", "tenant_id", "system")...)
	l.given(owner, function(8, "seq", 1, "status", "revoked", "visibility", "public", "owner_id", "system",
		"tenant_id", "system")...)
	for _, c := range []struct {
		name   string
		who    actor
		parent any
		code   string
	}{
		{"own", alice, id(1), ""},
		{"private, of another", ann, id(1), "LL015"},
		{"private, of another tenant", bob, id(1), "LL015"},
		{"of the tenant", ann, id(2), ""},
		{"of another tenant", bob, id(2), "LL015"},
		{"archived", ann, id(3), "LL015"},
		{"archived, own", alice, id(3), "LL015"},
		{"deleted", ann, id(4), "LL015"},
		{"narrowed since", ann, id(5), "LL015"},
		{"narrowed since, own", alice, id(5), ""},
		{"no function", alice, id(6), "LL015"},
		{"public", bob, id(7), ""},
		{"revoked", bob, id(8), "LL015"},
		{"missing", alice, id(99), "LL015"},
		{"none", alice, nil, "LL015"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantCode(t, l.append(c.who, "entity_type", "request", "status", "scheduled", "parent_id", c.parent,
				"input", `{"own":1}`), c.code)
		})
	}
	forBob := []any{"entity_type", "request", "status", "scheduled", "owner_id", "bob", "tenant_id", "t2",
		"who", "client:x", "parent_id", id(1)}
	wantCode(t, l.append(service, forBob...), "LL015")
	wantCode(t, l.append(owner, forBob...), "LL015")
	wantCode(t, l.append(engine, forBob...), "")
}

// The owner of a request that the engine made stops it, and runs it again when it is dead; that does not let
// him slip another function under it.
func TestOwnerSteersItsRequest(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "function", "status", "scheduled")
	l.given(bob, "id", id(2), "entity_type", "function", "status", "active")
	request := func(seq int, status string, others ...any) []any {
		return with([]any{"id", derived(1), "seq", seq, "entity_type", "request", "status", status}, others...)
	}
	as := func(who string) []any {
		return []any{"owner_id", "alice", "tenant_id", "t1", "who", who, "parent_id", id(1)}
	}
	l.given(engine, request(0, "scheduled", as("kernel:observer_bot")...)...)
	for step, c := range []struct {
		who  actor
		span []any
		code string
	}{
		{bob, request(1, "cancel_requested"), "LL002"},
		{ann, request(1, "cancel_requested"), "LL002"},
		{alice, request(1, "complete"), "LL003"},
		{alice, request(1, "cancelled"), "LL003"},
		{alice, request(1, "scheduled"), "LL003"},
		{alice, request(1, "cancel_requested", "parent_id", id(2)), "LL013"},
		{alice, request(1, "cancel_requested"), ""},
		{engine, request(2, "complete", as("kernel:request_worker")...), "LL003"},
		{engine, request(2, "cancelled", as("kernel:request_worker")...), ""},
		{alice, request(3, "scheduled"), "LL003"},
	} {
		t.Run(fmt.Sprint(step), func(t *testing.T) { wantCode(t, l.append(c.who, c.span...), c.code) })
	}
	parents := ask[int](l, owner, "select count(*) from ledger.history where id = $1 and parent_id = $2",
		derived(1), id(1))
	if parents != 3 {
		t.Errorf("%d of 3 versions name the function", parents)
	}

	second := []any{"id", derived(2)}
	l.given(engine, with(request(0, "scheduled", as("kernel:observer_bot")...), second...)...)
	l.given(engine, with(request(1, "dead", as("sidecar:a")...), second...)...)
	wantCode(t, l.append(engine, with(request(2, "scheduled", as("sidecar:a")...), second...)...), "LL003")
	wantCode(t, l.append(alice, with(request(2, "scheduled", "parent_id", id(2)), second...)...), "LL013")
	wantCode(t, l.append(alice, with(request(2, "scheduled"), second...)...), "")
}
