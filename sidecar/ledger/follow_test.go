package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// aliceActs is who the tests of actors are.
func aliceActs() Actor { return Actor{User: "alice", Tenant: "t1"} }

// follow reads on from place until nothing is left, and returns the names in their order.
func follow(t testing.TB, o *Owner, actor Actor, f RowFilter, place *Place) []string {
	t.Helper()
	names := []string{}
	err := o.Look(t.Context(), actor, func(user *User) error {
		for {
			spans, next, err := user.After(t.Context(), f, *place)
			if err != nil {
				return err
			}
			for _, s := range spans {
				names = append(names, *s.Name)
			}
			if *place = next; !place.IsBetween() {
				return nil
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

const insertNote = `insert into ledger.universal_registry (entity_type, name, owner_id, tenant_id, who, visibility)
	values ('note', $1, $2, 't1', 'user:' || $2, 'private')`

func TestWhatCommitsLateIsFollowedOnceAndNotMissed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, conn, slow := owner(t, db.URL), connect(t, db.URL), connect(t, db.URL)
	exec(t, conn, insertNote, "before", "alice")
	tx, err := slow.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), insertNote, "late", "alice"); err != nil {
		t.Fatal(err)
	}
	var place Place
	err = o.Look(t.Context(), aliceActs(), func(user *User) error {
		if place, err = user.Recent(t.Context(), RowFilter{Types: []string{"note"}}, 10); err != nil {
			return err
		}
		recent, next, err := user.After(t.Context(), RowFilter{}, place)
		if len(recent) != 1 || *recent[0].Name != "before" || next.IsBetween() {
			t.Errorf("recent: %d", len(recent))
		}
		place = next
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, insertNote, "early", "alice")
	exec(t, conn, insertNote, "another's", "bob")
	mine := RowFilter{Types: []string{"note"}}
	if got := strings.Join(follow(t, o, aliceActs(), mine, &place), " "); got != "early" {
		t.Errorf("before the late commit: %q", got)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, insertNote, "after", "alice")
	if got := strings.Join(follow(t, o, aliceActs(), mine, &place), " "); got != "late after" {
		t.Errorf("after the late commit: %q", got)
	}
	if got := follow(t, o, aliceActs(), mine, &place); len(got) != 0 {
		t.Errorf("once more: %q", got)
	}
}

// More than a page, of one transaction and of many: each once, in order.
func TestLongStretchesAreFollowedPageByPage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	var place Place
	err := o.Look(t.Context(), aliceActs(), func(user *User) (err error) {
		place, err = user.Recent(t.Context(), RowFilter{}, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `insert into ledger.universal_registry (entity_type, name, owner_id, tenant_id, who)
		select 'note', n::text, 'alice', 't1', 'user:alice' from generate_series(1, $1) n`, 2*pageRows+7)
	exec(t, conn, insertNote, "last", "alice")
	got := follow(t, o, aliceActs(), RowFilter{}, &place)
	seen := map[string]bool{}
	for _, name := range got {
		seen[name] = true
	}
	if want := 2*pageRows + 8; len(got) != want || len(seen) != want || got[want-1] != "last" {
		t.Errorf("%d rows, %d different, want %d", len(got), len(seen), want)
	}
}

// What the server reads of a large transaction grows with it, and not with its square: its rows when they
// are found, their keys, and the rows by their keys.
func TestALargeTransactionIsReadThreeTimesAndNotOncePerPage(t *testing.T) {
	t.Parallel()
	const rows = 40 * pageRows
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	place := placeNow(t, o)
	exec(t, conn, `insert into ledger.universal_registry (entity_type, name, owner_id, tenant_id, who)
		select 'note', n::text, 'alice', 't1', 'user:alice' from generate_series(1, $1) n`, rows)
	exec(t, conn, "analyze ledger.universal_registry")
	before := rowsRead(t, o)
	if got := len(follow(t, o, aliceActs(), RowFilter{}, &place)); got != rows {
		t.Errorf("%d rows, want %d", got, rows)
	}
	if read := rowsRead(t, o) - before; read < rows || read > 3*rows+pageRows {
		t.Errorf("%d rows are read for %d", read, rows)
	}
	var past Past
	before, found := rowsRead(t, o), 0
	for !past.IsOver() { // all of one moment
		err := o.Look(t.Context(), aliceActs(), func(user *User) error {
			spans, next, err := user.Past(t.Context(), RowFilter{}, past)
			found, past = found+len(spans), next
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if read := rowsRead(t, o) - before; found != rows || read > 3*rows {
		t.Errorf("by time: %d of %d, for which %d rows are read", found, rows, read)
	}
}

// placeNow is behind everything.
func placeNow(t testing.TB, o *Owner) (place Place) {
	t.Helper()
	err := o.Look(t.Context(), aliceActs(), func(user *User) (err error) {
		place, err = user.Recent(t.Context(), RowFilter{}, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// rowsRead is how many rows of the ledger o's session, and those that have ended, have read.
func rowsRead(t testing.TB, o *Owner) (rows int) {
	t.Helper()
	if _, err := o.conn.Exec(t.Context(), "select pg_stat_force_next_flush()"); err != nil {
		t.Fatal(err)
	}
	err := o.conn.QueryRow(t.Context(), `select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
		where relid = 'ledger.universal_registry'::regclass`).Scan(&rows)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestAPageOfLargeSpansHasFewOfThem(t *testing.T) {
	t.Parallel()
	const rows, bytes = 3 * pageRowsOnce, 300_000
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	place := placeNow(t, o)
	exec(t, conn, `insert into ledger.universal_registry (entity_type, name, content, owner_id, tenant_id, who)
		select 'note', n::text, to_jsonb(repeat('x', $2)), 'alice', 't1', 'user:alice'
		from generate_series(1, $1) n`, rows, bytes)
	recent := Place{}
	for name, at := range map[string]*Place{"what came": &place, "the newest": &recent} {
		found, pages := 0, 0
		err := o.Look(t.Context(), aliceActs(), func(user *User) (err error) {
			if at.Seen == "" {
				*at, err = user.Recent(t.Context(), RowFilter{}, rows)
			}
			for err == nil && (pages == 0 || at.IsBetween()) {
				var spans []*span.Span
				spans, *at, err = user.After(t.Context(), RowFilter{}, *at)
				if len(spans)*bytes > pageBytes+pageRowsOnce<<20 {
					t.Errorf("%s: a page of %d spans of %d bytes", name, len(spans), bytes)
				}
				found, pages = found+len(spans), pages+1
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if found != rows || pages < 3 {
			t.Errorf("%s: %d of %d on %d pages", name, found, rows, pages)
		}
	}
}

// An idle follower costs a look at the index, whoever asks.
func TestFollowingGoesByTheIndex(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	exec(t, conn, `insert into ledger.universal_registry (entity_type, name, owner_id, tenant_id, who)
		select 'note', n::text, 'alice', 't1', 'user:alice' from generate_series(1, 20000) n`)
	exec(t, conn, "analyze ledger.universal_registry")
	err := o.Look(t.Context(), aliceActs(), func(user *User) error {
		var now string
		if err := user.tx.QueryRow(t.Context(), "select pg_current_snapshot()::text").Scan(&now); err != nil {
			return err
		}
		where, args := RowFilter{Types: []string{"note"}}.where(now, now, "0")
		rows, err := user.tx.Query(t.Context(), "explain (analyze, costs off) "+
			fmt.Sprintf(afterSQL, where, pageRows), args...)
		if err != nil {
			return err
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		text := strings.Join(plan, "\n")
		if strings.Contains(text, "Seq Scan") || strings.Contains(text, "Rows Removed") {
			t.Errorf("it reads what it has seen:\n%s", text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What came from another server has its transactions, which may be still to come here: it is in the timeline
// from the beginning, and is no news when the counter comes to them.
func TestRowsOfAnotherServerAreRecentAndAreNotFollowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	exec(t, conn, "select ledger.import_begin()")
	ahead := ask[int](t, conn, "select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint)::int")
	for name, xact := range map[string]int{"soon": ahead + 10, "far": ahead + 5_000_000} {
		exec(t, conn, `insert into ledger.universal_registry (id, seq, entity_type, name, who, at, xact, accepted_at,
				owner_id, tenant_id, visibility, is_deleted)
			select ledger.uuid7(), 0, 'note', $1, 'user:alice', now(), $2::text::xid8, now(), 'alice', 't1', 'private',
				false`, name, fmt.Sprint(xact))
	}
	exec(t, conn, "select ledger.import_end()")
	mine := RowFilter{Types: []string{"note"}}
	var place Place
	err := o.Look(t.Context(), aliceActs(), func(user *User) (err error) {
		place, err = user.Recent(t.Context(), mine, 10)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := follow(t, o, aliceActs(), mine, &place)
	if slices.Sort(got); strings.Join(got, " ") != "far soon" {
		t.Errorf("the newest are %q", got)
	}
	for range 20 {
		exec(t, conn, "select pg_current_xact_id()")
	}
	exec(t, conn, insertNote, "new", "alice")
	if got := follow(t, o, aliceActs(), mine, &place); strings.Join(got, " ") != "new" {
		t.Errorf("what comes is %q", got)
	}
}

func TestNobodyIsNotTheOwner(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, conn := owner(t, db.URL), connect(t, db.URL)
	exec(t, conn, insertNote, "alice's own", "alice")
	for _, actor := range []Actor{{}, {User: "alice"}, {Tenant: "t1"}} {
		if err := o.Look(t.Context(), actor, func(*User) error { return nil }); err == nil {
			t.Errorf("%+v acts", actor)
		}
	}
	for actor, want := range map[Actor]int{aliceActs(): 1, {User: "bob", Tenant: "t1"}: 0, {IsOwner: true}: 1} {
		err := o.Look(t.Context(), actor, func(user *User) error {
			found, err := user.Named(t.Context(), "note", "alice's own")
			if len(found) != want {
				t.Errorf("%s sees %d, want %d", actor, len(found), want)
			}
			if _, err := user.tx.Exec(t.Context(), "savepoint s"); err != nil {
				return err
			}
			if _, err := user.Add(t.Context(), []byte(`{"entity_type":"note"}`)); err == nil {
				t.Errorf("%s writes while it looks", actor)
			}
			_, _ = user.tx.Exec(t.Context(), "rollback to s")
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
