package e2e_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// verify runs `logline verify --json` as the owner, unless more says otherwise.
func (s *system) verify(code int, args ...string) *app.Verification {
	s.t.Helper()
	return s.verifyAs(code, nil, args...)
}

// verifyAs is verify in an environment.
func (s *system) verifyAs(code int, env []string, args ...string) *app.Verification {
	s.t.Helper()
	args = append([]string{"verify", "--json"}, args...)
	if !slices.Contains(args, "--database") {
		args = append(args, "--database", s.db.URL)
	}
	if !slices.Contains(args, "--url") { // what else runs on this machine is not asked
		args = append(args, "--url", "http://127.0.0.1:1")
	}
	p := program.Start(s.t, env, args...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("%v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	v := &app.Verification{}
	if err := json.Unmarshal([]byte(p.Out.String()), v); err != nil {
		s.t.Fatalf("decode %s: %v", p.Out.String(), err)
	}
	if isOK := v.Failed == 0; isOK != app.Sound(v.Checks) {
		s.t.Errorf("%d have failed of\n%s", v.Failed, listed(v.Checks))
	}
	return v
}

// at are the checks of a level, each once.
func at(found []app.Finding, level app.Level) []string {
	var checks []string
	for _, f := range found {
		if f.Level == level && !slices.Contains(checks, f.Check) {
			checks = append(checks, f.Check)
		}
	}
	return checks
}

func TestVerifyFindsNothingWrongWithAWholeLedgerAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	sidecar := s.serveSigned("sidecar")
	before := one[string](s.system, "select count(*) || ' ' || max(accepted_at) from ledger.universal_registry")
	p := program.Start(t, []string{"DATABASE_URL=" + s.db.URL, "LOGLINE_TRUST_ROOT=" + s.root,
		"LOGLINE_URL=" + sidecar.URL()},
		"verify", "--strict")
	if code := p.Wait(); code != 0 {
		t.Fatalf("verify exits with %d:\n%s", code, p.Out.String())
	}
	said := p.Out.String()
	for _, words := range []string{" 0 warn, 0 fault, 0 skipped", "run_code", "signed by " + s.root[:12],
		"refused: LL001", "refused: 42501", "another tenant", "e2e leads, by wal", "its kernels verify"} {
		if !strings.Contains(said, words) {
			t.Errorf("it does not say %q:\n%s", words, said)
		}
	}
	if after := one[string](s.system, "select count(*) || ' ' || max(accepted_at) from ledger.universal_registry"); after !=
		before {
		t.Errorf("the ledger had %s, and has %s", before, after)
	}
	sameJSON(t, s.run(alice, "return 1").execution(t).Output, "1") // and it works on
}

// Each broken thing turns its own check red, and no other.
func TestVerifyNamesWhatIsBrokenAndNothingElse(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if got := at(s.verify(1).Checks, app.Fault); !slices.Equal(got, []string{"workers"}) {
		t.Fatalf("without a sidecar, red is %v", got)
	}
	const table = "alter table ledger.universal_registry "
	const again = "migrate --again"
	for _, c := range []struct{ name, spoil, check, undo string }{
		{"the row trigger is gone", "drop trigger universal_registry_before_change_row on ledger.universal_registry",
			"append-only", again},
		{"the statement trigger is gone",
			"drop trigger universal_registry_before_change_statement on ledger.universal_registry", "append-only", again},
		{"a trigger sleeps", table + "enable trigger universal_registry_before_change_statement",
			"append-only", again},
		{"the trigger lets through", `create or replace function ledger.refuse_change() returns trigger language plpgsql
			as 'begin return coalesce(new, old); end'`, "append-only", again},
		{"clients may update", "grant update on ledger.universal_registry to authenticated", "append-only",
			"revoke update on ledger.universal_registry from authenticated"},
		{"clients may truncate", "grant truncate on ledger.universal_registry to anon", "append-only",
			"revoke truncate on ledger.universal_registry from anon"},
		{"row level security is off", table + "disable row level security", "row level security", again},
		{"it does not bind the owner", table + "no force row level security", "row level security", again},
		{"a policy is gone", "drop policy universal_registry_select_authenticated on ledger.universal_registry",
			"row level security", again},
		{"a policy opens everything", "create policy all_of_it on ledger.universal_registry for select to anon using (true)",
			"row level security", "drop policy all_of_it on ledger.universal_registry"},
		{"a rule answers", "create rule quiet as on update to ledger.universal_registry do instead nothing",
			"append-only", "drop rule quiet on ledger.universal_registry"},
		{"the guard of inserts sleeps", table + "disable trigger universal_registry_before_insert_1_admit",
			"walls", again},
		{"who says what stands lies", `create or replace function ledger.guard_check() returns table (wall text, problem
			text, mend text) language plpgsql as 'begin end'`, "walls", again},
		{"the publication is gone", "drop publication loglineos", "publication", again},
	} {
		s.exec(c.spoil)
		v := s.verify(1)
		if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{c.check, "workers"}) {
			t.Errorf("%s: red is %v, want %s:\n%s", c.name, got, c.check, listed(v.Checks))
		}
		if c.undo != again {
			s.exec(c.undo)
		} else if p := program.Start(t, nil, "migrate", "--again", "--database", s.db.URL); p.Wait() != 0 {
			t.Fatalf("%s: migrate --again: %s", c.name, p.Err.String())
		}
		if got := at(s.verify(1).Checks, app.Fault); !slices.Equal(got, []string{"workers"}) {
			t.Fatalf("%s: after the mend red is %v", c.name, got)
		}
	}
}

// forge changes a row past every guard, as an owner can.
func (s *system) forge(change string) {
	s.t.Helper()
	const table = "alter table ledger.universal_registry "
	s.exec(table + "disable trigger user")
	s.exec("update ledger.universal_registry set " + change)
	for _, trigger := range []string{"before_change_row", "before_change_statement", "before_insert_1_admit",
		"before_insert_2_follow"} {
		s.exec(table + "enable always trigger universal_registry_" + trigger)
	}
}

func TestVerifyKnowsKernelsAndManifests(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.forge("code = code || ' ' where name = 'request_worker'")
	if got := at(s.verify(1).Checks, app.Fault); !slices.Equal(got, []string{"kernel request_worker",
		"workers"}) {
		t.Errorf("with a forged kernel red is %v", got)
	}
	s.forge("code = rtrim(code, ' ') where name = 'request_worker'")
	kernel := s.next(span.ProviderExecID)
	kernel.Code = new("export default async function main(ctx) {}")
	s.publish(kernel)
	v := s.verify(1)
	if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{"workers"}) {
		t.Errorf("with a kernel of somebody's red is %v", got)
	}
	tells(t, v.Checks, "kernel provider_exec", app.Warning, "not what this program ships", "--diff")
	s.govern(func(m map[string]any) {
		m["allowed_boot_ids"] = slices.DeleteFunc(m["allowed_boot_ids"].([]any), func(id any) bool {
			return id == span.PolicyAgentID.String()
		})
	})
	v = s.verify(1)
	tells(t, v.Checks, "kernel policy_agent", app.Fault, "not_allowed")
	version := s.next(span.ManifestID)
	version.Status = new("deprecated")
	s.publish(version)
	v = s.verify(1)
	if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{"manifest", "workers"}) {
		t.Errorf("without a manifest in force red is %v", got)
	}
	tells(t, v.Checks, "manifest", app.Fault, "deprecated", "--rollback manifest")
	tells(t, v.Checks, "kernels", app.Skipped, "no manifest is in force")
}

// Who pins a root has said whose signatures count: without its key, and with a kernel that nobody signed, a
// ledger is not whole.
func TestVerifyGoesByThePinnedRoot(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.serveSigned("sidecar")
	root := []string{"LOGLINE_TRUST_ROOT=" + s.root}
	tells(t, s.verifyAs(0, root).Checks, "root", app.Fine, s.root)
	other := []string{"LOGLINE_TRUST_ROOT=" + strings.Repeat("0", 64)}
	tells(t, s.verifyAs(1, other).Checks, "root", app.Fault, "its key is not in the ledger")

	s.forge("signature = null where name = 'run_code' and entity_type = 'function' and seq = 1")
	tells(t, s.verifyAs(0, root).Checks, "kernel run_code", app.Warning, "unsigned", "bootstrap --key")
	kernel := s.next(span.ProviderExecID)
	kernel.Code = new("export default async function main(ctx) {}")
	s.publish(kernel)
	tells(t, s.verifyAs(1, root).Checks, "kernel provider_exec", app.Fault, "not what this program ships")
	tells(t, s.verify(0).Checks, "kernel provider_exec", app.Warning, "not what this program ships")
}

// Rows that were written anew are no reason to look at nothing else, and the import door, which hides them,
// is for a restore alone.
func TestVerifySaysThatRowsWereRewrittenAndGoesOn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.run(alice, "return 1").execution(t)
	s.run(alice, "return 2").execution(t)
	s.forge("output = '3' where entity_type = 'execution'")
	v := s.verify(1)
	tells(t, v.Checks, "ledger", app.Fault, "changed past its walls", "compare it with a backup first")
	tells(t, v.Checks, "append-only", app.Fine, "LL001")
	if got := broken(s.comply(1, nil)); !slices.Contains(got, 7) {
		t.Errorf("broken is %v, want the proofs, too", got)
	}
}

// What runs with the owner's rights for clients is named: one that executes its argument gives all away.
func TestVerifyNamesDefinersThatClientsMayCall(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	tells(t, s.verify(0).Checks, "definers", app.Fine)
	s.exec(`create function public.exec_sql(query text) returns void language plpgsql security definer
		as 'begin execute query; end'`)
	tells(t, s.verify(0).Checks, "definers", app.Warning, "exec_sql(text)", "revoke execute")
	if p := s.comply(0, nil).Principles[3]; p.Level != app.Warning {
		t.Errorf("compliance has nothing to say of it: %s", p.Level)
	}
	s.exec("revoke execute on function public.exec_sql(text) from public")
	tells(t, s.verify(0).Checks, "definers", app.Fine)
}

// A sidecar that runs is asked; one that is gone is missed.
func TestVerifyAsksTheSidecar(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve("LOGLINE_WALLS_MS=100")
	v := s.verify(0, "--url", "http://127.0.0.1:1")
	tells(t, v.Checks, "workers", app.Fine, "e2e leads")
	tells(t, v.Checks, "stage-0", app.Skipped, "no sidecar answers at", "--url")
	s.verify(1, "--strict", "--url", "http://127.0.0.1:1")

	s.exec("alter table ledger.universal_registry no force row level security")
	program.Eventually(t, "the sidecar sees it", func() bool { return sidecar.Readiness().Code == 503 })
	v = s.verify(1, "--url", sidecar.URL())
	if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{"row level security"}) {
		t.Errorf("red is %v", got)
	}
	tells(t, v.Checks, "stage-0", app.Warning, "not ready", "told above")
	s.exec("alter table ledger.universal_registry force row level security")
	sidecar.AwaitReady()

	// One that goes by another manifest than the ledger's contradicts it.
	other := setup(t)
	other.govern(func(m map[string]any) { m["version"] = "another" })
	tells(t, s.verify(1, "--url", other.serve().URL()).Checks, "stage-0", app.Fault,
		"goes by manifest version 2")

	if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("the sidecar ends with %d", code)
	}
	v = s.verify(1)
	if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{"workers"}) {
		t.Errorf("after its end red is %v", got)
	}
	tells(t, v.Checks, "workers", app.Fault, "e2e did last", "logline serve")
	tells(t, v.Checks, "slot", app.Warning, "waits for a sidecar")
	tells(t, v.Checks, "stage-0", app.Skipped, "no sidecar leads")
}

// Who stops it learns nothing, rather than that the ledger is broken. A lock makes it wait meanwhile.
func TestACheckThatIsStoppedTellsNoFault(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, command := range []string{"verify", "compliance"} {
		holder, err := s.owner.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = holder.Exec(t.Context(), "lock table ledger.universal_registry in access exclusive mode")
		if err != nil {
			t.Fatal(err)
		}
		p := program.Start(t, nil, command, "--json", "--database", s.db.URL)
		program.Eventually(t, command+" waits", func() bool {
			return one[int](s, `select count(*)::int from pg_locks
				where relation = 'ledger.universal_registry'::regclass and not granted`) > 0
		})
		code := p.Stop(syscall.SIGTERM)
		if code != 1 || p.Out.String() != "" || !strings.Contains(p.Err.String(), "interrupted") {
			t.Errorf("%s exits with %d, and says %q, %q", command, code, p.Out.String(), p.Err.String())
		}
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What a login may not see is said, and not passed off as sound.
func TestVerifySaysWhatItCouldNotCheck(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	v := s.verify(0, "--database", s.db.SidecarURL)
	tells(t, v.Checks, "append-only", app.Skipped, "is not the owner", "use the login that owns")
	tells(t, v.Checks, "append-only service_role", app.Skipped, "service_role")
	tells(t, v.Checks, "append-only authenticated", app.Fine, "42501")
	if v.Unchecked == 0 {
		t.Error("it says that everything was checked")
	}
	s.verify(1, "--strict", "--database", s.db.SidecarURL)

	s.exec("create role stranger login password 'secret-word'")
	_, host, _ := strings.Cut(s.db.SidecarURL, "@")
	stranger := "postgres://stranger:secret-word@" + host
	v = s.verify(1, "--database", stranger)
	tells(t, v.Checks, "ledger", app.Fault, "may not look into it", "use the login that owns")
	tells(t, v.Checks, "everything else", app.Skipped)

	for _, command := range []string{"compliance", "e2e"} {
		p := program.Start(t, nil, command, "--database", stranger)
		if code := p.Wait(); code != 1 || !strings.Contains(p.Err.String(), "use the login that owns") {
			t.Errorf("%s exits with %d: %s", command, code, p.Err.String())
		}
	}

	// Another database's slot is not this one's.
	other := s.cluster.New(t)
	tells(t, s.verify(1, "--database", other.URL).Checks, "slot", app.Fault, "of the database", "LOGLINE_SLOT")

	// Where nothing may be written nothing can be tried, as on a standby; and that breaks no wall.
	frozen := s.db.URL + "&default_transaction_read_only=on"
	v = s.verify(1, "--database", frozen)
	tells(t, v.Checks, "ledger", app.Fault, "read-only", "connect to the primary")
	if _, said := s.logline(1, "verify", "--database", frozen); !strings.Contains(said, "failed: ledger\n") {
		t.Errorf("its last line is %q", said)
	}
	if got := at(v.Checks, app.Fault); !slices.Equal(got, []string{"ledger"}) {
		t.Errorf("in read-only transactions red is %v", got)
	}

	for _, words := range [][]string{{"migrate"}, {"migrate", "--again"}} {
		if _, said := s.logline(1, append(words, "--database", frozen)...); !strings.Contains(said, "25006") ||
			!strings.Contains(said, "takes no writes: it is a standby (connect to the primary)") {
			t.Errorf("%v in read-only transactions says %q", words, said)
		}
	}

	empty := s.cluster.Empty(t)
	tells(t, s.verify(1, "--database", empty.URL).Checks, "ledger", app.Fault, "no ledger", "logline migrate")
}

// Where guard_check itself lies, what was tried still tells.
func TestVerifyTriesAndDoesNotAskAlone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.exec(`create or replace function ledger.guard_check() returns table (wall text, problem text, mend text)
		language plpgsql as 'begin end'`)
	if got := at(s.verify(1).Checks, app.Fault); !slices.Equal(got, []string{"walls"}) {
		t.Fatalf("red is %v", got)
	}
	const trigger = "trigger universal_registry_before_change_statement"
	s.exec("drop " + trigger + " on ledger.universal_registry")
	s.exec("grant truncate on ledger.universal_registry to anon")
	s.exec("drop policy universal_registry_select_authenticated on ledger.universal_registry")
	s.exec("create policy open on ledger.universal_registry for select to authenticated using (true)")
	v := s.verify(1)
	want := []string{"row level security", "append-only", "append-only anon", "walls"}
	if got := at(v.Checks, app.Fault); !slices.Equal(got, want) {
		t.Errorf("red is %v, want %v", got, want)
	}
	tells(t, v.Checks, "append-only anon", app.Fault, "anon may run: truncate ledger.universal_registry")
	tells(t, v.Checks, "row level security", app.Fault, "select count(*)")
	if got := broken(s.comply(1, nil)); !slices.Equal(got, []int{2, 4, 6}) {
		t.Errorf("broken is %v", got)
	}
	failedStep(t, s.endToEnd(1), "refusals", "select count(*)", "logline verify")
	if n := s.unclosed(); n != 0 {
		t.Errorf("%d are open", n)
	}
}

// Beside a long reader the truncate that is tried waits, and who comes meanwhile waits behind it: for less
// than the lock_timeout of the sidecar's pool (and some room for a busy
// machine), and the truncate is told as untried.
func TestVerifyHoldsNobodyUpBesideALongReader(t *testing.T) {
	t.Parallel()
	s := setup(t)
	reader, err := s.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = reader.Exec(t.Context(), "lock table ledger.universal_registry in access share mode")
	if err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, nil, "verify", "--json", "--database", s.db.URL)
	calls := 0
	for ; !p.HasEnded(); calls++ {
		err := pgx.BeginFunc(t.Context(), s.owner, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "set local lock_timeout = '180ms'"); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "select from ledger.universal_registry limit 1")
			return err
		})
		if err != nil {
			t.Fatalf("beside verify, call %d: %v", calls, err)
		}
	}
	if said := p.Out.String(); !strings.Contains(said, "others hold the ledger") || calls < 10 {
		t.Errorf("in %d calls it has not waited for the reader:\n%s", calls, said)
	}
}
