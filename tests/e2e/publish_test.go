package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/program"
)

// paste runs a block of shell in the folder of the keys, as the owner.
func (s *signedSystem) paste(block string) string {
	s.t.Helper()
	return strings.TrimSpace(pages.Paste(s.t, s.dir, []string{program.OnPath(), "DATABASE_URL=" + s.db.URL,
		"LOGLINE_TRUST_ROOT=" + s.root}, block))
}

func (s *signedSystem) save(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// The commands of docs/kernels.md and docs/functions.md publish a file, its change, and the way back, where
// every kernel must be signed.
func TestFilesArePublishedAsThePagesSay(t *testing.T) {
	t.Parallel()
	program.Need(t, "psql", "jq", "bash")
	s := setupSigned(t)
	s.paste(`logline manifest | jq '.features.signatures_required = ["function", "manifest"]' > required.json
logline manifest --file required.json --key root.key`)
	s.serveSigned("sidecar")
	const heading = "Publish it, from a file"
	source := pages.Section(t, "docs/kernels.md", "The least kernel", "js")[0]
	s.save("receipts.js", source)
	blocks := pages.Marked(t, "docs/kernels.md").Under(heading, 4)
	receipt := func(name string) {
		t.Helper()
		o := order()
		s.insert(carol, o)
		if got := text(s.emitted("receipt", o["trace_id"].(string), 1)[0].Name); got != name {
			t.Errorf("the receipt is %q, want %q", got, name)
		}
	}
	if said := s.paste(blocks[0]); said != "0|t" {
		t.Errorf("the first version: %s", said)
	}
	s.paste(blocks[1])
	receipt("received")
	s.save("receipts.js", strings.Replace(source, `"received"`, `"it's \\ 'quoted'"`, 1))
	if said := s.paste(blocks[2]); said != "1|t" {
		t.Errorf("the next version: %s", said)
	}
	receipt(`it's \ 'quoted'`)
	if said := s.paste(blocks[3]); said != "2|t" {
		t.Errorf("the way back: %s", said)
	}
	receipt("received")

	// A row of the view, with when for at, is what was hashed, and has the signature that it had.
	const same = `psql "$DATABASE_URL" -qAtc "select to_jsonb(k) - 'at' from ledger.visible_timeline as k
	where name = 'receipts'" > row.json
logline keys sign row.json --key root.key | jq -r '.signature, .curr_hash'
jq -r '.signature, .curr_hash' row.json`
	if said := strings.Fields(s.paste(same)); len(said) != 4 || said[0] != said[2] || said[1] != said[3] {
		t.Errorf("a row of visible_timeline is signed as %v", said)
	}

	blocks = pages.Marked(t, "docs/functions.md").Under(heading, 2)
	if said := s.paste(blocks[0]) + s.paste(blocks[1]); said != "01" {
		t.Errorf("the versions of a function are %s", said)
	}
	rows := s.read("name = 'greet' and seq = 1")
	if len(rows) != 1 || !strings.Contains(*rows[0].Code, "${input.name}") {
		t.Errorf("got %+v", rows)
	}
}

// The first commands of docs/functions.md print what stands below them, but for ids and times.
func TestAFunctionIsWrittenAndCalledAsThePageSays(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash")
	s := setupSigned(t)
	s.serveSigned("sidecar")
	plain := func(text string) string {
		return changing.ReplaceAllString(strings.TrimSpace(text), "#")
	}
	block := pages.Marked(t, "docs/functions.md").Take("function new")
	got, want := s.paste(block.Text), block.Shows
	if plain(got) != plain(want) {
		t.Errorf("the page's commands print\n%s\nwant\n%s", plain(got), plain(want))
	}
}

// changing is what no two runs have in common: ids, times, durations.
var changing = regexp.MustCompile(`(?m)\b[0-9a-f]{8}-(…|[0-9a-f-]{27})|^\d{4}-\S+Z| +<?[0-9.]+(µs|ms|s)\b`)

// The commands of docs/functions.md make a function recur, show its ticks, and delay a function and a
// request.
func TestFunctionsRunLaterAsThePageSays(t *testing.T) {
	t.Parallel()
	program.Need(t, "psql", "bash")
	s := setupSigned(t)
	s.serveSigned("sidecar")
	s.save("greet.js", "return `Hello, ${input.name}`;")
	s.paste(pages.Section(t, "docs/functions.md", "Publish it, from a file", "sh")[0])
	set := pages.Marked(t, "docs/functions.md")
	recurring, later := set.Under("Run it again and again", 2), set.Under("Run it later, once", 1)
	s.paste(recurring[0])
	s.paste(later[0])
	program.Eventually(t, "both delayed ones", func() bool {
		return len(s.read(`entity_type = 'execution' and output in ('"once"', '"Hello, Ada"')`)) == 2
	})
	program.Eventually(t, "a tick", func() bool { return strings.Contains(s.paste(recurring[1]), "|complete|") })
}
