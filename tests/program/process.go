package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program beside a test.
type Process struct {
	Out, Err Transcript
	// AnswerTimeout bounds each request of it, by default 10 s.
	AnswerTimeout time.Duration

	t       testing.TB
	command *exec.Cmd
	done    chan struct{} // closed when it is reaped
	address string        // http://host:port, once it is known
}

// Transcript is what a process prints, readable while it runs.
type Transcript struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

// Write implements io.Writer.
func (o *Transcript) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(p)
}

func (o *Transcript) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// Start starts `logline` with this environment and nothing else but PATH, HOME and PG. It is killed at the
// end of the test, which prints what it said if it failed.
func Start(t testing.TB, env []string, arguments ...string) *Process {
	t.Helper()
	return StartOf(t, Logline(), env, arguments...)
}

// StartOf is Start of another program.
func StartOf(t testing.TB, path string, env []string, arguments ...string) *Process {
	t.Helper()
	command := Command(path, arguments...)
	command.Env = append(command.Env, env...)
	return Launch(t, command)
}

// Command is a command with PATH, HOME and PG of this process, and nothing else of its environment.
func Command(path string, arguments ...string) *exec.Cmd {
	command := exec.Command(path, arguments...)
	for _, name := range []string{"PATH", "HOME", "PG"} {
		if value, found := os.LookupEnv(name); found {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	return command
}

// Launch is Start of a command that the caller has made, whose output it takes.
func Launch(t testing.TB, command *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, command: command, done: make(chan struct{}), AnswerTimeout: 10 * time.Second}
	command.Stdout, command.Stderr, command.SysProcAttr = &p.Out, &p.Err, WithParent()
	// What inherits the pipes (Postgres, a child of the sandbox) may outlive the process.
	command.WaitDelay = time.Second
	if err := command.Start(); err != nil {
		t.Fatalf("start %s: %v", command, err)
	}
	go func() {
		defer close(p.done)
		_ = command.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s, pid %d, exit %d:\n%s%s", filepath.Base(command.Path),
				strings.Join(command.Args[1:], " "), p.Pid(), p.Code(), Tail(p.Out.String()), Tail(p.Err.String()))
		}
	})
	return p
}

// Tail is the end of a long text.
func Tail(text string) string {
	const most = 6000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// Said is all that it has printed.
func (p *Process) Said() string { return p.Out.String() + p.Err.String() }

// AwaitSaid returns when standard output has a text, or the process has ended behind it.
func (p *Process) AwaitSaid(text string) {
	p.t.Helper()
	if !Within(p.t, Patience, func() bool { return strings.Contains(p.Out.String(), text) || p.HasEnded() }) {
		p.t.Fatalf("it does not say %q:\n%s", text, p.Said())
	}
}

// Pid is its process id.
func (p *Process) Pid() int { return p.command.Process.Pid }

// Code is the exit code, -1 while it runs and after a signal.
func (p *Process) Code() int {
	if !p.HasEnded() {
		return -1
	}
	return p.command.ProcessState.ExitCode()
}

// HasEnded reports whether it is gone.
func (p *Process) HasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill is kill -9. It returns when the process is gone.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // it may be gone already
	<-p.done
}

// Send sends a signal; to one that has ended it does nothing.
func (p *Process) Send(s syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("send %s: %v", s, err)
	}
}

// Stop sends a signal to one that runs, and returns the exit code.
func (p *Process) Stop(s syscall.Signal) int {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Fatalf("send %s: %v", s, err)
	}
	return p.Wait()
}

// Wait returns the exit code when it has ended by itself.
func (p *Process) Wait() int {
	p.t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.t.Fatalf("%s does not end within %s:\n%s", p.command, Patience, Tail(p.Said()))
	}
	return p.Code()
}

// Children are the processes that it has started; on Linux.
func (p *Process) Children() []int {
	p.t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				p.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// IsGone reports whether a process has ended; a zombie has.
func IsGone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, found := strings.Cut(string(stat), ") ")
	return !found || strings.HasPrefix(rest, "Z")
}
