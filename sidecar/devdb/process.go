package devdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Postgres's own meaning of signals, https://www.postgresql.org/docs/17/server-shutdown.html.
const (
	signalFast      = syscall.SIGINT
	signalImmediate = syscall.SIGQUIT
)

var errPortTaken = errors.New("the port is taken")

// run is one life of a postmaster.
type run struct {
	pid  int
	done chan struct{} // closed at its end, by the one goroutine that watches it
}

// launch starts a postmaster and waits until it accepts connections. Its watcher lives as long as it does.
func (s *Server) launch(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.clearStale(ctx); err != nil {
		return err
	}
	if err := s.writeSettings(port); err != nil {
		return err
	}
	log, offset, err := s.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	postgres := filepath.Join(s.Bin, "postgres")
	command := s.account.command(context.WithoutCancel(ctx), postgres, "-D", s.data)
	command.Stdout, command.Stderr = log, log
	if s.options.DieWithParent {
		dieWithParent(command.SysProcAttr)
	}
	r := &run{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends a parent-death signal when the *thread* that forked ends: it stays for the wait.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // why it ended stands in the log
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w: can user %s run it?", err, s.account.userName())
	}
	r.pid = command.Process.Pid
	s.run.Store(r)
	if err := s.awaitReady(ctx, r); err != nil {
		tail, _ := readTail(s.LogFile(), offset)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			_ = r.kill(s.data)
		}
		return diagnose("start postgres", err, tail)
	}
	return nil
}

func (s *Server) awaitReady(ctx context.Context, r *run) error {
	return poll(ctx, pollInterval, func() (bool, error) {
		select {
		case <-r.done:
			return false, errors.New("it ended at once")
		default:
		}
		file, err := readPidFile(s.data)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return err == nil && file.pid == r.pid && file.ready(), err
	})
}

// adopt takes over a postmaster that works on the data, waiting for one which just starts or stops.
func (s *Server) adopt(ctx context.Context) (adopted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = poll(ctx, pollInterval, func() (bool, error) {
		file, err := readPidFile(s.data)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if !worksIn(file.pid, s.data) {
			return true, nil
		}
		if !file.ready() {
			return false, nil
		}
		r := &run{pid: file.pid, done: make(chan struct{})}
		s.run.Store(r)
		s.Port, adopted = file.port, true
		go r.watch(s.data)
		return true, nil
	})
	if err != nil {
		return false, fmt.Errorf("adopt postgres: %w: see %s", err, s.LogFile())
	}
	return adopted, nil
}

// watch closes done at the end of a postmaster that is no child of ours.
func (r *run) watch(data string) {
	defer close(r.done)
	_ = poll(context.Background(), watchInterval, func() (bool, error) {
		return !worksIn(r.pid, data), nil
	})
}

// end sends a signal and says whether the postmaster ended in time.
func (r *run) end(ctx context.Context, signal syscall.Signal, limit time.Duration) bool {
	select {
	case <-r.done:
		return true
	default:
	}
	send(r.pid, signal) // it may be gone already: done says so
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// kill ends the postmaster, then its children: orphaned ones would block the next start until they
// notice. It also frees the shared memory that nobody is left to free.
func (r *run) kill(data string) error {
	ctx, cancel := context.WithTimeout(context.Background(), fastTimeout)
	defer cancel()
	if !r.end(ctx, syscall.SIGKILL, fastTimeout) {
		return fmt.Errorf("kill postgres: pid %d is still there after %s", r.pid, fastTimeout)
	}
	err := poll(ctx, pollInterval, func() (bool, error) {
		children := processesIn(data)
		for _, pid := range children {
			send(pid, syscall.SIGKILL)
		}
		return len(children) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("kill children of postgres: %w", err)
	}
	if file, err := readPidFile(data); err == nil && file.pid == r.pid {
		removeSegment(file.segment)
	}
	return nil
}

// clearStale removes a postmaster.pid that Postgres would believe wrongly: when the pid it names is a
// zombie (a container whose first process reaps nobody) or, after a reboot, some other program. The rest
// Postgres settles. It first gives backends that lost their postmaster the time to notice.
func (s *Server) clearStale(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	err := poll(ctx, pollInterval, func() (bool, error) { return len(processesIn(s.data)) == 0, nil })
	if err != nil {
		return nil // Postgres names them better than we could
	}
	file, err := readPidFile(s.data)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" || isGone(file.pid) {
		return nil
	}
	if err := os.Remove(filepath.Join(s.data, "postmaster.pid")); err != nil {
		return fmt.Errorf("remove stale pid file: %w", err)
	}
	return nil
}

// pidFile is what we need of postmaster.pid (src/include/utils/pidfile.h): lines 1, 4, 7 and 8.
type pidFile struct {
	pid, port int
	segment   int // id of the SysV shared memory
	status    string
}

func (f pidFile) ready() bool { return f.status == "ready" }

// readPidFile gives zeros for lines that are not written yet.
func readPidFile(data string) (pidFile, error) {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return pidFile{}, fmt.Errorf("read pid file: %w", err)
	}
	lines := strings.Split(string(content), "\n")
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	pid, _ := strconv.Atoi(line(0))
	port, _ := strconv.Atoi(line(3))
	_, id, _ := strings.Cut(line(6), " ") // "key id"
	segment, _ := strconv.Atoi(strings.TrimSpace(id))
	return pidFile{pid: pid, port: port, segment: segment, status: line(7)}, nil
}

// worksIn says whether the process is a Postgres with its home in the data directory (a shell that went
// there is none). Where there is no /proc, that it lives must do.
func worksIn(pid int, data string) bool {
	if pid <= 0 {
		return false
	}
	if runtime.GOOS != "linux" {
		return !isGone(pid)
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	program, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil || strings.TrimSuffix(filepath.Base(program), " (deleted)") != "postgres" {
		return false
	}
	home, err := os.Stat(filepath.Join(proc, "cwd"))
	if err != nil {
		return false
	}
	wanted, err := os.Stat(data)
	return err == nil && os.SameFile(home, wanted)
}

// processesIn lists the processes of a data directory; none where there is no /proc.
func processesIn(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && worksIn(pid, data) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// readTail is what stands in a file from offset on, its last 4 KiB at most.
func readTail(path string, offset int64) (string, error) {
	const maxBytes = 4 << 10
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	content := make([]byte, maxBytes)
	n, err := file.ReadAt(content, max(offset, info.Size()-maxBytes))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read log: %w", err)
	}
	return string(content[:n]), nil
}

// diagnose makes an error of what a program of Postgres said: the mend where the cause is a known one.
func diagnose(action string, err error, output string) error {
	output = strings.TrimSpace(output)
	if strings.Contains(output, "could not bind") && strings.Contains(output, "Address already in use") {
		return fmt.Errorf("%s: %w: %s", action, errPortTaken, output)
	}
	mends := []struct{ sign, mend string }{
		{"could not resize shared memory segment", "/dev/shm is too small: docker run --shm-size=256m"},
		{"No space left on device", "the disk is full: free space, or name a directory on another disk"},
		{"could not create shared memory segment", "the kernel refuses the memory: lower shared_buffers"},
		{"invalid locale", "the locale is missing: unset LC_ALL and LANG, or remove the data directory"},
		{"incompatible with server", "the data is of another Postgres: set PG to its version"},
		{"error while loading shared libraries", "a library is missing: apt-get install postgresql"},
		{"Read-only file system", "the directory cannot be written: name another"},
		{"Permission denied", "the directory belongs to another user: name another, or give it back (chown)"},
		{"unrecognized configuration parameter", "this version has no such setting: see Options.Settings"},
		{"invalid value for parameter", "a setting has a wrong value: see Options.Settings"},
		{"lock file \"postmaster.pid\" already exists", "another server works on the data: stop it first"},
	}
	for _, m := range mends {
		if strings.Contains(output, m.sign) {
			return fmt.Errorf("%s: %s: %w\n%s", action, m.mend, err, output)
		}
	}
	return fmt.Errorf("%s: %w\n%s", action, err, output)
}
