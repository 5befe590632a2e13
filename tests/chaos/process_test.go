package chaos_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
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
	t       testing.TB
	name    string
	cmd     *exec.Cmd
	output  output
	done    chan struct{} // closed when it is reaped
	address string
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

// launch starts the binary with this environment. It is killed at the end of the test, which prints what it
// said if it failed.
func launch(t testing.TB, binary, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	for _, variable := range []string{"PATH", "HOME", "PG"} {
		if value, found := os.LookupEnv(variable); found {
			p.cmd.Env = append(p.cmd.Env, variable+"="+value)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = &p.output, &p.output, withParent()
	p.cmd.WaitDelay = time.Second // children of the sandbox may outlive it for a moment
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s %v: %v", binary, args, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s, pid %d, exit %d:\n%s", name, strings.Join(args, " "), p.pid(),
				p.cmd.ProcessState.ExitCode(), endOf(p.output.String()))
		}
	})
	return p
}

func endOf(text string) string {
	const most = 4000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill is kill -9. It returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.done
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may be gone already

func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// awaitEnd returns the exit code, -1 after a signal.
func (p *process) awaitEnd() int {
	p.t.Helper()
	eventually(p.t, p.name+" ends", p.hasEnded)
	return p.cmd.ProcessState.ExitCode()
}

// said counts how often a text stands in what the process has printed.
func (p *process) said(text string) int { return strings.Count(p.output.String(), text) }

var listening = regexp.MustCompile(`listen=(\S+)`)

// get asks the process for a page; "" where it does not answer.
func (p *process) get(path string) (body string, code int, err error) {
	if p.address == "" {
		match := listening.FindStringSubmatch(p.output.String())
		if match == nil {
			return "", 0, nil
		}
		p.address = "http://" + match[1]
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(p.address + path)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), response.StatusCode, err
}

// metric is the value of a counter of /metrics that has no labels, -1 where there is none.
func (p *process) metric(name string) float64 {
	body, _, err := p.get("/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			if number, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return number
			}
		}
	}
	return -1
}

// readiness is what /readyz answers; a zero phase is a process that does not answer.
type readiness struct {
	Code          int
	Phase, Reason string
}

func (p *process) readiness() readiness {
	answer := readiness{}
	body, code, err := p.get("/readyz")
	if err == nil && body != "" {
		err = json.Unmarshal([]byte(body), &answer)
	}
	if err != nil {
		answer.Reason = err.Error()
	}
	answer.Code = code
	return answer
}
