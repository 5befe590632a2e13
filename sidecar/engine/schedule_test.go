package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// requestOfTick is what observer_bot and its host make of a tick.
func requestOfTick(tick *span.Span) *span.Span {
	metadata, err := span.SetEngine(tick.Metadata, span.EngineMeta{
		Cause: span.Key{ID: *tick.ParentID, Seq: tick.Seq}, Root: tick.ID, Depth: 1, Kind: tickKind})
	if err != nil {
		panic(err)
	}
	return &span.Span{ID: tick.ID, EntityType: "request", Who: "kernel:test", At: tick.At, OwnerID: tick.OwnerID,
		TenantID: tick.TenantID, Visibility: tick.Visibility, TraceID: tick.TraceID, Status: new("scheduled"),
		ParentID: tick.ParentID, ScheduledAt: tick.ScheduledAt, Input: tick.Input, Metadata: metadata}
}

// recurring makes a span a function with this schedule.
func recurring(schedule string, change ...func(*span.Span)) func(*span.Span) {
	return func(s *span.Span) {
		s.Status, s.ParentID, s.Metadata = new("active"), nil, json.RawMessage(`{"schedule":`+schedule+`}`)
		for _, c := range change {
			c(s)
		}
	}
}

// version appends the next version of a function as its owner.
func (b *bench) version(before *span.Span, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	next := *before
	next.Seq, next.PrevHash, next.AcceptedAt, next.Xact = before.Seq+1, before.CurrHash, nil, nil
	for _, c := range change {
		c(&next)
	}
	b.append(ledger.Group{Fence: &next})
	return b.latest(next.ID)
}

// settledSchedules waits until no function is being read, caught up or shown to a kernel.
func (b *bench) settledSchedules() {
	b.t.Helper()
	eventually(b.t, "no tick is under way", func() bool {
		left := 0
		if err := b.engine.tell(b.t.Context(), func() {
			all := b.engine.schedules
			left = len(all.unread.wanted)
			if all.unread.asked != nil || len(all.heap) > 0 && !all.heap[0].next.After(b.engine.now()) {
				left++
			}
			for _, s := range all.byID {
				if left += s.open; s.place == 0 {
					left++
				}
			}
		}); err != nil {
			b.t.Fatal(err)
		}
		return left == 0
	})
}

// leadAt has the engine take these schedules over at a moment of the database's clock.
func (b *bench) leadAt(now time.Time, last map[span.ID]time.Time, stated ...ledger.Schedule) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() {
		b.engine.setClock(databaseClock{now, time.Now()})
		b.engine.leadSchedules(stated, last)
	}); err != nil {
		b.t.Fatal(err)
	}
	b.settledSchedules()
}

// ring lets a moment come.
func (b *bench) ring(now time.Time) {
	b.t.Helper()
	if err := b.engine.tell(b.t.Context(), func() {
		b.engine.setClock(databaseClock{now, time.Now()})
		b.engine.tickSchedules(now)
	}); err != nil {
		b.t.Fatal(err)
	}
	b.settledSchedules()
}

func stated(n int, since time.Time, form string) ledger.Schedule {
	return ledger.Schedule{ID: idOf(n), OwnerID: "alice", TenantID: "t1", Visibility: "private",
		AcceptedAt: since, Since: since, Form: json.RawMessage(form)}
}

// madeOf lists the ticks of a function that became requests, by their times, with what they say was missed.
func (b *bench) madeOf(n int) (ticks []string) {
	b.t.Helper()
	rows, err := b.connect().Query(b.t.Context(), `select to_char(scheduled_at, 'HH24:MI:SS')
			|| coalesce(' +' || (metadata -> 'tick' -> 'missed' ->> 'count'), '')
			|| case when metadata -> 'tick' ? 'is_fill' then ' fill' else '' end
		from ledger.universal_registry where parent_id = $1::text::uuid and entity_type = 'request' and seq = 0
			and at = scheduled_at and owner_id = 'alice' and tenant_id = 't1' order by scheduled_at`, idOf(n).String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var tick string
		if err := rows.Scan(&tick); err != nil {
			b.t.Fatal(err)
		}
		ticks = append(ticks, tick)
	}
	if rows.Err() != nil {
		b.t.Fatal(rows.Err())
	}
	return ticks
}

func (b *bench) wantTicks(n int, want ...string) {
	b.t.Helper()
	if got := b.madeOf(n); !slices.Equal(got, want) {
		b.t.Errorf("function %d: got %v, want %v", n, got, want)
	}
}

const noon = "2031-05-05T12:00:00Z"

func TestAFunctionRecurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	function := b.put(1, "function", recurring(`{"cron":"*/5 * * * *","input":{"n":1}}`))
	eventually(t, "it is disposed of", b.deliver(function))
	b.settledSchedules()
	// As if it had been there for long: what it ticks from here on is of this clock.
	since := clock(t, noon)
	b.leadAt(since, nil, stated(1, since, `{"cron":"*/5 * * * *","input":{"n":1}}`))
	for _, minute := range []int{4, 5, 5, 9, 10} {
		b.ring(since.Add(time.Duration(minute)*time.Minute + 200*time.Millisecond))
	}
	b.wantTicks(1, "12:05:00", "12:10:00")
	at := since.Add(5 * time.Minute)
	request := b.becomes(tickID(idOf(1), at), "complete")
	first, err := b.ledger.Load(t.Context(), []span.Key{{ID: request.ID}})
	if err != nil {
		t.Fatal(err)
	}
	made := first[span.Key{ID: request.ID}]
	meta, _ := made.Engine()
	if string(made.Input) != `{"n": 1}` || *made.TraceID != request.ID.String() || made.Visibility != "private" ||
		meta == nil || meta.Cause.ID != idOf(1) || meta.Root != request.ID || !made.At.Equal(at) {
		t.Errorf("the request is %+v, of %+v", made, meta)
	}
	b.want(request.ID, "scheduled complete", "complete1")
}

// Of versions that follow each other the newest has the schedule, in force from its acceptance; what is
// archived, deleted or states none any more has none.
func TestVersionsReplaceASchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.put(1, "function", recurring(`{"cron":"0 0 1 1 *"}`))
	find := func() (cron string) {
		b.settledSchedules()
		if err := b.engine.tell(t.Context(), func() {
			if s := b.engine.schedules.byID[first.ID]; s != nil {
				cron = s.when.String()
			}
		}); err != nil {
			t.Fatal(err)
		}
		return cron
	}
	b.deliver(first)
	if got := find(); got != "0 0 1 1 *" {
		t.Fatalf("the first version ticks at %q", got)
	}
	current := first
	for _, c := range []struct {
		what, want string
		change     func(*span.Span)
	}{
		{"the next one", "@yearly", recurring(`{"cron":"@yearly"}`)},
		{"scheduled is in force, too", "@yearly",
			recurring(`{"cron":"@yearly"}`, func(s *span.Span) { s.Status = new("scheduled") })},
		{"a draft", "", func(s *span.Span) { s.Status = new("draft") }},
		{"and active again", "@yearly", func(s *span.Span) { s.Status = new("active") }},
		{"null", "", recurring(`null`)},
		{"once more", "@monthly", recurring(`{"cron":"@monthly"}`)},
		{"malformed", "", recurring(`{"cron":"often"}`)},
		{"mended", "@weekly", recurring(`{"cron":"@weekly"}`)},
		{"archived", "", func(s *span.Span) { s.Status = new("archived") }},
	} {
		current = b.version(current, c.change)
		b.deliver(current)
		if got := find(); got != c.want {
			t.Errorf("%s: it ticks at %q, want %q", c.what, got, c.want)
		}
	}
	// A version that comes again changes nothing: it has been followed.
	b.deliver(first)
	if got := find(); got != "" {
		t.Errorf("an older version ticks at %q", got)
	}
	var told, private int
	if err := b.connect().QueryRow(t.Context(), `select count(*), count(*) filter (where owner_id = 'alice'
			and visibility = 'private' and parent_id = $1::text::uuid and error ->> 'code' = 'syntax'
			and error ->> 'message' like 'metadata.schedule: cron "often"%') from ledger.universal_registry
		where entity_type = 'incident'`, first.ID.String()).Scan(&told, &private); err != nil || told != 1 || private != 1 {
		t.Errorf("%d incidents, %d as they should be, %v", told, private, err)
	}
}

// What nobody was there for: up to a minute late it is on time; else it is made up for as the function says,
// and what is not is told with the next one.
func TestMissedTicksAreFilledByTheirRule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since, back := clock(t, noon), clock(t, "2031-05-05T12:30:30Z")
	forms := []string{`{"cron":"*/5 * * * *"}`, `{"cron":"*/5 * * * *","fill":"last"}`,
		`{"cron":"*/5 * * * *","fill":"all"}`, `{"cron":"*/5 * * * *","fill":"all","fill_max":2}`,
		`{"cron":"0 * * * *","fill":"all"}`, `{"cron":"*/10 * * * * *"}`}
	lead := func(now time.Time, last map[span.ID]time.Time) {
		var all []ledger.Schedule
		for i, form := range forms {
			all = append(all, stated(i+1, since, form))
		}
		b.leadAt(now, last, all...)
	}
	lead(since, nil)
	b.ring(since.Add(5 * time.Minute)) // 12:05 has its leader; then none until 12:30:30
	lead(back, nil)
	b.ring(clock(t, "2031-05-05T12:35:00Z"))

	b.wantTicks(1, "12:05:00", "12:30:00 +4", "12:35:00")
	b.wantTicks(2, "12:05:00", "12:25:00 +3 fill", "12:30:00", "12:35:00")
	b.wantTicks(3, "12:05:00", "12:10:00 fill", "12:15:00 fill", "12:20:00 fill", "12:25:00 fill", "12:30:00",
		"12:35:00")
	b.wantTicks(4, "12:05:00", "12:20:00 +2 fill", "12:25:00 fill", "12:30:00", "12:35:00")
	b.wantTicks(5)
	if got := b.madeOf(6); len(got) != 18 || got[5] != "12:05:00" || got[6] != "12:29:40 +147" {
		t.Errorf("every ten seconds: %v", got)
	}
	if missed := b.engine.stats.TicksMissed.Load(); missed < 4+3+2+147 {
		t.Errorf("%d are counted as missed", missed)
	}
	// A second leader, who comes at once, and finds everything there: with and without what was noted.
	before := b.madeOf(3)
	lead(clock(t, "2031-05-05T12:35:10Z"), nil)
	lead(clock(t, "2031-05-05T12:35:20Z"), map[span.ID]time.Time{idOf(3): clock(t, "2031-05-05T12:20:00Z")})
	if after := b.madeOf(3); !slices.Equal(before, after) {
		t.Errorf("a new leader has made of %v %v", before, after)
	}
	b.wantTicks(1, "12:05:00", "12:30:00 +4", "12:35:00")
}

// A sidecar is lost with its ticks in hand, or commits them late: the next one makes each once.
func TestATickIsMadeOnceAcrossLeaders(t *testing.T) {
	t.Parallel()
	hold, held := make(chan struct{}), make(chan struct{}, 100)
	b := setup(t, func(n *bench) {
		n.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
			held <- struct{}{}
			select {
			case <-hold: // frozen
			case <-ctx.Done():
				return ctx.Err()
			}
			return n.observe(ctx, job)
		}
	})
	since := clock(t, noon)
	all := []ledger.Schedule{stated(1, since, `{"cron":"* * * * *"}`),
		stated(2, since, `{"cron":"* * * * *","fill":"all"}`)}
	b.leadAt(since, nil, all...)
	now := since.Add(time.Minute)
	if err := b.engine.tell(t.Context(), func() { b.engine.tickSchedules(now) }); err != nil {
		t.Fatal(err)
	}
	<-held
	second := b.start(func(n *bench) { n.node = "two" })
	all[0].Seq, all[0].AcceptedAt = 1, now // meanwhile a version with the same schedule has come
	second.leadAt(now.Add(500*time.Millisecond), nil, all...)
	second.wantTicks(1, "12:01:00")
	close(hold) // it wakes, and commits what it had in hand
	b.settledSchedules()
	second.ring(now.Add(time.Minute))
	b.ring(now.Add(time.Minute + time.Second)) // both believe that they lead
	for n := 1; n <= 2; n++ {
		second.wantTicks(n, "12:01:00", "12:02:00")
		for minute := 1; minute <= 2; minute++ {
			id := tickID(idOf(n), since.Add(time.Duration(minute)*time.Minute))
			second.becomes(id, "complete")
			second.want(id, "scheduled complete", "complete1")
		}
	}
	var incidents int
	if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
		where entity_type = 'incident'`).Scan(&incidents); err != nil || incidents != 0 {
		t.Errorf("%d incidents, %v", incidents, err)
	}
}

// The kernel decides: a tick that it makes nothing of is skipped, and counted; one that it fails on is an
// incident, and holds up no other.
func TestTheKernelDecidesWhatBecomesOfATick(t *testing.T) {
	t.Parallel()
	b := setup(t, func(n *bench) {
		n.kernels["observer_bot"] = func(ctx context.Context, job Job) error {
			for _, cause := range job.Batch {
				switch *cause.ParentID {
				case idOf(1):
				case idOf(2):
					job.Emit(cause.Key(), ledger.Group{}, &span.RunError{Code: span.RunException, Message: "not this"})
				default:
					if err := n.observe(ctx, Job{Batch: []*span.Span{cause}, Emit: job.Emit}); err != nil {
						return err
					}
				}
			}
			return nil
		}
	})
	since := clock(t, noon)
	b.leadAt(since, nil, stated(1, since, `{"cron":"* * * * *"}`), stated(2, since, `{"cron":"* * * * *"}`),
		stated(3, since, `{"cron":"* * * * *"}`))
	b.ring(since.Add(time.Minute))
	b.wantTicks(1)
	b.wantTicks(2)
	b.wantTicks(3, "12:01:00")
	if skipped := b.engine.stats.TicksSkipped.Load(); skipped != 1 {
		t.Errorf("%d are counted as skipped", skipped)
	}
	var incidents int
	if err := b.connect().QueryRow(t.Context(), `select count(*) from ledger.universal_registry
		where entity_type = 'incident' and parent_id = $1::text::uuid`,
		idOf(2).String()).Scan(&incidents); err != nil || incidents != 1 {
		t.Errorf("%d incidents, %v", incidents, err)
	}
}

func TestATenantHasSoManySchedules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := clock(t, noon)
	var all []ledger.Schedule
	for i := range schedulesMax + 60 {
		s := stated(i, since.Add(time.Duration(i)*time.Millisecond), `{"cron":"@yearly"}`)
		s.OwnerID = fmt.Sprint("user", i/200)
		all = append(all, s)
	}
	for i := range schedulesPer + 1 {
		s := stated(0x2000+i, since.Add(time.Hour), `{"cron":"@yearly"}`)
		s.OwnerID, s.TenantID = "bob", "t2"
		all = append(all, s)
	}
	b.leadAt(since.Add(2*time.Hour), nil, all...)
	if n := b.engine.stats.Schedules.Load(); n != schedulesMax+schedulesPer {
		t.Errorf("%d schedules, want %d", n, schedulesMax+schedulesPer)
	}
	told := map[string]int{}
	eventually(t, "61 owners are told", func() bool {
		rows, err := b.connect().Query(t.Context(), `select tenant_id, count(*) from ledger.universal_registry
			where entity_type = 'incident' and error ->> 'message' like '%archive one' group by 1`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var tenant string
			var n int
			if err := rows.Scan(&tenant, &n); err != nil {
				t.Fatal(err)
			}
			told[tenant] = n
		}
		return told["t1"] == 60 && told["t2"] == 1
	})
}

// The database's clock jumps: ahead, and what it passes over is missed; back, and what comes twice is one.
func TestSchedulesOutliveJumpsOfTheClock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	since := clock(t, noon)
	b.leadAt(since, nil, stated(1, since, `{"cron":"*/5 * * * *","fill":"last"}`))
	jump := func(to string) {
		t.Helper()
		if err := b.engine.tell(t.Context(), func() {
			b.engine.setClock(databaseClock{clock(t, to), time.Now()})
		}); err != nil {
			t.Fatal(err)
		}
		b.ring(clock(t, to))
	}
	jump("2031-05-05T12:05:00Z")
	jump("2031-05-05T12:20:10Z")
	b.wantTicks(1, "12:05:00", "12:15:00 +1 fill", "12:20:00")
	jump("2031-05-05T12:14:00Z")
	b.ring(clock(t, "2031-05-05T12:15:00Z")) // again
	b.ring(clock(t, "2031-05-05T12:20:00Z"))
	b.ring(clock(t, "2031-05-05T12:25:00Z"))
	want := []string{"12:05:00", "12:15:00 +1 fill", "12:20:00", "12:25:00"}
	b.wantTicks(1, want...)
	jump("2041-01-01T00:00:00Z") // somebody mistyped the year
	if got := b.madeOf(1); len(got) != len(want)+2 {
		t.Errorf("after ten years: %v", got)
	}
	jump("2031-05-05T12:29:00Z")
	b.ring(clock(t, "2031-05-05T12:30:00Z"))
	if got := b.madeOf(1); !slices.Contains(got, "12:30:00") {
		t.Errorf("back from ten years it does not tick any more: %v", got)
	}
}

// What has ticked is noted for the next sidecar, and read back; without its table everything goes on.
func TestLastTicksAreNotedAndMayVanish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := clock(t, noon)
	ids := []span.ID{idOf(1), idOf(2)}
	if last, err := b.ledger.LastTicks(t.Context(), ids); err != nil || len(last) != 0 {
		t.Fatalf("at first: %v, %v", last, err)
	}
	for range 2 {
		for _, when := range []time.Time{at, at.Add(time.Minute)} {
			if err := b.ledger.KeepTicks(t.Context(), map[span.ID]time.Time{idOf(1): when}); err != nil {
				t.Fatal(err)
			}
		}
		last, err := b.ledger.LastTicks(t.Context(), ids)
		if err != nil || len(last) != 1 || !last[idOf(1)].Equal(at.Add(time.Minute)) {
			t.Errorf("got %v, %v", last, err)
		}
		exec(t, b.connect(), "drop schema engine cascade")
	}
}

// A leader reads the schedules that are in force, and since when each has ticked at these times.
func TestSchedulesAreReadAtATakeOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.put(1, "function", recurring(`{"cron":"0 0 * * *","tz":"Asia/Tokyo"}`))
	same := b.version(first, func(s *span.Span) { s.Name = new("other") })
	other := b.version(b.version(b.put(2, "function", recurring(`{"cron":"@daily"}`)),
		recurring(`{"cron":"@daily","tz":"Asia/Tokyo"}`)), func(s *span.Span) { s.Status = new("scheduled") })
	again := b.version(b.version(b.put(3, "function", recurring(`{"cron":"@daily"}`)),
		func(s *span.Span) { s.Status = new("draft") }), func(s *span.Span) { s.Status = new("active") })
	b.version(b.put(4, "function", recurring(`{"cron":"@daily"}`)),
		func(s *span.Span) { s.Status = new("archived") })
	b.put(5, "function")
	b.put(6, "note", recurring(`{"cron":"@daily"}`))
	malformed := b.put(7, "function", recurring(`{"cron":[1]}`))

	var got []ledger.Schedule
	for after := (span.ID{}); ; {
		page, err := b.ledger.Schedules(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got, after = append(got, page...), page[len(page)-1].ID
	}
	want := []struct{ version, since *span.Span }{{same, first}, {other, nil}, {again, again},
		{malformed, malformed}}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, w := range want {
		if got[i].ID != w.version.ID || got[i].Seq != w.version.Seq || got[i].OwnerID != "alice" ||
			!got[i].AcceptedAt.Equal(w.version.AcceptedAt.Time) {
			t.Errorf("%d: got %+v", i, got[i])
		}
		if since := got[i].Since; w.since != nil && !since.Equal(w.since.AcceptedAt.Time) ||
			w.since == nil && !since.Before(w.version.AcceptedAt.Time) {
			t.Errorf("%d: since %s, accepted at %s", i, since, w.version.AcceptedAt)
		}
	}
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.settledSchedules()
	if n := b.engine.stats.Schedules.Load(); n != 3 {
		t.Errorf("%d are in force, want 3", n)
	}
}
