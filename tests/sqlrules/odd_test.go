package sqlrules

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What becomes of odd data, one row each; docs/reference/odd-data.md tells the same.
func TestOddData(t *testing.T) {
	t.Parallel()
	l := setup(t)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	long := func(n int) string { return strings.Repeat("x", n) }
	hundred := "{" + strings.TrimSuffix(strings.Repeat("tag,", 100), ",") + "}"
	for _, c := range []struct {
		name, column string
		value        any
		code         string
		stored       string // as text, where it is not as sent
	}{
		{"NUL in text", "name", "a\x00b", "22021", ""},
		{"NUL in JSON", "content", `"\u0000"`, "22P05", ""},
		{"a lone high surrogate", "content", `"\ud800"`, "22P02", ""},
		{"a lone low surrogate", "content", `"\udc00x"`, "22P02", ""},
		{"a surrogate pair", "content", `"\ud83d\ude00"`, "", `"😀"`},
		{"bytes that are not UTF-8", "name", "\xff", "22021", ""},
		{"1e400", "content", `1e400`, "LL017", ""},
		{"-1e309 deep in an object", "metadata", `{"a":[{"b":-1e309}]}`, "LL017", ""},
		{"1e131071", "input", `{"n":1e131071}`, "LL017", ""},
		{"the greatest double", "content", `1.7976931348623157e308`, "",
			"17976931348623157" + strings.Repeat("0", 292)},
		{"a bit more", "content", `1.7976931348623158e308`, "LL017", ""},
		{"the least double", "content", `5e-324`, "", "0." + strings.Repeat("0", 323) + "5"},
		{"less than the least double", "content", `1e-324`, "LL017", ""},
		{"minus less than the least double", "content", `{"a":-4e-324}`, "LL017", ""},
		{"0e-9999", "content", `{"a":` + `0e-9999` + `,"b":"` + long(9000) + `"}`, "LL017", ""},
		{"400 decimals", "content", `0e-400`, "", "0." + strings.Repeat("0", 400)},
		{"401 decimals", "content", `0e-401`, "LL017", ""},
		{"401 decimals deep in links", "links", `{"a":[{"b":0e-401}]}`, "LL017", ""},
		{"9007199254740993", "content", `9007199254740993`, "", ""},
		{"0.1", "content", `0.1`, "", ""},
		{"a key twice", "content", `{"a":1,"a":2}`, "", `{"a": 2}`},
		{"JSON null", "content", `null`, "", ""},
		{"64 arrays deep", "content", deep(64), "", ""},
		{"65 arrays deep", "content", deep(65), "LL017", ""},
		{"an object in 64 arrays", "output", strings.Repeat("[", 64) + `{}` + strings.Repeat("]", 64), "LL017", ""},
		{"a scalar in 64 arrays", "error", strings.Repeat("[", 64) + `1` + strings.Repeat("]", 64), "", ""},
		{"65 deep in links", "links", `{"a":` + deep(64) + `}`, "LL017", ""},

		{"at infinity", "at", "infinity", "LL011", ""},
		{"scheduled_at infinity", "scheduled_at", "infinity", "LL017", ""},
		{"scheduled_at -infinity", "scheduled_at", "-infinity", "LL017", ""},
		{"year 9999", "expires_at", "9999-12-31 23:59:59.999999+00", "", "9999-12-31 23:59:59.999999+00"},
		{"year 10000", "expires_at", "10000-01-01 00:00:00+00", "LL017", ""},
		{"year 294276", "expires_at", "294276-12-31 00:00:00+00", "LL017", ""},
		{"year 300000", "expires_at", "300000-01-01 00:00:00+00", "22008", ""},
		{"BC", "effective_at", "0001-01-01 00:00:00+00 BC", "LL017", ""},
		{"NaN", "value", "NaN", "LL017", ""},
		{"Infinity", "value", "Infinity", "LL017", ""},
		{"-Infinity", "cost", "-Infinity", "LL017", ""},
		{"NaN confidence", "confidence", "NaN", "LL017", ""},

		{"an empty name", "name", "", "", ""},
		{"an empty owner_id", "owner_id", "", "LL006", ""},
		{"an empty trace_id", "trace_id", "", "LL017", ""},
		{"an empty status", "status", "", "LL017", ""},
		{"1000 characters", "did", strings.Repeat("😀", 1000), "", ""},
		{"1001 characters", "did", strings.Repeat("😀", 1001), "LL017", ""},
		{"emoji of several code points", "name", "👩‍👩‍👧‍👦", "", ""},
		{"bidi controls", "name", "a\u202eb\u2066c", "", ""},
		{"NFC", "name", "\u00e9", "", ""},
		{"NFD", "name", "e\u0301", "", ""},
		{"a tab and a line", "this", "a\tb\nc", "", ""},

		{"an empty array", "tags", "{}", "", ""},
		{"a nested array", "tags", "{{a},{b}}", "LL017", ""},
		{"an array from 5", "tags", "[5:6]={a,b}", "LL017", ""},
		{"an array from 0", "related_to", "[0:0]={" + id(1) + "}", "LL017", ""},
		{"an array from 1, said so", "tags", "[1:2]={a,b}", "", "{a,b}"},
		{"an array with null", "scopes", "{a,NULL}", "LL017", ""},
		{"the word NULL", "scopes", `{a,"NULL"}`, "", ""},
		{"braces in an element", "tags", `{"{{a"}`, "", ""},
		{"100 tags", "tags", hundred, "", ""},
		{"1000 tags", "tags", "{" + strings.TrimSuffix(strings.Repeat("a,", 1000), ",") + "}", "", ""},
		{"1001 tags", "tags", "{" + strings.TrimSuffix(strings.Repeat("a,", 1001), ",") + "}", "LL017", ""},
		{"1001 nulls", "related_to", "{" + strings.Repeat("NULL,", 1000) + "NULL}", "LL017", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := l.in(alice, func(tx pgx.Tx) error {
				var got *string
				err := tx.QueryRow(t.Context(), fmt.Sprintf(`insert into ledger.universal_registry (entity_type, %s)
					values ('note', $1::text::%s) returning %s::text`, c.column, typeOf(c.column), c.column),
					fmt.Sprint(c.value)).Scan(&got)
				if err == nil && (got == nil || *got != firstOf(c.stored, fmt.Sprint(c.value))) {
					t.Errorf("stored as %.80q", *got)
				}
				return err
			})
			wantCode(t, err, c.code)
		})
	}
}

func firstOf(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

func typeOf(name string) string {
	for _, column := range span.Columns {
		if column.Name == name {
			return column.Type
		}
	}
	panic("no column " + name)
}

// 900 KB go in, in one column and in several; 1 MiB and a byte do not, whatever they are as stored.
func TestSizes(t *testing.T) {
	t.Parallel()
	l := setup(t)
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	object := func(n int) string { return `{"a": ` + text(n-7) + `}` }
	for _, c := range []struct {
		name string
		span []any
		code string
	}{
		{"900 KB in one column", []any{"content", text(900_000)}, ""},
		{"900 KB in six", []any{"content", text(300_000), "input", text(150_000),
			"code", strings.Repeat("x", 200_000),
			"metadata", object(200_000), "output", text(50_000)}, ""},
		{"1 MiB in several", []any{"content", text(600_000), "input", text(300_000),
			"output", text(200_000)}, "LL017"},
		{"1 MiB in one column", []any{"content", text(1 << 20)}, "LL017"},
		{"metadata of 256 KiB", []any{"metadata", object(256 << 10)}, ""},
		{"metadata of 256 KiB and a byte", []any{"metadata", object(256<<10 + 1)}, "LL017"},
		{"many short numbers", []any{"content", "[" + strings.Repeat("1, ", 300_000) + "1]"}, ""},
		{"many numbers of 301 digits", []any{"content", "[" + strings.Repeat("1e300,", 4000) + "1]"}, "LL017"},
		{"a megabyte of 1e131071", []any{"content", "[" + strings.Repeat("1e131071,", 100_000) + "1]"}, "LL017"},
		{"a megabyte of 0e-9999", []any{"content", "[" + strings.Repeat("0e-9999,", 100_000) + "1]"}, "LL017"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantCode(t, l.append(alice, with([]any{"entity_type", "note"}, c.span...)...), c.code)
		})
	}
	const rest = "insert into ledger.universal_registry (entity_type, content) " +
		"values ('note', to_jsonb(repeat('x', $1)))"
	overhead := len("note") + len("user:alice") + len("alice") + len("t1") + len("private") + len(`""`)
	wantCode(t, l.do(alice, rest, 1<<20-overhead), "")
	wantCode(t, l.do(alice, rest, 1<<20-overhead+1), "LL017")
}

// What comes out of a table may be compressed: a limit counts what a reader gets.
func TestSizesOfCompressedValues(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, `create table public.staging (j jsonb, t text)`)
	run(t, l.conn, "alter table public.staging alter t set storage main, alter j set storage main")
	run(t, l.conn, "alter table public.staging set (toast_tuple_target = 128)")
	run(t, l.conn, "grant select, insert on public.staging to authenticated")
	for _, c := range []struct{ column, staged, code string }{
		{"name", "null, repeat('x', 1001)", "LL017"},
		{"trace_id", "null, repeat('x', 257)", "LL017"},
		{"kind", "null, repeat('x', 129)", "LL017"},
		{"kind", "null, repeat('x', 128)", ""},
		{"code", "null, repeat('x', 262145)", "LL017"},
		{"description", "null, repeat('x', 20001)", "LL017"},
		{"content", "to_jsonb(repeat('x', 1048576)), null", "LL017"},
		{"content", "to_jsonb(repeat('x', 900000)), null", ""},
		{"content", "(repeat('[', 65) || repeat(']', 65))::jsonb, null", "LL017"},
		{"metadata", "jsonb_build_object('a', repeat('x', 262144)), null", "LL017"},
	} {
		t.Run(c.column+" "+c.staged, func(t *testing.T) {
			source := "t"
			if strings.HasSuffix(c.staged, ", null") {
				source = "j"
			}
			wantCode(t, l.in(alice, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), "insert into public.staging select "+c.staged); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), fmt.Sprintf(`insert into ledger.universal_registry (entity_type, %s)
					select 'note', %s from public.staging`, c.column, source))
				return err
			}), c.code)
			run(t, l.conn, "truncate public.staging")
		})
	}
}

// A rule is named as a check of the table would be.
func TestMalformedNamesItsCheck(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for rule, span := range map[string][]any{
		"status":   {"status", "not so"},
		"metadata": {"metadata", "[]"},
		"tags":     {"tags", "{{a}}"},
		"curr_hash": {"curr_hash", "x", "id", id(1), "seq", 0, "who", "user:alice", "at", "now",
			"owner_id", "alice", "tenant_id", "t1", "visibility", "private", "is_deleted", false},
		"seq":         {"seq", -1},
		"entity_type": {"entity_type", nil},
		"span":        {"content", `"` + strings.Repeat("x", 1<<20) + `"`},
	} {
		var refusal *pgconn.PgError
		err := l.append(alice, with([]any{"entity_type", "note"}, span...)...)
		column := rule
		if rule == "span" {
			column = "" // it is all of them
		}
		if !errors.As(err, &refusal) || refusal.Code != "LL017" || refusal.ColumnName != column ||
			refusal.ConstraintName != "universal_registry_"+rule+"_check" ||
			refusal.TableName != "universal_registry" || refusal.SchemaName != "ledger" {
			t.Errorf("%s: got %+v", rule, err)
		}
		if rule == "span" && !strings.Contains(refusal.Message, ": the whole span:") {
			t.Errorf("the whole span is told as %q", refusal.Message)
		}
	}
}
