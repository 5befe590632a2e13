package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// section returns the blocks of a language below a heading of a page, up to the next one.
func section(t *testing.T, page, heading, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, isThere := strings.Cut(string(text), "\n## "+heading+"\n")
	if !isThere {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, block := range fences.FindAllStringSubmatch(rest, -1) {
		if block[1] == language {
			blocks = append(blocks, block[2])
		}
	}
	return blocks
}

// paste runs a block of shell in the folder of the keys, as the owner.
func (s *signedSystem) paste(block string) string {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), "bash", "-euo", "pipefail", "-c", block)
	command.Dir = s.dir
	command.Env = append(os.Environ(), program.OnPath(), "DATABASE_URL="+s.db.URL, "LOGLINE_TRUST_ROOT="+s.root)
	said, err := command.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s\n%v: %s", block, err, said)
	}
	return strings.TrimSpace(string(said))
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
	source := section(t, "kernels.md", "The least kernel", "js")[0]
	s.save("receipts.js", source)
	blocks := section(t, "kernels.md", heading, "sh")
	if len(blocks) != 4 {
		t.Fatalf("%d blocks publish a kernel, want 4", len(blocks))
	}
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

	blocks = section(t, "functions.md", heading, "sh")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks publish a function, want 2", len(blocks))
	}
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
	const heading = "From the first line to the log"
	plain := func(text string) string {
		return changing.ReplaceAllString(strings.TrimSpace(text), "#")
	}
	got := s.paste(section(t, "functions.md", heading, "sh")[0])
	want := section(t, "functions.md", heading, "text")[0]
	if plain(got) != plain(want) {
		t.Errorf("the page's commands print\n%s\nwant\n%s", plain(got), plain(want))
	}
}

// changing is what no two runs have in common: ids, times, durations.
var changing = regexp.MustCompile(`(?m)\b[0-9a-f]{8}-(…|[0-9a-f-]{27})|^\d{4}-\S+Z| +[0-9.]+(µs|ms|s)\b`)

// The commands of docs/functions.md make a function recur, show its ticks, and delay a function and a
// request.
func TestFunctionsRunLaterAsThePageSays(t *testing.T) {
	t.Parallel()
	program.Need(t, "psql", "bash")
	s := setupSigned(t)
	s.serveSigned("sidecar")
	s.save("greet.js", "return `Hello, ${input.name}`;")
	s.paste(section(t, "functions.md", "Publish it, from a file", "sh")[0])
	recurring := section(t, "functions.md", "Run it again and again", "sh")
	later := section(t, "functions.md", "Run it later, once", "sh")
	if len(recurring) != 2 || len(later) != 1 {
		t.Fatalf("%d and %d blocks, want 2 and 1", len(recurring), len(later))
	}
	s.paste(recurring[0])
	s.paste(later[0])
	program.Eventually(t, "both delayed ones", func() bool {
		return len(s.read(`entity_type = 'execution' and output in ('"once"', '"Hello, Ada"')`)) == 2
	})
	program.Eventually(t, "a tick", func() bool { return strings.Contains(s.paste(recurring[1]), "|complete|") })
}
