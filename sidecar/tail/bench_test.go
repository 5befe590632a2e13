package tail

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

// fill inserts rows past the guards, size of them in each transaction.
func fill(t testing.TB, conn *pgx.Conn, rows, size int) {
	t.Helper()
	execute(t, conn, "alter table ledger.universal_registry disable trigger all")
	for done := 0; done < rows; done += size {
		execute(t, conn, `insert into ledger.universal_registry (id, seq, entity_type, who, at, xact, accepted_at,
				owner_id, tenant_id, visibility, is_deleted, trace_id, curr_hash, content)
			select ledger.uuid7(), 0, 'note', 'client:test', now(), pg_current_xact_id(), now(), 'alice', 't1',
				'private', false, 'trace', repeat('ab', 32), jsonb_build_object('n', n)
			from generate_series(1, $1::int) n`, min(size, rows-done))
	}
	execute(t, conn, "alter table ledger.universal_registry enable trigger all")
}

// counter is a handler that disposes of each row at once, and says when it has had so many.
type counter struct {
	rows, want int
	first      time.Time
	reached    chan time.Duration
}

func (c *counter) handler() Handler {
	return Handler{
		Lead: func(context.Context, string) error { return nil },
		Row: func(_ context.Context, _ *span.Published, position *Position) error {
			if c.rows == 0 {
				c.first = time.Now()
			}
			if c.rows++; c.rows == c.want {
				c.reached <- time.Since(c.first)
			}
			position.Done()
			return nil
		},
	}
}

// run follows until so many rows came, and returns how long they took from the first to the last.
func (f *fixture) count(t testing.TB, rows int) time.Duration {
	t.Helper()
	c := &counter{want: rows, reached: make(chan time.Duration, 1)}
	tail := New(f.config(t), c.handler())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = tail.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	select {
	case took := <-c.reached:
		return took
	case <-time.After(5 * time.Minute):
		t.Fatalf("%d of %d rows came", c.rows, rows)
	}
	return 0
}

// BenchmarkGapScan reads rows that no slot brings: of many transactions, and of one.
func BenchmarkGapScan(b *testing.B) {
	const rows = 1_000_000
	for _, size := range []int{100, rows} {
		b.Run(fmt.Sprintf("perTransaction=%d", size), func(b *testing.B) {
			f := setup(b, nil)
			fill(b, f.conn, rows, size)
			b.ResetTimer()
			for range b.N {
				took := f.count(b, rows)
				b.ReportMetric(rows/took.Seconds(), "rows/s")
				execute(b, f.conn, "drop table engine.cursor")
			}
		})
	}
}

// BenchmarkDecode compares the tail with pg_recvlogical on one WAL: each reads it from a slot of its own, one
// after the other, and again in the other order.
func BenchmarkDecode(b *testing.B) {
	binary := recvlogical()
	if binary == "" {
		b.Skip("pg_recvlogical is not installed")
	}
	const rows = 300_000
	for _, size := range []int{100, 1} {
		b.Run(fmt.Sprintf("perTransaction=%d", size), func(b *testing.B) {
			f := setup(b, map[string]string{"max_wal_size": "8GB", "fsync": "off"})
			n := rows
			if size == 1 {
				n = rows / 5
			}
			f.count0(b)
			for slot := range 2 * b.N {
				execute(b, f.conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", fmt.Sprint("peer_", slot))
			}
			fill(b, f.conn, n, size)
			end := ask[string](b, f.conn, "select pg_current_wal_insert_lsn()::text")
			var peer, ours time.Duration
			b.ResetTimer()
			for turn := range b.N {
				peer += f.receive(b, binary, fmt.Sprint("peer_", 2*turn), end)
				ours += f.count(b, n)
				peer += f.receive(b, binary, fmt.Sprint("peer_", 2*turn+1), end)
				execute(b, f.conn, "select pg_drop_replication_slot($1)", fmt.Sprint("peer_", 2*turn))
			}
			rate := func(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
			b.ReportMetric(rate(n*b.N, ours), "rows/s")
			b.ReportMetric(rate(2*n*b.N, peer), "pg_recvlogical-rows/s")
			b.ReportMetric(rate(n*b.N, ours)/rate(2*n*b.N, peer), "ratio")
		})
	}
}

// count0 makes the slot and the cursor, and leaves.
func (f *fixture) count0(b *testing.B) {
	w := f.follow(b).streams(b)
	w.receives(b, insert(b, f.conn, "first"))
	f.settled(b)
	w.end()
}

// receive lets pg_recvlogical read a slot up to end into nothing.
func (f *fixture) receive(b *testing.B, binary, slot, end string) time.Duration {
	b.Helper()
	at, err := url.Parse(f.db.URL)
	if err != nil {
		b.Fatal(err)
	}
	started := time.Now()
	command := exec.CommandContext(b.Context(), binary, "--dbname", at.String(), "--slot", slot, "--start",
		"--endpos", end, "--no-loop", "-f", os.DevNull,
		"-o", "proto_version=1", "-o", "publication_names=loglineos")
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("pg_recvlogical: %v: %s", err, out)
	}
	return time.Since(started)
}

func recvlogical() string {
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical") // its pattern is well formed
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}
