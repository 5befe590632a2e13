package stage0

import (
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// verifyKernel decides whether row may boot as a kernel. The order is that of docs/contract.md: on the
// whitelist, exists, not revoked, in force, hash, signature.
func (s *Stage0) verifyKernel(manifest *governed, id span.ID, row *span.Span) *span.RunError {
	return admitKernel(s.trust.Load(), manifest.Manifest, id, row)
}

func admitKernel(trust *sign.Trust, manifest *span.Manifest, id span.ID, row *span.Span) *span.RunError {
	if !slices.Contains(manifest.AllowedBootIDs, id) {
		return refuse(span.RunNotAllowed, "the manifest does not allow %s to boot", id)
	}
	isRevoked := row != nil && (row.StatusText() == "revoked" || row.StatusText() == "deprecated")
	if row == nil || row.IsDeleted || row.EntityType != "function" || row.Code == nil && !isRevoked {
		return refuse(span.RunNotFound, "there is no kernel %s in the ledger: run `logline bootstrap`", id)
	}
	switch row.StatusText() {
	case "active":
	case "revoked", "deprecated":
		return refuse(span.RunRevoked, "kernel %s has the status %s", id, row.StatusText())
	default:
		return refuse(span.RunNotEffective, "kernel %s has the status %q, not active", id, row.StatusText())
	}
	if refusal := verifyHash(row, true); refusal != nil {
		return refusal
	}
	return admitSeal(trust, manifest, row)
}

// verifyCallable decides whether row is there for a cause of this owner and tenant, and not taken back.
func verifyCallable(row *span.Span, id span.ID, owner, tenant string) *span.RunError {
	if row == nil || row.IsDeleted || row.Code == nil || !readable(row, owner, tenant) {
		// A stranger learns nothing about what exists.
		return refuse(span.RunNotFound, "there is no function %s with code that its caller may read", id)
	}
	if row.EntityType != "function" && row.EntityType != "policy" {
		return refuse(span.RunNotAllowed, "a span of type %s cannot be run", row.EntityType)
	}
	if row.StatusText() == "archived" || row.StatusText() == "revoked" {
		return refuse(span.RunRevoked, "the %s has the status %s", row.EntityType, row.StatusText())
	}
	return nil
}

// verifyTarget decides whether a cause of this owner and tenant may run row: a function or a policy.
func (s *Stage0) verifyTarget(manifest *governed, row *span.Span, id span.ID, owner, tenant string,
	now time.Time) *span.RunError {
	if refusal := verifyCallable(row, id, owner, tenant); refusal != nil {
		return refusal
	}
	if row.EffectiveAt != nil && row.EffectiveAt.After(now) {
		return refuse(span.RunNotEffective, "the %s takes force at %s", row.EntityType, row.EffectiveAt)
	}
	if row.Language != nil && *row.Language != "javascript" && *row.Language != "typescript" {
		return refuse(span.RunNotAllowed, "the language %.40q cannot be run: want javascript or typescript",
			*row.Language)
	}
	if refusal := verifyHash(row, false); refusal != nil {
		return refusal
	}
	return s.admitSignature(manifest, row)
}

// verifyHash recomputes the hash of row. A row of the system must have one, others may.
func verifyHash(row *span.Span, required bool) *span.RunError {
	if row.CurrHash == nil {
		if required {
			return refuse(span.RunHashMismatch, "%s version %d has no hash", row.ID, row.Seq)
		}
		return nil
	}
	if err := row.VerifyHash(); err != nil {
		return refuse(span.RunHashMismatch, "%s version %d is not what was hashed: %s", row.ID, row.Seq,
			err.Error())
	}
	return nil
}

// readable is the rule of row level security for one row (docs/contract.md §2).
func readable(row *span.Span, owner, tenant string) bool {
	switch row.Visibility {
	case "public":
		return true
	case "tenant":
		return row.TenantID == tenant
	}
	return row.TenantID == tenant && row.OwnerID == owner
}

func refuse(code span.RunCode, format string, args ...any) *span.RunError {
	return &span.RunError{Code: code, Message: fmt.Sprintf(format, args...)}
}
