package bench

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// One command for the figures of docs/plans.md, about 15 minutes and 20 GB of disk:
//
//	LOGLINE_BENCH_ROWS=10000000 LOGLINE_BENCH_PLANS=../../docs/plans.md go test ./tests/bench \
//		-run '^$' -bench Reads -benchtime 1x -timeout 60m
const (
	rowsVariable  = "LOGLINE_BENCH_ROWS"  // how many spans are read from; 200,000 if unset
	plansVariable = "LOGLINE_BENCH_PLANS" // a file to write figures and plans to, from tests/bench
	rowsDefault   = 200_000
	readsEach     = 1000 // samples of each read

	// walkAll is for reads that end when the page is full: whoever may see little walks over every row.
	walkAll = rowsDefault + 10_000
)

//go:embed testdata/reads_make.sql
var makeReads string

// sample is a reader and what he asks for: a request of his own, the function it calls, a note of his.
type sample struct {
	userID, tenantID           string
	request, function, traceID string
	note                       string
	at                         time.Time
}

// read is one way that docs name to read the ledger.
type read struct {
	name      string
	query     string
	arguments func(s sample) []any
	// touched bounds the rows of the registry that one read of the test may fetch, by index, of its 200,000: the
	// largest tenant has 20,000, its reader sees one in five, and the busiest user has 7,000.
	touched int
	inside  string // how the statement begins that a function runs; for its plan
}

var reads = []read{
	{"timeline of a tenant, a page", `select * from ledger.visible_timeline where tenant_id = $1
order by "when" desc, id desc limit 50`, func(s sample) []any { return []any{s.tenantID} }, 4000, ""},
	{"its next page", `select * from ledger.visible_timeline where tenant_id = $1 and "when" < $2
order by "when" desc, id desc limit 50`, func(s sample) []any { return []any{s.tenantID, s.at} }, 4000, ""},
	{"timeline of a tenant, one type", `select * from ledger.visible_timeline
where tenant_id = $1 and entity_type = 'note' order by "when" desc, id desc limit 50`,
		func(s sample) []any { return []any{s.tenantID} }, 4000, ""},
	{"timeline of a user, a page", `select * from ledger.visible_timeline where owner_id = $1
order by "when" desc, id desc limit 50`, func(s sample) []any { return []any{s.userID} }, 2000, ""},
	{"a page without a filter", `select * from ledger.visible_timeline order by "when" desc, id desc limit 50`,
		func(sample) []any { return nil }, walkAll, ""},
	{"history, a page without a filter", `select * from ledger.history order by "when" desc limit 50`,
		func(sample) []any { return nil }, walkAll, ""},
	{"everything that one may read, a page", `select * from ledger.as_of(now(), p_limit => 50)`,
		func(sample) []any { return nil }, 10000, "with page as"},
	{"newest version by id", `select * from ledger.visible_timeline where id = $1`,
		func(s sample) []any { return []any{s.note} }, 50, ""},
	{"history by id", `select * from ledger.history where id = $1 order by seq`,
		func(s sample) []any { return []any{s.note} }, 10, ""},
	{"flow by trace_id", `select * from ledger.history where trace_id = $1 order by accepted_at, seq`,
		func(s sample) []any { return []any{s.traceID} }, 10, ""},
	{"as_of by id", `select * from ledger.as_of($1, p_id => $2)`,
		func(s sample) []any { return []any{s.at, s.note} }, 50, `select r.at as "when", r.*`},
	{"as_of, a page", `select * from ledger.as_of($1, p_limit => 50)`,
		func(s sample) []any { return []any{s.at} }, 10000, "with page as"},
	{"result", `select * from ledger.result($1)`,
		func(s sample) []any { return []any{s.request} }, 50, "select\n        q.id"},
	{"function_state by id", `select * from ledger.function_state where id = $1`,
		func(s sample) []any { return []any{s.function} }, 2000, ""},
	{"function_state, a page", `select * from ledger.function_state where tenant_id = $1
order by "when" desc limit 50`, func(s sample) []any { return []any{s.tenantID} }, 20000, ""},
}

// filled makes a server of the benchmark's own with a ledger of that many spans.
func filled(t testing.TB, rows int) *pgtest.Database {
	t.Helper()
	cluster := pgtest.NewCluster(t, map[string]string{"shared_buffers": "2GB", "maintenance_work_mem": "512MB",
		"max_wal_size": "8GB", "full_page_writes": "off", "autovacuum": "off"})
	db := cluster.New(t)
	fill(t, db, rows)
	return db
}

// fill loads without the indexes but the primary key, on as many connections as there are cores.
func fill(t testing.TB, db *pgtest.Database, rows int) {
	t.Helper()
	owner := open(t, db.URL)
	execute(t, owner, "alter table ledger.universal_registry disable trigger all")
	execute(t, owner, makeReads)
	var indexes []string
	list, err := owner.Query(t.Context(), `select indexdef from pg_indexes where schemaname = 'ledger'
		and tablename = 'universal_registry' and indexname not like '%pkey'`)
	if err == nil {
		indexes, err = pgx.CollectRows(list, pgx.RowTo[string])
	}
	check(t, err)
	if len(indexes) < 5 {
		t.Fatalf("found %d indexes", len(indexes))
	}
	for _, index := range indexes {
		execute(t, owner, "drop index ledger."+regexp.MustCompile(`INDEX (\w+)`).FindStringSubmatch(index)[1])
	}
	execute(t, owner, "select setseed(0.42)")
	execute(t, owner, fmt.Sprintf("call public.bench_functions(%d)", rows/300))
	units := (rows - rows/100) / 6
	const chunk = 20_000
	var calls []string
	for from := 1; from <= units; from += chunk {
		calls = append(calls, fmt.Sprintf("select setseed(%f); call public.bench_units(%d, %d, %d)",
			float64(from)/float64(units), from, min(from+chunk-1, units), units))
	}
	share(t, db, calls)
	share(t, db, indexes)
	execute(t, owner, "vacuum analyze ledger.universal_registry")
	execute(t, owner, "checkpoint")
}

// share runs statements, in their order, on as many connections as there are cores.
func share(t testing.TB, db *pgtest.Database, statements []string) {
	t.Helper()
	next := make(chan string, len(statements))
	for _, statement := range statements {
		next <- statement
	}
	close(next)
	errs := make(chan error, runtime.NumCPU())
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		conn := open(t, db.URL)
		workers.Go(func() {
			for statement := range next {
				if _, err := conn.Exec(t.Context(), statement); err != nil {
					errs <- fmt.Errorf("run %.60q: %w", statement, err)
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	check(t, <-errs)
}

func open(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t testing.TB, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("run %.60q: %v", statement, err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// samples draws readers as often as they have rows, so the largest tenant most often.
func samples(t testing.TB, conn *pgx.Conn, rows, count int) []sample {
	t.Helper()
	list, err := conn.Query(t.Context(), fmt.Sprintf(`
		select q.owner_id, q.tenant_id, q.id::text, q.parent_id::text, q.trace_id, n.id::text,
			now() - interval '89 days' * random()
		from ledger.universal_registry as q tablesample bernoulli (%f) repeatable (7)
		cross join lateral (
			select id from ledger.universal_registry
			where owner_id = q.owner_id and entity_type = 'note' and seq = 0
			order by at limit 1
		) as n
		where q.entity_type = 'request' and q.seq = 0
		limit %d`, min(100, float64(count)*1000/float64(rows)), count))
	check(t, err)
	drawn, err := pgx.CollectRows(list, func(row pgx.CollectableRow) (s sample, err error) {
		return s, row.Scan(&s.userID, &s.tenantID, &s.request, &s.function, &s.traceID, &s.note, &s.at)
	})
	check(t, err)
	if len(drawn) < count {
		t.Fatalf("drew %d of %d samples", len(drawn), count)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(count, func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	return drawn
}

// as runs then as PostgREST would for s.
func as(t testing.TB, conn *pgx.Conn, s sample, then func(tx pgx.Tx) error) {
	t.Helper()
	check(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `select set_config('role', 'authenticated', true),
			set_config('request.jwt.claims', $1, true)`, fmt.Sprintf(
			`{"sub": %q, "role": "authenticated", "app_metadata": {"tenant_id": %q}}`, s.userID, s.tenantID))
		if err != nil {
			return err
		}
		return then(tx)
	}))
}

// once runs r for s and counts its rows.
func once(ctx context.Context, tx pgx.Tx, r read, s sample) (int, error) {
	rows, err := tx.Query(ctx, r.query, r.arguments(s)...)
	if err != nil {
		return 0, err
	}
	n := 0
	for ; rows.Next(); n++ {
		rows.RawValues()
	}
	return n, rows.Err()
}

// touch reads how many scans of the whole registry, and how many rows by index, this transaction has made.
func touch(ctx context.Context, tx pgx.Tx) (scans, fetched int, err error) {
	err = tx.QueryRow(ctx, `select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables
		where schemaname = 'ledger' and relname = 'universal_registry'`).Scan(&scans, &fetched)
	return scans, fetched, err
}

// Every read that the docs name finds its rows by an index, planned for its values or for any; also for the
// smallest tenant, and a page without a filter ends early for the users of the largest.
func TestReadsAreServedByIndexes(t *testing.T) {
	t.Parallel()
	db := filled(t, rowsDefault)
	conn := open(t, db.URL)
	drawn := append(samples(t, conn, rowsDefault, 40), smallest(t, conn))
	execute(t, conn, "set max_parallel_workers_per_gather = 0") // workers count for themselves
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		execute(t, conn, "set plan_cache_mode = "+mode)
		for _, r := range reads {
			most, found := 0, 0
			for _, s := range drawn {
				n, fetched, scans := touched(t, conn, r, s)
				if scans > 0 {
					t.Errorf("%s, %s: scans the registry", r.name, mode)
				}
				if r.touched == walkAll && s.tenantID == "t1" && fetched > 10_000 {
					t.Errorf("%s, %s: touches %d rows for a user of the largest tenant", r.name, mode, fetched)
				}
				most, found = max(most, fetched), found+n
			}
			if most > r.touched || found == 0 {
				t.Errorf("%s, %s: touches %d rows, at most %d; finds %d in all", r.name, mode, most, r.touched, found)
			}
		}
	}
}

// smallest is the owner of a note in the tenant that has the fewest rows.
func smallest(t testing.TB, conn *pgx.Conn) sample {
	t.Helper()
	s := sample{at: time.Now()}
	check(t, conn.QueryRow(t.Context(), `
		select q.owner_id, q.tenant_id, q.id::text, q.parent_id::text, q.trace_id, n.id::text
		from (select tenant_id from ledger.universal_registry where entity_type = 'note'
			group by 1 order by count(*), 1 limit 1) as t
		join ledger.universal_registry as n using (tenant_id)
		join ledger.universal_registry as q using (tenant_id, owner_id)
		where n.entity_type = 'note' and q.entity_type = 'request' limit 1`).Scan(
		&s.userID, &s.tenantID, &s.request, &s.function, &s.traceID, &s.note))
	return s
}

// touched runs r for s: how many rows it found, how many it fetched by index, how often it scanned all.
func touched(t testing.TB, conn *pgx.Conn, r read, s sample) (found, fetched, scans int) {
	t.Helper()
	as(t, conn, s, func(tx pgx.Tx) error {
		scansBefore, before, err := touch(t.Context(), tx)
		if err != nil {
			return err
		}
		if found, err = once(t.Context(), tx, r, s); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		scans, fetched, err = touch(t.Context(), tx)
		scans, fetched = scans-scansBefore, fetched-before
		return err
	})
	return found, fetched, scans
}

// BenchmarkReads prints p50 and p99 of each read, as an authenticated user with claims, in PostgREST's
// transaction shape; the time is that of the statement alone.
func BenchmarkReads(b *testing.B) {
	notQuick(b)
	rows := rowsDefault
	if given := os.Getenv(rowsVariable); given != "" {
		var err error
		rows, err = strconv.Atoi(given)
		check(b, err)
	}
	began := time.Now()
	db := filled(b, rows)
	conn := open(b, db.URL)
	size := ""
	check(b, conn.QueryRow(b.Context(), `select pg_size_pretty(pg_table_size(oid)) || ', indexes '
		|| pg_size_pretty(pg_indexes_size(oid)) from pg_class
		where oid = 'ledger.universal_registry'::regclass`).Scan(&size))
	b.Logf("%d rows, %s, made in %s", rows, size, time.Since(began).Round(time.Second))
	drawn := samples(b, conn, rows, readsEach)
	var figures, plans strings.Builder
	for b.Loop() {
		for _, r := range reads {
			var took []time.Duration
			for _, s := range drawn {
				as(b, conn, s, func(tx pgx.Tx) error {
					start := time.Now()
					_, err := once(b.Context(), tx, r, s)
					took = append(took, time.Since(start))
					return err
				})
			}
			p50, p99 := percentile(took, 50), percentile(took, 99)
			metric := strings.NewReplacer(" ", "_", ",", "").Replace(r.name)
			b.ReportMetric(p50, metric+"_p50_ms")
			b.ReportMetric(p99, metric+"_p99_ms")
			fmt.Fprintf(&figures, "| %s | %.2f | %.2f |\n", r.name, p50, p99)
		}
	}
	if target := os.Getenv(plansVariable); target != "" {
		large := drawn[max(0, slices.IndexFunc(drawn, func(s sample) bool { return s.tenantID == "t1" }))]
		for _, r := range reads {
			fmt.Fprintf(&plans, "### %s\n\n```sql\n%s\n```\n\n```\n%s\n```\n\n",
				strings.ToUpper(r.name[:1])+r.name[1:], r.query, plan(b, db, r, large))
		}
		writePlans(b, target, fmt.Sprintf("%d spans (%s)", rows, size), figures.String(), plans.String())
	}
}

// dull is what every plan has: where the claims are read, by what the policies filter, how little is sorted.
var (
	dull    = regexp.MustCompile(`(?m)^ *(InitPlan|Buffers|Filter|Sort Method|Full-sort|(->  )?Result ).*\n?`)
	guess   = regexp.MustCompile(`cost=\S+ rows=\d+ width=\d+\) \(actual `)
	top     = regexp.MustCompile(`(?m)^\S.*\(cost=`)
	buffers = regexp.MustCompile(`Buffers: .*`)
)

// plan returns how Postgres ran r for s; of a function, how it ran the statement inside.
func plan(b *testing.B, db *pgtest.Database, r read, s sample) string {
	b.Helper()
	config, err := pgx.ParseConfig(db.URL)
	check(b, err)
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { notices = append(notices, notice.Message) }
	conn, err := pgx.ConnectConfig(b.Context(), config)
	check(b, err)
	defer func() { _ = conn.Close(context.Background()) }()
	execute(b, conn, "load 'auto_explain'")
	for name, value := range map[string]string{"log_min_duration": "0", "log_nested_statements": "on",
		"log_analyze": "on", "log_timing": "off", "log_buffers": "on"} {
		execute(b, conn, "set auto_explain."+name+" = "+value)
	}
	execute(b, conn, "set client_min_messages = log")
	as(b, conn, s, func(tx pgx.Tx) error {
		for range 2 { // the second finds the catalog read
			notices = nil
			if _, err := once(b.Context(), tx, r, s); err != nil {
				return err
			}
		}
		return nil
	})
	begins := r.inside
	if begins == "" {
		begins = r.query
	}
	for _, notice := range slices.Backward(notices) { // a plan is told when the next statement begins
		_, text, _ := strings.Cut(notice, "Query Text: ")
		at := top.FindStringIndex(text)
		if !strings.HasPrefix(text, begins) || at == nil {
			continue
		}
		touched := buffers.FindString(text)
		text = dull.ReplaceAllString(guess.ReplaceAllString(text[at[0]:], ""), "")
		var lines []string
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, " \n"); line != "" {
				lines = append(lines, line[:min(len(line), 108)])
			}
		}
		return strings.Join(append(lines, touched), "\n")
	}
	b.Fatalf("%s: no plan among %d notices", r.name, len(notices))
	return ""
}

// writePlans puts figures and plans between the marks of the page, which keeps its own words.
func writePlans(b *testing.B, target, what, figures, plans string) {
	b.Helper()
	const begin, end = "<!-- written by BenchmarkReads -->\n", "<!-- until here -->\n"
	page, err := os.ReadFile(filepath.Clean(target))
	check(b, err)
	before, rest, found := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		b.Fatalf("%s has no marks to write between", target)
	}
	text := before + begin + "\n## Figures: " + what + "\n\n| read | p50 ms | p99 ms |\n|---|---|---|\n" +
		figures + "\n## Plans\n\nOf a user of the largest tenant. Left out: what the policies filter by.\n\n" +
		plans + end + after
	check(b, os.WriteFile(target, []byte(text), 0o644))
}
