package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// forbid takes a kernel off the whitelist; allow puts it back.
func forbid(id span.ID) func(map[string]any) {
	return func(manifest map[string]any) {
		manifest["allowed_boot_ids"] = slices.DeleteFunc(manifest["allowed_boot_ids"].([]any),
			func(allowed any) bool { return allowed == id.String() })
	}
}

func allow(id span.ID) func(map[string]any) {
	return func(manifest map[string]any) {
		manifest["allowed_boot_ids"] = append(manifest["allowed_boot_ids"].([]any), id.String())
	}
}

func TestAKernelOffTheWhitelistDoesNotBoot(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	kernels := map[string]span.ID{"run_code": span.RunCodeID, "request_worker": span.RequestWorkerID}
	for name, id := range kernels {
		t.Run(name, func(t *testing.T) {
			s.run(alice, `return 1;`)
			s.govern(forbid(id))
			got := s.run(alice, `return 1;`)
			fault := failure(t, got.execution(t))
			if fault.Code != span.RunNotAllowed || got.last().StatusText() != "error" {
				t.Errorf("%+v, request %s: want %s, error", fault, got.last().StatusText(), span.RunNotAllowed)
			}
			if answer := sidecar.Readiness(); answer.Code != 503 || !strings.Contains(answer.Reason, "not_allowed") {
				t.Errorf("/readyz answers %+v, want 503 and why", answer)
			}
			s.govern(allow(id))
			sameJSON(t, s.run(alice, `return 2;`).execution(t).Output, `2`)
		})
	}
	sidecar.AwaitReady()
	judge(t, s)
}

func TestAMalformedManifestNeverTakesForce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	faults := map[string]func(map[string]any){
		"an unknown key":     func(m map[string]any) { m["allow_boot_ids"] = []string{} },
		"a wrong type":       func(m map[string]any) { m["allowed_boot_ids"] = "all" },
		"a limit too high":   func(m map[string]any) { m["policy"] = map[string]int{"timeout_ms": 1_000_000} },
		"an unknown grant":   func(m map[string]any) { m["grants"] = map[string][]string{"run_code": {"rule"}} },
		"an unknown trigger": func(m map[string]any) { m["triggers"] = []any{map[string]any{"kernel": "nobody"}} },
	}
	incidents := 0
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			good := s.latest(span.ManifestID).Metadata
			s.govern(fault)
			incidents++
			bad := s.latest(span.ManifestID)
			sameJSON(t, s.run(alice, `return 1;`).execution(t).Output, `1`)
			found := s.read("entity_type = 'incident' and parent_id = $1", span.ManifestID.String())
			if len(found) != incidents {
				t.Fatalf("%d incidents about the manifest, want %d", len(found), incidents)
			}
			meta, _ := found[len(found)-1].Engine()
			if meta == nil || meta.Cause != bad.Key() || found[0].Visibility != "private" {
				t.Errorf("the incident is about %+v, want %v, private", meta, bad.Key())
			}
			// The next version that is sound takes force again.
			s.govern(func(m map[string]any) {
				clear(m)
				if err := json.Unmarshal(good, &m); err != nil {
					t.Fatal(err)
				}
			})
			sameJSON(t, s.run(alice, `return 2;`).execution(t).Output, `2`)
		})
	}
	if answer := sidecar.Readiness(); !answer.Ready {
		t.Errorf("/readyz answers %+v", answer)
	}
}

// Which manifest is in force must not depend on when the sidecar was started.
func TestARestartDoesNotPutAMalformedManifestInForce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	sameJSON(t, s.run(alice, `return 1;`).execution(t).Output, `1`)
	for range 2 {
		s.govern(func(m map[string]any) { m["allowed_boot_ids"] = "all" })
	}
	sameJSON(t, s.run(alice, `return 2;`).execution(t).Output, `2`)
	killAndCheck(t, sidecar)
	s.serve()
	sameJSON(t, s.run(alice, `return 3;`).execution(t).Output, `3`)
}

func TestAKernelsNextVersionChangesBehaviorWithoutARestart(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	before := s.run(alice, `return 1;`).execution(t)
	const place = `    this: "run_code",`
	version := s.next(span.RunCodeID)
	changed := strings.Replace(*version.Code, place, place+"\n    metadata: { flavor: \"second\" },", 1)
	if changed == *version.Code {
		t.Fatal("run_code has no longer the line that this test changes")
	}
	version.Code = &changed
	s.publish(version)
	after := s.run(alice, `return 1;`).execution(t)

	seq := func(execution *span.Span) (seq int, flavor string) {
		var record struct {
			audit
			Flavor string `json:"flavor"`
		}
		if err := json.Unmarshal(execution.Metadata, &record); err != nil {
			t.Fatal(err)
		}
		for _, kernel := range record.Run.Kernels {
			if kernel.Name == "run_code" {
				seq = kernel.Seq
			}
		}
		return seq, record.Flavor
	}
	if n, flavor := seq(before); n != 0 || flavor != "" {
		t.Errorf("before: version %d, flavor %q", n, flavor)
	}
	if n, flavor := seq(after); n != 1 || flavor != "second" {
		t.Errorf("after: version %d, flavor %q, want version 1, second", n, flavor)
	}
	// Each version's boots are on record, at the latest after the stop.
	if code := sidecar.Stop(15); code != 0 {
		t.Errorf("SIGTERM ends with %d", code)
	}
	booted := map[int]bool{}
	for _, event := range s.read("entity_type = 'boot_event' and parent_id = $1", span.RunCodeID.String()) {
		var output struct {
			Count    int
			Function struct{ Seq int }
		}
		if err := json.Unmarshal(event.Output, &output); err != nil || output.Count < 1 {
			t.Errorf("boot event %s: %v", event.Output, err)
		}
		booted[output.Function.Seq] = true
		if event.TenantID != "system" || event.Visibility != "private" {
			t.Errorf("the boot event is of %s, %s", event.TenantID, event.Visibility)
		}
	}
	if !booted[0] || !booted[1] {
		t.Errorf("boot events for versions %v, want 0 and 1", booted)
	}
	judge(t, s)
}

func TestAVersionTakesForceAtItsTime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.run(alice, `return 1;`)
	due := span.NewTime(one[time.Time](s, "select clock_timestamp() + interval '1500 ms'"))
	kernel, manifest := s.next(span.RunCodeID), s.next(span.ManifestID)
	kernel.Code, kernel.EffectiveAt = new("// later\n"+*kernel.Code), &due
	manifest.EffectiveAt = &due
	manifest.Metadata = json.RawMessage(strings.Replace(string(manifest.Metadata), `"slow_ms": 5000`,
		`"slow_ms": 0`, 1))
	s.publish(kernel, manifest)
	seqOf := func(execution *span.Span) int {
		var record audit
		if err := json.Unmarshal(execution.Metadata, &record); err != nil {
			t.Fatal(err)
		}
		return record.Run.Kernels[len(record.Run.Kernels)-1].Seq
	}
	early := s.run(alice, `return 1;`).execution(t)
	if early.AcceptedAt.Before(due.Time) && seqOf(early) != 0 {
		t.Error("the kernel is in force before its time")
	}
	program.Eventually(t, "the time has come", func() bool {
		return one[time.Time](s, "select clock_timestamp()").After(due.Time)
	})
	const slow = `let n = 0; for (let i = 0; i < 100000; i++) n += i; return n;`
	late := s.run(alice, slow).execution(t)
	if seqOf(late) != 1 {
		t.Errorf("the kernel is version %d after its time, want 1", seqOf(late))
	}
	if marks := s.read("entity_type = 'status_patch' and parent_id = $1", late.ID.String()); len(marks) != 1 {
		t.Errorf("the manifest is not in force after its time: %d slow marks, want 1", len(marks))
	}
}

func TestATamperedKernelIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	s.run(alice, `return 1;`)
	good := s.latest(span.RunCodeID)
	tampered := s.next(span.RunCodeID)
	tampered.Seq = good.Seq + 1
	if err := tampered.Seal(good.CurrHash); err != nil {
		t.Fatal(err)
	}
	tampered.Code = new(*tampered.Code + "\n// one line more than was hashed\n")
	s.append(tampered)
	if fault := failure(t, s.run(alice, `return 1;`).execution(t)); fault.Code != span.RunHashMismatch {
		t.Errorf("got %+v, want %s", fault, span.RunHashMismatch)
	}
	if answer := sidecar.Readiness(); answer.Code != 503 || !strings.Contains(answer.Reason, "run_code") {
		t.Errorf("/readyz answers %+v, want 503 and which kernel", answer)
	}
	mended := s.next(span.RunCodeID)
	mended.Code = good.Code
	s.publish(mended)
	sameJSON(t, s.run(alice, `return 2;`).execution(t).Output, `2`)
	sidecar.AwaitReady()
}

// append writes system spans as they are.
func (s *system) append(spans ...*span.Span) {
	s.t.Helper()
	for _, row := range spans {
		encoded, err := json.Marshal(row)
		if err != nil {
			s.t.Fatal(err)
		}
		var c columns
		if err := json.Unmarshal(encoded, &c); err != nil {
			s.t.Fatal(err)
		}
		names, list := sorted(c)
		s.exec("insert into ledger.universal_registry ("+names+") select "+list+
			" from json_populate_record(null::ledger.universal_registry, $1::json) as b", string(encoded))
	}
}

func TestClientsDoNotGovern(t *testing.T) {
	t.Parallel()
	s := setup(t)
	kernel := s.latest(span.RunCodeID)
	s.refused(alice, span.CodeWriter, columns{"entity_type": "manifest", "status": "active",
		"metadata": columns{}})
	s.refused(alice, span.CodeReservedID, columns{"id": "00000000-0000-4000-8000-0000000000bb",
		"entity_type": "function", "status": "active", "code": "return 1;"})
	s.refused(alice, span.CodeNotOwner, columns{"id": kernel.ID, "seq": kernel.Seq + 1,
		"entity_type": "function", "status": "active", "code": "return 1;", "owner_id": "system",
		"tenant_id": "system"})
	s.refused(alice, span.CodeWriter, columns{"entity_type": "execution", "status": "complete"})
	s.refused(alice, span.CodeReservedEngine, function("return 1;",
		columns{"metadata": columns{"engine": columns{}}}))
}

// Whoever governs may take the manifest out of force: then no sidecar starts, and says what to do.
func TestAManifestThatIsOutOfForceIsBroughtBack(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	printed := filepath.Join(s.dir, "manifest.json")
	var document json.RawMessage
	if err := json.NewDecoder(strings.NewReader(s.logline(0, "manifest"))).Decode(&document); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(printed, document, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"deprecated", "revoked"} {
		s.slip(span.ManifestID, func(row *span.Span) { row.Status = &status })
		p := s.spawn("LOGLINE_TRUST_ROOT="+s.root, "LOGLINE_SIGNING_KEY_FILE="+s.file("sidecar"))
		if code := p.Wait(); code != 1 || !strings.Contains(p.Err.String(), "logline manifest --file FILE") {
			t.Errorf("%s: exit %d, %s", status, code, p.Err.String())
		}
		s.logline(0, "manifest", "--file", printed, "--key", s.file("root"))
		sidecar := s.serveSigned("sidecar")
		s.run(alice, `return 1;`)
		if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%s: the sidecar exits with %d", status, code)
		}
	}
}
