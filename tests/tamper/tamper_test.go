// Package tamper_test changes what stands in a real ledger, column by column and as deep as JSON goes, as
// only the owner can who takes the triggers down, and sees that neither verifier is deceived: sign.Verify
// and span.VerifyHash in Go, tests/vectors/check.mjs in JavaScript.
//
// The list of columns comes from the catalog, so a new column is tested, or stops the test.
package tamper_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// nested is what each jsonb column holds.
const nested = `{"k":"v","n":10.5,"u":"é","list":[1,2,{"deep":{"leaf":"x","n":1,"t":true,"z":null,"e":{},"a":[]}}]}`

// subject is one span with every column set, as it was appended and signed.
type subject struct {
	t    *testing.T
	conn *pgx.Conn
	key  *sign.Key
	id   span.ID
}

func setup(t *testing.T) *subject {
	t.Helper()
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{t: t, conn: conn, key: key, id: everything(t).ID}
	l, err := ledger.Open(t.Context(), db.SidecarURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	first, second := everything(t), everything(t)
	first.Seq, second.Seq = 0, 1
	signer := sign.NewSigner(key)
	for _, row := range []*span.Span{first, second} {
		var before *string
		if row.Seq == 1 {
			before = first.CurrHash
		}
		if err := signer.Seal(row, before); err != nil {
			t.Fatal(err)
		}
		outcomes, err := l.Append(t.Context(), []ledger.Group{{Rows: []*span.Span{row}}})
		if err != nil || outcomes[0].Err != nil {
			t.Fatal(err, outcomes)
		}
	}
	loaded, err := l.Load(t.Context(), []span.Key{second.Key()})
	if err != nil {
		t.Fatal(err)
	}
	if verdict := s.verdict(loaded[second.Key()]); verdict != "ok" {
		t.Fatalf("as the sidecar reads it: %s", verdict)
	}
	return s
}

// everything is the vector "every column", with JSON of some depth.
func everything(t *testing.T) *span.Span {
	t.Helper()
	raw, err := os.ReadFile("../vectors/canonical.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Spans []struct {
			Name string
			Span *span.Span
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, vector := range file.Spans {
		if vector.Name != "every column" {
			continue
		}
		s := vector.Span
		s.EntityType, s.AcceptedAt, s.Xact = "note", nil, nil
		for _, column := range span.Columns {
			if column.Type == "jsonb" {
				if err := column.SetText(s, nested); err != nil {
					t.Fatal(err)
				}
			}
		}
		return s
	}
	t.Fatal("canonical.json has no vector \"every column\"")
	return nil
}

// verdict is Go's word on a row, in the words of check.mjs.
func (s *subject) verdict(row *span.Span) string {
	var run *span.RunError
	switch err := row.VerifyHash(); {
	case errors.As(err, &run):
		return string(run.Code)
	case err != nil:
		return "refused"
	}
	public, _ := hex.DecodeString(s.key.Public())
	hash, _ := hex.DecodeString(*row.CurrHash)
	signature := []byte{}
	if row.Signature != nil {
		signature, _ = hex.DecodeString(*row.Signature)
	}
	if !sign.Verify(public, hash, signature) {
		return "bad_signature"
	}
	return "ok"
}

// change is one assignment to the row, and what a verifier must say to it.
type change struct{ name, set, want string }

// apply makes each change in a transaction that is rolled back, and returns the rows as JSON: by the clock of
// a zone with odd minutes, as a client may set it.
func (s *subject) apply(changes []change) []string {
	s.t.Helper()
	lines := make([]string, len(changes))
	for i, c := range changes {
		tx, err := s.conn.Begin(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, statement := range []string{
			"set local timezone = 'Asia/Kathmandu'",
			"alter table ledger.universal_registry disable trigger all",
		} {
			if _, err := tx.Exec(s.t.Context(), statement); err != nil {
				s.t.Fatal(err)
			}
		}
		statement := "update ledger.universal_registry as r set " + c.set +
			" where id = $1 and seq = 1 returning to_jsonb(r)::text"
		if err := tx.QueryRow(s.t.Context(), statement, s.id.String()).Scan(&lines[i]); err != nil {
			s.t.Fatalf("%s: %s: %v", c.name, statement, err)
		}
		if err := tx.Rollback(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	return lines
}

// judge holds both verifiers against what is wanted.
func (s *subject) judge(changes []change) {
	s.t.Helper()
	lines := s.apply(changes)
	for i, c := range changes {
		var row span.Span
		if err := json.Unmarshal([]byte(lines[i]), &row); err != nil {
			s.t.Fatalf("%s: %v", c.name, err)
		}
		if got := s.verdict(&row); got != c.want {
			s.t.Errorf("%s: Go says %s, want %s", c.name, got, c.want)
		}
	}
	s.t.Run("the second implementation", func(t *testing.T) {
		for i, verdict := range s.secondVerdicts(t, lines) {
			if c := changes[i]; !strings.HasPrefix(verdict, c.want) {
				t.Errorf("%s: check.mjs says %s, want %s", c.name, verdict, c.want)
			}
		}
	})
}

// secondVerdicts is what check.mjs says to each line.
func (s *subject) secondVerdicts(t *testing.T, lines []string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spans.ndjson")
	checker := node.Checker(t, file, s.key.Public())
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := checker.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it ends with 1 where a span does not verify
		t.Fatal(err)
	}
	verdicts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(verdicts) != len(lines) {
		t.Fatalf("check.mjs says %d words to %d lines: %v", len(verdicts), len(lines), err)
	}
	return verdicts
}

// column is a column of the table, as the catalog has it.
type column struct {
	Name, Type string
	NotNull    bool
}

func (s *subject) columns() []column {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), `select attname, format_type(atttypid, atttypmod), attnotnull
		from pg_attribute where attrelid = 'ledger.universal_registry'::regclass and attnum > 0 and not attisdropped
		order by attnum`)
	if err != nil {
		s.t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		s.t.Fatal(err)
	}
	return columns
}

// another is another valid value of a column, as an expression of the old one.
func (s *subject) another(c column) string {
	hexes := []string{"compiled_hash", "prev_hash", "curr_hash", "signature", "public_key"}
	switch {
	case slices.Contains(hexes, c.Name):
		return "translate(" + c.Name + ", '0123456789abcdef', '123456789abcdef0')"
	case c.Name == "visibility":
		return "'public'"
	case c.Name == "seq":
		return "seq + 1" // seq - 1 is another row's
	}
	expressions := map[string]string{
		"uuid": "'0198c0de-0000-7000-8000-0000000000ee'", "integer": "C - 1", "text": "C || ' '",
		"timestamp with time zone": "C + interval '1 microsecond'", "boolean": "not C",
		"numeric": "C + 0.000000000000000001", "jsonb": `C || '{"added":null}'`,
		"uuid[]": "array[C[2], C[1]]", "text[]": "C || ''::text", "xid8": "'9'",
	}
	expression, known := expressions[c.Type]
	if !known {
		s.t.Fatalf("column %s has the type %s: say what another value of it is", c.Name, c.Type)
	}
	return strings.ReplaceAll(expression, "C", c.Name)
}

// notHashed are the four columns that docs/contract.md §3 leaves out, and what a verifier says when one of
// them is another.
var notHashed = map[string]string{
	"curr_hash": "hash_mismatch", "signature": "bad_signature", "accepted_at": "ok", "xact": "ok",
}

func TestAChangeOfAnyHashedColumnIsDetected(t *testing.T) {
	t.Parallel()
	s := setup(t)
	changes := []change{{"nothing", "seq = seq", "ok"}}
	columns := s.columns()
	for _, c := range columns {
		want, isLeftOut := notHashed[c.Name]
		if !isLeftOut {
			want = "hash_mismatch"
		}
		changes = append(changes, change{c.Name, c.Name + " = " + s.another(c), want})
		if !c.NotNull && c.Name != "xact" {
			changes = append(changes, change{c.Name + " null", c.Name + " = null", want})
		}
	}
	if len(columns) != len(span.Columns) || len(columns) < 70 {
		t.Errorf("the table has %d columns, span.Columns %d", len(columns), len(span.Columns))
	}
	s.judge(changes)
}

// Exactly four columns leave the content's hash as it is.
func TestFourColumnsAreNotHashed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var changes []change
	columns := s.columns()
	for _, c := range columns {
		changes = append(changes, change{name: c.Name, set: c.Name + " = " + s.another(c)})
	}
	lines := s.apply(append(changes, change{name: "nothing", set: "seq = seq"}))
	hashes := make([]string, len(lines))
	for i, line := range lines {
		var row span.Span
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		var err error
		if hashes[i], err = row.Hash(); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range columns {
		_, isLeftOut := notHashed[c.Name]
		if isSame := hashes[i] == hashes[len(columns)]; isSame != isLeftOut {
			t.Errorf("column %s: the hash stays: %v, want %v", c.Name, isSame, isLeftOut)
		}
	}
}

// JSON is hashed to its leaves, and only what is the same value may be written in another way.
func TestAChangeDeepInJSONIsDetected(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const deep = "'{list,2,deep,"
	var changes []change
	for _, c := range s.columns() {
		if c.Type != "jsonb" {
			continue
		}
		for _, m := range []change{
			{"a leaf", "jsonb_set(C, " + deep + `leaf}', '"y"')`, ""},
			{"a leaf's case", "jsonb_set(C, " + deep + `leaf}', '"X"')`, ""},
			{"a number", "jsonb_set(C, " + deep + "n}', '2')", ""},
			{"a number by the least", "jsonb_set(C, " + deep + "n}', '1.0000000000000002')", ""},
			{"a number's sign", "jsonb_set(C, '{n}', '-10.5')", ""},
			{"1 to \"1\"", "jsonb_set(C, " + deep + `n}', '"1"')`, ""},
			{"1 to true", "jsonb_set(C, " + deep + "n}', 'true')", ""},
			{"true to false", "jsonb_set(C, " + deep + "t}', 'false')", ""},
			{"true to \"true\"", "jsonb_set(C, " + deep + `t}', '"true"')`, ""},
			{"null to absent", "C #- " + deep + "z}'", ""},
			{"null to false", "jsonb_set(C, " + deep + "z}', 'false')", ""},
			{"null to \"null\"", "jsonb_set(C, " + deep + `z}', '"null"')`, ""},
			{"absent to null", "jsonb_set(C, " + deep + "new}', 'null')", ""},
			{"{} to []", "jsonb_set(C, " + deep + "e}', '[]')", ""},
			{"[] to {}", "jsonb_set(C, " + deep + "a}', '{}')", ""},
			{"[] to [null]", "jsonb_set(C, " + deep + "a}', '[null]')", ""},
			{"{} to null", "jsonb_set(C, " + deep + "e}', 'null')", ""},
			{"a key", `C - 'k' || '{"K":"v"}'`, ""},
			{"a key less", "C - 'k'", ""},
			{"a key of no text", `C || '{"":"v"}'`, ""},
			{"values of two keys", `C || '{"k":"é","u":"v"}'`, ""},
			{"a member moved down", "jsonb_set(C - 'k', " + deep + `k}', '"v"')`, ""},
			{"the order of a list", "jsonb_set(C, '{list}', jsonb_build_array(C #> '{list,1}', C #> '{list,0}'," +
				" C #> '{list,2}'))", ""},
			{"an element more", "jsonb_insert(C, '{list,-1}', 'null', true)", ""},
			{"an element less", "C #- '{list,0}'", ""},
			{"a list around it", "jsonb_set(C, '{list}', jsonb_build_array(C -> 'list'))", ""},
			{"another form of a letter", `jsonb_set(C, '{u}', '"e\u0301"')`, ""},
			{"a space", `jsonb_set(C, '{k}', '"v "')`, ""},
			{"a number that no double is", "jsonb_set(C, '{n}', '9007199254740993')", "refused"},
			{"the same number", "jsonb_set(C, '{n}', '10.500')", "ok"},
			{"the same keys in another order", `'{"u":"é"}'::jsonb || C`, "ok"},
		} {
			if m.want == "" {
				m.want = "hash_mismatch"
			}
			changes = append(changes, change{c.Name + ": " + m.name,
				c.Name + " = " + strings.ReplaceAll(m.set, "C", c.Name), m.want})
		}
	}
	if len(changes) != 6*31 {
		t.Errorf("%d changes, want 31 of each of six columns", len(changes))
	}
	s.judge(changes)
}
