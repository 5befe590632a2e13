package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

var receiptsID = span.MustID("00000000-0000-4000-8000-000000000e02")

// receipts puts a kernel of the deployment's own to work.
func (s *system) receipts() {
	s.t.Helper()
	kernel := s.next(span.ObserverBotID)
	kernel.ID, kernel.Seq, kernel.Name = receiptsID, 0, new("receipts")
	kernel.Code = new("export default async function main(ctx) {}")
	s.publish(kernel)
	s.govern(func(m map[string]any) {
		m["kernels"].(map[string]any)["receipts"] = receiptsID
		m["allowed_boot_ids"] = append(m["allowed_boot_ids"].([]any), receiptsID)
		m["triggers"] = append(m["triggers"].([]any), map[string]any{"kernel": "receipts",
			"when": map[string]any{"entity_type": "order"}})
	})
}

// A kernel that no request needs is named where it cannot boot, and the sidecar is ready all the same; one
// that runs requests makes it unready. The answer also says which manifest rules.
func TestOnlyAKernelThatRequestsNeedMakesTheSidecarUnready(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.receipts()
	sidecar := s.serve()
	for _, c := range []struct {
		name     string
		change   func()
		isReady  bool
		degraded string // the kernel, where there is one
		says     string
	}{
		{"all is well", func() {}, true, "", ""},
		{"a kernel of one's own is out of use", func() {
			kernel := s.next(receiptsID)
			kernel.Status = new("deprecated")
			s.publish(kernel)
		}, true, "receipts", "status deprecated"},
		{"another one is pinned to what is not there", func() {
			s.govern(func(m map[string]any) { m["pins"] = map[string]int{"provider_exec": 50} })
		}, true, "provider_exec", "version 50"},
		{"run_code is pinned to what is not there", func() {
			s.govern(func(m map[string]any) { m["pins"] = map[string]int{"run_code": 77} })
		}, false, "receipts", "kernel run_code"},
		{"it is mended", func() {
			s.govern(func(m map[string]any) { delete(m, "pins") })
		}, true, "receipts", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change()
			var got program.Readiness
			if !program.Within(t, patience, func() bool {
				got = sidecar.Readiness()
				_, isDegraded := got.Degraded[c.degraded]
				return got.Ready == c.isReady && isDegraded == (c.degraded != "") &&
					strings.Contains(got.Reason+got.Degraded[c.degraded], c.says)
			}) {
				t.Fatalf("/readyz answers %+v", got)
			}
			if want := s.latest(span.ManifestID).Seq; got.Manifest.Seq != want {
				t.Errorf("the manifest in force is %d, want %d", got.Manifest.Seq, want)
			}
		})
	}
	sameJSON(t, s.run(alice, `return 1;`).execution(t).Output, `1`)
}

// upOn starts `logline up` on the database of s and waits for what it says.
func (s *system) upOn(dir, says string) *program.Process {
	s.t.Helper()
	p := program.Start(s.t, nil, "up", "--data-dir", dir, "--listen", "127.0.0.1:0", "--database", s.db.URL)
	p.AwaitSaid(says)
	if p.HasEnded() {
		s.t.Fatalf("up has ended with %d:\n%s%s", p.Code(), p.Out.String(), p.Err.String())
	}
	return p
}

// What a governor has broken, he mends by commands that need the database that up keeps up.
func TestUpStaysUpWhereTheLedgerLetsNothingRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, says string
		spoil      func(s *system)
	}{
		{"a pin on what is not there", "kernel run_code", func(s *system) {
			s.govern(func(m map[string]any) { m["pins"] = map[string]int{"run_code": 77} })
		}},
		{"a manifest out of force", "the status", func(s *system) {
			version := s.next(span.ManifestID)
			version.Status = new("deprecated")
			s.publish(version)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := migrated(t, pgtest.NewCluster(t, nil))
			if p := program.Start(t, nil, "migrate", "--again", "--database", s.db.URL); p.Wait() != 0 {
				t.Fatalf("migrate --again: %s", p.Err.String())
			}
			dir := pgtest.Dir(t)
			first := s.upOn(dir, "ready      http://")
			good := s.manifest(0)
			if code := first.Stop(syscall.SIGINT); code != 0 {
				t.Fatalf("Ctrl-C ends with %d", code)
			}
			c.spoil(s)
			second := s.upOn(dir, "not ready  http://")
			if !strings.Contains(second.Out.String(), c.says) {
				t.Errorf("up does not say why:\n%s", second.Out.String())
			}
			if got := second.Readiness(); got.Ready || got.Code != 503 || !strings.Contains(got.Reason, c.says) {
				t.Errorf("/readyz answers %+v", got)
			}
			file := filepath.Join(dir, "good.json")
			if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
				t.Fatal(err)
			}
			s.manifest(0, "--file", file)
			second.AwaitSaid("\nready      http://")
			second.AwaitReady()
			if code := second.Stop(syscall.SIGINT); code != 0 {
				t.Errorf("Ctrl-C ends with %d: %s", code, second.Err.String())
			}
		})
	}
}

// Whoever looks at the terminal of up alone sees that nothing runs any more, and why.
func TestUpSaysWhenItIsNoLongerReadyAndWhenItIsAgain(t *testing.T) {
	t.Parallel()
	s := migrated(t, pgtest.NewCluster(t, nil))
	if p := program.Start(t, nil, "migrate", "--again", "--database", s.db.URL); p.Wait() != 0 {
		t.Fatalf("migrate --again: %s", p.Err.String())
	}
	dir := pgtest.Dir(t)
	p := s.upOn(dir, "ready      http://")
	file := filepath.Join(dir, "good.json")
	if err := os.WriteFile(file, []byte(s.manifest(0)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.govern(func(m map[string]any) { m["pins"] = map[string]int{"run_code": 77} })
	p.AwaitSaid("\nnot ready  http://")
	for line := range strings.Lines(p.Out.String()) {
		if strings.HasPrefix(line, "not ready") && !strings.Contains(line, "kernel run_code") {
			t.Errorf("up does not say why: %q", line)
		}
	}
	s.manifest(0, "--file", file)
	p.AwaitSaid("  again\n")
	if n := strings.Count(p.Out.String(), "not ready"); n != 1 {
		t.Errorf("it says %d times that it is not ready:\n%s", n, p.Out.String())
	}
	if code := p.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends it with %d: %s", code, p.Err.String())
	}
}
