package sqlrules

import (
	"bytes"
	"crypto/sha1" // for ids
	"encoding/hex"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The namespace of tenants that are no UUID.
const tenantNamespace = "05e24595-4bbb-57e4-810f-6d85f953de6c"

// uuid5 is a second implementation, by the standard library.
func uuid5(t testing.TB, namespace, name string) string {
	t.Helper()
	space, err := hex.DecodeString(strings.ReplaceAll(namespace, "-", ""))
	if err != nil {
		t.Fatalf("decode namespace: %v", err)
	}
	sum := sha1.Sum(append(space, name...))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	digits := hex.EncodeToString(sum[:16])
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// Every length over several blocks, above all where the padding needs one block more.
func TestSHA1IsThatOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, fill := range []byte{0x00, 0x61, 0x80, 0xff} {
		message := bytes.Repeat([]byte{fill}, 300)
		for i := range message {
			message[i] ^= byte(i * 7)
		}
		rows, err := l.conn.Query(t.Context(), `select ledger_private.sha1(substring($1::bytea for length))
			from generate_series(0, 300) as length order by length`, message)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil || len(sums) != 301 {
			t.Fatalf("hash: %d sums, %v", len(sums), err)
		}
		for length, sum := range sums {
			if want := sha1.Sum(message[:length]); !bytes.Equal(sum, want[:]) {
				t.Errorf("%d bytes of %x: got %x, want %x", length, fill, sum, want)
			}
		}
	}
}

func TestUUID5IsThatOfRFC9562(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const dns, urls = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
	for _, c := range []struct{ namespace, name, want string }{
		{dns, "www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"}, // RFC 9562, appendix A.4
		{urls, "https://github.com/loglineos/loglineos", tenantNamespace},
		{dns, "", uuid5(t, dns, "")},
		{dns, "pedido nº 7 — ação 🙂", uuid5(t, dns, "pedido nº 7 — ação 🙂")},
	} {
		got := ask[string](l, owner, "select ledger_private.uuid5($1, $2)::text", c.namespace, c.name)
		if got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.namespace, c.name, got, c.want)
		}
	}
}

func TestIdempotencyIDIsTheTenantsOwn(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const tenant, five = "0192f0c4-7b1d-7000-8000-000000000001", "2ed6657d-e927-568b-95e1-2665a8aea6a2"
	hashed := func(tenant, key string) string { return uuid5(t, uuid5(t, tenantNamespace, tenant), key) }
	longest := strings.Repeat("ß", 256)
	for _, c := range []struct{ name, tenant, key, want string }{
		{"a tenant that is a UUID", tenant, "order-1", uuid5(t, tenant, "order-1")},
		{"a name", "acme", "order-1", hashed("acme", "order-1")},
		{"another tenant when in upper case", strings.ToUpper(tenant), "order-1",
			hashed(strings.ToUpper(tenant), "order-1")},
		{"braces", "{" + tenant + "}", "order-1", hashed("{"+tenant+"}", "order-1")},
		{"the namespace of another tenant", uuid5(t, tenantNamespace, "acme"), "order-1",
			hashed(uuid5(t, tenantNamespace, "acme"), "order-1")},
		{"version 5", five, "order-1", hashed(five, "order-1")},
		{"the longest key", "acme", longest, hashed("acme", longest)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, who := range []actor{alice, service, engine, owner} {
				got := ask[string](l, who, "select ledger.idempotency_id($1, $2)::text", c.tenant, c.key)
				if got != c.want {
					t.Errorf("%s: got %s, want %s", who.role, got, c.want)
				}
			}
		})
	}
	if !ask[bool](l, alice, "select ledger.idempotency_id('t1', null) is null"+
		" and ledger.idempotency_id(null, 'k') is null") {
		t.Error("null does not give null")
	}
	for _, key := range []string{"", strings.Repeat("k", 257)} {
		wantCode(t, l.do(alice, "select ledger.idempotency_id('t1', $1)", key), "LL017")
	}
	wantCode(t, l.do(alice, "select ledger.idempotency_id($1, 'k')", strings.Repeat("t", 201)), "LL017")
	wantCode(t, l.do(anon, "select ledger.idempotency_id('t1', 'k')"), "42501")
}
