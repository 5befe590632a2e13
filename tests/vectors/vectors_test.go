// Package vectors_test holds the published vectors against package span, and against a second
// implementation in JavaScript.
package vectors_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/node"
)

var update = flag.Bool("update", false, "fill the results in from package span")

type idCase struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	At       span.Time `json:"at"`
	UUIDs    []span.ID `json:"uuids"`
	Integers []string  `json:"integers"`
	ID       string    `json:"id"`
}

type canonicalFile struct {
	Key struct {
		Secret string `json:"secret"`
		Public string `json:"public"`
	} `json:"key"`
	Spans []struct {
		Name      string          `json:"name"`
		Span      json.RawMessage `json:"span"`
		Canonical string          `json:"canonical"`
		Hash      string          `json:"hash"`
		Signature string          `json:"signature"`
	} `json:"spans"`
	Numbers []struct {
		Text      string  `json:"text"`
		Canonical *string `json:"canonical"`
	} `json:"numbers"`
}

func TestDerivedIDs(t *testing.T) {
	var cases []idCase
	read(t, "ids.json", &cases)
	for i := range cases {
		c := &cases[i]
		integers := make([]int64, len(c.Integers))
		for j, text := range c.Integers {
			var err error
			if integers[j], err = strconv.ParseInt(text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		check(t, c.Name, span.Derive(c.Kind, c.At.Time, c.UUIDs, integers...).String(), &c.ID)
	}
	write(t, "ids.json", cases)
}

func TestCanonicalSpans(t *testing.T) {
	var file canonicalFile
	read(t, "canonical.json", &file)
	key := ed25519.NewKeyFromSeed(unhex(t, file.Key.Secret))
	check(t, "the key", hex.EncodeToString(key[32:]), &file.Key.Public)
	for i := range file.Spans {
		c := &file.Spans[i]
		var s span.Span
		if err := json.Unmarshal(c.Span, &s); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		canonical, err := s.Canonical()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		hash, err := s.Hash()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		check(t, c.Name, string(canonical), &c.Canonical)
		check(t, c.Name, hash, &c.Hash)
		signature := ed25519.Sign(key, unhex(t, hash))
		check(t, c.Name, hex.EncodeToString(signature), &c.Signature)
		if !verifies(key[32:], unhex(t, hash), signature) {
			t.Errorf("%s: the signature is refused", c.Name)
		}
		checkReadBack(t, c.Name, &s, hash)
	}
	for i := range file.Numbers {
		c := &file.Numbers[i]
		got, wanted := canonicalNumber(t, c.Text), c.Canonical
		if *update {
			c.Canonical = got
		} else if (got == nil) != (wanted == nil) || got != nil && *got != *wanted {
			t.Errorf("number %s: got %v, want %v", c.Text, deref(got), deref(wanted))
		}
	}
	write(t, "canonical.json", file)
}

// checkReadBack proves that neither the JSON form of a span nor its text form changes the hash.
func checkReadBack(t *testing.T, name string, s *span.Span, hash string) {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromText span.Span
	if err := json.Unmarshal(raw, &fromJSON); err != nil {
		t.Fatal(err)
	}
	fromText = fromJSON
	for _, column := range span.Columns {
		if text, present := column.Text(s); present && column.Type != "uuid[]" && column.Type != "text[]" {
			if err := column.SetText(&fromText, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for form, back := range map[string]*span.Span{"JSON": &fromJSON, "text": &fromText} {
		if got, err := back.Hash(); err != nil || got != hash {
			t.Errorf("%s: read back from %s the hash is %s, %v; want %s", name, form, got, err, hash)
		}
	}
}

// canonicalNumber returns how a number is written in the canonical form, nil where it is refused.
func canonicalNumber(t *testing.T, text string) *string {
	t.Helper()
	s := span.Span{Content: json.RawMessage(text)}
	canonical, err := s.Canonical()
	if err != nil {
		return nil
	}
	_, rest, _ := bytes.Cut(canonical, []byte(`"content":`))
	number, _, _ := bytes.Cut(rest, []byte(`,`))
	return new(string(number))
}

func TestSecondImplementationAgrees(t *testing.T) {
	t.Parallel()
	if out, err := node.Checker(t).CombinedOutput(); err != nil {
		t.Fatalf("check.mjs: %v\n%s", err, out)
	}
}

func check(t *testing.T, name, got string, want *string) {
	t.Helper()
	if *update {
		*want = got
	} else if got != *want {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, *want)
	}
}

func deref(text *string) string {
	if text == nil {
		return "a refusal"
	}
	return *text
}

func read(t *testing.T, name string, target any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, target); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func write(t *testing.T, name string, content any) {
	t.Helper()
	if !*update {
		return
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(content); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
