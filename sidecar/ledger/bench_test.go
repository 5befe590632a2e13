package ledger

import "testing"

// BenchmarkStatement is what looking at a statement costs, beside running one (about 1 ms).
func BenchmarkStatement(b *testing.B) {
	const text = `select id, "when", name from ledger.visible_timeline where entity_type = $1
		and metadata ->> 'a' is not null and at > now() - interval '1 day' order by "when" desc limit 10`
	for b.Loop() {
		if _, err := boundedStatement(text); err != nil {
			b.Fatal(err)
		}
	}
}
