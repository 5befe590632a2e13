package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 30 * time.Second

// setup is a client whose operator allows these hosts.
func setup(t *testing.T, change func(*Config), allow ...string) *Client {
	t.Helper()
	config := Config{Allow: allow, RetryWait: time.Millisecond}
	if change != nil {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// anyone is granted every host and every secret: what the operator's list refuses shows.
func anyone() Holder {
	yes := func(string) bool { return true }
	return Holder{Name: "provider_exec", Tenant: "t1", Host: yes, Secret: yes}
}

// granted is a holder of these objects alone.
func granted(objects ...string) Holder {
	has := func(object string) bool { return slices.Contains(objects, object) }
	return Holder{Name: "provider_exec", Tenant: "t1", Host: has, Secret: has}
}

func get(url string) Request { return Request{URL: url, Timeout: patience} }

func (c *Client) ask(t *testing.T, request Request) (*Response, error) {
	t.Helper()
	return c.Do(t.Context(), NewRun(20), anyone(), request)
}

// refused checks the code and the text of a refusal.
func refused(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	var fault *Error
	if !errors.As(err, &fault) || fault.Code != code || !strings.Contains(fault.Message, text) {
		t.Errorf("%s: got %v, want %s: …%s…", what, err, code, text)
	}
}

// listen serves handler on loopback and returns its URL and its host:port.
func listen(t *testing.T, handler http.HandlerFunc) (url, host string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, strings.TrimPrefix(server.URL, "http://")
}

// raw serves a connection as bytes.
func raw(t *testing.T, serve func(net.Conn)) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestAGrantedAndListedHostIsAsked(t *testing.T) {
	t.Parallel()
	url, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		w.WriteHeader(201)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Header.Get("X-Given"), body)
	})
	c := setup(t, nil, host)
	answer, err := c.Do(t.Context(), NewRun(20), granted(host), Request{Method: "post", URL: url + "/a?b=c#d",
		Headers: map[string]string{"X-Given": "given"}, Body: []byte("body"), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != 201 || answer.Body != "POST /a?b=c given body" || answer.Headers["x-two"] != "a, b" ||
		answer.URL != url+"/a?b=c" || answer.Attempts != 1 {
		t.Errorf("got %+v", answer)
	}
}

func TestBothListsMustNameTheHost(t *testing.T) {
	t.Parallel()
	url, host := listen(t, func(http.ResponseWriter, *http.Request) { t.Error("the server is asked") })
	_, err := setup(t, nil, host).Do(t.Context(), NewRun(20), granted("other:80"), get(url))
	refused(t, "no grant", err, CodeDenied, "logline manifest --give provider_exec=fetch:"+host+"`")
	_, err = setup(t, nil).Do(t.Context(), NewRun(20), granted(host), get(url))
	refused(t, "not listed", err, CodeDenied,
		"the operator does not allow "+host+": add it to LOGLINE_FETCH_ALLOW")
}

// What a URL parser, a resolver or a reader could take for another host than the lists do.
func TestURLsThatCouldMeanTwoHostsAreRefused(t *testing.T) {
	t.Parallel()
	const host = "allowed.example:443"
	c := setup(t, func(config *Config) {
		config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			t.Error("a name is looked up")
			return nil, errors.New("no")
		}
	}, host, "127.0.0.1:80")
	for _, u := range []string{
		"https://allowed.example@evil.example/", "https://allowed.example:443@evil.example/",
		"https://evil.example#@allowed.example/", "https://evil.example/?allowed.example",
		`https://evil.example\@allowed.example/`, `https:\\allowed.example/`,
		"https://allowed.example.evil.example/",
		"https://evilallowed.example/", "https://allowed.example./", "https://allowed.example:444/",
		"https://allowed.example:80/", "http://allowed.example/", "https://allowed.example:0443x/",
		"https://allowed.example:/x", "https://allowed%2eexample/", "https://allowed.example%00.evil.example/",
		"https://ållowed.example/", "https://allowed。example/", "https://*.example/", "https:///path",
		"http://2130706433/", "http://0x7f.1/", "http://0x7f000001/", "http://017700000001/", "http://127.1/",
		"http://0177.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://[::1]/", "http://[::]/", "http://0/",
		"http://[fe80::1%25eth0]/", "http://127.0.0.1:81/", "http://127.0.0.1.:80/", "http://localhost/",
		"http://127.0.0.1 :80/", "http://127.0.0.1\t/", "http://127.0.0.1/\r\nX: y", "file:///etc/passwd",
		"gopher://127.0.0.1/", "ftp://allowed.example/", "data:text/plain,x", "//allowed.example/", "/path", "",
		"javascript:1", "unix:///var/run/docker.sock", "https:allowed.example", "HTTPS//allowed.example",
	} {
		_, err := c.Do(t.Context(), NewRun(20), granted(host, "127.0.0.1:80"), get(u))
		refused(t, u, err, CodeDenied, "fetch: ")
	}
	long := get("https://allowed.example/" + strings.Repeat("a", 9000))
	_, err := c.Do(t.Context(), NewRun(20), granted(host), long)
	refused(t, "a long URL", err, CodeLimit, "8192")
}

func TestHostsAreComparedInOneForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://API.Example.COM/": "api.example.com:443", "http://a.example": "a.example:80",
		"http://a.example:443/": "a.example:443", "https://[2001:DB8:0::1]/": "[2001:db8::1]:443",
		"http://1.2.3.4:0080/": "1.2.3.4:80", "https://xn--nxasmq6b.example/": "xn--nxasmq6b.example:443",
	} {
		if got, fault := parseTarget(text); fault != nil || got.host != want {
			t.Errorf("%s: got %v, %v, want %s", text, got, fault, want)
		}
	}
}

func TestNoNameOfAStrangerLeadsInside(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"127.0.0.1", "127.9.9.9", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fc00::1", "fd12::1", "ff02::1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1",
		"::7f00:1", "fec0::1", "100::1", "3fff::1",
	} {
		for _, list := range [][]string{{address}, {"93.184.216.34", address}} {
			c := setup(t, func(config *Config) {
				config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
					found := []netip.Addr{}
					for _, text := range list {
						found = append(found, netip.MustParseAddr(text))
					}
					return found, nil
				}
			}, "public.example:80", "127.0.0.1:1")
			_, err := c.ask(t, get("http://public.example/"))
			refused(t, fmt.Sprint(list), err, CodeDenied, "public.example:80 leads to a private address")
		}
	}
	for _, address := range []string{"93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"} {
		if !isPublic(netip.MustParseAddr(address)) {
			t.Errorf("%s is refused", address)
		}
	}
}

func TestAPrivateAddressIsReachedWhereItIsNamed(t *testing.T) {
	t.Parallel()
	_, host := listen(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "inside") })
	_, port, _ := net.SplitHostPort(host)
	at := func(address string) func(*Config) {
		return func(config *Config) {
			config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr(address)}, nil
			}
		}
	}
	for _, c := range []struct {
		name, resolved string
		allow          []string
		reached        bool
	}{
		{"127.0.0.1", "", []string{host}, true},
		{"ollama", "127.0.0.1", []string{"ollama:" + port}, true},
		{"ollama.internal", "::ffff:127.0.0.1", []string{"ollama.internal:" + port}, true},
		{"public.example", "127.0.0.1", []string{"public.example:" + port, host}, true},
		{"public.example", "127.0.0.1", []string{"public.example:" + port, "127.0.0.1:1"}, false},
		{"metadata.internal", "169.254.169.254", []string{"metadata.internal:" + port}, false},
		{"ollama", "0.0.0.0", []string{"ollama:" + port}, false},
	} {
		answer, err := setup(t, at(cmp(c.resolved, "127.0.0.1")), c.allow...).ask(t,
			get("http://"+c.name+":"+port+"/"))
		if c.reached && (err != nil || answer.Body != "inside") {
			t.Errorf("%s at %s with %v: %v", c.name, c.resolved, c.allow, err)
		} else if !c.reached {
			refused(t, c.name, err, CodeDenied, "private address")
		}
	}
}

func cmp(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// The address that was checked is the one that is dialed: a name is looked up once for a connection.
func TestRebindingFindsNoSecondLookUp(t *testing.T) {
	t.Parallel()
	_, host := listen(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	_, port, _ := net.SplitHostPort(host)
	var asked atomic.Int32
	c := setup(t, func(config *Config) {
		config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			if asked.Add(1) > 1 {
				return []netip.Addr{netip.MustParseAddr("169.254.169.254")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	}, "rebind.example:"+port, host)
	if _, err := c.ask(t, get("http://rebind.example:"+port)); err != nil || asked.Load() != 1 {
		t.Errorf("got %v after %d look-ups", err, asked.Load())
	}
	c.Close() // the next call needs a connection of its own
	_, err := c.ask(t, get("http://rebind.example:"+port))
	refused(t, "the second look-up", err, CodeDenied, "private address")
}

func TestARunHasLimitedCalls(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	url, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-release
		}
	})
	c := setup(t, nil, host)
	const callsMax = 20
	run := NewRun(callsMax)
	ended := make(chan error, openMax)
	for range openMax {
		go func() {
			_, err := c.Do(t.Context(), run, anyone(), get(url+"/wait"))
			ended <- err
		}()
	}
	for range openMax {
		<-arrived
	}
	_, err := c.Do(t.Context(), run, anyone(), get(url))
	refused(t, "the seventh at once", err, CodeLimit, "6 calls open at once")
	close(release)
	for range openMax {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for range callsMax - openMax {
		if _, err := c.Do(t.Context(), run, anyone(), get(url)); err != nil {
			t.Error(err)
		}
	}
	_, err = c.Do(t.Context(), run, anyone(), get(url))
	refused(t, "the twenty-first", err, CodeLimit, "may make 20 calls")
	if _, err := c.ask(t, get(url)); err != nil {
		t.Errorf("another run: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != 0 || len(c.tenants) != 0 {
		t.Errorf("%d calls are still counted", c.open)
	}
}

func TestOneTenantLeavesCallsToOthers(t *testing.T) {
	t.Parallel()
	url, host := listen(t, func(http.ResponseWriter, *http.Request) {})
	c := setup(t, nil, host)
	c.open, c.tenants = openTenantMax, map[string]int{"t1": openTenantMax}
	_, err := c.ask(t, get(url))
	refused(t, "a tenant of many calls", err, CodeLimit, "too many calls")
	other := anyone()
	other.Tenant = "t2"
	if _, err := c.Do(t.Context(), NewRun(20), other, get(url)); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

// Whatever a URL is made of: what is accepted names one host in one form, and no reader takes it for another.
func FuzzTarget(f *testing.F) {
	for _, text := range []string{"https://a.example/", "http://127.0.0.1:80/x?y#z", "https://[::1]:443",
		"http://a@b",
		`https://a\@b/`, "https://a%2eb/", "http://0x7f.1/", "HTTPS://A.B:0443/%2f..", "https://a.example:443@b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, fault := parseTarget(text)
		if fault != nil {
			return
		}
		again, fault := parseTarget(got.url.String())
		if fault != nil || again.host != got.host || again.secure != got.secure {
			t.Fatalf("%q is %s, and read again %+v, %v", text, got.host, again, fault)
		}
		authority := strings.SplitN(strings.SplitN(text, "://", 2)[1], "/", 2)[0]
		isEnd := func(r rune) bool { return r == '?' || r == '#' }
		authority = strings.ToLower(strings.FieldsFunc(authority+"?", isEnd)[0])
		name, _, err := net.SplitHostPort(got.host)
		address, noAddress := netip.ParseAddr(name)
		if err != nil || noAddress != nil && !strings.HasPrefix(authority, name) ||
			noAddress == nil && address.String() != name {
			t.Fatalf("%q is %s: not what stands between // and /", text, got.host)
		}
	})
}
