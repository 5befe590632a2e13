package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// ticksVariable is how many executions BenchmarkTicks lays in, in all.
const ticksVariable = "LOGLINE_BENCH_ROWS"

// lay makes executions of five hundred tenants, and as many of one more, over an hour before and ten minutes
// after now; and memories of that one, which have all been archived. Ids and guards do not matter here, so it
// passes the guards by.
func lay(b *testing.B, conn *pgx.Conn, n int) {
	b.Helper()
	for _, statement := range []string{
		"alter table ledger.universal_registry disable trigger all",
		fmt.Sprintf(`insert into ledger.universal_registry (id, seq, entity_type, who, this, at, xact, accepted_at,
				owner_id, tenant_id, visibility, status, is_deleted, parent_id, duration_ms, error)
			select gen_random_uuid(), 0, 'execution', 'kernel:run_code', 'run_code', t.at, pg_current_xact_id(), t.at,
				'owner' || n %% 5000, case when n %% 2 = 0 then 'tenant0' else 'tenant' || n %% 1000 end, 'private',
				case when n %% 97 = 0 then 'error' else 'complete' end, false, gen_random_uuid(),
				(random() * 100)::int, case when n %% 97 = 0 then '{"code":"exception","message":"no"}'::jsonb end
			from (select n, now() + interval '10 minutes' - random() * interval '70 minutes' as at
				from generate_series(1, %d) as n) as t`, n),
		fmt.Sprintf(`insert into ledger.universal_registry (id, seq, entity_type, who, at, xact, accepted_at,
				owner_id, tenant_id, visibility, status, is_deleted, ttl_at)
			select md5(n::text)::uuid, seq, 'memory', 'user:x', now() - interval '1 day', pg_current_xact_id(), now(),
				'owner0', 'tenant0', 'private', case seq when 0 then 'active' else 'archived' end, false,
				now() - random() * interval '30 days'
			from generate_series(1, %d) as n, generate_series(0, 1) as seq`, n/20),
		`do $$ declare v_name text; begin
			for v_name in select tgname from pg_trigger
				where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal
			loop
				execute format('alter table ledger.universal_registry enable always trigger %I', v_name);
			end loop;
		end $$`,
		"vacuum analyze ledger.universal_registry",
	} {
		_, err := conn.Exec(b.Context(), statement)
		must(b, err)
	}
}

// What a minute of five hundred busy tenants costs, and of one that is as busy as all of them: the questions
// to the ledger, and all eight policies through the sidecar.
func BenchmarkTicks(b *testing.B) {
	notQuick(b)
	rows := 1_000_000
	if text := os.Getenv(ticksVariable); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		must(b, err)
	}
	s := prepare(b)
	conn := s.connect(b)
	lay(b, conn, rows)
	l, err := ledger.Open(b.Context(), s.login, 4)
	must(b, err)
	b.Cleanup(l.Close)
	to := time.Now().UTC().Truncate(time.Minute)
	for b.Loop() {
		for name, search := range map[string]ledger.SubjectSearch{
			"tenants_minute": {Window: "at", From: to.Add(-time.Minute), To: to},
			"owners_minute":  {Window: "at", From: to.Add(-time.Minute), To: to, PerOwner: true},
			"owners_hour":    {Window: "at", From: to.Add(-time.Hour), To: to, PerOwner: true},
			"nobody_ttl":     {Window: "ttl_at", From: to.Add(-time.Minute), To: to},
		} {
			search.Types, search.Limit = []string{"execution"}, 10_000
			began := time.Now()
			subjects, err := l.Subjects(b.Context(), search)
			must(b, err)
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000, name+"_ms")
			b.Logf("%s: %d subjects", name, len(subjects))
		}
		busiest(b, l, to)
	}
	boundary := time.Now().UTC().Truncate(time.Minute).Add(time.Minute)
	before := s.cpu(b)
	s.serve(b, s.login)
	var tenants int
	await(b, 3*time.Minute, func() bool {
		must(b, conn.QueryRow(b.Context(), `select count(distinct tenant_id) from ledger.universal_registry
			where entity_type = 'metric' and this = 'execution.duration_ms' and at >= $1`,
			boundary.Add(-time.Minute)).Scan(&tenants))
		return tenants > 500
	})
	after := s.cpu(b)
	var first, last time.Time
	var metrics int
	must(b, conn.QueryRow(b.Context(), `select min(accepted_at), max(accepted_at), count(*)
		from ledger.universal_registry where entity_type in ('metric', 'error_report')`).
		Scan(&first, &last, &metrics))
	b.ReportMetric(last.Sub(boundary).Seconds(), "metrics_there_s")
	b.ReportMetric(last.Sub(first).Seconds(), "metrics_wall_s")
	b.ReportMetric(float64(metrics), "spans")
	b.Logf("cpu: postgres %s, sidecar %s, children %s", after.postgres-before.postgres,
		after.sidecar-before.sidecar, after.children-before.children)
}

// busiest measures what policies ask about a tenant that has half of all.
func busiest(b *testing.B, l *ledger.Ledger, to time.Time) {
	b.Helper()
	scope := ledger.Scope{TenantID: "tenant0", OfSystem: true}
	minutes := ledger.Range{Gte: new(span.NewTime(to.Add(-2 * time.Minute)).String()),
		Lt: new(span.NewTime(to).String())}
	executions := map[string][]string{"entity_type": {"execution"}}
	drop := func(*span.Span) error { return nil }
	for name, ask := range map[string]func() error{
		"summarize_ms": func() error {
			_, err := l.Summarize(b.Context(), scope,
				ledger.Filter{Equal: executions, Ranges: map[string]ledger.Range{"at": minutes}},
				ledger.Summary{By: []string{"status"}, Bucket: "minute", Of: "duration_ms", Limit: 100})
			return err
		},
		"find_slow_ms": func() error {
			owner := ledger.Scope{UserID: "owner6", TenantID: "tenant0", OfSystem: true}
			return l.Find(b.Context(), owner, ledger.Filter{Equal: executions,
				Ranges: map[string]ledger.Range{"at": minutes, "duration_ms": {Gt: new("5000")}}}, 1000, drop)
		},
		"find_ended_ms": func() error {
			return l.Find(b.Context(), scope, ledger.Filter{
				Equal:  map[string][]string{"entity_type": {"prompt_block", "memory"}, "status": {"active"}},
				Ranges: map[string]ledger.Range{"ttl_at": {Lt: minutes.Lt}}}, 50, drop)
		},
	} {
		began := time.Now()
		must(b, ask())
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, name)
	}
}

// Requests with the eight policies and the trigger on bookkeeping against requests without, in turns.
func BenchmarkPolicies(b *testing.B) {
	notQuick(b)
	const functions, batch = 3000, 100
	s := start(b)
	arrivals := s.watch(b)
	conn := s.connect(b)
	owner := ledger.NewOwner(s.connect(b))
	document, err := kernels.Manifest()
	must(b, err)
	load := func() float64 {
		began := time.Now()
		for range functions / batch {
			insert(b, conn, "load", batch)
		}
		countExecutions(b, arrivals, "load", functions)
		return functions / time.Since(began).Seconds()
	}
	insert(b, conn, "warm", batch)
	countExecutions(b, arrivals, "warm", batch)
	var with, without float64
	for b.Loop() {
		for range 3 {
			govern(b, owner, document, false)
			without += load()
			govern(b, owner, document, true)
			with += load()
		}
	}
	b.ReportMetric(with/without, "ratio")
	b.ReportMetric(with/3/float64(b.N), "executions/s")
}

// govern puts the system's policies and the trigger that shows them bookkeeping in force, or out of it.
func govern(b *testing.B, owner *ledger.Owner, document json.RawMessage, isOn bool) {
	b.Helper()
	var manifest map[string]any
	must(b, json.Unmarshal(document, &manifest))
	status := "active"
	if !isOn {
		status = "draft"
		manifest["triggers"] = manifest["triggers"].([]any)[:3]
	}
	manifest["throttle"] = map[string]int{"per_tenant_daily_exec_limit": 1e6, "per_user_daily_exec_limit": 1e6}
	metadata, err := json.Marshal(manifest)
	must(b, err)
	policies, err := kernels.Policies()
	must(b, err)
	ids := []span.ID{span.ManifestID}
	for _, policy := range policies {
		ids = append(ids, policy.ID)
	}
	found, err := owner.Latest(b.Context(), ids)
	must(b, err)
	var want []*span.Span
	for _, id := range ids {
		next := *found[id]
		if next.Metadata, next.Status = metadata, new("active"); next.EntityType == "policy" {
			next.Metadata, next.Status = found[id].Metadata, &status
		}
		want = append(want, &next)
	}
	_, err = owner.Publish(b.Context(), want)
	must(b, err)
}
