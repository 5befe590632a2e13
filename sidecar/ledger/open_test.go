package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// of drafts a request of a tenant, due at a time from now (0: at once).
func of(t testing.TB, tenant string, n int, wait time.Duration) *span.Span {
	t.Helper()
	return note(t, idOf(n), request, func(s *span.Span) {
		s.TenantID = tenant
		if wait != 0 {
			s.ScheduledAt = new(span.NewTime(time.Now().Add(wait)))
		}
	})
}

// openIDs pages through what stands open of a tenant.
func openIDs(t *testing.T, l *Ledger, tenant string, limit int) []span.ID {
	t.Helper()
	var ids []span.ID
	for after := (OpenPlace{}); ; {
		page, _, err := l.OpenRequestsOf(t.Context(), tenant, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page {
			ids = append(ids, row.ID)
		}
		if len(page) < limit {
			return ids
		}
		after = PlaceOf(page[len(page)-1])
	}
}

func tenantsOpen(t *testing.T, l *Ledger) []string {
	t.Helper()
	var tenants []string
	for after := ""; ; {
		page, err := l.TenantsWithOpenRequests(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		tenants = append(tenants, page...)
		if len(page) < 2 {
			return tenants
		}
		after = page[len(page)-1]
	}
}

func dueIDs(t *testing.T, l *Ledger, before time.Time) []span.ID {
	t.Helper()
	var ids []span.ID
	for after := (DuePlace{}); ; {
		page, _, err := l.DueBefore(t.Context(), before, "", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page {
			ids = append(ids, row.ID)
		}
		if len(page) < 2 {
			return ids
		}
		after = DueOf(page[len(page)-1])
	}
}

func want[T any](t *testing.T, what string, got, want []T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestOpenRequestsAreFoundByTenantInTheOrderOfTheirTransactions(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	late, early := of(t, "t2", 9, 0), of(t, "t2", 1, 0)
	ended, deleted := of(t, "t2", 2, 0), of(t, "t2", 3, 0)
	claimed, delayed, past := of(t, "t1", 4, 0), of(t, "t3", 5, time.Hour), of(t, "t4", 6, -time.Hour)
	cancelled := of(t, "t1", 7, time.Hour)
	for _, row := range []*span.Span{late, early, ended, deleted, claimed, delayed, past, cancelled} {
		mustAppend(t, l, Group{Rows: []*span.Span{row}})
	}
	wants := next(t, cancelled, "cancelled")
	mustAppend(t, l, Group{Fence: next(t, ended, "complete")}, Group{Fence: next(t, claimed, "running")})
	mustAppend(t, l, Group{Fence: next(t, deleted, "dead")}, Group{Fence: wants})

	// The standing version's transaction counts.
	want(t, "t1", openIDs(t, l, "t1", 1), []span.ID{claimed.ID})
	want(t, "t2", openIDs(t, l, "t2", 1), []span.ID{late.ID, early.ID})
	want(t, "t3", openIDs(t, l, "t3", 1), nil)
	want(t, "t4", openIDs(t, l, "t4", 2), []span.ID{past.ID})
	want(t, "tenants", tenantsOpen(t, l), []string{"t1", "t2", "t4"})
	want(t, "due", dueIDs(t, l, time.Now().Add(2*time.Hour)), []span.ID{delayed.ID})
	want(t, "due before", dueIDs(t, l, time.Now().Add(time.Minute)), nil)

	row, _, err := l.OpenRequestsOf(t.Context(), "t1", OpenPlace{}, 9)
	if err != nil {
		t.Fatal(err)
	}
	first := next(t, claimed, "running")
	if got := row[0]; got.Seq != 1 || *got.Status != "running" || got.OwnerID != "alice" ||
		got.TenantID != "t1" || got.Xact == 0 || got.CurrHash == nil ||
		*got.PrevHash != *first.PrevHash || got.ParentID != nil || got.AcceptedAt.IsZero() ||
		got.Visibility != "private" || got.IsDeleted {
		t.Errorf("the row is %+v", got)
	}
}

// What a cancelled or a retried request waits for is found again in the other index.
func TestDelayedRequestsComeByTheirTime(t *testing.T) {
	t.Parallel()
	l, owner := setup(t, 2)
	second, first := of(t, "t1", 1, 2*time.Hour), of(t, "t2", 2, time.Hour)
	cancelled := of(t, "t3", 3, time.Hour)
	for _, row := range []*span.Span{second, first, cancelled} {
		mustAppend(t, l, Group{Rows: []*span.Span{row}})
	}
	exec(t, owner, `insert into ledger.universal_registry (id, seq, entity_type, who, owner_id, tenant_id,
		status, scheduled_at) values ($1, 1, 'request', 'user:alice', 'alice', 't3', 'cancel_requested',
		now() + interval '1 h')`, cancelled.ID.String())
	soon := time.Now().Add(24 * time.Hour)
	want(t, "due", dueIDs(t, l, soon), []span.ID{first.ID, second.ID})
	want(t, "cancelled", openIDs(t, l, "t3", 2), []span.ID{cancelled.ID})

	retry := second.NextRequest("sidecar:test", "retry")
	retry.ScheduledAt = new(span.NewTime(time.Now().Add(30 * time.Minute)))
	if err := retry.Seal(retry.PrevHash); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, Group{Fence: retry})
	want(t, "retried", dueIDs(t, l, soon), []span.ID{second.ID, first.ID})
}

// A mark never passes what is open, nor what may still commit.
func TestMarksPassNothingThatIsOpen(t *testing.T) {
	t.Parallel()
	// A server of its own: of another test's open transaction the marks keep clear, too.
	db := pgtest.NewCluster(t, nil).New(t)
	l, err := Open(t.Context(), db.SidecarURL, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	owner := connect(t, db.URL)
	state := func() string {
		t.Helper()
		return fmt.Sprint(openIDs(t, l, "t1", 3), openIDs(t, l, "t2", 3), tenantsOpen(t, l),
			dueIDs(t, l, time.Now().Add(time.Hour)))
	}
	advance := func() {
		t.Helper()
		before := state()
		if err := l.AdvanceMarks(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := state(); after != before {
			t.Errorf("advanced: %s, before %s", after, before)
		}
	}
	marks := func() int {
		t.Helper()
		return ask[int](t, owner, "select count(*) from engine.open_mark where tenant_id <> ''")
	}
	advance()
	var rows []*span.Span
	for n := range 8 {
		rows = append(rows, of(t, []string{"t1", "t2"}[n%2], n+1, 0))
		mustAppend(t, l, Group{Rows: rows[n:]})
	}
	advance()
	if got := marks(); got != 0 {
		t.Errorf("%d marks where nothing has ended", got)
	}
	// Of an open transaction, which is older than what ends now.
	late := holdRequest(t, owner)
	for _, row := range slices.Concat(rows[:3], rows[6:7]) {
		mustAppend(t, l, Group{Fence: next(t, row, "complete")})
	}
	advance()
	if got := marks(); got != 2 {
		t.Errorf("%d marks, want 2", got)
	}
	newest := of(t, "t2", 20, 0)
	mustAppend(t, l, Group{Rows: []*span.Span{newest}})
	for _, row := range append(rows[3:6:6], rows[7], newest) {
		mustAppend(t, l, Group{Fence: next(t, row, "complete")})
	}
	advance()
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "t1", openIDs(t, l, "t1", 3), nil)
	if got := openIDs(t, l, "t2", 3); len(got) != 1 {
		t.Errorf("what committed late is not found: %v", got)
	}
	want(t, "tenants", tenantsOpen(t, l), []string{"t2"})
	advance()
	exec(t, owner, "drop schema engine cascade")
	want(t, "without marks", tenantsOpen(t, l), []string{"t2"})
}

// holdRequest begins a transaction with a request of t2 in it.
func holdRequest(t *testing.T, owner *pgx.Conn) pgx.Tx {
	t.Helper()
	tx, err := owner.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "set local role "+Role)
	}
	if err == nil {
		_, err = tx.Exec(t.Context(), `insert into ledger.universal_registry
			(id, seq, entity_type, who, at, owner_id, tenant_id, visibility, status) values
			($1, 0, 'request', 'kernel:test', now(), 'alice', 't2', 'private', 'scheduled')`, idOf(99).String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx
}
