package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// replay runs `logline replay` on an execution, and returns its exit code and what it printed.
func (s *system) replay(execution span.ID, more ...string) (code int, out string) {
	s.t.Helper()
	args := append([]string{"replay", "--database", s.db.URL, execution.String()}, more...)
	p := program.Start(s.t, nil, args...)
	code = p.Wait()
	return code, p.Said()
}

func TestAnExecutionIsReplayed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, columns{"entity_type": "order", "name": "o", "metadata": columns{"b": 1, "aa": 2}})
	const busy = `const begun = Date.now();
const order = (await ctx.find({ entity_type: "order" }))[0];
ctx.insertSpan({ entity_type: "note", name: order.name });
await new Promise((done) => setTimeout(done, 20));
ctx.log("waited", Date.now() - begun);
return [input, begun, ctx.now(), ctx.id(), Math.random(), crypto.randomUUID(), Object.keys(order.metadata)];`
	for name, code := range map[string]string{
		"busy": busy, "throws": "ctx.log(1);\nthrow new Error(ctx.now());", "nothing": "",
	} {
		execution := s.run(alice, code).execution(t)
		if code, out := s.replay(execution.ID); code != 0 || !strings.Contains(out, "\nsame output (") {
			t.Errorf("%s: exits with %d: %s", name, code, out)
		}
	}
	// With an input of its own.
	another := s.run(alice, busy, columns{"input": columns{"z": 1, "a": 2.50}}).execution(t)
	if code, out := s.replay(another.ID, "--json"); code != 0 || !strings.Contains(out, `"verdict": "same"`) {
		t.Errorf("exits with %d: %s", code, out)
	}

	file := filepath.Join(t.TempDir(), "new.ts")
	other := strings.Replace(busy, "waited", "slept", 1) + " as number"
	other = strings.Replace(other, "; as number", " as any[];", 1)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := s.replay(another.ID, "--code", file)
	if code != 1 || !strings.Contains(out, "different in 1 places") || !strings.Contains(out, "slept") {
		t.Errorf("other code: exits with %d: %s", code, out)
	}
	code, out = s.replay(another.ID, "--json", "--code", file)
	var report struct {
		Verdict     string
		Differences []struct{ What string }
	}
	if err := json.Unmarshal([]byte(strings.SplitAfter(out, "\n}\n")[0]), &report); err != nil ||
		code != 1 || report.Verdict != "different" || report.Differences[0].What != "log 1" {
		t.Errorf("other code as JSON: exits with %d: %v %s", code, err, out)
	}
	if n := len(s.read("entity_type = 'note'")); n != 2 {
		t.Errorf("there are %d notes: a replay has written", n)
	}

	s.rewrite(another.ID, `metadata = jsonb_set(metadata, '{run,seed}', to_jsonb(repeat('0', 64)))`)
	code, out = s.replay(another.ID)
	if code != 1 || !strings.Contains(out, "could not be repeated: the record was changed") {
		t.Errorf("a changed record: exits with %d: %s", code, out)
	}
	if code, out = s.replay(span.MustID("0198c0de-0000-8000-8000-000000000001")); code != 1 ||
		!strings.Contains(out, "there is no execution") {
		t.Errorf("no execution: exits with %d: %s", code, out)
	}
}

func TestReplayIsToldWhatToRepeat(t *testing.T) {
	t.Parallel()
	const id = "0198c0de-0000-8000-8000-000000000001"
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"replay"}, 2, "takes one argument"},
		{[]string{"replay", id, id}, 2, "takes one argument"},
		{[]string{"replay", "last"}, 2, "is no id of an execution"},
		{[]string{"replay", id, "--code", "/nowhere.js"}, 2, "read --code"},
		{[]string{"replay", id}, 2, "set DATABASE_URL"},
		{[]string{"replay", id, "--loud"}, 2, "see `logline help replay`"},
		{[]string{"help", "replay"}, 0, "--code FILE"},
		{[]string{"replay", id, "--database", "postgres://nobody@127.0.0.1:1/none"}, 1, "connect to --database: "},
	} {
		p := program.Start(t, nil, c.args...)
		code := p.Wait()
		if out := p.Said(); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v exits with %d: %s, want %d and %q", c.args, code, out, c.code, c.says)
		}
	}
}
