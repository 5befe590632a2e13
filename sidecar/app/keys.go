package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Keys lists the keys of the ledger under the pinned root ("" where none is).
func Keys(ctx context.Context, owner *ledger.Owner, root string) ([]sign.Entry, error) {
	rows, err := owner.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	return sign.List(root, rows), nil
}

// VouchFor returns nil where a key that signer certifies counts: under the pinned root, or under signer
// itself, where that is another root in the ledger, which may be pinned yet.
func VouchFor(ctx context.Context, owner *ledger.Owner, root string, signer *sign.Key) error {
	rows, err := owner.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	refusal := mayCertify(root, rows, signer)
	if refusal != nil && mayCertify(signer.Fingerprint(), rows, signer) == nil {
		return nil
	}
	return refusal
}

func mayCertify(root string, rows []*span.Span, signer *sign.Key) error {
	err := sign.NewTrust(root, rows).Vouch(signer.Public(), sign.PurposeKey)
	for _, entry := range sign.List(root, rows) {
		isBound := entry.Tenant != "" && entry.Tenant != "system" || entry.Owner != "" && entry.Owner != "system"
		if err == nil && entry.PublicKey == signer.Public() && entry.Counts != sign.CountsRoot && isBound {
			err = fmt.Errorf("the key %.12s… is bound to a tenant or an owner, and keys are the system's",
				entry.Fingerprint)
		}
	}
	if err != nil {
		return fmt.Errorf("sign another key: %w; `logline keys list` shows what counts, and `logline keys publish "+
			"FILE --root` publishes a root", err)
	}
	return nil
}

// RightsError says that a key has other rights than those stated.
type RightsError struct {
	Fingerprint  string
	Has, Stated  sign.Rights
	IsNoneStated bool
}

// Error shows the rights in the form that commands take.
func (e *RightsError) Error() string {
	if e.IsNoneStated {
		return fmt.Sprintf("the key %.12s… has the rights %s: state them, if you want to sign them",
			e.Fingerprint, e.Has.Flags())
	}
	return fmt.Sprintf("the key %.12s… has the rights %s, not %s: a key has those of its first version, for "+
		"good; state them, or generate another", e.Fingerprint, e.Has.Flags(), e.Stated.Flags())
}

// PublishKey appends the span of key, signed by signer. A span that is there is certified anew, if signer's
// signature is not on it: so a new root takes over what an old one has signed. rights must be those that it
// has.
func PublishKey(ctx context.Context, owner *ledger.Owner, key, signer *sign.Key, rights sign.Rights,
	name string) (*span.Span, error) {
	versions, err := owner.Versions(ctx, sign.KeySpanID(key.Public()))
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	if len(versions) > 0 {
		return certify(ctx, owner, versions, signer, &rights)
	}
	row, err := sign.NewKeySpan(key, rights, name, time.Now())
	if err != nil {
		return nil, err
	}
	return row, appendSealed(ctx, owner, signer, row)
}

// Recertify appends the next version of a key span, signed by signer, which states its first version's
// rights. They must be the rights stated here; nil is none.
func Recertify(ctx context.Context, owner *ledger.Owner, id span.ID, signer *sign.Key, rights *sign.Rights) (
	*span.Span, error) {
	versions, err := owner.Versions(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	return certify(ctx, owner, versions, signer, rights)
}

// certify is Recertify for versions, the newest first. Where the newest is as it should be, it stays.
func certify(ctx context.Context, owner *ledger.Owner, versions []*span.Span, signer *sign.Key,
	rights *sign.Rights) (*span.Span, error) {
	newest := versions[0]
	first, err := sign.ReadDocument(versions[len(versions)-1])
	switch {
	case err != nil:
		return nil, err
	case newest.StatusText() != "active":
		return nil, fmt.Errorf("publish the key %.12s…: it has the status %s and can not come back; generate "+
			"another", first.Fingerprint, newest.StatusText())
	case rights == nil:
		return nil, &RightsError{Fingerprint: first.Fingerprint, Has: first.Rights, IsNoneStated: true}
	case !rights.Equal(first.Rights):
		return nil, &RightsError{Fingerprint: first.Fingerprint, Has: first.Rights, Stated: *rights}
	case newest.PublicKey != nil && *newest.PublicKey == signer.Public() && newest.VerifyHash() == nil &&
		newest.Signature != nil && new(sign.Trust).CheckPresent(newest) == nil && sign.StatesRights(newest, first):
		return newest, nil
	}
	row, err := sign.NextKeySpan(standing(versions), "active", "", "", time.Now())
	if err != nil {
		return nil, err
	}
	return row, appendSealed(ctx, owner, signer, row)
}

// standing is the newest version of a key span with what the first one states: whatever was written between
// them, no more is signed.
func standing(versions []*span.Span) *span.Span {
	row, first := *versions[0], versions[len(versions)-1]
	row.Metadata, row.Name, row.IdempotencyKey = first.Metadata, first.Name, first.IdempotencyKey
	return &row
}

func appendSealed(ctx context.Context, owner *ledger.Owner, signer *sign.Key, rows ...*span.Span) error {
	return owner.AppendAt(ctx, func(string) ([]*span.Span, error) {
		for _, row := range rows {
			if err := sign.NewSigner(signer).Seal(row, row.PrevHash); err != nil {
				return nil, fmt.Errorf("sign the key span: %w", err)
			}
		}
		return rows, nil
	})
}

// FindKey returns the newest version of the key span that name means, with the rights that it has: a
// fingerprint, or at least eight characters of its beginning.
func FindKey(ctx context.Context, owner *ledger.Owner, name string) (*span.Span, error) {
	entries, err := Keys(ctx, owner, "")
	if err != nil {
		return nil, err
	}
	var ids []span.ID
	for _, entry := range entries {
		if len(name) >= 8 && strings.HasPrefix(entry.Fingerprint, strings.ToLower(name)) {
			ids = append(ids, entry.ID)
		}
	}
	switch {
	case len(name) < 8:
		return nil, fmt.Errorf("find the key %.80q: state at least 8 characters of its fingerprint", name)
	case len(ids) == 0:
		return nil, fmt.Errorf("find the key %.80q: the ledger has none; `logline keys list` shows them", name)
	case len(ids) > 1:
		return nil, fmt.Errorf("find the key %.80q: %d begin like that; state more of it", name, len(ids))
	}
	versions, err := owner.Versions(ctx, ids[0])
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	return standing(versions), nil
}

// Rotation is a key that counts, and may be put in another one's place.
type Rotation struct {
	Fingerprint string
	Rights      sign.Rights // of the old one, and of the new one
	current     *span.Span
}

// PlanRotation says what a rotation of the key of this span would sign. It refuses a key that does not count
// under the pinned root, and one whose newest version states other rights than it has. Where none is pinned,
// signer stands for it.
func PlanRotation(ctx context.Context, owner *ledger.Owner, root string, id span.ID, signer *sign.Key) (
	*Rotation, error) {
	rows, err := owner.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	root = cmp.Or(root, signer.Fingerprint())
	if err := mayCertify(root, rows, signer); err != nil {
		return nil, err
	}
	versions, err := owner.Versions(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	entries := sign.List(root, rows)
	newest := versions[0]
	document, err := sign.ReadDocument(versions[len(versions)-1])
	if err != nil {
		return nil, err
	}
	place := slices.IndexFunc(entries, func(e sign.Entry) bool { return e.ID == id })
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("rotate the key %.12s…: "+format, append([]any{document.Fingerprint}, args...)...)
	}
	switch {
	case len(document.Purposes) == 0:
		return nil, refuse("it is a root, which is pinned outside the ledger; docs/keys.md says how another " +
			"one takes its place")
	case newest.StatusText() != "active":
		return nil, refuse("it has the status %s; generate another", newest.StatusText())
	case entries[place].Counts != sign.CountsYes:
		return nil, refuse("it does not count: %s", entries[place].Reason)
	case !sign.StatesRights(newest, document):
		return nil, refuse("its newest version, %d, states other rights than it has: somebody wants them signed. "+
			"If the key is sound, run first: logline keys publish %s %s --key FILE", newest.Seq,
			document.Fingerprint, document.Flags())
	}
	return &Rotation{document.Fingerprint, document.Rights, standing(versions)}, nil
}

// RotateKey appends the span of key with the rights of the old one, and the old one's next version,
// deprecated, both signed by signer, in one transaction.
func RotateKey(ctx context.Context, owner *ledger.Owner, rotation *Rotation, key, signer *sign.Key) (
	*span.Span, error) {
	name := ""
	if rotation.current.Name != nil {
		name = *rotation.current.Name
	}
	next, err := sign.NewKeySpan(key, rotation.Rights, name, time.Now())
	if err != nil {
		return nil, err
	}
	old, err := sign.NextKeySpan(rotation.current, "deprecated", "rotated to "+key.Fingerprint(), "", time.Now())
	if err != nil {
		return nil, err
	}
	return next, appendSealed(ctx, owner, signer, next, old)
}

// RevokeKey appends the revocation of current. Unless fromStart, what was committed before it counts on.
// signer may be nil: whoever governs may revoke, for a revocation only takes away.
func RevokeKey(ctx context.Context, owner *ledger.Owner, current *span.Span, signer *sign.Key, reason string,
	fromStart bool) (*span.Span, error) {
	var row *span.Span
	err := owner.AppendAt(ctx, func(snapshot string) (_ []*span.Span, err error) {
		if fromStart {
			snapshot = ""
		}
		if row, err = sign.NextKeySpan(current, "revoked", reason, snapshot, time.Now()); err != nil {
			return nil, err
		}
		return []*span.Span{row}, sign.NewSigner(signer).Seal(row, row.PrevHash)
	})
	return row, err
}

// IsRevokedFromStart reports whether nothing that the key of current has ever signed counts.
func IsRevokedFromStart(ctx context.Context, owner *ledger.Owner, current *span.Span) (bool, error) {
	rows, err := owner.Keys(ctx)
	if err != nil {
		return false, fmt.Errorf("read the keys: %w", err)
	}
	return slices.ContainsFunc(rows, func(row *span.Span) bool {
		return row.ID == current.ID && sign.IsFromStart(row)
	}), nil
}

// SignDocument completes the span that raw describes, so that it states every hashed column, and signs it.
// What is absent is filled in as the ledger would for owner and tenant. With isNext raw is the version that
// stands, a row of ledger.visible_timeline with what is to change, and the one after it is signed.
func SignDocument(raw []byte, key *sign.Key, owner, tenant string, isNext bool) ([]byte, error) {
	row, err := readDocument(raw)
	if err != nil {
		return nil, err
	}
	if isNext {
		if row.ID.IsZero() {
			return nil, errors.New("sign the next version: the span has no id; give a row of ledger.visible_timeline")
		}
		row.Seq, row.PrevHash, row.At = row.Seq+1, row.CurrHash, span.NewTime(time.Now())
	}
	if row.OwnerID == "" {
		row.OwnerID = owner
	}
	if row.TenantID == "" {
		row.TenantID = tenant
	}
	switch {
	case row.OwnerID == "" || row.TenantID == "":
		return nil, errors.New("sign the span: it has no owner_id or no tenant_id; state them, or give --owner " +
			"and --tenant: they are hashed, too")
	case row.Seq == 0 && row.PrevHash != nil:
		return nil, errors.New("sign the span: seq 0 has no version before it; leave prev_hash out")
	}
	if err := fill(row); err != nil {
		return nil, err
	}
	if err := sign.NewSigner(key).Seal(row, row.PrevHash); err != nil {
		return nil, fmt.Errorf("sign the span: %w", err)
	}
	if err := row.Validate(); err != nil {
		return nil, fmt.Errorf("sign the span: %w", err)
	}
	return json.Marshal(row)
}

func readDocument(raw []byte) (*span.Span, error) {
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	var document struct {
		span.Span
		When span.Time `json:"when"` // at, as the views name it
	}
	row := &document.Span
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("read the span: %w; what is no column belongs into metadata", err)
	}
	if decoder.More() {
		return nil, errors.New("read the span: more follows after it; sign one at a time")
	}
	if row.At.IsZero() {
		row.At = document.When
	}
	row.Xact, row.AcceptedAt = nil, nil // the database's own
	if row.EntityType == "" {
		return nil, errors.New("sign the span: it has no entity_type; state it")
	}
	return row, nil
}

// fill states what the ledger would fill in.
func fill(row *span.Span) error {
	switch {
	case !row.ID.IsZero():
	case row.Seq > 0:
		return errors.New("sign the span: a later version has the id of the first; state id")
	case row.IdempotencyKey != nil:
		row.ID = sign.IdempotencyID(row.TenantID, *row.IdempotencyKey)
	default:
		row.ID = newID(time.Now())
	}
	if row.Who == "" {
		row.Who = "user:" + row.OwnerID
	}
	if row.At.IsZero() {
		row.At = span.NewTime(time.Now())
	}
	if row.Visibility == "" {
		row.Visibility = "private"
	}
	return nil
}
