package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
)

// scheduled appends a request and returns its first version.
func scheduled(t testing.TB, l *Ledger, n int) *span.Span {
	t.Helper()
	first := note(t, idOf(n), request)
	mustAppend(t, l, Group{Rows: []*span.Span{first}})
	return first
}

func count(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	return ask[int](t, conn, "select count(*) from ledger.universal_registry")
}

func TestFenceDecidesForItsWholeGroup(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 4)
	first := scheduled(t, l, 1)
	winner := Group{Fence: next(t, first, "complete"), Rows: []*span.Span{note(t, idOf(10)), note(t, idOf(11))}}
	mustAppend(t, l, winner)
	if winner.Fence.AcceptedAt == nil || winner.Rows[1].AcceptedAt == nil {
		t.Error("inserted spans have no accepted_at")
	}
	zombie := Group{Fence: next(t, first, "error"), Rows: []*span.Span{note(t, idOf(12)), note(t, idOf(10))}}
	other := Group{Rows: []*span.Span{note(t, idOf(13))}}
	outcomes, err := l.Append(t.Context(), []Group{zombie, other})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[0].Won || outcomes[0].Err != nil || !outcomes[1].Won {
		t.Errorf("got %+v: want the zombie lost, without an error, and the other group won", outcomes)
	}
	if n := count(t, conn); n != 5 {
		t.Errorf("%d rows, want 5: nothing of the zombie", n)
	}
}

// A fence is a version: another version of the same span that is appended along with it lets nothing through.
func TestAFenceIsWonByItsOwnVersionAlone(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	asked := note(t, idOf(1), request)
	theirs := next(t, asked, "running")
	mustAppend(t, l, Group{Rows: []*span.Span{asked}}, Group{Fence: theirs})
	late, after := next(t, asked, "complete"), next(t, theirs, "complete")
	zombie := note(t, idOf(2))
	outcomes, err := l.Append(t.Context(), []Group{{Fence: late, Rows: []*span.Span{zombie}}, {Fence: after}})
	if err != nil || outcomes[0].Won || !outcomes[1].Won {
		t.Fatalf("%+v, %v", outcomes, err)
	}
	if found, err := l.Load(t.Context(), []span.Key{zombie.Key()}); err != nil || len(found) > 0 {
		t.Errorf("what lost its fence is there: %v, %v", found, err)
	}
}

func TestExistingNamesTheRowsThatWereThere(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 4)
	rows := []*span.Span{note(t, idOf(3)), note(t, idOf(1)), note(t, idOf(2))}
	mustAppend(t, l, Group{Rows: rows[:1]}, Group{Rows: rows[2:]})
	outcomes := mustAppend(t, l, Group{Rows: rows}, Group{}, Group{Rows: []*span.Span{note(t, idOf(4))}})
	if !slices.Equal(outcomes[0].Existing, []int{0, 2}) || outcomes[1].Existing != nil ||
		outcomes[2].Existing != nil {
		t.Errorf("got %+v, want rows 0 and 2 of the first group", outcomes)
	}
	if n := count(t, conn); n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
}

func TestGroupIsAllOrNothing(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 4)
	first := scheduled(t, l, 1)
	bad := note(t, idOf(11), func(s *span.Span) { s.Visibility = "nobody" })
	outcomes, err := l.Append(t.Context(), []Group{{Fence: next(t, first, "complete"),
		Rows: []*span.Span{note(t, idOf(10)), bad, note(t, idOf(12))}}})
	if err != nil || !IsRefusal(outcomes[0].Err) || outcomes[0].Won {
		t.Fatalf("got %+v, %v: want the database's refusal", outcomes, err)
	}
	if n := count(t, conn); n != 1 {
		t.Errorf("%d rows, want the request alone", n)
	}
}

func TestHalvingIsolatesTheRefusedGroups(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 4)
	refused := map[int]string{3: "LL017", 20: "LL004", 36: "LL003"}
	var groups []Group
	first := scheduled(t, l, 999)
	for i := range 37 {
		group := Group{Rows: []*span.Span{note(t, idOf(2*i+1)), note(t, idOf(2*i+2))}}
		switch refused[i] {
		case "LL017":
			group.Rows[1] = note(t, idOf(2*i+2), func(s *span.Span) { s.Visibility = "nobody" })
		case "LL004":
			group.Rows[0] = note(t, idOf(2*i+1), func(s *span.Span) { s.EntityType = "manifest" })
		case "LL003":
			group.Fence = next(t, first, "cancel_requested")
		}
		groups = append(groups, group)
	}
	outcomes, err := l.Append(t.Context(), groups)
	if err != nil {
		t.Fatal(err)
	}
	for i, outcome := range outcomes {
		var verdict *pgconn.PgError
		switch {
		case refused[i] == "" && (outcome.Err != nil || !outcome.Won):
			t.Errorf("group %d: %+v", i, outcome)
		case refused[i] != "" && (!errors.As(outcome.Err, &verdict) || verdict.Code != refused[i]):
			t.Errorf("group %d: %+v, want %s", i, outcome, refused[i])
		}
	}
	if n := count(t, conn); n != 1+2*34 {
		t.Errorf("%d rows, want %d", n, 1+2*34)
	}
}

func TestAppendOfNothingIsWon(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	mustAppend(t, l)
	mustAppend(t, l, Group{}, Group{})
}

// Batches that share keys in opposite order would deadlock if the rows went in as they came, or if a key
// that is a fence here and a row there came in another place for that: a request stands alone where it is
// made, and is the fence of its result where it is born with it.
func TestOverlappingBatchesDoNotDeadlock(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 8)
	// Each row takes a moment, so that the batches are written at the same time and not in turn; and they wait
	// for each other as long as it takes, so that only a deadlock ends one.
	exec(t, conn, `create function public.take_a_moment() returns trigger language plpgsql as $$
		begin perform pg_sleep(0.001), set_config('lock_timeout', '0', true); return new; end $$`)
	exec(t, conn, `create trigger zz_take_a_moment before insert on ledger.universal_registry
		for each row execute function public.take_a_moment()`)
	const rounds, size = 5, 60
	for round := range rounds {
		var workers sync.WaitGroup
		for worker := range 3 {
			var groups []Group
			for i := range size {
				n := round*size + i + 1
				if worker%2 == 1 {
					n = round*size + size - i
				}
				row := note(t, idOf(n), request)
				switch {
				case n%3 == 0: // as a policy's answer
					groups = append(groups, Group{Fence: row, Rows: []*span.Span{note(t, idOf(1e6+n))}})
				case worker == 1:
					groups = append(groups, Group{Fence: row, Rows: []*span.Span{next(t, row, "complete")}})
				default:
					groups = append(groups, Group{Rows: []*span.Span{row}})
				}
			}
			workers.Go(func() {
				outcomes, err := l.Append(t.Context(), groups)
				if err != nil {
					t.Error(err)
					return
				}
				for _, outcome := range outcomes {
					if outcome.Err != nil {
						t.Error(outcome.Err)
						return
					}
				}
			})
		}
		workers.Wait()
	}
	for query, want := range map[string]int{
		"select count(*) from ledger.history where entity_type = 'request' and seq = 0": rounds * size,
		"select count(*) from ledger.history where entity_type = 'note'":                rounds * size / 3,
		"select deadlocks from pg_stat_database where datname = current_database()":     0,
	} {
		if n := ask[int](t, conn, query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
}

// A fence of two zombies at once: one of them wins, whole.
func TestOneOfManyWinsAFence(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 8)
	first := scheduled(t, l, 1)
	var workers sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for worker := range 6 {
		group := Group{Fence: next(t, first, "complete"), Rows: []*span.Span{note(t, idOf(10+worker))}}
		group.Fence.Reason = new(fmt.Sprint(worker))
		if err := group.Seal((*span.Span).Seal); err != nil {
			t.Fatal(err)
		}
		workers.Go(func() {
			outcomes, err := l.Append(t.Context(), []Group{group})
			if err != nil || outcomes[0].Err != nil {
				t.Error(err, outcomes)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if outcomes[0].Won {
				won++
			}
		})
	}
	workers.Wait()
	if n := count(t, conn); won != 1 || n != 3 {
		t.Errorf("%d won, %d rows: want 1 and 3", won, n)
	}
}

func TestFaultOnTheWayIsNoVerdict(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	group := []Group{{Rows: []*span.Span{note(t, idOf(1))}}}
	if outcomes, err := l.Append(ctx, group); err == nil || IsRefusal(err) {
		t.Errorf("cancelled: got %+v, %v", outcomes, err)
	}
	exec(t, conn, `select pg_terminate_backend(pid) from pg_stat_activity
		where application_name = 'loglineos' and datname = current_database()`)
	// Whatever the killed connections gave, a second try is safe and comes to one row.
	for range 5 {
		if _, err := l.Append(t.Context(), group); err == nil {
			break
		} else if IsRefusal(err) {
			t.Fatal(err)
		}
	}
	if n := count(t, conn); n != 1 {
		t.Errorf("%d rows", n)
	}
	exec(t, conn, "begin; lock table ledger.universal_registry")
	if _, err := l.Append(t.Context(), []Group{{Rows: []*span.Span{note(t, idOf(2))}}}); err == nil ||
		IsRefusal(err) {
		t.Errorf("behind a lock: got %v, want an error that is no verdict", err)
	}
	exec(t, conn, "rollback")
}

// The statement depends on the set of columns alone, and a session keeps a bounded number of them.
func TestStatementsAreFew(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 1)
	number := func() (n int) {
		t.Helper()
		if err := l.pool.QueryRow(t.Context(), `select count(*) from pg_prepared_statements
			where statement like 'with %universal_registry%'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	id := 0
	for size := range 60 {
		var rows []*span.Span
		for range size + 1 {
			id++
			rows = append(rows, note(t, idOf(id)))
		}
		mustAppend(t, l, Group{Rows: rows})
	}
	if n := number(); n != 1 {
		t.Errorf("%d statements for one set of columns", n)
	}
	optional := []func(*span.Span){
		func(s *span.Span) { s.Did = new("x") }, func(s *span.Span) { s.This = new("x") },
		func(s *span.Span) { s.Name = new("x") }, func(s *span.Span) { s.Reason = new("x") },
		func(s *span.Span) { s.Kind = new("x") }, func(s *span.Span) { s.Unit = new("x") },
		func(s *span.Span) { s.Model = new("x") }, func(s *span.Span) { s.Severity = new("x") },
		func(s *span.Span) { s.Metadata = json.RawMessage(`{}`) }, func(s *span.Span) { s.Tags = []string{} },
	}
	for set := range 600 {
		id++
		mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(id), func(s *span.Span) {
			for i, f := range optional {
				if set&(1<<i) != 0 {
					f(s)
				}
			}
		})}})
	}
	if n := number(); n > 512 {
		t.Errorf("%d statements in one session, at most 512 may be kept", n)
	}
}
