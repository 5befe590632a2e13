package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// layNotes appends n notes in transactions of perCommit rows.
func layNotes(b *testing.B, conn *pgx.Conn, n, perCommit int) {
	b.Helper()
	layRows(b, conn, n, perCommit, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact,
			accepted_at, owner_id, tenant_id, visibility, status, is_deleted, name, content)
		select gen_random_uuid(), 0, 'note', 'user:alice', now(), pg_current_xact_id(),
			statement_timestamp(), 'alice', 'tenant' || n % 50, 'private', 'active', false, 'a note',
			'{"text": "as it was written"}'
		from`)
}

// layRows runs insert, which ends where the numbers n come from, until there are n rows, past the guards:
// they are not what is measured.
func layRows(b *testing.B, conn *pgx.Conn, n, perCommit int, insert string) {
	b.Helper()
	for _, statement := range []string{
		"set synchronous_commit = off",
		"alter table ledger.universal_registry disable trigger all",
		fmt.Sprintf(`do $$ begin
			for v_turn in 1 .. %d loop
				%s generate_series(1, %d) as n;
				commit;
			end loop;
		end $$`, n/perCommit, insert, perCommit),
		`do $$ declare v_name text; begin
			for v_name in select tgname from pg_trigger
				where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal
			loop
				execute format('alter table ledger.universal_registry enable always trigger %I', v_name);
			end loop;
		end $$`,
		"reset synchronous_commit",
		"checkpoint",
	} {
		_, err := conn.Exec(b.Context(), statement)
		must(b, err)
	}
}

// BenchmarkCatchUp drops the slot of a sidecar that is down, appends a million spans and a thousand requests
// among them, and measures from the start of the process until the last row is handed over. Missed and
// doubled are counted by what the requests left behind. The baseline reads the same columns of the
// same rows in one query of its own.
func BenchmarkCatchUp(b *testing.B) {
	rows, requests := scaled(1_000_000), scaled(1000)
	announce("CatchUp", time.Duration(rows)*80*time.Microsecond)
	c := newCells(b)
	out := newResults(b, "catchup", c.server.URL("postgres"))
	for b.Loop() {
		s, drop := c.ledger()
		conn := s.connect(b)
		s.attach(b, binary, s.login).stop()
		var slot string
		must(b, conn.QueryRow(b.Context(), `select slot_name from pg_replication_slots
			where database = current_database()`).Scan(&slot))
		await(b, 10*time.Second, func() bool {
			_, err := conn.Exec(b.Context(), "select pg_drop_replication_slot($1)", slot)
			return err == nil
		})
		layNotes(b, conn, rows/2, 1000)
		for range 10 {
			must(b, call(b.Context(), conn, 0, requests/10))
		}
		layNotes(b, conn, rows-rows/2, 1000)
		_, err := conn.Exec(b.Context(), "vacuum analyze ledger.universal_registry")
		must(b, err)

		began := time.Now()
		var read int
		must(b, conn.QueryRow(b.Context(), "select 0").Scan(&read))
		all, err := conn.Query(b.Context(), `select id::text, seq::text, entity_type, status, owner_id, tenant_id,
			visibility, is_deleted::text, parent_id::text, at::text, accepted_at::text, scheduled_at::text, trace_id,
			xact::text, curr_hash, prev_hash from ledger.universal_registry order by xact`)
		must(b, err)
		for all.Next() {
			read++
		}
		must(b, all.Err())
		plain := float64(read) / time.Since(began).Seconds()
		out.add(figure{Case: "catch-up", System: "plain select (baseline)", Round: 1,
			Values: map[string]float64{"rows_per_s": round3(plain), "rows": float64(read)}})

		began = time.Now()
		a := s.spawn(b, binary, s.login)
		await(b, 5*time.Minute, func() bool {
			return a.metric(b, "logline_tail_rows_total") >= float64(rows+requests)
		})
		scanned := float64(rows+requests) / time.Since(began).Seconds()
		await(b, time.Minute, func() bool { return a.ended(b, "complete") >= requests })
		var missed, doubled float64
		must(b, conn.QueryRow(b.Context(), `select $1 - count(distinct related_to[1]),
				count(*) - count(distinct related_to[1])
			from ledger.universal_registry where entity_type = 'execution'`, requests).Scan(&missed, &doubled))
		out.add(figure{Case: "catch-up", System: "LogLineOS", Round: 1, Values: map[string]float64{
			"rows_per_s": round3(scanned), "rows": float64(rows + requests), "missed": missed, "doubled": doubled}})
		b.ReportMetric(scanned, "rows/s")
		b.ReportMetric(scanned/plain, "ratio_to_select")
		if missed != 0 || doubled != 0 {
			b.Errorf("%g missed, %g doubled", missed, doubled)
		}
		a.stop()
		drop()
	}
}
