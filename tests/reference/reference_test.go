// Package reference holds docs/reference to what it describes: the pages are written from the catalog of a
// real ledger and from refusals that a real Postgres gives, and are compared here.
//
//	go test ./tests/reference            compares
//	go test ./tests/reference -update    writes them anew (make gen does)
//
// To add a page: a test that builds its text and hands it to golden, and a row in docs/README.md.
package reference

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var update = flag.Bool("update", false, "write docs/reference anew")

// golden compares a page with the file in docs/reference, or writes it there.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", "reference", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	present, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(present) == text {
		return
	}
	is, want := strings.Split(string(present), "\n"), strings.Split(text, "\n")
	for i := range min(len(is), len(want)) {
		if is[i] != want[i] {
			t.Fatalf("docs/reference/%s is stale from line %d on: run make gen\nis   %s\nwant %s", name, i+1, is[i], want[i])
		}
	}
	t.Fatalf("docs/reference/%s is stale: %d lines, want %d: run make gen", name, len(is), len(want))
}

func connect(t *testing.T, db *pgtest.Database) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// page is a Markdown page that is being written.
type page struct {
	t    *testing.T
	conn *pgx.Conn
	strings.Builder
}

func (p *page) put(format string, arguments ...any) { fmt.Fprintf(p, format, arguments...) }

// rows are the rows of a query whose columns are texts.
func (p *page) rows(query string) [][]string {
	p.t.Helper()
	found, err := p.conn.Query(p.t.Context(), query)
	if err != nil {
		p.t.Fatalf("query catalog: %v", err)
	}
	all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) ([]string, error) {
		values, err := row.Values()
		texts := make([]string, len(values))
		for i, value := range values {
			if value != nil {
				texts[i] = strings.ReplaceAll(fmt.Sprint(value), "timestamp with time zone", "timestamptz")
			}
		}
		return texts, err
	})
	if err != nil {
		p.t.Fatalf("read catalog: %v\n%s", err, query)
	}
	return all
}

// table writes a heading row and the rows of a query.
func (p *page) table(heads string, rows [][]string) {
	columns := strings.Split(heads, ",")
	p.put("| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		for i := range row {
			row[i] = cell(row[i])
		}
		p.put("| %s |\n", strings.Join(row, " | "))
	}
	p.put("\n")
}

// cell is a text as it must stand in a table of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ", "*", `\*`).Replace(text)
}

const ledgerHead = `# Reference: the ledger

What is in the database: written by ` + "`make gen`" + ` from the comments and the catalog of a new
ledger (` + "`tests/reference`" + `). Do not edit: mend the comment in ` + "`sql/src`" + `. In psql the same
words come with ` + "`\\d+ ledger.universal_registry`" + ` and ` + "`\\df+ ledger.*`" + `. Refusals are in
[errors.md](errors.md).

`

// schemas are those of the ledger, as a condition on a schema's name.
const schemas = "in ('ledger', 'ledger_private', 'engine')"

func TestLedgerPage(t *testing.T) {
	t.Parallel()
	p := &page{t: t, conn: connect(t, pgtest.New(t))}
	p.put(ledgerHead)
	p.put("## Schemas\n\n")
	p.table("schema,is", p.rows(`select nspname, obj_description(oid, 'pg_namespace') from pg_namespace
		where nspname `+schemas+` order by nspname`))
	p.registry()
	p.views()
	p.functions()
	p.access()
	golden(t, "ledger.md", p.String())
}

// registry tells the one table: its columns, keys, indexes, triggers.
func (p *page) registry() {
	const of = " 'ledger.universal_registry'::regclass"
	about := p.rows("select obj_description(" + of + ", 'pg_class')")[0][0]
	p.put("## Table ledger.universal_registry\n\n%s\n\n", about)
	p.put("What may be left out and is filled by the database says so under null. The limits are those that a\n" +
		"refusal names ([LL017](errors.md#ll017)); besides them one span has at most 1 MiB.\n" +
		"Who usually writes a column is custom, not a rule: a client may put an `output` on a note of its own.\n" +
		"Rules are what *only* one writes, `owner_id`, `tenant_id`, `who`, `metadata.engine`, and by entity_type\n" +
		"who writes it and which status may follow which ([the table](../contract.md#1-versions-and-ids)).\n\n")
	limits := p.limits()
	var rows [][]string
	for _, column := range p.rows(`select a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
			case when not a.attnotnull then '' when a.atthasdef then 'filled' else 'must' end,
			col_description(a.attrelid, a.attnum)
		from pg_attribute a where a.attrelid = ` + of + ` and a.attnum > 0 and not a.attisdropped
		order by a.attnum`) {
		meaning, writer := cutWriter(column[4])
		if writer == "" {
			p.t.Errorf("the comment of column %s names no writer", column[1])
		}
		name := column[1]
		rows = append(rows, []string{column[0], "`" + name + "`", column[2], column[3], meaning,
			strings.Join(limits[name], "; "), writer})
		delete(limits, name)
	}
	for name := range limits {
		p.t.Errorf("a limit is told of %s, which is no column", name)
	}
	p.table("#,column,type,null,meaning,limit,usually written by", rows)

	p.put("### Keys and checks\n\n")
	p.table("name,is,why", p.rows(`select '`+"`"+`' || conname || '`+"`"+`', pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
		from pg_constraint where conrelid = `+of+` and contype <> 'n' order by conname collate "C"`))
	p.put("### Indexes\n\n")
	p.table("name,on,for", p.rows(`select '`+"`"+`' || c.relname || '`+"`"+`',
			regexp_replace(pg_get_indexdef(c.oid), '^.* USING btree ', ''), obj_description(c.oid, 'pg_class')
		from pg_index i join pg_class c on c.oid = i.indexrelid
		where i.indrelid = `+of+` and not i.indisprimary order by c.relname collate "C"`))
	p.put("### Triggers\n\nIn the order in which they fire; always, also under `session_replication_role = replica`.\n\n")
	p.table("name,fires,runs,for", p.rows(`select '`+"`"+`' || tgname || '`+"`"+`',
			lower(substring(pg_get_triggerdef(oid) from '(BEFORE|AFTER) ')) || ' ' || concat_ws(', ',
				case when tgtype & 4 > 0 then 'insert' end, case when tgtype & 16 > 0 then 'update' end,
				case when tgtype & 8 > 0 then 'delete' end, case when tgtype & 32 > 0 then 'truncate' end)
				|| case when tgtype & 1 > 0 then ', each row' else ', each statement' end,
			'`+"`"+`' || tgfoid::regproc || '`+"`"+`', obj_description(oid, 'pg_trigger')
		from pg_trigger where tgrelid = `+of+` and not tgisinternal order by tgname collate "C"`))
}

var writers = regexp.MustCompile(`^(.*) (Usual writer|Only writer|Writer): (.*)\.$`)

// cutWriter splits a column's comment into what the column means and who writes it.
func cutWriter(comment string) (meaning, writer string) {
	parts := writers.FindStringSubmatch(comment)
	if parts == nil {
		return comment, ""
	}
	if parts[2] == "Only writer" {
		parts[3] = "only " + parts[3]
	}
	return parts[1], parts[3]
}

// A client may write what only custom gives to the engine, and nothing that is only the engine's.
func TestWritersAreAsToldOf(t *testing.T) {
	t.Parallel()
	p := &page{t: t, conn: connect(t, pgtest.New(t))}
	samples := map[string]string{"integer": "1", "numeric": "0.5", "jsonb": "'{}'", "uuid": "'" + missing + "'",
		"text": "'" + strings.Repeat("a", 64) + "'", "timestamptz": "'2001-02-03T04:05:06Z'", "xid8": "'1'"}
	tried := map[string]int{}
	for _, column := range p.rows(`select attname, format_type(atttypid, atttypmod),
			col_description(attrelid, attnum)
		from pg_attribute where attrelid = 'ledger.universal_registry'::regclass and attnum > 0
			and not attisdropped`) {
		_, writer := cutWriter(column[2])
		if !strings.HasSuffix(writer, "the engine") && writer != "only the database" {
			continue
		}
		tried[writer]++
		sent := "insert into ledger.universal_registry (entity_type, " + column[0] + ") values ('note', " +
			samples[column[1]] + ") returning " + column[0] + " = " + samples[column[1]]
		var kept bool
		err := p.as("authenticated", ann, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), sent).Scan(&kept)
		})
		var refusal *pgconn.PgError
		switch refused := errors.As(err, &refusal); {
		case err != nil && !refused:
			t.Fatal(err)
		case writer == "only the engine" && (!refused || refusal.Code != "LL009"),
			writer == "the engine" && (refused || !kept), writer == "only the database" && (refused || kept):
			t.Errorf("%s is written by %s; a client's insert: %v, kept %t", column[0], writer, err, kept)
		}
	}
	if tried["only the engine"] < 2 || tried["the engine"] < 5 || tried["only the database"] != 2 {
		t.Errorf("tried %v", tried)
	}
}

var (
	limit = regexp.MustCompile(`'([a-z_]+): ([^']+)'`)
	rule  = regexp.MustCompile(`^(JSON |[0-9a-z])`)
)

// limits are the rules that a refusal names, by column: they stand in the functions as 'column: what it
// may be'.
func (p *page) limits() map[string][]string {
	columns := map[string]bool{}
	for _, row := range p.rows(`select attname from pg_attribute
		where attrelid = 'ledger.universal_registry'::regclass and attnum > 0`) {
		columns[row[0]] = true
	}
	limits := map[string][]string{}
	for _, row := range p.rows(`select prosrc from pg_proc
		where pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
		order by oid::regprocedure::text collate "C"`) {
		for _, match := range limit.FindAllStringSubmatch(row[0], -1) {
			name, text := match[1], match[2]
			if columns[name] && rule.MatchString(text) && !slices.Contains(limits[name], text) {
				limits[name] = append(limits[name], text)
			}
		}
	}
	if len(limits) < 40 {
		p.t.Errorf("only %d columns have a limit: the guards tell them in another form", len(limits))
	}
	return limits
}

func (p *page) views() {
	p.put("## Views\n\nThey obey the rights of whoever reads them (`security_invoker`). Those that have all columns of the\n" +
		"table show `at` as `when`, too.\n\n")
	for _, view := range p.rows(`select c.oid, c.relname, obj_description(c.oid, 'pg_class'), c.reloptions::text
		from pg_class c where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'v' order by c.relname`) {
		p.put("### ledger.%s\n\n%s\n\n", view[1], cell(view[2]))
		own := p.rows(`select '` + "`" + `' || a.attname || '` + "`" + `', format_type(a.atttypid, a.atttypmod),
				col_description(a.attrelid, a.attnum)
			from pg_attribute a where a.attrelid = ` + view[0] + ` and a.attnum > 0 order by a.attnum`)
		if len(own) < 70 {
			p.table("column,type,meaning", own)
		} else {
			p.put("Columns: `when`, then those of the table.\n\n")
		}
	}
}

// functions are told by who may call them.
func (p *page) functions() {
	const all = `select p.oid::regprocedure::text, n.nspname || '.' || p.proname,
			coalesce(pg_get_function_arguments(p.oid), ''), coalesce(pg_get_function_result(p.oid), ''),
			case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end
				|| case when p.prosecdef then ', with the owner''s rights' else '' end,
			coalesce((
				select string_agg(pg_get_userbyid(a.grantee), ', ' order by pg_get_userbyid(a.grantee) collate "C")
				from aclexplode(p.proacl) a where a.grantee <> p.proowner), 'the owner'),
			obj_description(p.oid, 'pg_proc')
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace `
	const named = ` order by n.nspname, p.proname collate "C", p.oid::regprocedure::text collate "C"`
	p.put("## Functions\n\nPostgREST offers those of schema `ledger` with named parameters as `POST /rpc/<name>`.\n\n")
	for _, f := range p.rows(all + `where n.nspname = 'ledger' and p.prorettype <> 'trigger'::regtype` + named) {
		p.put("### %s\n\n```sql\n%s(%s)\nreturns %s\n```\n\n%s\n\nExecuted by %s. %s.\n\n", f[1], f[1], f[2], f[3],
			cell(f[6]), f[5], strings.ToUpper(f[4][:1])+f[4][1:])
	}
	p.put("### Triggers' functions, and those of schema ledger_private\n\nNot exposed, not for clients to call by name.\n\n")
	var rows [][]string
	for _, f := range p.rows(all + `where n.nspname = 'ledger_private' or n.nspname = 'ledger' and
		p.prorettype = 'trigger'::regtype` + named) {
		rows = append(rows, []string{"`" + f[0] + "`", f[6], f[5], f[4]})
	}
	p.table("function,does,executed by,is", rows)
}

// access tells grants, policies and the publication.
func (p *page) access() {
	p.put("## Rights\n\nWho may do what with which span, cell by cell: " +
		"[matrix.txt](../../tests/sqlrules/testdata/matrix.txt). The owner has every right and no UPDATE, DELETE or\n" +
		"TRUNCATE: those are refused by triggers.\n\n### Grants\n\n")
	p.table("on,who,may", p.rows(`
		select object, string_agg(role, ', ' order by role collate "C"), may
		from (
			select 'schema ' || n.nspname as object, pg_get_userbyid(a.grantee)::text as role,
				lower(string_agg(a.privilege_type, ', ' order by a.privilege_type)) as may
			from pg_namespace n, aclexplode(n.nspacl) a where n.nspname `+schemas+` and a.grantee <> n.nspowner
			group by 1, 2
			union all
			select c.relnamespace::regnamespace || '.' || c.relname, pg_get_userbyid(a.grantee)::text,
				lower(string_agg(a.privilege_type, ', ' order by a.privilege_type))
			from pg_class c, aclexplode(c.relacl) a where c.relnamespace::regnamespace::text `+schemas+`
				and a.grantee <> c.relowner group by 1, 2
		) as granted group by object, may order by object collate "C", may collate "C"`))
	p.put("### Policies\n\nRow level security is on, and forced on the owner.\n\n")
	p.table("policy,role,for,is", p.rows(`select '`+"`"+`' || p.polname || '`+"`"+`',
			case when p.polroles = array[c.relowner] then 'the owner' else (
				select string_agg(pg_get_userbyid(r), ', ') from unnest(p.polroles) r) end,
			case p.polcmd when 'r' then 'select' when 'a' then 'insert' else p.polcmd::text end,
			obj_description(p.oid, 'pg_policy')
		from pg_policy p join pg_class c on c.oid = p.polrelid where c.relnamespace = 'ledger'::regnamespace
		order by p.polname collate "C"`))
	p.put("## Publication loglineos\n\n%s\n\nColumns: %s.\n",
		p.rows("select obj_description(oid, 'pg_publication') from pg_publication where pubname = 'loglineos'")[0][0],
		p.rows("select array_to_string(attnames, ', ') from pg_publication_tables where pubname = 'loglineos'")[0][0])
}
