package bench

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/devdb"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// The shape of a load: the same for every system (peers/main.go, peers/node/measure.mjs).
const (
	producers  = 2
	loadBatch  = 200
	lagMax     = 5000
	tenantsMax = 1000
)

// cells is one Postgres in which each measurement gets a database of its own: an empty one for a peer, a
// bootstrapped ledger with a function in each of a thousand tenants for ours.
type cells struct {
	b      *testing.B
	server *devdb.Server
	admin  *pgx.Conn
	count  int
	hold   bool // a transaction stays open in each database, from before its first row
}

func newCells(b *testing.B) *cells {
	b.Helper()
	ctx := b.Context()
	server, err := devdb.Start(ctx, devdb.Options{Dir: pgtest.Dir(b), DieWithParent: true,
		Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "8GB", "max_connections": "200"}})
	must(b, err)
	b.Cleanup(func() { must(b, server.Stop(context.Background())) })
	c := &cells{b: b, server: server}
	c.admin, err = pgx.Connect(ctx, server.URL("postgres"))
	must(b, err)
	b.Cleanup(func() { _ = c.admin.Close(context.Background()) })
	c.exec("create database ledger_template")
	owner, err := ledger.OpenOwner(ctx, server.URL("ledger_template"))
	must(b, err)
	_, err = app.Migrate(ctx, owner)
	must(b, err)
	_, err = app.Bootstrap(ctx, owner, app.BootstrapOptions{DailyQuota: 1_000_000})
	must(b, err)
	must(b, owner.LetSidecarLogIn(ctx, "bench"))
	must(b, owner.Close(ctx))
	conn, err := pgx.Connect(ctx, server.URL("ledger_template"))
	must(b, err)
	for tenant := range tenantsMax {
		must(b, asTenant(ctx, conn, tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `insert into ledger.universal_registry (id, entity_type, name, status, language, code)
				values ($1, 'function', 'bench', 'active', 'javascript', 'return { sum: input.a + 1 };')`,
				functionOf(tenant))
			return err
		}))
	}
	_, err = conn.Exec(ctx, "vacuum analyze ledger.universal_registry")
	must(b, err)
	must(b, conn.Close(ctx))
	return c
}

func (c *cells) exec(statement string) {
	c.b.Helper()
	_, err := c.admin.Exec(c.b.Context(), statement)
	must(c.b, err)
}

// empty makes an empty database and returns its URL; drop removes it again, with the slots in it.
func (c *cells) empty() (databaseURL string, drop func()) { return c.create("") }

func (c *cells) create(template string) (databaseURL string, drop func()) {
	c.b.Helper()
	c.count++
	name := fmt.Sprintf("cell%d", c.count)
	c.exec("create database " + name + template)
	release := func() {}
	if c.hold {
		release = c.holdOpen(c.server.URL(name))
	}
	return c.server.URL(name), func() {
		release()
		await(c.b, 30*time.Second, func() bool { // the walsender of a sidecar that has just stopped
			var isActive bool
			must(c.b, c.admin.QueryRow(c.b.Context(), `select exists (
				select from pg_replication_slots where database = $1 and active)`, name).Scan(&isActive))
			return !isActive
		})
		c.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '" + name + "'")
		c.exec("drop database " + name + " with (force)")
	}
}

// holdOpen leaves a transaction open that sees what was before: what dies after it is not vacuumed.
func (c *cells) holdOpen(databaseURL string) (release func()) {
	c.b.Helper()
	conn, err := pgx.Connect(c.b.Context(), databaseURL)
	must(c.b, err)
	_, err = conn.Exec(c.b.Context(), "begin isolation level repeatable read; select count(*) from pg_class")
	must(c.b, err)
	return func() { must(c.b, conn.Close(context.Background())) }
}

// ledger makes a system of a bootstrapped ledger. drop removes it; no sidecar may be attached any more.
func (c *cells) ledger() (s *system, drop func()) {
	c.b.Helper()
	owner, drop := c.create(" template ledger_template")
	login, err := url.Parse(owner)
	must(c.b, err)
	login.User = url.UserPassword("loglineos_sidecar", "bench")
	return &system{owner: owner, login: login.String(), postgres: c.server.Pid()}, drop
}

// functionOf is the id of a tenant's function.
func functionOf(tenant int) string { return fmt.Sprintf("10000000-0000-4000-a000-%012d", tenant) }

// asTenant runs do in the transaction shape of PostgREST, as alice of that tenant.
func asTenant(ctx context.Context, conn *pgx.Conn, tenant int, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('role', 'authenticated', true),
			set_config('request.jwt.claims', $1, true)`, `{"sub": "alice", "role": "authenticated",
			"app_metadata": {"tenant_id": "tenant`+strconv.Itoa(tenant)+`"}}`)
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// call appends n requests for the function of a tenant, in one transaction.
func call(ctx context.Context, conn *pgx.Conn, tenant, n int) error {
	return asTenant(ctx, conn, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into ledger.universal_registry (entity_type, status, parent_id, input, trace_id)
			select 'request', 'scheduled', $1::uuid, '{"a": 41}', 'load' from generate_series(1, $2)`,
			functionOf(tenant), n)
		return err
	})
}

// schedule appends a function that runs at once: what the target of latency speaks of.
func schedule(ctx context.Context, conn *pgx.Conn, tenant int, trace string) error {
	return asTenant(ctx, conn, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into ledger.universal_registry
			(entity_type, name, status, language, code, input, trace_id)
			values ('function', 'bench', 'scheduled', 'javascript', 'return { sum: input.a + 1 };', '{"a": 41}', $1)`,
			trace)
		return err
	})
}

// latencies schedules functions at a steady pace and returns how long after the client's commit each
// execution was committed, at a second reader of the WAL.
func (s *system) latencies(b *testing.B, executable string, n, tenants int, env ...string) []time.Duration {
	b.Helper()
	const warmup = 20
	a := s.attach(b, executable, s.login, env...)
	defer a.stop()
	arrivals, closeReader := s.reader(b)
	defer closeReader()
	conn, err := pgx.Connect(b.Context(), s.owner)
	must(b, err)
	defer conn.Close(context.Background())
	committed := make(map[string]time.Time, n+warmup)
	var mu sync.Mutex
	paced := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for i := range n + warmup {
			<-ticker.C
			trace := "latency-" + strconv.Itoa(i)
			if err := schedule(b.Context(), conn, i%tenants, trace); err != nil {
				paced <- err
				return
			}
			mu.Lock()
			committed[trace] = time.Now()
			mu.Unlock()
		}
		paced <- nil
	}()
	arrived := map[string]time.Time{}
	deadline := time.After(60 * time.Second)
	for len(arrived) < n+warmup {
		select {
		case a := <-arrivals:
			if a.entityType == "execution" {
				if a.status != "complete" {
					b.Fatalf("an execution ended as %s: %s", a.status, s.failure(b, a.trace))
				}
				arrived[a.trace] = a.at
			}
		case <-deadline:
			b.Fatalf("%d of %d executions within 60 s", len(arrived), n+warmup)
		}
	}
	must(b, <-paced)
	var took []time.Duration
	for i := warmup; i < n+warmup; i++ {
		trace := "latency-" + strconv.Itoa(i)
		took = append(took, max(arrived[trace].Sub(committed[trace]), 0))
	}
	return took
}

// sustained inserts requests while they run, with at most lagMax of them open, and returns the runs of d.
func (s *system) sustained(b *testing.B, executable string, d time.Duration, tenants int) (jobs int,
	took time.Duration) {
	b.Helper()
	a := s.attach(b, executable, s.login)
	defer a.stop()
	var inserted, done atomic.Int64
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var work sync.WaitGroup
	for producer := range producers {
		conn, err := pgx.Connect(b.Context(), s.owner)
		must(b, err)
		work.Go(func() {
			defer conn.Close(context.Background())
			room := time.NewTicker(time.Millisecond)
			defer room.Stop()
			for tenant := producer; ctx.Err() == nil; tenant += producers {
				for inserted.Load()-done.Load() >= lagMax && ctx.Err() == nil {
					<-room.C
				}
				if err := call(context.WithoutCancel(ctx), conn, tenant%tenants, loadBatch); err != nil {
					b.Error(err)
					return
				}
				inserted.Add(loadBatch)
			}
		})
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	start := time.Now()
	var began time.Time
	var before int64
	for range look.C {
		done.Store(int64(a.ended(b, "complete")))
		if began.IsZero() && time.Since(start) >= time.Second {
			began, before = time.Now(), done.Load()
		}
		if !began.IsZero() && time.Since(began) >= d {
			break
		}
	}
	took = time.Since(began)
	stop()
	work.Wait()
	return int(done.Load() - before), took
}

// drain runs n requests that were appended while no sidecar was there: from the start of its process to the
// last end, or to the end of the time.
func (s *system) drain(b *testing.B, executable string, n, tenants int, limit time.Duration) (jobs int,
	took time.Duration) {
	b.Helper()
	s.attach(b, executable, s.login).stop() // its slot and its cursor stand
	conn, err := pgx.Connect(b.Context(), s.owner)
	must(b, err)
	defer conn.Close(context.Background())
	each := min(max(n/tenants, 1), 5000)
	for inserted, tenant := 0, 0; inserted < n; tenant++ {
		m := min(each, n-inserted)
		must(b, call(b.Context(), conn, tenant%tenants, m))
		inserted += m
	}
	began := time.Now()
	a := s.attach(b, executable, s.login)
	defer a.stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		if jobs = a.ended(b, "complete"); jobs >= n || time.Since(began) >= limit {
			break
		}
	}
	return jobs, time.Since(began)
}
