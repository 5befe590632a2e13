package span

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
)

func sample() *Span {
	return &Span{
		ID: MustID("0198c0de-0000-7000-8000-000000000001"), EntityType: "execution", Who: "kernel:run_code",
		Did: new("executed"), This: new("run_code"), At: NewTime(time.UnixMilli(1767225600123)),
		ParentID: new(RunCodeID), RelatedTo: []ID{ObserverBotID, RequestWorkerID}, TraceID: new("trace-1"),
		OwnerID: "user-1", TenantID: "tenant-1", Visibility: "private", Status: new("complete"),
		Attempt: new(1), DurationMs: new(12), Tags: []string{"a", "b"},
		Input:  json.RawMessage(`{"n": 3, "text": "` + strings.Repeat("x", 200) + `", "list": [1, 2, 3.5]}`),
		Output: json.RawMessage(`{"ok": true, "rows": [{"b": 1, "a": "é"}, {"b": 2, "a": "\n"}]}`),
		Metadata: json.RawMessage(`{"run": {"function": {"seq": 4, "id": "0198c0de-0000-7000-8000-000000000002",` +
			` "curr_hash": "` + strings.Repeat("ab", 32) + `"}, "seed": 12345, "kernels": []}}`),
	}
}

func refusalOf(t *testing.T, err error) *Refusal {
	t.Helper()
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("want a *Refusal, got %v", err)
	}
	return refusal
}

func TestCanonicalAgreesWithJCS(t *testing.T) {
	t.Parallel()
	s := sample()
	ours, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := jcs.Transform(ours)
	if err != nil {
		t.Fatal(err)
	}
	if string(ours) != string(theirs) {
		t.Fatalf("jcs writes\n%s\nwe write\n%s", theirs, ours)
	}
}

func TestCanonicalLeavesOutFourColumns(t *testing.T) {
	t.Parallel()
	bare, full := sample(), sample()
	full.CurrHash, full.Signature = new(strings.Repeat("a", 64)), new(strings.Repeat("b", 128))
	full.AcceptedAt, full.Xact = new(NewTime(time.UnixMilli(1))), new("77")
	want, err := bare.Hash()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := full.Hash(); err != nil || got != want {
		t.Fatalf("got %s, %v; want %s", got, err, want)
	}
}

func TestCanonicalHashesEveryOtherColumn(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"uuid": "0198c0de-0000-7000-8000-0000000000ee", "integer": "41", "text": "changed",
		"timestamptz": "2030-01-01T00:00:00Z", "boolean": "true", "numeric": "0.25", "jsonb": `{"changed":1}`,
		"uuid[]": `["0198c0de-0000-7000-8000-0000000000ee"]`, "text[]": `["changed"]`, "xid8": "9",
	}
	base, err := sample().Hash()
	if err != nil {
		t.Fatal(err)
	}
	same := map[string]bool{"curr_hash": true, "signature": true, "accepted_at": true, "xact": true}
	for _, column := range Columns {
		changed := sample()
		if err := column.SetText(changed, texts[column.Type]); err != nil {
			t.Fatal(err)
		}
		hash, err := changed.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if (hash == base) != same[column.Name] {
			t.Errorf("column %s: the hash stays: %v", column.Name, hash == base)
		}
	}
}

func TestCanonicalTellsEmptyFromNull(t *testing.T) {
	t.Parallel()
	null, empty, jsonNull := sample(), sample(), sample()
	null.Tags, empty.Tags, jsonNull.Tags = nil, []string{}, nil
	jsonNull.Links = json.RawMessage(" null ")
	hashes := map[string]string{}
	for name, s := range map[string]*Span{"null": null, "empty": empty, "json null": jsonNull} {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Span
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		hash, err := s.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := back.Hash(); err != nil || again != hash {
			t.Errorf("%s: the JSON form hashes to %s, %v; want %s", name, again, err, hash)
		}
		hashes[name] = hash
	}
	if hashes["null"] == hashes["empty"] {
		t.Error("an empty array hashes as null")
	}
	if hashes["null"] != hashes["json null"] {
		t.Error("a jsonb null hashes otherwise than NULL")
	}
}

func TestSealAndVerify(t *testing.T) {
	t.Parallel()
	s := sample()
	if err := s.VerifyHash(); err == nil {
		t.Fatal("a span without curr_hash is verified")
	}
	if err := s.Seal(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifyHash(); err != nil {
		t.Fatal(err)
	}
	next := sample()
	if code := refusalOf(t, next.Seal(s.CurrHash)).Code; code != CodePrevHash {
		t.Fatalf("seq 0 with prev_hash: %s", code)
	}
	next.Seq = 1
	if err := next.Seal(s.CurrHash); err != nil {
		t.Fatal(err)
	}
	next.Output = json.RawMessage(`{"ok": false}`)
	var run *RunError
	if err := next.VerifyHash(); !errors.As(err, &run) || run.Code != RunHashMismatch {
		t.Fatalf("a changed output gives %v", err)
	}
}

func year(n int) Time { return NewTime(time.Date(n, 1, 1, 0, 0, 0, 0, time.UTC)) }

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*Span){
		"owner_id: the text is not UTF-8":      func(s *Span) { s.OwnerID = "\xff" },
		"this: the text holds a NUL byte":      func(s *Span) { s.This = new("a\x00") },
		"tags: the text holds a NUL byte":      func(s *Span) { s.Tags = []string{"\x00"} },
		"at: the year 10000":                   func(s *Span) { s.At = year(10000) },
		"ttl_at: the year -1":                  func(s *Span) { s.TTLAt = new(year(-1)) },
		"cost: read decimal \"NaN\"":           func(s *Span) { s.Cost = new(Decimal("NaN")) },
		"metadata.a at byte 5: 1e400 is no":    func(s *Span) { s.Metadata = json.RawMessage(`{"a":1e400}`) },
		"metadata at byte 0: want a value":     func(s *Span) { s.Metadata = json.RawMessage{} },
		"input at byte 2: want the end, found": func(s *Span) { s.Input = json.RawMessage(`1 2`) },
	}
	for want, change := range cases {
		s := sample()
		change(s)
		_, err := s.Canonical()
		if refusal := refusalOf(t, err); !strings.Contains(refusal.Message, want) || refusal.Code != CodeBadSpan {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	s := sample()
	canonical, err := s.Canonical()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(canonical)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Canonical(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	s := sample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Hash(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	s := sample()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzCanonical reads any span: what Validate takes has a canonical form, which is what jcs makes
// of it, and the JSON form of the span leads to the same one.
func FuzzCanonical(f *testing.F) {
	seed, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"id":"0198c0de-0000-7000-8000-000000000001","entity_type":"a","who":"b","owner_id":"c",` +
		`"tenant_id":"d","visibility":"public","at":"2026-01-02T03:04:05+02:00","value":"1e-3","tags":[],"error":0}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s, back Span
		if json.Unmarshal(raw, &s) != nil || s.Validate() != nil {
			return
		}
		canonical, err := s.Canonical()
		if err != nil {
			t.Fatalf("validated, but: %v", err)
		}
		if oracle, err := jcs.Transform(canonical); err != nil || string(oracle) != string(canonical) {
			t.Fatalf("jcs writes %q, %v; we write %q", oracle, err, canonical)
		}
		written, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := back.Canonical(); err != nil || string(again) != string(canonical) {
			t.Fatalf("read back: %q, %v; want %q", again, err, canonical)
		}
	})
}
