package sqlrules

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The words that the author's envelopes have for columns.
func TestAppendMapsSynonyms(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const sig = hashOne + hashTwo
	// A hashed span states everything.
	const hashed = `,"id":"%s","seq":0,"who":"client:x","owner_id":"alice","tenant_id":"t1","visibility":"private",` +
		`"is_deleted":false`
	at := ask[string](l, owner, "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
	all := func(n int) string { return fmt.Sprintf(hashed, id(n)) }
	for i, c := range []struct{ name, span, column, want string }{
		{"when", `"when":"` + at + `"`, "at", at},
		{"when beside the same at", `"when":"` + at + `","at":"` + strings.Replace(at, "Z", "+00", 1) + `"`, "at",
			at},
		{"when null", `"when":null,"at":"` + at + `"`, "at", at},
		{"metadata.ts", `"metadata":{"ts":"` + at + `"}`, "at", at},
		{"metadata.ts beside the same when", `"when":"` + at + `","metadata":{"ts":"` + at + `"}`, "at", at},
		{"digest", `"at":"` + at + `","digest":"b3:` + hashOne + `"` + all(101), "curr_hash", hashOne},
		{"digest beside the same curr_hash", `"at":"` + at + `","curr_hash":"` + hashOne + `","digest":"b3:` +
			hashOne +
			`"` + all(102), "curr_hash", hashOne},
		{"payload_hash", `"at":"` + at + `","payload_hash":"b3:` + hashOne + `"` + all(103), "curr_hash", hashOne},
		{"signature.sig", `"at":"` + at + `","digest":"b3:` + hashOne +
			`","signature":{"algo":"ed25519","pubkey":"` +
			hashTwo + `","sig":"` + sig + `"}` + all(104), "signature", sig},
		{"signature.pubkey", `"at":"` + at + `","digest":"b3:` + hashOne +
			`","signature":{"algo":"ed25519","pubkey":"` +
			hashTwo + `","sig":"` + sig + `"}` + all(105), "public_key", hashTwo},
		{"signature.algo", `"at":"` + at + `","digest":"b3:` + hashOne +
			`","signature":{"algo":"ed25519","pubkey":"` +
			hashTwo + `","sig":"` + sig + `"}` + all(106), "sig_alg", "ed25519"},
		{"signature, the column", `"at":"` + at + `","curr_hash":"` + hashOne + `","public_key":"` + hashTwo +
			`","signature":"` + sig + `"` + all(107), "signature", sig},
		{"metadata.owner_id", `"metadata":{"owner_id":"alice"}`, "owner_id", "alice"},
		{"metadata.tenant_id", `"metadata":{"tenant_id":"t1"}`, "tenant_id", "t1"},
		{"metadata.device_id", `"metadata":{"device_id":"phone"}`, "device_id", "phone"},
		{"metadata.device_id beside the same", `"device_id":"phone","metadata":{"device_id":"phone"}`, "device_id",
			"phone"},
		{"metadata.device_id null", `"metadata":{"device_id":null}`, "device_id", ""},
		{"metadata.source stays", `"metadata":{"source":"web"}`, "app_id", ""},
		{"metadata.payload_hash stays", `"metadata":{"payload_hash":"b3:` + hashOne + `"}`, "curr_hash", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := l.sent(alice, `{"entity_type":"note","name":"`+fmt.Sprint(i)+`",`+c.span+`}`)
			row := ask[map[string]any](l, owner, `select to_jsonb(r) || jsonb_build_object('at',
				to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
				from ledger.universal_registry r where id = $1`, a.ID)
			if got := row[c.column]; got != c.want && (got != nil || c.want != "") {
				t.Errorf("%s is %v, want %q", c.column, got, c.want)
			}
			// metadata is hashed: it stays as it was sent.
			if !ask[bool](l, owner, `select metadata is not distinct from $2::text::jsonb -> 'metadata'
				from ledger.universal_registry where id = $1`, a.ID, "{"+c.span+"}") {
				t.Errorf("metadata is %v", row["metadata"])
			}
		})
	}
}

func TestAppendRefusesContradictions(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, c := range []struct{ span, names string }{
		{`"when":"2026-01-01T00:00:00Z","at":"2026-01-01T00:00:01Z"`, "when contradicts at"},
		{`"when":"2026-01-01T00:00:00Z","metadata":{"ts":"2026-01-01T00:00:01Z"}`, "metadata.ts contradicts when"},
		{`"at":"2026-01-01T00:00:00Z","metadata":{"ts":"2026-01-01T00:00:01Z"}`, "metadata.ts contradicts at"},
		{`"metadata":{"tenant_id":"t2"},"tenant_id":"t1"`, "metadata.tenant_id contradicts tenant_id"},
		{`"metadata":{"owner_id":"ann"},"owner_id":"alice"`, "metadata.owner_id contradicts owner_id"},
		{`"metadata":{"device_id":"a"},"device_id":"b"`, "metadata.device_id contradicts device_id"},
		{`"metadata":{"device_id":"a"},"device_id":5`, "metadata.device_id contradicts device_id"},
		{`"digest":"b3:` + hashOne + `","curr_hash":"` + hashTwo + `"`, "digest contradicts curr_hash"},
		{`"digest":"b3:` + hashOne + `","payload_hash":"b3:` + hashTwo + `"`, "payload_hash contradicts digest"},
		{`"signature":{"algo":"a"},"sig_alg":"b"`, "signature.algo contradicts sig_alg"},
		{`"signature":{"pubkey":"a"},"public_key":"b"`, "signature.pubkey contradicts public_key"},
		{`"digest":"sha256:` + hashOne + `"`, "digest: wanted b3:"},
		{`"digest":"` + hashOne + `"`, "digest: wanted b3:"},
		{`"digest":"b3:` + hashOne + `0"`, "digest: wanted b3:"},
		{`"digest":"b3:` + hashOne[1:] + `"`, "digest: wanted b3:"},
		{`"digest":"b3:` + strings.Replace(hashOne, "1", "A", 1) + `"`, "digest: wanted b3:"},
		{`"digest":"b3:` + hashOne + `\n"`, "digest: wanted b3:"},
		{`"digest":5`, "digest: wanted b3:"},
		{`"payload_hash":{}`, "payload_hash: wanted b3:"},
		{`"signature":{"algo":5}`, "signature.algo: wanted a string"},
		{`"signature":{"algo":"a","kid":"b"}`,
			"key signature: wanted a string, or an object of algo, pubkey and sig"},
		{`"signature":["a"]`, "key signature: wanted a string"},
		{`"metadata":{"device_id":5}`, "metadata.device_id: wanted a string"},
		{`"metadata":{"ts":1795000000}`, "metadata.ts: wanted a"},
		{`"metadata":{"ts":"yesterday"}`, "metadata.ts: wanted a time"},
		{`"when":"noon"`, "when: wanted a time"},
		{`"when":"2026-01-01T00:00:00Z","at":"noon"`, "at: wanted a time"},
	} {
		t.Run(c.span, func(t *testing.T) {
			_, err := l.send(alice, `{"entity_type":"note",`+c.span+`}`)
			wantCode(t, err, "LL017")
			if r := refusal(t, err); !strings.Contains(r.Message, c.names) {
				t.Errorf("got %q, want %q", r.Message, c.names)
			}
		})
	}
}

// The same act again, however it is written.
func TestAppendAgainIsDone(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for name, w := range writers() {
		t.Run(name, func(t *testing.T) {
			key := ask[string](l, owner, "select gen_random_uuid()::text")
			span := func(more string) string {
				return `{"id":"` + key + `","entity_type":"note"` + w.state + more + `}`
			}
			at := ask[string](l, owner, "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS')")
			first := l.sent(w.who, span(`,"at":"`+at+`Z","priority":1,"confidence":0.5,"tags":["a","b"],
				"parent_id":"a0000000-0000-4000-9000-00000000000a","content":{"a":1.0,"b":[1,2]}`))
			for _, again := range []string{
				`,"at":"` + at + `Z"`, `,"when":"` + at + `000000+00:00"`, `,"metadata":null,"name":null`,
				`,"priority":1e0`, `,"confidence":0.50`, `,"confidence":"0.500"`,
				`,"content":{"b":[1.00,2],"a":1}`, `,"parent_id":"A0000000-0000-4000-9000-00000000000A"`, ``,
				`,"seq":0,"tags":["a","b"],"visibility":"private","is_deleted":false`,
				`,"accepted_at":"2020-01-01T00:00:00Z","xact":"7"`,
			} {
				a := l.sent(w.who, span(again))
				if a.IsNew || a.ID != first.ID || !a.AcceptedAt.Equal(first.AcceptedAt) {
					t.Errorf("%s: got %+v, want %+v", again, a, first)
				}
			}
			for _, other := range []string{
				`,"at":"` + at + `1Z"`, `,"priority":2`, `,"confidence":0.51`, `,"tags":["b","a"]`, `,"tags":[]`,
				`,"content":{"a":1}`, `,"content":[]`, `,"name":""`, `,"visibility":"tenant"`, `,"is_deleted":true`,
			} {
				_, err := l.send(w.who, span(other))
				wantConflict(t, err)
			}
			// The life of the thing has gone on since.
			l.sent(w.who, span(`,"seq":1`))
			if a := l.sent(w.who, span("")); a.IsNew || a.Seq != 0 {
				t.Errorf("version 0 after version 1: got %+v", a)
			}
		})
	}
}

// wantConflict fails the test unless err is a unique violation that says LL012 first in its detail.
func wantConflict(t testing.TB, err error) {
	t.Helper()
	wantCode(t, err, "23505")
	if r := refusal(t, err); !strings.HasPrefix(r.Detail, "LL012") || r.Message == "" || r.Hint == "" {
		t.Errorf("got message %q, detail %q, hint %q", r.Message, r.Detail, r.Hint)
	}
}

// What is there already looks the same, whosever it is and whatever it says.
func TestConflictTellsNothing(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(bob, "id", id(1), "entity_type", "note", "name", "same")
	l.given(ann, "id", id(2), "entity_type", "note", "name", "same")
	l.given(ann, "id", id(3), "entity_type", "note", "name", "same", "visibility", "tenant")
	l.given(alice, "id", id(4), "entity_type", "note", "name", "other")
	var first pgconn.PgError
	for n := 1; n <= 4; n++ {
		_, err := l.send(alice, `{"id":"`+id(n)+`","entity_type":"note","name":"same"}`)
		wantConflict(t, err)
		r := refusal(t, err)
		told := pgconn.PgError{Code: r.Code, Message: replaceID(r.Message, id(n), id(1)), Detail: r.Detail,
			Hint: r.Hint, Where: r.Where, ConstraintName: r.ConstraintName}
		if n == 1 {
			first = told
		} else if told != first {
			t.Errorf("span %d: got %+v, want %+v", n, told, first)
		}
	}
	// Its own, by the same words.
	if a := l.sent(alice, `{"id":"`+id(4)+`","entity_type":"note","name":"other"}`); a.IsNew {
		t.Errorf("got %+v", a)
	}
}

func TestIdempotencyKeyMakesOneSpan(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for name, w := range writers() {
		t.Run(name, func(t *testing.T) {
			span := `{"entity_type":"note","idempotency_key":"` + name + `"` + w.state
			first := l.sent(w.who, span+`,"name":"x"}`)
			want := uuid5(t, uuid5(t, tenantNamespace, "t1"), name)
			if first.ID != want || !first.IsNew {
				t.Errorf("got %+v, want id %s", first, want)
			}
			if again := l.sent(w.who, span+`,"name":"x"}`); again.ID != first.ID || again.IsNew {
				t.Errorf("again: got %+v", again)
			}
			_, err := l.send(w.who, span+`,"name":"y"}`)
			wantConflict(t, err)
			// The next version states its id.
			next := l.sent(w.who, span+`,"name":"y","seq":1,"id":"`+want+`"}`)
			if next.Seq != 1 || !next.IsNew {
				t.Errorf("next: got %+v", next)
			}
		})
	}
	// A key is the tenant's: another of its users means the same span; another tenant's is another.
	_, err := l.send(ann, `{"entity_type":"note","idempotency_key":"authenticated","name":"x"}`)
	wantConflict(t, err)
	if other := l.sent(bob,
		`{"entity_type":"note","idempotency_key":"authenticated","name":"x"}`); !other.IsNew {
		t.Errorf("another tenant: got %+v", other)
	}
}

// A key means the same span by whichever door it comes first, and by whichever it comes again.
func TestIdempotencyKeyUnderEveryDoor(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const columns = "(entity_type, idempotency_key, name, owner_id, tenant_id)"
	insertKey := func(who actor, key, name, then string) error {
		return l.do(who, "insert into ledger.universal_registry "+columns+
			" values ('note', $1, $2, $3, $4) "+then, key, name, "alice", "t1")
	}
	span := func(key, name string) string {
		return `{"entity_type":"note","idempotency_key":"` + key + `","name":"` + name +
			`","owner_id":"alice","tenant_id":"t1"}`
	}
	for role, who := range map[string]actor{"authenticated": alice, "service_role": service, "owner": owner} {
		t.Run(role, func(t *testing.T) {
			byInsert, byAppend, byBatch := role+" 1", role+" 2", role+" 3"
			wantCode(t, insertKey(who, byInsert, "x", ""), "")
			if a := l.sent(who, span(byAppend, "x")); !a.IsNew {
				t.Errorf("append: got %+v", a)
			}
			wantPlaces(t, l.batch(who, array(span(byBatch, "x"))), "new")
			for _, key := range []string{byInsert, byAppend, byBatch} {
				wantCode(t, insertKey(who, key, "x", ""), "23505")
				wantCode(t, insertKey(who, key, "y", "on conflict do nothing"), "")
				if a := l.sent(who, span(key, "x")); a.IsNew {
					t.Errorf("%s by append: got %+v", key, a)
				}
				_, err := l.send(who, span(key, "y"))
				wantConflict(t, err)
				wantPlaces(t, l.batch(who, array(span(key, "x"), span(key, "y"))), "old", "23505")
				if n := ask[int](l, owner, "select count(*) from ledger.universal_registry where idempotency_key = $1",
					key); n != 1 {
					t.Errorf("%s: %d rows", key, n)
				}
			}
		})
	}
	// The id of another tenant's key can be computed; it can not be taken.
	theirs := ask[string](l, bob, "select ledger.idempotency_id('t1', 'next')::text")
	for _, more := range []string{``, `,"idempotency_key":"next"`} {
		_, err := l.send(bob, `{"entity_type":"note","id":"`+theirs+`"`+more+`}`)
		wantCode(t, err, "LL007")
	}
}

// A row as PostgREST reads it, from the table or from a view, is sent again with the next seq.
func TestRowThatWasReadCanBeSentAgain(t *testing.T) {
	t.Parallel()
	l := setup(t)
	first := l.sent(alice,
		`{"entity_type":"note","name":"x","content":{"a":null},"tags":["a"],"confidence":0.25}`)
	for seq, relation := range []string{"universal_registry", "visible_timeline", "history"} {
		read := ask[string](l, alice,
			"select to_jsonb(r)::text from ledger."+relation+" r where id = $1 and seq = $2",
			first.ID, seq)
		if a := l.sent(alice, read); a.IsNew {
			t.Errorf("%s: the row itself is new: %+v", relation, a)
		}
		next := ask[string](l, owner, `select ($1::text::jsonb || jsonb_build_object('seq', $2::integer,
			'name', 'y'))::text`, read, seq+1)
		if a := l.sent(alice, next); !a.IsNew || a.Seq != seq+1 {
			t.Errorf("%s: got %+v", relation, a)
		}
	}
}

// A transaction that can not see what another has committed since is told to begin anew.
func TestAppendUnderRepeatableRead(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for n, door := range []string{
		"select ledger.append($1::text::jsonb)",
		"select ledger.append_batch(jsonb_build_array('{\"entity_type\":\"note\"}', $1::text::jsonb))",
	} {
		span := `{"id":"` + id(n) + `","entity_type":"note","owner_id":"alice","tenant_id":"t1"}`
		other := connect(t, l.db.URL)
		tx, err := other.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		run(t, other, "select count(*) from ledger.universal_registry")
		l.sent(service, span)
		_, err = tx.Exec(t.Context(), door, span)
		_ = tx.Rollback(context.Background())
		wantCode(t, err, "40001")
	}
}
