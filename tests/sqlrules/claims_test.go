package sqlrules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Claims that are malformed are no identity: the insert is refused, nothing is read, nothing else breaks.
func TestMalformedClaimsAreNoIdentity(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, name := range []string{"5", "true", "a", "x"} {
		l.given(user(name, "t1"), "entity_type", "note", "visibility", "tenant")
		l.given(user(name, "t2"), "entity_type", "note")
	}
	for _, claims := range []string{
		"", "x", "null", "5", `"a"`, "[]", `["sub"]`, "{", `{"sub":}`, "{}", `{"sub":"a"`, `{"sub":"a\u0000"}`,
		`{"sub":"a","n":1e999999}`, `{"sub":"a","x":` + strings.Repeat("[", 100_000) + `}`,
		`{"sub":5,"app_metadata":{"tenant_id":"t1"}}`, `{"sub":true,"app_metadata":{"tenant_id":"t1"}}`,
		`{"sub":null,"app_metadata":{"tenant_id":"t1"}}`, `{"sub":["a"],"app_metadata":{"tenant_id":"t1"}}`,
		`{"sub":"","app_metadata":{"tenant_id":"t1"}}`, `{"sub":{"a":"a"},"tenant_id":"t1"}`,
	} {
		who := actor{role: "authenticated", claims: claims}
		t.Run(fmt.Sprintf("%.40s", claims), func(t *testing.T) {
			wantCode(t, l.append(who, "entity_type", "note"), "LL005")
			wantCode(t, l.append(who, "entity_type", "note", "owner_id", "a", "tenant_id", "t1"), "LL005")
			if n := ask[int](l, who, "select count(*) from ledger.universal_registry"); n != 0 {
				t.Errorf("reads %d rows, want none", n)
			}
			if ask[bool](l, who, "select ledger.is_governor()") {
				t.Error("is a governor")
			}
		})
	}
}

// A tenant of app_metadata decides, also when it is none; user_metadata never does.
func TestTenantClaim(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for claims, want := range map[string]string{
		`{"sub":"a","app_metadata":{"tenant_id":"t1"},"tenant_id":"t2"}`: "t1",
		`{"sub":"a","tenant_id":"t2"}`:                                   "t2",
		`{"sub":"a","app_metadata":{},"tenant_id":"t2"}`:                 "t2",
		`{"sub":"a","app_metadata":"x","tenant_id":"t2"}`:                "t2",
		`{"sub":"a","app_metadata":"x"}`:                                 "",
		`{"sub":"a","app_metadata":{"tenant_id":""},"tenant_id":"t2"}`:   "",
		`{"sub":"a","app_metadata":{"tenant_id":null},"tenant_id":"t2"}`: "",
		`{"sub":"a","app_metadata":{"tenant_id":7},"tenant_id":"t2"}`:    "",
		`{"sub":"a","tenant_id":7}`:                                      "",
		`{"sub":"a","user_metadata":{"tenant_id":"t1"}}`:                 "",
		`{"sub":"a","raw_user_meta_data":{"tenant_id":"t1"}}`:            "",
	} {
		who := actor{role: "authenticated", claims: claims}
		// The accessor, and what the guard fills in, are one.
		if got := ask[string](l, who, "select coalesce(ledger.current_tenant_id(), '')"); got != want {
			t.Errorf("%s gives tenant %q, want %q", claims, got, want)
		}
		if want == "" {
			wantCode(t, l.append(who, "entity_type", "note"), "LL005")
			continue
		}
		got := ask[string](l, who, `insert into ledger.universal_registry (entity_type) values ('note')
			returning tenant_id || ' ' || who`)
		if got != want+" user:a" {
			t.Errorf("%s is filled in as %q", claims, got)
		}
	}
}

// A client is itself, a client:<name>, or whatever looks like no role of the system's.
func TestWhoIsNobodyElse(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for who, code := range map[string]string{
		"user:alice": "", "client:web": "", "client:josé": "", "kernelish:x": "", "robot": "", "a b:c": "",
		"user:bob": "LL008", "User:alice": "LL008", "user :alice": "LL008", "user": "LL008",
		"user:alice ": "LL008", "user:": "LL008", "user_alice": "LL008", "users:all": "",
		"kernel:x": "LL008", "KERNEL:x": "LL008", "Policy": "LL008", "sidecar/x": "LL008", "system:x": "LL008",
		"kernel :x": "LL008", " kernel:x": "LL008", "\tkernel:x": "LL008", "kernel\t:x": "LL008",
		"\u00a0kernel:x": "LL008", "kernel\u00a0:x": "LL008", "kernel\u200b:x": "LL008",
		"\u200bkernel:x": "LL008", "ker\u200bnel:x": "LL008", "\ufeffsystem:x": "LL008",
		"kernel\uff1ax": "LL008", "\u212aernel:x": "LL008", "\u043aernel:x": "LL008", "sy\u017ftem:x": "LL008",
		"policy\n:x": "LL008", "system\u2236x": "LL008", "system": "LL008", "system.boot": "LL008",
		"josé": "LL008", "client:kernel:x": "", "": "LL017",
	} {
		wantCode(t, l.append(alice, "entity_type", "note", "who", who), code)
		if t.Failed() {
			t.Fatalf("who %q", who)
		}
	}
	wantCode(t, l.append(governor, "entity_type", "note", "who", "system:x"), "")
	wantCode(t, l.append(governor, "entity_type", "note", "who", "kernel:x"), "LL008")
	bobs := []any{"entity_type", "note", "who", "user:bob", "owner_id", "bob", "tenant_id", "t2"}
	wantCode(t, l.append(service, bobs...), "")
	wantCode(t, l.append(service, "entity_type", "note", "who", "system\u00a0:x", "owner_id", "bob",
		"tenant_id", "t2"), "LL008")
	wantCode(t, l.append(owner, bobs...), "")
}

// A repeated insert with a key meets the primary key, and nobody takes the id of somebody else's key.
func TestKeyDecidesTheID(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "entity_type", "note", "idempotency_key", "k1")
	wantCode(t, l.append(alice, "entity_type", "note", "idempotency_key", "k1"), "23505")
	wantCode(t, l.append(alice, "entity_type", "note", "idempotency_key", "k1", "seq", 0), "23505")
	wantCode(t, l.append(bob, "entity_type", "note", "idempotency_key", "k1"), "")
	if !ask[bool](l, alice, `select id = ledger.idempotency_id('t1', 'k1') from ledger.universal_registry`) {
		t.Error("the id is not that of the key")
	}
	of := func(tenant, key string) string {
		return ask[string](l, owner, "select ledger.idempotency_id($1, $2)::text", tenant, key)
	}
	note := func(id string, others ...any) []any {
		return append([]any{"entity_type", "note", "id", id}, others...)
	}
	wantCode(t, l.append(alice, note(of("t2", "k2"))...), "LL007")
	wantCode(t, l.append(alice, note(of("t2", "k2"), "idempotency_key", "k2")...), "LL007")
	wantCode(t, l.append(alice, note(of("t1", "k2"))...), "LL007")
	wantCode(t, l.append(alice, note(of("t1", "k2"), "idempotency_key", "k3")...), "LL007")
	wantCode(t, l.append(alice, note(of("t1", "k2"), "idempotency_key", strings.Repeat("k", 257))...), "LL007")
	wantCode(t, l.append(alice, note(of("t1", "k2"), "idempotency_key", "k2")...), "")
	wantCode(t, l.append(alice, note(of("t1", "k2"), "seq", 1)...), "")
	wantCode(t, l.append(alice, "entity_type", "note", "idempotency_key", strings.Repeat("k", 257)), "LL017")
	wantCode(t, l.append(alice, "entity_type", "note", "idempotency_key", ""), "LL017")
	for n, who := range []actor{service, owner, engine} {
		wantCode(t, l.append(who, note(of("t2", fmt.Sprint("free", n)), "owner_id", "bob", "tenant_id", "t2",
			"who", "client:x")...), "")
	}
}

// However wrong a row is: where its (id, seq) is taken by the writer's own, the primary key answers, so
// that a batch goes on.
func TestMalformedZombieMeetsTheKey(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note")
	for _, wrong := range [][]any{
		{"status", "not so"}, {"who", "kernel:x"}, {"at", "infinity"}, {"content", `1e400`}, {"tags", "{{a}}"},
		{"metadata", `{"engine":1}`}, {"name", strings.Repeat("x", 1001)}, {"visibility", "all"},
	} {
		statement, values := insert(append([]any{"id", id(1), "entity_type", "note"}, wrong...))
		wantCode(t, l.do(alice, statement, values...), "23505")
		wantCode(t, l.do(alice, statement+" on conflict do nothing", values...), "")
		statement, values = insert(append([]any{"id", id(2), "entity_type", "note"}, wrong...))
		if err := l.do(alice, statement+" on conflict do nothing", values...); err == nil {
			t.Errorf("%v is taken where the key is free", wrong)
		}
	}
}

// 100,000 ids in one transaction: nothing grows with them but the table.
func TestAHundredThousandIdsInOneTransaction(t *testing.T) {
	t.Parallel()
	l := setup(t)
	err := l.in(alice, func(tx pgx.Tx) error {
		var before, after, locksBefore, locksAfter int64
		const memory = "select sum(total_bytes)::bigint, (select count(*) from pg_locks where pid = pg_backend_pid()) " +
			"from pg_backend_memory_contexts"
		const rows = "insert into ledger.universal_registry (entity_type, name) " +
			"select 'note', 'n' from generate_series(1, $1)"
		measure := func(bytes, locks *int64) error {
			if _, err := tx.Exec(t.Context(), "reset role"); err != nil {
				return err
			}
			if err := tx.QueryRow(t.Context(), memory).Scan(bytes, locks); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "set local role authenticated")
			return err
		}
		if _, err := tx.Exec(t.Context(), rows, 1000); err != nil {
			return err
		}
		if err := measure(&before, &locksBefore); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), rows, 99_000); err != nil {
			return err
		}
		if err := measure(&after, &locksAfter); err != nil {
			return err
		}
		if after > before+4<<20 || locksAfter > locksBefore+2 {
			t.Errorf("memory %d to %d bytes, locks %d to %d", before, after, locksBefore, locksAfter)
		}
		return nil
	})
	wantCode(t, err, "")
	if n := ask[int](l, alice, "select count(distinct id) from ledger.universal_registry"); n != 100_000 {
		t.Errorf("%d ids, want 100,000", n)
	}
}
