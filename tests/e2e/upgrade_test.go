package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// firstOfThisRelease is the file whose first commit ends the time of 0.1.0.
const firstOfThisRelease = "supabase/migrations/20261124000000_loglineos_0_2_0.sql"

// former builds the program of the release before, from the last commit that had its migration alone.
func former(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	in := func(folder, script string, args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), "sh", append([]string{"-euc", script, "sh"}, args...)...)
		command.Dir, command.Env = folder, append(os.Environ(), "CGO_ENABLED=0")
		out, err := command.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	first, err := in("../..", `git log --diff-filter=A --format=%H -- "$1" | tail -n 1`, firstOfThisRelease)
	if err == nil && first != "" {
		first, err = in("../..", `git rev-parse --verify --quiet "$1^"`, first)
	}
	if err != nil || first == "" {
		t.Skipf("release 0.1.0 is built from the history of this repository, which this clone has not: %s", first)
	}
	if out, err := in("../..", `git archive "$1" | tar -x -C "$2" && cd "$2" && go mod download`, first, dir); err != nil {
		program.Unfetched(t, "the modules of release 0.1.0 can not be had: "+out)
	}
	if out, err := in(dir, `go build -o logline ./sidecar`); err != nil {
		t.Fatalf("release 0.1.0 does not build: %s", out)
	}
	binary := filepath.Join(dir, "logline")
	said := program.StartOf(t, binary, nil, "version")
	if said.Wait() != 0 || !strings.HasPrefix(said.Out.String(), "0.1.0") {
		t.Fatalf("commit %s is of version %s, want 0.1.0", first, said.Out.String())
	}
	return binary
}

// upgrading is a system that goes from one release to the next and back.
type upgrading struct {
	*system
	old, env string
	shared   span.ID // a function that is called again and again
	inputs   []string
}

// command runs a command of one of the programs as the owner and returns what it says.
func (u *upgrading) command(binary string, args ...string) string {
	u.t.Helper()
	p := program.StartOf(u.t, binary, nil, append(args, "--database", u.db.URL)...)
	if p.Wait() != 0 {
		u.t.Fatalf("%s %v exits with %d: %s", filepath.Base(filepath.Dir(binary)), args, p.Code(), p.Err.String())
	}
	return p.Out.String()
}

// serves starts a sidecar of one of the programs, and has it work.
func (u *upgrading) serves(binary string) *program.Process {
	u.t.Helper()
	p := program.StartOf(u.t, binary, []string{"DATABASE_URL=" + u.env, "LOGLINE_LISTEN=127.0.0.1:0",
		"LOGLINE_NODE=a", "LOGLINE_WORKERS=2"}, "serve").AwaitReady()
	u.works("beside " + filepath.Base(filepath.Dir(binary)))
	return p
}

// works runs a new function and calls the shared one, once each.
func (u *upgrading) works(when string) {
	u.t.Helper()
	if got := u.run(alice, "return 6 * 7").execution(u.t); string(got.Output) != "42" {
		u.t.Errorf("%s a function answers %s, %s", when, got.Output, got.Error)
	}
	u.call(when)
	u.answered()
}

// call leaves a request of the shared function.
func (u *upgrading) call(when string) {
	u.t.Helper()
	input := fmt.Sprintf("%d, %s", len(u.inputs), when)
	u.inputs = append(u.inputs, input)
	u.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": u.shared,
		"input": input, "trace_id": "calls"})
}

// answered waits until every call has its one answer.
func (u *upgrading) answered() {
	u.t.Helper()
	answers := map[string]int{}
	for _, run := range u.settled("calls", len(u.inputs)) {
		answers[string(run.execution(u.t).Output)]++
	}
	for _, input := range u.inputs {
		if n := answers[`"`+input+`"`]; n != 1 {
			u.t.Errorf("the call %q has %d answers", input, n)
		}
	}
}

// ends stops a sidecar as a rollout does.
func (u *upgrading) ends(p *program.Process) {
	u.t.Helper()
	if code := p.Stop(syscall.SIGTERM); code != 0 {
		u.t.Errorf("SIGTERM ends it with %d", code)
	}
	u.awaitDetached()
}

// From release 0.1.0 with data to this one, back to the program of 0.1.0, and forth again, as
// docs/deployment.md says: rows stay as they are, and each call has one answer, also those that came while
// nobody served.
func TestAnUpgradeAndTheWayBackLoseNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	u := &upgrading{system: &system{t: t, cluster: cluster, db: cluster.Empty(t)}, old: former(t)}
	u.owner = u.open(u.db.URL)
	u.command(u.old, "migrate")
	u.command(u.old, "bootstrap")
	u.letClientsIn()
	u.exec("create role app login replication password 'app'")
	u.exec("grant loglineos_sidecar to app")
	u.env = u.urlOf("app", "app")
	u.shared = u.insert(alice, function("return input", columns{"status": "active"})).ID

	sidecar := u.serves(u.old)
	before := u.fingerprint()
	if out := u.command(program.Logline(), "migrate"); !strings.Contains(out, "0_2_0") {
		t.Errorf("migrate says %q", out)
	}
	u.works("old program, new schema:") // it goes on while the schema changes
	u.stays(before, "the migration")
	u.call("while nobody serves")
	u.ends(sidecar)

	sidecar = u.serves(program.Logline()) // with the kernels of 0.1.0, still
	for line := range strings.Lines(u.command(program.Logline(), "bootstrap")) {
		if _, right, lacks := strings.Cut(strings.TrimSpace(line), "logline manifest --give "); lacks {
			u.command(program.Logline(), "manifest", "--give", right)
		}
	}
	u.works("new program, new kernels:")
	u.ends(sidecar)
	u.stays(before, "the upgrade")

	// Back: its own kernels first, since those of the newer release ask for what it has not.
	before = u.fingerprint()
	u.call("on the way back")
	if out := u.command(u.old, "migrate"); !strings.Contains(out, "nothing to apply") {
		t.Errorf("the older migrate says %q", out)
	}
	u.command(u.old, "bootstrap")
	u.ends(u.serves(u.old))
	u.stays(before, "the way back")

	u.call("forth again")
	u.command(program.Logline(), "bootstrap")
	u.ends(u.serves(program.Logline()))
	u.stays(before, "the second upgrade")
	checkChains(t, u.system)
}

// fingerprint is the rows that there are: how many, until when, and a sum over what is in them.
type fingerprint struct {
	rows         int
	until, bytes string
}

const fingerprintSQL = `select count(*)::int, max(accepted_at)::text,
	sum(hashtextextended(jsonb_strip_nulls(to_jsonb(r))::text, 0)::numeric)::text
	from ledger.universal_registry as r where $1 = '' or accepted_at <= nullif($1, '')::timestamptz`

func (u *upgrading) fingerprint() fingerprint { return u.fingerprintUntil("") }

func (u *upgrading) fingerprintUntil(until string) (f fingerprint) {
	u.t.Helper()
	ctx := context.WithoutCancel(u.t.Context())
	if err := u.owner.QueryRow(ctx, fingerprintSQL, until).Scan(&f.rows, &f.until, &f.bytes); err != nil {
		u.t.Fatal(err)
	}
	return f
}

// stays says that the rows of before are as they were.
func (u *upgrading) stays(before fingerprint, after string) {
	u.t.Helper()
	if now := u.fingerprintUntil(before.until); now != before {
		u.t.Errorf("after %s the rows are %+v, they were %+v", after, now, before)
	}
}

// checkChains says that versions go from 0 without gaps, and that no execution stands twice for an attempt.
func checkChains(t *testing.T, s *system) {
	t.Helper()
	if gaps := one[int](s, `select count(*) from (select id from ledger.universal_registry group by id
		having count(*) <> max(seq) + 1) as gaps`); gaps > 0 {
		t.Errorf("%d ids have gaps in their versions", gaps)
	}
	doubled := one[int](s, `select count(*) from (select related_to[1] from ledger.universal_registry
		where entity_type = 'execution' group by related_to[1], attempt having count(*) > 1) as doubled`)
	if doubled > 0 {
		t.Errorf("%d requests have two executions of one attempt", doubled)
	}
}
