// Package sign is keys, signatures and trust.
//
//	pinned fingerprint ─► root key span ─► key spans ─► what they sign
//	(configuration)       signs itself     signed by the root, or by a key with the purpose key
//
// It owns the form of keys and of key spans, what is signed and how (Signer), which keys of a ledger
// lead to the pinned root (Trust), and what a revocation takes back: what the ledger had not committed
// before it, whatever time it states. It refuses keys that others could read. Private keys leave it in
// files of their owner alone, never in an error, a log or a span.
//
// docs/keys.md tells what is signed, and what it does not protect.
package sign

import (
	"encoding/hex"
	"slices"

	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/edwards"
)

// Algorithm is sig_alg of what a Signer has sealed: Ed25519 (RFC 8032) over the 32 bytes of the
// BLAKE3-256 of the canonical span.
const Algorithm = "ed25519-blake3-v1"

// keyIDPrefix opens sig_key_id; the fingerprint follows.
const keyIDPrefix = "did:logline:"

// Purpose is what a key may sign. The root may sign everything.
type Purpose string

// The purposes of keys.
const (
	PurposeSpan       Purpose = "span"     // what the sidecar appends
	PurposeFunction   Purpose = "function" // functions; of tenant system the kernels
	PurposePolicy     Purpose = "policy"
	PurposeProvider   Purpose = "provider"
	PurposeManifest   Purpose = "manifest"
	PurposeKey        Purpose = "key"      // other keys, of every purpose: as strong as all of them
	PurposeOverride   Purpose = "override" // requests with force
	PurposeCheckpoint Purpose = "checkpoint"
)

// Purposes returns all of them, in the order of the documents.
func Purposes() []Purpose {
	return []Purpose{PurposeSpan, PurposeFunction, PurposePolicy, PurposeProvider, PurposeManifest, PurposeKey,
		PurposeOverride, PurposeCheckpoint}
}

// IsPurpose reports whether text names one.
func IsPurpose(text string) bool { return slices.Contains(Purposes(), Purpose(text)) }

// PurposeOf is the purpose that a key needs for spans of entityType.
func PurposeOf(entityType string) Purpose {
	switch purpose := Purpose(entityType); purpose {
	case PurposeFunction, PurposePolicy, PurposeProvider, PurposeManifest, PurposeKey, PurposeCheckpoint:
		return purpose
	}
	return PurposeSpan
}

// Verify reports whether signature is public's over hash, by the strict rule of package edwards. It is
// what ctx.crypto.verify answers, too.
func Verify(public, hash, signature []byte) bool { return edwards.Verify(public, hash, signature) }

// verifyHex is Verify on the hex of three columns, which must be in lower case.
func verifyHex(public, hash, signature string) bool {
	publicBytes, publicErr := hex.DecodeString(public)
	hashBytes, hashErr := hex.DecodeString(hash)
	signatureBytes, signatureErr := hex.DecodeString(signature)
	return publicErr == nil && hashErr == nil && signatureErr == nil && len(hashBytes) == 32 &&
		Verify(publicBytes, hashBytes, signatureBytes)
}

// Fingerprint is the BLAKE3-256 of a public key, 64 characters of hex.
func Fingerprint(public []byte) string {
	sum := blake3.Sum256(public)
	return hex.EncodeToString(sum[:])
}

// keyIDOf is the sig_key_id of a public key in hex.
func keyIDOf(public string) string { return keyIDPrefix + fingerprintOf(public) }
