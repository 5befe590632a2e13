package stage0

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of the code and bodies that are kept, in bytes. Of what is heap the collector lets as much again, or
// more, be garbage.
const (
	freshBytesMax = 16 << 20
	keptBytesMax  = 48 << 20
	freshUse      = freshBytesMax / 8 // whoever is asked for after so much else has come is used again
)

// versions caches versions of spans, which are immutable, and which version of a function is the
// latest, which the tail keeps current. Several readers of one version share one query. Most of what comes
// is read for one run and never again, as a function that is scheduled once is; it does not drive out what is
// called again and again: that has a shelf of its own.
type versions struct {
	ledger *ledger.Ledger
	mu     sync.Mutex
	byKey  map[span.Key]*list.Element // of *version
	fresh  shelf                      // in the order in which they came
	kept   shelf                      // most recently used first
	came   int                        // bytes, ever
	latest map[span.ID]int
}

type shelf struct {
	order *list.List
	bytes int
}

type version struct {
	key    span.Key
	loaded chan struct{} // closed when span and err are set
	span   *span.Span
	err    error
	bytes  int
	born   int // what had come before it
	isKept bool

	isExpected bool // its query waits for it
}

func newVersions(l *ledger.Ledger) *versions {
	return &versions{
		ledger: l,
		byKey:  map[span.Key]*list.Element{},
		fresh:  shelf{order: list.New()},
		kept:   shelf{order: list.New()},
		latest: map[span.ID]int{},
	}
}

// load returns one span per key, nil where there is none. expected says that the WAL has named the
// keys: then they exist, and what is not visible yet is waited for.
func (v *versions) load(ctx context.Context, keys []span.Key, expected bool) ([]*span.Span, error) {
	return v.await(ctx, keys, v.request(ctx, keys, expected), expected)
}

// await waits for the entries of keys.
func (v *versions) await(ctx context.Context, keys []span.Key, entries []*version, expected bool) (
	[]*span.Span, error) {
	spans := make([]*span.Span, len(keys))
	for i, entry := range entries {
		if err := entry.await(ctx); err != nil {
			return nil, err
		}
		for entry.span == nil && expected && !entry.isExpected { // it joined a query that did not wait
			entry = v.request(ctx, keys[i:i+1], true)[0]
			if err := entry.await(ctx); err != nil {
				return nil, err
			}
		}
		spans[i] = entry.span
	}
	return spans, nil
}

func (e *version) await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.loaded:
		return e.err
	}
}

func (v *versions) prefetch(ctx context.Context, keys []span.Key) { v.request(ctx, keys, true) }

// request returns the entries of keys and starts one query for those that are new.
func (v *versions) request(ctx context.Context, keys []span.Key, expected bool) []*version {
	entries := make([]*version, len(keys))
	missing := map[span.Key]*version{}
	v.mu.Lock()
	for i, key := range keys {
		if element, ok := v.byKey[key]; ok {
			entries[i] = v.use(element)
			continue
		}
		entry := v.add(key)
		entry.isExpected = expected
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
			v.count(entry)
		}
		close(entry.loaded)
	}
	v.shrink(&v.fresh, freshBytesMax)
	v.shrink(&v.kept, keptBytesMax)
}

// add makes room for a version that is to be read. The caller holds v.mu, here and below.
func (v *versions) add(key span.Key) *version {
	entry := &version{key: key, loaded: make(chan struct{}), born: v.came}
	v.byKey[key] = v.fresh.order.PushFront(entry)
	return entry
}

// count counts a version that has been read.
func (v *versions) count(entry *version) {
	entry.bytes = sizeOf(entry.span)
	v.shelfOf(entry).bytes += entry.bytes
	v.came += entry.bytes
}

func (v *versions) shelfOf(entry *version) *shelf {
	if entry.isKept {
		return &v.kept
	}
	return &v.fresh
}

// use is told that somebody asks for a version again.
func (v *versions) use(element *list.Element) *version {
	entry := element.Value.(*version)
	switch {
	case entry.isKept:
		v.kept.order.MoveToFront(element)
	case entry.span != nil && v.came-entry.born > freshUse:
		v.drop(entry.key)
		entry.isKept = true
		v.byKey[entry.key] = v.kept.order.PushFront(entry)
		v.kept.bytes += entry.bytes
		v.shrink(&v.kept, keptBytesMax)
	}
	return entry
}

// shrink drops the last of a shelf. What is not read yet counts nothing, and must stay: it is counted when it
// comes.
func (v *versions) shrink(s *shelf, bytesMax int) {
	for at := s.order.Back(); at != nil && s.bytes > bytesMax; {
		entry := at.Value.(*version)
		if at = at.Prev(); entry.span != nil {
			v.drop(entry.key)
		}
	}
}

// drop takes an entry out.
func (v *versions) drop(key span.Key) {
	element := v.byKey[key]
	entry := element.Value.(*version)
	s := v.shelfOf(entry)
	s.bytes -= entry.bytes
	s.order.Remove(element)
	delete(v.byKey, key)
}

// sizeOf is about what a version takes: its columns, texts and places in maps were measured at 1.4 to 1.9 KB.
func sizeOf(s *span.Span) int {
	size := 2048 + len(s.Input) + len(s.Output) + len(s.Metadata) + len(s.Content)
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

// pinned returns a version that a request names, nil where there is none. One that the WAL has named may not
// be visible yet, and is waited for: its request may be run before others see either.
func (v *versions) pinned(ctx context.Context, key span.Key) (*span.Span, error) {
	v.mu.Lock()
	seq, known := v.latest[key.ID]
	v.mu.Unlock()
	spans, err := v.load(ctx, []span.Key{key}, known && key.Seq <= seq)
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
