package stage0

import (
	"cmp"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// ManifestInForce judges rows, all versions of the manifest, as Reload does, and returns the one in force at
// now; nil where there is none. It is for commands, which must build on nothing else.
func ManifestInForce(trust *sign.Trust, rows []*span.Span, now time.Time) *span.Span {
	newestFirst := slices.SortedFunc(slices.Values(rows), func(a, b *span.Span) int {
		return cmp.Compare(b.Seq, a.Seq)
	})
	candidates := make([]candidate, len(newestFirst))
	for i, row := range newestFirst {
		candidates[i].row = row
		candidates[i].manifest, candidates[i].fault = readManifest(row)
	}
	chosen, _ := choose(trust, candidates, now)
	for _, row := range newestFirst {
		if chosen != nil && row.Key() == chosen.key {
			return row
		}
	}
	return nil
}
