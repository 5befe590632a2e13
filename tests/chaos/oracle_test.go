package chaos_test

import (
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

//go:embed oracle.sql
var oracleSQL string

// invariant is one query of the oracle.
type invariant struct{ name, breaches string }

// invariants reads oracle.sql.
func invariants() []invariant {
	var all []invariant
	for _, part := range strings.Split(oracleSQL, "\n-- @ ")[1:] {
		name, query, _ := strings.Cut(part, "\n")
		all = append(all, invariant{name, query})
	}
	return all
}

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// breaches asks the whole oracle: sentences by the name of the invariant that they break.
func breaches(ctx context.Context, q querier) (map[string][]string, error) {
	found := map[string][]string{}
	for _, i := range invariants() {
		rows, err := q.Query(ctx, i.breaches)
		if err == nil {
			var said []string
			if said, err = pgx.CollectRows(rows, pgx.RowTo[string]); len(said) > 0 {
				found[i.name] = said
			}
		}
		if err != nil {
			return nil, fmt.Errorf("ask for %q: %w", i.name, err)
		}
	}
	unsound, err := unsound(ctx, q)
	if len(unsound) > 0 {
		found["I14 what the engine appends is hashed and signed"] = unsound
	}
	return found, err
}

// unsound recomputes the hash of every row that the engine has derived, and verifies its signature.
func unsound(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.Query(ctx, `select to_json(r)::text from ledger.universal_registry as r
		where substr(id::text, 15, 1) = '8' and not (entity_type = 'request' and who like 'user:%')`)
	if err != nil {
		return nil, fmt.Errorf("read the engine's rows: %w", err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the engine's rows: %w", err)
	}
	var faults []string
	for _, text := range texts {
		row := new(span.Span)
		if err := json.Unmarshal([]byte(text), row); err != nil {
			return nil, fmt.Errorf("decode a row: %w", err)
		}
		if fault := faultOf(row); fault != "" {
			faults = append(faults, fmt.Sprintf("%s %s version %d: %s", row.EntityType, row.ID, row.Seq, fault))
		}
	}
	return faults, nil
}

func faultOf(row *span.Span) string {
	if row.CurrHash == nil || row.Signature == nil || row.PublicKey == nil {
		return "it has no hash or no signature"
	}
	if err := row.VerifyHash(); err != nil {
		return err.Error()
	}
	var raw [3][]byte
	for i, text := range []string{*row.PublicKey, *row.CurrHash, *row.Signature} {
		var err error
		if raw[i], err = hex.DecodeString(text); err != nil {
			return err.Error()
		}
	}
	if !sign.Verify(raw[0], raw[1], raw[2]) {
		return "its signature does not hold"
	}
	return ""
}

// judge holds the ledger against every invariant, and returns what is broken.
func (w *world) judge() map[string][]string {
	w.t.Helper()
	found, err := breaches(w.t.Context(), w.owner)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// mustHold fails the test where an invariant is broken.
func (w *world) mustHold(when string) {
	w.t.Helper()
	found := w.judge()
	report(w.t, w.seed, when, found)
	if len(found["I13 batches never deadlock"]) > 0 {
		w.t.Logf("what the server says of it:\n%s", w.deadlocks())
	}
}

// deadlocks is what the server's log says of them: who waited for whom, with which statement.
func (w *world) deadlocks() string {
	w.t.Helper()
	said, err := os.ReadFile(w.cluster.Server.LogFile())
	if err != nil {
		w.t.Fatal(err)
	}
	const most = 400 // of a line: statements are long
	var lines []string
	about := 0
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "deadlock detected") {
			about = 60
		}
		if about > 0 {
			about--
			lines = append(lines, strings.TrimRight(line[:min(most, len(line))], "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

func report(t *testing.T, seed uint64, when string, found map[string][]string) {
	t.Helper()
	const most = 10
	for name, said := range found {
		t.Errorf("%s, seed %d: broken %d times: %s\n  %s", when, seed, len(said), name,
			strings.Join(said[:min(most, len(said))], "\n  "))
	}
}
