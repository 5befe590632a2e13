package sqlrules

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestVersionFollowsTheOneBefore(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "note", "visibility", "tenant")
	l.given(alice, "id", id(2), "entity_type", "execution_plan")
	version := func(n, seq int, others ...any) []any {
		return with([]any{"id", id(n), "seq", seq, "entity_type", "note"}, others...)
	}
	of := func(owner, tenant string, pairs []any) []any {
		return with(pairs, "owner_id", owner, "tenant_id", tenant, "who", "client:x")
	}
	for _, c := range []struct {
		name string
		who  actor
		span []any
		code string
	}{
		{"a gap", alice, version(1, 2), "LL002"},
		{"a missing id", alice, version(9, 1), "LL002"},
		{"a foreign id that is hidden", bob, version(1, 1), "LL002"},
		{"a foreign id that is shown", ann, version(1, 1), "LL002"},
		{"a foreign id, by a governor", governor, version(1, 1), "LL002"},
		{"a foreign id, for another by service_role", service, of("bob", "t2", version(1, 1)), "LL002"},
		{"a foreign version that exists", bob, version(1, 0), "23505"},
		{"a negative version", alice, version(1, -1), "LL017"},
		{"another type", alice, version(2, 1), "LL013"},
		{"another tenant, by the engine", engine, of("alice", "t2", version(1, 1)), "LL013"},
		{"another owner, by the engine", engine, of("ann", "t1", version(1, 1)), "LL013"},
		{"another owner, by the owner", owner, of("ann", "t1", version(1, 1)), "LL013"},
		{"a gap, by the engine", engine, of("alice", "t1", version(1, 2)), "LL002"},
		{"the next", alice, version(1, 1), ""},
		{"the next again", alice, version(1, 1), "23505"},
		{"the next but one, by the engine", engine, of("alice", "t1", version(1, 2)), ""},
		{"the next, by service_role", service, of("alice", "t1", version(1, 3)), ""},
	} {
		t.Run(c.name, func(t *testing.T) { wantCode(t, l.append(c.who, c.span...), c.code) })
	}
}

// Nothing in the refusal tells whether the id exists.
func TestForeignAndMissingIdsLookTheSame(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for seq := range 3 {
		l.given(alice, "id", id(1), "seq", seq, "entity_type", "request_note")
	}
	refusal := func(which string, seq int, pairs ...any) pgconn.PgError {
		err := l.append(bob, with([]any{"id", which, "seq", seq, "entity_type", "request_note"}, pairs...)...)
		var refusal *pgconn.PgError
		if !errors.As(err, &refusal) {
			t.Fatalf("append: got %v, want a refusal", err)
		}
		return pgconn.PgError{Code: refusal.Code, Message: refusal.Message, Hint: refusal.Hint,
			Detail: refusal.Detail, Where: refusal.Where}
	}
	for _, seq := range []int{1, 2, 3, 4} {
		foreign, missing := refusal(id(1), seq), refusal(id(2), seq)
		missing.Message = replaceID(missing.Message, id(2), id(1))
		if foreign != missing {
			t.Errorf("seq %d: a foreign id answers %+v, a missing one %+v", seq, foreign, missing)
		}
	}
}

// A sidecar that was frozen wakes up and appends what another one has long done: its batch must lose row
// by row, not fail as a whole, whatever has become of those spans since.
func TestZombieBatchLosesRowByRow(t *testing.T) {
	t.Parallel()
	l := setup(t)
	request := func(n, seq int, status string) []any {
		return []any{"id", derived(n), "seq", seq, "entity_type", "request", "status", status, "parent_id", id(1),
			"who", "kernel:observer_bot", "owner_id", "alice", "tenant_id", "t1"}
	}
	life := []string{"scheduled", "running", "complete"}
	for seq, status := range life {
		l.given(engine, request(1, seq, status)...)
	}
	const ignore = " on conflict (id, seq) do nothing"
	err := l.in(engine, func(tx pgx.Tx) error {
		for _, c := range []struct {
			n, seq int
			status string
			wins   int64
		}{
			{1, 0, "running", 0},   // no request starts so
			{1, 1, "scheduled", 0}, // does not follow scheduled
			{1, 2, "nonsense", 0},  // does not follow anything
			{1, 1, "running", 0},
			{2, 0, "scheduled", 1},
		} {
			statement, values := insert(request(c.n, c.seq, c.status))
			tag, err := tx.Exec(t.Context(), statement+ignore, values...)
			if err != nil {
				return err
			}
			if tag.RowsAffected() != c.wins {
				t.Errorf("seq %d %s: %d rows, want %d", c.seq, c.status, tag.RowsAffected(), c.wins)
			}
		}
		return nil
	})
	wantCode(t, err, "")
	wantCode(t, l.append(engine, request(1, 1, "scheduled")...), "23505")
	wantCode(t, l.append(engine, request(1, 3, "running")...), "LL003")
	wantCode(t, l.append(engine, with(request(1, 2, "complete"), "tenant_id", "t2")...), "23505")
}

// The same for a client that repeats what it has done.
func TestRepeatedAppendMeetsTheKey(t *testing.T) {
	t.Parallel()
	l := setup(t)
	function := []any{"id", id(1), "entity_type", "function", "status", "draft"}
	l.given(alice, function...)
	l.given(alice, with(function, "seq", 1, "status", "archived")...)
	l.given(alice, with(function, "seq", 2, "status", "active")...)
	for _, span := range [][]any{
		function,
		with(function, "status", "nonsense"),
		with(function, "seq", 1, "status", "archived"),
		with(function, "seq", 2, "status", "draft"), // does not follow archived
		with(function, "seq", 2, "entity_type", "note"),
		with(function, "visibility", "public"),
	} {
		wantCode(t, l.append(alice, span...), "23505")
	}
	wantCode(t, l.append(bob, function...), "23505")
}

func TestHashChain(t *testing.T) {
	t.Parallel()
	l := setup(t)
	plain := []any{"id", id(1), "entity_type", "note"}
	hashed := []any{"id", id(2), "seq", 0, "entity_type", "note", "who", "user:alice", "at", "now",
		"owner_id", "alice", "tenant_id", "t1", "visibility", "private", "is_deleted", false,
		"curr_hash", hashOne}
	for _, c := range []struct {
		name string
		span []any
		code string
	}{
		{"version 0 with prev_hash", with(plain, "prev_hash", hashOne), "LL014"},
		{"plain", plain, ""},
		{"prev_hash after a version without hash", with(plain, "seq", 1, "prev_hash", hashOne), "LL014"},
		{"hashed without prev_hash after a version without hash",
			with(hashed, "id", id(1), "seq", 1), ""},
		{"hashed without seq", with(hashed, "seq", nil), "LL016"},
		{"hashed without id", with(hashed, "id", nil), "LL016"},
		{"hashed without at", with(hashed, "at", nil), "LL016"},
		{"hashed without who", with(hashed, "who", nil), "LL016"},
		{"hashed without owner_id", with(hashed, "owner_id", nil), "LL016"},
		{"hashed without tenant_id", with(hashed, "tenant_id", nil), "LL016"},
		{"hashed without visibility", with(hashed, "visibility", nil), "LL016"},
		{"hashed without is_deleted", with(hashed, "is_deleted", nil), "LL016"},
		{"hashed", hashed, ""},
		{"hashed next without prev_hash", with(hashed, "seq", 1, "curr_hash", hashTwo), "LL016"},
		{"next with a wrong prev_hash", with(hashed, "seq", 1, "curr_hash", nil, "prev_hash", hashTwo), "LL014"},
		{"hashed next with a wrong prev_hash", with(hashed, "seq", 1, "prev_hash", hashTwo), "LL014"},
		{"hashed next", with(hashed, "seq", 1, "curr_hash", hashTwo, "prev_hash", hashOne), ""},
		{"plain next: filled", []any{"id", id(2), "seq", 2, "entity_type", "note"}, ""},
		{"next after a plain one", []any{"id", id(2), "seq", 3, "entity_type", "note"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) { wantCode(t, l.append(alice, c.span...), c.code) })
	}
	chain := ask[string](l, alice, `select string_agg(coalesce(left(prev_hash, 1), '-'), '' order by seq)
		from ledger.history where id = $1`, id(2))
	if chain != "-12-" {
		t.Errorf("prev_hash of the four versions begin with %q, want -12-", chain)
	}
}
