package sqlrules

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// door is a way to write one version of alice's span: what it writes differs by name. The error is nil, too,
// when nothing was written because it was there: isNew tells.
type door func(t testing.TB, tx pgx.Tx, id string, seq int, name string) (isNew bool, err error)

func writeDoors() map[string]door {
	span := func(id string, seq int, name string) string {
		return fmt.Sprintf(`{"id":%q,"seq":%d,"entity_type":"note","name":%q}`, id, seq, name)
	}
	return map[string]door{
		"INSERT": func(t testing.TB, tx pgx.Tx, id string, seq int, name string) (bool, error) {
			statement, values := insert([]any{"id", id, "seq", seq, "entity_type", "note", "name", name})
			_, err := tx.Exec(t.Context(), statement, values...)
			return err == nil, err
		},
		"append": func(t testing.TB, tx pgx.Tx, id string, seq int, name string) (bool, error) {
			a, err := sendIn(t, tx, span(id, seq, name))
			return a.IsNew, err
		},
		"append_batch": func(t testing.TB, tx pgx.Tx, id string, seq int, name string) (bool, error) {
			all, err := batchIn(t, tx, array(`{"entity_type":"note"}`, span(id, seq, name)))
			if err != nil {
				return false, err
			}
			return all[1].IsNew, nil
		},
	}
}

// Of two that append the next version at once one wins, and the other is told: a span never forks. Sessions
// of their own, many rounds, every pair of doors.
func TestNextVersionNeverForks(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const rounds = 60
	n := 0
	for one, first := range writeDoors() {
		for other, second := range writeDoors() {
			n++
			thing := id(n)
			l.given(alice, "id", thing, "entity_type", "note")
			sessions := []*ledger{{t: t, conn: connect(t, l.db.URL)}, {t: t, conn: connect(t, l.db.URL)}}
			for seq := 1; seq <= rounds; seq++ {
				var wins [2]bool
				var errs [2]error
				start := make(chan struct{})
				var both sync.WaitGroup
				for i, write := range []door{first, second} {
					both.Go(func() {
						<-start
						errs[i] = sessions[i].in(alice, func(tx pgx.Tx) (err error) {
							wins[i], err = write(t, tx, thing, seq, fmt.Sprint("by ", i))
							return err
						})
					})
				}
				close(start)
				both.Wait()
				if wins[0] == wins[1] {
					t.Fatalf("%s, %s: both or none won: %v", one, other, errs)
				}
				for i, err := range errs {
					if !wins[i] && err != nil {
						wantCode(t, err, "23505")
					}
				}
			}
			if got := ask[string](l, owner, `select count(*) || ' ' || count(distinct seq) || ' ' || max(seq)
				from ledger.universal_registry where id = $1`, thing); got != fmt.Sprint(rounds+1, " ", rounds+1, " ", rounds) {
				t.Errorf("%s, %s: rows, versions, newest: %s", one, other, got)
			}
		}
	}
}

// held is a cluster of the test's own, with sessions that hold transactions open.
type held struct {
	*ledger
	sessions []*ledger
}

func setupHeld(t *testing.T, sessions int) held {
	db := pgtest.NewCluster(t, map[string]string{"deadlock_timeout": "10ms"}).New(t)
	h := held{ledger: &ledger{t: t, db: db, conn: connect(t, db.URL)}}
	for range sessions {
		h.sessions = append(h.sessions, &ledger{t: t, db: db, conn: connect(t, db.URL)})
	}
	return h
}

// begin opens a transaction of alice's in a session.
func (h held) begin(session int) pgx.Tx {
	h.t.Helper()
	ctx := h.t.Context()
	tx, err := h.sessions[session].conn.Begin(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if _, err := tx.Exec(ctx, "set local role authenticated"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select set_config('request.jwt.claims', $1, true)", alice.claims); err != nil {
		h.t.Fatal(err)
	}
	return tx
}

// waitBlocked returns when the session waits for another's lock.
func (h held) waitBlocked(session int) {
	h.t.Helper()
	pid := h.sessions[session].conn.PgConn().PID()
	for h.t.Context().Err() == nil {
		if ask[bool](h.ledger, owner, "select cardinality(pg_blocking_pids($1)) > 0", pid) {
			return
		}
	}
	h.t.Fatal("it never waited")
}

// Two that send one span at once, overlapping for certain: the second waits, and is told it is done; or
// writes it, when the first gives up.
func TestEqualAppendsAreOne(t *testing.T) {
	t.Parallel()
	h := setupHeld(t, 2)
	const span = `{"entity_type":"note","idempotency_key":"%s","name":"%s"}`
	for i, c := range []struct {
		name    string
		commits bool
		second  string
		want    string // old, new, or a code
	}{
		{"the same", true, "x", "old"}, {"the same, given up", false, "x", "new"},
		{"another", true, "y", "23505"}, {"another, given up", false, "y", "new"},
	} {
		for _, batch := range []bool{false, true} {
			key := fmt.Sprint(i, batch)
			first, second := h.begin(0), h.begin(1)
			if a, err := sendIn(t, first, fmt.Sprintf(span, key, "x")); err != nil || !a.IsNew {
				t.Fatalf("first: %+v, %v", a, err)
			}
			told := make(chan string, 1)
			go func() {
				told <- outcome(t, second, fmt.Sprintf(span, key, c.second), batch)
			}()
			h.waitBlocked(1)
			end := first.Rollback
			if c.commits {
				end = first.Commit
			}
			if err := end(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := <-told; got != c.want {
				t.Errorf("%s, batch %t: got %s, want %s", c.name, batch, got, c.want)
			}
			_ = second.Rollback(t.Context())
		}
	}
}

// outcome sends one span, alone or as the second of a batch: old, new, or the code of its refusal.
func outcome(t testing.TB, tx pgx.Tx, span string, batch bool) string {
	isNew, code := false, ""
	if batch {
		all, err := batchIn(t, tx, array(`{"entity_type":"note"}`, span))
		switch {
		case err != nil:
			return err.Error()
		case all[1].Error != nil:
			code = all[1].Error.Code
		}
		isNew = len(all) == 2 && all[1].IsNew
	} else {
		a, err := sendIn(t, tx, span)
		if err != nil && !sameCode(err, "23505") {
			return err.Error()
		}
		if err != nil {
			code = "23505"
		}
		isNew = a.IsNew
	}
	switch {
	case code != "":
		return code
	case isNew:
		return "new"
	}
	return "old"
}

// What is no span's fault ends the whole call: a deadlock of two who send ids in different orders, a lock not
// got in time, a cancel. None of them is reported as a refusal of a span.
func TestBatchEndsWithItsTransaction(t *testing.T) {
	t.Parallel()
	h := setupHeld(t, 2)
	note := func(n int) string { return `{"entity_type":"note","id":"` + id(n) + `"}` }
	send := func(tx pgx.Tx, n int) error {
		_, err := batchIn(t, tx, array(`{"entity_type":"note"}`, note(n)))
		return err
	}
	open := func(n int) (first, second pgx.Tx) {
		first, second = h.begin(0), h.begin(1)
		wantCode(t, send(first, n), "")
		wantCode(t, send(second, n+1), "")
		return first, second
	}
	closeBoth := func(first, second pgx.Tx) {
		_ = first.Rollback(t.Context())
		_ = second.Rollback(t.Context())
	}

	t.Run("a deadlock", func(t *testing.T) {
		first, second := open(10)
		done := make(chan error, 1)
		go func() { done <- send(first, 11) }()
		h.waitBlocked(0)
		errs := []error{send(second, 10)}
		_ = second.Rollback(t.Context())
		errs = append(errs, <-done)
		lost := 0
		for _, err := range errs {
			if err != nil {
				lost++
				wantCode(t, err, "40P01")
			}
		}
		if lost != 1 {
			t.Errorf("%d lost, want one: %v", lost, errs)
		}
		closeBoth(first, second)
	})
	t.Run("a lock not got", func(t *testing.T) {
		first, second := open(20)
		if _, err := second.Exec(t.Context(), "set local lock_timeout = '1ms'"); err != nil {
			t.Fatal(err)
		}
		wantCode(t, send(second, 20), "55P03")
		closeBoth(first, second)
	})
	t.Run("a cancel", func(t *testing.T) {
		first, second := open(30)
		done := make(chan error, 1)
		go func() { done <- send(second, 30) }()
		h.waitBlocked(1)
		run(t, h.conn, "select pg_cancel_backend($1)", h.sessions[1].conn.PgConn().PID())
		wantCode(t, <-done, "57014")
		closeBoth(first, second)
	})
	t.Run("a read-only transaction", func(t *testing.T) {
		tx := h.begin(0)
		if _, err := tx.Exec(t.Context(), "set transaction read only"); err != nil {
			t.Fatal(err)
		}
		wantCode(t, send(tx, 40), "25006")
		_ = tx.Rollback(t.Context())
	})
}
