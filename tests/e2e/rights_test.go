package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/sign"
)

// mallory has a key, whose span she has published herself, with rights of her choice.
func (s *signedSystem) mallory(rights sign.Rights) *sign.Key {
	s.t.Helper()
	key, err := sign.Generate()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := sign.WriteKeyFile(s.file("mal"), key, "mallory's"); err != nil {
		s.t.Fatal(err)
	}
	row, err := sign.NewKeySpan(key, rights, "sidecar", time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	if err := sign.NewSigner(key).Seal(row, nil); err != nil {
		s.t.Fatal(err)
	}
	s.append(row)
	return key
}

// versionsOf is how many versions the span of key has.
func (s *signedSystem) versionsOf(key *sign.Key) int {
	s.t.Helper()
	return len(s.read("id = $1", sign.KeySpanID(key.Public()).String()))
}

func TestPublishSignsNoRightsButThoseStated(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	key := s.mallory(sign.Rights{Purposes: []sign.Purpose{sign.PurposeKey}})
	signed := []string{"--key", s.file("root")}
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{1, []string{s.file("mal"), "--purpose", "function", "--tenant", "acme", "--owner", "alice"},
			"--purpose key"},
		{1, []string{s.file("mal"), "--purpose", "key", "--tenant", "acme"}, "--purpose key"},
		{1, []string{s.file("mal"), "--purpose", "key,function"}, "--purpose key"},
		{1, []string{key.Fingerprint(), "--purpose", "function"}, "--purpose key"},
		{2, []string{key.Fingerprint()}, "--purpose key"},
	} {
		if said := s.keys(c.code, append(append([]string{"publish"}, c.args...), signed...)...); !strings.Contains(
			said, c.says) {
			t.Errorf("publish %v says %q, want %q in it", c.args, said, c.says)
		}
	}
	if n := s.versionsOf(key); n != 1 {
		t.Fatalf("%d versions of mallory's key: other rights than those stated are signed", n)
	}
	s.keys(0, "publish", key.Fingerprint(), "--purpose", "key", "--key", s.file("root"))
	s.keys(0, "publish", s.file("mal"), "--purpose", "key", "--key", s.file("root")) // again: nothing to do
	if n := s.versionsOf(key); n != 2 {
		t.Errorf("%d versions, want her own and the root's", n)
	}
	s.keys(1, "publish", s.file("mal"), "--purpose", "function", "--key", s.file("root"))

	// The root's name on a version is not its signature.
	other := s.next(sign.KeySpanID(key.Public()))
	other.Seq, other.PrevHash = 2, s.latest(other.ID).CurrHash
	if err := sign.NewSigner(key).Seal(other, other.PrevHash); err != nil {
		t.Fatal(err)
	}
	root, err := sign.ReadKeyFile(s.file("root"))
	if err != nil {
		t.Fatal(err)
	}
	other.PublicKey = new(root.Public())
	s.append(other)
	s.keys(0, "publish", s.file("mal"), "--purpose", "key", "--key", s.file("root"))
	if n := s.versionsOf(key); n != 4 {
		t.Errorf("%d versions, want one more of the root's", n)
	}
	s.keys(0, "revoke", s.file("mal"))
	said := s.keys(1, "publish", s.file("mal"), "--purpose", "key", "--key", s.file("root"))
	if !strings.Contains(said, "revoked") || !strings.Contains(said, "generate another") {
		t.Errorf("a revoked key: %s", said)
	}
}

func TestRotateTakesTheRightsThatCount(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	rights := []string{"--purpose", "function", "--tenant", "acme", "--owner", "alice", "--key", s.file("root")}
	s.keys(0, append([]string{"generate", "--out", s.file("alice")}, rights...)...)
	key, err := sign.ReadKeyFile(s.file("alice"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := sign.NewKeySpan(key, sign.Rights{Purposes: []sign.Purpose{sign.PurposeKey, sign.PurposeManifest,
		sign.PurposeOverride}}, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	more.Seq = 1
	if err := sign.NewSigner(key).Seal(more, s.latest(more.ID).CurrHash); err != nil {
		t.Fatal(err)
	}
	s.append(more)
	said := s.keys(1, "rotate", s.file("alice"), "--key", s.file("root"), "--out", s.file("alice-2"))
	if !strings.Contains(said, "--purpose function --tenant acme --owner alice") {
		t.Errorf("rotate says %s", said)
	}
	if _, err := os.Stat(s.file("alice-2")); err == nil {
		t.Error("a key is made for a rotation that is refused")
	}
	s.keys(0, append([]string{"publish", s.file("alice")}, rights...)...)
	said = s.keys(0, "rotate", s.file("alice"), "--key", s.file("root"), "--out", s.file("alice-2"))
	if !strings.Contains(said, "--purpose function --tenant acme --owner alice") {
		t.Errorf("rotate does not say what it signs: %s", said)
	}
	next, err := sign.ReadKeyFile(s.file("alice-2"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := sign.ReadDocument(s.latest(sign.KeySpanID(next.Public())))
	if err != nil || len(document.Purposes) != 1 || document.Purposes[0] != sign.PurposeFunction ||
		document.Tenant != "acme" || document.Owner != "alice" {
		t.Errorf("the new key has %+v, %v", document, err)
	}
	s.keys(0, "generate", "--root", "--out", s.file("root-2"))
	s.keys(1, "rotate", s.file("alice-2"), "--key", s.file("root-2")) // whose keys do not count yet

	// Whatever a governor has written over a key, it can be revoked.
	junk := s.next(sign.KeySpanID(next.Public()))
	junk.Seq, junk.Metadata = 1, json.RawMessage(`{"purposes": 7}`)
	junk.Signature, junk.PublicKey, junk.SigAlg, junk.SigKeyID = nil, nil, nil, nil
	s.append(junk)
	s.keys(0, "revoke", s.file("alice-2"))
	mal := s.mallory(sign.Rights{Purposes: []sign.Purpose{sign.PurposeKey}})
	said = s.keys(1, "rotate", mal.Fingerprint(), "--key", s.file("root"))
	if !strings.Contains(said, "does not lead to the root") {
		t.Errorf("a key that counts for nothing is rotated: %s", said)
	}
}

func TestAKeyThatMaySignNoKeysIsRefusedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	keys := len(s.read("entity_type = 'key'"))
	for _, args := range [][]string{
		{"generate", "--purpose", "span", "--out", s.file("new")},
		{"rotate", s.file("sidecar"), "--out", s.file("new")},
		{"publish", s.file("sidecar"), "--purpose", "span"},
	} {
		said := s.keys(1, append(args, "--key", s.file("sidecar"))...)
		if !strings.Contains(said, "has not the purpose key") {
			t.Errorf("logline keys %v says %s", args, said)
		}
	}
	if _, err := os.Stat(s.file("new")); err == nil {
		t.Error("a key file is left")
	}
	if n := len(s.read("entity_type = 'key'")); n != keys {
		t.Errorf("%d key spans, want %d", n, keys)
	}
	s.keys(0, "generate", "--purpose", "key", "--tenant", "acme", "--key", s.file("root"), "--out",
		s.file("acme"))
	said := s.keys(1, "generate", "--purpose", "span", "--key", s.file("acme"), "--out", s.file("new"))
	if !strings.Contains(said, "is bound to a tenant") {
		t.Errorf("a signer whose keys can not count: %s", said)
	}
	root := s.root
	s.root = "" // and where none is pinned, the signer's own root must be there
	s.keys(1, "generate", "--purpose", "span", "--key", s.file("sidecar"))
	s.keys(0, "generate", "--purpose", "span", "--key", s.file("root"))
	s.root = root
}
