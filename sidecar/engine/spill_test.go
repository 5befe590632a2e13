package engine

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// flood appends n requests, in turns of the tenants t1, t2 and so on, due at that time; "" is at once.
func (b *bench) flood(n, tenants int, due string) {
	b.t.Helper()
	conn := b.connect()
	exec(b.t, conn, `insert into ledger.universal_registry (id, entity_type, who, owner_id, tenant_id, status,
			visibility) values ($1::text::uuid, 'function', 'user:a', 'alice', 't1', 'active', 'public')
		on conflict do nothing`, idOf(0xffff).String())
	exec(b.t, conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status,
			parent_id, scheduled_at)
		select 'request', 'user:a', 'alice', 't' || 1 + n % $2, 'scheduled', $3::text::uuid,
			nullif($4::text, '')::interval + now()
		from generate_series(0, $1 - 1) n`, n, tenants, idOf(0xffff).String(), due)
}

// rows are the open requests of a tenant as the stream has them.
func (b *bench) rows(tenant string) (all []*span.Published) {
	b.t.Helper()
	for after := (ledger.OpenPlace{}); ; {
		page, _, err := b.ledger.OpenRequestsOf(b.t.Context(), tenant, after, 1000)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all, after = append(all, page...), ledger.PlaceOf(page[len(page)-1])
	}
}

// stream hands over rows.
func (b *bench) stream(rows ...*span.Published) {
	b.t.Helper()
	for _, row := range rows {
		if err := b.engine.Row(b.t.Context(), row, func() {}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// inMemory returns what the loop knows.
func (b *bench) inMemory() (known, open, waiting int) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() {
		known, open, waiting = b.engine.known, len(b.engine.open), b.engine.due.len()
	}); err != nil {
		b.t.Fatal(err)
	}
	return known, open, waiting
}

// held lets no run begin until it is closed.
func held(gate chan struct{}) func(*bench) {
	return func(b *bench) {
		b.kernels["request_worker"] = func(ctx context.Context, job Job) error {
			select {
			case <-gate:
				return b.complete(ctx, job)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (b *bench) executed(n int) {
	b.t.Helper()
	for done := int64(0); done < int64(n); { // as long as some are: how many a second is the machine's matter
		next := min(done+100, int64(n))
		eventually(b.t, fmt.Sprintf("%d of %d are executed", next, n), func() bool {
			done = b.engine.Stats().Executed.Load()
			return done >= next
		})
	}
	b.quiet()
	var ended, executions int
	if err := b.connect().QueryRow(b.t.Context(), `select
		count(*) filter (where entity_type = 'request' and status = 'complete'),
		count(*) filter (where entity_type = 'execution') from ledger.universal_registry`).
		Scan(&ended, &executions); err != nil || ended != n || executions != n {
		b.t.Errorf("%d requests are complete with %d executions, want %d; %v", ended, executions, n, err)
	}
}

func TestMemoryHoldsAShareOfAFloodAndTheLedgerGivesTheRest(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := setup(t, held(gate))
	b.flood(3000, 1, "")
	b.lead()
	b.stream(b.rows("t1")...) // again, as after a crash
	small := b.put(1, "request", func(s *span.Span) { s.TenantID = "small" })
	b.deliver(small)
	eventually(t, "memory is full", func() bool {
		known, _, _ := b.inMemory()
		return known >= openTenantMax
	})
	if known, open, _ := b.inMemory(); known > openTenantMax+1 || open > openTenantMax+1 {
		t.Errorf("memory has %d requests, %d count", open, known)
	}
	close(gate)
	b.executed(3001)
	if n := len(b.engine.tenants); n != 0 {
		t.Errorf("%d tenants are known when all is done", n)
	}
}

// A row may come before others can see it, and after the pass that would give it has begun.
func TestNothingIsMissedBetweenStreamAndPass(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := setup(t, held(gate))
	b.lead()
	b.flood(2*openTenantMax, 1, "")
	b.stream(b.rows("t1")...)
	var hidden []*span.Published
	writers := []func(){}
	for i := range 3 { // committed one after the other, long after their rows have come
		conn := b.connect()
		exec(t, conn, "begin")
		var id string
		row := &span.Published{EntityType: "request", Status: new("scheduled"), OwnerID: "alice", TenantID: "t1",
			Visibility: "private", ParentID: new(idOf(0xffff)), At: span.NewTime(time.Now()),
			AcceptedAt: span.NewTime(time.Now())}
		if err := conn.QueryRow(t.Context(), `insert into ledger.universal_registry (id, entity_type, who, owner_id,
			tenant_id, status, parent_id) values ($1::text::uuid, 'request', 'user:a', 'alice', 't1', 'scheduled',
			$2::text::uuid) returning id::text, xact::text::bigint`, idOf(i+1).String(), idOf(0xffff).String()).
			Scan(&id, &row.Xact); err != nil {
			t.Fatal(err)
		}
		row.ID = span.MustID(id)
		hidden = append(hidden, row)
		writers = append(writers, func() { exec(t, conn, "commit") })
	}
	b.stream(hidden...)
	close(gate)
	eventually(t, "the flood is executed", func() bool {
		return b.engine.Stats().Executed.Load() >= 2*openTenantMax
	})
	for i, commit := range writers {
		commit()
		b.becomes(hidden[i].ID, "complete")
	}
	b.executed(2*openTenantMax + 3)
}

// What this sidecar makes itself is passed over as well.
func TestAFloodOfOwnRequestsIsReadFromTheLedger(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := setup(t, held(gate))
	b.lead()
	b.flood(openTenantMax, 1, "")
	b.stream(b.rows("t1")...)
	function := b.put(7, "function")
	eventually(t, "the function is disposed of", b.deliver(function))
	request := requestOf(function)
	b.stream(published(b.latest(request.ID))) // the row comes back
	close(gate)
	b.becomes(request.ID, "complete")
	b.executed(openTenantMax + 1)
}

func TestCancelOfARequestThatMemoryHasNotWorksAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(b *bench) { b.kernels["request_worker"], b.drain = stuck, time.Millisecond })
	b.flood(2*openTenantMax, 1, "")
	rows := b.rows("t1")
	last := rows[len(rows)-1]
	b.lead()
	eventually(t, "memory is full", func() bool {
		known, _, _ := b.inMemory()
		return known >= openTenantMax
	})
	b.deliver(b.cancelRequested(b.latest(last.ID)))
	b.becomes(last.ID, "cancelled")
}

func inASecond(s *span.Span) { s.ScheduledAt = new(span.NewTime(time.Now().Add(time.Second))) }

// Of those that are due later, memory has the next ones.
func TestRequestsThatAreDueLaterAreReadByTheirTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.flood(30_000, 10, "1 hour")
	b.flood(1500, 1, "2 seconds") // more than a tenant may have
	b.lead()
	soon := b.put(1, "request", inASecond)
	b.deliver(soon)
	b.becomes(soon.ID, "complete")
	b.executed(1501)
	if known, open, waiting := b.inMemory(); known+open+waiting > 0 {
		t.Errorf("memory has %d requests, %d wait", open, waiting)
	}
}

// However many are due soon, memory has as many as it may, the next ones.
func TestTheAgendaKeepsTheNextOnes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lead()
	b.flood(laterMax+5000, 10, "4 minutes")
	page, _, err := b.ledger.DueBefore(t.Context(), time.Now().Add(time.Hour), "", ledger.DuePlace{},
		laterMax+5000)
	if err != nil {
		t.Fatal(err)
	}
	b.stream(page...)
	eventually(t, "all are looked at", func() bool {
		_, _, waiting := b.inMemory()
		return waiting >= laterMax/2 && b.engine.Stats().Open.Load() == int64(waiting)
	})
	if _, _, waiting := b.inMemory(); waiting > laterMax {
		t.Errorf("%d wait in memory", waiting)
	}
	soon := b.put(1, "request", inASecond)
	b.deliver(soon)
	b.becomes(soon.ID, "complete")
}

// The figure for the memory of 1M is in tests/bench; this one holds the bound.
func TestATakeOverOfManyRequestsStartsAtOnceAndStaysBounded(t *testing.T) {
	t.Parallel()
	for _, tenants := range []int{1, 50, 1000} {
		t.Run(fmt.Sprintf("%d tenants", tenants), func(t *testing.T) {
			const n = 50_000
			gate := make(chan struct{})
			b := setup(t, held(gate), func(b *bench) { b.drain = time.Millisecond })
			b.flood(n, tenants, "")
			exec(t, b.connect(), "analyze ledger.universal_registry")
			before := heapBytes()
			began := time.Now()
			b.lead()
			eventually(t, "the first ones run", func() bool { return b.engine.Stats().InFlight.Load() >= 31 })
			t.Logf("%d tenants: the first runs after %s", tenants, time.Since(began).Round(time.Millisecond))
			b.quietRefills()
			known, open, _ := b.inMemory()
			grown := max(heapBytes()-before, 0)
			t.Logf("%d tenants: %d of %d requests in memory, %d bytes for each of those, %d for each of all",
				tenants, open, n, grown/int64(open), grown/n)
			if most := openMax + openTenantMin*tenants; known > most || open > most {
				t.Errorf("%d in memory, at most %d", open, most)
			}
			if grown/n > 2000 {
				t.Errorf("%d bytes for each request", grown/n)
			}
		})
	}
}

// quietRefills waits until no page is read any more.
func (b *bench) quietRefills() {
	b.t.Helper()
	for full := false; !full; { // a thousand tenants are a thousand pages: as long as some come
		from := b.engine.Stats().Refills.Load()
		eventually(b.t, "memory is full, or fills", func() bool {
			_ = b.engine.tell(b.t.Context(), func() { full = b.engine.refills == 0 && len(b.engine.wanting) == 0 })
			return full || b.engine.Stats().Refills.Load() >= from+50
		})
	}
}

func heapBytes() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestASnapshotDecidesWhatIsHidden(t *testing.T) {
	t.Parallel()
	snapshot, err := span.ParseSnapshot("10:20:12,15")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		xacts []uint64
		want  int
	}{
		{"nothing", nil, 0},
		{"seen", []uint64{0, 9, 13, 19}, 0},
		{"under way and to come", []uint64{9, 12, 15, 20}, 3},
	} {
		var u unseen
		for _, xact := range c.xacts {
			u.add(xact)
			u.add(xact)
		}
		if hidden := u.hiddenFrom(snapshot); len(hidden.few) != c.want {
			t.Errorf("%s: %v are hidden, want %d", c.name, hidden.few, c.want)
		}
	}
	many := func(from uint64) (u unseen) {
		for i := range uint64(unseenMax + 1) {
			u.add(from + i)
		}
		return u
	}
	late, err := span.ParseSnapshot("1000:2000:1400")
	if err != nil {
		t.Fatal(err)
	}
	for from, isHidden := range map[uint64]bool{0: false, 500: false, 900: false, 1143: false, 1144: true,
		1400: true, 1401: false, 1743: false, 1744: true, 3000: true} {
		u := many(from)
		if hidden := u.hiddenFrom(late); (hidden.n > 0) != isHidden || u.from() != from {
			t.Errorf("many from %d: %d are hidden", from, hidden.n)
		}
	}
}

// A transaction that is open somewhere hides what it may have written, and nothing else.
func TestAnOpenTransactionElsewhereHasNothingReadOverAndOver(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := setup(t, held(gate))
	b.lead()
	b.flood(openTenantMax, 1, "")
	b.stream(b.rows("t1")...)
	conn := b.connect()
	one := func(n int) {
		exec(t, conn, fmt.Sprintf(`do $$ begin for i in 1..%d loop
			insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status, parent_id)
			values ('request', 'user:a', 'alice', 't1', 'scheduled', '%s'); commit; end loop; end $$`,
			n, idOf(0xffff)))
	}
	one(unseenMax / 2)
	holder := b.connect()
	exec(t, holder, "begin")
	exec(t, holder, "select pg_current_xact_id()")
	one(unseenMax)
	var later []*span.Published
	for _, row := range b.rows("t1") {
		if row.Seq == 0 {
			later = append(later, row)
		}
	}
	b.stream(later...)
	close(gate)
	eventually(t, "all is done", func() bool {
		return b.engine.Stats().Executed.Load() >= openTenantMax+unseenMax/2+unseenMax
	})
	from, began := b.engine.Stats().Refills.Load(), time.Now()
	eventually(t, "some pages are read", func() bool { return b.engine.Stats().Refills.Load() >= from+20 })
	if took := time.Since(began); took < 20*refillPauses/4 {
		t.Errorf("20 pages are read within %s, with nothing to do", took)
	}
	exec(t, holder, "rollback")
	b.quiet()
}
