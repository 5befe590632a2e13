package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// bootstrapped runs `logline bootstrap --json` and returns what it says of each span, by name.
func (s *signedSystem) bootstrapped(code int, args ...string) map[string]app.Change {
	s.t.Helper()
	env := []string{"DATABASE_URL=" + s.db.URL, "LOGLINE_TRUST_ROOT=" + s.root}
	p := program.Start(s.t, env, append([]string{"bootstrap", "--json"}, args...)...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("bootstrap %v exits with %d, want %d:\n%s", args, got, code, p.Err.String())
	}
	var changes []app.Change
	if err := json.Unmarshal([]byte(p.Out.String()), &changes); err != nil {
		s.t.Fatalf("decode %s: %v", p.Out.String(), err)
	}
	byName := map[string]app.Change{}
	for _, c := range changes {
		byName[c.Name] = c
	}
	return byName
}

// edit publishes another code of a kernel, signed by the root, as whoever this is.
func (s *signedSystem) edit(id span.ID, who, code string) {
	s.t.Helper()
	row := s.next(id)
	document := columns{"id": row.ID, "seq": row.Seq + 1, "prev_hash": s.latest(id).CurrHash,
		"entity_type": "function", "who": who, "status": "active", "visibility": "public", "name": row.Name,
		"description": row.Description, "language": "javascript", "code": code}
	body, err := json.Marshal(s.signed("root", document, user{"system", "system"}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.exec("select ledger.append($1::text::jsonb)", string(body))
}

func (s *signedSystem) rows() int {
	s.t.Helper()
	return one[int](s.system, "select count(*)::int from ledger.universal_registry")
}

func TestBootstrapShowsWhatWouldChangeAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	const old = "export default async function main(ctx) { return 'old'; }\n"
	s.edit(span.ProviderExecID, "system:bootstrap", old)
	s.edit(span.PolicyAgentID, "client:me", old)
	if again := s.bootstrapped(0); again["kernel_manifest"].State != app.Unchanged {
		t.Errorf("of the manifest that is there a second bootstrap says %+v", again["kernel_manifest"])
	}
	before := s.rows()
	said := s.bootstrapped(0, "--diff", "--key", s.file("root"))
	changed, kept := said["provider_exec"], said["policy_agent"]
	if changed.State != app.WouldPublish || changed.Version != 3 ||
		!strings.Contains(changed.Diff, "-export default async function main(ctx) { return 'old'; }\n") ||
		!strings.Contains(changed.Diff, "--- provider_exec, version 2\n+++ provider_exec, version 3\n") {
		t.Errorf("a kernel that bootstrap would change: %+v", changed)
	}
	if kept.State != app.KeptAsIs || !strings.Contains(kept.Why, "client:me") ||
		!strings.Contains(kept.Diff, "+++ policy_agent, as shipped\n") {
		t.Errorf("a kernel that somebody else wrote: %+v", kept)
	}
	if unchanged := said["run_code"]; unchanged.State != app.Unchanged || unchanged.Diff != "" {
		t.Errorf("a kernel that is as shipped: %+v", unchanged)
	}
	s.govern(func(m map[string]any) { m["policy"].(map[string]any)["slow_ms"] = 77 })
	manifest := s.bootstrapped(1, "--check")["kernel_manifest"]
	if manifest.State != app.KeptAsIs || !strings.Contains(manifest.Diff, `-    "slow_ms": 77`) {
		t.Errorf("a manifest that is not the shipped one: %+v", manifest)
	}
	if after := s.rows(); after != before+1 { // the manifest of above
		t.Errorf("%d rows, want %d: a draft has appended", after, before+1)
	}
	s.bootstrapped(0, "--key", s.file("root"), "--over", "policy_agent")
	s.bootstrapped(0, "--check", "--key", s.file("root"))
}

// A start runs bootstrap, and has no key: it must not fail for want of one where nothing has changed.
func TestBootstrapWantsAKeyOnlyForWhatItPublishes(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.require("root", true)
	root := s.root
	before := s.rows()
	for _, s.root = range []string{root, ""} { // Compose may pin none
		for name, change := range s.bootstrapped(0) {
			if change.State != app.Unchanged && name != "kernel_manifest" {
				t.Errorf("with the root %q, %s is %+v", s.root, name, change)
			}
		}
	}
	s.root = root
	s.edit(span.RunCodeID, "system:bootstrap", "export default async function main(ctx) { return 'old'; }\n")
	for _, s.root = range []string{root, ""} {
		for _, args := range [][]string{{"bootstrap"}, {"bootstrap", "--kernels"}} {
			if said := s.logline(1, args...); !strings.Contains(said, "--key FILE") ||
				!strings.Contains(said, "run_code") {
				t.Errorf("with the root %q and a changed kernel it says %s", s.root, said)
			}
		}
		s.bootstrapped(0, "--policies")
		s.bootstrapped(0, "--diff")
	}
	s.root = root
	if after := s.rows(); after != before+1 { // the edit of above
		t.Errorf("%d rows, want %d", after, before+1)
	}
	s.logline(1, "bootstrap", "--key", s.file("sidecar")) // of another purpose
	s.bootstrapped(0, "--key", s.file("root"))
	s.bootstrapped(0)
}

func TestBootstrapPublishesKernelsAndPoliciesApart(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	said := s.bootstrapped(0, "--kernels")
	if _, isThere := said["run_code"]; len(said) != 5 || !isThere {
		t.Errorf("--kernels is about %v", said)
	}
	said = s.bootstrapped(0, "--policies")
	if _, isThere := said["ttl_reaper"]; len(said) != 8 || !isThere {
		t.Errorf("--policies is about %v", said)
	}
	if said = s.bootstrapped(0, "--policies", "--kernels"); len(said) != 13 {
		t.Errorf("both are about %v", said)
	}
	s.logline(2, "bootstrap", "--over", "nobody")
	s.logline(2, "bootstrap", "--rollback", "run_code@new")
	s.logline(2, "bootstrap", "--rollback", "run_code", "--kernels")
}

// Whatever it is called by, the manifest's rollback says when it takes force.
func TestTheManifestIsRolledBackByEachOfItsNames(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.logline(0, "manifest", "--give", "run_code=fetch:api.example.com:443")
	for _, name := range []string{"kernel_manifest@0", span.ManifestID.String() + "@1", "manifest@0"} {
		if out, _ := s.logline(0, "bootstrap", "--rollback", name); !strings.Contains(out, "in force now") {
			t.Errorf("--rollback %s prints %q", name, out)
		}
	}
}

// What docs/policies.md says of switching a policy of the system off: a draft comes back, archived ends.
func TestAPolicyIsSwitchedOffAndOn(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	off := func(status, name string) {
		s.exec(`insert into ledger.universal_registry
				(id, seq, entity_type, who, did, owner_id, tenant_id, visibility, status, name)
			select id, seq + 1, entity_type, 'system:governor', 'switched off', owner_id, tenant_id, visibility,
				$1, name
			from ledger.visible_timeline where name = $2`, status, name)
	}
	key := s.file("root")
	off("draft", "throttle")
	if kept := s.bootstrapped(0, "--key", key)["throttle"]; kept.State != app.KeptAsIs {
		t.Errorf("bootstrap switches on what a governor has switched off: %+v", kept)
	}
	back := s.bootstrapped(0, "--rollback", "throttle", "--key", key)["throttle"]
	if back.State != app.Published {
		t.Errorf("a rollback of a draft: %+v", back)
	}
	off("archived", "slow_exec")
	for _, more := range []string{"--policies", "--over=slow_exec"} {
		kept := s.bootstrapped(0, "--key", key, more)["slow_exec"]
		if kept.State != app.KeptAsIs || !strings.Contains(kept.Why, "it is archived, and nothing follows that") {
			t.Errorf("%s of one that is archived: %+v", more, kept)
		}
	}
}

// A rollback appends; it is signed where the version before is, and bootstrap does not undo it.
func TestARollbackAppendsWhatAFormerVersionSaid(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.serveSigned("sidecar")
	shipped := *s.latest(span.RunCodeID).Code
	const mine = "export default async function main(ctx) { throw new Error('not today'); }\n"
	s.edit(span.RunCodeID, "client:me", mine)
	broken := s.latest(span.RunCodeID).Seq
	if last := s.run(alice, "return 1").last(); last.StatusText() == "complete" {
		t.Fatalf("the broken kernel ended a run with %s", last.StatusText())
	}
	for _, args := range [][]string{ // what it refuses
		{"run_code"}, {"run_code", "--key", s.file("sidecar")}, {"run_code@99", "--key", s.file("root")},
		{"slow_exec@0"}, {"request_worker", "--key", s.file("root")},
	} {
		s.logline(1, append([]string{"bootstrap", "--rollback"}, args...)...)
	}
	said := s.bootstrapped(0, "--rollback", "run_code", "--key", s.file("root"))["run_code"]
	row := s.latest(span.RunCodeID)
	if said.State != app.Published || said.Version != broken+1 || row.Seq != broken+1 || *row.Code != shipped ||
		said.Signer != s.root || row.Who != "system:bootstrap" || said.Hash != *row.CurrHash {
		t.Errorf("the rollback says %+v, and appended version %d by %s", said, row.Seq, row.Who)
	}
	sameJSON(t, s.run(alice, "return 2").execution(t).Output, "2")
	said = s.bootstrapped(0, "--rollback", "run_code@1", "--key", s.file("root"))["run_code"]
	if said.State != app.Unchanged {
		t.Errorf("a rollback to what stands: %+v", said)
	}

	// Forward again, to what is not shipped: bootstrap leaves that.
	said = s.bootstrapped(0, "--rollback", "run_code@2", "--key", s.file("root"))["run_code"]
	if row = s.latest(span.RunCodeID); *row.Code != mine || row.Who != "system:rollback" || said.Diff == "" {
		t.Errorf("version %d by %s, %+v", row.Seq, row.Who, said)
	}
	if kept := s.bootstrapped(0, "--key", s.file("root"))["run_code"]; kept.State != app.KeptAsIs {
		t.Errorf("bootstrap undid a rollback: %+v", kept)
	}
	s.bootstrapped(0, "--key", s.file("root"), "--over", "run_code")
	if row = s.latest(span.RunCodeID); *row.Code != shipped {
		t.Error("--over has not gone over the rollback")
	}
	versions := s.read("id = $1", span.RunCodeID.String())
	isSorted := slices.IsSortedFunc(versions, func(a, b *span.Span) int { return a.Seq - b.Seq })
	if !isSorted || len(versions) != row.Seq+1 {
		t.Errorf("%d versions up to %d", len(versions), row.Seq)
	}
}

// The manifest goes back, too, and what nobody's signature is on is signed by no rollback.
func TestARollbackSignsNothingThatNobodyVouchesFor(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	first := s.latest(span.ManifestID)
	s.manifest(0, "--give", "run_code=sql", "--key", s.file("root"))
	said := s.logline(0, "bootstrap", "--rollback", "manifest", "--key", s.file("root"))
	if !strings.Contains(said, "in force now") {
		t.Errorf("the rollback of the manifest says\n%s", said)
	}
	if now := s.latest(span.ManifestID); now.Seq != first.Seq+2 {
		t.Errorf("the manifest is at version %d, want %d", now.Seq, first.Seq+2)
	} else {
		sameJSON(t, now.Metadata, string(first.Metadata))
	}
	slipped := s.next(span.RunCodeID)
	slipped.Who, slipped.Code = "system:bootstrap", new("export default async function main(ctx) {}")
	s.publish(slipped) // hashed, and not signed
	seq := s.latest(span.RunCodeID).Seq
	s.bootstrapped(0, "--key", s.file("root"), "--over", "run_code")
	said = s.logline(1, "bootstrap", "--rollback", "run_code@"+string(rune('0'+seq)), "--key", s.file("root"))
	if !strings.Contains(said, "no signature that counts") {
		t.Errorf("it says\n%s", said)
	}
	s.logline(1, "bootstrap", "--rollback", "run_code", "--key", s.file("root"))
}
