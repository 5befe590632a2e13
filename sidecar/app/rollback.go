package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// rolledBack is who of what a rollback has appended: bootstrap leaves it, as it leaves a governor's.
const rolledBack = "system:rollback"

// Rollback appends what a former version of a kernel, a policy of the system or the manifest says as its next
// version. name is its name, or an id; seq its version, nil the newest before the one that stands which says
// something else. What a key signs here is sound: it was signed by a key that counts, or this program ships
// it. Where it is what this program ships, bootstrap takes care of it again; else it keeps it.
func Rollback(ctx context.Context, owner *ledger.Owner, name string, seq *int, options BootstrapOptions) (
	*ledger.Publication, error) {
	head, err := readHead(ctx, owner, options.TrustRoot, options.Signer)
	if err != nil {
		return nil, err
	}
	id, err := rollbackID(head, name)
	if err != nil {
		return nil, err
	}
	versions, err := owner.Versions(ctx, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the versions of %s: %w", name, err)
	case len(versions) == 0:
		return nil, fmt.Errorf("roll back %s: the ledger has no version of it: run `logline bootstrap`", name)
	}
	own, err := shipped(BootstrapOptions{})
	if err != nil {
		return nil, err
	}
	isShipped := func(row *span.Span) bool {
		return slices.ContainsFunc(own, func(s *span.Span) bool { return s.ID == id && ledger.SameContent(s, row) })
	}
	r := rollback{name: name, head: head, versions: versions, options: options, isShipped: isShipped}
	former, err := r.choose(seq)
	if err != nil {
		return nil, err
	}
	if id == span.ManifestID {
		if options.IsDraft {
			if ledger.SameContent(former, versions[0]) {
				return &ledger.Publication{Span: versions[0]}, nil
			}
			wanted := *former
			wanted.Seq = versions[0].Seq + 1
			return &ledger.Publication{Span: &wanted, Before: versions[0], Changed: true}, nil
		}
		return ChangeManifest(ctx, owner, ManifestChange{Document: former.Metadata, Signer: options.Signer,
			TrustRoot: options.TrustRoot})
	}
	if err := r.mayAppend(); err != nil {
		return nil, err
	}
	published, err := owner.PublishSealed(ctx, []*span.Span{r.next(former)}, ledger.Rules{
		Seal: options.Signer.Seal, Over: func(span.ID) bool { return true }, IsDraft: options.IsDraft,
		Stands: func(row *span.Span) bool {
			return standsSigned(head.trust, row, options.Signer, options.TrustRoot)
		}})
	if err != nil {
		return nil, err
	}
	return &published[0], nil
}

// rollback is one span and the versions that it has, the newest first.
type rollback struct {
	name      string
	head      *manifestHead
	versions  []*span.Span
	options   BootstrapOptions
	isShipped func(*span.Span) bool
}

// rollbackID is the id of what the manifest in force, or this program, calls so.
func rollbackID(head *manifestHead, name string) (span.ID, error) {
	if name == "manifest" || name == manifestName {
		return span.ManifestID, nil
	}
	if id, err := span.ParseID(name); err == nil {
		return id, nil
	}
	if head.base != nil {
		if manifest, err := span.ParseManifest(head.base.Metadata); err == nil {
			if id, known := manifest.Kernels[name]; known {
				return id, nil
			}
		}
	}
	own, err := shipped(BootstrapOptions{})
	if err != nil {
		return span.ID{}, err
	}
	ids, err := idsOf(own, []string{name})
	if err != nil {
		return span.ID{}, err
	}
	return ids[0], nil
}

// choose returns the version to go back to.
func (r rollback) choose(seq *int) (*span.Span, error) {
	newest := r.versions[0]
	switch {
	case newest.TenantID != "system" || !slices.Contains([]string{"function", "policy", "manifest"},
		newest.EntityType):
		return nil, fmt.Errorf("roll back %s: it is a %s of the tenant %q; its owner appends its next version "+
			"himself", r.name, newest.EntityType, newest.TenantID)
	case newest.EntityType != "manifest" && slices.Contains([]string{"deprecated", "revoked", "archived"},
		newest.StatusText()):
		return nil, fmt.Errorf("roll back %s: it is %s, and nothing follows that (docs/kernels.md)", r.name,
			newest.StatusText())
	}
	for _, row := range r.versions {
		if seq == nil && (row == newest || ledger.SameContent(row, newest)) || seq != nil && row.Seq != *seq {
			continue
		}
		fault := r.fault(row)
		if fault == nil {
			return row, nil
		}
		if seq != nil {
			return nil, fmt.Errorf("roll back %s to version %d: %w", r.name, row.Seq, fault)
		}
	}
	if seq != nil {
		return nil, fmt.Errorf("roll back %s to version %d: the ledger has none; the newest is %d", r.name, *seq,
			newest.Seq)
	}
	return nil, fmt.Errorf("roll back %s: no former version says something else, is active and counts; "+
		"name one by %s@VERSION to see why not", r.name, r.name)
}

// fault says why row is no version to go back to. What nobody vouches for is not signed.
func (r rollback) fault(row *span.Span) error {
	if row.IsDeleted || row.StatusText() != "active" {
		return fmt.Errorf("it has the status %s", row.StatusText())
	}
	if err := row.VerifyHash(); err != nil {
		return err
	}
	if !r.options.Signer.Signs() || r.isShipped(row) {
		return nil
	}
	vouched := func(v *span.Span) bool {
		return ledger.SameContent(v, row) && standsSigned(r.head.trust, v, r.options.Signer, r.options.TrustRoot)
	}
	if !slices.ContainsFunc(r.versions, vouched) {
		return errors.New("no signature that counts is on what it says: read it, and if it is sound, " +
			"publish it by `logline keys sign` (docs/kernels.md)")
	}
	return nil
}

// mayAppend refuses what Stage-0 would refuse, and an unsigned version over a signed one.
func (r rollback) mayAppend() error {
	newest := r.versions[0]
	if r.options.IsDraft && !r.options.Signer.Signs() {
		return nil
	}
	if err := maySign(r.head, r.options, sign.PurposeOf(newest.EntityType)); err != nil {
		return err
	}
	if !r.options.Signer.Signs() && newest.Signature != nil {
		return fmt.Errorf("roll back %s: the version that stands is signed: give --key FILE", r.name)
	}
	return nil
}

func (r rollback) next(former *span.Span) *span.Span {
	row := *former
	row.Who, row.Did = rolledBack, new("rolled back")
	if r.isShipped(former) {
		row.Who, row.Did = "system:bootstrap", new("defined")
	}
	row.Reason = new(fmt.Sprintf("what version %d said", former.Seq))
	row.At, row.EffectiveAt = span.NewTime(time.Now()), nil
	row.AcceptedAt, row.Xact, row.IdempotencyKey = nil, nil, nil
	row.PrevHash, row.CurrHash, row.Signature = nil, nil, nil
	row.PublicKey, row.SigAlg, row.SigKeyID = nil, nil, nil
	return &row
}

// signerOf is the fingerprint of the key that a version states; "" where it is unsigned.
func signerOf(row *span.Span) string {
	if row.Signature == nil || row.PublicKey == nil {
		return ""
	}
	public, err := hex.DecodeString(*row.PublicKey)
	if err != nil {
		return ""
	}
	return sign.Fingerprint(public)
}
