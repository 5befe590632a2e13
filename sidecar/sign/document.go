package sign

import (
	"crypto/sha1" // for UUIDv5, which RFC 9562 defines by it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/edwards"
	"github.com/loglineos/loglineos/sidecar/span"
)

// keyAlgorithm is alg of a key span.
const keyAlgorithm = "ed25519"

// Rights is what a key may sign. Tenant and Owner, where they are not "", bound it to spans of that
// tenant and that owner.
type Rights struct {
	Purposes []Purpose `json:"purposes"`
	Tenant   string    `json:"tenant,omitempty"`
	Owner    string    `json:"owner,omitempty"`
}

// Equal reports whether both are the same rights, in whatever order the purposes stand.
func (r Rights) Equal(other Rights) bool {
	return r.Tenant == other.Tenant && r.Owner == other.Owner &&
		slices.Equal(slices.Sorted(slices.Values(r.Purposes)), slices.Sorted(slices.Values(other.Purposes)))
}

// Flags shows r in the form that `logline keys` takes.
func (r Rights) Flags() string {
	if len(r.Purposes) == 0 && r.Tenant == "" && r.Owner == "" {
		return "--root"
	}
	purposes := make([]string, len(r.Purposes))
	for i, purpose := range r.Purposes {
		purposes[i] = string(purpose)
	}
	text := "--purpose " + shellWord(strings.Join(purposes, ","))
	if r.Tenant != "" {
		text += " --tenant " + shellWord(r.Tenant)
	}
	if r.Owner != "" {
		text += " --owner " + shellWord(r.Owner)
	}
	return text
}

// shellWord quotes what a shell, or a reader, could take for something else.
func shellWord(text string) string {
	isPlain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.ContainsRune("-_.,:@/+", c)
	}
	if text != "" && !strings.ContainsFunc(text, func(c rune) bool { return !isPlain(c) }) {
		return text
	}
	return strconv.Quote(text)
}

// Document is the metadata of a key span.
type Document struct {
	Algorithm   string `json:"alg"`
	PublicKey   string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	Rights
	// Proof is the new key's own signature over Statement: its holder has it, and takes these rights.
	Proof string `json:"proof"`
	// Snapshot is, of a version that revokes, pg_current_snapshot() of the transaction that appended it.
	// Absent: nothing that the key has ever signed counts.
	Snapshot string `json:"snapshot,omitempty"`
}

// Statement is what a new key signs: the BLAKE3 of a text that no span's canonical form can be.
func (d *Document) Statement() []byte {
	purposes := make([]string, len(d.Purposes))
	for i, purpose := range d.Purposes {
		purposes[i] = string(purpose)
	}
	var text strings.Builder
	text.WriteString("loglineos key possession 1\n")
	for _, part := range []string{d.PublicKey, strings.Join(purposes, ","), d.Tenant, d.Owner} {
		fmt.Fprintf(&text, "%d:%s\n", len(part), part)
	}
	sum := blake3.Sum256([]byte(text.String()))
	return sum[:]
}

// KeySpanID is the id of the span of a key: that of its idempotency_key for tenant system, so that one
// key is one span, and nobody but the system can be there first (ledger.idempotency_id).
func KeySpanID(public string) span.ID { return IdempotencyID("system", keySpanName(public)) }

// IdempotencyID is ledger.idempotency_id: the id of the first version that carries this idempotency_key.
func IdempotencyID(tenant, key string) span.ID {
	// A tenant is the namespace itself where it is a UUID in lower case, of any version but 5.
	if id, err := span.ParseID(tenant); err == nil && id.String() == tenant && id.Version() != 5 {
		return uuid5(id, key)
	}
	return uuid5(uuid5(span.MustID("05e24595-4bbb-57e4-810f-6d85f953de6c"), tenant), key)
}

func keySpanName(public string) string { return "key:" + public }

func uuid5(namespace span.ID, name string) span.ID {
	sum := sha1.Sum(append(namespace[:], name...))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	return span.ID(sum[:16])
}

// NewKeySpan drafts the first version of the span of key, with its proof. It is to be sealed by the root
// (the root by itself) or by a key with the purpose key.
func NewKeySpan(key *Key, rights Rights, name string, at time.Time) (*span.Span, error) {
	document := Document{Algorithm: keyAlgorithm, PublicKey: key.Public(), Fingerprint: key.Fingerprint(),
		Rights: rights}
	document.Proof = key.sign(document.Statement())
	metadata, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	row := &span.Span{
		ID: KeySpanID(document.PublicKey), EntityType: "key", Who: "system:keys", Did: new("published"),
		This: new("key"), At: span.NewTime(at), OwnerID: "system", TenantID: "system", Visibility: "public",
		Status: new("active"), IdempotencyKey: new(keySpanName(document.PublicKey)), Metadata: metadata,
	}
	if name != "" {
		row.Name = &name
	}
	return row, nil
}

// NextKeySpan drafts the version after current, with another status: deprecated or revoked. snapshot is
// that of Document; "" takes back everything. It is to be sealed.
func NextKeySpan(current *span.Span, status, reason, snapshot string, at time.Time) (*span.Span, error) {
	document, err := ReadDocument(current)
	if err != nil {
		return nil, err
	}
	document.Snapshot = snapshot
	metadata, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	next := &span.Span{
		ID: current.ID, Seq: current.Seq + 1, EntityType: "key", Who: "system:keys", Did: &status,
		This: new("key"), At: span.NewTime(at), OwnerID: "system", TenantID: "system", Visibility: "public",
		Status: &status, IdempotencyKey: current.IdempotencyKey, Name: current.Name, Metadata: metadata,
		PrevHash: current.CurrHash,
	}
	if reason != "" {
		next.Reason = &reason
	}
	return next, nil
}

// ReadDocument reads the metadata of a key span and checks that it is whole: the key is one, its
// fingerprint and the span's id are that key's, and its proof holds. Purposes that this version does not
// know are left out.
func ReadDocument(row *span.Span) (*Document, error) {
	var d Document
	if err := json.Unmarshal(row.Metadata, &d); err != nil {
		return nil, fmt.Errorf("decode the key span: %w", err)
	}
	public, err := hex.DecodeString(d.PublicKey)
	switch {
	case d.Algorithm != keyAlgorithm:
		return nil, fmt.Errorf("read the key span: alg is %.40q, not %s", d.Algorithm, keyAlgorithm)
	case err != nil || !edwards.IsPublicKey(public) || hex.EncodeToString(public) != d.PublicKey:
		return nil, errors.New("read the key span: public_key is no key of Ed25519 in lower case hex")
	case d.Fingerprint != Fingerprint(public):
		return nil, errors.New("read the key span: fingerprint is not that of public_key")
	case row.ID != KeySpanID(d.PublicKey):
		return nil, fmt.Errorf("read the key span: its id is not that of its key, %s", KeySpanID(d.PublicKey))
	case !verifyHex(d.PublicKey, hex.EncodeToString(d.Statement()), d.Proof):
		return nil, errors.New("read the key span: proof is not the key's own signature over its rights")
	}
	return &d, nil
}
