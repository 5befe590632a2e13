package examples_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

const jwtSecret = "a secret of the tests, at least 32 bytes long"

// On a Postgres as a Supabase project has it, whose owner `postgres` is no superuser, the pipeline installs,
// and a signed-in user's client orders by supabase-js.
func TestOrdersFromASupabaseProject(t *testing.T) {
	t.Parallel()
	folder := nodeFolder(t)
	s := project(t)
	s.paste("docs/examples/orders/run.sh install")
	address := s.dataAPI(folder)

	for _, order := range []struct {
		by, item, card, says string
		code                 int
	}{
		{"alice", "lamp", "tok_ok", "shipped: parcel-", 0},
		{"alice", "lamp", "tok_empty", "failed: the bank refuses the card", 1},
		{"alice", "sofa", "tok_ok", "waiting: sofa is out of stock", 1},
		{"nobody", "lamp", "tok_ok", "", 1}, // a token without a tenant
		{"alice", "lamp", "", "usage:", 2},
	} {
		arguments := []string{filepath.Join(folder, "client.mjs"), order.item, "2"}
		if order.card != "" {
			arguments = append(arguments, order.card)
		}
		command := s.command("node", arguments...)
		command.Env = append(command.Env, "SUPABASE_URL="+address, "SUPABASE_ANON_KEY=sb_publishable_of_the_tests",
			"OPS_USER_ID=ops", "USER_TOKEN="+token(t, order.by))
		said, err := command.CombinedOutput()
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		code := command.ProcessState.ExitCode()
		if code != order.code || !strings.Contains(string(said), order.says) {
			t.Errorf("%s orders a %s with %q: exit %d, want %d and %q:\n%s", order.by, order.item, order.card,
				code, order.code, order.says, said)
		}
	}
	if n := s.text(alice, `select count(*) from ledger.visible_timeline where entity_type = 'order'`); n != "3" {
		t.Errorf("alice has %s orders, want 3", n)
	}
}

// project is a ledger that the owner of a Supabase project has installed, with a sidecar beside it.
func project(t *testing.T) *system {
	t.Helper()
	db := pgtest.NewCluster(t, nil).Empty(t)
	platform, err := os.ReadFile(filepath.Join(root, "tests", "supabase", "platform.sql"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, db.URL, "create role renamer superuser login password 'renamer'")
	run(t, login(t, db.URL, "renamer", "renamer"),
		"alter role postgres rename to supabase_admin; alter role supabase_admin password 'admin'")
	run(t, login(t, db.URL, "supabase_admin", "admin"), "drop role renamer;"+string(platform))
	s := &system{t: t, owner: login(t, db.URL, "postgres", "postgres")}
	s.env = []string{"DATABASE_URL=" + s.owner}
	s.logline("migrate")
	s.logline("bootstrap")
	run(t, s.owner, "alter role loglineos_sidecar login password 'sidecar'")
	s.serve = []string{"DATABASE_URL=" + login(t, db.URL, "loglineos_sidecar", "sidecar"),
		"REPLICATION_URL=" + s.owner}
	s.start()
	return s
}

func login(t *testing.T, databaseURL, name, password string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword(name, password)
	return parsed.String()
}

// run sends a text of many statements, as psql would.
func run(t *testing.T, databaseURL, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background())
	if err := conn.PgConn().Exec(t.Context(), text).Close(); err != nil {
		t.Fatalf("run %.60q: %v", text, err)
	}
}

// nodeFolder is a folder with the client and the server of tests/supabase, where node finds the packages of
// tests/node.
func nodeFolder(t *testing.T) string {
	t.Helper()
	modules, err := filepath.Abs(filepath.Join(root, "tests", "node", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "@supabase", "lite")); err != nil {
		t.Skip("supabase-js and a PostgREST-compatible server are missing (npm ci --prefix tests/node)")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed (Debian's package nodejs)")
	}
	dir := t.TempDir()
	err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
	for from, name := range map[string]string{"docs/examples/orders": "client.mjs",
		"tests/supabase": "server.mjs"} {
		var text []byte
		if err == nil {
			text, err = os.ReadFile(filepath.Join(root, from, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// dataAPI starts the server before the ledger and returns its address. What it grants to everybody it grants
// in a database that nobody else has; that the migrations' own grants do is the law of tests/supabase.
func (s *system) dataAPI(folder string) string {
	s.t.Helper()
	command := s.command("node", "server.mjs")
	command.Dir, command.SysProcAttr = folder, withParent()
	command.Env = append(command.Env, "JWT_SECRET="+jwtSecret, "LITE_TELEMETRY=0")
	stdin, err := command.StdinPipe() // it ends when this is closed
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		s.t.Fatalf("start the server: %v", err)
	}
	s.t.Cleanup(func() {
		stdin.Close()
		_ = command.Wait() // it was told to end
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.t.Fatalf("the server does not say where it listens: %v", err)
	}
	return strings.TrimSpace(address)
}

// token is what a signed-in user has; nobody's has no tenant.
func token(t *testing.T, sub string) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": sub, "role": "authenticated", "aud": "authenticated",
		"exp": time.Now().Add(time.Hour).Unix()}
	if sub != "nobody" {
		claims["app_metadata"] = json.RawMessage(`{"tenant_id": "acme"}`)
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
