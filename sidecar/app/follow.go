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
	spans, place, err := Recent(ctx, owner, actor, filter, recent)
	if err != nil {
		return err
	}
	if err := each(spans); err != nil {
		return err
	}
	filter.Since = 0 // what comes is new, whatever its `at` says
	next := ledger.Place{Seen: place}
	pause := followMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
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
		timer.Reset(pause)
		pause = min(max(2*pause, followMin), followMax)
	}
}

// Recent returns the newest versions that filter chooses and actor may read, the oldest of them first, and
// the place behind them.
func Recent(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, filter ledger.RowFilter,
	limit int) (spans []*span.Span, place string, err error) {
	err = owner.Look(ctx, actor, func(user *ledger.User) (err error) {
		spans, place, err = user.Recent(ctx, filter, limit)
		return err
	})
	if err != nil && ctx.Err() != nil {
		return nil, "", errors.Join(ctx.Err(), err)
	}
	return spans, place, err
}
