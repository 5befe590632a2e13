package stage0

import (
	"context"
	"errors"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// checkSignature returns nil where row carries the signature of a key that leads to the pinned root, has
// purpose and was not revoked before row was committed; else why not. It is for what always needs a
// signature, such as a request with force. row must be a version as the ledger holds it.
func (s *Stage0) checkSignature(_ context.Context, row *span.Span, purpose sign.Purpose) *span.RunError {
	return s.trust.Load().Check(row, purpose)
}

// admitSignature judges the signature of a row that is about to run, or that kernels go by. Its hash has been
// found right. Where the manifest requires none, one that is there must still hold.
func (s *Stage0) admitSignature(manifest *governed, row *span.Span) *span.RunError {
	return admitSeal(s.trust.Load(), manifest.Manifest, row)
}

func admitSeal(trust *sign.Trust, manifest *span.Manifest, row *span.Span) *span.RunError {
	if manifest.Features.SignaturesRequired.For(row.EntityType) {
		return trust.CheckSealed(row, sign.PurposeOf(row.EntityType))
	}
	return trust.CheckPresent(row)
}

// verifyRequest judges the signature of the first version of a request, where the manifest names requests.
func (inv *invocation) verifyRequest(ctx context.Context, cause *span.Span) (*span.RunError, error) {
	if cause.EntityType != "request" || !inv.manifest.Features.SignaturesRequired.For("request") {
		return nil, nil
	}
	rows, err := inv.stage0.versions.load(ctx, []span.Key{{ID: cause.ID}}, true)
	if err != nil {
		return nil, err
	}
	return inv.stage0.checkSignature(ctx, rows[0], sign.PurposeSpan), nil
}

// admitProvider refuses a provider that lacks a signature which the manifest requires, or whose signature
// does not hold: kernels go by what they say.
func (inv *invocation) admitProvider(row *span.Span) *span.RunError {
	if row.EntityType != "provider" {
		return nil
	}
	if refusal := verifyHash(row, false); refusal != nil {
		return refusal
	}
	return inv.stage0.admitSignature(inv.manifest, row)
}

// judgeSignature judges the signature of a manifest that is sound otherwise, and sets its fault. One that
// requires signatures, of whatever, must carry one; and so must its successors, whatever they require
// (isBound), until one that carries it says otherwise: or whoever can write to the ledger could let go of the
// requirement. It returns whether what follows is bound. A manifest whose key was revoked since binds still,
// but it sets nothing free: else revoking a key would let go of what it signed. Neither does one that cannot
// be read any more, or whose key leads to another root than the one that is pinned now. Where the root is not
// there, nobody can tell, and all of them bind.
func (c *candidate) judgeSignature(trust *sign.Trust, isBound bool) bool {
	if c.fault != nil {
		return isBound || c.requiresSignatures() && trust.MightLead(c.row, sign.PurposeManifest)
	}
	refusal := trust.CheckSealed(c.row, sign.PurposeManifest)
	c.manifest.isSigned, c.manifest.trust = refusal == nil, trust
	if refusal == nil {
		return c.requiresSignatures()
	}
	if !isBound && !c.requiresSignatures() {
		refusal = trust.CheckPresent(c.row)
	}
	if refusal != nil {
		c.fault = refusal
	}
	return isBound || c.requiresSignatures() &&
		(!trust.HasRoot() || trust.MightLead(c.row, sign.PurposeManifest))
}

// judgeWithdrawal refuses to take the manifest out of force without the signature that its next version
// needs: else who governs without a key would keep every sidecar from starting.
func (c *candidate) judgeWithdrawal(trust *sign.Trust, isBound bool) {
	if !isBound {
		return
	}
	if refusal := trust.Check(c.row, sign.PurposeManifest); refusal != nil {
		c.fault, c.isForbidden = refusal, true
	}
}

// hasFallenUnsigned reports whether c fell with a key that somebody has revoked without a signature. Then no
// older one stands in: who has no key could else bring back what was in force before.
func (c *candidate) hasFallenUnsigned(trust *sign.Trust) bool {
	var refusal *span.RunError
	return errors.As(c.fault, &refusal) && refusal.Code == span.RunRevoked && !trust.IsTakenBack(c.row)
}

// judgedBy is the manifest in force by other keys, where none of candidates can take its place: with a
// refusal of everything if it does not hold by them.
func (g *governed) judgedBy(trust *sign.Trust, candidates []candidate) *governed {
	again := *g
	again.trust, again.refusal = trust, nil
	for _, c := range candidates {
		if c.row.Key() == g.key && c.fault != nil && !c.isWithdrawn() {
			again.refusal = refuse(span.RunRevoked, "the manifest in force, version %d, does not hold any more, "+
				"and there is no other (append one that is signed): %s", g.key.Seq, c.fault)
		}
	}
	return &again
}

// putInForce makes manifest the one that rules.
func (s *Stage0) putInForce(manifest *governed) {
	s.manifest.Store(manifest)
	s.mu.Lock()
	s.drops++ // what is being judged now was judged by the one before
	clear(s.kernels)
	s.mu.Unlock()
}

// reloadTrust reads the key spans anew. Where there are new ones, Reload puts a manifest in force by them,
// and nothing that was judged by the old ones stands any longer.
func (s *Stage0) reloadTrust(ctx context.Context) error {
	rows, err := s.config.Ledger.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	if s.trust.Load().Rows() == len(rows) { // of an append-only ledger: the same ones
		return nil
	}
	s.trust.Store(sign.NewTrust(s.config.TrustRoot, rows))
	return nil
}
