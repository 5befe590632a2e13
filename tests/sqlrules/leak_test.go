package sqlrules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// Alice's spans of tenant t1 in these tests; that there are such, nobody else may learn. secret stands in
// every text of theirs.
const (
	secret  = "xyzzy"
	hidden  = "a0000000-0000-4000-9000-000000000001" // a private function, two versions
	asked   = "a0000000-0000-4000-9000-000000000002" // a private request for it
	shared  = "a0000000-0000-4000-9000-000000000003" // version 0 of the tenant, version 1 private
	public  = "a0000000-0000-4000-9000-000000000004" // a public function, which everybody sees
	missing = "a0000000-0000-4000-9000-00000000ffff" // of nobody
)

func setupSecrets(t *testing.T) *ledger {
	l := setupBare(t)
	function := []any{"id", hidden, "entity_type", "function", "status", "active", "name", secret,
		"code", "return '" + secret + "'", "content", `{"a":"` + secret + `"}`, "tags", "{" + secret + "}"}
	l.given(alice, function...)
	l.given(alice, with(function, "seq", 1, "status", "draft")...)
	l.given(alice, "id", asked, "entity_type", "request", "status", "scheduled", "parent_id", hidden,
		"input", `"`+secret+`"`, "trace_id", secret)
	l.given(alice, "id", shared, "entity_type", "note", "visibility", "tenant")
	l.given(alice, "id", shared, "seq", 1, "entity_type", "note", "name", secret)
	return l
}

// setupBare is the same ledger as it would be without alice.
func setupBare(t *testing.T) *ledger {
	l := setup(t)
	l.given(governor, "id", public, "entity_type", "function", "status", "active", "visibility", "public")
	return l
}

// at is l in a part of its test.
func (l *ledger) at(t testing.TB) *ledger { return &ledger{t: t, db: l.db, conn: l.conn} }

// strangers have no right to any of these spans.
func strangers() map[string]actor {
	return map[string]actor{"another tenant": bob, "nobody": nobody, "anon": anon,
		"a kernel for another tenant": kernelFor("bob", "t2"), "a kernel for nobody": {role: "loglineos_kernel"},
		"alice of another tenant": user("alice", "t2")}
}

// outcome is all that a statement tells its sender: rows, or every field of the error.
func (l *ledger) outcome(who actor, statement string, arguments ...any) string {
	undone := errors.New("rolled back")
	var text string
	err := l.in(who, func(tx pgx.Tx) error {
		rows, err := tx.Query(l.t.Context(), statement, arguments...)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) {
			values, err := row.Values()
			for i, value := range values {
				switch value := value.(type) {
				case [16]byte:
					values[i] = pgtype.UUID{Bytes: value, Valid: true}.String()
				case time.Time:
					values[i] = "a time"
				case uint64:
					values[i] = "a transaction"
				}
			}
			return values, err
		})
		if err != nil {
			return err
		}
		text = fmt.Sprintf("%d rows %v", len(found), found)
		return undone
	})
	var refusal *pgconn.PgError
	switch {
	case errors.Is(err, undone):
		return text
	case errors.As(err, &refusal):
		return fmt.Sprintf("SQLSTATE %s %q %q %q %q %q %q %q", refusal.Code, refusal.Message, refusal.Detail,
			refusal.Hint, refusal.Where, refusal.TableName, refusal.ColumnName, refusal.ConstraintName)
	}
	l.t.Fatalf("run %q as %s: %v", statement, who.role, err)
	return ""
}

// same fails the test unless a statement has one outcome in a ledger with alice's secrets and in one without.
func same(with, without *ledger, who actor, statement string, arguments ...any) {
	with.t.Helper()
	there, not := with.outcome(who, statement, arguments...), without.outcome(who, statement, arguments...)
	if there != not {
		with.t.Errorf("%s %s\n%s %v\nwith secrets    %.400s\nwithout secrets %.400s", who.role, who.claims,
			statement, arguments, there, not)
	}
}

// A span that is hidden and one that does not exist are answered with the same words.
func TestHiddenIsAsMissing(t *testing.T) {
	t.Parallel()
	l, bare := setupSecrets(t), setupBare(t)
	statements := map[string]string{
		"next version":         "insert into ledger.universal_registry (id, seq, entity_type, status) values ($1, 2, 'function', 'active')",
		"a gap":                "insert into ledger.universal_registry (id, seq, entity_type, status) values ($1, 9, 'function', 'active')",
		"of another type":      "insert into ledger.universal_registry (id, seq, entity_type) values ($1, 2, 'note')",
		"with a prev_hash":     "insert into ledger.universal_registry (id, seq, entity_type, status, prev_hash) values ($1, 2, 'function', 'active', '" + hashOne + "')",
		"a version again":      "insert into ledger.universal_registry (id, seq, entity_type, status) values ($1, 1, 'function', 'draft')",
		"again, on conflict":   "insert into ledger.universal_registry (id, seq, entity_type, status) values ($1, 1, 'function', 'draft') on conflict do nothing",
		"again, in its name":   "insert into ledger.universal_registry (id, seq, entity_type, status, owner_id, tenant_id) values ($1, 1, 'function', 'draft', 'alice', 't1')",
		"version 0, its name":  "insert into ledger.universal_registry (id, seq, entity_type, status, owner_id, tenant_id) values ($1, 0, 'function', 'draft', 'alice', 't1')",
		"version 0, malformed": "insert into ledger.universal_registry (id, seq, entity_type, status) values ($1, 0, 'function', 'a b')",
		"a call":               "insert into ledger.universal_registry (entity_type, status, parent_id) values ('request', 'scheduled', $1)",
		"a parent":             "insert into ledger.universal_registry (id, entity_type, parent_id) values ('" + id(77) + "', 'note', $1) returning id, seq, parent_id",
		"a relation":           "insert into ledger.universal_registry (id, entity_type, related_to) values ('" + id(78) + "', 'note', array[$1::uuid]) returning id, seq",
		"on conflict update":   "insert into ledger.universal_registry (id, seq, entity_type) values ($1, 0, 'note') on conflict (id, seq) do update set name = excluded.name returning name",
		"update":               "update ledger.universal_registry set name = 'x' where id = $1",
		"delete":               "delete from ledger.universal_registry where id = $1",
		"lock":                 "select * from ledger.universal_registry where id = $1 for update",
		"share lock":           "select * from ledger.universal_registry where id = $1 for key share",
		"read":                 "select * from ledger.universal_registry where id = $1",
		"read the timeline":    "select * from ledger.visible_timeline where id = $1",
		"read history":         "select * from ledger.history where id = $1",
		"by parent":            "select count(*) from ledger.history where parent_id = $1",
		"sample":               "select count(*) from ledger.universal_registry tablesample system (100) where id = $1",
		"by place":             "select ctid, tableoid, xmin from ledger.universal_registry where id = $1",
	}
	for name, statement := range statements {
		t.Run(name, func(t *testing.T) {
			with, without := l.at(t), bare.at(t)
			for _, who := range strangers() {
				same(with, without, who, statement, hidden)
			}
			same(with, without, ann, statement, hidden)
		})
	}
}

// Every function that a stranger may run, with every span of alice's: what it says of one that is hidden is
// what it says of none.
func TestFunctionsTellNothingOfHiddenSpans(t *testing.T) {
	t.Parallel()
	l, bare := setupSecrets(t), setupBare(t)
	tried := 0
	for _, who := range strangers() {
		for _, call := range callsOf(l, who.role) {
			tried++
			for _, known := range []string{hidden, asked, shared} {
				same(l, bare, who, strings.ReplaceAll(call, "ID", known))
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d calls were tried", tried)
	}
}

// callsOf are calls of every function of the ledger that role may execute and that takes something by which
// a span could be found: a uuid, a document, texts. ID stands for the span.
func callsOf(l *ledger, role string) []string {
	found, err := l.conn.Query(l.t.Context(), `select p.oid::regproc::text, p.proargtypes::oid[]
		from pg_proc p where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		and prorettype <> 'trigger'::regtype and has_function_privilege($1, p.oid, 'execute') order by 1`, role)
	if err != nil {
		l.t.Fatal(err)
	}
	type function struct {
		name  string
		types []uint32
	}
	functions, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (f function, err error) {
		return f, row.Scan(&f.name, &f.types)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	// The values to try of each type: the first for all arguments, then others for any two of them.
	versions := []string{"0", "1", "2"}
	values := map[uint32][]string{
		pgtype.UUIDOID: {"'ID'", "null"}, pgtype.Int4OID: versions, pgtype.Int8OID: versions,
		pgtype.TimestamptzOID: {"now()", "'2999-01-01'", "null"}, pgtype.BoolOID: {"true", "false"},
		pgtype.TextOID:  {"null", "'alice'", "'t1'", "'function'", "'ID'"},
		pgtype.ByteaOID: {"'x'"}, pgtype.UUIDArrayOID: {"array['ID']::uuid[]"},
		pgtype.TextArrayOID: {"array['alice']"}, pgtype.JSONBArrayOID: {`array['{"id":"ID","seq":1}'::jsonb]`},
		pgtype.JSONBOID: {
			`'{"id":"ID","seq":2,"entity_type":"function","status":"active"}'`,
			`'{"id":"ID","seq":1,"entity_type":"function","status":"draft"}'`,
			`'{"id":"ID","seq":2,"entity_type":"function","status":"active","owner_id":"alice","tenant_id":"t1"}'`,
			`'{"id":"` + id(79) + `","entity_type":"request","status":"scheduled","parent_id":"ID"}'`,
			`'[{"id":"ID","seq":2,"entity_type":"function","status":"active"},{"id":"ID","seq":1,"entity_type":"note"}]'`,
		},
	}
	row := ask[uint32](l, owner, "select 'ledger.universal_registry'::regtype::oid")
	values[row] = []string{`jsonb_populate_record(null::ledger.universal_registry, '{"id":"ID","seq":1}')`,
		`jsonb_populate_record(null::ledger.universal_registry,
			'{"id":"ID","seq":1,"owner_id":"alice","tenant_id":"t1"}')`}
	var calls []string
	for _, f := range functions {
		first := make([]string, len(f.types))
		for i, argument := range f.types {
			if values[argument] == nil {
				l.t.Fatalf("%s takes a type that this test does not know: give it values", f.name)
			}
			first[i] = values[argument][0]
		}
		put := func(arguments []string) {
			call := "select * from " + f.name + "(" + strings.Join(arguments, ", ") + ")"
			if strings.Contains(call, "ID") && !slices.Contains(calls, call) {
				calls = append(calls, call)
			}
		}
		for i := range f.types {
			for j := range i + 1 {
				for _, one := range values[f.types[i]] {
					for _, other := range values[f.types[j]] {
						arguments := slices.Clone(first)
						arguments[j], arguments[i] = other, one
						put(arguments)
					}
				}
			}
		}
	}
	return calls
}

// The words of a refusal never carry what a hidden span holds, whatever the stranger tries.
func TestRefusalsCarryNoSecret(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	for name, who := range strangers() {
		for _, known := range []string{hidden, asked, shared} {
			for seq := range 4 {
				for _, entity := range []string{"function", "request", "note", "execution", "manifest"} {
					told := l.outcome(who, `insert into ledger.universal_registry (id, seq, entity_type, status, parent_id)
						values ($1::text::uuid, $2, $3, 'scheduled', $4::text::uuid)`, known, seq, entity, hidden)
					if strings.Contains(told, secret) || strings.Contains(told, "alice") || strings.Contains(told, "draft") {
						t.Errorf("%s appending version %d of %s as %s is told %s", name, seq, known, entity, told)
					}
				}
			}
		}
	}
}

// listening is a connection that tells what it is told in notices.
func (l *ledger) listening() (*ledger, *[]string) {
	l.t.Helper()
	config, err := pgx.ParseConfig(l.db.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	var heard []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { heard = append(heard, notice.Message) }
	conn, err := pgx.ConnectConfig(l.t.Context(), config)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &ledger{t: l.t, db: l.db, conn: conn}, &heard
}

// A function in a condition sees only rows that its caller sees, however cheap it says it is; so do casts and
// divisions, which raise what they are given.
func TestConditionsSeeNoHiddenRow(t *testing.T) {
	t.Parallel()
	l, heard := setupSecrets(t).listening()
	run(t, l.conn, `create function public.spy(p text) returns boolean language plpgsql cost 0.0000001
		as $$ begin raise notice 'seen %', p; return true; end $$`)
	run(t, l.conn, "analyze ledger.universal_registry")
	relations := lines(l, `select c.oid::regclass::text from pg_class c
		where c.relnamespace = 'ledger'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')
		and has_table_privilege('authenticated', c.oid, 'select') order by 1`)
	for _, relation := range relations {
		for _, query := range []string{
			"select count(*) from %s as r where public.spy(r::text)",
			"select count(*) from %s as r where public.spy(r::text) and id = '" + hidden + "'",
			"select count(*) from (values (1)) as v (i) join %s as r on public.spy(r::text)",
			"select count(*) from %s as r group by public.spy(r::text) having bool_and(public.spy(r.id::text))",
			"select count(*) from %s as r, lateral (select public.spy(r::text) offset 0) as s",
			"select id from %s as r order by public.spy(r::text)",
			"select count(*) from %s as r where r.name::integer = 1",
			"select count(*) from %s as r where 1 / (length(r.name) - 5) = 1", // the secret has 5 letters
		} {
			statement := fmt.Sprintf(query, relation)
			for name, who := range strangers() {
				*heard = nil
				told := l.outcome(who, statement) + strings.Join(*heard, " ")
				closed := strings.HasPrefix(told, "SQLSTATE 42501 \"permission denied for view")
				if !closed && (strings.Contains(told, secret) || strings.Contains(told, hidden) ||
					strings.Contains(told, "SQLSTATE")) {
					t.Errorf("%s runs %s and learns %s", name, statement, told)
				}
			}
			// The trap works: its owner falls into it.
			*heard = nil
			told := l.outcome(alice, statement) + strings.Join(*heard, " ")
			hears := strings.Contains(told, secret) || strings.Contains(told, hidden) ||
				strings.Contains(told, "division by zero")
			if relation == "ledger.history" && !hears {
				t.Errorf("alice runs %s and hears nothing: the trap does not work", statement)
			}
		}
	}
	if len(relations) < 3 {
		t.Errorf("only %q were tried", relations)
	}
}

// What the planner has sampled is a copy of rows, and nobody but the owner reads it.
func TestStatisticsAreHidden(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	run(t, l.conn, "create statistics ledger.extended (mcv) on name, tenant_id from ledger.universal_registry")
	run(t, l.conn, "analyze ledger.universal_registry")
	everyone := strangers()
	everyone["alice"], everyone["service_role"], everyone["the engine"] = alice, service, engine
	for _, view := range []string{"pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"} {
		count := "select count(*) from " + view + " where schemaname in ('ledger', 'ledger_private', 'engine')"
		for name, who := range everyone {
			if n := ask[int](l, who, count); n != 0 {
				t.Errorf("%s reads %d rows of %s", name, n, view)
			}
		}
		if view != "pg_stats_ext_exprs" && ask[int](l, owner, count) == 0 {
			t.Errorf("%s is empty: the test shows nothing", view)
		}
	}
	for name, who := range everyone {
		for _, table := range []string{"pg_statistic", "pg_statistic_ext_data"} {
			if err := l.do(who, "select * from "+table); !sameCode(err, "42501") {
				t.Errorf("%s reads %s: %v", name, table, err)
			}
		}
	}
}

func TestCopyObeysTheReader(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	out := func(who actor, statement string) (text string, err error) {
		var copied bytes.Buffer
		err = l.in(who, func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().CopyTo(t.Context(), &copied, statement)
			return err
		})
		return copied.String(), err
	}
	for _, statement := range []string{"copy ledger.universal_registry to stdout",
		"copy (select * from ledger.history) to stdout", "copy (select * from ledger.visible_timeline) to stdout"} {
		for name, who := range strangers() {
			if text, err := out(who, statement); err != nil || strings.Contains(text, secret) {
				t.Errorf("%s: %s gives %v %q", name, statement, err, text)
			}
		}
		if text, err := out(alice, statement); err != nil || !strings.Contains(text, secret) {
			t.Errorf("alice: %s gives %v %q", statement, err, text)
		}
	}
	for _, who := range []actor{alice, service, engine} {
		err := l.in(who, func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader("note\n"),
				"copy ledger.universal_registry (entity_type) from stdin")
			return err
		})
		wantCode(t, err, "0A000") // not under row level security
		wantCode(t, l.do(who, "copy ledger.universal_registry to '/tmp/ledger'"), "42501")
		wantCode(t, l.do(who, "copy ledger.universal_registry to program 'cat'"), "42501")
	}
}

// A key says that it is taken, and nothing else. An id must be known to be asked for: one that the ledger
// makes has 74 random bits; that of an idempotency key knows who is of the tenant and knows the key.
func TestATakenIDTellsOnlyThatItIsTaken(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	err := l.append(bob, "id", hidden, "entity_type", "note")
	wantCode(t, err, "23505")
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Detail != "" || strings.Contains(refusal.Message, hidden) {
		t.Errorf("got %+v", refusal)
	}
	wantCode(t, l.append(bob, "id", missing, "entity_type", "note"), "")

	l.given(alice, "entity_type", "note", "name", secret, "idempotency_key", "order-4711")
	for _, of := range []struct {
		who       actor
		key, code string
	}{
		{ann, "order-4711", "23505"}, {ann, "order-4712", ""}, // of the tenant: he who guesses learns
		{bob, "order-4711", ""}, // of another: the key is another one
	} {
		err := l.append(of.who, "entity_type", "note", "idempotency_key", of.key)
		wantCode(t, err, of.code)
		if errors.As(err, &refusal) && (refusal.Detail != "" || strings.Contains(refusal.Message, secret)) {
			t.Errorf("got %+v", refusal)
		}
	}
}

// What comes back from an insert is what its writer may read.
func TestReturningObeysTheReader(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	const system = `insert into ledger.universal_registry (entity_type, owner_id, tenant_id)
		values ('note', 'system', 'system')`
	wantCode(t, l.do(governor, system), "")
	wantCode(t, l.do(governor, system+" returning id"), "42501")
	own := l.outcome(bob, `insert into ledger.universal_registry (id, entity_type, parent_id)
		values ($1::text::uuid, 'note', $2::text::uuid)
		returning owner_id, (select count(*) from ledger.history where id = $2::text::uuid)`, id(80), hidden)
	if own != "1 rows [[bob 0]]" {
		t.Errorf("got %s", own)
	}
}

// Whoever may make things of his own can not hang them on the ledger, lock it, or look past its policies.
func TestClientsBuildNothingOnTheLedger(t *testing.T) {
	t.Parallel()
	l := setupSecrets(t)
	run(t, l.conn, "create schema play")
	run(t, l.conn, "grant all on schema play to authenticated, service_role, loglineos_sidecar")
	for _, statement := range []string{
		"create table play.x (i uuid, n integer, foreign key (i, n) references ledger.universal_registry)",
		"create table play.x () inherits (ledger.universal_registry)",
		"create trigger x after insert on ledger.universal_registry for each row execute function ledger.refuse_change()",
		"create rule x as on insert to ledger.universal_registry do also notify x",
		"create policy x on ledger.universal_registry using (true)",
		"create index x on ledger.universal_registry (name)",
		"create statistics play.x on name, kind from ledger.universal_registry",
		"create publication x for table ledger.universal_registry",
		"create view ledger.x as select 1",
		"create function ledger.x() returns integer language sql as 'select 1'",
		"create function ledger_private.x() returns integer language sql as 'select 1'",
		"create or replace function ledger.current_user_id() returns text language sql as 'select null'",
		"alter table ledger.universal_registry disable row level security",
		"alter table ledger.universal_registry no force row level security",
		"alter view ledger.history set (security_invoker = false)",
		"alter function ledger.is_governor() set search_path = ''",
		"comment on table ledger.universal_registry is 'mine'",
		"lock table ledger.universal_registry in access exclusive mode",
		"lock table ledger.universal_registry in share mode",
		"lock table ledger.universal_registry in exclusive mode",
		"reindex table ledger.universal_registry",
		"cluster ledger.universal_registry using universal_registry_pkey",
		"select pg_read_file('PG_VERSION')",
		"set local session_replication_role = replica",
	} {
		for _, who := range []actor{alice, service, engine} {
			err := l.do(who, statement)
			if !sameCode(err, "42501") {
				t.Errorf("%s may %s: %v", who.role, statement, err)
			}
		}
	}
	for _, who := range strangers() {
		err := l.in(who, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "set local row_security = off"); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "select * from ledger.universal_registry")
			return err
		})
		wantCode(t, err, "42501")
	}
}

// A login that is a member of authenticated, as PostgREST's is, gets no other role's rights, whether it sets
// the role or not.
func TestALoginStaysItsRole(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	db := cluster.New(t)
	l := &ledger{t: t, db: db, conn: connect(t, db.URL)}
	run(t, l.conn, "create role client login password 'client'")
	run(t, l.conn, "grant authenticated to client")
	address, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	superuser := address.User.Username()
	address.User = url.UserPassword("client", "client")
	client := &ledger{t: t, db: db, conn: connect(t, address.String())}

	for _, role := range []string{"service_role", "loglineos_sidecar", "loglineos_kernel", superuser} {
		for _, start := range []string{"none", "authenticated"} {
			for _, statement := range []string{"set local role " + role, "set session authorization " + role,
				"select set_config('role', '" + role + "', true)"} {
				wantCode(t, client.do(actor{role: start, claims: alice.claims}, statement), "42501")
			}
		}
	}
	l.given(alice, "id", id(1), "entity_type", "note", "name", secret)
	for _, role := range []string{"none", "authenticated"} {
		mallory := actor{role: role, claims: bob.claims}
		if n := ask[int](client, mallory, "select count(*) from ledger.history where name = $1", secret); n != 0 {
			t.Errorf("role %s reads %d rows of another", role, n)
		}
		wantCode(t, client.append(mallory, "entity_type", "note", "owner_id", "alice", "tenant_id", "t1"), "LL006")
		wantCode(t, client.append(mallory, "entity_type", "execution"), "LL004")
		wantCode(t, client.append(mallory, "entity_type", "note", "id", derived(1)), "LL007")
		wantCode(t, client.append(mallory, "entity_type", "note", "who", "kernel:run_code"), "LL008")
		wantCode(t, client.append(mallory, "entity_type", "note", "who", "user:alice"), "LL008")
		foretold := "a0000000-0000-5000-9000-000000000001" // version 5: an idempotency key's
		wantCode(t, client.append(mallory, "entity_type", "note", "id", foretold), "LL007")
		wantCode(t, client.append(mallory, "entity_type", "note", "visibility", "public"), "LL010")
		wantCode(t, client.append(mallory, "id", id(1), "seq", 1, "entity_type", "note"), "LL002")
		wantCode(t, client.append(actor{role: role}, "entity_type", "note"), "LL005")
	}
}
