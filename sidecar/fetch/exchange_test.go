package fetch

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRequestsThatNobodyMayMakeAreRefused(t *testing.T) {
	t.Parallel()
	url, host := listen(t, func(http.ResponseWriter, *http.Request) { t.Error("the server is asked") })
	c := setup(t, nil, host)
	header := func(name, value string) Request {
		return Request{URL: url, Headers: map[string]string{name: value}, Timeout: patience}
	}
	many := map[string]string{}
	for i := range headersMax + 1 {
		many["X-"+strconv.Itoa(i)] = "x"
	}
	for what, c2 := range map[string]struct {
		request Request
		code    string
		text    string
	}{
		"a newline":         {header("X-A", "b\r\nX-C: d"), CodeDenied, "control character"},
		"a lone newline":    {header("X-A", "b\nX-C: d"), CodeDenied, "control character"},
		"a NUL":             {header("X-A", "b\x00"), CodeDenied, "control character"},
		"a name's newline":  {header("X-A\r\nX-B", "b"), CodeDenied, "no name of a header"},
		"a name's colon":    {header("X-A: b", "c"), CodeDenied, "no name of a header"},
		"no name":           {header("", "c"), CodeDenied, "no name of a header"},
		"another host":      {header("Host", "evil.example"), CodeDenied, "the host's own"},
		"a length":          {header("content-LENGTH", "5"), CodeDenied, "the host's own"},
		"an encoding":       {header("Transfer-Encoding", "chunked"), CodeDenied, "the host's own"},
		"an upgrade":        {header("Upgrade", "websocket"), CodeDenied, "the host's own"},
		"an expectation":    {header("Expect", "100-continue"), CodeDenied, "the host's own"},
		"a proxy's":         {header("Proxy-Authorization", "x"), CodeDenied, "the host's own"},
		"a large header":    {header("X-A", strings.Repeat("a", headerBytesMax)), CodeLimit, "headers"},
		"many headers":      {Request{URL: url, Headers: many, Timeout: patience}, CodeLimit, "64 headers"},
		"CONNECT":           {Request{Method: "CONNECT", URL: url, Timeout: patience}, CodeDenied, "the method"},
		"TRACE":             {Request{Method: "TRACE", URL: url, Timeout: patience}, CodeDenied, "the method"},
		"a smuggled method": {Request{Method: "GET / HTTP/1.1\r\n", URL: url}, CodeDenied, "the method"},
		"a GET with a body": {Request{URL: url, Body: []byte("x"), Timeout: patience}, CodeDenied, "has no body"},
		"a large body": {Request{Method: "POST", URL: url, Body: make([]byte, bodyOutMax+1), Timeout: patience},
			CodeLimit, "262145 bytes"},
	} {
		_, err := c.ask(t, c2.request)
		refused(t, what, err, c2.code, c2.text)
	}
}

func TestRedirectsAreAskedTheSameQuestions(t *testing.T) {
	t.Parallel()
	other, otherHost := listen(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s auth=%q key=%q kept=%q", r.Method, r.Header.Get("Authorization"),
			r.Header.Get("X-Api-Key"), r.Header.Get("X-Kept"))
	})
	var target atomic.Value
	var status atomic.Int32
	url, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, body, r.Header.Get("Content-Type"))
			return
		}
		w.Header().Set("Location", target.Load().(string))
		w.WriteHeader(int(status.Load()))
	})
	closed := setup(t, nil, host)
	status.Store(302)
	for location, text := range map[string]string{
		"http://169.254.169.254/latest/meta-data/": "169.254.169.254:80",
		"http://localhost:22/":                     "localhost:22",
		other:                                      otherHost, "//evil.example/x": "evil.example:80",
		"http://[::1]:6379/": "[::1]:6379", "file:///etc/passwd": "no URL", "gopher://" + host: "gopher",
		"http://" + host + "@evil.example/": "user", "http://2130706433/": "no host name", "http://%zz/": "no URL",
	} {
		target.Store(location)
		_, err := closed.ask(t, get(url))
		refused(t, location, err, CodeDenied, text)
	}
	target.Store("/again")
	_, err := closed.ask(t, get(url))
	refused(t, "a circle", err, CodeLimit, "more than 5 redirects")

	open := setup(t, func(config *Config) {
		config.Secrets = []Secret{{Name: "TOKEN", Value: "hunter2hunter2", Hosts: []string{host, otherHost}}}
	}, host, otherHost)
	target.Store(other + "/x")
	answer, err := open.ask(t, Request{URL: url, Timeout: patience, Headers: map[string]string{
		"Authorization": "Bearer mine", "X-Api-Key": "{{TOKEN}}", "X-Kept": "kept"}})
	if err != nil || answer.Body != `GET auth="" key="" kept="kept"` || answer.URL != other+"/x" {
		t.Errorf("to another host: %+v, %v", answer, err)
	}
	for code, want := range map[int32]string{301: "GET  ", 302: "GET  ", 303: "GET  ",
		307: "POST body text/plain", 308: "POST body text/plain"} {
		status.Store(code)
		target.Store("/end")
		answer, err := open.ask(t, Request{Method: "POST", URL: url, Body: []byte("body"), Timeout: patience,
			Headers: map[string]string{"Content-Type": "text/plain"}})
		if err != nil || answer.Body != want {
			t.Errorf("%d: got %+v, %v, want %q", code, answer, err, want)
		}
	}
}

func TestWhatServersDoToUsIsBounded(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\n"
	say := func(text string) func(net.Conn) { return func(conn net.Conn) { fmt.Fprint(conn, text) } }
	for what, c := range map[string]struct {
		serve func(conn net.Conn)
		code  string
		text  string
	}{
		"an endless body": {func(conn net.Conn) {
			fmt.Fprint(conn, head+"\r\n")
			for {
				if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, CodeLimit, "longer than 1048576 bytes"},
		"a gzip bomb": {func(conn net.Conn) {
			fmt.Fprint(conn, head+"Content-Encoding: gzip\r\n\r\n")
			bomb := gzip.NewWriter(conn)
			for range 1 << 10 {
				if _, err := bomb.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, CodeLimit, "longer than 1048576 bytes"},
		"broken gzip": {func(conn net.Conn) {
			fmt.Fprint(conn, head+"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
		}, CodeException, ""},
		"endless headers": {func(conn net.Conn) {
			fmt.Fprint(conn, head)
			for {
				if _, err := fmt.Fprintf(conn, "X: %s\r\n", strings.Repeat("a", 1000)); err != nil {
					return
				}
			}
		}, CodeLimit, "headers"},
		"one endless header": {func(conn net.Conn) {
			fmt.Fprint(conn, head+"X: ")
			for {
				if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, CodeLimit, "headers"},
		"endless 100-continue": {func(conn net.Conn) {
			for {
				_, err := fmt.Fprint(conn, "HTTP/1.1 103 Early\r\nX: "+strings.Repeat("a", 5000)+"\r\n\r\n")
				if err != nil {
					return
				}
			}
		}, "", ""},
		"a body that ends early": {func(conn net.Conn) {
			fmt.Fprint(conn, head+"Content-Length: 100\r\n\r\nhalf")
		}, CodeException, "reset"},
		"no answer":      {say(""), CodeException, "reset"},
		"not HTTP":       {say("SSH-2.0-OpenSSH\r\n"), CodeException, "protocol"},
		"two lengths":    {say(head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), CodeException, "protocol"},
		"a bad header":   {say(head + "no colon\r\n\r\n"), CodeException, "protocol"},
		"a wrong status": {say("HTTP/1.1 abc\r\n\r\n"), CodeException, "protocol"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			host := raw(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					c.serve(conn)
				}
			})
			_, err := setup(t, nil, host).ask(t, get("http://"+host))
			var fault *Error
			if !errors.As(err, &fault) || c.code != "" && fault.Code != c.code ||
				!strings.Contains(fault.Message, c.text) {
				t.Errorf("got %v, want %s: …%s…", err, c.code, c.text)
			}
		})
	}
}

// A header that holds CR and LF reaches nobody: it ends there, and the rest is a header of its own.
func TestAnAnswersHeaderIsOneLine(t *testing.T) {
	t.Parallel()
	host := raw(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nX-A: b\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok")
	})
	answer, err := setup(t, nil, host).ask(t, get("http://"+host))
	if err != nil || answer.Headers["x-a"] != "b" || answer.Body != "ok" {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func TestNoCookieIsKept(t *testing.T) {
	t.Parallel()
	url, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		fmt.Fprint(w, len(r.Cookies()))
	})
	c := setup(t, nil, host)
	for range 2 {
		if answer, err := c.ask(t, get(url)); err != nil || answer.Body != "0" {
			t.Errorf("got %+v, %v", answer, err)
		}
	}
}

func TestACallEndsInItsTime(t *testing.T) {
	t.Parallel()
	slow := raw(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
		_, _ = io.Copy(io.Discard, conn) // until the client leaves
	})
	silent := raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for _, host := range []string{slow, silent} {
		_, err := setup(t, nil, host).ask(t, Request{URL: "http://" + host, Retries: 3,
			Timeout: 50 * time.Millisecond})
		refused(t, "a slow server", err, CodeException, "timeout: no complete answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan struct{})
	waits := raw(t, func(conn net.Conn) {
		close(began)
		_, _ = io.Copy(io.Discard, conn)
	})
	go func() {
		<-began
		cancel()
	}()
	if _, err := setup(t, nil, waits).Do(ctx, NewRun(20), anyone(), get("http://"+waits)); !errors.Is(err,
		context.Canceled) {
		t.Errorf("a cancelled run: %v", err)
	}
}

func TestFaultsOfTheNetworkAreNamed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	_ = listener.Close()
	_, err = setup(t, nil, gone).ask(t, Request{URL: "http://" + gone, Timeout: patience, Retries: 2})
	refused(t, "nobody listens", err, CodeException, "connect: refused (after 3 attempts)")

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "secure")
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	_, err = setup(t, nil, host).ask(t, get(server.URL))
	refused(t, "an unknown authority", err, CodeException, "tls: the certificate does not verify")
	_, err = setup(t, nil, host).ask(t, get("http://"+host))
	if err != nil {
		t.Log(err) // Go's server answers 400 to plain text
	}
	known := setup(t, func(config *Config) {
		config.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}, host)
	if answer, err := known.ask(t, get(server.URL)); err != nil || answer.Body != "secure" {
		t.Errorf("a known authority: %+v, %v", answer, err)
	}
	_, err = setup(t, nil, "nowhere.invalid:80").ask(t, get("http://nowhere.invalid"))
	refused(t, "no such name", err, CodeException, "fetch nowhere.invalid:80: ")
	plain, plainHost := listen(t, func(http.ResponseWriter, *http.Request) {})
	_, err = setup(t, nil, plainHost).ask(t, get(strings.Replace(plain, "http:", "https:", 1)))
	refused(t, "no TLS there", err, CodeException, "tls: the handshake failed")
}

func TestTransientFaultsAreTriedAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status   int
		retries  int
		attempts int
	}{{429, 2, 3}, {500, 1, 2}, {502, 3, 4}, {503, 9, 4}, {504, 0, 1}, {400, 3, 1}, {404, 3, 1}} {
		var asked atomic.Int32
		url, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != "body" || r.Header.Get("Idempotency-Key") != "key 1" {
				t.Errorf("attempt %d sends %q, %q", asked.Load(), body, r.Header)
			}
			asked.Add(1)
			w.WriteHeader(c.status)
		})
		answer, err := setup(t, nil, host).ask(t, Request{Method: "POST", URL: url, Body: []byte("body"),
			Headers: map[string]string{"Idempotency-Key": "{{idempotency_key}}"}, IdempotencyKey: "key 1",
			Timeout: patience, Retries: c.retries})
		if err != nil || answer.Status != c.status || answer.Attempts != c.attempts ||
			int(asked.Load()) != c.attempts {
			t.Errorf("%d: %+v, %v, asked %d times, want %d", c.status, answer, err, asked.Load(), c.attempts)
		}
	}
}

func TestRetryAfterIsHonoredUpToABound(t *testing.T) {
	t.Parallel()
	c := setup(t, nil)
	for text, want := range map[string]time.Duration{
		"": time.Millisecond, "0": time.Millisecond, "2": 2 * time.Second, "99999999": retryAfterMax,
		"-1": time.Millisecond, "soon": time.Millisecond,
		"Sun, 06 Nov 1994 08:49:37 GMT": time.Millisecond, "Fri, 06 Nov 2693 08:49:37 GMT": retryAfterMax} {
		if got := c.waitFor(&Response{Headers: map[string]string{"retry-after": text}}, 1); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if got := c.waitFor(nil, 3); got != 4*time.Millisecond {
		t.Errorf("the third pause is %s", got)
	}
	url, host := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "10")
		w.WriteHeader(429)
	})
	// A pause that is longer than the time that is left is not begun.
	answer, err := setup(t, nil, host).ask(t, Request{URL: url, Timeout: 5 * time.Second, Retries: 3})
	if err != nil || answer.Status != 429 || answer.Attempts != 1 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func TestTheWayOutIsPlain(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	c := setup(t, func(config *Config) {
		config.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}, host)
	if answer, err := c.ask(t, get(server.URL)); err != nil || answer.Body != "HTTP/1.1" {
		t.Errorf("a server that offers HTTP/2: %+v, %v", answer, err)
	}
	if c.transport.Proxy != nil {
		t.Error("a proxy of the environment is used")
	}
}
