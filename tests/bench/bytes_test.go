package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// kind is one way to use the ledger: what its client appends for one run, and the row that ends it.
type kind struct {
	name string
	// row is the client's row, as JSON; CODE_… is the id of the function of that name.
	row string
	// ends is a condition on the last row of a run.
	ends string
	// isCold is five minutes at one a second, from a checkpoint on: each page that is touched again goes
	// into the WAL whole.
	isCold bool
}

const registry = "ledger.universal_registry"

const terminal = "entity_type = 'request' and status in ('complete', 'error')"

var kinds = []kind{
	{name: "a row of a bare table",
		row: `{"entity_type": "note", "name": "bench", "content": {"text": "the quick brown fox"}}`},
	{name: "a span", ends: "entity_type = 'note'",
		row: `{"entity_type": "note", "name": "bench", "content": {"text": "the quick brown fox"}}`},
	{name: "a span that a policy answers with another", ends: "entity_type = 'alert'",
		row: `{"entity_type": "order", "name": "bench", "content": {"text": "the quick brown fox"}}`},
	{name: "a call", ends: terminal,
		row: `{"entity_type": "request", "status": "scheduled", "parent_id": "CODE_sum", "input": {"a": 41}}`},
	{name: "a call, one a second", ends: terminal, isCold: true,
		row: `{"entity_type": "request", "status": "scheduled", "parent_id": "CODE_sum", "input": {"a": 41}}`},
	{name: "a call that appends a span", ends: terminal,
		row: `{"entity_type": "request", "status": "scheduled", "parent_id": "CODE_note", "input": {"a": 41}}`},
	{name: "a call that fails", ends: terminal,
		row: `{"entity_type": "request", "status": "scheduled", "parent_id": "CODE_fail", "input": {"a": 41}}`},
	{name: "a call with 1 KiB in and 1 KiB out", ends: terminal,
		row: `{"entity_type": "request", "status": "scheduled", "parent_id": "CODE_echo", "input": "KIB"}`},
	{name: "a function that is scheduled", ends: terminal,
		row: `{"entity_type": "function", "status": "scheduled", "name": "bench", "language": "javascript",
			"code": "return { sum: input.a + 1 };", "input": {"a": 41}}`},
	{name: "a call of a provider", ends: terminal,
		row: `{"entity_type": "request", "status": "scheduled",
			"parent_id": "00000000-0000-4000-8000-000000000005", "input": {"provider_id": "CODE_model",
				"payload": {"messages": [{"role": "user", "content": "Hello."}]}}}`},
}

// BenchmarkBytesPerRun measures what each way to use the ledger leaves in the database a run: rows, bytes of
// the table and of its indexes, bytes of WAL; beside a row of a bare table with the same columns and a
// primary key. One client commits row after row. A checkpoint, behind which pages go into the WAL whole,
// comes in one case only.
func BenchmarkBytesPerRun(b *testing.B) {
	announce("BytesPerRun", time.Minute)
	s := prepare(b)
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"message": {"content": "Hello, too."}, "done_reason": "stop", "prompt_eval_count": 9,
			"eval_count": 3}`)
	}))
	b.Cleanup(vendor.Close)
	host := strings.TrimPrefix(vendor.URL, "http://")
	give := exec.Command(binary, "manifest", "--database", s.owner, "--give", "provider_exec=fetch:"+host)
	if said, err := give.CombinedOutput(); err != nil {
		b.Fatalf("grant %s: %v: %s", host, err, said)
	}
	sidecar := s.attach(b, binary, s.login, "LOGLINE_FETCH_ALLOW="+host)
	b.Cleanup(sidecar.stop)
	conn := s.connect(b)
	_, err := conn.Exec(b.Context(), bareTables)
	must(b, err)
	_, err = conn.Exec(b.Context(), "alter system set checkpoint_timeout = '1h'")
	must(b, err)
	_, err = conn.Exec(b.Context(), "select pg_reload_conf()")
	must(b, err)
	names := publishKinds(b, conn, vendor.URL)
	r := newResults(b, "bytes", s.owner)
	for b.Loop() {
		for _, k := range kinds {
			k.measure(b, conn, names, r)
		}
	}
}

// publishKinds appends what the kinds call, as alice, and returns a replacer of CODE_… by ids.
func publishKinds(b *testing.B, conn *pgx.Conn, vendor string) *strings.Replacer {
	b.Helper()
	pairs := []string{"KIB", strings.Repeat("0123456789abcdef", 64)}
	publish := func(name, row string) {
		pairs = append(pairs, "CODE_"+name, appendOne(b, conn, registry, row))
	}
	for name, code := range map[string]string{
		"sum":  "return { sum: input.a + 1 };",
		"note": "ctx.insertSpan({ entity_type: 'note', name: 'bench' }); return { sum: input.a + 1 };",
		"fail": "throw new Error('this is what went wrong');",
		"echo": "return input;",
	} {
		publish(name, fmt.Sprintf(`{"entity_type": "function", "status": "active", "name": %q, "code": %q}`, name, code))
	}
	publish("model", fmt.Sprintf(`{"entity_type": "provider", "status": "active", "name": "model", "metadata":
		{"type": "ollama", "base_url": %q, "model": "m"}}`, vendor))
	publish("policy", `{"entity_type": "policy", "status": "active", "name": "bench",
		"metadata": {"when": {"entity_type": "order"}},
		"code": "export function on(span) { return [{ emit_span: { entity_type: 'alert', parent_id: span.id } }]; }"}`)
	return strings.NewReplacer(pairs...)
}

// appendOne is one insert in PostgREST's transaction shape; it returns the id.
func appendOne(b *testing.B, conn *pgx.Conn, table, row string) (id string) {
	b.Helper()
	var columns map[string]any
	must(b, json.Unmarshal([]byte(row), &columns))
	names := strings.Join(slices.Sorted(maps.Keys(columns)), ", ")
	err := pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), `select set_config('role', 'authenticated', true),
			set_config('request.jwt.claims', '{"sub": "3f0c8e6a-7a64-4f0e-9d5e-2f3f6f0d6c11",
				"role": "authenticated", "app_metadata": {"tenant_id": "acme"}}', true)`)
		if err != nil {
			return err
		}
		return tx.QueryRow(b.Context(), "insert into "+table+" ("+names+") select "+names+`
			from json_populate_record(null::ledger.universal_registry, $1::json) returning id::text`, row).Scan(&id)
	})
	must(b, err)
	return id
}

// measure appends rows of a kind one after another, waits for the end of what they cause, and writes what has
// been added, divided by their number.
func (k kind) measure(b *testing.B, conn *pgx.Conn, names *strings.Replacer, r *results) {
	b.Helper()
	table, n := registry, scaled(2000)
	if k.ends == "" {
		table = "bench.bare"
	}
	trace := "bytes: " + k.name
	row := strings.Replace(names.Replace(k.row), "{", fmt.Sprintf(`{"trace_id": %q, `, trace), 1)
	total := 0
	run := func(n int) {
		for range n {
			appendOne(b, conn, table, row)
		}
		total += n
		await(b, 2*time.Minute, func() bool {
			var ended int
			must(b, conn.QueryRow(b.Context(), "select count(*) from "+table+" where trace_id = $1 and "+
				cmp.Or(k.ends, "true"), trace).Scan(&ended))
			return ended >= total
		})
	}
	if k.isCold {
		n = 300
		_, err := conn.Exec(b.Context(), "checkpoint")
		must(b, err)
	} else {
		run(scaled(100)) // pages that are new, and first touches since the checkpoint
	}
	before := takeSizes(b, conn, table)
	run(n)
	after := takeSizes(b, conn, table)
	values := map[string]float64{}
	for name, value := range after {
		values[name] = (value - before[name]) / float64(n)
	}
	disk := values["table_bytes"] + values["index_bytes"]
	values["gb_per_day_at_1_per_s"] = disk * 86_400 / 1e9
	r.add(figure{Case: "one run", System: k.name, Round: 1, Values: values})
}

// takeSizes reads how large a table is, with its indexes, and how far the WAL has come.
func takeSizes(b *testing.B, conn *pgx.Conn, table string) map[string]float64 {
	b.Helper()
	var rows, tableBytes, indexBytes, wal float64
	must(b, conn.QueryRow(b.Context(), "select (select count(*) from "+table+`), pg_table_size($1::regclass),
		pg_indexes_size($1::regclass), pg_current_wal_insert_lsn() - '0/0'`, table).Scan(&rows, &tableBytes,
		&indexBytes, &wal))
	return map[string]float64{"rows": rows, "table_bytes": tableBytes, "index_bytes": indexBytes,
		"wal_bytes": wal}
}
