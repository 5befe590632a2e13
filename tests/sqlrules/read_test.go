package sqlrules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// names returns the names that a query on a relation gives to who, in its order.
func names(l *ledger, who actor, from string, arguments ...any) string {
	l.t.Helper()
	return ask[string](l, who, "select coalesce(string_agg(name, ' '), '') from (select name from "+from+") x",
		arguments...)
}

// moment returns the database's clock, later than everything that was appended before.
func moment(l *ledger) time.Time {
	l.t.Helper()
	return ask[time.Time](l, owner, "select clock_timestamp()")
}

// What a hidden newer version changes for who may read the older one, and that nobody else learns of it by
// anything he may call, with any argument.
func TestHiddenVersionsAreNoOracle(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note", "name", "shown", "visibility", "tenant")
	l.given(alice, "id", id(1), "seq", 1, "entity_type", "note", "name", "hidden")
	l.given(alice, "id", id(2), "entity_type", "note", "name", "only", "visibility", "tenant")
	now := moment(l)
	for _, relation := range []string{"ledger.visible_timeline", "ledger.as_of($1)"} {
		var arguments []any
		if strings.Contains(relation, "$1") {
			arguments = []any{now}
		}
		for who, want := range map[*actor]string{&ann: "only", &alice: "hidden only", &bob: ""} {
			if got := names(l, *who, relation+" order by name", arguments...); got != want {
				t.Errorf("%s sees %q in %s, want %q", who.claims, got, relation, want)
			}
		}
	}
	asKernel := func(user, tenant string) actor {
		return actor{role: "loglineos_kernel", settings: map[string]string{"app.user_id": user,
			"app.tenant_id": tenant}}
	}
	// Bob's own setting of app.user_id, and claims of a kernel, count for nothing.
	liar := bob
	liar.settings = map[string]string{"app.user_id": "alice", "app.tenant_id": "t1"}
	deceived := asKernel("bob", "t2")
	deceived.claims = alice.claims
	const superseded = "select coalesce(ledger_private.is_superseded($1, $2), false)"
	for _, c := range []struct {
		who  actor
		seq  int
		want bool
	}{
		{alice, 0, true}, {alice, 1, false}, {ann, 0, true}, {bob, 0, false}, {liar, 0, false}, {anon, 0, false},
		{nobody, 0, false}, {service, 0, true}, {engine, 0, true}, {owner, 0, true},
		{asKernel("ann", "t1"), 0, true}, {asKernel("bob", "t2"), 0, false}, {deceived, 0, false},
		{asKernel("", ""), 0, false},
	} {
		if got := ask[bool](l, c.who, superseded, id(1), c.seq); got != c.want {
			t.Errorf("%s %s: version %d is superseded: %v, want %v", c.who.role, c.who.claims, c.seq, got, c.want)
		}
		for _, seq := range []int{1, 2, 2147483647} {
			if ask[bool](l, c.who, superseded, id(1), seq) {
				t.Errorf("%s %s: version %d is said to be superseded", c.who.role, c.who.claims, seq)
			}
		}
		if ask[bool](l, c.who, superseded, id(99), 0) {
			t.Errorf("%s: a span that is not there is said to be superseded", c.who.role)
		}
	}
	// Below the first version there is nothing that anybody but those who read all may read.
	for _, who := range []actor{alice, ann, bob} {
		if ask[bool](l, who, superseded, id(1), -1) {
			t.Errorf("%s learns of a version by asking below it", who.claims)
		}
	}
}

// The rules of the policies are said twice: where they differ, one of them is wrong.
func TestSupersededFollowsThePolicies(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for i, visibility := range []string{"private", "tenant", "public"} {
		for j, sub := range []string{"alice", "ann", "bob"} {
			tenant := []string{"t1", "t1", "t2"}[j]
			for seq := range 2 {
				l.given(owner, "id", id(10*i+j), "seq", seq, "entity_type", "note", "who", "user:"+sub,
					"owner_id", sub, "tenant_id", tenant, "visibility", visibility)
			}
		}
	}
	kernel := actor{role: "loglineos_kernel", settings: map[string]string{"app.user_id": "ann",
		"app.tenant_id": "t1"}}
	readers := []actor{alice, ann, bob, governor, nobody, anon, service, engine, kernel}
	// Claims of every shape are read as 10_identity reads them.
	for _, claims := range []string{`{"sub":"ann","tenant_id":"t1"}`, `{"sub":"ann"}`,
		`{}`, `xx`, `[]`, `"ann"`, `1`,
		`{"sub":"","app_metadata":{"tenant_id":"t1"}}`, `{"sub":7,"app_metadata":{"tenant_id":"t1"}}`,
		`{"sub":["ann"],"tenant_id":"t1"}`, `{"sub":"ann","app_metadata":"x","tenant_id":"t1"}`,
		`{"sub":"ann","app_metadata":{},"tenant_id":"t1"}`, `{"sub":"ann","app_metadata":{"tenant_id":"t2"}}`,
		`{"sub":"ann","app_metadata":{"tenant_id":""},"tenant_id":"t1"}`,
		`{"sub":"ann","app_metadata":{"tenant_id":null},"tenant_id":"t1"}`,
		`{"sub":"ann","app_metadata":{"tenant_id":7},"tenant_id":"t1"}`, `{"sub":"ann","tenant_id":7}`,
		`{"sub":"ann","user_metadata":{"tenant_id":"t1"}}`, `{"sub":"7","tenant_id":"t1"}`} {
		readers = append(readers, actor{role: "authenticated", claims: claims})
	}
	for _, who := range readers {
		for n := range 30 {
			readable := ask[bool](l, who,
				"select exists (select from ledger.universal_registry where id = $1 and seq = 0)", id(n))
			if told := ask[bool](l, who, "select ledger_private.is_superseded($1, 0)", id(n)); told != readable {
				t.Errorf("%s %s: span %d is readable: %v, told: %v", who.role, who.claims, n, readable, told)
			}
		}
	}
}

func TestAsOfShowsTheLedgerAsItStood(t *testing.T) {
	t.Parallel()
	l := setup(t)
	before := moment(l)
	l.given(alice, "id", id(1), "entity_type", "note", "name", "one")
	l.given(alice, "id", id(2), "entity_type", "note", "name", "two", "visibility", "tenant")
	first := moment(l)
	l.given(alice, "id", id(1), "seq", 1, "entity_type", "note", "name", "uno")
	l.given(alice, "id", id(2), "seq", 1, "entity_type", "note", "name", "due") // private from here
	l.given(alice, "id", id(3), "entity_type", "task", "name", "three", "visibility", "tenant")
	second := moment(l)
	l.given(alice, "id", id(1), "seq", 2, "entity_type", "note", "name", "gone", "is_deleted", true)
	third := moment(l)
	for _, c := range []struct {
		name string
		who  actor
		from string
		at   any
		want string
	}{
		{"before", alice, "ledger.as_of($1)", before, ""},
		{"first", alice, "ledger.as_of($1)", first, "two one"},
		{"second", alice, "ledger.as_of($1)", second, "three due uno"},
		{"deleted", alice, "ledger.as_of($1)", third, "three due"},
		{"for ever", alice, "ledger.as_of($1)", "infinity", "three due"},
		{"another of the tenant", ann, "ledger.as_of($1)", first, "two"},
		{"narrowed since", ann, "ledger.as_of($1)", second, "three"},
		{"stranger", bob, "ledger.as_of($1)", third, ""},
		{"no claims", nobody, "ledger.as_of($1)", third, ""},
		{"by id", alice, "ledger.as_of($1, p_id => '" + id(1) + "')", second, "uno"},
		{"by a deleted id", alice, "ledger.as_of($1, p_id => '" + id(1) + "')", third, ""},
		{"by a stranger's id", bob, "ledger.as_of($1, p_id => '" + id(1) + "')", second, ""},
		{"by a narrowed id", ann, "ledger.as_of($1, p_id => '" + id(2) + "')", second, ""},
		{"by type", alice, "ledger.as_of($1, p_entity_type => 'note')", second, "due uno"},
		{"by another tenant", alice, "ledger.as_of($1, p_tenant_id => 't2')", second, ""},
		{"by a backend", service, "ledger.as_of($1, p_tenant_id => 't1')", second, "three due uno"},
		{"by the engine, by id", engine, "ledger.as_of($1, p_id => '" + id(1) + "')", first, "one"},
		{"for a kernel", actor{role: "loglineos_kernel", settings: map[string]string{"app.user_id": "ann",
			"app.tenant_id": "t1"}}, "ledger.as_of($1)", first, "two"},
		{"by the owner", owner, "ledger.as_of($1, p_tenant_id => 't1')", first, "two one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := names(l, c.who, c.from, c.at); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A page says where the next one begins, and together they hold each row once, also of one moment.
func TestAsOfPagesLoseNothing(t *testing.T) {
	t.Parallel()
	l := setup(t)
	at := moment(l).Add(-time.Hour).Truncate(time.Second)
	for n := range 30 {
		visibility := []string{"private", "tenant", "public"}[n%3]
		tenant, sub := "t1", []string{"alice", "ann"}[n%2]
		if visibility == "public" {
			tenant, sub = "t2", "bob"
		}
		l.given(owner, "id", id(n), "entity_type", "note", "who", "user:"+sub, "owner_id", sub, "tenant_id",
			tenant, "visibility", visibility, "at", at.Add(time.Duration(n/5)*time.Second), "name", fmt.Sprint(n))
	}
	all := names(l, alice, "ledger.universal_registry order by at desc, id desc")
	for _, limit := range []int{1, 3, 7, 1000} {
		var seen []string
		var before *time.Time
		var beforeID *string
		for {
			var page int
			err := l.in(alice, func(tx pgx.Tx) error {
				rows, err := tx.Query(t.Context(), `select name, "when", id::text from ledger.as_of(now(),
					p_limit => $1, p_before => $2, p_before_id => $3)`, limit, before, beforeID)
				if err != nil {
					return err
				}
				defer rows.Close()
				for ; rows.Next(); page++ {
					var name, last string
					var when time.Time
					if err := rows.Scan(&name, &when, &last); err != nil {
						return err
					}
					seen, before, beforeID = append(seen, name), &when, &last
				}
				return rows.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
			if page < limit {
				break
			}
		}
		if got := strings.Join(seen, " "); got != all || len(seen) != 25 {
			t.Errorf("pages of %d give %d rows\n%s, want\n%s", limit, len(seen), got, all)
		}
	}
}

// A project may have roles of its own that are members of authenticated: they read the same.
func TestReadsOfAMemberOfAuthenticated(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	l := &ledger{t: t, db: db, conn: connect(t, db.URL)}
	run(t, l.conn, "create role app_user in role authenticated")
	member := ann
	member.role = "app_user"
	l.given(alice, "id", id(1), "entity_type", "note", "name", "shown", "visibility", "tenant")
	l.given(alice, "id", id(1), "seq", 1, "entity_type", "note", "name", "hidden")
	l.given(alice, "id", id(2), "entity_type", "note", "name", "only", "visibility", "tenant")
	l.given(ann, "id", id(3), "entity_type", "note", "name", "own")
	for _, relation := range []string{"ledger.visible_timeline", "ledger.as_of(now())"} {
		if got := names(l, member, relation+" order by name"); got != "only own" {
			t.Errorf("a member of authenticated sees %q in %s", got, relation)
		}
	}
}

func TestAsOfRefusesWhatHasNoPage(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for call, want := range map[string]string{
		"ledger.as_of(null)":                                          "LL017",
		"ledger.as_of(now(), p_limit => 0)":                           "LL017",
		"ledger.as_of(now(), p_limit => 1001)":                        "LL017",
		"ledger.as_of(now(), p_limit => null)":                        "LL017",
		"ledger.as_of(now(), p_before_id => '" + id(1) + "')":         "LL017",
		"ledger.as_of('infinity', p_limit => 1000)":                   "",
		"ledger.as_of('-infinity')":                                   "",
		"ledger.as_of(now(), p_before => 'infinity', p_id => null)":   "",
		"ledger.as_of(now(), p_before => '-infinity', p_limit => 10)": "",
	} {
		wantCode(t, l.do(alice, "select * from "+call), want)
	}
	for _, who := range []actor{service, engine, owner} {
		wantCode(t, l.do(who, "select * from ledger.as_of(now())"), "LL017")
	}
	wantCode(t, l.do(anon, "select * from ledger.as_of(now())"), "42501")
	wantCode(t, l.do(anon, "select * from ledger.result($1)", id(1)), "42501")
	wantCode(t, l.do(anon, "select * from ledger.function_state"), "42501")
}

// call makes a function of alice and a request for it, and returns a way to move that on as the engine.
func call(l *ledger, n int, visibility string) func(seq int, status string, more ...any) {
	l.t.Helper()
	l.given(alice, "id", id(n), "entity_type", "function", "status", "active", "name", "f", "visibility",
		visibility)
	l.given(alice, "id", id(n+1), "entity_type", "request", "status", "scheduled", "parent_id", id(n),
		"visibility", visibility)
	return func(seq int, status string, more ...any) {
		l.t.Helper()
		l.given(engine, with([]any{"id", id(n + 1), "seq", seq, "entity_type", "request", "status", status,
			"who", "kernel:run_code", "owner_id", "alice", "tenant_id", "t1", "visibility", visibility,
			"parent_id", id(n)}, more...)...)
	}
}

// finish appends an execution and the request's last version in one statement, as the engine does.
func finish(l *ledger, n, seq, attempt int, status, payload string) {
	l.t.Helper()
	column := map[string]string{"complete": "output", "error": "error"}[status]
	err := l.do(engine, fmt.Sprintf(`insert into ledger.universal_registry (id, seq, entity_type, status, who,
			owner_id, tenant_id, parent_id, related_to, attempt, duration_ms, metadata, %s)
		values ($1, 0, 'execution', $2, 'kernel:run_code', 'alice', 't1', $3, array[$4::uuid], $5, 12,
				'{"run": {"function": {"seq": 0}}, "engine": {"depth": 1}}', $6),
			($4, $7, 'request', $2, 'kernel:run_code', 'alice', 't1', $3, null, $5, null, null, null)`, column),
		derived(10*n+seq), status, id(n), id(n+1), attempt, payload, seq)
	if err != nil {
		l.t.Fatalf("finish: %v", err)
	}
}

const resultText = `select coalesce((select concat_ws(' ', status, is_done, function_seq, attempt,
		execution_id is not null, output, error, reason, duration_ms, requested_at is not null,
		done_at is not null) from ledger.result($1)), 'none')`

func TestResultTellsEveryStatusApart(t *testing.T) {
	t.Parallel()
	l := setup(t)
	n := 0
	for _, c := range []struct {
		name string
		then func(move func(int, string, ...any), n int)
		want string
	}{
		{"scheduled", func(func(int, string, ...any), int) {}, "scheduled f f t f"},
		{"running", func(move func(int, string, ...any), _ int) { move(1, "running", "attempt", 1) },
			"running f 1 f t f"},
		{"retry", func(move func(int, string, ...any), _ int) { move(1, "retry", "attempt", 1) },
			"retry f 1 f t f"},
		{"blocked", func(move func(int, string, ...any), _ int) { move(1, "blocked", "reason", "quota") },
			"blocked f f quota t f"},
		{"dead", func(move func(int, string, ...any), _ int) { move(1, "dead", "reason", "lost thrice") },
			"dead t f lost thrice t t"},
		{"cancel_requested", func(_ func(int, string, ...any), n int) {
			l.given(alice, "id", id(n+1), "seq", 1, "entity_type", "request", "status", "cancel_requested")
		}, "cancel_requested f f t f"},
		{"cancelled", func(move func(int, string, ...any), n int) {
			l.given(alice, "id", id(n+1), "seq", 1, "entity_type", "request", "status", "cancel_requested")
			move(2, "cancelled")
		}, "cancelled t f t t"},
		{"complete", func(_ func(int, string, ...any), n int) { finish(l, n, 1, 1, "complete", `{"sum": 42}`) },
			`complete t 0 1 t {"sum": 42} 12 t t`},
		{"error", func(move func(int, string, ...any), n int) {
			move(1, "running", "attempt", 1)
			finish(l, n, 2, 2, "error", `{"code": "timeout"}`)
		}, `error t 0 2 t {"code": "timeout"} 12 t t`},
	} {
		n += 10
		move := call(l, n, "private")
		c.then(move, n)
		for _, who := range []actor{alice, service, engine, owner} {
			if got := ask[string](l, who, resultText, id(n+1)); got != c.want {
				t.Errorf("%s: %s gets %q, want %q", c.name, who.role, got, c.want)
			}
		}
		// Another's is as none.
		for _, who := range []actor{ann, bob, nobody} {
			if got := ask[string](l, who, resultText, id(n+1)); got != "none" {
				t.Errorf("%s: %s gets %q of a foreign request", c.name, who.claims, got)
			}
		}
	}
	for _, unknown := range []string{id(99), id(10)} { // id(10) is a function
		if got := ask[string](l, alice, resultText, unknown); got != "none" {
			t.Errorf("%s gives %q", unknown, got)
		}
	}
}

// A stranger's JSON where the engine writes a number breaks no call.
func TestResultReadsAnyMetadata(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "function", "status", "active")
	for i, c := range []struct{ metadata, want string }{
		{`{"function": {"seq": 7}}`, "scheduled f 7 f t f"},
		{`{"function": {"seq": 1e300}}`, "scheduled f f t f"},
		{`{"function": {"seq": "x"}}`, "scheduled f f t f"},
		{`{"function": [1]}`, "scheduled f f t f"},
		{`{"function": {"seq": 99999999999}}`, "scheduled f f t f"},
	} {
		l.given(alice, "id", id(10+i), "entity_type", "request", "status", "scheduled", "parent_id", id(1),
			"metadata", c.metadata)
		if got := ask[string](l, alice, resultText, id(10+i)); got != c.want {
			t.Errorf("%s gives %q, want %q", c.metadata, got, c.want)
		}
	}
}

func TestFunctionStateShowsTheReadersOwnRuns(t *testing.T) {
	t.Parallel()
	l := setup(t)
	call(l, 10, "tenant")
	finish(l, 10, 1, 1, "complete", `1`)
	call(l, 20, "private")
	finish(l, 20, 1, 1, "error", `{"code": "timeout"}`)
	l.given(alice, "id", id(30), "entity_type", "function", "status", "active", "name", "f")
	l.given(alice, "id", id(30), "seq", 1, "entity_type", "function", "status", "archived", "is_deleted", true)
	for n := range 3 {
		l.given(ann, "id", id(40+n), "entity_type", "request", "status", "scheduled", "parent_id", id(10))
	}
	const state = `select coalesce(string_agg(concat_ws(' ', right(id::text, 2), seq, status,
		right(last_request_id::text, 2), last_request_status, last_execution_status, last_execution_error_code,
		last_execution_duration_ms, open_requests), ', ' order by id), '') from ledger.function_state`
	const alices = "10 0 active 11 complete complete 12 0, 20 0 active 21 error error timeout 12 0"
	for _, c := range []struct {
		who  actor
		want string
	}{
		{alice, alices}, {service, alices}, {engine, alices}, {owner, alices},
		{ann, "10 0 active 42 scheduled 3"},
		{bob, ""}, {nobody, ""},
	} {
		if got := ask[string](l, c.who, state); got != c.want {
			t.Errorf("%s %s sees\n%s, want\n%s", c.who.role, c.who.claims, got, c.want)
		}
	}
}
