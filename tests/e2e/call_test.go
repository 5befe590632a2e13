package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// called is a request of a client's own.
func called(function span.ID, input any) columns {
	return columns{"entity_type": "request", "status": "scheduled", "parent_id": function, "input": input,
		"trace_id": rand.Text()}
}

func TestACallBelongsToItsCaller(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	const code = `return { by: ctx.env.APP_USER_ID, of: ctx.env.APP_TENANT_ID, n: input.n };`
	own := s.insert(alice, function(code, columns{"status": "active", "input": columns{"n": "own input"}})).ID
	shared := s.insert(alice, function(code, columns{"status": "active", "visibility": "tenant"})).ID
	public := s.public(code)

	cases := []struct {
		name     string
		by       user
		function span.ID
		may      bool
	}{
		{"their own", alice, own, true},
		{"one of the tenant", carol, shared, true},
		{"a public one", bob, public, true},
		{"a private one of another user", carol, own, false},
		{"one of another tenant", bob, shared, false},
		{"one that does not exist", bob, span.MustID("0198c0de-0000-7000-8000-000000000001"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			request := called(c.function, columns{"n": c.name})
			if !c.may {
				s.refused(c.by, span.CodeNotCallable, request)
				return
			}
			s.insert(c.by, request)
			got := s.settled(request["trace_id"].(string), 1)[0]
			execution := got.execution(t)
			sameJSON(t, execution.Output, `{"by": "`+c.by.sub+`", "of": "`+c.by.tenant+`", "n": "`+c.name+`"}`)
			for _, row := range append(got.versions, execution) {
				if row.OwnerID != c.by.sub || row.TenantID != c.by.tenant || row.Visibility != "private" {
					t.Errorf("%s is of %s, %s, %s, called by %v", row.EntityType, row.OwnerID, row.TenantID,
						row.Visibility, c.by)
				}
			}
			if *execution.ParentID != c.function {
				t.Errorf("the execution is of %s, called was %s", execution.ParentID, c.function)
			}
		})
	}
	t.Run("without an input of its own", func(t *testing.T) {
		request := called(own, nil)
		s.insert(alice, request)
		sameJSON(t, s.settled(request["trace_id"].(string), 1)[0].execution(t).Output,
			`{"by": "alice", "of": "acme", "n": "own input"}`)
	})
	t.Run("by nobody", func(t *testing.T) {
		if key, err := s.try(anon, called(public, nil)); err == nil {
			t.Errorf("anon has appended %s", key.ID)
		}
	})
	checkHashes(t, s)
}

// public appends a function for everybody, as a governor.
func (s *system) public(code string) span.ID {
	s.t.Helper()
	return span.MustID(one[string](s, `insert into ledger.universal_registry
		(entity_type, status, name, language, code, owner_id, tenant_id, visibility)
		values ('function', 'active', 'public', 'javascript', $1, 'erin', 'initech', 'public')
		returning id::text`, code))
}

func TestResultsAreSeenByThoseWhoMay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	const code = `ctx.insertSpan({ entity_type: "note", name: "emitted" }); return 1;`
	cases := []struct {
		visibility string
		see        []user
	}{
		{"private", []user{alice}},
		{"tenant", []user{alice, carol}},
	}
	for _, c := range cases {
		t.Run(c.visibility, func(t *testing.T) {
			got := s.run(alice, code, columns{"visibility": c.visibility})
			trace := *got.request().TraceID
			got.execution(t)
			for _, u := range []user{alice, carol, bob, anon, {"alice", "globex"}} {
				want := 0
				for _, reader := range c.see {
					if reader == u {
						want = 4 // function, request, execution, note
					}
				}
				if now := s.seen(u, "ledger.visible_timeline", "trace_id = $1", trace); len(now) != want {
					t.Errorf("%v sees %d spans in visible_timeline, want %d", u, len(now), want)
				}
				if want > 0 {
					want += len(got.versions) - 1
				}
				for _, view := range []string{"ledger.history", "ledger.universal_registry"} {
					if ever := s.seen(u, view, "trace_id = $1", trace); len(ever) != want {
						t.Errorf("%v sees %d versions in %s, want %d", u, len(ever), view, want)
					}
				}
			}
		})
	}
}

// A function that a colleague shares reads with the caller's eyes, and what it emits is the caller's.
func TestACalledFunctionSeesWhatItsCallerSees(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	trace := rand.Text()
	for _, u := range []user{alice, carol, bob} {
		s.insert(u, columns{"entity_type": "note", "name": "of " + u.sub, "trace_id": trace})
	}
	s.insert(alice, columns{"entity_type": "note", "name": "shared", "trace_id": trace, "visibility": "tenant"})
	f := s.public(`const found = await ctx.find({ entity_type: "note", trace_id: input });
		ctx.insertSpan({ entity_type: "memory", name: "seen" });
		return found.map((note) => note.name).sort();`)
	for u, want := range map[user]string{
		alice: `["of alice", "shared"]`, carol: `["of carol", "shared"]`, bob: `["of bob"]`,
	} {
		request := called(f, trace)
		s.insert(u, request)
		got := s.settled(request["trace_id"].(string), 1)[0]
		sameJSON(t, got.execution(t).Output, want)
		emitted := s.read("entity_type = 'memory' and trace_id = $1", request["trace_id"])
		if len(emitted) != 1 || emitted[0].OwnerID != u.sub || emitted[0].Visibility != "private" {
			t.Errorf("%s: emitted %+v, want one private span of %s", u.sub, emitted, u.sub)
		}
	}
}

// What ledger.result and function_state tell is what the engine wrote, also where Stage-0 refused to run.
func TestResultTellsWhatTheRunLeft(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	for code, want := range map[string]string{
		"return input.n + 1;":    "complete 42",
		"throw new Error('no');": "error exception",
		"return (;":              "error syntax",
	} {
		f := s.insert(alice, function(code, columns{"status": "active", "visibility": "tenant"})).ID
		request := called(f, columns{"n": 41})
		s.insert(carol, request)
		got := s.settled(request["trace_id"].(string), 1)[0]
		told := func(u user) (text string, execution string, err error) {
			err = s.as(u, func(ctx context.Context, tx pgx.Tx) error {
				return tx.QueryRow(ctx, `select concat_ws(' ', r.status, r.output, r.error ->> 'code'),
						r.execution_id::text
					from ledger.result($1) as r
					join ledger.function_state as f on f.id = r.function_id and f.open_requests = 0
						and (f.last_request_id, f.last_request_status) = (r.request_id, r.status)
						and (f.last_execution_id, f.last_execution_status) = (r.execution_id, r.status)
						and f.last_execution_error_code is not distinct from r.error ->> 'code'
					where r.is_done and r.function_seq = 0 and r.duration_ms >= 0
						and r.done_at >= r.requested_at`, got.request().ID.String()).Scan(&text, &execution)
			})
			return text, execution, err
		}
		text, execution, err := told(carol)
		if err != nil || text != want || execution != got.execution(t).ID.String() {
			t.Errorf("%s: result tells %q of %s (%v), want %q", code, text, execution, err, want)
		}
		if text, _, err := told(alice); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("%s: the function's owner is told %q (%v) of another's call", code, text, err)
		}
	}
}
