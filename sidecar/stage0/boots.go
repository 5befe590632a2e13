package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// bootCounter counts boots per kernel version and minute: one boot_event each (docs/contract.md §6).
type bootCounter struct {
	mu     sync.Mutex
	counts map[bootKey]*bootCount
	parts  map[bootKey]int // events of a minute so far: the stop may come within it
	unsent []*bootCount    // taken, and not known to be in the ledger
}

type bootKey struct {
	kernel span.Key
	minute int64 // Unix minutes
}

// bootCount becomes one event. Once it is taken it changes no more: its id stands for these boots.
type bootCount struct {
	key         bootKey
	part        int
	kernel      *kernel
	count       int
	first, last time.Time
	causes      []span.Key // with audit_log "full"
}

func newBootCounter() *bootCounter {
	return &bootCounter{counts: map[bootKey]*bootCount{}, parts: map[bootKey]int{}}
}

func (b *bootCounter) count(k *kernel) {
	now := time.Now()
	key := bootKey{k.span.Key(), now.Unix() / 60}
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.counts[key]
	if entry == nil {
		entry = &bootCount{key: key, kernel: k, first: now}
		b.counts[key] = entry
	}
	entry.count++
	entry.last = now
}

// single is one boot that has an event of its own.
func (b *bootCounter) single(k *kernel, causes []span.Key) *bootCount {
	now := time.Now()
	key := bootKey{k.span.Key(), now.Unix() / 60}
	b.mu.Lock()
	defer b.mu.Unlock()
	return &bootCount{key: key, part: b.part(key), kernel: k, count: 1, first: now, last: now, causes: causes}
}

// part numbers the events of a minute. The caller holds b.mu.
func (b *bootCounter) part(key bootKey) int {
	part := b.parts[key]
	b.parts[key] = part + 1
	return part
}

// take returns the counts of minutes before the given one, and those that an earlier try has left.
func (b *bootCounter) take(before int64) []*bootCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, entry := range b.counts {
		if key.minute < before {
			entry.part = b.part(key)
			b.unsent = append(b.unsent, entry)
			delete(b.counts, key)
		}
	}
	for key := range b.parts {
		if key.minute < before-2 {
			delete(b.parts, key)
		}
	}
	return slices.Clone(b.unsent)
}

// sent forgets counts that the ledger has, or refuses.
func (b *bootCounter) sent(counts []*bootCount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsent = slices.DeleteFunc(b.unsent, func(entry *bootCount) bool { return slices.Contains(counts, entry) })
}

// countBoot records that a kernel boots: in the event of its minute, or, with audit_log "full", in one of
// its own that stands before the run.
func (s *Stage0) countBoot(ctx context.Context, manifest *governed, k *kernel, batch []*span.Span) error {
	switch manifest.Features.AuditLog {
	case span.AuditOn:
		s.boots.count(k)
	case span.AuditFull:
		causes := make([]span.Key, len(batch))
		for i, cause := range batch {
			causes[i] = cause.Key()
		}
		return s.appendEvents(ctx, []*bootCount{s.boots.single(k, causes)})
	}
	return nil
}

// AppendBoots appends the boot events of the minutes that are over, and of the current one too when
// all is set (at the stop). It is called once a minute.
func (s *Stage0) AppendBoots(ctx context.Context, all bool) error {
	before := time.Now().Unix() / 60
	if all {
		before++
	}
	counts := s.boots.take(before)
	if len(counts) == 0 {
		return nil
	}
	if err := s.appendEvents(ctx, counts); err != nil {
		return err
	}
	s.boots.sent(counts)
	return nil
}

// appendEvents appends an event for each count.
func (s *Stage0) appendEvents(ctx context.Context, counts []*bootCount) error {
	rows := make([]*span.Span, 0, len(counts))
	for _, count := range counts {
		row, err := s.bootEvent(count)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	outcomes, err := s.config.Ledger.Append(ctx, []ledger.Group{{Rows: rows}})
	if err == nil {
		err = outcomes[0].Err
	}
	if err != nil {
		return fmt.Errorf("append boot events: %w", err)
	}
	return nil
}

func (s *Stage0) bootEvent(count *bootCount) (*span.Span, error) {
	kernel := count.kernel.span
	row, err := s.systemSpan(kernel, "boot_event", "booted")
	if err != nil {
		return nil, err
	}
	row.ID = span.Derive("boot_event", acceptedAt(kernel), []span.ID{kernel.ID, s.config.Incarnation},
		int64(kernel.Seq), count.key.minute, int64(count.part))
	row.This, row.Status, row.RelatedTo = &count.kernel.name, new("complete"), []span.ID{kernel.ID}
	row.At = span.NewTime(count.last)
	output := map[string]any{
		"count": count.count, "first_at": span.NewTime(count.first), "last_at": span.NewTime(count.last),
		"function": versionRef{kernel.ID, kernel.Seq, kernel.CurrHash}, "incarnation": s.config.Incarnation,
	}
	if count.causes != nil {
		output["causes"] = count.causes
	}
	row.Output, err = json.Marshal(output)
	if err != nil {
		return nil, fmt.Errorf("encode the boot event: %w", err)
	}
	return row, s.config.Signer.Seal(row, nil)
}
