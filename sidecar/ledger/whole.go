package ledger

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// appendOnce appends groups in one statement, and in a transaction around it where a group may be torn.
func (l *Ledger) appendOnce(ctx context.Context, groups []Group) ([]Outcome, error) {
	// The server ends a statement before; a connection that died without a word is found out by this alone.
	ctx, cancel := context.WithTimeout(ctx, appendMax)
	defer cancel()
	for i := range groups {
		if groups[i].isWhole() {
			return l.appendWhole(ctx, groups)
		}
	}
	return appendOn(ctx, l.pool, groups)
}

// isWhole reports whether all of a group is to be written, or nothing: what a policy did is done once for a
// span, so a version that it lost to another writer takes the fence back, and the span is judged anew.
func (g Group) isWhole() bool {
	if g.Fence == nil || g.Fence.Seq > 0 {
		return false
	}
	for _, row := range g.Rows {
		if IsMoving(row) {
			return true
		}
	}
	return false
}

// IsMoving reports whether row is a version of what others append to as well: losing its key is no fault.
func IsMoving(row *span.Span) bool {
	if row.Seq > 0 {
		return true
	}
	if !bytes.Contains(row.Metadata, []byte(`"bucket"`)) {
		return false
	}
	meta, derived := row.Engine()
	return derived && meta.Kind == "bucket"
}

// appendMax is longer than statement_timeout.
const appendMax = 65 * time.Second

// appendWhole takes the groups out that would be torn, and appends the others without them. The outcome of a
// torn group is a lost fence, and Existing names what it lost.
func (l *Ledger) appendWhole(ctx context.Context, groups []Group) ([]Outcome, error) {
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin to append: %w", err)
	}
	// After a commit it does nothing; a connection that cannot roll back is closed by the pool.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	outcomes, err := appendOn(ctx, tx, groups)
	if err != nil {
		return nil, err
	}
	var rest []Group
	var places []int
	for i := range groups {
		if groups[i].isWhole() && outcomes[i].isTorn(groups[i]) {
			outcomes[i].Won = false
			continue
		}
		rest, places = append(rest, groups[i]), append(places, i)
	}
	if len(rest) == len(groups) {
		if err := tx.Commit(ctx); err != nil {
			return nil, fmt.Errorf("append %d groups: %w", len(groups), err)
		}
		return outcomes, nil
	}
	if err := tx.Rollback(ctx); err != nil {
		return nil, fmt.Errorf("take torn groups back: %w", err)
	}
	if len(rest) == 0 {
		return outcomes, nil
	}
	again, err := l.Append(ctx, rest)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		outcomes[place] = again[i]
	}
	return outcomes, nil
}

func (o Outcome) isTorn(g Group) bool {
	if !o.Won {
		return false
	}
	for _, place := range o.Existing {
		if IsMoving(g.Rows[place]) {
			return true
		}
	}
	return false
}
