package sign

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	chainMax    = 8      // keys between what is signed and the root
	verifiedMax = 10_000 // signatures that are known to hold
)

// Trust is the keys of a ledger that lead to the pinned root. It does not change: where a key span is
// appended, make a new one. The zero value trusts nobody. It is safe for concurrent use.
type Trust struct {
	root string
	rows int
	keys map[string]*trusted // by public key

	mu       sync.Mutex
	verified map[signed]bool
}

// signed is what a signature depends on: whether it holds never changes.
type signed struct{ public, hash, signature string }

// trusted is a key that leads to the root.
type trusted struct {
	Document
	isRoot      bool
	depth       int  // keys from here to the root
	isFallen    bool // whoever signed it was revoked before that: it counts for nothing, but it is known
	certificate *span.Span
	revocations []revocation
}

// revocation takes back what was not committed before it.
type revocation struct {
	version    *span.Span
	snapshot   *Snapshot // nil: everything
	acceptedAt span.Time
}

// NewTrust sorts out which keys count. root is the pinned fingerprint, "" where none is pinned: then no key
// counts. rows are all versions of all key spans.
func NewTrust(root string, rows []*span.Span) *Trust {
	t := &Trust{root: root, rows: len(rows), keys: map[string]*trusted{}, verified: map[signed]bool{}}
	if root == "" {
		return t
	}
	versions := map[span.ID][]*span.Span{}
	for _, row := range rows {
		if row.EntityType == "key" && row.TenantID == "system" && row.OwnerID == "system" {
			versions[row.ID] = append(versions[row.ID], row)
		}
	}
	for _, chain := range versions {
		slices.SortFunc(chain, func(a, b *span.Span) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	t.follow(versions, false)
	t.follow(versions, true)
	return t
}

// follow certifies what the keys that are certified have signed, step by step, so that no circle holds itself
// up. The second time it goes on from keys that were revoked, too, to tell what has fallen from what was
// never known.
func (t *Trust) follow(versions map[span.ID][]*span.Span, fallen bool) {
	for depth := range chainMax + 1 {
		found := map[string]*trusted{}
		for _, chain := range versions {
			if entry := t.certify(chain, depth == 0, fallen); entry != nil {
				found[entry.PublicKey] = entry
			}
		}
		if len(found) == 0 && depth > 0 {
			return
		}
		maps.Copy(t.keys, found)
	}
}

// certify returns the key of a chain of versions, if one of them is signed by a key that counts already (or,
// for one that has fallen, has counted). What a key may sign is what its first version says, for good: a
// later one can only certify the same anew, or take it back.
func (t *Trust) certify(chain []*span.Span, isRoot, fallen bool) *trusted {
	first, err := ReadDocument(chain[0])
	if err != nil || t.keys[first.PublicKey] != nil || isRoot != (first.Fingerprint == t.root) {
		return nil
	}
	entry := &trusted{Document: *first, isRoot: isRoot, isFallen: fallen}
	isCertified := false
	for _, version := range chain {
		if isRevocation(version) {
			entry.revocations = append(entry.revocations, revocationOf(version))
			continue
		}
		isActive := version.StatusText() == "active" || version.StatusText() == "deprecated"
		if !isActive || isCertified || !StatesRights(version, first) {
			continue
		}
		switch {
		case isRoot:
			isCertified = version.PublicKey != nil && *version.PublicKey == first.PublicKey &&
				t.checkSeal(version) == nil
		case fallen:
			isCertified = t.Leads(version, PurposeKey)
		default:
			isCertified = t.Check(version, PurposeKey) == nil
		}
		if entry.certificate = version; isCertified && !isRoot {
			entry.depth = t.keys[*version.PublicKey].depth + 1
			isCertified = entry.depth <= chainMax
		}
	}
	if !isCertified {
		return nil
	}
	return entry
}

// StatesRights reports whether a version of a key span states what the first one does.
func StatesRights(version *span.Span, first *Document) bool {
	document, err := ReadDocument(version)
	return err == nil && document.PublicKey == first.PublicKey && document.Tenant == first.Tenant &&
		document.Owner == first.Owner && slices.Equal(document.Purposes, first.Purposes)
}

// revocationOf needs no signature: who can append it governs the ledger, and can only take away by it. One
// without a snapshot that can be read takes back everything.
func revocationOf(version *span.Span) revocation {
	var stated struct {
		Snapshot string `json:"snapshot"`
	}
	r := revocation{version: version}
	if version.AcceptedAt == nil || version.IsDeleted || json.Unmarshal(version.Metadata, &stated) != nil {
		return r
	}
	if snapshot, err := ParseSnapshot(stated.Snapshot); err == nil {
		r.snapshot, r.acceptedAt = &snapshot, *version.AcceptedAt
	}
	return r
}

// IsFromStart reports whether version, of a key span, takes back everything that the key has ever signed.
func IsFromStart(version *span.Span) bool {
	return isRevocation(version) && revocationOf(version).snapshot == nil
}

func isRevocation(version *span.Span) bool {
	return version.IsDeleted || version.StatusText() == "revoked"
}

// Rows is how many versions of key spans t was made of.
func (t *Trust) Rows() int { return t.rows }

// HasRoot reports whether a root is pinned and its key span is in the ledger.
func (t *Trust) HasRoot() bool {
	for _, entry := range t.keys {
		if entry.isRoot {
			return true
		}
	}
	return false
}

// Check returns nil where row carries the signature of a key that leads to the root, has purpose, may sign
// for row's owner and tenant, and was not revoked before row was committed. Else it says why not, with the
// code unsigned, bad_signature, revoked or hash_mismatch. row must be as the ledger returns it, with xact
// and accepted_at.
func (t *Trust) Check(row *span.Span, purpose Purpose) *span.RunError {
	if err := row.VerifyHash(); err != nil && row.Signature != nil {
		return refusal(span.RunHashMismatch, row, "is not what was hashed: %s", err)
	}
	return t.CheckSealed(row, purpose)
}

// CheckSealed is Check for a row whose hash the caller has computed and found right.
func (t *Trust) CheckSealed(row *span.Span, purpose Purpose) *span.RunError {
	if row.Signature == nil {
		return refusal(span.RunUnsigned, row, "is not signed, and a signature is required%s", t.pinHint())
	}
	if refused := t.checkForm(row); refused != nil {
		return refused
	}
	key := t.keys[*row.PublicKey]
	switch {
	case key == nil:
		return refusal(span.RunBadSignature, row, "is signed by %.12s…, which does not lead to the root%s",
			*row.PublicKey, t.pinHint())
	case !key.isRoot && !slices.Contains(key.Purposes, purpose):
		return refusal(span.RunBadSignature, row, "is signed by %.12s…, a key without the purpose %s",
			*row.PublicKey, purpose)
	case !key.reaches(row):
		return refusal(span.RunBadSignature, row, "is signed by %.12s…, a key of another tenant or owner",
			*row.PublicKey)
	}
	return key.checkRevoked(row)
}

// CheckPresent judges a row that needs no signature: one that it carries must hold, and its key, where it
// is known, must not have been revoked before. One of another algorithm (envelopes of other systems bring
// some) is nobody's here. The hash must have been found right.
func (t *Trust) CheckPresent(row *span.Span) *span.RunError {
	if row.Signature == nil || row.SigAlg != nil && *row.SigAlg != Algorithm {
		return nil
	}
	if refused := t.checkForm(row); refused != nil {
		return refused
	}
	if key := t.keys[*row.PublicKey]; key != nil {
		return key.checkRevoked(row)
	}
	return nil
}

// Leads reports whether row is signed by a key that leads to the root and has purpose, be it revoked or not,
// or one on the way to it.
func (t *Trust) Leads(row *span.Span, purpose Purpose) bool {
	if t.checkSeal(row) != nil {
		return false
	}
	key := t.keys[*row.PublicKey]
	return key != nil && (key.isRoot || slices.Contains(key.Purposes, purpose)) && key.reaches(row)
}

// MightLead is Leads, or row is signed by a key of which nothing is known: that of another root, perhaps.
func (t *Trust) MightLead(row *span.Span, purpose Purpose) bool {
	return t.checkSeal(row) == nil && (t.keys[*row.PublicKey] == nil || t.Leads(row, purpose))
}

// IsTakenBack reports whether the key of row, or one on its way to the root, was revoked before row by a
// version that a key which counts has signed. A revocation holds without a signature, too.
func (t *Trust) IsTakenBack(row *span.Span) bool {
	if row.PublicKey == nil || t.keys[*row.PublicKey] == nil {
		return false
	}
	key := t.keys[*row.PublicKey]
	for _, r := range key.revocations {
		if (r.snapshot == nil || !r.isAfter(row)) && t.Check(r.version, PurposeKey) == nil {
			return true
		}
	}
	return key.isFallen && t.IsTakenBack(key.certificate)
}

// checkSeal is the hash and the signature of row, whoever's it is.
func (t *Trust) checkSeal(row *span.Span) error {
	if err := row.VerifyHash(); err != nil {
		return err
	}
	if refused := t.checkForm(row); refused != nil {
		return refused
	}
	return nil
}

// checkForm is the signature of row by the key that it states.
func (t *Trust) checkForm(row *span.Span) *span.RunError {
	switch {
	case row.Signature == nil || row.PublicKey == nil || row.CurrHash == nil:
		return refusal(span.RunBadSignature, row, "has not all of signature, public_key and curr_hash")
	case row.SigAlg != nil && *row.SigAlg != Algorithm:
		return refusal(span.RunBadSignature, row, "has the sig_alg %.40q: want %s", *row.SigAlg, Algorithm)
	}
	this := signed{*row.PublicKey, *row.CurrHash, *row.Signature}
	if !t.isVerified(this) {
		if !verifyHex(this.public, this.hash, this.signature) {
			return refusal(span.RunBadSignature, row, "has a signature that is not that of its public_key")
		}
		t.keepVerified(this)
	}
	if row.SigKeyID != nil && *row.SigKeyID != keyIDOf(*row.PublicKey) {
		return refusal(span.RunBadSignature, row, "has a sig_key_id that is not that of its public_key")
	}
	return nil
}

func (t *Trust) isVerified(this signed) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verified[this]
}

func (t *Trust) keepVerified(this signed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.verified == nil || len(t.verified) >= verifiedMax {
		t.verified = map[signed]bool{}
	}
	t.verified[this] = true
}

// pinHint is what to do where no key can count.
func (t *Trust) pinHint() string {
	switch {
	case t.root == "":
		return "; no root is pinned: set LOGLINE_TRUST_ROOT to the root key's fingerprint"
	case !t.HasRoot():
		return "; the root that LOGLINE_TRUST_ROOT pins is not in the ledger: run `logline keys generate --root` " +
			"or pin the one that is (`logline keys list`)"
	}
	return ""
}

// reaches reports whether the key may sign for row's tenant and owner.
func (k *trusted) reaches(row *span.Span) bool {
	return k.isRoot || (k.Tenant == "" || k.Tenant == row.TenantID) && (k.Owner == "" || k.Owner == row.OwnerID)
}

// checkRevoked refuses row where the key was revoked and row was not committed before.
func (k *trusted) checkRevoked(row *span.Span) *span.RunError {
	if k.isFallen {
		return refusal(span.RunRevoked, row, "is signed by %.12s…, a key whose own signer was revoked before",
			k.PublicKey)
	}
	for _, r := range k.revocations {
		switch {
		case r.snapshot == nil:
			return refusal(span.RunRevoked, row, "is signed by %.12s…, a key that was revoked from its start",
				k.PublicKey)
		case !r.isAfter(row):
			return refusal(span.RunRevoked, row, "is signed by %.12s…, a key that was revoked before",
				k.PublicKey)
		}
	}
	return nil
}

// isAfter reports whether row was committed before r. Both of the database's own stamps must say so. Within
// one cluster the transaction decides, whatever was open at that moment; the time alone would let one in
// that was open across it. In another cluster, after a restore, transactions begin anew, and the time tells
// what came later.
func (r *revocation) isAfter(row *span.Span) bool {
	if row.Xact == nil || row.AcceptedAt == nil {
		return false
	}
	xact, err := parseXact(*row.Xact)
	return err == nil && r.snapshot.Sees(xact) && !row.AcceptedAt.After(r.acceptedAt.Time)
}

func refusal(code span.RunCode, row *span.Span, format string, args ...any) *span.RunError {
	return &span.RunError{Code: code, Message: fmt.Sprintf("the %s %s version %d ", row.EntityType, row.ID,
		row.Seq) + fmt.Sprintf(format, args...)}
}
