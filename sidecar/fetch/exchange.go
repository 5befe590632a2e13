package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const retryAfterMax = 20 * time.Second

// Methods and headers that code may state. The others are the transport's own, or let a request be read
// in two ways.
var (
	methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	owned   = []string{"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade",
		"te", "trailer", "expect", "accept-encoding", "http2-settings"}
	transient = []int{429, 500, 502, 503, 504}
)

// admit checks all that can be known before anything is sent.
func (c *Client) admit(holder *Holder, request *Request) (*target, *Error) {
	if request.Method == "" {
		request.Method = "GET"
	}
	request.Method = strings.ToUpper(request.Method)
	if !slices.Contains(methods, request.Method) {
		return nil, denied("fetch: the method %.20q is not sent: use one of %s", request.Method,
			strings.Join(methods, ", "))
	}
	if len(request.Body) > 0 && (request.Method == "GET" || request.Method == "HEAD") {
		return nil, denied("fetch: a %s has no body: use POST", request.Method)
	}
	if len(request.Body) > bodyOutMax {
		return nil, overLimit("fetch: the body has %d bytes, at most %d are sent", len(request.Body), bodyOutMax)
	}
	size := 0
	for name, value := range request.Headers {
		if fault := headerFault(name, value); fault != nil {
			return nil, fault
		}
		size += len(name) + len(value)
	}
	if len(request.Headers) > headersMax || size > headerBytesMax {
		return nil, overLimit("fetch: at most %d headers and %d bytes of them are sent", headersMax,
			headerBytesMax)
	}
	t, fault := parseTarget(request.URL)
	if fault != nil {
		return nil, fault
	}
	if fault := c.mayAsk(holder, t); fault != nil {
		return nil, fault
	}
	// A secret that may not be filled in is refused before the first byte is sent.
	for _, value := range request.Headers {
		if _, fault := c.fill(holder, t, request.IdempotencyKey, value); fault != nil {
			return nil, fault
		}
	}
	return t, nil
}

func headerFault(name, value string) *Error {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
	lower := strings.ToLower(name)
	if name == "" || strings.Trim(lower, token) != "" {
		return denied("fetch: %.40q is no name of a header", name)
	}
	if slices.Contains(owned, lower) || strings.HasPrefix(lower, "proxy-") {
		return denied("fetch: the header %s is the host's own: leave it out", lower)
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return denied("fetch: the header %s holds a control character", lower)
		}
	}
	return nil
}

// mayAsk says which list lacks the host of t, or nil.
func (c *Client) mayAsk(holder *Holder, t *target) *Error {
	if !holder.Host(t.host) {
		return denied("fetch: the manifest does not grant %s to %s: a governor runs `logline manifest --give "+
			"%s=fetch:%s`", t.host, holder.Name, holder.Name, t.host)
	}
	if !c.allow[t.host] {
		return denied("fetch: the operator does not allow %s: add it to LOGLINE_FETCH_ALLOW", t.host)
	}
	return nil
}

// follow sends a request, and goes where redirects lead as far as that is granted and listed, too.
func (c *Client) follow(ctx context.Context, holder *Holder, request *Request, t *target) (
	*Response, *Error) {
	hop, carried := *request, false
	for redirects := 0; ; redirects++ {
		carried = carried || hop.carries()
		answer, location, fault := c.send(ctx, holder, &hop, t)
		if fault != nil || location == "" {
			return answer, fault
		}
		if redirects == redirectsMax {
			return nil, overLimit("fetch: more than %d redirects", redirectsMax)
		}
		next, fault := redirected(t, location)
		if fault == nil {
			fault = c.mayAsk(holder, next)
		}
		if fault != nil && (carried || c.hide(location) != location) {
			// The target may be made of the secret, whole or cut, and in a form that no mask knows.
			return nil, denied("fetch: %s redirects to where this call may not go; where to is not told, as that "+
				"may hold a secret", t.host)
		}
		if fault != nil {
			fault.Message += "; " + t.host + " redirects there"
			return nil, fault
		}
		hop = withMethodOf(hop, answer.Status)
		if next.host != t.host || next.secure != t.secure {
			hop = withoutCredentials(hop)
		}
		t = next
	}
}

// carries reports whether a secret is to be filled in.
func (r *Request) carries() bool {
	for _, value := range r.Headers {
		if placeholder.MatchString(value) {
			return true
		}
	}
	return false
}

func redirected(from *target, location string) (*target, *Error) {
	next, err := url.Parse(location)
	if err != nil {
		return nil, denied("fetch: the redirect is no URL")
	}
	return parseTarget(from.url.ResolveReference(next).String())
}

// withMethodOf is hop as it goes on after a redirect of this status (WHATWG Fetch, HTTP-redirect fetch, step
// 12): 303 is read with GET, and so is 301 or 302 after a POST.
func withMethodOf(hop Request, status int) Request {
	isRead := hop.Method == "GET" || hop.Method == "HEAD"
	if status == 303 && !isRead || (status == 301 || status == 302) && hop.Method == "POST" {
		hop.Method, hop.Body = "GET", nil
		headers := map[string]string{}
		for name, value := range hop.Headers {
			if !strings.HasPrefix(strings.ToLower(name), "content-") {
				headers[name] = value
			}
		}
		hop.Headers = headers
	}
	return hop
}

// withoutCredentials is hop as it goes to another host: with no secret, and nothing that says who one is.
func withoutCredentials(hop Request) Request {
	headers := map[string]string{}
	for name, value := range hop.Headers {
		switch lower := strings.ToLower(name); {
		case lower == "authorization", lower == "cookie", placeholder.MatchString(value):
		default:
			headers[name] = value
		}
	}
	hop.Headers = headers
	return hop
}

// send makes one exchange with t. The second result is where a redirect leads.
func (c *Client) send(ctx context.Context, holder *Holder, hop *Request, t *target) (
	*Response, string, *Error) {
	outgoing, err := http.NewRequestWithContext(ctx, hop.Method, t.url.String(), bytes.NewReader(hop.Body))
	if err != nil {
		return nil, "", denied("fetch: the request can not be made for %s", t.host)
	}
	outgoing.Header.Set("User-Agent", "logline")
	for name, value := range hop.Headers {
		filled, fault := c.fill(holder, t, hop.IdempotencyKey, value)
		if fault != nil {
			return nil, "", fault
		}
		outgoing.Header.Set(name, filled)
	}
	incoming, err := c.transport.RoundTrip(outgoing)
	if err != nil {
		return nil, "", explain(t, err)
	}
	defer incoming.Body.Close()
	if location := incoming.Header.Get("Location"); location != "" &&
		slices.Contains([]int{301, 302, 303, 307, 308}, incoming.StatusCode) {
		return &Response{Status: incoming.StatusCode}, location, nil
	}
	body, err := io.ReadAll(io.LimitReader(incoming.Body, bodyInMax+1))
	if err != nil {
		return nil, "", explain(t, err)
	}
	if len(body) > bodyInMax {
		return nil, "", overLimit("fetch: the answer of %s is longer than %d bytes", t.host, bodyInMax)
	}
	answer := &Response{Status: incoming.StatusCode, OK: incoming.StatusCode/100 == 2,
		URL: t.url.String(), Headers: map[string]string{}, Body: strings.ToValidUTF8(string(body), "\uFFFD")}
	for name, values := range incoming.Header {
		answer.Headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return answer, "", nil
}

// isTransient reports whether the same request may do better the next time.
func isTransient(answer *Response, fault *Error) bool {
	if fault != nil {
		return fault.Code == CodeException
	}
	return slices.Contains(transient, answer.Status)
}

// waitFor is the pause before the next attempt: the double of the one before, or what the server asks for.
func (c *Client) waitFor(answer *Response, attempt int) time.Duration {
	wait := c.retryWait << (attempt - 1)
	if answer == nil {
		return wait
	}
	asked := time.Duration(0)
	text := answer.Headers["retry-after"]
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		asked = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		asked = time.Until(at)
	}
	return max(wait, min(asked, retryAfterMax))
}

// explain says in the author's words what went wrong on the way. Go's own errors name addresses.
func explain(t *target, err error) *Error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var network net.Error
	say := func(what string) *Error {
		return &Error{CodeException, fmt.Sprintf("fetch %s: %s", t.host, what)}
	}
	text := err.Error()
	switch {
	case errors.Is(err, errAddress):
		return denied("fetch: %s leads to a private address: only one that stands on LOGLINE_FETCH_ALLOW "+
			"itself is reached", t.host)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return say("timeout: no complete answer in time")
	case errors.As(err, &dns):
		return say("dns: the name is not found")
	case errors.As(err, &certificate), errors.As(err, &unknown):
		return say("tls: the certificate does not verify")
	case errors.As(err, &record), errors.As(err, &alert), strings.Contains(text, "tls: "):
		return say("tls: the handshake failed")
	case strings.Contains(text, "server response headers exceeded"):
		return overLimit("fetch: the headers of %s are longer than %d bytes", t.host, answerHeaderMax)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("connect: refused")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return say("reset: the server closed the connection before the answer was complete")
	case strings.Contains(text, "malformed"), strings.Contains(text, "invalid"), strings.Contains(text, "gzip"),
		strings.Contains(text, "1xx"), strings.Contains(text, "http: "):
		return say("protocol: the answer is no sound HTTP")
	}
	return say("network: the host could not be reached")
}
