package fetch

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a call costs beside the same one by net/http's own client, over one kept connection.
func BenchmarkCall(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 1<<10))
	}))
	b.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	b.Run("ours", func(b *testing.B) {
		c, err := New(Config{Allow: []string{host},
			Secrets: []Secret{{Name: "API_KEY", Value: secretValue, Hosts: []string{host}}}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		run := NewRun(1 << 40)
		for b.Loop() {
			if _, err := c.Do(b.Context(), run, granted(host, "API_KEY"), bearer(server.URL)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		for b.Loop() {
			answer, err := server.Client().Get(server.URL)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadAll(answer.Body); err != nil {
				b.Fatal(err)
			}
			_ = answer.Body.Close()
		}
	})
}

// What it costs to look for 20 secrets in the largest answer, plain and full of escapes.
func BenchmarkHide(b *testing.B) {
	config := Config{}
	for i := range 20 {
		config.Secrets = append(config.Secrets,
			Secret{Name: "API_KEY", Value: fmt.Sprintf("sk-%020d-hunter2/hunter2", i)})
	}
	c, err := New(config)
	if err != nil {
		b.Fatal(err)
	}
	for name, unit := range map[string]string{"plain": "abcdefghijklmnop", "JSON": `{"a":"b\n\"c\"","d":[]}`,
		"escapes": `\\\u005cu0041`} {
		text := strings.Repeat(unit, bodyInMax/len(unit))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				c.hide(text)
			}
		})
	}
}
