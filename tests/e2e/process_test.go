package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one run of the binary.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	out, err output
	done     chan struct{} // closed when it is reaped
	address  string        // http://host:port, once it is known
}

// output is what a process prints, readable while it runs.
type output struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.String()
}

// launch starts the binary with this environment and nothing else but PATH, HOME and PG. It is killed at
// the end of the test, which prints what it said if it failed.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return launchOf(t, logline, env, args...)
}

// launchOf is launch of another program.
func launchOf(t testing.TB, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), done: make(chan struct{})}
	for _, name := range []string{"PATH", "HOME", "PG"} {
		if value, found := os.LookupEnv(name); found {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = &p.out, &p.err, withParent()
	// What inherits the pipes (Postgres, a child of the sandbox) may outlive the process.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s %v: %v", program, args, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s, pid %d, exit %d:\n%s%s", filepath.Base(program), strings.Join(args, " "), p.pid(), p.code(),
				tailOf(p.out.String()), tailOf(p.err.String()))
		}
	})
	return p
}

func tailOf(text string) string {
	const most = 6000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// code is the exit code, -1 while it runs and after a signal.
func (p *process) code() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// kill is kill -9. It returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.done
}

// signal sends s and returns the exit code.
func (p *process) signal(s syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %s: %v", s, err)
	}
	return p.wait()
}

// wait returns the exit code when the process has ended by itself.
func (p *process) wait() int {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.t.Fatalf("the process does not end within %s", patience)
	}
	return p.code()
}

// children are the processes that p has started.
func (p *process) children() []int {
	p.t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.pid()))
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

// isGone reports whether a process has ended; a zombie has.
func isGone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, found := strings.Cut(string(stat), ") ")
	return !found || strings.HasPrefix(rest, "Z")
}

var listening = regexp.MustCompile(`listen=(\S+)`)

// url is where the process serves HTTP.
func (p *process) url() string {
	p.t.Helper()
	eventually(p.t, "the sidecar says where it listens", func() bool {
		if match := listening.FindStringSubmatch(p.err.String()); match != nil {
			p.address = "http://" + match[1]
		}
		return p.address != "" || p.hasEnded()
	})
	if p.address == "" {
		p.t.Fatalf("the process has ended with %d:\n%s", p.code(), p.err.String())
	}
	return p.address
}

func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// readiness is what /readyz answers.
type readiness struct {
	Code          int
	Ready         bool
	Phase, Reason string
	Sandbox       map[string]string
	Degraded      map[string]string
	Manifest      struct {
		Seq    int
		Signed bool
	}
}

func (p *process) readiness() readiness {
	p.t.Helper()
	answer := readiness{}
	response, err := client().Get(p.url() + "/readyz")
	if err != nil {
		answer.Reason = err.Error()
		return answer
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		p.t.Fatalf("decode /readyz: %v", err)
	}
	answer.Code = response.StatusCode
	return answer
}

func client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// awaitReady returns when the sidecar streams.
func (p *process) awaitReady() *process {
	p.t.Helper()
	var last readiness
	if !within(p.t, patience, func() bool {
		last = p.readiness()
		return last.Ready || p.hasEnded()
	}) || p.hasEnded() {
		p.t.Fatalf("the sidecar is not ready: %+v", last)
	}
	return p
}
