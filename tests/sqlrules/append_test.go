package sqlrules

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// appended is what ledger.append answers.
type appended struct {
	ID         string
	Seq        int
	AcceptedAt time.Time
	CurrHash   *string
	IsNew      bool
}

// send appends one span in JSON through ledger.append, in a transaction of its own.
func (l *ledger) send(who actor, span string) (appended, error) {
	var a appended
	err := l.in(who, func(tx pgx.Tx) (err error) { a, err = sendIn(l.t, tx, span); return err })
	return a, err
}

func sendIn(t testing.TB, tx pgx.Tx, span string) (a appended, err error) {
	err = tx.QueryRow(t.Context(), `select id::text, seq, accepted_at, curr_hash, is_new
		from ledger.append($1::text::jsonb)`, span).Scan(&a.ID, &a.Seq, &a.AcceptedAt, &a.CurrHash, &a.IsNew)
	return a, err
}

// sent is send of a span that the test needs.
func (l *ledger) sent(who actor, span string) appended {
	l.t.Helper()
	a, err := l.send(who, span)
	if err != nil {
		l.t.Fatalf("append %.200s: %v", span, err)
	}
	return a
}

// refusal returns the error of the database, which must be one.
func refusal(t testing.TB, err error) *pgconn.PgError {
	t.Helper()
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return refusal
}

// everything is a span that states every column that a client may state.
const everything = `{"id":"a0000000-0000-4000-9000-000000000001","seq":0,"entity_type":"note","who":"client:x",
	"did":"wrote","this":"a note",
	"at":"2026-11-23T01:02:03.456789Z","confirmed_by":"c","if_ok":"o","if_doubt":"d",
	"if_not":"n","scheduled_at":"2026-11-24T00:00:00+02:00","effective_at":"2026-11-24t00:00z",
	"expires_at":"2027-01-01T00:00:00Z","ttl_at":"2027-01-01 00:00:00.5 +0000",
	"parent_id":"a0000000-0000-4000-9000-000000000002","related_to":["A0000000-0000-4000-9000-000000000003"],
	"links":{"caused_by":null},"trace_id":"tr","session_id":"se","idempotency_key":"key","owner_id":"alice",
	"tenant_id":"t1","visibility":"tenant",
	"sensitivity":"pii","scopes":["a","b"],"app_id":"app","device_id":"dev",
	"status":"open","is_deleted":false,"reason":"why","priority":-5,"severity":"low","name":"na\u00efve 🙂",
	"description":"","kind":"k","version":"1.0","tags":[],"layer":"session","schema_id":"sch",
	"content":[null,{"a":[]},9007199254740993],"code":"1","language":"javascript","runtime":"r","timeout_ms":5,
	"input":"text","output":false,"error":{"a":1},"duration_ms":0,"value":1e3,"unit":"ms","confidence":"0.50",
	"provider_id":"a0000000-0000-4000-9000-000000000004","model":"m","tokens_in":1,"tokens_out":2,
	"cost":"0.1000000000000000055511151231257827","tool_use_count":2147483647,
	"compiled_hash":"1111111111111111111111111111111111111111111111111111111111111111",
	"curr_hash":"2222222222222222222222222222222222222222222222222222222222222222",
	"public_key":"3333333333333333333333333333333333333333333333333333333333333333","sig_alg":"ed25519-blake3-v1",
	"signature":"44444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444444",
	"sig_key_id":"did:logline:5","metadata":{"ratio":0.1,"none":null}}`

// every role that may append, and a span that it may.
func writers() map[string]struct {
	who   actor
	state string // what it must state besides
} {
	const forAlice = `,"owner_id":"alice","tenant_id":"t1"`
	return map[string]struct {
		who   actor
		state string
	}{
		"authenticated": {alice, ""},
		"governor":      {governor, ""},
		"service_role":  {service, forAlice},
		"owner":         {owner, forAlice},
	}
}

func TestAppendWritesWhatIsStated(t *testing.T) {
	t.Parallel()
	l := setup(t)
	at := time.Now().UTC().Format(time.RFC3339Nano)
	span := strings.Replace(everything, "2026-11-23T01:02:03.456789Z", at, 1)
	a := l.sent(service, span)
	if !a.IsNew || a.Seq != 0 || a.ID != id(1) || a.CurrHash == nil || *a.CurrHash != hashTwo {
		t.Errorf("got %+v", a)
	}
	// Every column that is stated has its value: by json_populate_record, which is how PostgREST inserts.
	wantLines(t, lines(l, `select s.key || ' is ' || coalesce(was.value::text, 'nothing') || ', stated ' ||
			s.value::text
		from jsonb_each($1::text::jsonb) s
		left join (select w.* from ledger.universal_registry r, jsonb_each(to_jsonb(r)) w) was using (key)
		left join jsonb_each(to_jsonb(jsonb_populate_record(null::ledger.universal_registry, $1::text::jsonb))) as
			wanted using (key)
		where was.value is distinct from wanted.value or wanted.value = 'null'`, span))
	// What this test does not state is what no client may.
	wantLines(t, lines(l, `select e.key from ledger.universal_registry r, jsonb_each(to_jsonb(r)) e
		where not $1::text::jsonb ? e.key order by 1`, span),
		"accepted_at", "attempt", "policy_id", "prev_hash", "xact")
}

func TestAppendAnswersWithTheRow(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for name, w := range writers() {
		t.Run(name, func(t *testing.T) {
			for _, span := range []string{
				`{"entity_type":"note"` + w.state + `}`,
				`{"entity_type":"note","idempotency_key":"` + name + `"` + w.state + `}`,
			} {
				a := l.sent(w.who, span)
				same := ask[bool](l, owner, `select (id, seq, accepted_at) = ($1::uuid, $2::integer, $3::timestamptz)
					and curr_hash is not distinct from $4 from ledger.universal_registry where id = $1`,
					a.ID, a.Seq, a.AcceptedAt, a.CurrHash)
				if !same || !a.IsNew {
					t.Errorf("%s: got %+v, and the row is another", span, a)
				}
			}
		})
	}
	wantCode(t, l.do(anon, "select ledger.append('{}')"), "42501")
	wantCode(t, l.do(actor{role: "loglineos_kernel"}, "select ledger.append('{}')"), "42501")
}

// A governor may not read a private row of the system, not even his own; he may write it.
func TestAppendNeedsNoRightToRead(t *testing.T) {
	t.Parallel()
	l := setup(t)
	a := l.sent(governor, `{"entity_type":"note","owner_id":"system","tenant_id":"system"}`)
	if ask[int](l, governor, "select count(*) from ledger.universal_registry where id = $1", a.ID) != 0 {
		t.Error("the row can be read: this test proves nothing")
	}
	if !a.IsNew || ask[int](l, owner, "select count(*) from ledger.universal_registry where accepted_at = $1",
		a.AcceptedAt) != 1 {
		t.Errorf("got %+v, and no such row", a)
	}
	for _, p := range l.batch(governor, `[{"entity_type":"note","owner_id":"system","tenant_id":"system"},
		{"entity_type":"note","owner_id":"system","tenant_id":"system"}]`) {
		if !p.IsNew || p.Error != nil {
			t.Errorf("batch: got %+v", p)
		}
	}
}

func TestAppendRefusesMalformedSpans(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, c := range []struct{ name, span, message, hint string }{
		{"an array", `[]`, "no JSON object", "p_span"},
		{"text", `"note"`, "no JSON object", "p_span"},
		{"a number", `5`, "no JSON object", "p_span"},
		{"JSON null", `null`, "no JSON object", "p_span"},
		{"an unknown key", `{"entity_type":"note","colour":"red"}`, "key colour is no column", "metadata"},
		{"camel case", `{"entityType":"note"}`, "key entityType is no column", "Did you mean entity_type?"},
		{"half a name", `{"entity_type":"note","tenant":"t1"}`, "key tenant is no column", "tenant_id?"},
		{"an unknown key that is null", `{"entity_type":"note","colour":null}`, "", ""},
		{"an empty key", `{"entity_type":"note","":1}`, "key  is no column", "metadata"},
		{"a system column", `{"entity_type":"note","ctid":"(0,1)"}`, "key ctid is no column", "metadata"},
		{"a long key", `{"entity_type":"note","` + strings.Repeat("k", 5000) + `":1}`,
			"key " + strings.Repeat("k", 63) + " is no column", "metadata"},
		{"a number for text", `{"entity_type":"note","name":5}`, "key name: wanted a string", "name"},
		{"an object for text", `{"entity_type":"note","name":{"a":1}}`, "key name: wanted a string", "name"},
		{"text for a number", `{"entity_type":"note","priority":"5"}`,
			"key priority: wanted a whole number of 32 bits", "priority"},
		{"a fraction", `{"entity_type":"note","seq":0.5}`, "key seq: wanted a whole number of 32 bits", "seq"},
		{"33 bits", `{"entity_type":"note","seq":2147483648}`, "key seq: wanted a whole number of 32 bits", "seq"},
		{"text for a boolean", `{"entity_type":"note","is_deleted":"false"}`,
			"key is_deleted: wanted true or false", ""},
		{"a number for a boolean", `{"entity_type":"note","is_deleted":0}`, "key is_deleted: wanted true or false",
			""},
		{"no UUID", `{"entity_type":"note","id":"1"}`, "key id: wanted a UUID in a string", "id"},
		{"a number for a UUID", `{"entity_type":"note","parent_id":1}`, "key parent_id: wanted a UUID", ""},
		{"text for an array", `{"entity_type":"note","tags":"{a,b}"}`, "key tags: wanted an array of strings", ""},
		{"numbers in an array", `{"entity_type":"note","tags":["a",1]}`, "key tags: wanted an array of strings",
			""},
		{"null in an array", `{"entity_type":"note","tags":["a",null]}`, "key tags: wanted an array of strings",
			""},
		{"an array in an array", `{"entity_type":"note","tags":[["a"]]}`, "key tags: wanted an array of strings",
			""},
		{"no UUID in an array", `{"entity_type":"note","related_to":["a"]}`,
			"key related_to: wanted an array of UUIDs", ""},
		{"no decimal", `{"entity_type":"note","confidence":"much"}`, "key confidence: wanted a number, or one", ""},
		{"a boolean for a decimal", `{"entity_type":"note","confidence":true}`, "key confidence: wanted a number",
			""},
		{"a time without offset", `{"entity_type":"note","at":"2026-11-23T01:02:03"}`, "key at: wanted a time",
			"Write it like"},
		{"a day", `{"entity_type":"note","scheduled_at":"2026-11-23"}`, "key scheduled_at: wanted a time",
			"Write it like"},
		{"a time that moves", `{"entity_type":"note","at":"now"}`, "key at: wanted a time", "Write it like"},
		{"no time", `{"entity_type":"note","at":"2026-13-41T25:00:00Z"}`, "key at: wanted a time", "Write it like"},
		{"milliseconds", `{"entity_type":"note","at":1795000000000}`, "key at: wanted a time", "Write it like"},
		{"infinity", `{"entity_type":"note","ttl_at":"infinity"}`, "key ttl_at: wanted a time", "Write it like"},
		{"year 300000", `{"entity_type":"note","ttl_at":"300000-01-01T00:00:00Z"}`, "key ttl_at: wanted a time",
			""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := l.send(alice, c.span)
			if c.message == "" {
				wantCode(t, err, "")
				return
			}
			wantCode(t, err, "LL017")
			if r := refusal(t, err); !strings.Contains(r.Message, c.message) || !strings.Contains(r.Hint, c.hint) {
				t.Errorf("got message %q, hint %q; want %q, %q", r.Message, r.Hint, c.message, c.hint)
			}
		})
	}
	wantCode(t, l.do(alice, "select ledger.append(null)"), "LL017")
}

// The list of what columns take is that of the table.
func TestAppendKnowsEveryColumn(t *testing.T) {
	t.Parallel()
	l := setup(t)
	good := map[string][]string{
		"text": {`"a"`, `""`}, "uuid": {`"a0000000-0000-4000-9000-000000000001"`}, "integer": {`0`, `-1`, `1e2`},
		"numeric": {`1`, `0.1`, `"0.1"`}, "boolean": {`true`}, "text[]": {`[]`, `["a"]`},
		"uuid[]": {`[]`, `["a0000000-0000-4000-9000-000000000001"]`}, "jsonb": {`{}`, `[1]`, `"a"`, `1`, `true`},
		"timestamp with time zone": {`"2026-11-23T00:00:00Z"`},
	}
	bad := map[string][]string{
		"text": {`1`, `true`, `{}`, `[]`}, "uuid": {`1`, `"x"`, `true`, `{}`, `[]`},
		"integer": {`"1"`, `1.5`, `true`, `{}`, `[]`}, "numeric": {`"x"`, `true`, `{}`, `[]`},
		"boolean": {`"true"`, `1`, `{}`, `[]`}, "text[]": {`"{}"`, `1`, `true`, `{}`, `[1]`},
		"uuid[]": {`"{}"`, `1`, `true`, `{}`, `["x"]`}, "timestamp with time zone": {`"x"`, `1`, `true`, `{}`,
			`[]`},
	}
	columns := lines(l, `select attname || ' ' || format_type(atttypid, null) from pg_attribute
		where attrelid = 'ledger.universal_registry'::regclass and attnum > 0 and not attisdropped
		and attname not in ('accepted_at', 'xact')`)
	if len(columns) < 60 {
		t.Fatalf("the table has %d columns", len(columns))
	}
	for _, column := range columns {
		name, kind, _ := strings.Cut(column, " ")
		if good[kind] == nil {
			t.Errorf("%s is of type %s, which append does not know", name, kind)
		}
		try := func(value, code string) {
			span := fmt.Sprintf(`{"%s":%s}`, name, value)
			if err := l.do(alice, "select ledger_private.typed(array[$1::text::jsonb])", span); !sameCode(err, code) {
				t.Errorf("%s: got %v, want %q", span, err, code)
			}
		}
		for _, value := range good[kind] {
			// A number and a key that a tenant may not have are refused later, or by the id that they would make.
			if name != "idempotency_key" || value != `""` {
				try(value, "")
			}
		}
		for _, value := range bad[kind] {
			try(value, "LL017")
		}
	}
}

// What the guards refuse in a plain INSERT they refuse here.
func TestAppendIsJudgedAsAnInsert(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for _, c := range []struct {
		name string
		who  actor
		span string
		code string
	}{
		{"no claims", nobody, `{"entity_type":"note"}`, "LL005"},
		{"no claims, with a key", nobody, `{"entity_type":"note","idempotency_key":"k"}`, "LL005"},
		{"another's", alice, `{"entity_type":"note","owner_id":"ann"}`, "LL006"},
		{"another's, in metadata", alice, `{"entity_type":"note","metadata":{"owner_id":"ann"}}`, "LL006"},
		{"another tenant's, in metadata", alice, `{"entity_type":"note","metadata":{"tenant_id":"t2"}}`, "LL006"},
		{"the system's, in metadata", alice, `{"entity_type":"note","metadata":{"tenant_id":"system"}}`, "LL006"},
		{"an owner that a backend was given", service,
			`{"entity_type":"note","tenant_id":"t1","metadata":{"owner_id":"ann"}}`, "LL005"},
		{"a tenant that a backend was given", service,
			`{"entity_type":"note","owner_id":"ann","metadata":{"tenant_id":"t1"}}`, "LL005"},
		{"the system's", service, `{"entity_type":"note","owner_id":"system","tenant_id":"system"}`, "LL006"},
		{"the engine's", alice, `{"entity_type":"execution"}`, "LL004"},
		{"a derived id", alice, `{"entity_type":"note","id":"01920000-0000-8000-9000-000000000001"}`, "LL007"},
		{"who", alice, `{"entity_type":"note","who":"kernel:run_code"}`, "LL008"},
		{"metadata.engine", alice, `{"entity_type":"note","metadata":{"engine":{}}}`, "LL009"},
		{"public", alice, `{"entity_type":"note","visibility":"public"}`, "LL010"},
		{"long ago, in metadata", alice, `{"entity_type":"note","metadata":{"ts":"2020-01-01T00:00:00Z"}}`,
			"LL011"},
		{"long ago", alice, `{"entity_type":"note","when":"2020-01-01T00:00:00Z"}`, "LL011"},
		{"a hash and no id", alice, `{"entity_type":"note","digest":"b3:` + hashOne + `"}`, "LL016"},
		{"a hash and a key", alice, `{"entity_type":"note","idempotency_key":"k","curr_hash":"` + hashOne + `"}`,
			"LL016"},
		{"a gap", alice, `{"id":"` + id(1) + `","seq":3,"entity_type":"note"}`, "LL002"},
		{"no type", alice, `{}`, "LL017"},
		{"too long", alice, `{"entity_type":"note","who":"` + strings.Repeat("x", 2000) + `"}`, "LL017"},
		{"a key too long", alice, `{"entity_type":"note","idempotency_key":"` + strings.Repeat("x", 257) + `"}`,
			"LL017"},
		{"an empty key", alice, `{"entity_type":"note","idempotency_key":""}`, "LL017"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := l.send(c.who, c.span)
			wantCode(t, err, c.code)
			placed := l.batch(c.who, "["+c.span+"]")
			if len(placed) != 1 || placed[0].Error == nil || placed[0].Error.Code != c.code ||
				placed[0].Error.Message != refusal(t, err).Message || placed[0].Error.Hint != refusal(t, err).Hint {
				t.Errorf("in a batch: got %+v, want %v", placed, err)
			}
		})
	}
	if rows := ask[int](l, owner, "select count(*) from ledger.universal_registry"); rows != 0 {
		t.Errorf("%d rows were written", rows)
	}
}

// What metadata states for a column is told by its key, since nobody has stated the column. A backend that
// states both itself passes its user's metadata on.
func TestAppendNamesMetadata(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for column, span := range map[string]string{
		"owner_id":  `{"entity_type":"note","metadata":{"owner_id":"ann"}}`,
		"tenant_id": `{"entity_type":"note","metadata":{"tenant_id":"t2"}}`,
	} {
		_, err := l.send(alice, span)
		if r := refusal(t, err); !strings.Contains(r.Message, "metadata."+column) ||
			!strings.Contains(r.Hint, "Leave "+column+" out of metadata") {
			t.Errorf("alice: %s %q, want metadata.%s named", r.Message, r.Hint, column)
		}
		_, err = l.send(service, span)
		if r := refusal(t, err); r.Code != "LL005" || !strings.Contains(r.Message, "metadata."+column) {
			t.Errorf("a backend: %v, want LL005 about metadata.%s", r, column)
		}
	}
	_, err := l.send(service, `{"entity_type":"note","owner_id":"ann","tenant_id":"t2",
		"metadata":{"owner_id":"ann","tenant_id":"t2"}}`)
	wantCode(t, err, "")
}

// placed is one answer of ledger.append_batch.
type placed struct {
	Place int
	appended
	Error *struct{ Code, Message, Detail, Hint string }
}

func (l *ledger) batch(who actor, spans string) []placed {
	l.t.Helper()
	var all []placed
	err := l.in(who, func(tx pgx.Tx) (err error) { all, err = batchIn(l.t, tx, spans); return err })
	if err != nil {
		l.t.Fatalf("append batch as %s: %v", who.role, err)
	}
	return all
}

func batchIn(t testing.TB, tx pgx.Tx, spans string) ([]placed, error) {
	rows, err := tx.Query(t.Context(), `select place, coalesce(id::text, ''), coalesce(seq, -1),
		coalesce(accepted_at, 'epoch'), curr_hash, is_new, error from ledger.append_batch($1::text::jsonb)`, spans)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p placed, err error) {
		var told []byte
		err = row.Scan(&p.Place, &p.ID, &p.Seq, &p.AcceptedAt, &p.CurrHash, &p.IsNew, &told)
		if err == nil && told != nil {
			err = json.Unmarshal(told, &p.Error)
		}
		return p, err
	})
}
