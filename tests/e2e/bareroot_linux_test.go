package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// bareRootArg, DIR, PROGRAM, ARGUMENTS… are what makes a test binary become PROGRAM in DIR as its root.
const bareRootArg = "e2e-bare-root"

// distrolessUser is who `nonroot` is in distroless images.
const distrolessUser = 65532

// enterBareRoot becomes a program as a container's engine would start it: its root is a folder that cannot be
// written to, with nothing but what is in it and /proc; user and group 65532, no capability, no new rights.
// It returns only with an error. A chroot would not do: Linux refuses user namespaces there.
func enterBareRoot(args []string) error {
	if len(args) < 2 {
		return errors.New("want a folder and a program")
	}
	runtime.LockOSThread()
	dir := args[0]
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"leave the mounts", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
		{"keep mounts apart", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount the root", func() error { return unix.Mount(dir, dir, "", unix.MS_BIND, "") }},
		{"mount proc", func() error { return unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, "") }},
		{"close the root", func() error {
			return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, "")
		}},
		{"go there", func() error { return unix.Chdir(dir) }},
		{"change the root", func() error { return unix.PivotRoot(".", ".") }},
		{"leave the old one", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		{"gain nothing", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"leave groups", func() error { return syscall.Setgroups(nil) }},
		{"change the group", func() error { return syscall.Setgid(distrolessUser) }}, // all three of a root
		{"change the user", func() error { return syscall.Setuid(distrolessUser) }},
		{"start", func() error { return syscall.Exec(args[1], args[1:], os.Environ()) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// bareRoot makes a folder as the image's root is, but for what distroless adds (certificates, zones, users):
// the binary and nothing else.
func bareRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a root with nothing but the binary takes root to make")
	}
	dir := pgtest.Dir(t)
	for _, name := range []string{"", "proc"} {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	from, err := os.Open(program.Logline())
	must(t, err)
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "logline"), os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, errors.Join(err, to.Close()))
	return dir
}

// boxed starts the binary in its bare root.
func boxed(t *testing.T, dir string, env []string, args ...string) *program.Process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	return program.StartOf(t, self, env, append([]string{bareRootArg, dir, "/logline"}, args...)...)
}

// The image as Compose starts it, without an engine: a read-only root with the binary alone, user 65532, no
// capability, each step in the order of compose.yaml. Migrate, login and bootstrap bring it to where the
// sidecar serves, the walls of the sandbox stand, and the health check answers from there.
func TestTheBinaryAloneServesFromAReadOnlyRoot(t *testing.T) {
	t.Parallel()
	dir := bareRoot(t)
	cluster := pgtest.NewCluster(t, nil)
	s := &system{t: t, cluster: cluster, db: cluster.Empty(t)}
	s.owner = s.open(s.db.URL)
	owner := []string{"DATABASE_URL=" + s.db.URL}
	if p := boxed(t, dir, owner, "migrate"); p.Wait() != 0 {
		t.Fatalf("migrate exits with %d: %s", p.Code(), p.Err.String())
	}
	for _, password := range []string{"first", "it's \"new\""} { // the second run changes it
		login := boxed(t, dir, append(owner, "LOGLINE_PASSWORD="+password), "login")
		if login.Wait() != 0 || strings.Contains(login.Out.String(), password) {
			t.Fatalf("login exits with %d: %s%s", login.Code(), login.Out.String(), login.Err.String())
		}
	}
	if p := boxed(t, dir, append(owner, "LOGLINE_PASSWORD="), "login"); p.Wait() != 2 {
		t.Errorf("login with an empty password exits with %d: %s", p.Code(), p.Out.String())
	}
	if p := boxed(t, dir, owner, "bootstrap"); p.Wait() != 0 {
		t.Fatalf("bootstrap exits with %d: %s", p.Code(), p.Err.String())
	}
	s.letClientsIn()
	env := []string{"DATABASE_URL=" + s.urlOf("logline_app", "it's \"new\""), "LOGLINE_LISTEN=127.0.0.1:0",
		"LOGLINE_LOG_FORMAT=text"}
	sidecar := boxed(t, dir, env, "serve").AwaitReady()
	outside := program.Start(t, nil, "version", "--json")
	if outside.Wait() != 0 {
		t.Fatalf("version exits with %d: %s", outside.Code(), outside.Err.String())
	}
	for wall, state := range sidecar.Readiness().Sandbox {
		switch {
		case state == "stands":
		case wall == "namespaces": // not every machine lets users make them, and root needs no leave
			t.Logf("this machine: the wall %s: %s", wall, state)
		case strings.Contains(outside.Out.String(), `"`+wall+`": "stands"`):
			t.Errorf("the wall %s stands outside, and here: %s", wall, state)
		}
	}
	if got := s.run(alice, "return 6 * 7"); string(got.execution(t).Output) != "42" {
		t.Errorf("a function answers %s", got.execution(t).Output)
	}
	at := "LOGLINE_LISTEN=" + strings.TrimPrefix(sidecar.URL(), "http://")
	if check := boxed(t, dir, []string{at}, "health"); check.Wait() != 0 {
		t.Errorf("the health check exits with %d: %s", check.Code(), check.Out.String())
	}
	if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends it with %d", code)
	}
	if check := boxed(t, dir, []string{at}, "health"); check.Wait() != 1 {
		t.Errorf("the health check of a sidecar that has ended exits with %d", check.Code())
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) != 2 {
		t.Errorf("the root holds %v, %v", made, err)
	}
}
