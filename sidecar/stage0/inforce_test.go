package stage0

import (
	"math"

	"github.com/loglineos/loglineos/sidecar/span"
)

// checkInForce finds the same manifest in force as s, which has just been started, by the way that commands
// go.
func (b *bench) checkInForce(s *Stage0) {
	b.t.Helper()
	rows, err := b.config.Ledger.VersionsBefore(b.t.Context(), span.ManifestID, math.MaxInt32, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	now, err := b.config.Ledger.Now(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	want, got := -1, -1
	if current := s.manifest.Load(); current != nil {
		want = current.key.Seq
	}
	if row := ManifestInForce(s.trust.Load(), rows, now); row != nil {
		got = row.Seq
	}
	if got != want {
		b.t.Errorf("for commands version %d of the manifest is in force, for the sidecar %d", got, want)
	}
}
