// Package edwards is the one rule by which an Ed25519 signature holds: RFC 8032, read strictly.
//
// Libraries differ where the RFC leaves room, and a signature that one of them takes and another does
// not splits those who verify a ledger. Here an encoding is refused that is not the shortest for its
// value (S below the group's order, A and R below the field's), and so is a public key of small order,
// for which anybody can make signatures. Batch and cofactored verification are not used.
//
// It owns this rule alone, so that the sidecar and the children of the sandbox, which know no keys and
// no spans, use the same one.
package edwards

import (
	"crypto/ed25519"
	"crypto/subtle"
	"math/big"
)

// Verify reports whether signature (64 bytes) is public's (32 bytes) over message. It never panics.
func Verify(public, message, signature []byte) bool {
	if len(signature) != ed25519.SignatureSize || !IsPublicKey(public) {
		return false
	}
	// The standard library refuses an S that is not below the order, compares R by its bytes (so one that
	// is not canonical never equals), and multiplies without the cofactor.
	return ed25519.Verify(public, message, signature)
}

// IsPublicKey reports whether public is the canonical encoding of a point that may be a key: a
// coordinate below 2^255 - 19 and none of the eight points of small order. It does not look whether it
// is a point at all; Verify does.
func IsPublicKey(public []byte) bool {
	if len(public) != ed25519.PublicKeySize {
		return false
	}
	// Little endian; the top bit is the sign of x. The points of small order are five values of y, each
	// with either sign: that refuses those with x = 0 and a sign, too, which are not canonical.
	y := make([]byte, len(public))
	for i, b := range public {
		y[len(y)-1-i] = b
	}
	y[0] &= 0x7f
	value := new(big.Int).SetBytes(y)
	if value.Cmp(fieldPrime()) >= 0 {
		return false
	}
	for _, small := range smallOrder {
		if subtle.ConstantTimeCompare(y, small[:]) == 1 {
			return false
		}
	}
	return true
}

// fieldPrime is 2^255 - 19.
func fieldPrime() *big.Int {
	prime := new(big.Int).Lsh(big.NewInt(1), 255)
	return prime.Sub(prime, big.NewInt(19))
}

// smallOrder are the y of the points of order 1, 2, 4 and 8, big endian. A test computes them.
var smallOrder = [5][32]byte{
	{31: 0x01},
	{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xec},
	{},
	{0x05, 0xfc, 0x53, 0x6d, 0x88, 0x02, 0x38, 0xb1, 0x39, 0x33, 0xc6, 0xd3, 0x05, 0xac, 0xdf, 0xd5,
		0xf0, 0x98, 0xef, 0xf2, 0x89, 0xf4, 0xc3, 0x45, 0xb0, 0x27, 0xb2, 0xc2, 0x8f, 0x95, 0xe8, 0x26},
	{0x7a, 0x03, 0xac, 0x92, 0x77, 0xfd, 0xc7, 0x4e, 0xc6, 0xcc, 0x39, 0x2c, 0xfa, 0x53, 0x20, 0x2a,
		0x0f, 0x67, 0x10, 0x0d, 0x76, 0x0b, 0x3c, 0xba, 0x4f, 0xd8, 0x4d, 0x3d, 0x70, 0x6a, 0x17, 0xc7},
}
