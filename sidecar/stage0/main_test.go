package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main()
	}
	os.Exit(pgtest.Run(m))
}

// bench is Stage-0 over a real ledger and a real sandbox, with the shipped kernels unless replaced.
type bench struct {
	*Stage0
	t     testing.TB
	db    *pgtest.Database
	owner *ledger.Owner
	made  int
}

// pool is shared: children are processes, and tests need few of them.
var pool = sync.OnceValues(func() (*sandbox.Pool, error) { return sandbox.New(sandbox.Options{Workers: 2}) })

// document is the shipped manifest with keys of its top level replaced; nil removes one.
func document(t testing.TB, change map[string]any) json.RawMessage {
	t.Helper()
	raw, err := kernels.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	maps.Copy(members, change)
	raw, err = json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// setup publishes the kernels, some with other code, and the manifest, and reads it.
func setup(t testing.TB, manifest map[string]any, code map[string]string) *bench {
	t.Helper()
	db := pgtest.New(t)
	l, err := ledger.Open(t.Context(), db.SidecarURL, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	owner, err := ledger.OpenOwner(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	shared, err := pool()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, db: db, owner: owner}
	all, err := kernels.All()
	if err != nil {
		t.Fatal(err)
	}
	want := []*span.Span{b.manifestSpan(document(t, manifest))}
	for _, kernel := range all {
		source, replaced := code[kernel.Name]
		if !replaced {
			source = kernel.Source
		}
		want = append(want, system(kernel.ID, "function", func(s *span.Span) {
			s.Name, s.Code = &kernel.Name,
				&source
		}))
	}
	b.publish(want...)
	b.Stage0 = New(Config{Ledger: l, Pool: shared, Node: "test", Incarnation: idOf(0xeeee),
		Log: slog.New(slog.NewTextHandler(logWriter{t}, nil))})
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// logWriter shows the log of a failed test.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

func system(id span.ID, entityType string, change ...func(*span.Span)) *span.Span {
	s := &span.Span{ID: id, EntityType: entityType, Who: "system:test", At: span.NewTime(time.Now()),
		OwnerID:  "system",
		TenantID: "system", Visibility: "public", Status: new("active")}
	for _, c := range change {
		c(s)
	}
	return s
}

func (b *bench) manifestSpan(document json.RawMessage) *span.Span {
	return system(span.ManifestID, "manifest", func(s *span.Span) { s.Metadata = document })
}

func (b *bench) publish(want ...*span.Span) []ledger.Publication {
	b.t.Helper()
	published, err := b.owner.Publish(b.t.Context(), want)
	if err != nil {
		b.t.Fatal(err)
	}
	return published
}

// idOf makes distinct ids that sort by n.
func idOf(n int) span.ID { return span.MustID(fmt.Sprintf("018f0000-%04x-7000-8000-000000000000", n)) }

// put appends a first version as the engine and returns it as it stands.
func (b *bench) put(n int, entityType string, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	s := &span.Span{ID: idOf(n), EntityType: entityType, Who: "user:alice", At: span.NewTime(time.Now()),
		OwnerID: "alice", TenantID: "t1", Visibility: "private", Status: new("active")}
	for _, c := range change {
		c(s)
	}
	if s.CurrHash == nil {
		if err := s.Seal(nil); err != nil {
			b.t.Fatal(err)
		}
	}
	outcomes, err := b.config.Ledger.Append(b.t.Context(), []ledger.Group{{Rows: []*span.Span{s}}})
	if err != nil || outcomes[0].Err != nil {
		b.t.Fatal(err, outcomes)
	}
	found, err := b.config.Ledger.Latest(b.t.Context(), []span.ID{s.ID})
	if err != nil {
		b.t.Fatal(err)
	}
	return found[s.ID]
}

// function appends a function of alice.
func (b *bench) function(n int, code string, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	change = append([]func(*span.Span){func(s *span.Span) { s.Code = &code }}, change...)
	return b.put(n, "function", change...)
}

// request appends a request for function, and returns it as the engine hands it over.
func (b *bench) request(n int, function span.ID, change ...func(*span.Span)) *span.Span {
	b.t.Helper()
	change = append([]func(*span.Span){func(s *span.Span) {
		s.Status, s.ParentID = new("scheduled"),
			&function
	}},
		change...)
	s := b.put(n, "request", change...)
	s.Attempt = new(1)
	return s
}

// result is what a boot gave for one cause.
type result struct {
	group ledger.Group
	err   *span.RunError
}

// boot runs a kernel.
func (b *bench) boot(kernel string, input string, batch ...*span.Span) (map[span.Key]result, error) {
	b.t.Helper()
	var mu sync.Mutex
	results := map[span.Key]result{}
	job := Job{Kernel: kernel, Batch: batch, Emit: func(cause span.Key, group ledger.Group, err *span.RunError) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := results[cause]; twice {
			b.t.Errorf("Emit is called twice for %s", cause.ID)
		}
		results[cause] = result{group, err}
	}}
	if input != "" {
		job.Input = json.RawMessage(input)
	}
	err := b.Boot(b.t.Context(), job)
	return results, err
}

// execute runs function by the shipped run_code for a request of alice, and returns the execution.
func (b *bench) execute(n int, function span.ID, change ...func(*span.Span)) (*span.Span, ledger.Group) {
	b.t.Helper()
	request := b.request(n, function, change...)
	results, err := b.boot("run_code", "", request)
	if err != nil {
		b.t.Fatal(err)
	}
	group := results[request.Key()].group
	if group.Fence == nil || len(group.Rows) == 0 || group.Rows[0].EntityType != "execution" {
		b.t.Fatalf("got %+v", results)
	}
	return group.Rows[0], group
}

// wantCode checks the code of an error, or of an execution's error.
func wantCode(t testing.TB, what string, err any, code span.RunCode, message string) {
	t.Helper()
	var got span.RunError
	switch e := err.(type) {
	case *span.Span:
		if e.Error != nil {
			if fault := json.Unmarshal(e.Error, &got); fault != nil {
				t.Fatal(fault)
			}
		}
	case *span.RunError:
		if e != nil {
			got = *e
		}
	case error:
		if refusal, ok := e.(*span.RunError); ok {
			got = *refusal
		} else {
			got.Message = "not a refusal: " + e.Error()
		}
	}
	if got.Code != code || !strings.Contains(got.Message, message) {
		t.Errorf("%s: got %q %q, want %q %q", what, got.Code, got.Message, code, message)
	}
}

// tamper changes a stored row, as only somebody with the owner's rights can.
func (b *bench) tamper(assignment string, id span.ID) {
	b.t.Helper()
	conn := b.connect()
	for _, statement := range []string{
		"alter table ledger.universal_registry disable trigger all",
		"update ledger.universal_registry set " + assignment + " where id = '" + id.String() + "'",
		`do $$ declare v_name text; begin
			for v_name in select tgname from pg_trigger
				where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal
			loop
				execute format('alter table ledger.universal_registry enable always trigger %I', v_name);
			end loop;
		end $$`,
	} {
		if _, err := conn.Exec(b.t.Context(), statement); err != nil {
			b.t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (b *bench) connect() *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.db.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func ask[T any](b *bench, query string, args ...any) T {
	b.t.Helper()
	var value T
	if err := b.connect().QueryRow(b.t.Context(), query, args...).Scan(&value); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return value
}
