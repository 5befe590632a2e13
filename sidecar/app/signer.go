package app

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// newSigner reads the configured key, nil where there is none. Where a root is pinned, the key must count: a
// sidecar that signs in vain would only be noticed when signatures are asked for.
func newSigner(ctx context.Context, c *config.Config, l *ledger.Ledger, log *slog.Logger) (
	*sign.Signer, error) {
	key, err := signingKey(c)
	if err != nil {
		return nil, err
	}
	if key == nil {
		if c.TrustRoot != "" {
			log.Warn("a root is pinned, and no key is configured: what this sidecar appends is not signed; set " +
				"LOGLINE_SIGNING_KEY_FILE (docs/keys.md)")
		}
		return nil, nil
	}
	signer := sign.NewSigner(key)
	if c.TrustRoot == "" {
		log.Warn("spans are signed, and no root is pinned: set LOGLINE_TRUST_ROOT (docs/keys.md)",
			"key", key.Fingerprint())
		return signer, nil
	}
	rows, err := l.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	status := "unpublished"
	for _, entry := range sign.List(c.TrustRoot, rows) {
		if entry.PublicKey == key.Public() {
			status = entry.Status
		}
	}
	if err := sign.NewTrust(c.TrustRoot, rows).Vouch(key.Public(), sign.PurposeSpan); err != nil {
		mend := "make another with `logline keys generate --purpose span --key ROOT_KEY_FILE --out FILE`"
		if status == "unpublished" || status == "active" { // no other comes back
			mend = "publish it with `logline keys publish FILE --purpose span --key ROOT_KEY_FILE`, or " + mend
		}
		return nil, fmt.Errorf("sign with the configured key: %w; %s", err, mend)
	}
	if status == "deprecated" {
		log.Warn("the signing key is deprecated: configure the one that took its place", "key", key.Fingerprint())
	}
	return signer, nil
}

func signingKey(c *config.Config) (*sign.Key, error) {
	switch {
	case c.SigningKeyHex != "":
		key, err := sign.ParseKey(c.SigningKeyHex)
		if err != nil {
			return nil, fmt.Errorf("read SIGNING_KEY_HEX: %w", err)
		}
		return key, nil
	case c.SigningKeyFile != "":
		key, err := sign.ReadKeyFile(c.SigningKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read LOGLINE_SIGNING_KEY_FILE: %w", err)
		}
		return key, nil
	}
	return nil, nil
}

// newID is a UUIDv7 (RFC 9562 §5.7).
func newID(now time.Time) span.ID {
	var id span.ID
	rand.Read(id[:]) // never fails: crypto/rand
	var word [8]byte
	binary.BigEndian.PutUint64(word[:], uint64(now.UnixMilli())<<16)
	copy(id[:6], word[:6])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}
