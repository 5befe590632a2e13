package chaos_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// withoutTriggers lets a superuser insert what the ledger never would.
const withoutTriggers = "alter table ledger.universal_registry disable trigger user"

// withTriggers undoes that.
const withTriggers = `alter table ledger.universal_registry
	enable always trigger universal_registry_before_insert_1_admit,
	enable always trigger universal_registry_before_insert_2_follow,
	enable always trigger universal_registry_before_change_row,
	enable always trigger universal_registry_before_change_statement;`

// small is a ledger in which every invariant holds: a function that ran and emitted a note, and a policy that
// answered to an order. Its rows are changed before they are sealed.
type small struct {
	rows    map[string]*span.Span
	unsound func(rows map[string]*span.Span) // after they are sealed
}

var smallEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func smallID(n int) span.ID { return span.MustID(fmt.Sprintf("11111111-1111-4111-9111-%012d", n)) }

// plain is a span of a client.
func plain(n int, entityType, status string, xact int) *span.Span {
	at := span.NewTime(smallEpoch.Add(time.Duration(xact) * time.Second))
	return &span.Span{ID: smallID(n), EntityType: entityType, Who: "user:alice", Did: new("made"),
		This: new(entityType), At: at, AcceptedAt: &at, Xact: new(fmt.Sprint(xact)), OwnerID: "alice",
		TenantID: "acme", Visibility: "private", Status: &status}
}

// derived is a span of the engine, for a cause.
func derived(kind, entityType, status string, cause *span.Span, depth, xact int) *span.Span {
	s := plain(0, entityType, status, xact)
	s.ID = span.Derive(kind, smallEpoch, []span.ID{cause.ID}, int64(cause.Seq))
	s.Who = "sidecar:small"
	setEngine(s, cause, kind, depth)
	return s
}

// quotaDay says that a run counts on that day.
const quotaDay = `{"run": {"quota": {"day": "2026-01-02", "per_user": false}}}`

func setEngine(s, cause *span.Span, kind string, depth int) {
	metadata, err := span.SetEngine(json.RawMessage(quotaDay),
		span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: depth, Kind: kind})
	if err != nil {
		panic(err) // of ids and numbers: never
	}
	s.Metadata = metadata
}

func newSmall() *small {
	function := plain(1, "function", "scheduled", 100)
	request := derived("request", "request", "scheduled", function, 1, 101)
	end := nextOf(request, "complete", 102)
	execution := derived("execution", "execution", "complete", request, 2, 102)
	execution.RelatedTo, execution.Attempt, end.Attempt = []span.ID{request.ID}, new(1), new(1)
	execution.Output = json.RawMessage(`{"emits": 1}`)
	note := derived("emitted", "note", "new", request, 2, 102)
	policy := plain(2, "policy", "active", 50)
	policy.Name, policy.Metadata = new("chaos-echo"), json.RawMessage(`{"when": {"entity_type": "order"}}`)
	order := plain(3, "order", "new", 103)
	alert := derived("policy", "echo", "new", order, 1, 104)
	alert.PolicyID = &policy.ID
	manifest := plain(0, "manifest", "active", 10)
	manifest.ID = span.ManifestID
	manifest.Metadata = json.RawMessage(`{"throttle": {"per_tenant_daily_exec_limit": 1000}}`)
	return &small{rows: map[string]*span.Span{"function": function, "request": request, "end": end,
		"execution": execution, "note": note, "policy": policy, "order": order, "alert": alert,
		"manifest": manifest}}
}

func nextOf(s *span.Span, status string, xact int) *span.Span {
	next := *s
	at := span.NewTime(smallEpoch.Add(time.Duration(xact) * time.Second))
	next.Seq, next.Status, next.Xact, next.AcceptedAt = s.Seq+1, &status, new(fmt.Sprint(xact)), &at
	return &next
}

// another is a copy of a derived span that is there once more.
func another(s *span.Span, kind string) *span.Span {
	copied := *s
	copied.ID = span.Derive(kind, smallEpoch, []span.ID{s.ID})
	return &copied
}

// insert seals what the engine would have, in the order of versions, and inserts all of it past the triggers.
func (l *small) insert(t *testing.T, tx pgx.Tx, signer *sign.Signer) {
	t.Helper()
	before := map[span.ID]*string{}
	ordered := slices.SortedFunc(maps.Values(l.rows), func(a, b *span.Span) int {
		return cmp.Or(slices.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Seq, b.Seq))
	})
	for _, row := range ordered {
		if row.ID.Version() == 8 {
			if row.PrevHash == nil {
				row.PrevHash = before[row.ID]
			}
			if err := signer.Seal(row, row.PrevHash); err != nil {
				t.Fatal(err)
			}
		}
		before[row.ID] = row.CurrHash
	}
	if l.unsound != nil {
		l.unsound(l.rows)
	}
	for _, row := range ordered {
		body, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `insert into ledger.universal_registry
			select * from json_populate_record(null::ledger.universal_registry, $1::json)`, string(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// Each case is a small ledger with one breach, and the oracle says which.
func TestEachInvariantCanFail(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, want string
		change     func(l *small)
	}{
		{"nothing is wrong", "", func(*small) {}},
		{"a function version without request", "I1 each scheduled version of a function has exactly one request",
			func(l *small) { l.drop("request", "end", "execution", "note") }},
		{"a function version with two requests", "I1 each scheduled version of a function has exactly one request",
			func(l *small) {
				l.rows["twin"] = another(l.rows["request"], "twin")
				l.rows["twin end"] = nextOf(l.rows["twin"], "cancelled", 105)
			}},
		{"a tick that was missed", "I1 each tick of a function that recurs has exactly one request",
			func(l *small) { l.recur(0, 2, 4, 8, 10) }},
		{"a tick that came twice", "I1 each tick of a function that recurs has exactly one request",
			func(l *small) { l.recur(0, 2, 4, 4, 6, 8, 10) }},
		{"a tick at another time", "I1 a function that recurs has no request but its ticks'",
			func(l *small) { l.recur(0, 2, 4, 5, 6, 8, 10) }},
		{"an effect without cause", "I1 no effect is without its cause",
			func(l *small) { l.rows["effect"] = derived("x", "metric", "new", plain(9, "order", "new", 1), 1, 105) }},
		{"a request that never ends", "I2 each request ends once, or waits for a time that is still to come",
			func(l *small) { l.drop("end", "execution", "note") }},
		{"a request that waits for a time that is over",
			"I2 each request ends once, or waits for a time that is still to come", func(l *small) {
				l.drop("end", "execution", "note")
				at := span.NewTime(smallEpoch)
				l.rows["request"].ScheduledAt = &at
			}},
		{"an execution in another transaction than its end",
			"I3 executions and the ends of attempts are one to one, in one transaction",
			func(l *small) { l.rows["end"].Xact = new("109") }},
		{"an end without execution", "I3 executions and the ends of attempts are one to one, in one transaction",
			func(l *small) { l.drop("execution", "note") }},
		{"two executions of an attempt", "I3 each attempt of a request has one execution at most",
			func(l *small) { l.rows["twin"] = another(l.rows["execution"], "twin") }},
		{"what was emitted is missing", "I3 what a run emits is there once, in its transaction",
			func(l *small) { l.drop("note") }},
		{"what was emitted is there twice", "I3 what a run emits is there once, in its transaction",
			func(l *small) { l.rows["twin"] = another(l.rows["note"], "twin") }},
		{"what a loser emitted stays", "I3 nothing is left of a run that lost", func(l *small) {
			l.rows["twin"] = another(l.rows["note"], "twin")
			l.rows["twin"].Xact = new("109")
		}},
		{"a gap in the versions", "I4 versions have no gap, and one tenant, owner and type",
			func(l *small) { l.rows["end"].Seq = 2 }},
		{"a version of another tenant", "I4 versions have no gap, and one tenant, owner and type",
			func(l *small) {
				l.rows["stolen"] = nextOf(l.rows["order"], "new", 0)
				l.rows["stolen"].TenantID = "globex"
			}},
		{"a forbidden transition", "I4 requests move as docs/contract.md allows", func(l *small) {
			l.rows["cancel"] = nextOf(l.rows["request"], "cancel_requested", 102)
			l.rows["end"].Seq = 2
		}},
		{"a version beside the chain", "I4 each version follows the one before by hash",
			func(l *small) { l.rows["end"].PrevHash = new(fmt.Sprintf("%064d", 7)) }},
		{"a death too early", "I4 requests die only after three lost sidecars", func(l *small) {
			l.drop("execution", "note")
			l.rows["end"].Status = new("dead")
		}},
		{"a policy that was not asked", "I5 policies emit for each span what they say, once",
			func(l *small) { l.drop("alert") }},
		{"a policy that was asked twice", "I5 policies emit for each span what they say, once",
			func(l *small) { l.rows["twin"] = another(l.rows["alert"], "twin") }},
		{"a policy that acts for another tenant", "I5 a policy emits nothing else", func(l *small) {
			foreign := plain(7, "order", "new", 103)
			foreign.TenantID = "globex"
			l.rows["foreign"], l.rows["answer"] = foreign, derived("policy", "echo", "new", foreign, 1, 104)
			l.rows["answer"].PolicyID = l.rows["alert"].PolicyID
		}},
		{"one execution too many", "I6 no tenant has more executions in a day than its limit", func(l *small) {
			l.rows["manifest"].Metadata = json.RawMessage(`{"throttle": {"per_tenant_daily_exec_limit": 0}}`)
		}},
		{"a chain too deep", "I10 no chain of causes is deeper than sixteen",
			func(l *small) { setEngine(l.rows["alert"], l.rows["order"], "policy", 17) }},
		{"a span as high as its cause", "I10 a span is one deeper than its cause",
			func(l *small) { setEngine(l.rows["note"], l.rows["request"], "emitted", 1) }},
		{"a tenant that waits for all of another's", "I12 no tenant waits for more than three times its share of " +
			"the others' runs", flood},
		{"an incident", "I13 nothing went wrong inside",
			func(l *small) { l.rows["incident"] = derived("incident", "incident", "open", l.rows["order"], 1, 105) }},
		{"a hash of something else", "I14 what the engine appends is hashed and signed", func(l *small) {
			l.unsound = func(rows map[string]*span.Span) { rows["note"].Name = new("changed") }
		}},
		{"a signature of something else", "I14 what the engine appends is hashed and signed", func(l *small) {
			l.unsound = func(rows map[string]*span.Span) { rows["note"].Signature = rows["alert"].Signature }
		}},
		{"no signature", "I14 what the engine appends is hashed and signed", func(l *small) {
			l.unsound = func(rows map[string]*span.Span) { rows["note"].Signature = nil }
		}},
	}
	db := pgtest.New(t)
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{"I13 batches never deadlock": true} // which has a test of its own
	for _, c := range cases {
		covered[c.want] = true
		t.Run(c.name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), db.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }() // rolls back
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), withoutTriggers); err != nil {
				t.Fatal(err)
			}
			l := newSmall()
			c.change(l)
			l.insert(t, tx, sign.NewSigner(key))
			found, err := breaches(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			most := 1
			if c.want == "" {
				most = 0
			}
			if len(found) != most || c.want != "" && len(found[c.want]) == 0 {
				t.Errorf("broken: %v, want %q alone", found, c.want)
			}
		})
	}
	for _, i := range invariants() {
		if !covered[i.name] {
			t.Errorf("no case breaks %q", i.name)
		}
	}
}

// recur adds a function that recurs for twenty seconds, and requests so many seconds after it began.
func (l *small) recur(seconds ...int) {
	function := plain(200, "function", "active", 199)
	function.Name = new("chaos-recurring")
	l.rows["recurring"], l.rows["recurring end"] = function, nextOf(function, "archived", 216)
	for i, second := range seconds {
		request := derived("tick", "request", "scheduled", function, 1, 200+second+1)
		request.ID = span.Derive("tick", smallEpoch, []span.ID{function.ID}, int64(i))
		request.ParentID = &function.ID
		request.At = span.NewTime(smallEpoch.Add(time.Duration(201+second) * time.Second))
		l.rows[fmt.Sprint("tick", i)] = request
		l.rows[fmt.Sprint("tick end", i)] = nextOf(request, "cancelled", 300)
	}
}

func (l *small) drop(names ...string) {
	for _, name := range names {
		delete(l.rows, name)
	}
}

// flood has a request wait while four hundred of another tenant run.
func flood(l *small) {
	first := plain(100, "request", "scheduled", 1000)
	first.Name = new("fair")
	end := nextOf(first, "complete", 3000)
	execution := derived("execution", "execution", "complete", first, 2, 3000)
	execution.RelatedTo, execution.Attempt, end.Attempt = []span.ID{first.ID}, new(1), new(1)
	l.rows["fair"], l.rows["fair end"], l.rows["fair execution"] = first, end, execution
	for i := range 400 {
		request := plain(1000+i, "request", "scheduled", 1001+i)
		end := nextOf(request, "complete", 1500+i)
		execution := derived("execution", "execution", "complete", request, 2, 1500+i)
		execution.RelatedTo, execution.Attempt, end.Attempt = []span.ID{request.ID}, new(1), new(1)
		request.TenantID, end.TenantID, execution.TenantID = "globex", "globex", "globex"
		l.rows[fmt.Sprint("request", i)], l.rows[fmt.Sprint("end", i)] = request, end
		l.rows[fmt.Sprint("execution", i)] = execution
	}
}

// Two transactions that take two keys in opposite order deadlock, and the oracle says so.
func TestTheOracleSeesADeadlock(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var conns []*pgx.Conn
	for range 3 {
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		conns = append(conns, conn)
	}
	run := func(conn *pgx.Conn, statement string) error {
		_, err := conn.Exec(t.Context(), statement)
		return err
	}
	for _, statement := range []string{"begin", "set local deadlock_timeout = '10ms'"} {
		for _, conn := range conns[:2] {
			if err := run(conn, statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	lock := func(key int) string { return fmt.Sprintf("select pg_advisory_xact_lock(%d)", key) }
	if run(conns[0], lock(1)) != nil || run(conns[1], lock(2)) != nil {
		t.Fatal("take the first locks")
	}
	first := make(chan error, 1)
	go func() { first <- run(conns[0], lock(2)) }()
	second := run(conns[1], lock(1))
	_ = run(conns[1], "rollback") // so that the other one goes on, where this one was the victim
	if (<-first == nil) == (second == nil) {
		t.Fatal("no deadlock, or two")
	}
	_ = run(conns[0], "rollback")
	program.Eventually(t, "the oracle says so", func() bool {
		_ = run(conns[0], "select pg_stat_force_next_flush()") // the counts of a session come late
		_ = run(conns[1], "select pg_stat_force_next_flush()")
		found, err := breaches(t.Context(), conns[2])
		return err == nil && len(found["I13 batches never deadlock"]) == 1
	})
}
