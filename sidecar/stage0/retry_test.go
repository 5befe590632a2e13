package stage0

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestRetryIsReadOrRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		`{"max_attempts": 3}`:                        retry{3, 1000},
		`{"max_attempts": 2, "base_ms": 1}`:          retry{2, 1},
		`{"max_attempts": 20, "base_ms": 5000}`:      retry{20, 5000},
		`3`:                                          "want {",
		`{}`:                                         "want {",
		`{"base_ms": 1000}`:                          "want {",
		`{"max_attempts": "3"}`:                      "want {",
		`{"max_attempts": 2.5}`:                      "want {",
		`{"max_attempts": 3, "base": 10}`:            "other keys are not read",
		`{"max_attempts": 0}`:                        "max_attempts is 0, want 1 to 20",
		`{"max_attempts": 21}`:                       retry{20, 1000},
		`{"max_attempts": 3, "base_ms": -5}`:         "base_ms is -5, want 1 to 86400000",
		`{"max_attempts": 3, "base_ms": 0}`:          "base_ms is 0, want 1",
		`{"max_attempts": 3, "base_ms": 1000000000}`: retry{3, 86400000},
	} {
		got, err := readRetry(json.RawMessage(text))
		if message, isRefused := want.(string); isRefused {
			if err == nil || got != nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %v, %v; want %q", text, got, err, message)
			}
		} else if err != nil || *got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, raw := range []json.RawMessage{nil, json.RawMessage("null"),
		json.RawMessage(`{"max_attempts": 1, "base_ms": 1}`)} {
		if got, err := readRetry(raw); got != nil || err != nil {
			t.Errorf("%q: %v, %v", raw, got, err)
		}
	}
}

func TestAMalformedRetryIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, limited(20, 20), nil)
	malformed := func(s *span.Span) { s.Metadata = json.RawMessage(`{"retry": {"max_attempts": 3, "base": 1}}`) }
	works, fails := b.function(1, "return 1", malformed), b.function(2, "throw new Error('no')", malformed)
	if got := b.perform(b.request(10, works.ID)); got.Fence.StatusText() != "complete" {
		t.Errorf("a run that works: %s", got.Fence.StatusText())
	}
	const told = `select concat_ws(' ', count(*), min(owner_id), min(tenant_id), min(visibility), min(status),
		min(parent_id::text), bool_and(error->>'message' like '%metadata.retry is {%want {%'))
		from ledger.universal_registry where this = 'function.retry' and entity_type = 'incident'`
	if got := ask[string](b, told); got != "0" {
		t.Errorf("before a run has failed: %s", got)
	}
	for n := range 2 {
		if got := b.perform(b.request(11+n, fails.ID)); got.Fence.StatusText() != "error" {
			t.Errorf("a run that fails: %s", got.Fence.StatusText())
		}
	}
	if got := ask[string](b, told); got != "1 alice t1 private open "+fails.ID.String()+" t" {
		t.Errorf("after two failures: %s", got)
	}
}
