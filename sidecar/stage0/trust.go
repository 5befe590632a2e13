package stage0

import (
	"context"
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

// reloadTrust reads the key spans anew.
func (s *Stage0) reloadTrust(ctx context.Context) error {
	rows, err := s.config.Ledger.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	s.trust.Store(sign.NewTrust(s.config.TrustRoot, rows))
	return nil
}
