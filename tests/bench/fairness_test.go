package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What a flood consists of, and who stands beside it.
const (
	smallTenants = 50
	smallEach    = 8
	smallEvery   = 25 * time.Millisecond
	floodTenant  = 999
)

// flood is one way in which a tenant comes with more than can be done at once.
type flood struct {
	name      string
	entity    string // request, or function: what an observer makes a request of; or note: nothing runs
	perCommit int
}

// BenchmarkFairness measures what a flood does to its neighbors: fifty small tenants ask one after the other,
// 40 times a second: first alone; then from the moment on at which one tenant begins to insert 100,000, while
// it does (coming); then beside what is left of those (waiting). What comes in one commit has come with it,
// and they ask from then on. Latency is from the acceptance of a request (or of a function that runs at
// once) to that of its execution, by the database's clock. The ratios are those to alone; the target is 3
// at most for the 99th percentile beside what waits, in the middle one of three rounds: one percentile of 400
// calls is its fourth slowest. Of notes nothing runs: what coming costs then is what
// inserting and decoding them costs on these cores.
func BenchmarkFairness(b *testing.B) {
	n := scaled(100_000)
	floods := []flood{
		{"requests, 1,000 a commit", "request", 1000},
		{"functions, 1,000 a commit", "function", 1000},
		{"requests, all in one commit", "request", n},
		{"notes, 1,000 a commit", "note", 1000},
	}
	rounds := scaled(3)
	announce("Fairness", time.Duration(rounds*len(floods))*(3*smallTenants*smallEach*smallEvery+15*time.Second))
	c := newCells(b)
	out := newResults(b, "fairness", c.server.URL("postgres"))
	ratios := map[string][]float64{}
	for b.Loop() {
		for round := range rounds {
			for _, f := range floods {
				values := c.beside(f, n)
				out.add(figure{Case: f.name, System: "50 beside one of 100,000", Round: round + 1, Values: values})
				ratios[f.entity+fmt.Sprint(f.perCommit)] = append(ratios[f.entity+fmt.Sprint(f.perCommit)],
					values["waiting_ratio_p99"])
			}
		}
	}
	for name, ofRounds := range ratios {
		slices.Sort(ofRounds)
		b.ReportMetric(ofRounds[len(ofRounds)/2], name+"_ratio_p99")
	}
}

// beside measures one flood of n.
func (c *cells) beside(f flood, n int) map[string]float64 {
	b := c.b
	s, drop := c.ledger()
	a := s.attach(b, binary, s.login)
	conn, other := s.connect(b), s.connect(b)
	ask(b, conn, f, "warm")
	alone := ask(b, conn, f, "alone")
	var insertedAt time.Time
	began, isComing, inserted := time.Now(), make(chan struct{}), make(chan error, 1)
	go func() {
		err := f.come(b.Context(), other, n, isComing)
		insertedAt = time.Now()
		inserted <- err
	}()
	<-isComing
	coming := ask(b, conn, f, "coming")
	must(b, <-inserted)
	waiting := ask(b, conn, f, "waiting")
	left := n - executed(b, conn, "flood")
	if left == 0 && !*isQuick {
		b.Errorf("%s: the flood was over before its neighbors were: its figure says nothing", f.name)
	}
	a.kill()
	drop()
	ratio := func(of []time.Duration) float64 { return round3(percentile(of, 99) / percentile(alone, 99)) }
	return map[string]float64{
		"alone_p50_ms": percentile(alone, 50), "alone_p99_ms": percentile(alone, 99),
		"coming_p50_ms": percentile(coming, 50), "coming_p99_ms": percentile(coming, 99),
		"waiting_p50_ms": percentile(waiting, 50), "waiting_p99_ms": percentile(waiting, 99),
		"coming_ratio_p99": ratio(coming), "waiting_ratio_p99": ratio(waiting),
		"inserting_s": round3(insertedAt.Sub(began).Seconds()), "flood_left": float64(left),
	}
}

// come inserts n. isComing is closed when the first commit begins: what is in one commit has been inserted
// then.
func (f flood) come(ctx context.Context, conn *pgx.Conn, n int, isComing chan struct{}) error {
	for left := n; left > 0; left -= f.perCommit {
		tx, err := conn.Begin(ctx)
		if err == nil {
			err = f.insert(ctx, tx, floodTenant, "flood", min(left, f.perCommit))
		}
		if left == n {
			close(isComing)
		}
		if err == nil {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// database is a connection, or a transaction on it.
type database interface {
	Exec(ctx context.Context, statement string, arguments ...any) (pgconn.CommandTag, error)
}

// ask has each small tenant ask, and returns how long each answer took.
func ask(b *testing.B, conn *pgx.Conn, f flood, trace string) []time.Duration {
	b.Helper()
	ticker := time.NewTicker(smallEvery)
	defer ticker.Stop()
	for n := range smallTenants * smallEach {
		<-ticker.C
		must(b, f.insert(b.Context(), conn, n%smallTenants, trace, 1))
	}
	await(b, 2*time.Minute, func() bool { return executed(b, conn, trace) == smallTenants*smallEach })
	return answers(b, conn, trace)
}

// insert appends n requests of a tenant, or n functions that run at once.
func (f flood) insert(ctx context.Context, db database, tenant int, trace string, n int) error {
	statement := `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status,
			parent_id, input, trace_id)
		select 'request', 'user:alice', 'alice', 'tenant' || $1::int, 'scheduled', $2::text::uuid, '{"a": 41}', $3
		from generate_series(1, $4::int)`
	if f.entity == "function" {
		statement = `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status,
				name, language, code, input, trace_id)
			select 'function', 'user:alice', 'alice', 'tenant' || $1::int, 'scheduled', 'f' || left($2::text, 0),
				'javascript', 'return { sum: input.a + 1 };', '{"a": 41}', $3
			from generate_series(1, $4::int)`
	}
	if f.entity == "note" && trace == "flood" {
		statement = `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, status,
				parent_id, input, trace_id)
			select 'note', 'user:alice', 'alice', 'tenant' || $1::int, 'active', $2::text::uuid, '{"a": 41}', $3
			from generate_series(1, $4::int)`
	}
	_, err := db.Exec(ctx, statement, tenant, functionOf(tenant), trace, n)
	return err
}

func executed(b *testing.B, conn *pgx.Conn, trace string) (n int) {
	b.Helper()
	must(b, conn.QueryRow(b.Context(), `select count(*) from ledger.universal_registry
		where trace_id = $1 and entity_type = 'execution'`, trace).Scan(&n))
	return n
}

// answers are how long the requests of a trace took, or the functions.
func answers(b *testing.B, conn *pgx.Conn, trace string) []time.Duration {
	b.Helper()
	rows, err := conn.Query(context.WithoutCancel(b.Context()), `
		select extract(epoch from x.accepted_at - coalesce(f.accepted_at, r.accepted_at))::float8
		from ledger.universal_registry x
		join ledger.universal_registry r on r.id = x.related_to[1] and r.seq = 0
		left join ledger.universal_registry f
			on f.id = r.parent_id and f.seq = 0 and f.trace_id = r.trace_id
		where x.trace_id = $1 and x.entity_type = 'execution'`, trace)
	must(b, err)
	seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	must(b, err)
	all := make([]time.Duration, len(seconds))
	for i, s := range seconds {
		all[i] = time.Duration(s * float64(time.Second))
	}
	return all
}
