package supabase_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/platform"
)

const page = "docs/clients.md"

var uuid = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)

// check compares what the blocks of a language printed, one part for each, with what the page shows.
func check(t *testing.T, all []pages.Block, language, printed string) {
	t.Helper()
	parts := strings.Split(printed, "\x1e\n")[1:]
	place := 0
	for _, b := range all {
		if b.Language != language {
			continue
		}
		if place == len(parts) {
			t.Errorf("%s:%d and what follows it did not run", page, b.Line)
			return
		}
		got := parts[place]
		place++
		if !strings.Contains(b.Shows, aliceID) {
			got = uuid.ReplaceAllString(got, "<id>")
		}
		if strings.TrimSpace(got) != strings.TrimSpace(b.Shows) {
			t.Errorf("%s:%d prints\n%s\nthe page shows\n%s", page, b.Line, got, b.Shows)
		}
	}
}

// script joins the blocks of a language, each behind a line that prints the separator.
func script(all []pages.Block, language, separator string) string {
	var text strings.Builder
	for _, b := range all {
		if b.Language == language {
			text.WriteString(separator + "\n" + b.Text + "\n")
		}
	}
	return text.String()
}

// The page is run as it stands: SQL by postgres, JavaScript and TypeScript by node, shell by bash.
func TestClients(t *testing.T) {
	t.Parallel()
	node.Tool(t, "supabase")
	p := pushed(t)
	all := pages.Marked(t, "docs/clients.md").All()
	platform.Run(t, platform.Connect(t, p.AdminURL), `insert into auth.users (id, email) values
		('`+aliceID+`', 'alice@example.com'), ('`+carol["sub"].(string)+`', 'carol@example.com')`)
	platform.Run(t, p.conn, script(all, "sql", ";"))
	p.operate()
	a := p.serve()
	env := []string{"SUPABASE_URL=" + a.url, "SUPABASE_KEY=sb_publishable_of_the_tests",
		"ALICE_TOKEN=" + platform.Token(t, alice), "SERVICE_TOKEN=" + platform.Token(t, service)}

	t.Run("JavaScript", func(t *testing.T) {
		path := filepath.Join(nodeFolder(t), "page.mjs")
		save(t, path, script(all, "js", `console.log("\x1e")`))
		r := command(t, "", env, "node", path)
		check(t, all, "js", r.stdout)
		if r.code != 0 {
			t.Errorf("node: %s", r)
		}
	})
	t.Run("Shell", func(t *testing.T) {
		r := command(t, "set -euo pipefail\n"+script(all, "sh", `printf '\036\n'`), env, "bash")
		check(t, all, "sh", r.stdout)
		if r.code != 0 {
			t.Errorf("bash: %s", r)
		}
	})
	t.Run("TypeScript", func(t *testing.T) {
		dir := nodeFolder(t)
		save(t, filepath.Join(dir, "page.mts"), script(all, "ts", `console.log("\x1e")`))
		tsc := command(t, "", nil, node.Tool(t, "tsc"), "--strict", "--target", "es2022", "--module", "nodenext",
			"--lib", "es2022,dom", "--rewriteRelativeImportExtensions", "--skipLibCheck", "--noUnusedLocals",
			filepath.Join(dir, "page.mts"), filepath.Join(dir, "node.d.ts"))
		if tsc.code != 0 {
			t.Fatalf("tsc: %s", tsc)
		}
		r := command(t, "", env, "node", filepath.Join(dir, "page.mjs"))
		check(t, all, "ts", r.stdout)
	})
	t.Run("Refusals", func(t *testing.T) { wantRefusals(t, a) })
	t.Run("Strangers", func(t *testing.T) { wantNothingForStrangers(t, a) })
	t.Run("Realtime", func(t *testing.T) { wantRealtimeByRole(t, p) })
	if r := p.advise(); r.code != 0 {
		t.Errorf("the tables of the page do not please the linter: %s", r)
	}
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// refusal is a request of the Data API that must not do.
type refusal struct {
	code, method, path, body string
	who                      claims
}

// wantRefusals sees each refusal with status, code and hint, and the page's table say the same of it.
func wantRefusals(t *testing.T, a *api) {
	const function = "0198f000-0000-7000-8000-00000000000f"
	const registry = "universal_registry"
	if r := a.request(alice, http.MethodPost, registry, `{"id": "`+function+`", "entity_type": "function",
		"status": "active", "code": "return 1"}`); r.status != http.StatusCreated {
		t.Fatal(r)
	}
	insert := func(code, body string) refusal { return refusal{code, http.MethodPost, registry, body, alice} }
	statuses := map[string]int{}
	for _, c := range []refusal{
		{"42501", http.MethodPatch, registry + "?id=eq." + function, `{"name": "x"}`, alice},
		{"42501", http.MethodDelete, registry + "?id=eq." + function, "", alice},
		{"42501", http.MethodPatch, registry + "?id=eq." + function, `{"name": "x"}`, service},
		{"42501", http.MethodPost, registry, `{"entity_type": "note"}`, anon},
		{"42501", http.MethodPatch, "visible_timeline?id=eq." + function, `{"name": "x"}`, alice},
		insert("23505", `{"id": "`+function+`", "entity_type": "function", "status": "draft"}`),
		insert("LL002", `{"id": "0198f000-0000-7000-8000-0000000000ff", "seq": 1, "entity_type": "note"}`),
		insert("LL003", `{"entity_type": "function", "status": "complete"}`),
		insert("LL004", `{"entity_type": "execution"}`),
		{"LL004", http.MethodPost, registry, `{"entity_type": "execution", "owner_id": "a", "tenant_id": "b"}`, service},
		{"LL005", http.MethodPost, registry, `{"entity_type": "note"}`,
			claims{"sub": aliceID, "role": "authenticated", "user_metadata": map[string]string{"tenant_id": "acme"}}},
		{"LL005", http.MethodPost, registry, `{"entity_type": "note"}`, service},
		insert("LL006", `{"entity_type": "note", "owner_id": "bob"}`),
		insert("LL006", `{"entity_type": "note", "tenant_id": "globex"}`),
		insert("LL007", `{"entity_type": "note", "id": "0198f000-0000-8000-8000-000000000001"}`),
		insert("LL008", `{"entity_type": "note", "who": "kernel:run_code"}`),
		insert("LL009", `{"entity_type": "note", "metadata": {"engine": {}}}`),
		insert("LL010", `{"entity_type": "note", "visibility": "public"}`),
		insert("LL011", `{"entity_type": "note", "at": "2001-01-01T00:00:00Z"}`),
		insert("LL013", `{"id": "`+function+`", "seq": 1, "entity_type": "note"}`),
		insert("LL014", `{"entity_type": "note", "prev_hash": "`+strings.Repeat("0", 64)+`"}`),
		insert("LL015", `{"entity_type": "request", "status": "scheduled", "parent_id": "`+aliceID+`"}`),
		insert("LL016", `{"entity_type": "note", "curr_hash": "`+strings.Repeat("0", 64)+`"}`),
		insert("LL017", `{"entity_type": "note", "name": "`+strings.Repeat("x", 1001)+`"}`),
	} {
		r := a.request(c.who, c.method, c.path, c.body)
		if r.code != c.code || strings.HasPrefix(c.code, "LL") && r.hint == "" {
			t.Errorf("%s %s %s: %s, want %s with a hint", c.method, c.path, c.body, r, c.code)
		}
		statuses[r.code] = max(statuses[r.code], r.status)
	}
	batch := `[{"entity_type": "note", "trace_id": "half"}, {"entity_type": "metric", "trace_id": "half"}]`
	if r := a.request(alice, http.MethodPost, registry, batch); r.code != "LL004" {
		t.Errorf("an array with a refused span: %s", r)
	}
	if r := a.request(alice, http.MethodGet, "history?trace_id=eq.half", ""); r.body != "[]" {
		t.Errorf("of an array with a refused span stays %s", r)
	}
	row := regexp.MustCompile("(?m)^\\| ([0-9, ]+) \\| `([0-9A-Z]{5})` \\|")
	told := map[string]bool{}
	for _, match := range row.FindAllStringSubmatch(read(t, filepath.Join(root, page)), -1) {
		told[match[2]] = true
		if status, seen := statuses[match[2]]; seen && !strings.Contains(match[1], strconv.Itoa(status)) {
			t.Errorf("%s says that %s has status %s, it has %d", page, match[2], match[1], status)
		}
	}
	list := read(t, filepath.Join(root, "sidecar", "span", "code.go"))
	for _, match := range regexp.MustCompile(`"(LL\d{3})"`).FindAllStringSubmatch(list, -1) {
		if !told[match[1]] && match[1] != "LL012" {
			t.Errorf("%s does not tell of %s", page, match[1])
		}
	}
}

// What the page says of others: anon and another tenant see nothing, the tenant what is for it, a backend
// everything.
func wantNothingForStrangers(t *testing.T, a *api) {
	const id = "0198f000-0000-7000-8000-0000000000a1"
	for seq, visibility := range []string{"private", "tenant"} {
		if r := a.request(alice, http.MethodPost, "universal_registry", fmt.Sprintf(`{"id": %q, "seq": %d,
			"entity_type": "note", "visibility": %q}`, id, seq, visibility)); r.status != http.StatusCreated {
			t.Fatal(r)
		}
	}
	const kernel = `[{"name":"run_code"}]` // public
	for _, c := range []struct {
		name             string
		who              claims
		versions, public string
	}{
		{"alice", alice, `[{"seq":0},{"seq":1}]`, kernel}, {"carol", carol, `[{"seq":1}]`, kernel},
		{"bob", bob, `[]`, kernel}, {"service", service, `[{"seq":0},{"seq":1}]`, kernel},
		{"no tenant", claims{"sub": aliceID, "role": "authenticated"}, `[]`, kernel},
		{"no sub", claims{"role": "authenticated"}, `[]`, `[]`}, {"anon", anon, `[]`, `[]`},
	} {
		const public = "visible_timeline?select=name&tenant_id=eq.system&name=eq.run_code"
		if r := a.request(c.who, http.MethodGet, public, ""); r.body != c.public {
			t.Errorf("%s sees of what is public %s, want %s", c.name, r, c.public)
		}
		for _, view := range []string{"history", "universal_registry"} {
			r := a.request(c.who, http.MethodGet, view+"?select=seq&order=seq&id=eq."+id, "")
			if r.body != c.versions {
				t.Errorf("%s sees in %s %s, want %s", c.name, view, r, c.versions)
			}
		}
	}
	r := a.request(service, http.MethodPost, "universal_registry?select=who,owner_id,tenant_id",
		`{"entity_type": "note", "owner_id": "x", "tenant_id": "y"}`, "Prefer: return=representation")
	if r.body != `[{"who":"client:service_role","owner_id":"x","tenant_id":"y"}]` {
		t.Errorf("a backend writes %s", r)
	}
	body := `{"id": "` + id + `", "seq": 2, "entity_type": "note"}`
	if r := a.request(bob, http.MethodPost, "universal_registry", body); r.code != "LL002" {
		t.Errorf("bob follows alice's span: %s", r)
	}
	for _, schema := range []string{"engine", "ledger_private", "auth", "supabase_migrations"} {
		r := a.request(alice, http.MethodGet, "anything", "", "Accept-Profile: "+schema)
		if r.status != http.StatusNotAcceptable {
			t.Errorf("schema %s is reachable: %s", schema, r)
		}
	}
}

// Realtime asks for a row by its key with one prepared statement, under the role and the claims of each
// subscriber in turn (its function realtime.apply_rls). It gets the rows that the page promises, whoever was
// asked for before.
func wantRealtimeByRole(t *testing.T, p *project) {
	const id = "0198f000-0000-7000-8000-0000000000b1"
	if got := p.lines(`select schemaname || '.' || tablename from pg_publication_tables
		where pubname = 'supabase_realtime'`); len(got) != 1 || got[0] != "ledger.universal_registry" {
		t.Fatalf("published are %v", got)
	}
	platform.Run(t, p.conn, `insert into ledger.universal_registry (id, seq, entity_type, owner_id, tenant_id, visibility)
		values ('`+id+`', 0, 'note', '`+aliceID+`', 'acme', 'private'),
			('`+id+`', 1, 'note', '`+aliceID+`', 'acme', 'tenant')`)
	tx, err := platform.Connect(t, p.AdminURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := range 2 {
		platform.Run(t, tx.Conn(), fmt.Sprintf(`prepare stmt_%d as select exists (
			select 1 from ledger.universal_registry where id = '%s' and seq = '%d')`, seq, id, seq))
	}
	for _, c := range []struct {
		role, claims string
		want         [2]bool // private, tenant
	}{
		{"service_role", `{"role":"service_role"}`, [2]bool{true, true}},
		{"authenticated", `{"sub":"` + aliceID + `","app_metadata":{"tenant_id":"acme"}}`, [2]bool{true, true}},
		{"authenticated", `{"sub":"carol","app_metadata":{"tenant_id":"acme"}}`, [2]bool{false, true}},
		{"authenticated", `{"sub":"bob","app_metadata":{"tenant_id":"globex"}}`, [2]bool{}},
		{"authenticated", `{}`, [2]bool{}},
		{"anon", `{"role":"anon"}`, [2]bool{}},
		{"authenticated", `{"sub":"` + aliceID + `","app_metadata":{"tenant_id":"acme"}}`, [2]bool{true, true}},
	} {
		_, err := tx.Exec(t.Context(), "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
			c.role, c.claims)
		if err != nil {
			t.Fatal(err)
		}
		for seq, want := range c.want {
			var seen bool
			err := tx.QueryRow(t.Context(), fmt.Sprintf("execute stmt_%d", seq)).Scan(&seen)
			if err != nil || seen != want {
				t.Errorf("%s %s sees version %d: %v, %v, want %v", c.role, c.claims, seq, seen, err, want)
			}
		}
		platform.Run(t, tx.Conn(), "select set_config('role', null, true)")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}
