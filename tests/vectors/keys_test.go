package vectors_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/sign"
)

// keyCase is a key and what its span says of it (docs/contract.md §3).
type keyCase struct {
	Name        string         `json:"name"`
	Secret      string         `json:"secret"`
	Purposes    []sign.Purpose `json:"purposes"`
	Tenant      string         `json:"tenant"`
	Owner       string         `json:"owner"`
	PublicKey   string         `json:"public_key"`
	Fingerprint string         `json:"fingerprint"`
	ID          string         `json:"id"`        // of its span
	Statement   string         `json:"statement"` // the hash that proof signs
	Proof       string         `json:"proof"`
}

func TestKeySpans(t *testing.T) {
	var cases []keyCase
	read(t, "keys.json", &cases)
	for i := range cases {
		c := &cases[i]
		key, err := sign.ParseKey(c.Secret)
		if err != nil {
			t.Fatal(err)
		}
		row, err := sign.NewKeySpan(key, sign.Rights{Purposes: c.Purposes, Tenant: c.Tenant, Owner: c.Owner}, "",
			time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		document, err := sign.ReadDocument(row)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		check(t, c.Name, document.PublicKey, &c.PublicKey)
		check(t, c.Name, document.Fingerprint, &c.Fingerprint)
		check(t, c.Name, row.ID.String(), &c.ID)
		check(t, c.Name, hex.EncodeToString(document.Statement()), &c.Statement)
		check(t, c.Name, document.Proof, &c.Proof)
	}
	write(t, "keys.json", cases)
}
