package program

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
)

// listening is what `logline serve` logs, and `logline up` prints.
var listening = regexp.MustCompile(`(?:listen=|ready +http://)(\S+)`)

var errNotListening = errors.New("it has not said where it listens")

// at is where it serves HTTP, "" before it has said so.
func (p *Process) at() string {
	if p.address == "" {
		if match := listening.FindStringSubmatch(p.Said()); match != nil {
			p.address = "http://" + match[1]
		}
	}
	return p.address
}

// URL is where a sidecar serves HTTP, as soon as it has said so.
func (p *Process) URL() string {
	p.t.Helper()
	Eventually(p.t, "the sidecar says where it listens", func() bool { return p.at() != "" || p.HasEnded() })
	if p.at() == "" {
		p.t.Fatalf("the process has ended with %d:\n%s", p.Code(), Tail(p.Said()))
	}
	return p.address
}

// Get asks a sidecar for a page. It does not wait for one that does not listen yet: that is an error.
func (p *Process) Get(path string) (body string, code int, err error) {
	if p.at() == "" {
		return "", 0, errNotListening
	}
	client := &http.Client{Timeout: p.AnswerTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(p.address + path)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), response.StatusCode, err
}

// Readiness is what /readyz answers. One that does not answer has no phase, and the error as its reason.
type Readiness struct {
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

// Readiness asks for it once.
func (p *Process) Readiness() (answer Readiness) {
	body, code, err := p.Get("/readyz")
	if err == nil {
		err = json.Unmarshal([]byte(body), &answer)
	}
	if err != nil {
		answer.Reason = err.Error()
	}
	answer.Code = code
	return answer
}

// AwaitReady returns when the sidecar is ready: it leads and streams, or polls.
func (p *Process) AwaitReady() *Process {
	p.t.Helper()
	var last Readiness
	if !Within(p.t, Patience, func() bool {
		last = p.Readiness()
		return last.Ready || p.HasEnded()
	}) || p.HasEnded() {
		p.t.Fatalf("the sidecar is not ready: %+v", last)
	}
	return p
}
