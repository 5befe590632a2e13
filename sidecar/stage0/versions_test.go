package stage0

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestVersionsCountWhatTheyHold(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	v := b.versions
	const count = 80 // of 900 kB each: more than may be kept
	big := json.RawMessage(`"` + strings.Repeat("a", 900_000) + `"`)
	var slow, quick []span.Key
	for i := range count {
		slow = append(slow, b.put(i+1, "note", func(s *span.Span) { s.Content = big }).Key())
		quick = append(quick, b.put(i+1+count, "note", func(s *span.Span) { s.Content = big }).Key())
	}
	// A query for some that takes so long that another one fills the cache meanwhile.
	asked := map[span.Key]*version{}
	v.mu.Lock()
	for _, key := range slow {
		asked[key] = v.add(key)
	}
	v.mu.Unlock()
	if _, err := v.load(t.Context(), quick, true); err != nil {
		t.Fatal(err)
	}
	v.fill(t.Context(), asked, true)
	if _, err := v.load(t.Context(), slow[:1], true); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	b.wantCounted(v)
	if held := v.fresh.bytes; held > freshBytesMax || held < freshBytesMax/2 {
		t.Errorf("%d bytes are held, of %d that may be", held, freshBytesMax)
	}
}

// wantCounted compares what is counted with what is held. The caller holds v.mu.
func (b *bench) wantCounted(v *versions) {
	b.t.Helper()
	held := map[bool]int{}
	for _, element := range v.byKey {
		entry := element.Value.(*version)
		held[entry.isKept] += entry.bytes
	}
	if v.fresh.bytes != held[false] || v.kept.bytes != held[true] ||
		len(v.byKey) != v.fresh.order.Len()+v.kept.order.Len() {
		b.t.Errorf("%d and %d bytes are counted, %v held in %d entries (%d and %d in order)", v.fresh.bytes,
			v.kept.bytes, held, len(v.byKey), v.fresh.order.Len(), v.kept.order.Len())
	}
}

// However much is read once, in as many reads as a run takes, it does not drive out what is used again and
// again.
func TestWhatIsUsedAgainOutlivesWhatIsReadOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	v := b.versions
	body := json.RawMessage(`"` + strings.Repeat("a", 900_000) + `"`)
	put := func(n int) span.Key {
		return b.put(n, "note", func(s *span.Span) { s.Content = body }).Key()
	}
	load := func(key span.Key) {
		t.Helper()
		if _, err := v.load(t.Context(), []span.Key{key}, true); err != nil {
			t.Fatal(err)
		}
	}
	often, never := put(1), put(2)
	load(often)
	load(never)
	for i := range 40 {
		once := put(i + 3)
		for range 3 {
			load(once)
		}
		if i%10 == 3 {
			load(often)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byKey[often] == nil || v.byKey[never] != nil {
		t.Errorf("the one that is used again is there: %t; the other one: %t", v.byKey[often] != nil,
			v.byKey[never] != nil)
	}
	if v.kept.order.Len() != 1 || v.fresh.bytes > freshBytesMax {
		t.Errorf("%d are kept, want 1; %d bytes are fresh", v.kept.order.Len(), v.fresh.bytes)
	}
	b.wantCounted(v)
}

// A request may be run before others see the function that the WAL has named; what nobody has named is not
// there.
func TestAPinnedVersionIsWaitedForWhenTheWalHasNamedIt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	v := b.versions
	key := span.Key{ID: idOf(7)}
	if found, err := v.pinned(t.Context(), key); err != nil || found != nil {
		t.Fatalf("before: %v, %v", found, err)
	}
	tx, err := b.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `insert into ledger.universal_registry (id, entity_type, who, at, owner_id,
			tenant_id, visibility, status, code)
		values ($1::text::uuid, 'function', 'user:alice', now(), 'alice', 't1', 'private', 'scheduled',
			'return 1')`, key.ID.String()); err != nil {
		t.Fatal(err)
	}
	v.observe(key)
	loaded := make(chan *span.Span, 1)
	entry := v.request(t.Context(), []span.Key{{ID: idOf(8)}}, false)[0] // another read, that ends before
	go func() {
		found, err := v.pinned(t.Context(), key)
		if err != nil {
			t.Error(err)
		}
		loaded <- found
	}()
	<-entry.loaded
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := <-loaded; found == nil {
		t.Error("it is not there")
	}
}

// A version that the WAL has named is waited for, also where somebody who does not wait was first to ask.
func TestAnExpectedVersionIsReadAgainWhereTheFirstReaderDidNotWait(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	v := b.versions
	key := span.Key{ID: idOf(7)}
	v.mu.Lock()
	first := v.add(key) // its query finds nothing
	v.mu.Unlock()
	joined := v.request(t.Context(), []span.Key{key}, true)
	if joined[0] != first {
		t.Fatal("it did not join")
	}
	if _, err := b.connect().Exec(t.Context(), `insert into ledger.universal_registry (id, entity_type, who, at,
			owner_id, tenant_id, visibility, status, code)
		values ($1::text::uuid, 'function', 'user:alice', now(), 'alice', 't1', 'private', 'scheduled',
			'return 1')`, key.ID.String()); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	v.drop(key)
	v.mu.Unlock()
	close(first.loaded)
	spans, err := v.await(t.Context(), []span.Key{key}, joined, true)
	if err != nil || spans[0] == nil {
		t.Errorf("it is not there: %v", err)
	}
}
