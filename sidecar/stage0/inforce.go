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

// KernelInForce picks from rows, all versions of a kernel, the one that would boot at now under manifest,
// and judges it as a boot does; it is nil where none is there. It is for commands.
func KernelInForce(trust *sign.Trust, manifest *span.Manifest, name string, rows []*span.Span,
	now time.Time) (*span.Span, *span.RunError) {
	id, known := manifest.Kernels[name]
	if !known {
		return nil, refuse(span.RunNotFound, "the manifest names no kernel %s", name)
	}
	var row *span.Span
	pinned, isPinned := manifest.Pins[name]
	for _, version := range rows {
		c := candidate{row: version}
		if !c.dueAt(manifest.Timelocks[name]).After(now) && (row == nil || version.Seq > row.Seq) {
			row = version
		}
	}
	if isPinned && (row == nil || row.StatusText() != "revoked") {
		place := slices.IndexFunc(rows, func(v *span.Span) bool { return v.Seq == pinned })
		switch {
		case place < 0:
			return nil, refuse(span.RunNotFound,
				"the manifest pins %s to version %d, which the ledger has not", name, pinned)
		case rows[place].EffectiveAt != nil && rows[place].EffectiveAt.After(now):
			return rows[place], refuse(span.RunNotEffective,
				"version %d of kernel %s, which the manifest pins, takes force at %s", pinned, name,
				rows[place].EffectiveAt)
		}
		row = rows[place]
	}
	return row, admitKernel(trust, manifest, id, row)
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
