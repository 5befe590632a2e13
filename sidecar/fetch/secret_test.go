package fetch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

const secretValue = `sk-hunter2/"+=&`

func withSecret(hosts ...string) func(*Config) {
	return func(config *Config) {
		config.Secrets = []Secret{{Name: "API_KEY", Value: secretValue, Hosts: hosts}}
	}
}

func bearer(url string) Request {
	return Request{URL: url, Timeout: patience,
		Headers: map[string]string{"Authorization": "Bearer {{API_KEY}}"}}
}

func TestASecretIsFilledInAndMaskedInTheAnswer(t *testing.T) {
	t.Parallel()
	base, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if got != secretValue {
			t.Errorf("the server gets %q", got)
		}
		quoted, _ := json.Marshal(got)
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		fmt.Fprintf(w, "%s %s %s %s %x", got, quoted, url.QueryEscape(got),
			base64.StdEncoding.EncodeToString([]byte(got)), got)
	})
	c := setup(t, withSecret(host), host)
	answer, err := c.Do(t.Context(), NewRun(20), granted(host, "API_KEY"), bearer(base))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body != `*** "***" *** *** ***` || answer.Headers["x-echo"] != "Bearer ***" {
		t.Errorf("the answer shows the secret: %+v", answer)
	}
}

func TestASecretGoesWhereItMayOnly(t *testing.T) {
	t.Parallel()
	base, host := listen(t, func(http.ResponseWriter, *http.Request) { t.Error("the server is asked") })
	for _, c := range []struct {
		what   string
		client *Client
		holder Holder
		text   string
	}{
		{"no grant", setup(t, withSecret(host), host), granted(host), `add "secret:API_KEY" to grants`},
		{"no secret", setup(t, nil, host), granted(host, "API_KEY"), "LOGLINE_SECRETS must list API_KEY@" + host},
		{"of another host", setup(t, withSecret("api.example:443"), host), granted(host, "API_KEY"),
			"is for other hosts"},
		{"nowhere bound", setup(t, withSecret(), host), granted(host, "API_KEY"), "is for other hosts"},
	} {
		_, err := c.client.Do(t.Context(), NewRun(20), c.holder, bearer(base))
		refused(t, c.what, err, CodeDenied, c.text)
	}
	c := setup(t, withSecret("public.example:80", "ollama:80"), "public.example:80", "ollama:80")
	for _, plain := range []string{"http://public.example/", "http://ollama/"} {
		_, err := c.ask(t, bearer(plain))
		refused(t, plain, err, CodeDenied, "https only")
	}
}

func TestOnlyHeadersAreFilledIn(t *testing.T) {
	t.Parallel()
	base, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		var body [100]byte
		n, _ := r.Body.Read(body[:])
		fmt.Fprintf(w, "%s %s %s", r.URL.RawQuery, body[:n], r.Header.Get("X-Other"))
	})
	answer, err := setup(t, withSecret(host), host).ask(t, Request{Method: "POST", URL: base + "/?a={{API_KEY}}",
		Body: []byte("{{API_KEY}}"), Headers: map[string]string{"X-Other": "{{name}} {{}}"}, Timeout: patience})
	if err != nil || answer.Body != "a={{API_KEY}} {{API_KEY}} {{name}} {{}}" {
		t.Errorf("got %+v, %v", answer, err)
	}
	_, err = setup(t, nil, host).ask(t, Request{URL: base, Timeout: patience,
		Headers: map[string]string{"X-Key": keyPlaceholder}})
	refused(t, "no key", err, CodeDenied, "no idempotency key")
}

func TestAnErrorNeverShowsASecret(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://"+r.Header.Get("Authorization")[7:]+".evil.example/")
		w.WriteHeader(302)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	c := setup(t, func(config *Config) {
		config.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		config.Secrets = []Secret{{Name: "API_KEY", Value: "hunter2hunter2", Hosts: []string{host}}}
	}, host)
	_, err := c.Do(t.Context(), NewRun(20), granted(host, "API_KEY"), bearer(server.URL))
	refused(t, "a redirect that carries it off", err, CodeDenied, "***.evil.example")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows it: %v", err)
	}
}
