package vectors_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// execution is a span whose canonical form has about 1 KB.
func execution() *span.Span {
	return &span.Span{
		ID: span.MustID("0198c0de-0000-8000-8000-000000000001"), EntityType: "execution", Who: "kernel:run_code",
		Did: new("executed"), This: new("run_code"), At: span.NewTime(time.UnixMilli(1767225600123)),
		ParentID: new(span.RunCodeID), RelatedTo: []span.ID{span.ObserverBotID}, TraceID: new("trace-1"),
		OwnerID: "user-1", TenantID: "tenant-1", Visibility: "private", Status: new("complete"), Attempt: new(1),
		DurationMs: new(12),
		Input:      json.RawMessage(`{"text": "` + strings.Repeat("x", 300) + `", "n": [1, 2, 3.5]}`),
		Output:     json.RawMessage(`{"ok": true, "rows": [{"b": 1, "a": "é"}, {"b": 0.25, "a": "\n"}]}`),
		Metadata: json.RawMessage(`{"run": {"function": {"seq": 4, "curr_hash": "` + strings.Repeat("ab", 32) +
			`"}, "kernels": [{"name": "run_code", "seq": 0}], "seed": "` + strings.Repeat("cd", 32) + `"}}`),
	}
}

// BenchmarkSpan is what a span of 1 KB costs whoever writes or verifies it, part by part and whole; jcs
// is the library that has no exact-number rule, on the same document.
func BenchmarkSpan(b *testing.B) {
	s := execution()
	key, err := sign.Generate()
	if err != nil {
		b.Fatal(err)
	}
	signer := sign.NewSigner(key)
	if err := signer.Seal(s, nil); err != nil {
		b.Fatal(err)
	}
	canonical, err := s.Canonical()
	if err != nil {
		b.Fatal(err)
	}
	row, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	public, hash, signature := unhexed(b, key.Public()), unhexed(b, *s.CurrHash), unhexed(b, *s.Signature)
	private := ed25519.NewKeyFromSeed(unhexed(b, key.Secret()))
	measure := func(name string, f func() bool) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(canonical)))
			b.ReportAllocs()
			for b.Loop() {
				if !f() {
					b.Fatal("it fails")
				}
			}
		})
	}
	measure("canonical", func() bool { _, err := s.Canonical(); return err == nil })
	measure("canonical_by_jcs", func() bool { _, err := jcs.Transform(row); return err == nil })
	measure("blake3", func() bool { return blake3.Sum256(canonical) != [32]byte{} })
	measure("ed25519_sign", func() bool { return len(ed25519.Sign(private, hash)) == 64 })
	measure("ed25519_verify", func() bool { return sign.Verify(public, hash, signature) })
	measure("hash_verify", func() bool { return s.VerifyHash() == nil })
	measure("seal_unsigned", func() bool { return s.Seal(nil) == nil })
	measure("seal_signed", func() bool { return signer.Seal(s, nil) == nil })
	measure("verify_from_JSON", func() bool {
		var read span.Span
		return json.Unmarshal(row, &read) == nil && read.VerifyHash() == nil && sign.Verify(public, hash, signature)
	})
}

func unhexed(b *testing.B, text string) []byte {
	b.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		b.Fatal(err)
	}
	return raw
}
