package sqlrules

import "testing"

// A prompt_block that states how long it lives gets its ttl_at; nothing else does, and what is stated stays.
func TestTTLMinutesSayWhenABlockEnds(t *testing.T) {
	t.Parallel()
	l := setup(t)
	const stated = "2026-01-01 00:00:00+00"
	for i, c := range []struct {
		name, entityType, metadata string
		more                       []any
		want                       string
	}{
		{"half an hour", "prompt_block", `{"ttl_minutes":30}`, nil, "00:30:00"},
		{"half a minute", "prompt_block", `{"ttl_minutes":0.5}`, nil, "00:00:30"},
		{"at once", "prompt_block", `{"ttl_minutes":-5}`, nil, "00:00:00"},
		{"ten years at most", "prompt_block", `{"ttl_minutes":1e300}`, nil, "87600:00:00"},
		{"a text", "prompt_block", `{"ttl_minutes":"30"}`, nil, "none"},
		{"nothing", "prompt_block", `{}`, nil, "none"},
		{"no metadata", "prompt_block", `null`, nil, "none"},
		{"another type", "note", `{"ttl_minutes":30}`, nil, "none"},
		{"a ttl_at", "prompt_block", `{"ttl_minutes":30}`, []any{"ttl_at", stated}, "stated"},
	} {
		pairs := append([]any{"id", id(i + 1), "entity_type", c.entityType, "status", "active"}, c.more...)
		if c.metadata != "null" {
			pairs = append(pairs, "metadata", c.metadata)
		}
		l.given(alice, pairs...)
		got := ask[string](l, alice, `select case
				when ttl_at is null then 'none'
				when ttl_at = '`+stated+`' then 'stated'
				else (extract(epoch from ttl_at - at) * interval '1 second')::text
			end from ledger.universal_registry where id = $1`, id(i+1))
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
