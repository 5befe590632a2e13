package edwards

import (
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"
)

func TestTakesWhatTheStandardLibrarySigns(t *testing.T) {
	t.Parallel()
	for range 50 {
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		message := []byte("a span's hash")
		signature := ed25519.Sign(private, message)
		if !Verify(public, message, signature) {
			t.Fatalf("refuses a good signature of %x", public)
		}
		for _, broken := range [][]byte{nil, signature[:63], append(slices.Clone(signature), 0),
			make([]byte, 64)} {
			if Verify(public, message, broken) {
				t.Errorf("takes the signature %x", broken)
			}
		}
		if Verify(public, []byte("another"), signature) || Verify(public[:31], message, signature) ||
			Verify(nil, nil, nil) {
			t.Error("takes what was not signed")
		}
		// S plus the group's order is the same number to who does not look.
		order, _ := new(big.Int).SetString(
			"7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		s := new(big.Int).SetBytes(reversed(signature[32:]))
		malleable := append(slices.Clone(signature[:32]), reversed(s.Add(s, order).FillBytes(make([]byte, 32)))...)
		if Verify(public, message, malleable) {
			t.Error("takes an S above the group's order")
		}
	}
}

// A key of small order "signs" every message: R = [S]B with S = 0 and A a point whose multiple vanishes.
func TestRefusesKeysOfSmallOrder(t *testing.T) {
	t.Parallel()
	identity := make([]byte, 32)
	identity[0] = 1
	forged := append(slices.Clone(identity), make([]byte, 32)...)
	if !ed25519.Verify(identity, []byte("anything"), forged) {
		t.Error("the standard library refuses it by itself: this rule is not needed any more")
	}
	if Verify(identity, []byte("anything"), forged) {
		t.Error("takes a signature of nobody")
	}
	for _, y := range torsion(t) {
		encoded := reversed(y.FillBytes(make([]byte, 32)))
		for _, sign := range []byte{0, 0x80} {
			encoded[31] = encoded[31]&0x7f | sign
			if IsPublicKey(encoded) {
				t.Errorf("takes %x, of small order", encoded)
			}
		}
	}
}

// torsion computes the y of all points whose order divides 8. With d of RFC 8032: y = 1, -1 and 0 for
// the orders 1, 2, 4; a point of order 8 doubles to y = 0, so x² = -y² and d y⁴ + 2 y² - 1 = 0,
// whose roots are y² = (-1 ± sqrt(1 + d)) / d.
func torsion(t *testing.T) []*big.Int {
	t.Helper()
	p := fieldPrime()
	mod := func(x *big.Int) *big.Int { return x.Mod(x, p) }
	d := mod(new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p)))
	all := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1))}
	root := new(big.Int).ModSqrt(mod(new(big.Int).Add(d, big.NewInt(1))), p)
	for _, r := range []*big.Int{root, mod(new(big.Int).Neg(root))} {
		square := mod(new(big.Int).Mul(mod(new(big.Int).Sub(r, big.NewInt(1))), new(big.Int).ModInverse(d, p)))
		if y := new(big.Int).ModSqrt(square, p); y != nil {
			all = append(all, y, mod(new(big.Int).Neg(y)))
		}
	}
	if len(all) != len(smallOrder) {
		t.Fatalf("found %d values of y, want %d", len(all), len(smallOrder))
	}
	return all
}

func TestRefusesEncodingsThatAreNotCanonical(t *testing.T) {
	t.Parallel()
	for n := int64(0); n < 19; n++ { // p + n encodes n once more
		y := new(big.Int).Add(fieldPrime(), big.NewInt(n))
		if encoded := reversed(y.FillBytes(make([]byte, 32))); IsPublicKey(encoded) {
			t.Errorf("takes %x", encoded)
		}
	}
	good, err := hex.DecodeString("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
	if err != nil || !IsPublicKey(good) {
		t.Error("refuses the first key of RFC 8032, 7.1")
	}
}

func reversed(b []byte) []byte {
	c := slices.Clone(b)
	slices.Reverse(c)
	return c
}
