package app

import (
	"context"
	"errors"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// How often a follower asks: at once after it has found something, and ever more seldom while it finds
// nothing. There is no NOTIFY to wait for (docs/decisions.md), and one question is a look at an index.
const (
	followMin = 10 * time.Millisecond
	followMax = 330 * time.Millisecond
)

// Follow hands each the newest versions that filter chooses and actor may read, at most recent of them, and
// then what is committed, in the order of commits as far as one question tells them apart, until ctx ends.
// Nothing that commits is missed, whenever its transaction began, and nothing comes twice. each may be
// called with none.
func Follow(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, filter ledger.RowFilter, recent int,
	each func([]*span.Span) error) error {
	next, err := readRecent(ctx, owner, actor, filter, recent, each)
	if err != nil {
		return err
	}
	filter.Since = 0 // what comes is new, whatever its `at` says
	pause := followMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		var spans []*span.Span
		err := owner.Look(ctx, actor, func(user *ledger.User) (err error) {
			spans, next, err = user.After(ctx, filter, next)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case len(spans) > 0:
			pause = 0
			if err := each(spans); err != nil {
				return err
			}
		}
		if next.IsBetween() {
			pause = 0
		}
		timer.Reset(pause)
		pause = min(max(2*pause, followMin), followMax)
	}
}

// Recent hands each the newest versions that filter chooses and actor may read, the oldest of them first, at
// most limit of them, page by page.
func Recent(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, filter ledger.RowFilter, limit int,
	each func([]*span.Span) error) error {
	_, err := readRecent(ctx, owner, actor, filter, limit, each)
	return err
}

// readRecent is Recent that also returns the place behind them. Where there are none, each is called with
// none.
func readRecent(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, filter ledger.RowFilter,
	limit int, each func([]*span.Span) error) (place ledger.Place, err error) {
	err = owner.Look(ctx, actor, func(user *ledger.User) (err error) {
		place, err = user.Recent(ctx, filter, limit)
		return err
	})
	for isFirst := true; err == nil && (isFirst || place.IsBetween()); isFirst = false {
		var spans []*span.Span
		if place.IsBetween() {
			err = owner.Look(ctx, actor, func(user *ledger.User) (err error) {
				spans, place, err = user.After(ctx, filter, place)
				return err
			})
		}
		if err == nil {
			err = each(spans)
		}
	}
	if err != nil && ctx.Err() != nil {
		return place, errors.Join(ctx.Err(), err)
	}
	return place, err
}
