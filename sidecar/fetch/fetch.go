// Package fetch is the HTTP client for code of the ledger that was granted a host.
//
// It runs in the parent: code has no socket, it asks. It owns the way out: what a URL may be, which
// addresses may be dialed, which secrets are filled in, how much comes and goes, how often a call is tried.
// It knows no spans and no manifest; what the caller is granted comes in as a Holder.
//
//	URL ─► target (host:port, exact) ─► granted? ─► on the operator's list? ─► secrets for this host
//	                                                                                   │
//	answer ◄─ masked ◄─ at most 1 MiB ◄─ redirect: the same questions again ◄─ dial ◄──┘
//	                                                            resolved by us, every address checked,
//	                                                            dialed by that very address
//
// It refuses what is not both granted in the ledger and listed by the operator, private addresses that the
// operator has not named, and every trick with the text of a host. It uses no proxy of the environment and
// keeps no cookies; TLS is always verified, and HTTP/2 is off.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of one call and of one run.
const (
	urlBytesMax     = 8 << 10
	headersMax      = 64
	headerBytesMax  = 32 << 10  // of a request
	bodyOutMax      = 256 << 10 // of a request
	bodyInMax       = 1 << 20   // of an answer, decompressed
	answerHeaderMax = 64 << 10
	redirectsMax    = 5
	retriesMax      = 3
	openMax         = 6  // of one run, at once
	openTenantMax   = 64 // of one tenant, at once
	openAllMax      = 256
	dialTimeout     = 10 * time.Second
)

// The codes of an Error.
const (
	CodeDenied    = "denied"    // not granted, not listed, or a request that nobody may make
	CodeLimit     = "limit.net" // too many calls, or too much in or out
	CodeException = "exception" // the network or the server failed: dns, connect, tls, timeout, reset
)

// Error is why a call gave no answer. Its text is for the author of the code: it names the host that he
// asked for, and neither addresses nor secrets.
type Error struct{ Code, Message string }

// Error returns "code: message".
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func denied(format string, args ...any) *Error {
	return &Error{CodeDenied, fmt.Sprintf(format, args...)}
}

func overLimit(format string, args ...any) *Error {
	return &Error{CodeLimit, fmt.Sprintf(format, args...)}
}

// Secret is a value that the host fills in for its name, and only towards its hosts.
type Secret struct {
	Name, Value string
	Hosts       []string // host:port
}

// Config is the operator's word.
type Config struct {
	Allow   []string // host:port in lower case: LOGLINE_FETCH_ALLOW
	Secrets []Secret // LOGLINE_SECRETS
	// Resolve looks a name up. nil is the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Roots verify TLS. nil are the system's.
	Roots *x509.CertPool
	// RetryWait is the pause before the first repetition; it doubles. 0 is 500 ms.
	RetryWait time.Duration
}

// Client makes calls. It is safe for concurrent use; make it with New and Close it.
type Client struct {
	allow     map[string]bool
	secrets   map[string]*Secret
	masks     []string
	resolve   func(ctx context.Context, host string) ([]netip.Addr, error)
	transport *http.Transport
	retryWait time.Duration

	mu      sync.Mutex
	open    int
	tenants map[string]int
}

// New returns a Client. An error names the entry of a list that is no host:port.
func New(config Config) (*Client, error) {
	c := &Client{allow: map[string]bool{}, secrets: map[string]*Secret{}, resolve: config.Resolve,
		retryWait: config.RetryWait, tenants: map[string]int{}}
	if c.resolve == nil {
		c.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.retryWait == 0 {
		c.retryWait = 500 * time.Millisecond
	}
	for _, text := range config.Allow {
		host, err := canonical(text)
		if err != nil {
			return nil, fmt.Errorf("read LOGLINE_FETCH_ALLOW: %w", err)
		}
		c.allow[host] = true
	}
	for _, secret := range config.Secrets {
		bound := &Secret{Name: secret.Name, Value: secret.Value}
		for _, text := range secret.Hosts {
			host, err := canonical(text)
			if err != nil {
				return nil, fmt.Errorf("read LOGLINE_SECRETS: %w", err)
			}
			bound.Hosts = append(bound.Hosts, host)
		}
		c.secrets[secret.Name] = bound
		c.masks = append(c.masks, formsOf(secret.Value)...)
	}
	c.masks = longestFirst(c.masks)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		DialContext:            c.dial,
		TLSClientConfig:        &tls.Config{RootCAs: config.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: answerHeaderMax,
		Protocols:              protocols,
	}
	return c, nil
}

// Close ends the connections that nobody uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Holder is who calls, and what the manifest grants him.
type Holder struct {
	Name   string // as the manifest's grants name it: a kernel's name or a function's id
	Tenant string // whose run it is
	// Host and Secret tell whether the manifest grants a host:port, and a secret by name.
	Host, Secret func(object string) bool
}

// Request is one call. Headers may hold {{NAME}} for a secret and {{idempotency_key}}.
type Request struct {
	Method, URL    string // "" is GET
	Headers        map[string]string
	Body           []byte
	IdempotencyKey string
	Timeout        time.Duration // of the whole call: redirects, repetitions and pauses included
	// Retries is how often the call is repeated, at most, after a network error or one of the statuses 429,
	// 500, 502, 503, 504. What is refused is never repeated.
	Retries int
}

// Response is an answer of a server. Header names are in lower case, values of one name joined by ", ".
type Response struct {
	Status    int               `json:"status"`
	OK        bool              `json:"ok"`  // of 200 to 299
	URL       string            `json:"url"` // of the last redirect
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"` // what is no UTF-8 is replaced by U+FFFD
	Attempts  int               `json:"attempts"`
	ElapsedMs int64             `json:"elapsed_ms"`
}

// Run counts the calls of one run. Make it with NewRun; it is safe for concurrent use.
type Run struct {
	callsMax   int
	mu         sync.Mutex
	made, open int
}

// NewRun returns the count of a run that may make callsMax calls.
func NewRun(callsMax int) *Run { return &Run{callsMax: callsMax} }

// Do makes one call of a run. The error is an *Error, or the error of ctx where that has ended.
func (c *Client) Do(ctx context.Context, run *Run, holder Holder, request Request) (*Response, error) {
	if fault := c.enter(run, holder.Tenant); fault != nil {
		return nil, fault
	}
	defer c.leave(run, holder.Tenant)
	first, fault := c.admit(&holder, &request)
	if fault != nil {
		return nil, c.masked(fault)
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, request.Timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		answer, fault := c.follow(bounded, &holder, &request, first)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if isTransient(answer, fault) && attempt <= min(request.Retries, retriesMax) &&
			pause(bounded, c.waitFor(answer, attempt)) {
			continue
		}
		if fault != nil {
			if attempt > 1 {
				fault.Message += fmt.Sprintf(" (after %d attempts)", attempt)
			}
			return nil, c.masked(fault)
		}
		answer.Attempts, answer.ElapsedMs = attempt, time.Since(began).Milliseconds()
		return c.mask(answer), nil
	}
}

// enter counts a call that begins.
func (c *Client) enter(run *Run, tenant string) *Error {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.made >= run.callsMax {
		return overLimit("fetch: a run may make %d calls", run.callsMax)
	}
	if run.open >= openMax {
		return overLimit("fetch: a run may have %d calls open at once: await some before the next", openMax)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= openAllMax || c.tenants[tenant] >= openTenantMax {
		return overLimit("fetch: too many calls are open on this machine (%d for one tenant)", openTenantMax)
	}
	run.made, run.open, c.open = run.made+1, run.open+1, c.open+1
	c.tenants[tenant]++
	return nil
}

func (c *Client) leave(run *Run, tenant string) {
	run.mu.Lock()
	run.open--
	run.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.tenants[tenant]--; c.tenants[tenant] == 0 {
		delete(c.tenants, tenant)
	}
}

// pause waits. It reports false where the call's time would be over before.
func pause(ctx context.Context, wait time.Duration) bool {
	if deadline, bounded := ctx.Deadline(); bounded && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// errAddress is why a resolved address is not dialed.
var errAddress = errors.New("the address is not allowed")
