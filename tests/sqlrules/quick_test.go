package sqlrules

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What turns the quick tests of the insert guard off, so that each span is judged by the whole law.
var wholeLaw = [][2]string{
	{"if v_is_plain then", "if false then"},
	{"if v_is_plain_user and (", "if false and ("},
	{"if v_is_ordinary is not true and v_code is null then", "if v_code is null then"},
	{"if v_code is null and v_is_shaped is not true then", "if v_code is null then"},
}

// The quick tests may let nothing through that the whole law refuses, nor fill in or say anything else:
// random spans, ordinary and odd, by random actors, to both.
func TestQuickTestsAreNoOtherLaw(t *testing.T) {
	t.Parallel()
	quick, whole := setup(t), setup(t)
	guard := ask[string](whole, owner, "select pg_get_functiondef('ledger.admit_span()'::regprocedure)")
	for _, change := range wholeLaw {
		if strings.Count(guard, change[0]) != 1 {
			t.Fatalf("the guard has not one %q: mend wholeLaw", change[0])
		}
		guard = strings.Replace(guard, change[0], change[1], 1)
	}
	run(t, whole.conn, guard)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	verdicts := map[string]int{}
	const spans = 1000
	for range spans {
		who := quickActors[random.IntN(len(quickActors))]
		pairs := randomSpan(random, plainSpan(random))
		if random.IntN(4) == 0 {
			who, pairs = engine, randomSpan(random, engineSpan(random))
		}
		got, want := judge(quick, who, pairs), judge(whole, who, pairs)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d, %s %s appends\n%.1000q\nquick: %.500v\nwhole: %.500v",
				seed, who.role, who.claims, pairs, got, want)
		}
		verdicts[got["verdict"].(string)]++
	}
	if verdicts[""] < spans/10 || verdicts["LL017"] < spans/20 || len(verdicts) < 8 {
		t.Errorf("the spans are all alike: %v", verdicts)
	}
}

var quickActors = []actor{alice, alice, alice, alice, alice, alice, ann, ann,
	governor, service, engine, owner, nobody,
	user("system", "t1"), user("alice", "system"), user(strings.Repeat("u", 201), "t1"),
	user("alice", strings.Repeat("é", 130)),
	{role: "authenticated", claims: `{"sub":"alice","tenant_id":"t1"}`},
	{role: "authenticated", claims: `{"sub":["alice"],"app_metadata":{"tenant_id":"t1"}}`},
	{role: "authenticated", claims: `{"sub":"alice","app_metadata":[{"tenant_id":"t1"}]}`}}

// quickPools are values of a column, ordinary and odd; the guard does not look at columns that are not here.
var quickPools = func() map[string][]any {
	word := func(n int) string { return strings.Repeat("x", n) }
	text := func(n int) string { return `{"a":"` + word(n) + `"}` }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	hash := func(n int) string { return strings.Repeat("a1", n/2) }
	pools := map[string][]any{}
	for columns, values := range map[string][]any{
		"id": {nil, id(1), id(2), id(3), derived(1), manifestID,
			"ffffffff-ffff-ffff-ffff-ffffffffffff"},
		"seq": {nil, 0, 1, -1},
		"entity_type": {nil, "", "Note", "note x", "a\n",
			"request", "execution", "function", "metric", "key", word(63), word(64)},
		"who": {nil, "", "user:alice", "user:ann", "client:x",
			"kernel:x", "system:x", "user:" + word(252)},
		"owner_id":    {nil, "", "alice", "ann", "system", word(201)},
		"tenant_id":   {nil, "", "t1", "t2", "system", word(201)},
		"visibility":  {nil, "", "private", "tenant", "public", "all"},
		"status":      {nil, "", "active", "scheduled", "complete", "not so", "1", "x\n", word(63), word(64)},
		"is_deleted":  {nil, true},
		"policy_id":   {nil, id(9)},
		"code":        {"", word(262_144), word(262_145)},
		"timeout_ms":  {0, 1, 86400000, 86400001},
		"value cost":  {"1", "NaN", "1e38", "1e-39", "-Infinity"},
		"confidence":  {"0.5", "2", "NaN"},
		"sensitivity": {"pii", "x"},
		"layer":       {"session", "x"},
		"signature":   {hash(128), hash(64)},
		"related_to": {"{}", "{" + id(1) + "}", "{NULL}", "{{" + id(1) + "}}",
			"[0:0]={" + id(1) + "}"},
		"tags scopes": {"{}", "{a}", "[5:6]={a,b}", "[1:2]={a,b}", `{"[5:6]={"}`,
			"{a,NULL}", "{{a},{b}}", `{"NULL"}`, "{" + strings.Repeat("a,", 1000) + "a}"},
		"did this name confirmed_by if_ok if_doubt if_not reason description": {
			"", "x", word(1000), word(1001), strings.Repeat("é", 600), word(4001), word(20_001)},
		"trace_id session_id idempotency_key app_id device_id schema_id model sig_key_id": {
			"", "x", word(256), word(257)},
		"severity kind version language runtime unit sig_alg": {
			"", "x", word(128), word(129)},
		"metadata content input output error links": {`{}`, `[]`, `null`, `1e400`, `[1e-400]`, `{"a":-1e309}`,
			`{"a":5e-324}`, `0e-400`, `{"a":[0e-401]}`, `[1.5, 0e-9999]`,
			`"1.` + strings.Repeat("1", 401) + `"`, deep(64), deep(65),
			`{"a":` + deep(63) + `}`, `{"a":` + deep(64) + `}`, `{"engine":{}}`,
			text(119), text(600), text(9000), text(140_000), text(262_144),
			`[` + strings.Repeat("1e300,", 30) + `1e131071]`},
		"at scheduled_at effective_at expires_at ttl_at": {"2026-01-01 00:00:00+00", "-infinity", "infinity",
			"0001-01-01 00:00:00+00 BC", "10000-01-01 00:00:00+00"},
		"attempt duration_ms tokens_in tokens_out tool_use_count": {0, 1, -1},
		"compiled_hash prev_hash curr_hash public_key":            {hash(64), hash(62), word(64)},
	} {
		for _, column := range strings.Fields(columns) {
			pools[column] = values
		}
	}
	return pools
}()

// quickColumns are those that an ordinary span has, or that its writer's own are filled into.
var quickColumns = strings.Fields("id seq entity_type who at owner_id tenant_id visibility status did name " +
	"metadata content")

// plainSpan is an ordinary span of a client.
func plainSpan(random *rand.Rand) []any {
	pairs := []any{"entity_type", "note", "name", "n", "metadata", `{"a":1}`}
	if random.IntN(8) == 0 {
		pairs = with(pairs, "curr_hash", hashOne, "id", id(random.IntN(9)+10), "seq", 0, "who", "user:alice",
			"at", "now", "owner_id", "alice", "tenant_id", "t1", "visibility", "private", "is_deleted", false)
	}
	return pairs
}

// engineSpan is what the engine writes for each run.
func engineSpan(random *rand.Rand) []any {
	pairs := []any{"id", derived(random.IntN(1_000_000) + 10), "seq", 0, "entity_type", "execution",
		"who", "kernel:run_code", "did", "executed", "at", "now", "owner_id", "alice", "tenant_id", "t1",
		"visibility", "private", "is_deleted", false, "status", "complete", "curr_hash", hashOne,
		"attempt", 1, "duration_ms", 3, "related_to", "{" + id(1) + "}", "input", `{"a":41}`,
		"output", `{"sum":42.5}`,
		"metadata", `{"engine":{"kind":"execution","cause":["` + id(1) + `",0],"depth":2}}`}
	if random.IntN(3) == 0 {
		pairs = with(pairs, "entity_type", "request", "status", "scheduled")
	}
	return pairs
}

// randomSpan is a span of which up to three columns are something else.
func randomSpan(random *rand.Rand, pairs []any) []any {
	columns := slices.Sorted(maps.Keys(quickPools))
	for range random.IntN(4) {
		column := columns[random.IntN(len(columns))]
		if random.IntN(3) > 0 {
			column = quickColumns[random.IntN(len(quickColumns))]
		}
		pool := quickPools[column]
		pairs = with(pairs, column, pool[random.IntN(len(pool))])
	}
	return pairs
}

// judge appends the span and returns what became of it: the refusal, or the row but for what
// is never the same.
func judge(l *ledger, who actor, pairs []any) map[string]any {
	var columns, values []string
	stated := map[any]bool{}
	for i := 0; i < len(pairs); i += 2 {
		columns = append(columns, pairs[i].(string))
		value := "null"
		if pairs[i+1] != nil {
			value = "'" + strings.ReplaceAll(fmt.Sprint(pairs[i+1]), "'", "''") + "'"
		}
		values = append(values, value)
		stated[pairs[i]] = pairs[i+1] != nil
	}
	row := map[string]any{}
	err := l.in(who, func(tx pgx.Tx) error {
		_, err := tx.Exec(l.t.Context(), fmt.Sprintf("insert into ledger.universal_registry (%s) values (%s)",
			strings.Join(columns, ", "), strings.Join(values, ", ")))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(l.t.Context(), "reset role"); err != nil {
			return err
		}
		return tx.QueryRow(l.t.Context(), `select to_jsonb(r) from ledger.universal_registry as r
			where xact = pg_current_xact_id()`).Scan(&row)
	})
	row["verdict"] = ""
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return map[string]any{"verdict": refusal.Code, "column": refusal.ColumnName,
			"message": message(refusal)}
	}
	if err != nil {
		l.t.Fatalf("append %.500v: %v", pairs, err)
	}
	for _, column := range []string{"xact", "accepted_at"} {
		delete(row, column)
	}
	if !stated["id"] && !stated["idempotency_key"] {
		delete(row, "id")
	}
	delete(row, "at")
	return row
}

// message of a refusal, but for what holds an id or a time of its own.
func message(refusal *pgconn.PgError) string {
	if refusal.Code == "LL011" || refusal.Code == "LL002" || refusal.Code == "23505" {
		return ""
	}
	return refusal.Message
}

// A version that the engine appends to a request passes the quick test of the follow guard only where the
// whole law lets it through, as it is: every pair of statuses, and what else is compared.
func TestQuickFollowIsNoOtherLaw(t *testing.T) {
	t.Parallel()
	quick, whole := setup(t), setup(t)
	guard := ask[string](whole, owner, "select pg_get_functiondef('ledger.follow_version()'::regprocedure)")
	const branch = "if v_is_engine then"
	if strings.Count(guard, branch) != 1 {
		t.Fatalf("the guard has not one %q", branch)
	}
	run(t, whole.conn, strings.Replace(guard, branch, "if false then", 1))
	for _, l := range []*ledger{quick, whole} {
		run(t, l.conn, "alter table ledger.universal_registry disable trigger all")
	}
	statuses := []string{"scheduled", "running", "retry", "blocked", "complete", "error", "dead", "cancelled",
		"cancel_requested"}
	changes := [][]any{{}, {"prev_hash", hashTwo}, {"prev_hash", nil}, {"curr_hash", nil, "prev_hash", nil},
		{"parent_id", id(8)}, {"parent_id", nil}, {"owner_id", "ann"}, {"tenant_id", "t2"},
		{"entity_type", "note"}, {"seq", 2}}
	n, passed := 0, 0
	for _, before := range statuses {
		for _, after := range statuses {
			for _, change := range changes {
				if len(change) > 0 && after != "running" && after != "complete" {
					continue
				}
				n++
				first := []any{"id", derived(n), "seq", 0, "entity_type", "request", "who", "kernel:x", "at", "now",
					"owner_id", "alice", "tenant_id", "t1", "visibility", "private", "is_deleted", false,
					"status", before, "parent_id", id(7), "curr_hash", hashOne, "xact", "3", "accepted_at", "now"}
				next := with(first, "seq", 1, "status", after, "prev_hash", hashOne, "curr_hash", hashTwo)
				next = with(next, change...)
				got, want := followed(quick, first, next), followed(whole, first, next)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("after %s appends\n%q\nquick: %.500v\nwhole: %.500v", before, next, got, want)
				}
				if got["verdict"] == "" {
					passed++
				}
			}
		}
	}
	if passed < 20 || passed > n-20 {
		t.Errorf("%d of %d pass", passed, n)
	}
}

// followed judges next after first, which no guard has seen.
func followed(l *ledger, first, next []any) map[string]any {
	l.t.Helper()
	var columns, values []string
	for i := 0; i < len(first); i += 2 {
		columns = append(columns, first[i].(string))
		values = append(values, fmt.Sprintf("'%v'", first[i+1]))
	}
	run(l.t, l.conn, fmt.Sprintf("insert into ledger.universal_registry (%s) values (%s)",
		strings.Join(columns, ", "), strings.Join(values, ", ")))
	run(l.t, l.conn, "alter table ledger.universal_registry enable trigger all")
	defer run(l.t, l.conn, "alter table ledger.universal_registry disable trigger all")
	return judge(l, engine, next)
}
