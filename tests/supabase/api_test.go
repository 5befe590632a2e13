package supabase_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const jwtSecret = "a secret of the tests, at least 32 bytes long"

// claims are what a token says.
type claims map[string]any

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

// token signs claims as Supabase's legacy secret does (HS256).
func token(t testing.TB, c claims) string {
	t.Helper()
	all := map[string]any{"aud": "authenticated", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range c {
		all[name] = value
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// transcript is what a process prints, readable while it runs.
type transcript struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(p)
}

func (o *transcript) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// start runs a program beside the test until the test's end, and returns what it prints on standard output.
// It prints the rest if the test fails.
func start(t *testing.T, env []string, dir, name string, arguments ...string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, name, arguments...)
	c.Dir = dir
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay, c.SysProcAttr = 10*time.Second, withParent()
	var said transcript
	c.Stderr = &said
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		cancel()
		_ = stdin.Close()
		_ = c.Wait() // it was told to end
		if t.Failed() {
			t.Logf("%s %v:\n%.6000s", filepath.Base(name), arguments, said.String())
		}
	})
	return bufio.NewReader(stdout)
}

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
	stdout := start(p.t, []string{"DATABASE_URL=" + p.url, "JWT_SECRET=" + jwtSecret, "LITE_TELEMETRY=0"},
		nodeFolder(p.t), "node", "server.mjs")
	line, err := stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the server does not say where it listens: %v", err)
	}
	a.url = strings.TrimSpace(line)
	if r := a.request(alice, http.MethodGet, "visible_timeline?limit=1", ""); r.status != http.StatusOK {
		p.t.Fatalf("first request: %s", r)
	}
	admin := connect(p.t, p.admin)
	for _, line := range a.grants {
		oid, acl, _ := strings.Cut(line, " ")
		run(p.t, admin, fmt.Sprintf("update pg_class set relacl = nullif('%s', '-')::aclitem[] where oid = %s", acl, oid))
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

// nodeFolder is a folder where node finds the packages of tests/node, with the scripts of this one.
func nodeFolder(t *testing.T) string {
	t.Helper()
	program(t, "supabase")
	modules, err := filepath.Abs(filepath.Join(root, "tests", "node", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("server.mjs", read(t, "server.mjs"))
	write("ledger.ts", read(t, filepath.Join(root, "supabase", "types", "ledger.ts")))
	// What node has and the DOM's types have not.
	write("node.d.ts", "declare const process: { env: Record<string, string | undefined> }\n")
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
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.url+"/rest/v1/"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Accept-Profile", "ledger")
	request.Header.Set("Content-Profile", "ledger")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token(a.t, who))
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
	run(p.t, p.conn, "alter role loglineos_sidecar login password 'sidecar'")
	boot := command(p.t, "", []string{"DATABASE_URL=" + p.url}, logline, "bootstrap")
	if boot.code != 0 {
		p.t.Fatalf("logline bootstrap: %s", boot)
	}
	start(p.t, []string{
		"DATABASE_URL=" + as(p.t, p.url, "loglineos_sidecar", "sidecar"), "REPLICATION_URL=" + p.url,
		"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=tests", "LOGLINE_WORKERS=2",
	}, "", logline, "serve")
}
