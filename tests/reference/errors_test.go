package reference

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

// code is one constant of sidecar/span/code.go with the comment at its end.
type code struct{ name, value, meaning string }

// codes are the constants of a type of code.go, in their order.
func codes(t *testing.T, ofType string) []code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../sidecar/span/code.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var found []code
	ast.Inspect(file, func(node ast.Node) bool {
		constant, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := constant.Type.(*ast.Ident); !ok || name.Name != ofType {
			return true
		}
		value, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		meaning := strings.TrimSpace(constant.Comment.Text())
		if meaning == "" {
			t.Errorf("%s has no comment at its end that says when", constant.Names[0].Name)
		}
		found = append(found, code{constant.Names[0].Name, value, meaning})
		return true
	})
	return found
}

// Who is refused in the examples.
const (
	ann      = `{"sub":"ann","role":"authenticated","app_metadata":{"tenant_id":"acme"}}`
	nobody   = `{"role":"authenticated"}`
	anns     = "0193b2a4-0000-7000-8000-000000000001" // a note of hers, with a hash
	missing  = "0193b2a4-0000-7000-8000-00000000ffff"
	runs     = "0193b2a4-0000-7000-8000-000000000002" // a request of hers
	function = "0193b2a4-0000-7000-8000-000000000003"
)

// example is one refusal: a statement, and who sends it.
type example struct {
	what   string // in the words of the page
	role   string
	claims string
	sent   string // a statement, or the columns of an insert as SQL: name = value, …
	before string // what the owner does first
}

// client is an example of ann's.
func client(what, sent string) example { return example{what, "authenticated", ann, sent, ""} }

// owner is an example of the owner's.
func owner(what, before, sent string) example { return example{what, "none", "", sent, before} }

// backend is an example of service_role's.
func backend(what, sent string) example { return example{what, "service_role", "", sent, ""} }

// noHash has the form of a hash and is the hash of nothing.
const noHash = "'0000000000000000000000000000000000000000000000000000000000000000'"

// examples are what provokes each refusal; several where a code has several messages.
var examples = map[span.Code][]example{
	span.CodeAppendOnly: {
		owner("the owner updates a row", "", "update ledger.universal_registry set name = 'x'"),
		owner("the owner truncates the table", "", "truncate ledger.universal_registry"),
	},
	span.CodeNoPrevious: {client("the next version of a span that is not there, or is another user's",
		"id = '"+missing+"', seq = 1, entity_type = 'note'")},
	span.CodeTransition: {
		client("a function that begins archived", "entity_type = 'function', status = 'archived'"),
		client("a status that is none of a function's",
			"id = '"+function+"', seq = 1, entity_type = 'function', status = 'broken'"),
		client("a user ends a request",
			"id = '"+runs+"', seq = 1, entity_type = 'request', status = 'complete'"),
	},
	span.CodeWriter: {
		client("a user appends an execution", "entity_type = 'execution'"),
		client("a user appends a manifest", "entity_type = 'manifest', status = 'active'"),
	},
	span.CodeNoIdentity: {
		{"a token without user", "authenticated", nobody, "entity_type = 'note'", ""},
		backend("a backend that does not say for whom", "entity_type = 'note'"),
		backend("a backend that says it in metadata only, through ledger.append",
			`select * from ledger.append('{"entity_type": "note", "metadata": {"tenant_id": "acme"}}')`),
	},
	span.CodeNotOwner: {
		client("another user's owner_id", "entity_type = 'note', owner_id = 'bob'"),
		client("another tenant in metadata, through ledger.append",
			`select * from ledger.append('{"entity_type": "note", "metadata": {"tenant_id": "globex"}}')`),
	},
	span.CodeReservedID: {client("a system id",
		"entity_type = 'note', id = '00000000-0000-4000-8000-000000000001'")},
	span.CodeReservedWho: {client("a user who speaks as a kernel",
		"entity_type = 'note', who = 'kernel:run_code'")},
	span.CodeReservedEngine: {client("metadata of the engine",
		`entity_type = 'note', metadata = '{"engine":{}}'`)},
	span.CodeVisibility: {client("a public span", "entity_type = 'note', visibility = 'public'")},
	span.CodeEventTime:  {client("an old time", "entity_type = 'note', at = '2001-02-03T04:05:06Z'")},
	span.CodeConflict: {client("another content for a version that is there",
		`select * from ledger.append('{"id": "`+anns+`", "entity_type": "note", "name": "another"}')`)},
	span.CodeIdentityChange: {{"the engine gives a span another owner", "loglineos_sidecar", "",
		"id = '" + anns + "', seq = 1, entity_type = 'note', owner_id = 'bob', tenant_id = 'acme', " +
			"who = 'kernel:x'", ""}},
	span.CodePrevHash: {client("a version on another one",
		"id = '"+anns+"', seq = 1, entity_type = 'note', prev_hash = "+noHash)},
	span.CodeNotCallable: {client("a request for no function",
		"entity_type = 'request', status = 'scheduled', parent_id = '"+missing+"'")},
	span.CodeUnstated: {client("a hash, and no id", "entity_type = 'note', curr_hash = "+noHash)},
	span.CodeBadSpan: {
		client("a word that is none", "entity_type = 'Note'"),
		client("an infinite time", "entity_type = 'note', ttl_at = 'infinity'"),
		client("a column that there is not, through ledger.append",
			`select * from ledger.append('{"entity_type": "note", "title": "x"}')`),
		client("two words for one column that contradict each other, through ledger.append",
			`select * from ledger.append('{"entity_type": "note", "tenant_id": "acme", "metadata": {"tenant_id": "x"}}')`),
		client("a time without its offset, through ledger.append",
			`select * from ledger.append('{"entity_type": "note", "ttl_at": "2030-01-02T03:04:05"}')`),
		client("a batch that is no array", `select * from ledger.append_batch('{"entity_type": "note"}')`),
		client("a span over 1 MiB", `select * from ledger.append(jsonb_build_object('entity_type', 'note', 'content', `+
			`repeat('x', 1048576)))`),
		client("a page of as_of that is too long", "select * from ledger.as_of(now(), p_limit => 2000)"),
		backend("a backend that asks as_of for every tenant", "select * from ledger.as_of(now())"),
	},
	span.CodeImport: {
		owner("an import is ended that was not begun", "", "select ledger.import_end()"),
		owner("an import is begun twice", "select ledger.import_begin()", "select ledger.import_begin()"),
		{"somebody writes meanwhile", "authenticated", ann, "entity_type = 'note'", "select ledger.import_begin()"},
		owner("a version is missing", imported("id, seq", "'"+missing+"', 1"), "select ledger.import_end()"),
		owner("a row is malformed by the rules of today", imported("id, seq, status", "'"+missing+"', 0, 'not so'"),
			"select ledger.import_end()"),
	},
}

// imported opens the door and lets one row in.
func imported(columns, values string) string {
	return "select ledger.import_begin(); insert into ledger.universal_registry (" + columns + ", xact, entity_type, who, at," +
		" accepted_at, owner_id, tenant_id, visibility, is_deleted) values (" + values +
		", pg_current_xact_id(), 'note', 'user:ann', now(), now(), 'ann', 'acme', 'private', false)"
}

// insert is the statement of "name = value, name = value".
func insert(sent string) string {
	if first, _, _ := strings.Cut(sent, " "); slices.Contains([]string{"select", "update", "truncate"}, first) {
		return sent
	}
	var columns, values []string
	for _, pair := range strings.Split(sent, ", ") {
		column, value, _ := strings.Cut(pair, " = ")
		columns, values = append(columns, column), append(values, value)
	}
	return fmt.Sprintf("insert into ledger.universal_registry (%s) values (%s)", strings.Join(columns, ", "),
		strings.Join(values, ", "))
}

const actAs = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)"

// as does something in one transaction as somebody, and keeps it.
func (p *page) as(role, claims string, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(p.t.Context(), p.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(p.t.Context(), actAs, role, claims); err != nil {
			return err
		}
		return do(tx)
	})
}

// provoke sends an example, takes it back, and returns the refusal.
func (p *page) provoke(e example) *pgconn.PgError {
	p.t.Helper()
	ctx := p.t.Context()
	tx, err := p.conn.Begin(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if err := tx.Conn().PgConn().Exec(ctx, e.before).Close(); err != nil {
		p.t.Fatalf("%s: before: %v", e.what, err)
	}
	if _, err := tx.Exec(ctx, actAs, e.role, e.claims); err != nil {
		p.t.Fatal(err)
	}
	_, err = tx.Exec(ctx, insert(e.sent))
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		p.t.Fatalf("%s: got %v, want a refusal", e.what, err)
	}
	return refusal
}

func (p *page) run(statement string, arguments ...any) {
	p.t.Helper()
	if _, err := p.conn.Exec(p.t.Context(), statement, arguments...); err != nil {
		p.t.Fatalf("run %.80q: %v", statement, err)
	}
}

const errorsHead = `# Reference: refusals

Written by ` + "`make gen`" + ` (` + "`tests/reference`" + `): each message and hint is what a Postgres really said. The list of codes
is ` + "`sidecar/span/code.go`" + `. Do not edit.

A refusal has a code (SQLSTATE), a message that says what is wrong, and a hint that says what to do. Go by the
code; the words may get better. The Data API gives them as a JSON body, and supabase-js as ` + "`error`" + `:

` + "```json" + `
%s
` + "```" + `

## HTTP status

PostgREST makes the status from the code
([its table](https://docs.postgrest.org/en/stable/references/errors.html)):

| code | status | what it is, and what to do |
|---|---|---|
| ` + "`LL001`" + ` to ` + "`LL018`" + ` | 400 | refused by a rule of the ledger: below |
| ` + "`23505`" + ` | 409 | that (id, seq) is taken. With ` + "`LL012`" + ` in details: by something else. Read the newest version, append after it |
| ` + "`42501`" + ` | 403; 401 without a token | this role may not do that at all, such as to update, or to append as anon |
| ` + "`22P02`, `22007`, `22008`" + ` | 400 | a value is not of its column's type: not a UUID, a time or JSON |
| ` + "`22003`" + ` | 400 | a number is out of its column's range, such as 2147483648 for seq |
| ` + "`22P05`, `22021`" + ` | 400 | text that Postgres can not hold: a NUL, or bytes that are no UTF-8 |
| ` + "`57014`" + ` | 500 | the statement took longer than the role may (Supabase: anon 3 s, authenticated 8 s): ask for less |
| ` + "`40001`, `40P01`" + ` | 500 | a conflict between transactions; nothing was written: send it again |
| ` + "`PGRST106`" + ` | 406 | the schema ledger is not exposed: add it to the API's schemas |
| ` + "`PGRST116`" + ` | 406 | single() met no row, or several: use maybeSingle(), or a limit |
| ` + "`PGRST202`" + ` | 404 | no such function with these parameters: append takes p_span, append_batch p_spans |
| ` + "`PGRST204`" + ` | 400 | no such column: what has none goes into metadata |
| ` + "`PGRST205`" + ` | 404 | no such table or view in the schema: send the header Content-Profile or Accept-Profile |
| ` + "`PGRST301`, `PGRST303`" + ` | 401 | the token does not verify, or has expired |

## Refusals of the ledger

`

func TestErrorsPage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := &page{t: t, conn: connect(t, db)}
	p.run("set timezone = 'UTC'")
	p.seed()
	all := codes(t, "Code")
	body := p.provoke(examples[span.CodeVisibility][0])
	p.put(errorsHead, fmt.Sprintf(`{"code": %q, "message": %q, "hint": %q, "details": null}`, body.Code,
		body.Message, body.Hint))
	for _, c := range all {
		p.put("- [`%s`](#%s) %s\n", c.value, strings.ToLower(c.value), c.meaning)
	}
	for _, c := range all {
		p.put("\n### %s\n\n`span.%s`: %s.\n\n", c.value, c.name, c.meaning)
		p.refusals(c, examples[span.Code(c.value)])
		if c.value == string(span.CodeImport) {
			// A session by a sidecar's name is what the door takes for one.
			attached := connect(t, db)
			if _, err := attached.Exec(t.Context(), "set application_name = 'loglineos'"); err != nil {
				t.Fatal(err)
			}
			p.refusals(c, []example{owner("an import beside a sidecar", "", "select ledger.import_begin()")})
		}
	}
	p.put("\n## Errors of a run\n\nA run that does not complete has `error = {code, message, line?, column?}` on its execution and on\n" +
		"its request (`span.RunCode`).\n\n")
	var rows [][]string
	for _, c := range codes(t, "RunCode") {
		rows = append(rows, []string{"`" + c.value + "`", "`" + c.name + "`", c.meaning})
	}
	p.table("code,in Go,when", rows)
	golden(t, "errors.md", strings.TrimRight(p.String(), "\n")+"\n")
}

// moment is what differs from run to run: a time, a process.
var moment = regexp.MustCompile(`(open since|\(pid) [^ )]+`)

// refusals writes what is said for each example of a code.
func (p *page) refusals(c code, given []example) {
	if len(given) == 0 {
		p.t.Errorf("%s has no example", c.name)
	}
	for _, e := range given {
		refusal := p.provoke(e)
		if refusal.Code != c.value && !strings.HasPrefix(refusal.Detail, c.value) {
			p.t.Errorf("%s: got %s %s, want %s", e.what, refusal.Code, refusal.Message, c.value)
		}
		if refusal.Message == "" || refusal.Hint == "" {
			p.t.Errorf("%s: message %q, hint %q; want both", e.what, refusal.Message, refusal.Hint)
		}
		sent := e.sent
		if e.before != "" {
			sent = e.before + ";\n" + e.sent
		}
		p.put("%s:\n\n```text\n%s\n\n%s: %s\n", strings.ToUpper(e.what[:1])+e.what[1:], sent, refusal.Code,
			moment.ReplaceAllString(refusal.Message, "$1 …"))
		if refusal.Detail != "" {
			p.put("detail: %s\n", refusal.Detail)
		}
		p.put("hint: %s\n```\n\n", refusal.Hint)
	}
}

// seed appends what the examples need: two spans and a request of ann's.
func (p *page) seed() {
	as := func(statement string, arguments ...any) {
		err := p.as("authenticated", ann, func(tx pgx.Tx) error {
			_, err := tx.Exec(p.t.Context(), statement, arguments...)
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	as(`insert into ledger.universal_registry (id, seq, entity_type, who, at, owner_id, tenant_id, visibility, is_deleted,
		curr_hash) values ($1, 0, 'note', 'user:ann', now(), 'ann', 'acme', 'private', false, $2)`, anns,
		strings.Repeat("1", 64))
	as("insert into ledger.universal_registry (id, entity_type, status) values ($1, 'function', 'active')", function)
	as("insert into ledger.universal_registry (id, entity_type, status, parent_id) values ($1, 'request', 'scheduled', $2)",
		runs, function)
}

// Every code of Go is in the page, and an example is of a code that Go knows.
func TestExamplesAreOfKnownCodes(t *testing.T) {
	t.Parallel()
	known := codes(t, "Code")
	for given := range examples {
		if !slices.ContainsFunc(known, func(c code) bool { return c.value == string(given) }) {
			t.Errorf("%s is no code of span", given)
		}
	}
}
