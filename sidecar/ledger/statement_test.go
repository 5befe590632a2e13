package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rawly runs a statement under scope without looking at it: what Query would be without its check.
func rawly(ctx context.Context, l *Ledger, scope Scope, text string) (said string, err error) {
	err = l.within(ctx, scope, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, text)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, pgx.RowToMap)
		said = fmt.Sprint(list)
		return err
	})
	if err != nil {
		said += err.Error()
	}
	return said, err
}

// TestAStatementCannotLeaveItsTenant tries to read bob's row as alice. Those marked reach it where the
// statement is not looked at: so the check stops them.
func TestAStatementCannotLeaveItsTenant(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(1)), note(t, idOf(2), func(s *span.Span) {
		s.OwnerID, s.TenantID, s.Name = "bob", "t2", new("hunter2")
	})}})
	alice := Scope{UserID: "alice", TenantID: "t1"}
	const become = `set_config('app.user_id', 'bob', true) || set_config('app.tenant_id', 't2', true)`
	const all = `select name from ledger.universal_registry`
	const engine = `set_config('role', '` + Role + `', true)`
	for _, test := range []struct {
		name, text string
		reaches    bool
	}{
		{"set_config in a with", `with x as materialized (select ` + become + ` as y)
			select name from x, ledger.universal_registry where y is not null`, true},
		{"set_config in another case", `with x as materialized (select ` +
			strings.ToUpper("set_config") + `('app.user_id', 'bob', true), pg_catalog.Set_Config('app.tenant_id', 't2', true))
			select name from x, ledger.universal_registry`, true},
		{"set_config in quotation marks", `with x as materialized (select ` +
			strings.ReplaceAll(become, "set_config", `"set_config"`) + `)` + all, false},
		{"set_config behind comments", `with x as materialized (select ` +
			strings.ReplaceAll(become, "set_config(", "set_config /* a /* b */ */ -- c\n (") + ` as y)
			select name from x, ledger.universal_registry where y is not null`, true},
		{"set_config with its schema apart", `with x as materialized (select ` +
			strings.ReplaceAll(become, "set_config", `"pg_catalog" . "set_config"`) + ` as y)
			select name from x, ledger.universal_registry where y is not null`, true},
		{"set_config in letters of Unicode", `with x as materialized (select ` +
			strings.ReplaceAll(become, "set_config", `U&"\0073et_config"`) + ` as y)
			select name from x, ledger.universal_registry where y is not null`, true},
		{"set_config in a from", `select name from set_config('app.user_id', 'bob', true) as a,
			set_config('app.tenant_id', 't2', true) as b, ledger.universal_registry where a || b <> ''`, true},
		{"set_config as a table with columns", `select name from set_config('app.user_id', 'bob', true) as a(x),
			set_config('app.tenant_id', 't2', true) as b(y), ledger.universal_registry where x || y <> ''`, true},
		{"set_config between rows", `select name from ledger.universal_registry
			where (` + become + `) <> ''`, true},
		{"the engine's role and XML", `with x as materialized (select ` + engine + ` as y)
			select query_to_xml('` + all + `', true, false, y)::text from x`, true},
		{"no role and XML", `with x as materialized (select set_config('role', 'none', true) as y)
			select query_to_xml('` + all + `', true, false, y)::text from x`, true},
		{"XML alone", `select query_to_xml('select ` + strings.ReplaceAll(become, "'", "''") + `', true, false, ''),
			query_to_xml('` + all + `', true, false, '')::text`, true},
		{"a table as XML", `with x as materialized (select ` + engine + ` as y)
			select table_to_xml('ledger.universal_registry', true, false, y)::text from x`, true},
		{"a text that is read as a query", `select ts_rewrite('a'::tsquery, 'select ` +
			strings.ReplaceAll(become, "'", "''") + `, ''b''::tsquery')`, false},
		{"statistics of a query", `select * from ts_stat('select set_config(''role'', ''none'', true)::tsvector')`, false},
		{"a block", `do $$ begin perform set_config('role', 'none', true); raise exception '%',
			(select string_agg(name, ',') from ledger.universal_registry); end $$`, true},
		{"a text with escapes", `select E'\' || set_config(\'role\', \'none\', true) || \''`, false},
		{"a text that goes on with escapes", "select e'a'\n'\\', set_config('app.user_id', 'bob', true), '\\''", false},
		{"a text in dollars", `select $a$ ' $a$ || set_config('role', 'none', true) || ' '`, false},
		{"a parenthesis that closes the statement", `select 1) as z, (select ` + become + `) as y, (` + all, false},
		{"a value as a function's argument", `select ('app.user_id').current_setting`, false},
		{"a parameter as a function's argument", `select $1.current_setting`, false},
		{"a setting", `select current_setting('app.user_id')`, false},
		{"a second statement", `select 1; ` + all, false},
		{"set", `set app.user_id = 'bob'`, false},
		{"set role", `set role ` + Role, false},
		{"reset role", `reset role`, false},
		{"session authorization", `set session authorization default`, false},
		{"prepare", `prepare x as ` + all, false},
		{"execute", `execute x`, false},
		{"a cursor", `declare c cursor for ` + all, false},
		{"explain", `explain analyze select ` + become, false},
		{"copy", `copy (` + all + `) to stdout`, false},
		{"copy to a program", `copy (` + all + `) to program 'cat'`, false},
		{"call", `call set_config('role', 'none', true)`, false},
		{"listen", `listen x`, false},
		{"lock", `lock ledger.universal_registry`, false},
		{"a temporary table", `create temp table x as ` + all, false},
		{"a table from a select", `select name into temp x from ledger.universal_registry`, false},
		{"a temporary function", `create function pg_temp.f() returns text language sql as 'select 1'`, false},
		{"sleep", `select pg_sleep(1)`, false},
		{"a file", `select pg_read_file('/etc/passwd')`, false},
		{"a folder", `select pg_ls_dir('/')`, false},
		{"a large object", `select lo_import('/etc/passwd')`, false},
		{"a new large object", `select lo_from_bytea(0, 'x')`, false},
		{"another database", `select * from dblink('host=localhost', 'select 1') as t(a int)`, false},
		{"an advisory lock", `select pg_advisory_lock(1)`, false},
		{"a lock of the transaction", `select pg_try_advisory_xact_lock(1)`, false},
		{"another's statement", `select query from pg_stat_activity`, false},
		{"end another's session", `select pg_terminate_backend(1)`, false},
		{"roles", `select rolname from pg_catalog.pg_roles`, false},
		{"tables", `select table_name from information_schema.tables`, false},
		{"sequences", `select nextval('x')`, false},
		{"notify", `select pg_notify('x', 'y')`, false},
		{"an operator's function", `select 1 operator(pg_catalog.+) 1`, false},
		{"treat", `select treat('x' as text)`, false},
		{"a growing text", `select repeat('x', 1000000000)`, false},
		{"a wide text", `select format('%1000000000s', 'x')`, false},
		{"an unending comment", `select 1 /* /* */`, false},
		{"an unending text", `select 'x`, false},
		{"a backslash", `select \ 1`, false},
		{"letters outside of quotation marks", "select 1 as \u00e9", false},
		{"nothing", ` ;; `, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.reaches {
				if said, err := rawly(t.Context(), l, alice, test.text); !strings.Contains(said, "hunter2") {
					t.Errorf("without the check it does not reach bob's row: %.200s, %v", said, err)
				}
			}
			if rows, err := l.Query(t.Context(), alice, test.text, nil, 100); !errors.Is(err, ErrStatement) {
				t.Errorf("got %v, %v: want it refused before it is sent", rows, err)
			}
		})
	}
	rows, err := l.Query(t.Context(), alice, all, nil, 100)
	if err != nil || strings.Contains(fmt.Sprint(rows), "hunter2") || len(rows) != 1 {
		t.Errorf("afterwards alice reads %v, %v: want her own row", rows, err)
	}
}

func TestAStatementMayReadAsAuthorsDo(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(1))}})
	alice := Scope{UserID: "alice", TenantID: "t1"}
	for _, text := range []string{
		`select 1`, ` SELECT 1 ; `, "select 1 -- the end",
		`(select 1) union all (select 2)`, `values (1, 'a'), (2, 'b')`,
		`select id, "when", r.name from ledger.visible_timeline as r where r.entity_type in ('note', 'order')
			order by "when" desc, id desc limit 10`,
		`select * from ledger.visible_timeline where metadata ->> 'a' is null and at > now() - interval '1 day'`,
		`select entity_type, count(*) filter (where status = 'x') as n, max(at) from ledger.history group by (entity_type)
			having count(*) > 0 order by 2 desc`,
		`with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select sum(n) from t`,
		`with a as (select 1 as x), b as materialized (select x from a) select (x), -1.5e3, array[1, 2], 'it''s' from b`,
		`select cast('1.5' as numeric(10, 2)), '2026-01-01'::timestamptz(3), coalesce(null, 'x'), date '2026-01-01'`,
		`select case when exists (select 1) then (select 2) else (3) end where (1, 2) in ((1, 2)) and not (false)`,
		`select row_number() over (partition by entity_type order by at), lag(id) over w from ledger.history
			window w as (order by at)`,
		`select jsonb_build_object('a', jsonb_agg(name order by name)) from ledger.history`,
		`select e.key, e.value from jsonb_each_text('{"a": "1"}') as e(key, value)`,
		`select extract(epoch from now()), date_trunc('day', now()), substring('abc' from 2 for 1), trim(' a ')`,
		`select ledger.current_user_id(), "ledger".current_tenant_id()`, `select hashtext('a')`,
		`select count(*) from ledger.history h join lateral (select h.id) as x on (x.id = h.id)`,
		`select 'set_config(''role'', ''none'', true)', "name" /* pg_sleep(1) */ from ledger.history`,
	} {
		if rows, err := l.Query(t.Context(), alice, text, nil, 100); err != nil || len(rows) == 0 {
			t.Errorf("%s: %v, %v", text, rows, err)
		}
	}
	rows, err := l.Query(t.Context(), alice, `select n from generate_series(1, 50) as n order by -n limit 3`, nil, 100)
	if err != nil || fmt.Sprint(rows) != "[map[n:50] map[n:49] map[n:48]]" {
		t.Errorf("the order is lost: %v, %v", rows, err)
	}
}

// A kernel's statement must not make the sidecar hold what Postgres can make.
func TestAResultIsBounded(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	alice := Scope{UserID: "alice", TenantID: "t1"}
	doubled := `with recursive t(s) as (select 'xxxxxxxx' union all select s || s from t where length(s) < `
	begun := time.Now()
	_, err := l.Query(t.Context(), alice, doubled+`100000000) select s from t`, nil, 100)
	if !IsRefusal(err) || !strings.Contains(err.Error(), "bytes, the limit is 8388608") {
		t.Errorf("a row of 128 MB: %v", err)
	}
	_, err = l.Query(t.Context(), alice, doubled+`4000000) select s from t, generate_series(1, 5)
		where length(s) > 3000000`, nil, 100)
	if !errors.Is(err, ErrTooManyBytes) {
		t.Errorf("5 rows of 4 MB: %v", err)
	}
	if rows, err := l.Query(t.Context(), alice, doubled+`4000000)
		select s from t where length(s) > 4000000`, nil, 100); err != nil || len(rows) != 1 {
		t.Errorf("one row of 4 MB: %d, %v", len(rows), err)
	}
	t.Logf("took %s", time.Since(begun))
}

// FuzzStatement holds the reader of tokens to what it must never do: crash, or lose a call.
func FuzzStatement(f *testing.F) {
	for _, seed := range []string{"select 1", "select set_config('a', 'b', true)",
		`select "a""b" /* ' */ 'c' -- "`,
		"select $1.f, a.b(1), 1.5 ;", "select u&'x'", "/*/**/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := readTokens(text)
		if err != nil {
			return
		}
		length := 0
		for _, token := range tokens {
			length += len(token.text)
		}
		if length > len(text) {
			t.Errorf("%q has more tokens than text: %q", text, tokens)
		}
		// What is allowed stays refused with a forbidden call at its end, unless the end is inside a comment.
		if checkStatement(text) == nil && checkStatement(text+"\n, set_config('a', 'b', true)") == nil {
			t.Errorf("%q hides a call behind it", text)
		}
	})
}
