package chaos_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

// The disk of the WAL is full: Postgres ends with a panic, and can not even recover until there is room. Then
// the sidecar goes on by itself.
func TestAFullDiskOfTheWalIsSurvived(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{settings: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB"}})
	mount := w.smallDisk("192m")
	w.moveWal(mount)
	w.add("a")
	w.storm(120, []fault{{"the disk of the WAL is full", func(w *world) {
		filler := filepath.Join(mount, "filler")
		fill(w.t, filler)
		program.Eventually(w.t, "Postgres is down for want of room", func() bool {
			_, err := w.owner.Exec(w.t.Context(), `select pg_logical_emit_message(false, 'chaos', repeat('x', 1000000))
				from generate_series(1, 20)`)
			return err != nil
		})
		w.pass(2 * time.Second) // of the load, and of the sidecar's
		if err := os.Remove(filler); err != nil {
			w.t.Fatal(err)
		}
		program.Eventually(w.t, "Postgres answers", func() bool {
			select {
			case <-w.cluster.Server.Done(): // it has given up
				w.restartPostgres()
			default:
			}
			_, err := ask[int](w, "select 1")
			return err == nil
		})
	}}})
	w.conclude()
	if said, err := os.ReadFile(w.cluster.Server.LogFile()); err != nil ||
		!strings.Contains(string(said), "PANIC:  could not write to file") {
		t.Errorf("seed %d: Postgres never ran out of room (%v)", w.seed, err)
	}
}

// moveWal gives the WAL of the server a disk of its own.
func (w *world) moveWal(mount string) {
	w.t.Helper()
	w.stopPostgres(syscall.SIGINT)
	old := filepath.Join(w.cluster.Server.Data(), "pg_wal")
	for _, command := range [][]string{{"cp", "-a", old + "/.", mount}, {"rm", "-r", old},
		{"ln", "-s", mount, old}} {
		if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %v: %s", command, err, said)
		}
	}
	w.restartPostgres()
}

// fill writes to a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
}
