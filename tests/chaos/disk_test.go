package chaos_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/program"
)

// The disk of the ledger is full for a while: commits fail, nothing is lost, and it goes on when there is
// room.
func TestAFullDiskIsSurvived(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	mount := w.smallDisk("96m")
	w.exec("create tablespace small location '" + mount + "'")
	w.exec("alter table ledger.universal_registry set tablespace small")
	w.exec("create table public.filler (text text) tablespace small")
	w.add("a")
	w.storm(120, []fault{{"the disk is full", func(w *world) {
		fill := func() error {
			_, err := w.owner.Exec(w.t.Context(), `insert into public.filler
				select md5(random()::text) from generate_series(1, 20000)`)
			return err
		}
		program.Eventually(w.t, "the disk is full", func() bool { return fill() != nil })
		w.pass(2 * time.Second) // of the load, and of the sidecar's
		w.exec("drop table public.filler")
	}}})
	w.conclude()
}

// smallDisk mounts a small file system that Postgres may write to.
func (w *world) smallDisk(size string) string {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "loglineos-small-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput()
	if err != nil {
		w.t.Skipf("a small disk takes the right to mount tmpfs: %s", strings.TrimSpace(string(out)))
	}
	w.t.Cleanup(func() {
		_ = w.cluster.Server.Kill() // it holds files there
		if err := exec.Command("umount", "--lazy", dir).Run(); err != nil {
			w.t.Errorf("unmount %s: %v", dir, err)
		}
	})
	data, err := os.Stat(w.cluster.Server.Data())
	if err != nil {
		w.t.Fatal(err)
	}
	owner := data.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		w.t.Fatal(err)
	}
	return dir
}
