package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Rehearsed is what a policy did with one span: what it would have appended, or why nothing.
type Rehearsed struct {
	Rows  []*span.Span
	Err   *span.RunError
	Again bool // of a tick: it asks for one more turn
}

// Rehearse shows spans to a version of a policy that need not be in the ledger, by the kernel that is in
// force, and keeps what it answers: nothing is handed on, and nothing is counted. Reload comes before. An
// error is a fault on the way.
func (s *Stage0) Rehearse(ctx context.Context, policy *span.Span, spans []*span.Span) (
	map[span.Key]Rehearsed, error) {
	s.versions.keep(policy)
	found := map[span.Key]Rehearsed{}
	err := s.rehearse(ctx, policy, spans, nil, found)
	if err == nil || len(spans) == 1 || ctx.Err() != nil {
		return found, err
	}
	for _, one := range spans { // what fails in company may do well alone
		if err := s.rehearse(ctx, policy, []*span.Span{one}, nil, found); err != nil {
			return found, err
		}
	}
	return found, nil
}

// RehearseTick is Rehearse of one tick of a policy that goes by time; told is its ctx.input.tick.
func (s *Stage0) RehearseTick(ctx context.Context, policy, tick *span.Span, told json.RawMessage) (
	Rehearsed, error) {
	s.versions.keep(policy)
	found := map[span.Key]Rehearsed{}
	err := s.rehearse(ctx, policy, []*span.Span{tick}, told, found)
	return found[tick.Key()], err
}

func (s *Stage0) rehearse(ctx context.Context, policy *span.Span, spans []*span.Span, tick json.RawMessage,
	found map[span.Key]Rehearsed) error {
	type match struct {
		Span   span.Key        `json:"span"`
		Policy map[string]any  `json:"policy"`
		Tick   json.RawMessage `json:"tick,omitempty"`
	}
	var matches []match
	for _, one := range spans {
		matches = append(matches, match{one.Key(), map[string]any{"id": policy.ID, "seq": policy.Seq}, tick})
	}
	input, err := json.Marshal(map[string]any{"matches": matches})
	if err != nil {
		return fmt.Errorf("encode the matches: %w", err)
	}
	s.breaker.forget() // each span is judged, however the others went
	var mu sync.Mutex
	err = s.Boot(ctx, Job{Kernel: "policy_agent", Batch: spans, Input: input,
		Emit: func(cause span.Key, group ledger.Group, fault *span.RunError) {
			mu.Lock()
			defer mu.Unlock()
			found[cause] = rehearsed(group, fault)
		}})
	var refusal *span.RunError
	if errors.As(err, &refusal) && len(spans) == 1 {
		found[spans[0].Key()] = Rehearsed{Err: refusal}
		return nil
	}
	return err
}

// rehearsed takes a group apart: the fence of a judgment that appends later versions alone is the engine's
// own note, and a policy_error says why there is nothing else.
func rehearsed(group ledger.Group, fault *span.RunError) Rehearsed {
	result := Rehearsed{Err: fault, Again: group.Again}
	rows := group.Rows
	for _, part := range group.Parts {
		if part.Fence != nil && part.Fence.EntityType != "policy_cursor" {
			rows = append(rows, part.Fence)
		}
		rows = append(rows, part.Rows...)
	}
	for _, row := range rows {
		if row.EntityType != "policy_error" {
			result.Rows = append(result.Rows, row)
			continue
		}
		if result.Err = new(span.RunError); json.Unmarshal(row.Error, result.Err) != nil {
			result.Err = refuse(span.RunException, "%s", row.Error)
		}
	}
	return result
}

// keep puts a version that the ledger may not have among those that are known.
func (v *versions) keep(row *span.Span) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byKey[row.Key()] != nil {
		v.drop(row.Key())
	}
	entry := v.add(row.Key())
	entry.span = row
	v.count(entry)
	close(entry.loaded)
}

// forget lets every policy judge again.
func (b *breaker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.judges)
}
