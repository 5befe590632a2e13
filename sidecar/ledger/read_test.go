package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// odd is text that a careless encoding breaks.
const odd = "ž 𝕌👩‍👩‍👧 \u2028 \\ \\\\ \" ' '' {,} \t\r\n \x7f $1 %s NULL é e\u0301"

// full returns a request's version 1 with every column set that a writer may set.
func full(t testing.TB, first *span.Span) *span.Span {
	t.Helper()
	s := &span.Span{}
	for _, column := range span.Columns {
		text := odd
		switch column.Type {
		case "uuid":
			text = idOf(0xabc).String()
		case "integer":
			text = "2147483647"
		case "boolean":
			text = "false"
		case "numeric":
			text = "12345678901234567890.123450"
		case "timestamptz":
			text = "1999-12-31 23:59:59.999999+00"
		case "jsonb":
			text = `{"a": [1, 2.5, null, "` + "\U0001d54c\u2028" + `\"\\"], "": {"b": -1e-7}}`
		case "uuid[]":
			text = fmt.Sprintf("[%q, %q]", idOf(1), idOf(2))
		case "text[]":
			text = `["", "NULL", "null", "a,b", "{}", "\"q\"", "\\", " x ", "𝕌\u2028"]`
		}
		if err := column.SetText(s, text); err != nil {
			t.Fatal(err)
		}
	}
	s.ID, s.Seq, s.EntityType, s.Status = first.ID, 1, "request", new("running")
	s.OwnerID, s.TenantID, s.Visibility = "alice", "t1", "tenant"
	s.Sensitivity, s.Layer, s.TimeoutMs = new("pii"), new("session"), new(86400000)
	s.Confidence = new(span.Decimal("0.12"))
	hash := strings.Repeat("0f", 32)
	s.CompiledHash, s.PublicKey = &hash, new(strings.Repeat("a1", 32))
	for _, short := range []**string{&s.Severity, &s.Kind, &s.Version, &s.Language, &s.Runtime, &s.Unit,
		&s.SigAlg} {
		*short = new("𝕌'\\\"")
	}
	s.ParentID, s.Xact, s.AcceptedAt = first.ParentID, nil, nil
	if err := s.Seal(first.CurrHash); err != nil {
		t.Fatal(err)
	}
	s.Signature = new(strings.Repeat("0f", 64))
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantSame compares every column; JSON by value.
func wantSame(t *testing.T, door string, got, want *span.Span, except ...string) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s: no span", door)
	}
	for _, column := range span.Columns {
		a, hasA := column.Text(got)
		b, hasB := column.Text(want)
		if column.Type == "jsonb" && hasA && hasB {
			a, b = canonicalJSON(t, a), canonicalJSON(t, b)
		}
		if column.Name == "xact" || column.Name == "accepted_at" {
			if !hasA {
				t.Errorf("%s: the database set no %s", door, column.Name)
			}
			continue
		}
		if (a != b || hasA != hasB) && !slices.Contains(except, column.Name) {
			t.Errorf("%s: column %s: got %q (%v), want %q (%v)", door, column.Name, a, hasA, b, hasB)
		}
	}
}

func canonicalJSON(t *testing.T, text string) string {
	t.Helper()
	var value any
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(encoded), "-1e-7", "-0.0000001")
}

func TestEveryColumnComesBackThroughEveryDoor(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 4)
	first := note(t, idOf(7), request, func(s *span.Span) { s.ParentID = new(idOf(0xabc)) })
	mustAppend(t, l, Group{Rows: []*span.Span{first}})
	want := full(t, first)
	mustAppend(t, l, Group{Fence: want})
	if len(span.Columns) != 70 {
		t.Fatalf("%d columns", len(span.Columns))
	}

	loaded, err := l.Load(t.Context(), []span.Key{want.Key(), {ID: want.ID, Seq: 9}, {ID: idOf(8)}})
	if err != nil || len(loaded) != 1 {
		t.Fatalf("got %d spans, %v", len(loaded), err)
	}
	wantSame(t, "Load", loaded[want.Key()], want)
	if err := loaded[want.Key()].VerifyHash(); err != nil {
		t.Errorf("the hash of what was read: %v", err)
	}
	if got := *loaded[want.Key()].AcceptedAt; !got.Equal(want.AcceptedAt.Time) {
		t.Errorf("Append said accepted_at %s, the table says %s", want.AcceptedAt, got)
	}
	latest, err := l.Latest(t.Context(), []span.ID{want.ID, idOf(8)})
	if err != nil || len(latest) != 1 {
		t.Fatalf("got %d spans, %v", len(latest), err)
	}
	wantSame(t, "Latest", latest[want.ID], want)
	requests, err := l.Requests(t.Context(), []span.ID{want.ID, idOf(8)})
	if err != nil || len(requests) != 1 {
		t.Fatalf("got %d spans, %v", len(requests), err)
	}
	wantSame(t, "Requests", requests[want.ID], want, "input", "metadata") // those of version 0
	if string(requests[want.ID].Input) != `{"n": 1}` {
		t.Errorf("Requests: the input is %s, want that of version 0", requests[want.ID].Input)
	}
	found, err := find(t, l, Scope{UserID: "alice", TenantID: "t1"},
		equal("id", want.ID.String()), 10)
	if err != nil || len(found) != 1 {
		t.Fatalf("got %d spans, %v", len(found), err)
	}
	wantSame(t, "Find", found[0], want)
	claims := map[string]any{"sub": "alice", "app_metadata": map[string]any{"tenant_id": "t1"}}
	err = (&Owner{conn}).As(t.Context(), claims, func(alice *User) error {
		traced, err := alice.Trace(t.Context(), odd)
		if err == nil && len(traced) == 1 {
			wantSame(t, "Trace", traced[0], want)
			return nil
		}
		return fmt.Errorf("trace %d spans: %w", len(traced), err)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEmptyArraysAndNullsStayApart(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	empty := note(t, idOf(1), func(s *span.Span) { s.Tags, s.RelatedTo = []string{}, []span.ID{} })
	absent := note(t, idOf(2))
	mustAppend(t, l, Group{Rows: []*span.Span{empty, absent}}) // one statement: the column is there for both
	got, err := l.Latest(t.Context(), []span.ID{empty.ID, absent.ID})
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "empty", got[empty.ID], empty)
	wantSame(t, "absent", got[absent.ID], absent)
}

func TestValidateRefusesNULBeforePostgresDoes(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	for name, change := range map[string]func(*span.Span){
		"text": func(s *span.Span) { s.Name = new("a\x00b") },
		"json": func(s *span.Span) { s.Input = json.RawMessage(`{"a":"\u0000"}`) },
		"tags": func(s *span.Span) { s.Tags = []string{"\x00"} },
	} {
		s := note(t, idOf(1))
		change(s)
		if err := s.Validate(); err == nil {
			t.Errorf("%s: Validate takes a NUL", name)
		}
		outcomes, err := l.Append(t.Context(), []Group{{Rows: []*span.Span{s}}})
		if err != nil || outcomes[0].Err == nil {
			t.Errorf("%s: Postgres: %+v, %v", name, outcomes, err)
		}
	}
}

func TestOpenRequestsComeInPagesAndOnlyOpenOnes(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	statuses := []string{"", "running", "complete", "error", "cancelled", "dead", "blocked"}
	for i := range 21 {
		first := note(t, idOf(i+1), request)
		mustAppend(t, l, Group{Rows: []*span.Span{first}})
		if status := statuses[i%len(statuses)]; status != "" {
			mustAppend(t, l, Group{Fence: next(t, first, status)})
		}
	}
	var seen []span.ID
	for i := range 3 {
		seen = append(seen, idOf(7*i+1), idOf(7*i+2), idOf(7*i+7))
	}
	want(t, "open", openIDs(t, l, "t1", 2), seen)
}

func TestFindSeesWhatItsScopeMayRead(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	var rows []*span.Span
	for i, w := range []struct{ owner, tenant, visibility string }{
		{"alice", "t1", "private"}, {"bob", "t1", "private"}, {"bob", "t1", "tenant"},
		{"alice", "t2", "private"}, {"eve", "t2", "tenant"}, {"system", "system", "public"},
	} {
		rows = append(rows, note(t, idOf(i+1), func(s *span.Span) {
			s.OwnerID, s.TenantID, s.Visibility, s.Name = w.owner, w.tenant, w.visibility, new(fmt.Sprint(i))
		}))
	}
	mustAppend(t, l, Group{Rows: rows})
	for scope, want := range map[Scope]string{
		{UserID: "alice", TenantID: "t1"}: "0 2 5", {UserID: "bob", TenantID: "t1"}: "1 2 5",
		{UserID: "alice", TenantID: "t2"}: "3 4 5", {UserID: "eve", TenantID: "t3"}: "5",
		{UserID: "", TenantID: "t1"}: "", {UserID: "system", TenantID: "system"}: "5",
	} {
		found, err := find(t, l, scope, equal("entity_type", "note"), 100)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range found {
			names = append(names, *s.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%v finds %q, want %q", scope, got, want)
		}
	}
	alice := Scope{UserID: "alice", TenantID: "t1"}
	if _, err := find(t, l, alice, equal("code", "x"), 1); !errors.Is(err, ErrFilter) {
		t.Errorf("got %v", err)
	}
	found, err := find(t, l, Scope{UserID: "alice", TenantID: "t1"},
		equal("name", "0", "2", "1"), 1)
	if err != nil || len(found) != 1 {
		t.Errorf("a limit of 1 gives %d, %v", len(found), err)
	}
}

func TestQueryReadsOnlyAndIsBounded(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	scope := Scope{UserID: "alice", TenantID: "t1"}
	mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(1)),
		note(t, idOf(2), func(s *span.Span) { s.OwnerID = "bob" })}})
	rows, err := l.Query(t.Context(), scope, `select id, seq, at, is_deleted, value, metadata, tags
		from ledger.visible_timeline where entity_type = $1 and seq = $2`, []any{"note", 0.0}, 10)
	if err != nil || len(rows) != 1 {
		t.Fatalf("got %v, %v: want one row, the own one", rows, err)
	}
	encoded, err := json.Marshal(rows[0])
	if err != nil || !strings.Contains(string(encoded), `"id":"`+idOf(1).String()+`"`) ||
		!strings.Contains(string(encoded), `"seq":0`) || !strings.Contains(string(encoded), `Z"`) {
		t.Errorf("a row in JavaScript is %s, %v: want ids and times as texts", encoded, err)
	}
	if _, err := l.Query(t.Context(), scope, "select generate_series(1, 11)", nil, 10); !errors.Is(err,
		ErrTooManyRows) {
		t.Errorf("11 rows of 10: %v", err)
	}
	if rows, err := l.Query(t.Context(), scope, "select generate_series(1, 10)", nil, 10); err != nil ||
		len(rows) != 10 {
		t.Errorf("10 rows of 10: %v", err)
	}
	if _, err := l.Query(t.Context(), scope, longStatement, nil, 10); !errors.Is(err,
		ErrStatementTimeout) {
		t.Errorf("a long statement: %v", err)
	}
	for _, write := range []string{
		"insert into ledger.universal_registry (entity_type) values ('note')", "create table x (y int)",
		"create temp table x (y int)", "select 1; select 2", "select * from engine.cursor",
		"delete from ledger.history",
	} {
		if _, err := l.Query(t.Context(), scope, write, nil, 10); !IsRefusal(err) && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v", write, err)
		}
	}
	if n := ask[int](t, conn, "select count(*) from ledger.universal_registry"); n != 2 {
		t.Errorf("%d rows", n)
	}
}

const longStatement = "select count(*) from generate_series(1, 10000000000)"

// What a kernel's statement sets ends with it: the connection goes back to everybody's pool.
func TestQueryLeavesNoTraceInItsSession(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	alice := Scope{UserID: "alice", TenantID: "t1"}
	for _, statement := range []string{
		"set role " + KernelRole, "select set_config('role', '" + KernelRole + "', false)",
		"set statement_timeout = 1", "set timezone = 'Asia/Tokyo'", "commit", "rollback",
		"select set_config('app.user_id', 'bob', false)", "set default_transaction_read_only = on",
	} {
		for range 4 {
			_, _ = rawly(t.Context(), l, alice, statement) // may be refused: as well
		}
	}
	for i := range 4 {
		mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(i+1))}})
		said, err := rawly(t.Context(), l, alice, `select current_user::text as "user",
			current_setting('timezone') as zone, current_setting('app.user_id') as me`)
		if err != nil || said != "[map[me:alice user:"+KernelRole+" zone:UTC]]" {
			t.Fatalf("got %s, %v", said, err)
		}
	}
}

// equal filters on one column.
func equal(column string, values ...string) Filter {
	return Filter{Equal: map[string][]string{column: values}}
}
