package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// limit sets the daily limits of tenants and users.
func limit(tenant, user int) func(map[string]any) {
	return func(manifest map[string]any) {
		manifest["throttle"] = map[string]int{"per_tenant_daily_exec_limit": tenant,
			"per_user_daily_exec_limit": user}
	}
}

// callMany appends n requests of a user for a function, all in one transaction, and returns their trace.
func (s *system) callMany(u user, f span.ID, n int) string {
	s.t.Helper()
	c := called(f, columns{})
	trace := c["trace_id"].(string)
	err := s.as(u, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into ledger.universal_registry (entity_type, who, status, parent_id, trace_id)
			select 'request', 'user:' || $1, 'scheduled', $2::uuid, $3 from generate_series(1, $4)`, u.sub,
			f.String(), trace, n)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return trace
}

// states counts the requests of a trace by the status in which they stand, and their executions.
func (s *system) states(trace string) string {
	s.t.Helper()
	return one[string](s, `select coalesce(string_agg(concat_ws(' ', status, n), ', ' order by status), '')
		from (
			select status, count(*) as n from ledger.universal_registry r
			where trace_id = $1 and (entity_type = 'execution' or entity_type = 'request' and not exists (
				select from ledger.universal_registry v where v.id = r.id and v.seq = r.seq + 1))
			group by case entity_type when 'execution' then 'execution ' else '' end, status
		) as counted`, trace)
}

// giveUp has a user cancel a request, as a client does: where the engine has moved it on meanwhile, the
// version after that.
func (s *system) giveUp(u user, request span.ID) {
	s.t.Helper()
	program.Eventually(s.t, "the wish is the next version", func() bool {
		seq := one[int](s, "select max(seq) from ledger.universal_registry where id = $1::text::uuid", request.String())
		_, err := s.try(u, columns{"id": request, "seq": seq + 1, "entity_type": "request",
			"status": "cancel_requested"})
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) && refusal.Code == "23505" {
			return false
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return true
	})
}

// stands waits until the requests of a trace stand so.
func (s *system) stands(trace, want string) {
	s.t.Helper()
	got := ""
	if !program.Within(s.t, patience, func() bool { got = s.states(trace); return got == want }) {
		s.t.Fatalf("the requests stand as %q, want %q", got, want)
	}
}

func TestTheDailyLimitIsExactUnderRaces(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(limit(10, 1000))
	s.serve()
	f := s.insert(alice, function(`return 1;`, columns{"status": "active"})).ID
	trace := s.callMany(alice, f, 64)
	s.stands(trace, "blocked 54, complete 10, complete 10")
	blocked := s.read("trace_id = $1 and status = 'blocked'", trace)
	tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for _, row := range blocked {
		if row.ScheduledAt == nil || !row.ScheduledAt.Equal(tomorrow) || row.Reason == nil {
			t.Fatalf("a blocked request is due at %v, because %v", row.ScheduledAt, row.Reason)
		}
	}
	found := s.read("entity_type = 'policy_violation'")
	if len(found) != 1 || *found[0].This != "quota.exec.per_tenant.daily" || found[0].TenantID != alice.tenant ||
		found[0].OwnerID != alice.sub || found[0].Visibility != "private" {
		t.Fatalf("%d violations: %+v", len(found), found)
	}
	sameJSON(t, found[0].Metadata, fmt.Sprintf(`{"limit": 10, "today": 10, "engine": {"cause": [%q, 0],
		"root": %q, "depth": 1, "kind": "policy_violation"}}`, span.ManifestID, span.ManifestID))
	got := one[string](s, `select concat_ws(' ', status, is_done, execution_id is null, reason)
		from ledger.result($1)`, blocked[0].ID.String())
	if !strings.HasPrefix(got, "blocked f t the tenant has used its 10 executions of today: the next are free at ") {
		t.Errorf("ledger.result says %q", got)
	}

	s.giveUp(alice, blocked[0].ID)
	s.stands(trace, "blocked 53, cancelled 1, complete 10, complete 10")
	s.govern(limit(30, 1000))
	s.stands(trace, "blocked 33, cancelled 1, complete 30, complete 30")
	s.govern(limit(1000, 1000))
	s.stands(trace, "cancelled 1, complete 63, complete 63")
	judge(t, s)
}

func TestTheDailyLimitIsExactAcrossKill9(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(limit(10, 1000))
	sidecar := s.serve()
	f := s.insert(alice, function(`let n = 0; for (let i = 0; i < 300000; i++) n += i; return n;`,
		columns{"status": "active"})).ID
	trace := s.callMany(alice, f, 64)
	for kills := range 2 { // a request that were lost a third time would be dead
		program.Eventually(t, "some have run", func() bool {
			return one[int](s, "select count(*) from ledger.universal_registry where entity_type = 'execution'") > 4*kills
		})
		killAndCheck(t, sidecar)
		sidecar = s.serve()
	}
	s.stands(trace, "blocked 54, complete 10, complete 10")
	killAndCheck(t, sidecar)
	s.govern(limit(30, 1000)) // while nobody leads
	s.serve()                 // which finds them blocked by the limits before
	s.stands(trace, "blocked 34, complete 30, complete 30")
	s.govern(limit(1000, 1000))
	s.stands(trace, "complete 64, complete 64")
	judge(t, s)
}

// However often the leader is killed on the way to the limit: never more, and in the end exactly as many.
func TestTheDailyLimitIsExactWhereThreeSidecarsAreKilledInTurn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const most = 40
	s.govern(limit(most, 1000))
	running := map[string]*program.Process{}
	start := func(n int) {
		node := fmt.Sprintf("node-%d", n)
		running[node] = s.spawn("LOGLINE_NODE=" + node)
	}
	for n := range 3 {
		start(n)
	}
	f := s.insert(alice, function(`let n = 0; for (let i = 0; i < 100000; i++) n += i; return n;`,
		columns{"status": "active"})).ID
	executions := func() int {
		return one[int](s, "select count(*) from ledger.universal_registry where entity_type = 'execution'")
	}
	trace := s.callMany(alice, f, 2*most)
	for n, at := range []int{most / 4, most / 2, most - 1} {
		program.Eventually(t, fmt.Sprintf("%d have run", at), func() bool { return executions() >= at })
		leader := one[string](s, "select node from engine.leader")
		killAndCheck(t, running[leader])
		start(3 + n)
	}
	// A request that all three were killed under is dead. It counts until the next one leads: it began, but left
	// no execution.
	dead, complete, stands := 0, 0, ""
	if !program.Within(t, patience, func() bool {
		stands = s.states(trace)
		_, after, _ := strings.Cut(stands, "dead ")
		dead, _ = strconv.Atoi(after)
		complete = executions()
		return stands == standing(2*most-dead-complete, complete, dead) && complete+dead >= most
	}) || complete > most {
		t.Fatalf("the requests stand as %q, under a limit of %d", stands, most)
	}
	s.govern(limit(1000, 1000))
	s.stands(trace, standing(0, 2*most-dead, dead))
	judge(t, s)
}

// standing is what states says of so many requests.
func standing(blocked, complete, dead int) string {
	stands := fmt.Sprintf("complete %d, complete %d", complete, complete)
	if blocked > 0 {
		stands = fmt.Sprintf("blocked %d, %s", blocked, stands)
	}
	if dead > 0 {
		stands = fmt.Sprintf("%s, dead %d", stands, dead)
	}
	return stands
}

func TestAUsersLimitIsHisOwnAndScheduledRunsAreNotHis(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(limit(1000, 2))
	s.serve()
	f := s.insert(alice, function(`return 1;`, columns{"status": "active", "visibility": "tenant"})).ID
	mine, hers := s.callMany(alice, f, 3), s.callMany(carol, f, 2)
	s.stands(mine, "blocked 1, complete 2, complete 2")
	s.stands(hers, "complete 2, complete 2")
	for range 3 {
		s.run(alice, `return 1;`).execution(t)
	}
	found := s.read("entity_type = 'policy_violation'")
	if len(found) != 1 || *found[0].This != "quota.exec.per_user.daily" || found[0].OwnerID != alice.sub {
		t.Errorf("%d violations: %+v", len(found), found)
	}
	if seen := s.seen(carol, "ledger.visible_timeline", "entity_type = 'policy_violation'"); len(seen) != 0 {
		t.Errorf("carol sees alice's violation: %+v", seen)
	}
}

func TestAFailedRunIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	got := s.run(alice, `const notes = await ctx.find({ entity_type: "gate", name: "retry" });
		if (notes.length === 0) throw new Error("not yet"); return "done";`,
		columns{"metadata": columns{"retry": columns{"max_attempts": 2, "base_ms": 10}}})
	if got.last().StatusText() != "dead" || len(got.executions) != 2 || *got.last().Attempt != 2 {
		t.Errorf("two attempts: %s", describe([]run{got}))
	}
	c := function(`const notes = await ctx.find({ entity_type: "gate", name: "retry" });
		if (notes.length === 0) throw new Error("not yet"); return "done";`,
		columns{"metadata": columns{"retry": columns{"max_attempts": 20, "base_ms": 200}}})
	s.insert(alice, c)
	trace := c["trace_id"].(string)
	program.Eventually(t, "it is to be tried again", func() bool {
		runs, _ := s.runs(trace)
		return len(runs) == 1 && len(runs[0].executions) > 0
	})
	s.openGate(alice, "retry")
	got = s.settled(trace, 1)[0]
	last := slices.MaxFunc(got.executions, func(a, b *span.Span) int { return *a.Attempt - *b.Attempt })
	if got.last().StatusText() != "complete" || last.StatusText() != "complete" || *last.Attempt < 2 {
		t.Errorf("after the gate is open: %s", describe([]run{got}))
	}
	if n := one[int](s, `select count(*) from ledger.universal_registry where entity_type = 'execution'
		and metadata #> '{run,quota,day}' is not null and trace_id = $1`, trace); n != 1 {
		t.Errorf("%d attempts count", n)
	}
}

func TestAFunctionThatFailsAgainAndAgainIsNotRun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(func(manifest map[string]any) {
		manifest["policy"] = map[string]any{"circuit_breaker_threshold": 4}
	})
	s.serve()
	f := s.insert(alice, function(`throw new Error("no");`, columns{"status": "active"})).ID
	for range 4 {
		s.stands(s.callMany(alice, f, 1), "error 1, error 1")
	}
	trace := s.callMany(alice, f, 5)
	s.stands(trace, "error 5, error 5")
	for _, row := range s.read("trace_id = $1 and entity_type = 'execution'", trace) {
		if fault := failure(t, row); fault.Code != span.RunDenied || !strings.Contains(fault.Message, "circuit") {
			t.Errorf("got %+v", fault)
		}
	}
	s.run(alice, `return 1;`).execution(t)
	if seen := s.seen(alice, "ledger.visible_timeline", "entity_type = 'incident'"); len(seen) != 1 ||
		seen[0].RelatedTo[0] != f {
		t.Errorf("alice sees the incidents %+v", seen)
	}
	var record json.RawMessage = s.read("trace_id = $1 and entity_type = 'execution'", trace)[0].Metadata
	if strings.Contains(string(record), `"quota"`) {
		t.Errorf("what was refused counts: %s", record)
	}
}
