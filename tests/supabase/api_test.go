package supabase_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/platform"
	"github.com/loglineos/loglineos/tests/program"
)

// claims are what a token says.
type claims = map[string]any

func user(sub, tenant string) claims {
	return claims{"sub": sub, "role": "authenticated", "app_metadata": map[string]string{"tenant_id": tenant}}
}

const aliceID = "a11ce000-0000-4000-8000-000000000001"

var (
	alice   = user(aliceID, "acme")
	carol   = user("ca201000-0000-4000-8000-000000000001", "acme")
	bob     = user("b0b00000-0000-4000-8000-000000000001", "globex")
	service = claims{"role": "service_role"}
	anon    = claims{"role": "anon"}
)

// grants are the rights on all tables and views, as the catalog has them.
const grants = `select c.oid::text || ' ' || coalesce(c.relacl::text, '-') from pg_class as c
	where c.relnamespace in ('ledger'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'v')
	order by 1`

// api is a PostgREST-compatible server before a project.
type api struct {
	*project
	url    string
	grants []string // as the migrations made them
}

// serve starts the server with the rights that the migrations gave: @supabase/lite gives more at the first
// request, and they are taken back in the catalog.
func (p *project) serve() *api {
	p.t.Helper()
	a := &api{project: p, grants: p.lines(grants)}
	a.url = platform.DataAPI(p.t, p.URL)
	if r := a.request(alice, http.MethodGet, "visible_timeline?limit=1", ""); r.status != http.StatusOK {
		p.t.Fatalf("first request: %s", r)
	}
	admin := platform.Connect(p.t, p.AdminURL)
	for _, line := range a.grants {
		oid, acl, _ := strings.Cut(line, " ")
		platform.Run(p.t, admin, fmt.Sprintf("update pg_class set relacl = nullif('%s', '-')::aclitem[] where oid = %s", acl, oid))
	}
	p.t.Cleanup(a.wantGrants)
	return a
}

// wantGrants fails if the server has loosened the rights behind our back.
func (a *api) wantGrants() {
	rows, err := a.conn.Query(context.Background(), grants)
	if err != nil {
		a.t.Fatal(err)
	}
	defer rows.Close()
	var now []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			a.t.Fatal(err)
		}
		now = append(now, line)
	}
	if !slices.Equal(now, a.grants) {
		a.t.Errorf("the server has changed the grants:\n%s\nwas\n%s", strings.Join(now, "\n"),
			strings.Join(a.grants, "\n"))
	}
}

// nodeFolder is a folder where node finds the packages of tests/node, with the types of the ledger.
func nodeFolder(t *testing.T) string {
	t.Helper()
	dir := node.Folder(t, filepath.Join(root, "supabase", "types", "ledger.ts"))
	// What node has and the DOM's types have not.
	save(t, filepath.Join(dir, "node.d.ts"),
		"declare const process: { env: Record<string, string | undefined> }\n")
	return dir
}

// answer is what the API answers.
type answer struct {
	status int
	body   string
	code   string // of a refusal
	detail string
	hint   string
}

func (r answer) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// request asks the Data API in schema ledger.
func (a *api) request(who claims, method, path, body string, headers ...string) answer {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), program.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.url+"/rest/v1/"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Accept-Profile", "ledger")
	request.Header.Set("Content-Profile", "ledger")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+platform.Token(a.t, who))
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	r := answer{status: response.StatusCode, body: string(text)}
	if r.status >= http.StatusBadRequest {
		var refusal struct{ Code, Details, Hint string }
		if err := json.Unmarshal(text, &refusal); err != nil {
			a.t.Fatalf("%s %s: %s: %v", method, path, r, err)
		}
		r.code, r.detail, r.hint = refusal.Code, refusal.Details, refusal.Hint
	}
	return r
}

// operate lets functions run: it publishes the kernels and starts a sidecar with the two connections that
// a project with Postgres 15 needs (docs/contract.md §2).
func (p *project) operate() {
	p.t.Helper()
	platform.Run(p.t, p.conn, "alter role loglineos_sidecar login password 'sidecar'")
	boot := command(p.t, "", []string{"DATABASE_URL=" + p.URL}, program.Logline(), "bootstrap")
	if boot.code != 0 {
		p.t.Fatalf("logline bootstrap: %s", boot)
	}
	program.Start(p.t, []string{
		"DATABASE_URL=" + platform.As(p.t, p.URL, "loglineos_sidecar", "sidecar"), "REPLICATION_URL=" + p.URL,
		"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=tests", "LOGLINE_WORKERS=2",
	}, "serve")
}
