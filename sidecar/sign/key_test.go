package sign

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
)

func decodeHex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSealingSignsTheHashThatCoversTheKey(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	row := &span.Span{ID: span.RunCodeID, EntityType: "note", Who: "user:alice", OwnerID: "alice",
		TenantID: "acme", Visibility: "private", Seq: 1}
	row.At, _ = span.ParseTime("2026-01-01T00:00:00Z")
	previous := strings.Repeat("ab", 32)
	if err := NewSigner(key).Seal(row, &previous); err != nil {
		t.Fatal(err)
	}
	if err := row.VerifyHash(); err != nil || *row.PublicKey != key.Public() || *row.SigAlg != Algorithm ||
		*row.SigKeyID != "did:logline:"+key.Fingerprint() || *row.PrevHash != previous {
		t.Errorf("got %+v, %v", row, err)
	}
	if !Verify(decodeHex(t, *row.PublicKey), decodeHex(t, *row.CurrHash), decodeHex(t, *row.Signature)) {
		t.Error("the signature does not hold")
	}
	signed := *row.CurrHash
	row.PublicKey = new(newKey(t).Public())
	if hash, err := row.Hash(); err != nil || hash == signed {
		t.Error("the hash does not cover public_key")
	}
	none := NewSigner(nil)
	if err := none.Seal(row, nil); err != nil || none.Signs() {
		t.Errorf("without a key: %v", err)
	}
	if row.Signature != nil || row.PublicKey != nil || row.SigAlg != nil || row.SigKeyID != nil ||
		row.CurrHash == nil {
		t.Errorf("without a key: %+v", row)
	}
}

func TestPrivateKeysAreNeverShown(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key, "value", *key, "signer", NewSigner(key))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "value", *key, "signer", NewSigner(key))
	encoded, err := json.Marshal(map[string]any{"key": key, "value": *key})
	if err != nil {
		t.Fatal(err)
	}
	shown := log.String() + string(encoded) + fmt.Sprintf("%v %+v %#v %s %v %+v", key, key, key, key, *key, *key)
	for _, secret := range []string{key.Secret(), fmt.Sprint([]byte(key.private)),
		fmt.Sprintf("%x", key.private[:8])} {
		if strings.Contains(shown, secret) {
			t.Errorf("the private key is shown: %s", shown)
		}
	}
	_, err = ParseKey(key.Secret()[:62] + "zz")
	if err == nil || strings.Contains(err.Error(), key.Secret()[:10]) {
		t.Errorf("a malformed key: %v", err)
	}
}

func TestKeyFilesAreTheirOwnersAlone(t *testing.T) {
	t.Parallel()
	key, path := newKey(t), filepath.Join(t.TempDir(), "a.key")
	if err := WriteKeyFile(path, key, "a key of a test"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if again, err := ReadKeyFile(path); err != nil || again.Secret() != key.Secret() {
		t.Fatalf("read back: %v", err)
	}
	if err := WriteKeyFile(path, key, ""); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("overwrites: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for name, content := range map[string]string{"empty": "", "short": "abcd",
		"no hex": strings.Repeat("x", 64)} {
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(other); err == nil {
			t.Errorf("%s: is read", name)
		}
	}
	if _, err := ReadKeyFile(t.TempDir()); err == nil {
		t.Error("a folder is read")
	}
}

// Whoever may write the folder puts now his own file, open to all, at the path, and now the right one.
func TestAKeyIsReadFromTheFileThatWasLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, good, bad := filepath.Join(dir, "a.key"), newKey(t), newKey(t)
	files := map[*Key]string{good: filepath.Join(dir, "good"), bad: filepath.Join(dir, "bad")}
	for key, file := range files {
		if err := WriteKeyFile(file, key, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(files[bad], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(files[good], path); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			for _, key := range []*Key{bad, good} {
				select {
				case <-stop:
					ended <- nil
					return
				default:
				}
				next := filepath.Join(dir, "next")
				if err := errors.Join(os.Link(files[key], next), os.Rename(next, path)); err != nil {
					ended <- err
					return
				}
			}
		}
	}()
	read := 0
	for range 20_000 {
		key, err := ReadKeyFile(path)
		if err != nil {
			continue
		}
		if read++; key.Public() != good.Public() {
			t.Error("the key of a file is read that was never looked at")
			break
		}
	}
	close(stop)
	if err := <-ended; err != nil || read == 0 {
		t.Errorf("%d times read, %v", read, err)
	}
}

// The database says which id a key's idempotency_key has; anybody else is refused there.
func TestIdsOfKeysAreThoseOfTheirIdempotencyKeys(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	row := setup(t).rows[0]
	if row.ID != IdempotencyID("system", *row.IdempotencyKey) {
		t.Error("the span of a key has another id")
	}
	for _, tenant := range []string{"system", "acme", "", "3d813cbb-47fb-42ba-91df-831e1593ac29",
		"3D813CBB-47FB-42BA-91DF-831E1593AC29", "05e24595-4bbb-57e4-810f-6d85f953de6c"} {
		var want string
		err = conn.QueryRow(t.Context(), "select ledger.idempotency_id($1, $2)::text", tenant, *row.IdempotencyKey).
			Scan(&want)
		if err != nil {
			t.Fatal(err)
		}
		if got := IdempotencyID(tenant, *row.IdempotencyKey); got.String() != want {
			t.Errorf("tenant %q: got %s, the ledger has %s", tenant, got, want)
		}
	}
}

// BenchmarkSeal is what one span of about 1 KiB costs: hashed, signed, checked the first and the next time.
func BenchmarkSeal(b *testing.B) {
	book := setup(b)
	row := book.function(book.root, func(s *span.Span) { s.Code = new(strings.Repeat("return 1; ", 90)) })
	trust := book.trust()
	for name, run := range map[string]func(){
		"hashed":         func() { _ = (*Signer)(nil).Seal(row, nil) },
		"signed":         func() { _ = NewSigner(book.root).Seal(row, nil) },
		"checked":        func() { _ = (&Trust{keys: trust.keys}).CheckSealed(row, PurposeFunction) },
		"checked again":  func() { _ = trust.CheckSealed(row, PurposeFunction) },
		"hash and check": func() { _ = trust.Check(row, PurposeFunction) },
	} {
		b.Run(name, func(b *testing.B) {
			if err := NewSigner(book.root).Seal(row, nil); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				run()
			}
		})
	}
}

func FuzzReadDocument(f *testing.F) {
	for _, row := range setup(f).rows {
		f.Add([]byte(row.Metadata), *row.PublicKey)
	}
	f.Add([]byte(`{"alg":"ed25519","public_key":"00","proof":"é"}`), "x")
	f.Fuzz(func(t *testing.T, metadata []byte, name string) {
		row := &span.Span{ID: KeySpanID(name), Metadata: metadata}
		if document, err := ReadDocument(row); err == nil && document.PublicKey != name {
			t.Errorf("reads %s under the id of %s", document.PublicKey, name)
		}
		if snapshot, err := ParseSnapshot(name); err == nil && !snapshot.Sees(0) {
			t.Errorf("snapshot %s does not see the past", name)
		}
	})
}
