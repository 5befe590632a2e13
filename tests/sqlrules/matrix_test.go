package sqlrules

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The matrix states for every party, type and visibility whether a span can be read, appended, followed
// and called. What must be is written here by the words of docs/contract.md §1 and §2; what is, a
// Postgres says; the grid that a reader can judge stands in testdata/matrix.txt (go test -run Matrix
// -update writes it anew).

var updateGolden = flag.Bool("update", false, "write the golden files of testdata anew")

const matrixFile = "testdata/matrix.txt"

// party is a column of the matrix.
type party struct {
	name string
	who  actor
	// owns is the user whose spans the party meets, where they are not the system's.
	owns string
	// For whom it appends: what the claims say, or what it states.
	user, tenant string
	states       bool
	about        string
}

// parties are the columns, in their order.
var parties = []party{
	{name: "anon", who: anon, owns: "alice", about: "nobody signed in"},
	{name: "noclaims", who: nobody, owns: "alice", about: "authenticated by a token that names no user"},
	{name: "owner", who: alice, owns: "alice", user: "alice", tenant: "t1",
		about: "authenticated, the span is its own"},
	{name: "publish", who: user("pat", "t1"), owns: "pat", user: "pat", tenant: "t1",
		about: "as owner, with a manifest's grant of visibility:public"},
	{name: "mate", who: ann, owns: "alice", user: "ann", tenant: "t1",
		about: "authenticated, another user of the same tenant"},
	{name: "foreign", who: bob, owns: "alice", user: "bob", tenant: "t2",
		about: "authenticated, a user of another tenant"},
	{name: "govern", who: governor, owns: "grace", user: "grace", tenant: "t1",
		about: "authenticated with the governing right, the span is its own"},
	{name: "govmate", who: governor, owns: "alice", user: "grace", tenant: "t1",
		about: "the same governor, the span is another user's of its tenant"},
	{name: "service", who: service, owns: "alice", user: "alice", tenant: "t1", states: true,
		about: "service_role, stating the span's owner"},
	{name: "sidecar", who: engine, owns: "alice", user: "alice", tenant: "t1", states: true,
		about: "loglineos_sidecar, stating the span's owner"},
	{name: "kernel", who: kernelFor("alice", "t1"), owns: "alice",
		about: "loglineos_kernel on behalf of the owner"},
	{name: "kforeign", who: kernelFor("bob", "t2"), owns: "alice",
		about: "loglineos_kernel on behalf of a user of another tenant"},
	{name: "dbowner", who: owner, owns: "alice", user: "alice", tenant: "t1", states: true,
		about: "the login that owns the ledger, stating the span's owner"},
}

// kind is a type of span, of a user or of the system.
type kind struct {
	entity string
	system bool
}

func (k kind) String() string {
	if k.system {
		return "system:" + k.entity
	}
	return k.entity
}

// written are the types of contract §1 that the engine alone writes.
var written = []string{"execution", "boot_event", "policy_cursor", "policy_error", "policy_violation",
	"checkpoint", "incident", "epoch", "metric", "status_patch", "provider_execution"}

func kinds() []kind {
	var all []kind
	for _, entity := range slices.Concat([]string{"manifest", "key", "function", "provider", "policy",
		"prompt_block", "request", "note"}, written) {
		all = append(all, kind{entity, false})
	}
	for _, entity := range []string{"manifest", "key", "function", "provider", "policy", "request", "incident",
		"note"} {
		all = append(all, kind{entity, true})
	}
	return all
}

var visibilities = []string{"private", "tenant", "public"}

// owner is whom the span of this kind belongs to that p meets.
func (k kind) owner(p party) (user, tenant string) {
	if k.system {
		return "system", "system"
	}
	return p.owns, "t1"
}

// status is one that version 0 of the kind may have, and that a later version by p may have.
func (k kind) status(p party, seq int) any {
	switch k.entity {
	case "manifest", "key", "function", "provider", "policy", "prompt_block":
		return "active"
	case "request":
		if seq == 0 {
			return "scheduled"
		}
		if p.name == "sidecar" {
			return "running"
		}
		return "cancel_requested"
	}
	return nil
}

// What must be: the contract's words.

func (p party) isClient() bool { return p.who.role == "authenticated" }
func (p party) isGovernor() bool {
	return p.name == "govern" || p.name == "govmate" || p.name == "dbowner"
}
func (p party) readsOnly() bool { return p.who.role == "anon" || p.who.role == "loglineos_kernel" }

// "own rows; tenant rows of the same tenant; public rows"; anon nothing; backend, engine and owner all.
func mayRead(p party, k kind, visibility string) bool {
	switch p.name {
	case "anon", "noclaims":
		return false
	case "service", "sidecar", "dbowner":
		return true
	}
	if visibility == "public" {
		return true
	}
	if k.system {
		return false
	}
	switch p.name {
	case "owner", "publish", "govern", "kernel":
		return true
	case "mate", "govmate":
		return visibility == "tenant"
	}
	return false
}

// The table of §1, second column: who may write this type, once it is settled for whom.
func mayWriteType(p party, k kind) bool {
	switch {
	case slices.Contains(written, k.entity):
		return p.name == "sidecar"
	case k.entity == "manifest" || k.entity == "key",
		k.system && (k.entity == "function" || k.entity == "policy" || k.entity == "provider"):
		return p.isGovernor()
	}
	return true
}

// "public needs the governing right or a manifest grant"; the engine takes it from the cause.
func mayPublishAs(p party) bool { return p.isGovernor() || p.name == "publish" || p.name == "sidecar" }

// Stated for the owner of the span: identity first, then type, then visibility. What the engine writes is
// refused as such for the system, too.
func wantInsert(p party, k kind, visibility string) string {
	user, tenant := k.owner(p)
	switch {
	case p.readsOnly():
		return "42501"
	case p.name == "noclaims":
		return "LL005"
	case k.system && slices.Contains(written, k.entity) && p.name != "sidecar":
		return "LL004"
	case k.system && !p.isGovernor() && p.name != "sidecar",
		!k.system && p.isClient() && (user != p.user || tenant != p.tenant):
		return "LL006"
	case !mayWriteType(p, k):
		return "LL004"
	case visibility == "public" && !mayPublishAs(p):
		return "LL010"
	}
	return "ok"
}

// Clients append as themselves (a governor as the system to what is the system's): a span that is not
// theirs is not there.
func wantVersion(p party, k kind, visibility string) string {
	user, tenant := k.owner(p)
	asSystem := k.system && (p.isGovernor() || p.states)
	switch {
	case p.readsOnly():
		return "42501"
	case p.name == "noclaims":
		return "LL005"
	case slices.Contains(written, k.entity) && p.name != "sidecar":
		return "LL004"
	case asSystem && p.name == "service":
		return "LL006"
	case !asSystem && slices.Contains([]string{"manifest", "key"}, k.entity) && !p.isGovernor(),
		(asSystem || !k.system) && !mayWriteType(p, k):
		return "LL004"
	case visibility == "public" && !mayPublishAs(p):
		return "LL010"
	case p.isClient() && !asSystem && (user != p.user || tenant != p.tenant):
		return "LL002"
	case slices.Contains(written, k.entity) && k.entity != "metric":
		return "LL003" // one version
	}
	return "ok"
}

// "a function's visibility says who may read and call it". A backend calls in somebody's name, and can not
// call what that one could not.
func wantCall(p, caller party, k kind, visibility string) string {
	switch {
	case p.readsOnly():
		return "42501"
	case p.name == "noclaims":
		return "LL005"
	case p.name == "sidecar", mayRead(caller, k, visibility):
		return "ok"
	}
	return "LL015"
}

// caller is the party in whose name p calls: itself, or the one called name where p states that.
func caller(p party, name string) party {
	if !p.states {
		return p
	}
	return parties[slices.IndexFunc(parties, func(other party) bool { return other.name == name })]
}

// What is.

type matrix struct {
	*ledger
	tx pgx.Tx
}

// spanID is the id of the span of kind and visibility that belongs to user.
func spanID(number int, visibility, user string) string {
	return fmt.Sprintf("b0000000-0000-4000-9000-%02d%02d%08d", slices.Index(visibilities, visibility),
		slices.Index([]string{"alice", "pat", "grace", "system"}, user), number)
}

// seed puts one version 0 of each kind, owner and visibility behind the guards' backs.
func (m *matrix) seed() {
	m.t.Helper()
	m.given(owner, manifest(0, `{"grants":{"user:pat":["visibility:public"]}}`)...)
	run(m.t, m.conn, "alter table ledger.universal_registry disable trigger all")
	for number, k := range kinds() {
		for _, visibility := range visibilities {
			users, tenant := []string{"alice", "pat", "grace"}, "t1"
			if k.system {
				users, tenant = []string{"system"}, "system"
			}
			for _, user := range users {
				statement, values := insert([]any{"id", spanID(number, visibility, user), "seq", 0,
					"entity_type", k.entity, "who", "client:seed", "at", "2026-01-01T00:00:00Z", "xact", "3",
					"accepted_at", "2026-01-01T00:00:00Z", "owner_id", user, "tenant_id", tenant,
					"visibility", visibility, "is_deleted", false, "status", k.status(party{}, 0),
					"parent_id", m.parent(k)})
				run(m.t, m.conn, statement, values...)
			}
		}
	}
	run(m.t, m.conn, `do $$ declare v_name name; begin
		for v_name in select tgname from pg_trigger where tgrelid = 'ledger.universal_registry'::regclass loop
			execute format('alter table ledger.universal_registry enable always trigger %I', v_name);
		end loop; end $$`)
}

// parent is the function that a request of the matrix calls: a public one of the system.
func (m *matrix) parent(k kind) any {
	if k.entity != "request" {
		return nil
	}
	return spanID(slices.Index(kinds(), kind{"function", true}), "public", "system")
}

// as runs then in one transaction as p, which is rolled back.
func (m *matrix) as(p party, then func()) {
	undone := errors.New("rolled back")
	err := m.in(p.who, func(tx pgx.Tx) error {
		m.tx = tx
		then()
		return undone
	})
	if !errors.Is(err, undone) {
		m.t.Fatalf("as %s: %v", p.name, err)
	}
}

// try inserts and takes it back, and returns ok or the SQLSTATE.
func (m *matrix) try(pairs ...any) string {
	statement, values := insert(pairs)
	ctx := m.t.Context()
	inner, err := m.tx.Begin(ctx)
	if err != nil {
		m.t.Fatalf("begin: %v", err)
	}
	_, err = inner.Exec(ctx, statement, values...)
	if undo := inner.Rollback(context.WithoutCancel(ctx)); undo != nil {
		m.t.Fatalf("roll back: %v", undo)
	}
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refusal):
		return refusal.Code
	}
	m.t.Fatalf("insert: %v", err)
	return ""
}

// seen is the set of ids that the party reads through a relation.
func (m *matrix) seen(relation string) map[string]bool {
	rows, err := m.tx.Query(m.t.Context(), "select id::text from ledger."+relation)
	if err != nil {
		m.t.Fatalf("read %s: %v", relation, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		m.t.Fatalf("read %s: %v", relation, err)
	}
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func (m *matrix) insert(p party, k kind, visibility string) string {
	user, tenant := k.owner(p)
	return m.try("entity_type", k.entity, "who", "client:x", "status", k.status(p, 0), "visibility", visibility,
		"owner_id", user, "tenant_id", tenant, "parent_id", m.parent(k))
}

func (m *matrix) version(p party, number int, k kind, visibility string) string {
	user, tenant := k.owner(p)
	pairs := []any{"id", spanID(number, visibility, user), "seq", 1, "entity_type", k.entity, "who", "client:x",
		"status", k.status(p, 1), "visibility", visibility}
	if p.states || k.system && p.isGovernor() {
		pairs = append(pairs, "owner_id", user, "tenant_id", tenant)
	}
	return m.try(pairs...)
}

func (m *matrix) call(p, caller party, number int, k kind, visibility string) string {
	user, _ := k.owner(p)
	pairs := []any{"entity_type", "request", "status", "scheduled", "who", "client:x",
		"parent_id", spanID(number, visibility, user)}
	if p.states {
		pairs = append(pairs, "owner_id", caller.user, "tenant_id", caller.tenant)
	}
	return m.try(pairs...)
}

// grid is one part of the matrix: a cell for each row (visibility, kind) and party.
type grid struct {
	title string
	cells map[string]map[kind][]string // by visibility, in the order of parties
}

func newGrid(title string) *grid {
	g := &grid{title: title, cells: map[string]map[kind][]string{}}
	for _, visibility := range visibilities {
		g.cells[visibility] = map[kind][]string{}
	}
	return g
}

func (g *grid) put(t testing.TB, p party, k kind, visibility, got, want string) {
	if got != want {
		t.Errorf("%s: %s, %s %s: got %s, the contract says %s", g.title, p.name, visibility, k, got, want)
	}
	g.cells[visibility][k] = append(g.cells[visibility][k], got)
}

// String prints kinds with the same cells as one line.
func (g *grid) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s\n\n%-9s", g.title, "")
	for _, p := range parties {
		fmt.Fprintf(&text, "%-9s", p.name)
	}
	text.WriteString("types\n")
	for _, visibility := range visibilities {
		var lines []string
		named := map[string][]string{}
		for _, k := range kinds() {
			cells, found := g.cells[visibility][k]
			if !found {
				continue
			}
			line := ""
			for _, cell := range cells {
				line += fmt.Sprintf("%-9s", cell)
			}
			if named[line] == nil {
				lines = append(lines, line)
			}
			named[line] = append(named[line], k.String())
		}
		for _, line := range lines {
			fmt.Fprintf(&text, "%-9s%s%s\n", visibility, line, strings.Join(named[line], " "))
		}
	}
	return text.String()
}

const matrixHead = `Who may do what with which span: written by TestMatrix (go test ./tests/sqlrules -run Matrix -update) from
what a Postgres does, and held against the rules of docs/contract.md §1 and §2. A line stands for all types
that are named at its end; system: is a span of owner and tenant system.

`

func TestMatrix(t *testing.T) {
	t.Parallel()
	m := &matrix{ledger: setup(t)}
	m.seed()
	read := newGrid("Read: T the table, V visible_timeline, H history")
	insert := newGrid("Append version 0, for the owner of the line's span")
	version := newGrid("Append the next version, clients as themselves, a governor as the system to the system's")
	callAsOwner := newGrid("Call: append a request for that function, clients as themselves, the rest for owner")
	callAsForeign := newGrid("Call: the same, the rest for foreign")
	for _, p := range parties {
		m.as(p, func() {
			relations := []map[string]bool{m.seen("universal_registry"), m.seen("visible_timeline"), m.seen("history")}
			for number, k := range kinds() {
				for _, visibility := range visibilities {
					user, _ := k.owner(p)
					got, want := "", "---"
					for i, letter := range "TVH" {
						if relations[i][spanID(number, visibility, user)] {
							got += string(letter)
						} else {
							got += "-"
						}
					}
					if mayRead(p, k, visibility) {
						want = "TVH"
					}
					read.put(t, p, k, visibility, got, want)
					insert.put(t, p, k, visibility, m.insert(p, k, visibility), wantInsert(p, k, visibility))
					version.put(t, p, k, visibility, m.version(p, number, k, visibility), wantVersion(p, k, visibility))
					if k.entity != "function" {
						continue
					}
					for name, g := range map[string]*grid{"owner": callAsOwner, "foreign": callAsForeign} {
						c := caller(p, name)
						g.put(t, p, k, visibility, m.call(p, c, number, k, visibility), wantCall(p, c, k, visibility))
					}
				}
			}
		})
	}
	text := matrixHead
	for _, p := range parties {
		text += fmt.Sprintf("%-9s%s\n", p.name, p.about)
	}
	for _, g := range []*grid{read, insert, version, callAsOwner, callAsForeign} {
		text += g.String()
	}
	compareGolden(t, matrixFile, text)
}

// compareGolden holds text against the file, or writes the file where -update is given.
func compareGolden(t *testing.T, file, text string) {
	t.Helper()
	if *updateGolden {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != text {
		t.Errorf("%s is stale: read the difference, then run go test . -run %s -update\n%s", file, t.Name(), text)
	}
}
