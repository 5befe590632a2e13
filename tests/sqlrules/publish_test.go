package sqlrules

import (
	"fmt"
	"testing"
)

// manifest is the span of a manifest with a hash, as Stage-0 wants one; the hash is not checked here.
func manifest(seq int, metadata string, others ...any) []any {
	return with([]any{"id", manifestID, "seq", seq, "entity_type", "manifest", "status", "active", "who",
		"system:test", "at", "2026-01-01T00:00:00Z", "owner_id", "system", "tenant_id", "system", "visibility",
		"private", "is_deleted", false, "curr_hash", hashOf(seq), "prev_hash", previousHash(seq),
		"metadata", metadata}, others...)
}

func hashOf(seq int) string { return fmt.Sprintf("%064x", seq+1) }

func previousHash(seq int) any {
	if seq == 0 {
		return nil
	}
	return hashOf(seq - 1)
}

const mayPublish = "select ledger_private.may_publish($1, $2, $3)"

func TestManifestGrantsPublication(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(owner, manifest(0, `{"grants":{
		"user:alice":["visibility:public"],
		"user:ann":["run","visibility:public:note,prompt_block"],
		"tenant:t2":["visibility:public:function"],
		"user:carl":"visibility:public", "user:dora":{"visibility:public":true}, "user:eve":null,
		"user:finn":[["visibility:public"],{"visibility:public":1},7,null,"visibility:public ","visibility:publi",
			"visibility:public:","visibility","visibility:tenant","visibility:public:Note","visibility:public: note",
			"VISIBILITY:PUBLIC"],
		"user:":["visibility:public"], "tenant:":["visibility:public"],
		"gina":["visibility:public"], "*":["visibility:public"], "user:*":["visibility:public"]}}`)...)
	for _, c := range []struct {
		who                       actor
		owner, tenant, entityType string
		want                      bool
	}{
		{alice, "alice", "t1", "note", true},
		{alice, "alice", "t1", "function", true},
		{ann, "ann", "t1", "note", true},
		{ann, "ann", "t1", "prompt_block", true},
		{ann, "ann", "t1", "function", false},
		{ann, "ann", "t1", "", false},
		{bob, "bob", "t2", "function", true},
		{bob, "bob", "t2", "note", false},
		{user("carl", "t1"), "carl", "t1", "note", false},
		{user("dora", "t1"), "dora", "t1", "note", false},
		{user("eve", "t1"), "eve", "t1", "note", false},
		{user("finn", "t1"), "finn", "t1", "note", false},
		{user("finn", "t1"), "finn", "t1", "", false},
		{user("gina", "t1"), "gina", "t1", "note", false},
		{user("hugo", "t1"), "hugo", "t1", "note", false},
		// Nobody is told of another's rights, but service_role, which writes for others.
		{bob, "alice", "t1", "note", false},
		{user("alice", "t3"), "alice", "t1", "note", false},
		{nobody, "alice", "t1", "note", false},
		{service, "alice", "t1", "note", true},
		{service, "hugo", "t1", "note", false},
	} {
		if got := ask[bool](l, c.who, mayPublish, c.owner, c.tenant, c.entityType); got != c.want {
			t.Errorf("%s may publish %q: %v, want %v", c.who.claims+c.who.role, c.entityType, got, c.want)
		}
	}
	if ask[bool](l, alice, "select ledger_private.may_publish(null, null, null)") {
		t.Error("null may publish")
	}
	for _, who := range []actor{anon, engine, {role: "loglineos_kernel"}} {
		wantCode(t, l.do(who, mayPublish, "alice", "t1", "note"), "42501")
	}
}

// The grants of the newest effective version count; where that one is out of force nothing is granted.
func TestPublicationEndsWithItsManifest(t *testing.T) {
	t.Parallel()
	const grant = `{"grants":{"user:alice":["visibility:public"]}}`
	for _, c := range []struct {
		name     string
		versions [][]any
		want     bool
	}{
		{"no manifest", nil, false},
		{"active", [][]any{manifest(0, grant)}, true},
		{"draft", [][]any{manifest(0, grant, "status", "draft")}, false},
		{"draft, then active", [][]any{manifest(0, "{}", "status", "draft"), manifest(1, grant)}, true},
		{"withdrawn", [][]any{manifest(0, grant), manifest(1, `{"grants":{}}`)}, false},
		{"revoked", [][]any{manifest(0, grant), manifest(1, grant, "status", "revoked")}, false},
		{"revoked without a hash",
			[][]any{manifest(0, grant), manifest(1, grant, "status", "revoked", "curr_hash", nil)}, false},
		{"deprecated", [][]any{manifest(0, grant), manifest(1, grant, "status", "deprecated")}, false},
		{"deleted", [][]any{manifest(0, grant), manifest(1, grant, "is_deleted", true)}, false},
		{"to come", [][]any{manifest(0, "{}"), manifest(1, grant, "effective_at", "2999-01-01T00:00:00Z")}, false},
		{"withdrawn from tomorrow on",
			[][]any{manifest(0, grant), manifest(1, "{}", "effective_at", "2999-01-01T00:00:00Z")}, true},
		{"effective in the past", [][]any{manifest(0, grant, "effective_at", "2020-01-01T00:00:00Z")}, true},
		{"without a hash",
			[][]any{manifest(0, grant, "curr_hash", nil)}, false},
		{"without grants", [][]any{manifest(0, `{}`)}, false},
		{"grants is a list", [][]any{manifest(0, `{"grants":["user:alice","visibility:public"]}`)}, false},
		{"grants is a text", [][]any{manifest(0, `{"grants":"user:alice"}`)}, false},
		{"grants is null", [][]any{manifest(0, `{"grants":null}`)}, false},
		{"no metadata", [][]any{manifest(0, grant, "metadata", nil)}, false},
		{"another type under its id",
			[][]any{manifest(0, grant, "entity_type", "prompt_block")}, false},
		{"another id", [][]any{manifest(0, grant, "id", "00000000-0000-4000-8000-0000000000ab")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := setup(t)
			for _, version := range c.versions {
				l.given(owner, version...)
			}
			if got := ask[bool](l, alice, mayPublish, "alice", "t1", "note"); got != c.want {
				t.Errorf("may publish: %v, want %v", got, c.want)
			}
		})
	}
}

// Whoever is signed in may ask which manifest rules; what it says stays with those who may read it.
func TestWhichManifestIsInForceCanBeAsked(t *testing.T) {
	t.Parallel()
	l := setup(t)
	asked := func(who actor, want string) {
		t.Helper()
		got := ask[string](l, who, `select coalesce(string_agg(concat_ws(' of ', coalesce(seq::text, 'none'),
			newest_seq::text) || case when (seq is null) = (accepted_at is null) then '' else '!' end, ','), '')
			from ledger.manifest_in_force()`)
		if got != want {
			t.Errorf("%s%s is told %q, want %q", who.role, who.claims, got, want)
		}
	}
	asked(governor, "")
	l.given(owner, manifest(0, `{"timelocks":{"manifest":{"activate_after_hours":24}}}`)...)
	for _, who := range []actor{governor, alice, service} {
		asked(who, "0 of 0")
	}
	l.given(owner, manifest(1, `{}`)...) // its timelock is not over
	asked(governor, "0 of 1")
	l.given(owner, manifest(2, `{}`, "status", "revoked")...)
	asked(governor, "none of 2")
	wantCode(t, l.do(anon, "select * from ledger.manifest_in_force()"), "42501")
}
