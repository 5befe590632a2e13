package app

import (
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

// PublishKey appends the span of key, signed by signer. A span that is there is certified anew, if signer's
// signature is not on it: so a new root takes over what an old one has signed.
func PublishKey(ctx context.Context, owner *ledger.Owner, key, signer *sign.Key, rights sign.Rights,
	name string) (*span.Span, error) {
	id := sign.KeySpanID(key.Public())
	found, err := owner.Latest(ctx, []span.ID{id})
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	current := found[id]
	if current == nil {
		row, err := sign.NewKeySpan(key, rights, name, time.Now())
		if err != nil {
			return nil, err
		}
		return row, appendSealed(ctx, owner, signer, row)
	}
	if current.PublicKey != nil && *current.PublicKey == signer.Public() {
		return current, nil
	}
	return Recertify(ctx, owner, current, signer)
}

// Recertify appends the next version of a key span as it is, signed by signer.
func Recertify(ctx context.Context, owner *ledger.Owner, current *span.Span, signer *sign.Key) (
	*span.Span, error) {
	if current.StatusText() != "active" {
		return nil, fmt.Errorf("publish the key %s: it has the status %s and can not come back; generate another",
			current.ID, current.StatusText())
	}
	row, err := sign.NextKeySpan(current, "active", "", "", time.Now())
	if err != nil {
		return nil, err
	}
	return row, appendSealed(ctx, owner, signer, row)
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

// FindKey returns the newest version of the key span that name means: a fingerprint, or at least eight
// characters of its beginning.
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
	found, err := owner.Latest(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	return found[ids[0]], nil
}

// RotateKey appends the span of key with the rights of current, and current's next version, deprecated, both
// signed by signer, in one transaction.
func RotateKey(ctx context.Context, owner *ledger.Owner, current *span.Span, key, signer *sign.Key) (
	*span.Span, error) {
	document, err := sign.ReadDocument(current)
	if err != nil {
		return nil, err
	}
	if current.StatusText() != "active" {
		return nil, fmt.Errorf("rotate the key %.12s…: it has the status %s; generate another",
			document.Fingerprint, current.StatusText())
	}
	if len(document.Purposes) == 0 {
		return nil, fmt.Errorf("rotate the key %.12s…: it is a root, which is pinned outside the ledger; "+
			"docs/keys.md says how another one takes its place", document.Fingerprint)
	}
	name := ""
	if current.Name != nil {
		name = *current.Name
	}
	next, err := sign.NewKeySpan(key, document.Rights, name, time.Now())
	if err != nil {
		return nil, err
	}
	old, err := sign.NextKeySpan(current, "deprecated", "rotated to "+key.Fingerprint(), "", time.Now())
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
// What is absent is filled in as the ledger would for owner and tenant.
func SignDocument(raw []byte, key *sign.Key, owner, tenant string) ([]byte, error) {
	row, err := readDocument(raw)
	if err != nil {
		return nil, err
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
	row := new(span.Span)
	if err := decoder.Decode(row); err != nil {
		return nil, fmt.Errorf("read the span: %w; what is no column belongs into metadata", err)
	}
	if decoder.More() {
		return nil, errors.New("read the span: more follows after it; sign one at a time")
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
