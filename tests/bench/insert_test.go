package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/devdb"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// bareTables are what an insert into the ledger is compared with: the same columns and primary key, what is
// absent filled by defaults; the second one with row level security as Supabase's users write it.
const bareTables = `
	create schema bench;
	grant usage on schema bench to authenticated;
	create table bench.bare (like ledger.universal_registry);
	alter table bench.bare add primary key (id, seq),
		` + defaults + `;
	create table bench.walled (like bench.bare including all);
	alter table bench.walled enable row level security;
	create policy own on bench.walled for insert to authenticated with check (
		owner_id = (select current_setting('request.jwt.claims', true)::jsonb ->> 'sub')
		and tenant_id = (
			select current_setting('request.jwt.claims', true)::jsonb -> 'app_metadata' ->> 'tenant_id'));
	grant insert, select on bench.bare, bench.walled to authenticated;`

const defaults = `alter id set default gen_random_uuid(), alter seq set default 0,
		alter at set default now(), alter accepted_at set default now(),
		alter xact set default pg_current_xact_id(),
		alter who set default 'user:' || (current_setting('request.jwt.claims', true)::jsonb ->> 'sub'),
		alter owner_id set default current_setting('request.jwt.claims', true)::jsonb ->> 'sub',
		alter tenant_id set default
			current_setting('request.jwt.claims', true)::jsonb -> 'app_metadata' ->> 'tenant_id',
		alter visibility set default 'private', alter is_deleted set default false`

// The ledger with one guard less, each on a copy of the database: what that guard costs.
var withouts = []struct{ name, statement string }{
	{"guards", "alter table ledger.universal_registry disable trigger all, " + defaults},
	{"policies", `alter table ledger.universal_registry disable row level security`},
	{"indexes", `do $$ declare v text; begin
		for v in select indexrelid::regclass from pg_index
			where indrelid = 'ledger.universal_registry'::regclass and not indisprimary
		loop execute 'drop index ' || v; end loop; end $$`},
}

// contender is one table that is inserted into.
type contender struct {
	name, url, table string
	rates            []float64 // rows a second, one a round
}

// BenchmarkInsert measures inserts in PostgREST's transaction shape (begin, role and claims, one insert from
// a JSON body, commit), the ledger and what it is compared with in turns, with 1 and 16 clients and 1 and 100
// rows. ratio/walled is the ledger's throughput over that of a bare table with row level security, ratio/bare
// over one without; ratio/without_X is the throughput of a ledger without X over the ledger's.
func BenchmarkInsert(b *testing.B) {
	notQuick(b)
	contenders := startContenders(b)
	for _, clients := range []int{1, 16} {
		for _, rows := range []int{1, 100} {
			b.Run(fmt.Sprintf("clients=%d/rows=%d", clients, rows), func(b *testing.B) {
				for b.Loop() {
					race(b, contenders, clients, rows)
				}
			})
		}
	}
}

func startContenders(b *testing.B) []*contender {
	b.Helper()
	ctx := b.Context()
	server, err := devdb.Start(ctx, devdb.Options{Dir: pgtest.Dir(b), DieWithParent: true,
		Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "4GB"}})
	must(b, err)
	b.Cleanup(func() { must(b, server.Stop(context.Background())) })
	owner, err := ledger.OpenOwner(ctx, server.URL("postgres"))
	must(b, err)
	_, err = app.Migrate(ctx, owner)
	must(b, err)
	must(b, owner.Close(ctx))
	change(b, server.URL("postgres"), bareTables)
	const registry = "ledger.universal_registry"
	found := []*contender{
		{name: "bare", url: server.URL("postgres"), table: "bench.bare"},
		{name: "walled", url: server.URL("postgres"), table: "bench.walled"},
		{name: "ledger", url: server.URL("postgres"), table: registry},
	}
	for _, without := range withouts {
		name := "without_" + without.name
		change(b, server.URL("template1"), "create database "+name+" template postgres")
		change(b, server.URL(name), without.statement)
		found = append(found, &contender{name: name, url: server.URL(name), table: registry})
	}
	return found
}

func change(b *testing.B, url, statement string) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	must(b, err)
	_, err = conn.Exec(b.Context(), statement)
	must(b, err)
	must(b, conn.Close(b.Context()))
}

// race runs the contenders in turns, in another order each round, and reports medians.
func race(b *testing.B, contenders []*contender, clients, rows int) {
	const rounds, span = 9, 500 * time.Millisecond
	for _, c := range contenders {
		c.rates = nil
	}
	for round := range rounds + 1 {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			rate := c.insertFor(b, span, clients, rows)
			if round > 0 { // the first one warms up
				c.rates = append(c.rates, rate)
			}
		}
	}
	ours := contenders[2]
	for _, c := range contenders {
		b.ReportMetric(median(c.rates), c.name+"_rows/s")
		ratios := make([]float64, rounds)
		for i := range ratios {
			ratios[i] = ours.rates[i] / c.rates[i]
			if strings.HasPrefix(c.name, "without") {
				ratios[i] = 1 / ratios[i]
			}
		}
		if c != ours {
			b.ReportMetric(median(ratios), "ratio/"+c.name)
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// insertFor inserts for a span of time and returns rows a second.
func (c *contender) insertFor(b *testing.B, span time.Duration, clients, rows int) float64 {
	b.Helper()
	body := "[" + strings.TrimSuffix(strings.Repeat(`{"entity_type":"note","did":"wrote","this":"memory.note",
		"name":"bench","status":"active","content":{"text":"the quick brown fox"},
		"metadata":{"source":"bench","n":1}},`, rows), ",") + "]"
	statement := "insert into " + c.table + ` (entity_type, did, this, name, status, content, metadata)
		select * from json_to_recordset($1::json) as body
		(entity_type text, did text, this text, name text, status text, content jsonb, metadata jsonb)`
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		conn, err := pgx.Connect(b.Context(), c.url)
		must(b, err)
		conns[i] = conn
		must(b, insertOnce(b.Context(), conn, statement, body)) // prepares
	}
	counts := make([]int, clients)
	errs := make([]error, clients)
	var group sync.WaitGroup
	began := time.Now()
	for i, conn := range conns {
		group.Go(func() {
			for time.Since(began) < span && errs[i] == nil {
				errs[i] = insertOnce(b.Context(), conn, statement, body)
				counts[i] += rows
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	total := 0
	for i, conn := range conns {
		must(b, errs[i])
		must(b, conn.Close(b.Context()))
		total += counts[i]
	}
	return float64(total) / took.Seconds()
}

// insertOnce is one request as PostgREST makes it.
func insertOnce(ctx context.Context, conn *pgx.Conn, statement, body string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('search_path', 'ledger', true),
			set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)`,
			`{"sub":"3f0c8e6a-7a64-4f0e-9d5e-2f3f6f0d6c11","role":"authenticated","aud":"authenticated",
			"email":"alice@example.com","app_metadata":{"provider":"email","tenant_id":"acme"},
			"user_metadata":{"name":"Alice"}}`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, statement, body)
		return err
	})
}
