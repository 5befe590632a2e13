package engine

import (
	"context"
	"math"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	emissionsPage = 1000
	ordinalsMax   = 50 // of what a policy emitted for one span in 0.1.0
)

// judgedBefore is up to where the sidecar of 0.1.0 has judged, where no policy_cursor says anything: up
// to its newest emission. Its ids had the version of the policy in them, so that the fences
// of today do not know what it did. What it had not judged of the time before that emission is left so: one
// effect too few rather than thousands twice. The zero value where it has emitted nothing; then all is
// judged, and what is there already is known by its id.
func (e *Engine) judgedBefore(ctx context.Context) (ledger.Judged, error) {
	judged := ledger.Judged{Behind: map[ledger.Lane]span.Snapshot{}}
	for place := (ledger.DeltaPlace{Xact: math.MaxInt64}); ; {
		page, err := e.config.Ledger.EmissionsBefore(ctx, place, emissionsPage)
		if err != nil || len(page) == 0 {
			return judged, err
		}
		for _, emission := range page {
			if !isOfOldForm(emission) {
				continue
			}
			now, err := e.config.Ledger.Snapshot(ctx)
			if err != nil {
				return judged, err
			}
			judged.Snapshot = now.Before(emission.Xact + 1)
			e.config.Log.Warn("policies go on where version 0.1.0 ended: at its cursor or, where that is gone, after "+
				"its newest emission", "emission", emission.ID.String(), "xact", emission.Xact)
			return judged, nil
		}
		last := page[len(page)-1]
		place = ledger.DeltaPlace{Xact: last.Xact, Key: span.Key{ID: last.ID}}
	}
}

// isOfOldForm reports whether an id is one that 0.1.0 derived.
func isOfOldForm(emission ledger.Emission) bool {
	cause, at := emission.Cause, emission.Cause.AcceptedAt.Time
	if cause.EntityType == "request" && cause.ID.Version() == 8 {
		at = cause.ID.Time()
	}
	for ordinal := range ordinalsMax {
		if emission.ID == span.Emission(emission.Policy.ID, cause.Key(), at, ordinal) {
			return false
		}
	}
	ids := []span.ID{emission.Policy.ID, cause.ID}
	for seq := emission.Policy.Seq; seq >= 0; seq-- {
		for ordinal := range int64(ordinalsMax) {
			if emission.ID == span.Derive("policy", at, ids, int64(seq), int64(cause.Seq), ordinal) {
				return true
			}
		}
	}
	return false
}
