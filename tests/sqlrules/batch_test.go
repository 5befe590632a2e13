package sqlrules

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// wantPlaces fails the test unless the answers come in order and each is as stated: new, old, or a code.
func wantPlaces(t testing.TB, got []placed, want ...string) {
	t.Helper()
	var told []string
	for i, p := range got {
		word := "old"
		switch {
		case p.Error != nil:
			word = p.Error.Code
			if p.ID != "" || p.Seq != -1 || p.IsNew || p.Error.Message == "" || p.Error.Hint == "" {
				t.Errorf("place %d: got %+v %+v", p.Place, p, *p.Error)
			}
		case p.IsNew:
			word = "new"
		}
		told = append(told, word)
		if p.Place != i+1 {
			t.Errorf("answer %d is for place %d", i+1, p.Place)
		}
	}
	if strings.Join(told, " ") != strings.Join(want, " ") {
		t.Errorf("got  %v\nwant %v", told, want)
	}
}

// array is a JSON array of spans.
func array(spans ...string) string { return "[" + strings.Join(spans, ",") + "]" }

func TestBatchAnswersInOrder(t *testing.T) {
	t.Parallel()
	l := setup(t)
	for name, w := range writers() {
		t.Run(name, func(t *testing.T) {
			thing := ask[string](l, owner, "select gen_random_uuid()::text")
			span := func(more string) string { return `{"entity_type":"note"` + w.state + more + `}` }
			of := func(seq int, more string) string {
				return span(fmt.Sprintf(`,"id":"%s","seq":%d%s`, thing, seq, more))
			}
			key := `,"idempotency_key":"` + thing + `"`
			spans := array(
				of(0, ``), of(1, `,"name":"x"`), of(3, ``), of(2, ``), // a version and the next, a gap
				span(`,"colour":1`), `7`, span(`,"seq":"0"`), // malformed
				of(1, `,"name":"x"`), of(1, `,"name":"y"`), // again, and with other content
				span(key), span(key), span(key+`,"name":"z"`),
				span(`,"when":"1999-01-01T00:00:00Z"`), span(``))
			want := strings.Fields("new new LL002 new LL017 LL017 LL017 old 23505 new old 23505 LL011 new")
			if w.who.role == "none" {
				want[12] = "new" // no limit to the owner's event time
			}
			first := l.batch(w.who, spans)
			wantPlaces(t, first, want...)
			if first[8].Error == nil || !strings.HasPrefix(first[8].Error.Detail, "LL012") {
				t.Errorf("conflict: got %+v", first[8].Error)
			}
			for _, p := range first {
				if p.Error == nil && !ask[bool](l, owner, `select count(*) = 1 from ledger.universal_registry
					where id = $1 and seq = $2 and accepted_at = $3`, p.ID, p.Seq, p.AcceptedAt) {
					t.Errorf("place %d: there is no row %+v", p.Place, p)
				}
			}
			// The whole batch again: what is there is done, by its first answer. What stated no id is new.
			again := l.batch(w.who, spans)
			for i, word := range want {
				if word == "new" && i != 12 && i != 13 {
					want[i] = "old"
				}
			}
			want[2] = "new" // version 2 has come since
			wantPlaces(t, again, want...)
			for i := range again {
				if want[i] == "old" && (again[i].ID != first[i].ID || !again[i].AcceptedAt.Equal(first[i].AcceptedAt)) {
					t.Errorf("place %d: got %+v, want %+v", i+1, again[i], first[i])
				}
			}
		})
	}
}

// Wherever the faults are, and however many, each span has its own answer.
func TestBatchFindsEveryFault(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const good, bad = `{"entity_type":"note","id":"%s"}`, `{"entity_type":"execution","id":"%s"}`
	for n, faults := range [][]int{{}, {0}, {16}, {7}, {3, 4}, {0, 2, 4, 6, 8, 10, 12, 14, 16},
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}} {
		spans, want := make([]string, 17), make([]string, 17)
		for i := range spans {
			spans[i], want[i] = fmt.Sprintf(good, id(n*100+i)), "new"
		}
		for _, i := range faults {
			spans[i], want[i] = fmt.Sprintf(bad, id(n*100+i)), "LL004"
		}
		wantPlaces(t, l.batch(alice, array(spans...)), want...)
		// Half of them are there: as after an answer that was lost on its way.
		for i := range spans {
			if i%2 == 0 {
				spans[i] = fmt.Sprintf(good, id(5000+n*100+i))
			}
			if want[i] == "new" {
				want[i] = "old"
			}
			if i%2 == 0 {
				want[i] = "new"
			}
		}
		wantPlaces(t, l.batch(alice, array(spans...)), want...)
	}
}

// Who may not read what he writes gets the same answers.
func TestBatchOfWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	l := setup(t)
	span := func(n int) string {
		return `{"entity_type":"note","owner_id":"system","tenant_id":"system","id":"` + id(n) + `"}`
	}
	wantPlaces(t, l.batch(governor, array(span(1), span(2))), "new", "new")
	// What is there can not be compared: it is a conflict, whatever it says.
	wantPlaces(t, l.batch(governor, array(span(3), span(1), span(4), span(4))), "new", "23505", "new", "23505")
	wantPlaces(t, l.batch(owner, array(span(3), span(5), span(5), span(4))), "old", "new", "old", "old")
}

// A request may follow its function in one batch: rows are written in the order sent.
func TestBatchKeepsTheOrderSent(t *testing.T) {
	t.Parallel()
	l := setup(t)
	function := func(n int) string {
		return `{"entity_type":"function","status":"active","id":"` + id(n) + `"}`
	}
	request := func(n int) string {
		return `{"entity_type":"request","status":"scheduled","parent_id":"` + id(n) + `"}`
	}
	wantPlaces(t, l.batch(alice, array(function(9), request(9), request(8), function(8), request(8))),
		"new", "new", "LL015", "new", "new")
}

func TestBatchHasLimits(t *testing.T) {
	t.Parallel()
	l := setup(t)
	note := `{"entity_type":"note"}`
	wantPlaces(t, l.batch(alice, `[]`))
	thousand := strings.Split(strings.Repeat(note+" ", 1000), " ")[:1000]
	if got := len(l.batch(alice, array(thousand...))); got != 1000 {
		t.Errorf("%d answers to 1000 spans", got)
	}
	large := `{"entity_type":"note","content":"` + strings.Repeat("x", 900<<10) + `"}`
	wantPlaces(t, l.batch(alice, array(large, large)), "new", "new")
	spans := make([]string, 20)
	for i := range spans {
		spans[i] = large
	}
	for name, spans := range map[string]string{
		"an object": note, "text": `"x"`, "a number": `5`, "null": `null`,
		"1001 spans": array(append(thousand, note)...),
		"17 MiB":     array(spans...),
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, l.do(alice, "select ledger.append_batch($1::text::jsonb)", spans), "LL017")
		})
	}
	wantCode(t, l.do(alice, "select ledger.append_batch(null)"), "LL017")
	for _, who := range []actor{anon, {role: "loglineos_kernel"}} {
		wantCode(t, l.do(who, "select ledger.append_batch('[]')"), "42501")
	}
}

// An owner of the database may add rules of his own; what they refuse is that span's answer.
func TestBatchReportsOtherRefusals(t *testing.T) {
	t.Parallel()
	l := setup(t)
	run(t, l.conn, `create function public.no_red() returns trigger language plpgsql as $$ begin
		if new.name = 'red' then raise exception 'no red' using hint = 'Take blue.'; end if;
		if new.name = 'lock' then raise lock_not_available; end if; return new; end $$;
		create trigger no_red before insert on ledger.universal_registry
		for each row execute function public.no_red()`)
	named := func(name string) string { return `{"entity_type":"note","name":"` + name + `"}` }
	got := l.batch(alice, array(named("a"), named("red"), named("b")))
	wantPlaces(t, got, "new", "P0001", "new")
	// No span's fault: the call ends, and nothing of it is written.
	err := l.do(alice, "select ledger.append_batch($1::text::jsonb)",
		array(named("c"), named("lock"), named("d")))
	wantCode(t, err, "55P03")
	if ask[int](l, owner, "select count(*) from ledger.universal_registry where name in ('c', 'd')") != 0 {
		t.Error("half a batch is written")
	}
}

// A sidecar that was frozen, or a client that repeats itself, loses row by row: whatever the late rows say,
// and whatever has become of those spans since.
func TestBatchWithAZombieDoesNotAbort(t *testing.T) {
	t.Parallel()
	l := setup(t)
	function := func(n, seq int, status string) map[string]any {
		return map[string]any{"id": id(n), "seq": seq, "entity_type": "function", "status": status}
	}
	for seq, status := range []string{"draft", "active", "archived"} {
		l.given(alice, "id", id(1), "seq", seq, "entity_type", "function", "status", status)
	}
	late := []map[string]any{function(2, 0, "draft"), function(1, 1, "scheduled"), function(1, 1, "active"),
		function(1, 2, "draft"), function(1, 0, "archived"), function(3, 0, "active")}
	spans, err := json.Marshal(late)
	if err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, l.batch(alice, string(spans)), "new", "23505", "old", "23505", "23505", "new")
	// The plain door: one statement, ON CONFLICT DO NOTHING.
	err = l.in(alice, func(tx pgx.Tx) error {
		tag, err := tx.Exec(t.Context(), `insert into ledger.universal_registry (id, seq, entity_type, status)
			select id, seq, entity_type, status
			from jsonb_populate_recordset(null::ledger.universal_registry, $1::text::jsonb)
			on conflict do nothing`, strings.ReplaceAll(string(spans), id(3), id(4)))
		if tag.RowsAffected() != 1 {
			t.Errorf("%d rows, want the one that is new", tag.RowsAffected())
		}
		return err
	})
	wantCode(t, err, "")
}

// 100,000 ids in one transaction, by each door: no lock and no memory is kept for each.
func TestHundredThousandIdsInOneTransaction(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const counts = `select (select count(*) from ledger.universal_registry),
		(select count(*) from pg_locks where pid = pg_backend_pid())`
	for name, write := range map[string]string{
		"INSERT": `insert into ledger.universal_registry (entity_type, name) select 'note', i::text
			from generate_series(1, 100000) i`,
		"append_batch": `do $$ begin
			for i in 1 .. 100 loop
				if exists (select from ledger.append_batch((select jsonb_agg(jsonb_build_object('entity_type', 'note',
					'name', n::text)) from generate_series(1, 1000) n)) as b where not b.is_new) then
					raise 'not new';
				end if;
			end loop;
		end $$`,
	} {
		err := l.in(alice, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), write); err != nil {
				return err
			}
			var rows, held int
			if err := tx.QueryRow(t.Context(), counts).Scan(&rows, &held); err != nil {
				return err
			}
			if rows != 100000 || held > 50 {
				t.Errorf("%s: %d rows, %d locks", name, rows, held)
			}
			return pgx.ErrTxClosed // away with them
		})
		if err == nil || !strings.Contains(err.Error(), pgx.ErrTxClosed.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
