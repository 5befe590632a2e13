package sign

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Key is a private key. Printing it, as text, JSON or in a log, shows the fingerprint alone.
type Key struct{ private ed25519.PrivateKey }

// Generate makes a new key from the operating system's randomness.
func Generate() (*Key, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return &Key{private}, nil
}

// ParseKey reads a private key: the 32 bytes of RFC 8032's secret, in 64 characters of hex. The error
// quotes nothing of it.
func ParseKey(text string) (*Key, error) {
	seed, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("parse the private key: want 64 characters of hex; " +
			"`logline keys generate` makes one")
	}
	return &Key{ed25519.NewKeyFromSeed(seed)}, nil
}

const keyFileBytesMax = 1 << 16

// ReadKeyFile reads a key that WriteKeyFile has written: lines that begin with # and one of hex. A file
// that others than its owner may read or write is refused.
func ReadKeyFile(path string) (*Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the key file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at the key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read the key file %s: it is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("read the key file %s: others may read it (mode %04o); run: chmod 600 %s", path,
			info.Mode().Perm(), path)
	case info.Size() > keyFileBytesMax:
		return nil, fmt.Errorf("read the key file %s: it is too long to be one", path)
	}
	// Of the very file that was looked at: path may lead to another by now.
	text, err := io.ReadAll(io.LimitReader(file, keyFileBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	var secret string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			secret += line
		}
	}
	key, err := ParseKey(secret)
	if err != nil {
		return nil, fmt.Errorf("read the key file %s: %w", path, err)
	}
	return key, nil
}

// WriteKeyFile writes key to a new file that its owner alone may read. comment says in one line what it
// is for. It never overwrites.
func WriteKeyFile(path string, key *Key, comment string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write the key file %s: it exists, and no key is overwritten; choose another name: %w",
			path, err)
	}
	if err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	_, err = fmt.Fprintf(file, "# %s\n# fingerprint %s\n%s\n", comment, key.Fingerprint(), key.Secret())
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	return nil
}

// Secret is the private key in the form that ParseKey reads. It is for key files and terminals.
func (k *Key) Secret() string { return hex.EncodeToString(k.private.Seed()) }

// Public is the public key, 64 characters of hex: the column public_key of what it signs.
func (k *Key) Public() string { return hex.EncodeToString(k.publicBytes()) }

// Fingerprint is that of the public key.
func (k *Key) Fingerprint() string { return Fingerprint(k.publicBytes()) }

func (k *Key) publicBytes() []byte { return k.private.Public().(ed25519.PublicKey) }

// sign returns the hex of the signature over a hash.
func (k *Key) sign(hash []byte) string { return hex.EncodeToString(ed25519.Sign(k.private, hash)) }

// String shows the fingerprint.
func (k Key) String() string { return "key " + k.Fingerprint() }

// GoString shows the fingerprint.
func (k Key) GoString() string { return k.String() }

// MarshalJSON shows the fingerprint. slog and encoding/json go by it.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// Signer seals spans for the ledger: it hashes and, where it has a key, signs. A nil Signer hashes.
// It is safe for concurrent use.
type Signer struct {
	key           *Key
	public, keyID string
}

// NewSigner returns a Signer that signs with key, or, where key is nil, one that only hashes.
func NewSigner(key *Key) *Signer {
	if key == nil {
		return nil
	}
	return &Signer{key, key.Public(), keyIDPrefix + key.Fingerprint()}
}

// Signs reports whether s has a key.
func (s *Signer) Signs() bool { return s != nil }

// Public is the public key that s signs with, "" where it has none.
func (s *Signer) Public() string {
	if s == nil {
		return ""
	}
	return s.public
}

// Fingerprint is that of the key, "" where s has none.
func (s *Signer) Fingerprint() string {
	if s == nil {
		return ""
	}
	return s.key.Fingerprint()
}

// Seal sets prev_hash, the columns of the signature and curr_hash, in the order in which they depend on
// each other. prevHash is the curr_hash of the version before, nil where it has none. What was signed
// before is signed anew.
func (s *Signer) Seal(row *span.Span, prevHash *string) error {
	row.Signature, row.PublicKey, row.SigAlg, row.SigKeyID = nil, nil, nil, nil
	if s == nil {
		return row.Seal(prevHash)
	}
	row.PublicKey, row.SigAlg, row.SigKeyID = new(s.public), new(Algorithm), new(s.keyID)
	if err := row.Seal(prevHash); err != nil {
		return err
	}
	hash, err := hex.DecodeString(*row.CurrHash)
	if err != nil {
		return fmt.Errorf("decode the hash of %s: %w", row.ID, err)
	}
	row.Signature = new(s.key.sign(hash))
	return nil
}
