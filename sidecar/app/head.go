package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

// manifestHead is where the manifest's versions have come to.
type manifestHead struct {
	versions []*span.Span // the newest first
	newest   *span.Span   // nil: the ledger has none
	// base is the newest version that a command may build on or sign as it is: one in force, or one whose
	// signature counts. Anybody who governs can append another, with a document of his own. nil: there is none.
	base *span.Span
	// fault is why newest is not base, nil where it is.
	fault error
	trust *sign.Trust
}

// endOfTime is after every timelock and every effective_at.
func endOfTime() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// readHead judges the manifest under the pinned root. Where none is pinned, a signer's own key stands for it.
func readHead(ctx context.Context, owner *ledger.Owner, root string, signer *sign.Signer) (
	*manifestHead, error) {
	versions, err := owner.Versions(ctx, span.ManifestID)
	if err != nil {
		return nil, fmt.Errorf("look for the manifest (is the database migrated? run `logline migrate`): %w", err)
	}
	keys, err := owner.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	now, err := owner.Now(ctx)
	if err != nil {
		return nil, err
	}
	head := &manifestHead{versions: versions, trust: sign.NewTrust(cmp.Or(root, signer.Fingerprint()), keys)}
	if len(versions) == 0 {
		return head, nil
	}
	head.newest = versions[0]
	if !signer.Signs() {
		now = endOfTime() // what is not signed here may build on what waits for its time
	}
	inForce := stage0.ManifestInForce(head.trust, versions, now)
	for _, row := range versions {
		if row == inForce || head.isSigned(row) == nil {
			head.base = row
			break
		}
	}
	if head.base != head.newest {
		head.fault = head.why(root)
	}
	return head, nil
}

// isSigned returns nil where row is a sound manifest whose signature counts.
func (h *manifestHead) isSigned(row *span.Span) error {
	if row.StatusText() != "active" || row.IsDeleted {
		return fmt.Errorf("it has the status %q", row.StatusText())
	}
	if refusal := h.trust.Check(row, sign.PurposeManifest); refusal != nil {
		return refusal
	}
	_, err := span.ParseManifest(row.Metadata)
	return err
}

func (h *manifestHead) why(root string) error {
	hint := ""
	if root == "" {
		hint = "; no root is pinned: set LOGLINE_TRUST_ROOT to the root key's fingerprint"
	}
	ruling := "none before it rules"
	if h.base != nil {
		ruling = fmt.Sprintf("version %d rules", h.base.Seq)
	}
	return fmt.Errorf("manifest version %d by %.80q does not count, and %s: %w%s", h.newest.Seq, h.newest.Who,
		ruling, h.isSigned(h.newest), hint)
}

// requires reports whether spans of this type must be signed ("": of any), as far as can be seen.
func (h *manifestHead) requires(entityType string) bool {
	rows := h.versions
	if h.base != nil {
		rows = []*span.Span{h.base}
	}
	for _, row := range rows {
		document, err := span.ParseManifest(row.Metadata)
		if err != nil {
			continue
		}
		required := document.Features.SignaturesRequired
		if entityType == "" && required.IsAny() || entityType != "" && required.For(entityType) {
			return true
		}
	}
	return false
}

// ReadManifest returns the version of the manifest that a change goes out from, which need not be in force
// yet. fault says of a newer one why it does not count; where none counts, that one is returned.
func ReadManifest(ctx context.Context, owner *ledger.Owner, root string) (row *span.Span, fault, err error) {
	head, err := readHead(ctx, owner, root, nil)
	switch {
	case err != nil:
		return nil, nil, err
	case head.newest == nil:
		return nil, nil, errors.New("the ledger has no manifest: run `logline bootstrap`")
	case head.base == nil:
		return head.newest, head.fault, nil
	}
	return head.base, head.fault, nil
}
