package fetch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
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
		{"no grant", setup(t, withSecret(host), host), granted(host), "--give provider_exec=secret:API_KEY`"},
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

// What a server makes of a secret that it got, and of the names of the headers that carried it there.
func TestARedirectThatIsRefusedNamesNoTargetAfterASecret(t *testing.T) {
	t.Parallel()
	const value = "Hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2"
	for _, location := range []string{
		"https://" + value + ".evil.example/", "https://" + strings.ToLower(value[:40]) + ".evil.example/",
		value + ":/", "https://" + value + "_" + value + ".example/", "https://host/?" + value + value + "\\",
		"https://" + value + "@host/", "https://host:" + value + "/", "https://[" + value + "]/",
	} {
		base, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(302)
		})
		c := setup(t, func(config *Config) {
			config.Secrets = []Secret{{Name: "API_KEY", Value: value, Hosts: []string{host}}}
		}, host)
		for what, request := range map[string]Request{"carried": bearer(base), "known from before": get(base)} {
			_, err := c.Do(t.Context(), NewRun(20), granted(host, "API_KEY"), request)
			if what == "carried" {
				refused(t, location, err, CodeDenied, host+" redirects to where this call may not go")
			}
			isShown := err == nil || strings.Contains(strings.ToLower(err.Error()), "hunter2")
			if isShown && (what == "carried" || strings.Contains(location, value)) {
				t.Errorf("%s: the error shows it: %v", what, err)
			}
		}
	}
}

func TestASecretIsCarriedThroughEveryRedirect(t *testing.T) {
	t.Parallel()
	var key string
	second, other := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the secret goes to another host")
		}
		w.Header().Set("Location", "https://"+r.URL.Query().Get("k")[:12]+".evil.example/")
		w.WriteHeader(302)
	})
	first, host := listen(t, func(w http.ResponseWriter, r *http.Request) {
		key = r.Header.Get("Authorization")[7:]
		http.Redirect(w, r, second+"/?k="+key, http.StatusFound)
	})
	c := setup(t, func(config *Config) {
		config.Secrets = []Secret{{Name: "API_KEY", Value: "hunter2hunter2", Hosts: []string{host}}}
	}, host, other)
	_, err := c.Do(t.Context(), NewRun(20), granted(host, other, "API_KEY"), bearer(first))
	refused(t, "at the second hop", err, CodeDenied, other+" redirects to where this call may not go")
	if strings.Contains(err.Error(), "hunter2") || key == "" {
		t.Errorf("the error shows it: %v", err)
	}
}

// What a server or its framework makes of a text, and what is no more than like a secret.
func TestASecretIsHiddenInEveryCaseAndBehindEveryEscape(t *testing.T) {
	t.Parallel()
	const value = `Sk-LiveABC/d%41f"&<+=`
	c := setup(t, func(config *Config) {
		config.Secrets = []Secret{{Name: "API_KEY", Value: value}, {Name: "LONGER", Value: value + "-and-more"},
			{Name: "PLAIN", Value: "hunter2hunter2"}}
	})
	inJSON, _ := json.Marshal(value)
	twice, _ := json.Marshal(string(inJSON))
	inURL := url.QueryEscape(value)
	urlInJSON, _ := json.Marshal(strings.ReplaceAll(inURL, "%", `\u0025`))
	slashes := strings.ReplaceAll(strings.Trim(string(inJSON), `"`), "/", `\/`)
	units, percents, entities := "", "", ""
	for i := range value {
		units += fmt.Sprintf(`\u%04X`, value[i])
		percents += fmt.Sprintf("%%%02x", value[i])
		entities += fmt.Sprintf("&#x%x;", value[i])
	}
	for what, text := range map[string]string{
		"itself": value, "lower": strings.ToLower(value), "upper": strings.ToUpper(value),
		"longer": strings.ToLower(value) + "-AND-more",
		"JSON":   string(inJSON[1 : len(inJSON)-1]), "slashes": slashes, "slashes lower": strings.ToLower(slashes),
		"JSON in JSON": string(twice[3 : len(twice)-3]), "units": units, "units lower": strings.ToLower(units),
		"URL": inURL, "URL lower": strings.ToLower(inURL), "path": url.PathEscape(value), "percents": percents,
		"URL in JSON": string(urlInJSON[1 : len(urlInJSON)-1]), "HTML": html.EscapeString(value),
		"entities": entities,
		"base64":   base64.StdEncoding.EncodeToString([]byte(value)), "hex": fmt.Sprintf("%X", value),
		"base64 in JSON": strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(value)), "/", `\/`),
	} {
		if got := c.hide("é" + text + "é"); got != "é***é" {
			t.Errorf("%s: %s gives %s", what, text, got)
		}
		if got := c.hide(`\n%20` + text + " hunter2hunter2 " + text + `&lt;"\"`); got !=
			`\n%20*** *** ***&lt;"\"` {
			t.Errorf("%s, twice: %s gives %s", what, text, got)
		}
	}
	for _, text := range []string{"", `\`, "%", "&", `\u00`, "%4", "&amp", "&nothing;", `\u00e9\n%zz&lt;`,
		value[1:], "hunter2hunter", "\xff\xfe%ff", strings.Repeat(`\\`, 9)} {
		if got := c.hide(text); got != text {
			t.Errorf("%q is changed to %q", text, got)
		}
	}
}
