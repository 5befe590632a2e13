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
	row, _ := manifestAt(trust, rows, now)
	return row
}

// ManifestFrom returns from when the version seq will be in force, if nothing else comes; ok is false where
// it will not be. What is in force at now is so from now.
func ManifestFrom(trust *sign.Trust, rows []*span.Span, seq int, now time.Time) (from time.Time, ok bool) {
	for range rows {
		row, next := manifestAt(trust, rows, now)
		switch {
		case row != nil && row.Seq == seq:
			return now, true
		case next.IsZero():
			return time.Time{}, false
		}
		now = next
	}
	return time.Time{}, false
}

// manifestAt returns the version in force at now, and when another one takes force; zero is never.
func manifestAt(trust *sign.Trust, rows []*span.Span, now time.Time) (*span.Span, time.Time) {
	newestFirst := slices.SortedFunc(slices.Values(rows), func(a, b *span.Span) int {
		return cmp.Compare(b.Seq, a.Seq)
	})
	candidates := make([]candidate, len(newestFirst))
	for i, row := range newestFirst {
		candidates[i].row = row
		candidates[i].manifest, candidates[i].fault = readManifest(row)
	}
	chosen, next := choose(trust, candidates, now)
	for _, row := range newestFirst {
		if chosen != nil && row.Key() == chosen.key {
			return row, next
		}
	}
	return nil, next
}
