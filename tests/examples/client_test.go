package examples_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/platform"
	"github.com/loglineos/loglineos/tests/program"
)

// On a Postgres as a Supabase project has it, whose owner `postgres` is no superuser, the pipeline installs,
// and a signed-in user's client orders by supabase-js.
func TestOrdersFromASupabaseProject(t *testing.T) {
	t.Parallel()
	folder := node.Folder(t, filepath.Join(root, "docs", "examples", "orders", "client.mjs"))
	s := project(t)
	s.paste("docs/examples/orders/run.sh install")
	address := platform.DataAPI(t, s.owner)

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
	program.Need(t, "psql", "bash")
	p := platform.New(t)
	s := &system{t: t, owner: p.URL}
	s.env = []string{"DATABASE_URL=" + s.owner}
	s.logline("migrate")
	s.logline("bootstrap")
	platform.Run(t, platform.Connect(t, s.owner), "alter role loglineos_sidecar login password 'sidecar'")
	s.serve = []string{"DATABASE_URL=" + platform.As(t, p.URL, "loglineos_sidecar", "sidecar"),
		"REPLICATION_URL=" + s.owner}
	s.start()
	return s
}

// token is what a signed-in user has; nobody's has no tenant.
func token(t *testing.T, sub string) string {
	t.Helper()
	claims := map[string]any{"sub": sub, "role": "authenticated"}
	if sub != "nobody" {
		claims["app_metadata"] = map[string]string{"tenant_id": "acme"}
	}
	return platform.Token(t, claims)
}
