package stage0

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

var (
	docBlock = regexp.MustCompile("(?s)```(js|ts)\n(.*?)```\n\n```json\n(.*?)```")
	docCode  = regexp.MustCompile("(?m)^```(js|ts)$")
	docInput = regexp.MustCompile(`(?m)^// input: (.*)$`)
)

// Each block of code in docs/functions.md gives what the block under it says, when it is run and when it is
// replayed.
func TestTheGuideToFunctionsIsTrue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/functions.md")
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t, nil, nil)
	blocks := docBlock.FindAllStringSubmatch(string(page), -1)
	if stated := len(docCode.FindAllString(string(page), -1)); stated != len(blocks) || stated < 8 {
		t.Fatalf("%d blocks of code, %d with an output", stated, len(blocks))
	}
	for i, block := range blocks {
		f := b.function(100+i, block[2], func(s *span.Span) {
			s.Language = new("javascript")
			if block[1] == "ts" {
				s.Language = new("typescript")
			}
			s.Input = json.RawMessage("{}")
			if input := docInput.FindStringSubmatch(block[2]); input != nil {
				s.Input = json.RawMessage(input[1])
			}
		})
		id := b.recorded(200+i, f.ID)
		execution := b.latest(id)
		got := execution.Output
		if execution.Error != nil {
			got = encode(map[string]any{"error": execution.Error})
		}
		if !sameJSON(got, json.RawMessage(block[3])) {
			t.Errorf("%s\ngives %s, the page says %s", block[2], got, block[3])
		}
		if again := b.replayed(id, nil); again.Verdict != ReplaySame {
			t.Errorf("%s\nreplayed: %s", block[2], encode(again))
		}
	}
}
