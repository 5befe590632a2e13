package chaos_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/program"
)

// bookkeeping are the types that a start or a stop may append, and that no effect depends on.
const bookkeeping = `('boot_event', 'policy_cursor', 'checkpoint', 'metric')`

// probe is the owner of the test's own marks.
var probe = user{"probe", "probe"}

// awaitQuiet returns when everything that was committed before has been seen, no request is open that is
// due, and nothing has been appended for a while. It does not ask whether something is missing: that is the
// oracle's.
func (w *world) awaitQuiet() {
	w.t.Helper()
	began := time.Now()
	w.awaitProbe()
	still, count, since := 2*time.Second, -1, time.Now()
	if !program.Within(w.t, 2*patience, func() bool {
		open, err := ask[int](w, `select count(*) from (
			select distinct on (id) status, scheduled_at from ledger.universal_registry
			where entity_type = 'request' order by id, seq desc) as last
			where status not in ('complete', 'error', 'dead', 'cancelled')
				and not coalesce(scheduled_at > now() + interval '1 minute', false)`)
		n := 0
		if err == nil {
			n, err = ask[int](w, `select count(*) from ledger.universal_registry where entity_type not in `+
				bookkeeping)
		}
		if err != nil || open > 0 || n != count {
			count, since = n, time.Now()
			return false
		}
		return time.Since(since) > still
	}) {
		w.t.Errorf("seed %d: not quiet within %s; open requests:\n%s", w.seed, 2*patience, w.describeOpen())
	}
	w.t.Logf("quiet after %.1f s: %d rows", time.Since(began).Seconds(), count)
}

// awaitProbe has a function run and a policy of every tenant answer: what was committed before has been seen.
func (w *world) awaitProbe() {
	w.t.Helper()
	trace := fmt.Sprintf("probe-%d", w.random.Uint64())
	w.insert(probe, columns{"entity_type": "function", "status": "scheduled", "name": "probe",
		"language": "javascript", "code": "return {};", "trace_id": trace})
	for _, u := range []user{alice, bob, mallory} {
		w.insert(u, columns{"entity_type": "order", "name": "probe", "visibility": "private", "trace_id": trace,
			"content": columns{"n": 1}})
	}
	program.Eventually(w.t, "the probe has run, and every tenant's policies have answered", func() bool {
		n, err := ask[int](w, `select count(*) from ledger.universal_registry where trace_id = $1
			and entity_type in ('execution', 'digest')`, trace)
		return err == nil && n >= 4
	})
}

func (w *world) describeOpen() string {
	rows, err := w.owner.Query(w.t.Context(), `select format('%s %s %s', id, max(tenant_id),
			string_agg(status || coalesce('/' || attempt, ''), ' ' order by seq))
		from ledger.universal_registry where entity_type = 'request' group by id
		having (array_agg(status order by seq desc))[1] not in ('complete', 'error', 'dead', 'cancelled') limit 10`)
	if err != nil {
		return err.Error()
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err.Error()
	}
	return strings.Join(texts, "\n")
}

// conclude is the end of every scenario: the oracle, then once more after the schema engine was dropped and
// everything was read again.
func (w *world) conclude() {
	w.t.Helper()
	w.heal()
	w.load.wait()
	w.endRecurring()
	w.awaitQuiet()
	w.mustHold("after the faults")
	w.mustCatchUp()
	w.rebuild()
}

// rebuild drops the schema engine, has every row read again, and looks whether anything comes of it (I9).
func (w *world) rebuild() {
	w.t.Helper()
	before := w.keys()
	for _, s := range w.sidecars {
		s.Kill()
	}
	w.dropEngine()
	for _, s := range w.sidecars {
		s.start()
	}
	w.awaitQuiet()
	var fresh []string
	for key, what := range w.keys() {
		if _, known := before[key]; !known {
			fresh = append(fresh, what+" "+key)
		}
	}
	if len(fresh) > 0 {
		w.t.Errorf("seed %d: I9: %d new rows after the schema engine was dropped:\n  %s", w.seed, len(fresh),
			strings.Join(fresh[:min(10, len(fresh))], "\n  "))
	}
	w.mustHold("after the schema engine was dropped")
}

// keys lists every row but bookkeeping, the probes', and what came of the time.
func (w *world) keys() map[string]string {
	w.t.Helper()
	rows, err := w.owner.Query(w.t.Context(), `select id || '/' || seq,
			format('%s %s of %s', entity_type, status, tenant_id)
		from ledger.universal_registry as r where coalesce(trace_id, '') not like 'probe-%'
			and entity_type not in `+bookkeeping+` and not exists (
				select from ledger.universal_registry as p
				where p.id = r.policy_id and p.seq = 0 and p.metadata ? 'every')`)
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]string{}
	var key, what string
	if _, err := pgx.ForEachRow(rows, []any{&key, &what}, func() error {
		found[key] = what
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return found
}

// dropEngine drops the schema engine where the sidecar can make it anew, else what is in it.
func (w *world) dropEngine() {
	w.t.Helper()
	if one[bool](w, "select to_regprocedure('ledger_private.make_engine()') is not null") {
		w.exec("drop schema if exists engine cascade")
		return
	}
	w.exec(`do $$ declare v_table regclass; begin
		for v_table in select c.oid from pg_class as c
			where c.relnamespace = 'engine'::regnamespace and c.relkind = 'r'
		loop execute 'drop table ' || v_table; end loop; end $$`)
}

// mustCatchUp holds that, with no load, the slot follows the WAL and holds back little of it (I11).
func (w *world) mustCatchUp() {
	w.t.Helper()
	const lagMax, retainedMax = 1 << 20, 32 << 20 // two segments
	var lag, retained int64
	if !program.Within(w.t, 10*time.Second, func() bool {
		w.exec("checkpoint") // which writes what a slot needs to move its restart point
		// Who polls has no slot.
		err := w.owner.QueryRow(w.t.Context(), `select
				coalesce(max(pg_current_wal_lsn() - confirmed_flush_lsn), 0),
				coalesce(max(pg_current_wal_lsn() - restart_lsn), 0)
			from pg_replication_slots`).Scan(&lag, &retained)
		return err == nil && lag < lagMax && retained < retainedMax
	}) {
		w.t.Errorf("seed %d: I11: 10 s after the load the slot is %d bytes behind and retains %d", w.seed, lag,
			retained)
	}
}
