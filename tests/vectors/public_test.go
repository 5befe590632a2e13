package vectors_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/sign"
)

// verifies is the rule by which a signature counts: that of package sign and of ctx.crypto.verify.
func verifies(public, message, signature []byte) bool {
	return sign.Verify(public, message, signature)
}

func TestBLAKE3OfficialVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Cases []struct {
			InputLen int    `json:"input_len"`
			Hash     string `json:"hash"`
		} `json:"cases"`
	}
	unpackJSON(t, "blake3.json.gz", &file)
	if len(file.Cases) != 22 {
		t.Fatalf("got %d cases, want 22", len(file.Cases))
	}
	for _, c := range file.Cases {
		input := make([]byte, c.InputLen) // the authors' input: 0, 1, … 250, 0, 1, …
		for i := range input {
			input[i] = byte(i % 251)
		}
		sum := blake3.Sum256(input)
		if got := hex.EncodeToString(sum[:]); got != c.Hash[:64] {
			t.Errorf("%d bytes: got %s, want %s", c.InputLen, got, c.Hash[:64])
		}
		hasher := blake3.New(len(c.Hash)/2, nil)
		_, _ = hasher.Write(input) // never fails
		if got := hex.EncodeToString(hasher.Sum(nil)); got != c.Hash {
			t.Errorf("%d bytes, long output: got %s", c.InputLen, got)
		}
	}
}

func TestEd25519OfRFC8032(t *testing.T) {
	t.Parallel()
	var cases []struct{ Name, Secret, Public, Message, Signature string }
	read(t, "public/ed25519_rfc8032.json", &cases)
	if len(cases) != 5 {
		t.Fatalf("got %d cases, want the five of section 7.1", len(cases))
	}
	for _, c := range cases {
		checkSigning(t, c.Name, c.Secret, c.Public, c.Message, c.Signature)
	}
}

// The lines of sign.input are secret‖public:public:message:signature‖message: in hex.
func TestEd25519SignInput(t *testing.T) {
	t.Parallel()
	lines := strings.Fields(string(unpack(t, "ed25519_sign_input.gz")))
	if len(lines) != 128 {
		t.Fatalf("got %d lines, want 128", len(lines))
	}
	for _, line := range lines {
		part := strings.Split(line, ":")
		checkSigning(t, "sign.input "+part[1][:8], part[0][:64], part[1], part[2], part[3][:128])
	}
}

// checkSigning holds one vector against signing and verifying, and sees that no bit of it can be changed.
func checkSigning(t *testing.T, name, secret, public, message, signature string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(unhex(t, secret))
	if got := hex.EncodeToString(key[32:]); got != public {
		t.Errorf("%s: the public key is %s, want %s", name, got, public)
	}
	text := unhex(t, message)
	signed := ed25519.Sign(key, text)
	if got := hex.EncodeToString(signed); got != signature {
		t.Errorf("%s: the signature is %s, want %s", name, got, signature)
	}
	if !verifies(key[32:], text, signed) {
		t.Errorf("%s is refused", name)
	}
	for _, place := range []int{0, 31, 32, 62} { // of R and of S
		changed := slices.Clone(signed)
		changed[place] ^= 4
		if verifies(key[32:], text, changed) {
			t.Errorf("%s: passes with another byte %d", name, place)
		}
	}
	if verifies(key[32:], append(text, 0), signed) {
		t.Errorf("%s: passes for a longer message", name)
	}
}

func TestEd25519Wycheproof(t *testing.T) {
	t.Parallel()
	var file struct {
		NumberOfTests int
		Tests         []struct {
			TcID         int
			Comment      string
			Flags        []string
			Pk, Msg, Sig string
			Result       string
		}
	}
	unpackJSON(t, "wycheproof_ed25519.json.gz", &file)
	if len(file.Tests) != file.NumberOfTests || len(file.Tests) != 151 {
		t.Fatalf("got %d tests, want 151", len(file.Tests))
	}
	for _, c := range file.Tests {
		want := c.Result == "valid"
		if !want && c.Result != "invalid" {
			t.Errorf("test %d is %s: decide whether it is accepted", c.TcID, c.Result)
		}
		if got := verifies(unhex(t, c.Pk), unhex(t, c.Msg), unhex(t, c.Sig)); got != want {
			t.Errorf("test %d (%v, %s): accepted is %v, want %v", c.TcID, c.Flags, c.Comment, got, want)
		}
	}
}

// Every vector here has a point of small order or mixed order, or an encoding that is not canonical: what
// verifiers disagree about. Ours is pinned, so that no library's next version moves it.
func TestEd25519EdgeCases(t *testing.T) {
	t.Parallel()
	var cases []struct {
		A, R, S, M string
		Flags      []string
	}
	unpackJSON(t, "ed25519_edges.json.gz", &cases)
	if len(cases) != 768 {
		t.Fatalf("got %d cases, want 768", len(cases))
	}
	accepted := 0
	for i, c := range cases {
		want := isTaken(c.Flags)
		got := verifies(unhex(t, c.A), []byte(c.M), append(unhex(t, c.R), unhex(t, c.S)...))
		if got != want {
			t.Errorf("case %d (%v): accepted is %v, want %v", i, c.Flags, got, want)
		}
		if got {
			accepted++
		}
	}
	if accepted != edgesTaken {
		t.Errorf("%d of %d are accepted, want %d", accepted, len(cases), edgesTaken)
	}
}

// edgesTaken is how many of the edge cases count: those of honest form whose key has a part of small order
// beside a large one. Nobody but the key's holder can make them.
const edgesTaken = 86

// isTaken is what sign.Verify promises of these flags: neither another encoding, nor a key of small order,
// nor what holds with the cofactor alone.
func isTaken(flags []string) bool {
	for _, flag := range []string{"LowOrderA", "NonCanonicalA", "NonCanonicalR", "LowOrderResidue"} {
		if slices.Contains(flags, flag) {
			return false
		}
	}
	return true
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// unpack returns a file of public/, which is kept compressed.
func unpack(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile("public/" + name)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(reader)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return raw
}

func unpackJSON(t *testing.T, name string, target any) {
	t.Helper()
	if err := json.Unmarshal(unpack(t, name), target); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
