package sign

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// Several transactions are open at any moment, and commit while the key is revoked. What the judge says of
// each row must be what Postgres says, and what the writers have seen: whose commit had returned before
// counts, and who began after does not.
func TestRevocationAmongConcurrentWriters(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b, key := setup(t), newKey(t)
	owner, err := ledger.OpenOwner(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	b.rows = nil
	b.addKey(b.root, b.root, Rights{})
	current := b.addKey(b.root, key, functions())
	err = owner.AppendAt(t.Context(), func(string) ([]*span.Span, error) { return b.rows, nil })
	if err != nil {
		t.Fatal(err)
	}

	var phase atomic.Int32 // 0 before the revocation, 1 meanwhile, 2 after
	var written sync.Map   // id -> [2]int32: the phase when its transaction began, and when its commit returned
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() {
			conn, err := pgx.Connect(t.Context(), db.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(t.Context())
			for n, late := 0, 0; late < 5; n++ {
				row := b.draft(key, writer*1_000_000+n)
				began := phase.Load()
				err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return insertRow(t, tx, row) })
				if err != nil {
					t.Error(err)
					return
				}
				written.Store(row.ID, [2]int32{began, phase.Load()})
				if began == 2 {
					late++
				}
			}
		})
	}
	awaitRows(t, owner, &written, 40)
	phase.Store(1)
	err = owner.AppendAt(t.Context(), func(snapshot string) ([]*span.Span, error) {
		row, err := NextKeySpan(current, "revoked", "", snapshot, time.Now())
		if err != nil {
			return nil, err
		}
		return []*span.Span{row}, NewSigner(b.root).Seal(row, row.PrevHash)
	})
	if err != nil {
		t.Fatal(err)
	}
	phase.Store(2)
	writers.Wait()
	checkVerdicts(t, db.URL, b, &written)
}

// draft is a function of its own, signed by key. It may be called from several goroutines.
func (b *book) draft(key *Key, n int) *span.Span {
	row := &span.Span{ID: span.MustID(fmt.Sprintf("018f0000-0000-7000-8000-%012d", n)), EntityType: "function",
		Who: "user:alice", At: span.NewTime(time.Now()), OwnerID: "alice", TenantID: "acme", Visibility: "private",
		Status: new("active"), Code: new("return 1")}
	if err := NewSigner(key).Seal(row, nil); err != nil {
		b.t.Error(err)
	}
	return row
}

// awaitRows reads until the writers are well under way.
func awaitRows(t *testing.T, owner *ledger.Owner, written *sync.Map, least int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for count := 0; count < least; {
		if _, err := owner.Keys(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatal("the writers do not get on", err)
		}
		count = 0
		written.Range(func(any, any) bool { count++; return true })
	}
}

func checkVerdicts(t *testing.T, databaseURL string, b *book, written *sync.Map) {
	t.Helper()
	l, err := ledger.Open(t.Context(), databaseURL, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := l.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trust := NewTrust(b.root.Fingerprint(), rows)
	counted := map[bool]int{}
	written.Range(func(id, phases any) bool {
		found, err := l.Latest(t.Context(), []span.ID{id.(span.ID)})
		if err != nil {
			t.Fatal(err)
		}
		row := found[id.(span.ID)]
		counts := trust.Check(row, PurposeFunction) == nil
		counted[counts]++
		var visible bool
		if err := conn.QueryRow(t.Context(), `select pg_visible_in_snapshot($1::text::xid8,
				(metadata ->> 'snapshot')::pg_snapshot)
			from ledger.universal_registry where entity_type = 'key' and status = 'revoked'`, *row.Xact).
			Scan(&visible); err != nil {
			t.Fatal(err)
		}
		began, ended := phases.([2]int32)[0], phases.([2]int32)[1]
		if counts != visible || ended == 0 && !counts || began == 2 && counts {
			t.Errorf("transaction %s, begun in phase %d, over in %d: counts %v, Postgres says %v", *row.Xact, began,
				ended, counts, visible)
		}
		return true
	})
	if counted[true] == 0 || counted[false] == 0 {
		t.Errorf("got %v: want both", counted)
	}
}
