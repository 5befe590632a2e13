package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// The ledger with something less: what that costs of a row's CPU.
var appendVariants = []struct{ name, statement string }{
	{"whole", ""},
	{"without_guards", "alter table ledger.universal_registry disable trigger all, " + defaults},
	{"without_indexes", withouts[2].statement},
	{"without_both", "alter table ledger.universal_registry disable trigger all, " + defaults + "; " +
		withouts[2].statement},
}

// BenchmarkAppend measures what Postgres' CPU one run costs, step by step, without a sidecar: the client's
// insert of scheduled functions (100 a transaction), the requests (500 a statement), and their ends with the
// executions (250 of each a statement); microseconds of CPU for each row, of the whole server.
// LOGLINE_BENCH_HOLD=1 waits before it ends, for a profiler.
func BenchmarkAppend(b *testing.B) {
	notQuick(b)
	const runs, batch = 20_000, 100
	s := prepare(b)
	for _, variant := range appendVariants {
		b.Run(variant.name, func(b *testing.B) {
			owner, login := s.owner, s.login
			if variant.statement != "" {
				s.copyTo(b, variant.name, variant.statement)
				owner, login = onDatabase(b, s.owner, variant.name), onDatabase(b, s.login, variant.name)
			}
			conn, err := pgx.Connect(b.Context(), owner)
			must(b, err)
			defer func() { _ = conn.Close(context.Background()) }()
			l, err := ledger.Open(b.Context(), login, 4)
			must(b, err)
			defer l.Close()
			round := 0
			for b.Loop() {
				b.ReportMetric(s.costs(b, runs, func() {
					for i := 0; i < runs; i += batch {
						insert(b, conn, fmt.Sprintf("trace-%d", round), batch)
					}
				}), "function_us")
				for _, size := range []int{500, 16} {
					round++
					groups := make([]ledger.Group, runs)
					for i := range groups {
						groups[i] = ledger.Group{Rows: []*span.Span{draftRequest(b, round, i)}}
					}
					b.ReportMetric(s.costs(b, runs, func() { appendAll(b, l, groups, size) }),
						fmt.Sprintf("request/%d_us", size))
					for i := range groups {
						groups[i] = draftEnd(b, groups[i].Rows[0])
					}
					b.ReportMetric(s.costs(b, runs, func() { appendAll(b, l, groups, size/2) }),
						fmt.Sprintf("end/%d_us", size))
				}
			}
		})
	}
	if os.Getenv("LOGLINE_BENCH_HOLD") != "" {
		<-time.After(time.Minute)
	}
}

func onDatabase(b *testing.B, databaseURL, name string) string {
	b.Helper()
	u, err := url.Parse(databaseURL)
	must(b, err)
	u.Path = "/" + name
	return u.String()
}

// copyTo makes a database like the first one and changes it.
func (s *system) copyTo(b *testing.B, name, statement string) {
	b.Helper()
	change(b, onDatabase(b, s.owner, "template1"), "drop database if exists "+name)
	change(b, onDatabase(b, s.owner, "template1"), "create database "+name+" template postgres")
	change(b, onDatabase(b, s.owner, name), statement)
}

// costs returns the CPU that Postgres used in work, in microseconds a unit.
func (s *system) costs(b *testing.B, units int, work func()) float64 {
	b.Helper()
	before := s.cpu(b)
	work()
	return float64((s.cpu(b).postgres - before.postgres).Microseconds()) / float64(units)
}

func appendAll(b *testing.B, l *ledger.Ledger, groups []ledger.Group, batch int) {
	b.Helper()
	for i := 0; i < len(groups); i += batch {
		outcomes, err := l.Append(b.Context(), groups[i:i+batch])
		must(b, err)
		for _, outcome := range outcomes {
			if must(b, outcome.Err); !outcome.Won || len(outcome.Existing) > 0 {
				b.Fatalf("not appended: %+v", outcome)
			}
		}
	}
}

// draftRequest is a request as observer_bot makes one.
func draftRequest(b *testing.B, round, i int) *span.Span {
	b.Helper()
	at := span.NewTime(time.Now())
	cause := span.Key{ID: span.Derive("function", at.Time, nil, int64(round), int64(i))}
	row := &span.Span{
		ID: span.Derive("request", at.Time, []span.ID{cause.ID}), EntityType: "request", Who: "kernel:observer_bot",
		Did: new("scheduled"), This: new("run_code"), At: at, OwnerID: "alice", TenantID: "acme",
		Visibility: "private", Status: new("scheduled"), ParentID: &cause.ID,
		TraceID: new(fmt.Sprintf("trace-%d", round)), Input: json.RawMessage(`{"a": 41}`),
	}
	row.Metadata = ofEngine(b, nil, span.EngineMeta{Cause: cause, Root: cause.ID, Depth: 1, Kind: "request"})
	must(b, row.Seal(nil))
	return row
}

// draftEnd is what a run of request leaves: its end, and the execution.
func draftEnd(b *testing.B, request *span.Span) ledger.Group {
	b.Helper()
	end := request.NextRequest("kernel:run_code", "complete")
	end.Did, end.Attempt, end.DurationMs = new("ran"), new(1), new(1)
	must(b, end.Seal(end.PrevHash))
	execution := &span.Span{
		ID: span.Derive("execution", request.At.Time, []span.ID{request.ID}), EntityType: "execution",
		Who: "kernel:run_code", Did: new("executed"), This: new("run_code"), At: end.At, OwnerID: "alice",
		TenantID: "acme", Visibility: "private", Status: new("complete"), ParentID: request.ParentID,
		RelatedTo: []span.ID{request.ID}, TraceID: request.TraceID, Attempt: new(1), DurationMs: new(1),
		Input: request.Input, Output: json.RawMessage(`{"sum": 42}`),
	}
	execution.Metadata = ofEngine(b, json.RawMessage(`{"run": {"calls": [], "cpu_ms": 1, "function_seq": 0,
			"function_hash": "`+*request.CurrHash+`", "output_hash": "`+*request.CurrHash+`"}}`),
		span.EngineMeta{Cause: request.Key(), Root: *request.ParentID, Depth: 2, Kind: "execution"})
	must(b, execution.Seal(nil))
	return ledger.Group{Fence: end, Rows: []*span.Span{execution}}
}

func ofEngine(b *testing.B, metadata json.RawMessage, meta span.EngineMeta) json.RawMessage {
	b.Helper()
	metadata, err := span.SetEngine(metadata, meta)
	must(b, err)
	return metadata
}
