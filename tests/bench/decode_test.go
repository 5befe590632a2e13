package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/tail"
)

// BenchmarkDecode reads the same WAL by pg_recvlogical, into nothing, and by the tail, into spans that are
// disposed of at once: 300,000 rows, 100 a transaction, from a slot each, in turns. Both begin with the start
// of a process or a session, and end with the last row.
func BenchmarkDecode(b *testing.B) {
	const perCommit = 100
	rows, rounds := scaled(300_000), 3
	if *isQuick {
		rounds = 1
	}
	announce("Decode", time.Duration(rows)*(40+time.Duration(rounds)*35)*time.Microsecond)
	program := receiver(b)
	c := newCells(b)
	out := newResults(b, "decode", c.server.URL("postgres"))
	for b.Loop() {
		s, drop := c.ledger()
		conn := s.connect(b)
		s.attach(b, binary, s.login).stop() // it makes the table of cursors
		var from, end string
		for round := range rounds {
			for _, kind := range []string{"peer", "ours"} {
				_, err := conn.Exec(b.Context(), "select pg_create_logical_replication_slot($1, 'pgoutput')",
					kind+strconv.Itoa(round))
				must(b, err)
			}
		}
		must(b, conn.QueryRow(b.Context(), "select pg_current_snapshot()::text").Scan(&from))
		layNotes(b, conn, rows, perCommit)
		must(b, conn.QueryRow(b.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&end))
		sums := map[string]float64{}
		for round := range rounds {
			name := strconv.Itoa(round)
			for system, read := range map[string]func() time.Duration{
				"pg_recvlogical (baseline)": func() time.Duration { return s.receive(b, program, "peer"+name, end) },
				"LogLineOS":                 func() time.Duration { return s.decode(b, conn, "ours"+name, from, rows) },
			} {
				rate := float64(rows) / read().Seconds()
				sums[system] += rate
				out.add(figure{Case: fmt.Sprintf("%d rows a transaction", perCommit), System: system, Round: round + 1,
					Values: map[string]float64{"rows_per_s": round3(rate)}})
			}
		}
		b.ReportMetric(sums["LogLineOS"]/sums["pg_recvlogical (baseline)"], "ratio_to_pg_recvlogical")
		drop()
	}
}

// receiver finds pg_recvlogical; without it the benchmark is skipped by name.
func receiver(b *testing.B) string {
	b.Helper()
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	must(b, err)
	if len(found) == 0 {
		b.Skip("skipped: Decode: pg_recvlogical is not installed (Debian: postgresql-client)")
	}
	return found[len(found)-1]
}

// receive reads a slot up to end by pg_recvlogical.
func (s *system) receive(b *testing.B, program, slot, end string) time.Duration {
	b.Helper()
	target, err := url.Parse(s.owner)
	must(b, err)
	password, _ := target.User.Password()
	command := exec.Command(program, "--start", "--slot", slot, "--file", os.DevNull, "--endpos", end,
		"--no-loop", "-o", "proto_version=1", "-o", "publication_names=loglineos", "--host", target.Hostname(),
		"--port", target.Port(), "--username", target.User.Username(),
		"--dbname", strings.TrimPrefix(target.Path, "/"))
	command.Env = append(os.Environ(), "PGPASSWORD="+password)
	began := time.Now()
	if said, err := command.CombinedOutput(); err != nil {
		b.Fatalf("pg_recvlogical: %v\n%s", err, said)
	}
	return time.Since(began)
}

// decode reads a slot by the tail, whose cursor stands at from, until n rows were handed over.
func (s *system) decode(b *testing.B, conn *pgx.Conn, slot, from string, n int) time.Duration {
	b.Helper()
	var at string
	must(b, conn.QueryRow(b.Context(), `select confirmed_flush_lsn::text from pg_replication_slots
		where slot_name = $1`, slot).Scan(&at))
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	seen := 0
	var began time.Time
	follower := tail.New(tail.Config{DatabaseURL: s.login, ReplicationURL: s.login, Slot: slot,
		Publication: "loglineos", Node: "bench", Incarnation: slot, Prepare: ledger.AssumeRole,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))},
		tail.Handler{
			Lead: func(context.Context, string) error { return nil },
			Row: func(_ context.Context, row *span.Published, position *tail.Position) error {
				position.Done()
				if row.EntityType == "note" {
					seen++
				}
				if seen >= n {
					stop()
				}
				return nil
			},
		})
	s.placeCursor(b, conn, slot, at, from)
	began = time.Now()
	must(b, follower.Run(ctx))
	took := time.Since(began)
	if seen < n {
		b.Fatalf("the tail has handed over %d of %d rows", seen, n)
	}
	return took
}

// placeCursor stores the cursor with which a slot is streamed from where it stands, and no gap is scanned.
func (s *system) placeCursor(b *testing.B, conn *pgx.Conn, slot, lsn, snapshot string) {
	b.Helper()
	_, err := conn.Exec(b.Context(), `insert into engine.cursor (slot, system_id, timeline, lsn, snapshot)
		select $1, s.system_identifier::text, c.timeline_id, $2::text::pg_lsn, $3::text::pg_snapshot
		from pg_control_system() s, pg_control_checkpoint() c`, slot, lsn, snapshot)
	must(b, err)
}
