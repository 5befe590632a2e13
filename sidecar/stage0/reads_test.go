package stage0

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestAnAnswerOfAReadIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	full := func(letter string) func(*span.Span) {
		return func(s *span.Span) { s.Content = json.RawMessage(`"` + strings.Repeat(letter, 900_000) + `"`) }
	}
	for i := range 12 {
		b.put(100+i, "big", full("a"))
	}
	for i := range 2 {
		b.put(200+i, "sharp", full("<")) // six times as long in the answer
	}
	f := b.function(1, `
		const attempt = async (filter, limit) => {
			try { return (await ctx.find(filter, limit)).length } catch (e) { return e.code + ": " + e.message }
		}
		return [await attempt({entity_type: "big"}, 12), await attempt({entity_type: "big"}, 4),
			await attempt({entity_type: "sharp"}), await attempt({entity_type: "sharp"}, 1),
			await attempt({entity_type: "none"})]`)
	execution, _ := b.execute(2, f.ID)
	var got []any
	if err := json.Unmarshal(execution.Output, &got); err != nil {
		t.Fatalf("%v: %s", err, execution.Error)
	}
	const tooMany = "limit.rows: the result has more than 8 MiB: ask for fewer rows"
	for i, want := range []any{tooMany, 4.0, tooMany, 1.0, 0.0} {
		if got[i] != want {
			t.Errorf("find %d: got %v, want %v", i, got[i], want)
		}
	}
}
