package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// xactOf is the transaction that appended s.
func xactOf(t *testing.T, l *Ledger, s *span.Span) uint64 {
	t.Helper()
	found, err := l.Load(t.Context(), []span.Key{s.Key()})
	if err != nil || found[s.Key()] == nil {
		t.Fatal(found, err)
	}
	xact, err := strconv.ParseUint(*found[s.Key()].Xact, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return xact
}

// Of each policy those versions are read that may judge a row of a transaction from the horizon on.
func TestPolicyVersionsAreThoseThatMayJudge(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	var xacts []uint64
	put := func(id int, seq int, status string, before *span.Span) *span.Span {
		s := note(t, idOf(id), func(s *span.Span) {
			s.EntityType, s.Status, s.Code = "policy", &status, new("code")
		})
		if s.Seq = seq; before != nil {
			if err := s.Seal(before.CurrHash); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, Group{Fence: s})
		} else {
			mustAppend(t, l, Group{Rows: []*span.Span{s}})
		}
		xacts = append(xacts, xactOf(t, l, s))
		return s
	}
	first := put(1, 0, "active", nil)
	second := put(1, 1, "active", first)
	put(2, 0, "draft", nil)
	third := put(1, 2, "draft", second)
	other := put(3, 0, "active", nil)
	put(1, 3, "active", third)
	for _, c := range []struct {
		horizon uint64
		want    []string
	}{
		{0, []string{"1@0", "1@1", "1@2", "1@3", "2@0", "3@0"}},
		{xacts[1], []string{"1@0", "1@1", "1@2", "1@3", "2@0", "3@0"}},
		{xacts[1] + 1, []string{"1@1", "1@2", "1@3", "2@0", "3@0"}},
		{xactOf(t, l, other) + 1, []string{"1@3", "3@0"}}, // the draft before is out, and no horizon keeps it
		{1 << 60, []string{"1@3", "3@0"}},
	} {
		var got []string
		for after := (span.Key{}); ; {
			page, err := l.PolicyVersions(t.Context(), c.horizon, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, s := range page {
				if s.Code != nil || s.Xact == nil {
					t.Errorf("got %+v", s)
				}
				got = append(got, fmt.Sprintf("%d@%d", s.ID[3], s.Seq))
			}
			after = page[len(page)-1].Key()
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("from transaction %d on: got %v, want %v", c.horizon, got, c.want)
		}
	}
}

// A delta is what one snapshot sees and another does not, page by page, of one tenant.
func TestDeltaIsWhatIsNew(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	from, err := l.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []span.ID
	for i := range 7 {
		s := note(t, idOf(i+1))
		other := note(t, idOf(0x100+i), func(s *span.Span) { s.TenantID = "t2" })
		mustAppend(t, l, Group{Rows: []*span.Span{s, other}})
		want = append(want, s.ID)
	}
	open := connect(t, conn.Config().ConnString())
	exec := func(statement string) {
		if _, err := open.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("begin")
	exec(`insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id) values
		('note', 'client:test', 'alice', 't1')`)
	to, err := l.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec("commit")
	read := func(from, to span.Snapshot) (ids []span.ID) {
		for after := (DeltaPlace{}); ; {
			page, err := l.Delta(t.Context(), "t1", from, to, after, to.Max(), 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return ids
			}
			for _, row := range page {
				ids = append(ids, row.ID)
			}
			after = DeltaPlaceOf(page[len(page)-1])
		}
	}
	if got := read(from, to); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	now, err := l.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := read(to, now); len(got) != 1 {
		t.Errorf("what was open: got %v", got)
	}
	cut := to.Before(xactOf(t, l, &span.Span{ID: want[3]}))
	if got := append(read(from, cut), read(cut, to)...); !slices.Equal(got, want) {
		t.Errorf("cut in two: got %v, want %v", got, want)
	}
}

func TestJudgedIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	snapshot, err := span.ParseSnapshot("7:9:7,8")
	if err != nil {
		t.Fatal(err)
	}
	judged := Judged{snapshot, map[Lane]span.Snapshot{{Tenant: "t1", Owner: "alice"}: snapshot,
		{Tenant: "t2"}: {}}}
	encoded, err := json.Marshal(judged)
	if err != nil {
		t.Fatal(err)
	}
	var got Judged
	if err := json.Unmarshal(encoded, &got); err != nil || got.Snapshot.String() != "7:9:7,8" ||
		len(got.Behind) != 2 || got.Behind[Lane{Tenant: "t1", Owner: "alice"}].String() != "7:9:7,8" {
		t.Errorf("%s: got %+v, %v", encoded, got, err)
	}
}

// The rows of a large transaction come by their keys, and are those that a delta gives.
func TestALargeTransactionIsReadByItsKeys(t *testing.T) {
	t.Parallel()
	l, conn := setup(t, 2)
	exec(t, conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id)
		select 'note', 'client:test', 'alice', case n % 3 when 0 then 't2' else 't1' end
		from generate_series(1, 30) n`)
	to, err := l.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.Delta(t.Context(), "t1", span.Snapshot{}, to, DeltaPlace{}, to.Max(), 100)
	if err != nil || len(want) != 20 {
		t.Fatal(len(want), err)
	}
	first, err := l.KeysAfter(t.Context(), "t1", want[0].Xact, want[4].Key(), 10)
	if err != nil || len(first) != 10 {
		t.Fatal(first, err)
	}
	got, err := l.Published(t.Context(), first)
	if err != nil || len(got) != 10 {
		t.Fatal(got, err)
	}
	for i, row := range got {
		if row.Key() != want[5+i].Key() || row.Xact != want[5+i].Xact {
			t.Errorf("row %d is %v, want %v", i, row.Key(), want[5+i].Key())
		}
	}
}
