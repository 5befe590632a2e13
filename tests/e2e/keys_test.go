package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// signedSystem is a system whose root key is pinned; its keys are files in dir.
type signedSystem struct {
	*system
	dir, root string // root is the fingerprint
}

var fingerprints = regexp.MustCompile(`(?m)^fingerprint +([0-9a-f]{64})$`)

// setupSigned makes the first keys of a system as docs/keys.md says, over kernels that nobody has signed.
func setupSigned(t *testing.T) *signedSystem {
	t.Helper()
	s := &signedSystem{system: migrated(t, pgtest.NewCluster(t, nil)), dir: t.TempDir()}
	s.bootstrap()
	said := s.keys(0, "generate", "--root", "--out", s.file("root"))
	s.root = fingerprints.FindStringSubmatch(said)[1]
	s.keys(0, "generate", "--purpose", "span", "--key", s.file("root"), "--out", s.file("sidecar"))
	said = s.logline(0, "bootstrap", "--key", s.file("root"))
	if n := strings.Count(said, "published "); n != len(s.read("owner_id = 'system' and seq = 1")) || n < 6 {
		t.Errorf("%d spans are signed by bootstrap:\n%s", n, said)
	}
	if said = s.logline(0, "bootstrap", "--key", s.file("root")); strings.Contains(said, "published ") {
		t.Errorf("a second bootstrap publishes again:\n%s", said)
	}
	return s
}

func (s *signedSystem) file(name string) string { return filepath.Join(s.dir, name+".key") }

// logline runs a command as the database's owner, with the root pinned, and returns what it prints.
func (s *signedSystem) logline(code int, args ...string) string {
	s.t.Helper()
	env := []string{"DATABASE_URL=" + s.db.URL}
	if s.root != "" {
		env = append(env, "LOGLINE_TRUST_ROOT="+s.root)
	}
	p := program.Start(s.t, env, args...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("logline %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	return p.Said()
}

func (s *signedSystem) keys(code int, args ...string) string {
	s.t.Helper()
	return s.logline(code, append([]string{"keys"}, args...)...)
}

// serveSigned starts a sidecar with the key of this name.
func (s *signedSystem) serveSigned(key string) *program.Process {
	s.t.Helper()
	return s.serve("LOGLINE_TRUST_ROOT="+s.root, "LOGLINE_SIGNING_KEY_FILE="+s.file(key))
}

// signed completes a span and signs it with the key of this name, by the command.
func (s *signedSystem) signed(key string, c columns, u user) columns {
	s.t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.dir, rand.Text()+".json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		s.t.Fatal(err)
	}
	said := s.keys(0, "sign", file, "--key", s.file(key), "--owner", u.sub, "--tenant", u.tenant)
	var complete columns
	if err := json.Unmarshal([]byte(said), &complete); err != nil {
		s.t.Fatalf("%v: %s", err, said)
	}
	return complete
}

// runSigned has a user schedule a function that the key of this name has signed.
func (s *signedSystem) runSigned(key, code string) run {
	s.t.Helper()
	c := function(code)
	s.insert(alice, s.signed(key, c, alice))
	return s.settled(c["trace_id"].(string), 1)[0]
}

// appendSigned is runSigned by ledger.append, which takes the document as it was printed.
func (s *signedSystem) appendSigned(key, code string) {
	s.t.Helper()
	c := function(code)
	body, err := json.Marshal(s.signed(key, c, alice))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.as(alice, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select ledger.append($1::jsonb)", string(body))
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	if x := s.settled(c["trace_id"].(string), 1)[0].execution(s.t); x.StatusText() != "complete" {
		s.t.Errorf("appended by ledger.append: %s %s", x.StatusText(), x.Error)
	}
}

// require appends the next version of the manifest, signed by the key of this name.
func (s *signedSystem) require(key string, required any) {
	s.t.Helper()
	newest := s.latest(span.ManifestID)
	var document map[string]any
	if err := json.Unmarshal(newest.Metadata, &document); err != nil {
		s.t.Fatal(err)
	}
	document["features"] = map[string]any{"signatures_required": required}
	next := s.signed(key, columns{"id": newest.ID, "seq": newest.Seq + 1, "prev_hash": newest.CurrHash,
		"entity_type": "manifest", "who": "system:test", "status": "active", "visibility": "public",
		"name": newest.Name, "metadata": document}, user{"system", "system"})
	names, list := sorted(next)
	body, err := json.Marshal(next)
	if err != nil {
		s.t.Fatal(err)
	}
	s.exec(`insert into ledger.universal_registry (`+names+`) select `+list+`
		from json_populate_record(null::ledger.universal_registry, $1::json) as b`, string(body))
}

func TestASystemThatRequiresSignatures(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	sidecar := s.serveSigned("sidecar")
	s.run(alice, `return 1;`)
	s.require("root", true)
	s.keys(0, "generate", "--purpose", "function", "--tenant", "acme", "--owner", "alice",
		"--key", s.file("root"), "--out", s.file("alice"))
	s.keys(0, "generate", "--purpose", "function", "--tenant", "globex", "--key", s.file("root"), "--out",
		s.file("bob"))
	sameJSON(t, s.runSigned("alice", `return 2;`).execution(t).Output, `2`)
	s.appendSigned("alice", `return 22;`)
	// Long enough for a running version, behind which the result is signed anew.
	slow := s.runSigned("alice", `let n = 0; for (let i = 0; i < 2e7; i++) n += i % 7; return n > 0;`)
	if len(slow.versions) != 3 || slow.versions[1].StatusText() != "running" {
		t.Errorf("the slow one has %d versions", len(slow.versions))
	}
	if said := s.logline(1, "manifest", "--give", "run_code=sql"); !strings.Contains(said, "--key FILE") {
		t.Errorf("a manifest without a signature: %s", said)
	}
	for key, want := range map[string]span.RunCode{"": span.RunUnsigned, "bob": span.RunBadSignature,
		"sidecar": span.RunBadSignature} {
		var execution *span.Span
		if key == "" {
			execution = s.run(alice, `return 3;`).execution(t)
		} else {
			execution = s.runSigned(key, `return 3;`).execution(t)
		}
		fault := failure(t, execution)
		if fault.Code != want || execution.StatusText() != "error" || !strings.Contains(fault.Message, "sign") {
			t.Errorf("signed by %q: %s %+v, want %s", key, execution.StatusText(), fault, want)
		}
	}

	// The sidecar's key takes turns with another, and what the first signed counts on.
	said := s.keys(0, "rotate", s.file("sidecar"), "--key", s.file("root"), "--out", s.file("sidecar-2"))
	if !strings.Contains(said, "deprecated") {
		t.Errorf("rotate says %s", said)
	}
	sameJSON(t, s.runSigned("alice", `return 4;`).execution(t).Output, `4`)
	if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the first sidecar exits with %d", code)
	}
	sidecar = s.serveSigned("sidecar-2")
	s.keys(0, "revoke", s.file("sidecar"), "--key", s.file("root"), "--reason", "test")
	sameJSON(t, s.runSigned("alice", `return 5;`).execution(t).Output, `5`)
	kept := s.insert(alice, s.signed("alice", with(function(`return 6;`), columns{"status": "active"}), alice))
	s.keys(0, "revoke", s.file("alice"))
	if fault := failure(t, s.runSigned("alice", `return 7;`).execution(t)); fault.Code != span.RunRevoked {
		t.Errorf("after the revocation: %+v", fault)
	}
	sameJSON(t, s.call(kept.ID).Output, `6`)
	if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the second sidecar exits with %d", code)
	}
	checkSigned(t, s)
}

// checkSigned finds a trusted signature on each span that the sidecar or a command has appended, once there
// were keys.
func checkSigned(t *testing.T, s *signedSystem) {
	t.Helper()
	all := s.read("true")
	trust := sign.NewTrust(s.root, slices.DeleteFunc(slices.Clone(all),
		func(row *span.Span) bool { return row.EntityType != "key" }))
	counted := map[string]int{}
	for _, row := range all {
		role, _, _ := strings.Cut(row.Who, ":")
		if role == "user" || role == "client" || role == "system" && row.Seq == 0 && row.EntityType != "key" {
			continue // users' own, and what was bootstrapped before there were keys
		}
		if row.EntityType == "key" && row.StatusText() == "revoked" && row.Signature == nil {
			continue // a revocation needs none
		}
		counted[row.EntityType]++
		if err := trust.Check(row, sign.PurposeOf(row.EntityType)); err != nil {
			t.Errorf("%s by %s: %v", row.EntityType, row.Who, err)
		}
	}
	for _, entityType := range []string{"request", "execution", "boot_event", "function", "manifest", "key"} {
		if counted[entityType] == 0 {
			t.Errorf("no %s was looked at", entityType)
		}
	}
}

func TestPrivateKeysAreNowhereToBeSeen(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	key, err := sign.ReadKeyFile(s.file("sidecar"))
	if err != nil {
		t.Fatal(err)
	}
	sidecar := s.serve("LOGLINE_TRUST_ROOT="+s.root, "SIGNING_KEY_HEX="+key.Secret(), "LOGLINE_LOG_LEVEL=debug")
	s.run(alice, `return Object.keys(globalThis);`)
	children := sidecar.Children()
	if len(children) == 0 {
		t.Fatal("the sidecar has no children")
	}
	for _, pid := range children {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(environment), "KEY") || strings.Contains(string(environment), key.Secret()) {
			t.Errorf("child %d has the environment %q", pid, environment)
		}
	}
	rows := one[string](s.system, "select string_agg(r::text, ' ') from ledger.universal_registry as r")
	for _, seen := range []string{rows, sidecar.Out.String(), sidecar.Err.String()} {
		if strings.Contains(seen, key.Secret()) {
			t.Error("the private key is in the ledger or in the log")
		}
	}
	if n := len(s.read("public_key = $1", key.Public())); n < 3 {
		t.Errorf("%d spans are signed with it", n)
	}
}

func TestServeRefusesAKeyThatDoesNotCount(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	stranger, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	s.keys(0, "generate", "--purpose", "function", "--key", s.file("root"), "--out", s.file("builder"))
	s.keys(0, "generate", "--purpose", "span", "--key", s.file("root"), "--out", s.file("old"))
	s.keys(0, "revoke", s.file("old"))
	s.keys(0, "generate", "--purpose", "span", "--key", s.file("root"), "--out", s.file("open"))
	if err := os.Chmod(s.file("open"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  string
		want string
	}{
		"a stranger": {"SIGNING_KEY_HEX=" + stranger.Secret(), "logline keys publish FILE --purpose span"},
		"no purpose": {"LOGLINE_SIGNING_KEY_FILE=" + s.file("builder"), "has not the purpose span"},
		"revoked":    {"LOGLINE_SIGNING_KEY_FILE=" + s.file("old"), "is revoked"},
		"readable":   {"LOGLINE_SIGNING_KEY_FILE=" + s.file("open"), "chmod 600 " + s.file("open")},
		"missing":    {"LOGLINE_SIGNING_KEY_FILE=" + s.file("none"), "LOGLINE_SIGNING_KEY_FILE"},
		"malformed":  {"SIGNING_KEY_HEX=abc", "SIGNING_KEY_HEX is no private key"},
	} {
		p := s.spawn("LOGLINE_TRUST_ROOT="+s.root, c.env)
		if code := p.Wait(); code == 0 || !strings.Contains(p.Err.String(), c.want) {
			t.Errorf("%s: exit %d, %s", name, code, p.Err.String())
		}
		if name == "revoked" && strings.Contains(p.Err.String(), "keys publish") {
			t.Errorf("a revoked key, says it, may be published: %s", p.Err.String())
		}
	}
	s.require("root", []string{"execution"})
	keyless := s.spawn("LOGLINE_TRUST_ROOT=" + s.root)
	if code := keyless.Wait(); code != 1 || !strings.Contains(keyless.Err.String(), "LOGLINE_SIGNING_KEY_FILE") {
		t.Errorf("without a key, where executions must be signed: exit %d, %s", code, keyless.Err.String())
	}
	both := s.spawn("SIGNING_KEY_HEX="+stranger.Secret(), "LOGLINE_SIGNING_KEY_FILE="+s.file("sidecar"))
	if code := both.Wait(); code != 2 || !strings.Contains(both.Err.String(), "both set") {
		t.Errorf("both: exit %d, %s", code, both.Err.String())
	}
}

func TestCommandsOfKeys(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.save("note.json", `{"entity_type": "note"}`)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "the span has no id", []string{"sign", filepath.Join(s.dir, "note.json"), "--next",
			"--key", s.file("root")}},
		{0, "logline keys generate --root", nil},
		{0, "generate", []string{"--help"}},
		{0, "Example", []string{"sign", "--help"}},
		{0, "Example", []string{"revoke", "--help"}},
		{2, `"keys fly"`, []string{"fly"}},
		{2, "--purpose", []string{"generate"}},
		{2, `"fly"`, []string{"generate", "--purpose", "span,fly"}},
		{2, "leave --purpose", []string{"generate", "--root", "--purpose", "span"}},
		{2, "leave --key", []string{"generate", "--root", "--key", s.file("root")}},
		{1, "exists, and no key is overwritten", []string{"generate", "--root", "--out", s.file("root")}},
		{1, "open the key file", []string{"generate", "--purpose", "span", "--key", s.file("none")}},
		{0, "it counts for nothing yet", []string{"generate", "--purpose", "span"}},
		{2, "--key FILE", []string{"rotate", s.file("sidecar")}},
		{1, "is pinned outside the ledger", []string{"rotate", s.file("root"), "--key", s.file("root")}},
		{2, "takes one argument, FILE|FINGERPRINT", []string{"revoke"}},
		{1, "8 characters", []string{"revoke", "abc"}},
		{1, "the ledger has none", []string{"revoke", strings.Repeat("0", 64)}},
		{2, "loud", []string{"revoke", "x", "--loud"}},
		{0, "root", []string{"list"}},
		{1, "read the span: open " + s.file("none"), []string{"sign", s.file("none"), "--key", s.file("root")}},
		{1, "read the span", []string{"sign", s.file("root"), "--key", s.file("root")}},
	} {
		if said := s.keys(c.code, c.args...); !strings.Contains(said, c.want) {
			t.Errorf("logline keys %v says %q, want %q in it", c.args, said, c.want)
		}
	}
	// A key that a purpose-key key signs; one of another root, and how the new root takes it over.
	s.keys(0, "generate", "--purpose", "key", "--key", s.file("root"), "--out", s.file("office"))
	s.keys(0, "generate", "--purpose", "function", "--key", s.file("office"), "--out", s.file("builder"))
	if counts := s.counts(); counts["yes"] != 3 || counts["root"] != 1 || counts["no"] != 0 {
		t.Errorf("got %v", counts)
	}
	said := s.keys(0, "generate", "--root", "--out", s.file("root-2"), "--name", "the second root")
	s.root = fingerprints.FindStringSubmatch(said)[1]
	if counts := s.counts(); counts["yes"] != 0 || counts["root"] != 1 || counts["no"] != 4 {
		t.Errorf("under the second root: %v", counts)
	}
	builder, err := sign.ReadKeyFile(s.file("builder"))
	if err != nil {
		t.Fatal(err)
	}
	s.keys(0, "publish", builder.Fingerprint()[:10], "--purpose", "function", "--key", s.file("root-2"))
	s.keys(0, "publish", s.file("sidecar"), "--purpose", "span", "--key", s.file("root-2"))
	s.logline(0, "bootstrap", "--key", s.file("root-2"))
	if said := s.logline(0, "manifest", "--key", s.file("root-2")); !strings.Contains(said, "unchanged") {
		t.Errorf("bootstrap has not signed its manifest anew: %s", said)
	}
	s.keys(0, "revoke", builder.Fingerprint(), "--from-start", "--key", s.file("root-2"))
	if counts := s.counts(); counts["yes"] != 1 || counts["root"] != 1 || counts["no"] != 3 {
		t.Errorf("after it took over two, and revoked one: %v", counts)
	}
	for _, again := range [][]string{{}, {"--from-start"}} {
		said := s.keys(1, append([]string{"revoke", builder.Fingerprint()}, again...)...)
		if !strings.Contains(said, "from its start already") {
			t.Errorf("revoked once more, %v: %s", again, said)
		}
	}
	s.serveSigned("sidecar")
	s.run(alice, `return 1;`)
}

// A theft that turns out to be older than was thought: what counted before the revocation stops to.
func TestARevocationIsStrengthened(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.serveSigned("sidecar")
	s.require("root", []string{"function"})
	s.keys(0, "generate", "--purpose", "function", "--key", s.file("root"), "--out", s.file("alice"))
	kept := s.insert(alice, s.signed("alice", with(function(`return 6;`), columns{"status": "active"}), alice))
	s.keys(0, "revoke", s.file("alice"), "--key", s.file("root"))
	sameJSON(t, s.call(kept.ID).Output, `6`)
	if said := s.keys(1, "revoke", s.file("alice")); !strings.Contains(said, "add --from-start") {
		t.Errorf("revoked once more: %s", said)
	}
	said := s.keys(0, "revoke", s.file("alice"), "--from-start", "--key", s.file("root"))
	if !strings.Contains(said, "nothing that it has signed counts") {
		t.Errorf("strengthened: %s", said)
	}
	if fault := failure(t, s.call(kept.ID)); fault.Code != span.RunRevoked {
		t.Errorf("what was signed before the first revocation: %+v", fault)
	}
	if said := s.keys(0, "list"); !strings.Contains(said, "revoked from its start") {
		t.Errorf("the list says %s", said)
	}
}

// counts is how many keys of the list count how.
func (s *signedSystem) counts() map[string]int {
	s.t.Helper()
	said := s.keys(0, "list", "--json")
	var entries []sign.Entry
	if err := json.Unmarshal([]byte(said), &entries); err != nil {
		s.t.Fatalf("%v: %s", err, said)
	}
	counts := map[string]int{}
	for _, entry := range entries {
		counts[entry.Counts]++
	}
	return counts
}

const systemVersions = `select count(*) from ledger.universal_registry
	where entity_type in ('key', 'function') and owner_id = 'system'`

func TestUpKeepsItsKeysAndMakesARootOnlyWhereThereIsNone(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	first := up(t, dir)
	for _, name := range []string{"root.key", "sidecar.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, %v", name, info, err)
		}
	}
	const unsigned = `select count(*) from ledger.universal_registry where signature is null
		and who not like 'user:%'`
	if n := first.query(unsigned); n != 0 {
		t.Errorf("%d spans of the system are not signed", n)
	}
	root, err := sign.ReadKeyFile(filepath.Join(dir, "root.key"))
	if err != nil || first.env["LOGLINE_TRUST_ROOT"] != root.Fingerprint() {
		t.Errorf("up.env pins %q, the root is %v, %v", first.env["LOGLINE_TRUST_ROOT"], root, err)
	}
	first.Stop(syscall.SIGINT)

	second := up(t, dir, "--quiet")
	before := second.query(systemVersions)
	if second.env["LOGLINE_TRUST_ROOT"] != first.env["LOGLINE_TRUST_ROOT"] {
		t.Error("a restart changes the root")
	}
	second.Stop(syscall.SIGINT)

	checkUpWithoutRoot(t, dir, root, before)
}

// checkUpWithoutRoot takes the root key away, as docs/keys.md asks for, and then more.
func checkUpWithoutRoot(t *testing.T, dir string, root *sign.Key, versions int) {
	t.Helper()
	remove := func(name string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, wants ...string) {
		t.Helper()
		p := program.Start(t, nil, "up", "--data-dir", dir, "--listen", "127.0.0.1:0")
		code := p.Wait()
		for _, want := range wants {
			if code != 1 || !strings.Contains(p.Err.String(), want) {
				t.Errorf("%s: exit %d, %s; want %q in it", what, code, p.Err.String(), want)
			}
		}
	}
	remove("root.key")
	third := up(t, dir)
	third.AwaitReady()
	if third.env["LOGLINE_TRUST_ROOT"] != root.Fingerprint() {
		t.Errorf("without root.key up pins %s, not %s", third.env["LOGLINE_TRUST_ROOT"], root.Fingerprint())
	}
	if _, err := os.Stat(filepath.Join(dir, "root.key")); err == nil {
		t.Error("up has made another root")
	}
	if n := third.query(systemVersions); n != versions {
		t.Errorf("%d versions of keys and kernels, and %d before", n, versions)
	}
	if said := third.Out.String(); !strings.Contains(said, "root.key is not here") ||
		!strings.Contains(said, "logline bootstrap --key FILE") {
		t.Errorf("up does not say that it is without the root key: %s", said)
	}
	revoke := program.Start(t, []string{"DATABASE_URL=" + third.env["DATABASE_URL"]}, "keys", "revoke",
		filepath.Join(dir, "sidecar.key"))
	if code := revoke.Wait(); code != 0 {
		t.Fatalf("revoke exits with %d", code)
	}
	third.Stop(syscall.SIGINT)

	refused("a revoked key and no root", "is revoked", "put root.key back")
	if err := sign.WriteKeyFile(filepath.Join(dir, "root.key"), root, ""); err != nil {
		t.Fatal(err)
	}
	refused("a revoked key", "has the status revoked", "remove "+filepath.Join(dir, "sidecar.key"))
	remove("sidecar.key")
	remove("root.key")
	refused("no keys", "put root.key back", "logline keys generate --root --out "+filepath.Join(dir, "root.key"))
	if _, err := os.Stat(filepath.Join(dir, "sidecar.key")); err == nil {
		t.Error("a sidecar's key is made that nobody can sign")
	}
	remove("up.env")
	refused("no keys and no pin", "LOGLINE_TRUST_ROOT", root.Fingerprint(), "put root.key back")
	generate := program.Start(t, nil, "keys", "generate", "--root", "--out", filepath.Join(dir, "root.key"))
	if code := generate.Wait(); code != 0 {
		t.Fatalf("generate exits with %d", code)
	}
	last := up(t, dir, "--quiet")
	last.AwaitReady()
	if last.env["LOGLINE_TRUST_ROOT"] == root.Fingerprint() || last.query(systemVersions) <= versions {
		t.Error("another root that was stated has not taken over")
	}
	last.Stop(syscall.SIGINT)
}
