package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkIdle measures what a sidecar costs that has nothing to do, with 10,000 functions in the ledger:
// CPU of Postgres, sidecar and children, and transactions of the database in a second. The baseline is the
// same Postgres without the sidecar.
func BenchmarkIdle(b *testing.B) {
	functions, window := scaled(10_000), time.Duration(scaled(30))*time.Second
	announce("Idle", 2*window+25*time.Second)
	c := newCells(b)
	out := newResults(b, "idle", c.server.URL("postgres"))
	for b.Loop() {
		s, drop := c.ledger()
		conn := s.connect(b)
		must(b, asTenant(b.Context(), conn, 0, func(tx pgx.Tx) error {
			_, err := tx.Exec(b.Context(), `insert into ledger.universal_registry
				(entity_type, name, status, language, code)
				select 'function', 'bench', 'active', 'javascript', 'return 1;' from generate_series(1, $1)`, functions)
			return err
		}))
		_, err := conn.Exec(b.Context(), "vacuum analyze ledger.universal_registry")
		must(b, err)
		look := func(system string) map[string]float64 {
			before, queries, began := s.cpu(b), s.transactions(b, conn), time.Now()
			<-time.After(window)
			after, took := s.cpu(b), time.Since(began)
			share := func(used time.Duration) float64 { return round3(100 * used.Seconds() / took.Seconds()) }
			values := map[string]float64{"sidecar_cpu_pct": share(after.sidecar - before.sidecar),
				"children_cpu_pct":   share(after.children - before.children),
				"postgres_cpu_pct":   share(after.postgres - before.postgres),
				"transactions_per_s": round3(float64(s.transactions(b, conn)-queries) / took.Seconds())}
			out.add(figure{Case: "idle, 10,000 functions", System: system, Round: 1, Values: values})
			return values
		}
		s.sidecar = -1
		look("no sidecar (baseline)")
		a := s.attach(b, binary, s.login)
		<-time.After(15 * time.Second) // what its start has left to do, and until idle sessions report that
		values := look("LogLineOS")
		b.ReportMetric(values["sidecar_cpu_pct"]+values["children_cpu_pct"], "cpu_%")
		b.ReportMetric(values["transactions_per_s"], "transactions/s")
		a.stop()
		drop()
	}
}

// transactions counts those of the database, as far as its sessions have reported them.
func (s *system) transactions(b *testing.B, conn *pgx.Conn) int64 {
	b.Helper()
	var n int64
	must(b, conn.QueryRow(b.Context(), `select xact_commit + xact_rollback from pg_stat_database
		where datname = current_database()`).Scan(&n))
	return n
}

// BenchmarkAttached measures what an attached sidecar costs those who insert: 16 clients append notes, which
// run nothing, in PostgREST's transaction shape, with the sidecar and without, in turns.
func BenchmarkAttached(b *testing.B) {
	const clients = 16
	rounds, window := 3, 3*time.Second
	if *isQuick {
		rounds, window = 1, time.Second
	}
	announce("Attached", time.Duration(rounds)*(2*window+4*time.Second))
	c := newCells(b)
	out := newResults(b, "attached", c.server.URL("postgres"))
	for b.Loop() {
		s, drop := c.ledger()
		var with, without float64
		for round := range rounds {
			rate := s.notes(b, clients, window)
			without += rate
			out.add(figure{Case: "insert, 16 clients", System: "detached (baseline)", Round: round + 1,
				Values: map[string]float64{"rows_per_s": round3(rate)}})
			a := s.attach(b, binary, s.login)
			rate = s.notes(b, clients, window)
			with += rate
			out.add(figure{Case: "insert, 16 clients", System: "attached", Round: round + 1,
				Values: map[string]float64{"rows_per_s": round3(rate)}})
			a.stop()
		}
		b.ReportMetric(with/without, "ratio_to_detached")
		drop()
	}
}

// notes inserts single notes by so many clients and returns how many a second.
func (s *system) notes(b *testing.B, clients int, window time.Duration) float64 {
	b.Helper()
	var rows atomic.Int64
	ctx, stop := context.WithTimeout(b.Context(), window)
	defer stop()
	var work sync.WaitGroup
	began := time.Now()
	for client := range clients {
		conn := s.connect(b)
		work.Go(func() {
			defer conn.Close(context.Background())
			for ctx.Err() == nil {
				err := asTenant(context.WithoutCancel(ctx), conn, client, func(tx pgx.Tx) error {
					_, err := tx.Exec(context.WithoutCancel(ctx), `insert into ledger.universal_registry
						(entity_type, name, content) values ('note', 'a note', '{"text": "as it was written"}')`)
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
				rows.Add(1)
			}
		})
	}
	work.Wait()
	return float64(rows.Load()) / time.Since(began).Seconds()
}

// BenchmarkHeld measures what a transaction costs that somebody has left open, in the same database: jobs a
// second with it and without, of ours and of the peers whose queue is a table that they update. It is open
// from before the first job on.
func BenchmarkHeld(b *testing.B) {
	m := measure{name: "sustained", rounds: 1, seconds: 10}
	if *isQuick {
		m.seconds = 1
	}
	var all []rival
	for _, who := range rivals(b) {
		if who.name != "pg-boss" && who.binary != binary {
			all = append(all, who)
		}
	}
	announce("Held", time.Duration(len(all)*2*(m.seconds+5))*time.Second)
	c := newCells(b)
	out := newResults(b, "held", c.server.URL("postgres"))
	for b.Loop() {
		for _, who := range all {
			rates := map[bool]float64{}
			for _, isHeld := range []bool{false, true} {
				c.hold = isHeld
				found := c.measure(who, m, 1)
				rates[isHeld] = found.values()["jobs_per_s"]
				c.hold = false
			}
			out.add(figure{Case: "a transaction held open, sustained", System: who.name, Round: 1,
				Values: map[string]float64{"free_per_s": rates[false], "held_per_s": rates[true],
					"held_ratio": round3(rates[true] / rates[false])}})
		}
	}
}
