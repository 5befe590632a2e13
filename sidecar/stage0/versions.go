package stage0

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// versionsBytesMax bounds the code and bodies that are kept.
const versionsBytesMax = 64 << 20

// versions caches versions of spans, which are immutable, and which version of a function is the
// latest, which the tail keeps current. Several readers of one version share one query.
type versions struct {
	ledger *ledger.Ledger
	mu     sync.Mutex
	byKey  map[span.Key]*list.Element // of *version
	order  *list.List                 // most recently used first
	bytes  int
	latest map[span.ID]int
}

type version struct {
	key    span.Key
	loaded chan struct{} // closed when span and err are set
	span   *span.Span
	err    error
	bytes  int
}

func newVersions(l *ledger.Ledger) *versions {
	return &versions{
		ledger: l,
		byKey:  map[span.Key]*list.Element{},
		order:  list.New(),
		latest: map[span.ID]int{},
	}
}

// load returns one span per key, nil where there is none. expected says that the WAL has named the
// keys: then they exist, and what is not visible yet is waited for.
func (v *versions) load(ctx context.Context, keys []span.Key, expected bool) ([]*span.Span, error) {
	entries := v.request(ctx, keys, expected)
	spans := make([]*span.Span, len(keys))
	for i, entry := range entries {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-entry.loaded:
		}
		if entry.err != nil {
			return nil, entry.err
		}
		spans[i] = entry.span
	}
	return spans, nil
}

func (v *versions) prefetch(ctx context.Context, keys []span.Key) { v.request(ctx, keys, true) }

// request returns the entries of keys and starts one query for those that are new.
func (v *versions) request(ctx context.Context, keys []span.Key, expected bool) []*version {
	entries := make([]*version, len(keys))
	missing := map[span.Key]*version{}
	v.mu.Lock()
	for i, key := range keys {
		if element, ok := v.byKey[key]; ok {
			v.order.MoveToFront(element)
			entries[i] = element.Value.(*version)
			continue
		}
		entry := &version{key: key, loaded: make(chan struct{})}
		v.byKey[key] = v.order.PushFront(entry)
		entries[i], missing[key] = entry, entry
	}
	v.mu.Unlock()
	if len(missing) > 0 {
		// The query outlives its first reader, because others may wait for it; the pool's statement
		// timeout bounds it.
		go v.fill(context.WithoutCancel(ctx), missing, expected)
	}
	return entries
}

func (v *versions) fill(ctx context.Context, missing map[span.Key]*version, expected bool) {
	keys := make([]span.Key, 0, len(missing))
	for key := range missing {
		keys = append(keys, key)
	}
	found, err := v.ledger.Load(ctx, keys)
	if expected && err == nil && len(found) < len(keys) {
		found, err = v.ledger.LoadVisible(ctx, keys)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, entry := range missing {
		if err != nil {
			entry.err = fmt.Errorf("load %s version %d: %w", key.ID, key.Seq, err)
		}
		entry.span = found[key]
		if entry.span == nil { // neither a fault nor an absence is kept
			v.drop(key)
		} else {
			entry.bytes = sizeOf(entry.span)
			v.bytes += entry.bytes
		}
		close(entry.loaded)
	}
	// What is not loaded yet counts nothing, and must stay: it is counted when it comes.
	for at := v.order.Back(); at != nil && v.bytes > versionsBytesMax; {
		entry := at.Value.(*version)
		if at = at.Prev(); entry.span != nil {
			v.drop(entry.key)
		}
	}
}

// drop takes an entry out. The caller holds v.mu.
func (v *versions) drop(key span.Key) {
	element := v.byKey[key]
	v.bytes -= element.Value.(*version).bytes
	v.order.Remove(element)
	delete(v.byKey, key)
}

func sizeOf(s *span.Span) int {
	size := 1024 + len(s.Input) + len(s.Output) + len(s.Metadata) + len(s.Content)
	if s.Code != nil {
		size += len(*s.Code)
	}
	return size
}

// current returns the latest version of a function, nil where there is none.
func (v *versions) current(ctx context.Context, id span.ID) (*span.Span, error) {
	v.mu.Lock()
	seq, known := v.latest[id]
	v.mu.Unlock()
	if !known {
		found, err := v.ledger.Latest(ctx, []span.ID{id})
		if err != nil {
			return nil, fmt.Errorf("load the latest version of %s: %w", id, err)
		}
		if found[id] == nil {
			return nil, nil
		}
		seq = v.observe(found[id].Key())
	}
	spans, err := v.load(ctx, []span.Key{{ID: id, Seq: seq}}, true)
	if err != nil {
		return nil, err
	}
	return spans[0], nil
}

// forgetLatest drops what is known of latest versions; the versions themselves never change.
func (v *versions) forgetLatest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.latest)
}

// observe notes that a version of a function was committed, and returns the latest that is known.
func (v *versions) observe(key span.Key) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.latest) > 100_000 { // about 5 MB
		clear(v.latest)
	}
	v.latest[key.ID] = max(v.latest[key.ID], key.Seq)
	return v.latest[key.ID]
}
