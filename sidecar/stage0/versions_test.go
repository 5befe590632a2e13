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
		entry := &version{key: key, loaded: make(chan struct{})}
		v.byKey[key], asked[key] = v.order.PushFront(entry), entry
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
	held := 0
	for _, element := range v.byKey {
		held += element.Value.(*version).bytes
	}
	if v.bytes != held || held > versionsBytesMax || len(v.byKey) != v.order.Len() {
		t.Errorf("%d bytes are counted, %d held in %d entries (%d in order)", v.bytes, held, len(v.byKey),
			v.order.Len())
	}
	if held < versionsBytesMax/2 {
		t.Errorf("only %d bytes are kept", held)
	}
}
