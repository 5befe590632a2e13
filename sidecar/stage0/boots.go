package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// bootCounter counts boots per kernel version and minute: one boot_event each (docs/contract.md §6).
type bootCounter struct {
	mu     sync.Mutex
	counts map[bootKey]*bootCount
}

type bootKey struct {
	kernel span.Key
	minute int64 // Unix minutes
}

type bootCount struct {
	kernel      *kernel
	count       int
	first, last time.Time
}

func newBootCounter() *bootCounter { return &bootCounter{counts: map[bootKey]*bootCount{}} }

func (b *bootCounter) count(k *kernel) {
	now := time.Now()
	key := bootKey{k.span.Key(), now.Unix() / 60}
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.counts[key]
	if entry == nil {
		entry = &bootCount{kernel: k, first: now}
		b.counts[key] = entry
	}
	entry.count++
	entry.last = now
}

// take removes and returns the counts of minutes before the given one.
func (b *bootCounter) take(before int64) map[bootKey]*bootCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[bootKey]*bootCount{}
	for key, count := range b.counts {
		if key.minute < before {
			taken[key] = count
			delete(b.counts, key)
		}
	}
	return taken
}

func (b *bootCounter) putBack(counts map[bootKey]*bootCount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, count := range counts {
		b.counts[key] = count
	}
}

// AppendBoots appends the boot events of the minutes that are over, and of the current one too when
// all is set (at the stop). It is called once a minute.
func (s *Stage0) AppendBoots(ctx context.Context, all bool) error {
	manifest := s.Manifest()
	if manifest == nil || manifest.Features.AuditLog == span.AuditOff {
		return nil
	}
	before := time.Now().Unix() / 60
	if all {
		before++
	}
	counts := s.boots.take(before)
	if len(counts) == 0 {
		return nil
	}
	var rows []*span.Span
	for key, count := range counts {
		row, err := s.bootEvent(key, count)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	outcomes, err := s.config.Ledger.Append(ctx, []ledger.Group{{Rows: rows}})
	if err != nil {
		s.boots.putBack(counts)
		return fmt.Errorf("append boot events: %w", err)
	}
	if outcomes[0].Err != nil {
		return fmt.Errorf("append boot events: %w", outcomes[0].Err)
	}
	return nil
}

func (s *Stage0) bootEvent(key bootKey, count *bootCount) (*span.Span, error) {
	kernel := count.kernel.span
	row, err := s.systemSpan(kernel, "boot_event", "booted")
	if err != nil {
		return nil, err
	}
	row.ID = span.Derive("boot_event", acceptedAt(kernel), []span.ID{kernel.ID, s.config.Incarnation},
		int64(kernel.Seq), key.minute)
	row.This, row.Status, row.RelatedTo = &count.kernel.name, new("complete"), []span.ID{kernel.ID}
	row.At = span.NewTime(count.last)
	row.Output, err = json.Marshal(map[string]any{
		"count": count.count, "first_at": span.NewTime(count.first), "last_at": span.NewTime(count.last),
		"function": versionRef{kernel.ID, kernel.Seq, kernel.CurrHash}, "incarnation": s.config.Incarnation,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the boot event: %w", err)
	}
	return row, s.config.Signer.Seal(row, nil)
}
