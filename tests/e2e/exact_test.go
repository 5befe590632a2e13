package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// From a client's insert through a function, a policy and back into rows no number becomes another: it is
// kept, refused with a reason, or, where a double would round it, handed to scripts as its text.
func TestNoNumberIsRounded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	const exact = `{"big": 9007199254740993, "long": 100000000000000000000000000000.1, "third": 0.1, "e": 1e21}`
	const texts = `{"big": "9007199254740993", "long": "100000000000000000000000000000.1", "third": 0.1, "e": 1e21}`
	s.insert(alice, policy("number", `function on(span) {
		return [{ emit_span: { entity_type: "copy", name: "of the policy", content: span.content,
			value: span.value } }] }`))
	number := order(columns{"entity_type": "number", "name": rand.Text(), "content": json.RawMessage(exact),
		"value": json.RawMessage("9007199254740993.000000000000000001")})
	stored := s.insert(alice, number)
	if got := one[string](s, "select content ->> 'big' || ' ' || (content ->> 'long') || ' ' || value from"+
		" ledger.universal_registry where id = $1", stored.ID.String()); got !=
		"9007199254740993 100000000000000000000000000000.1 9007199254740993.000000000000000001" {
		t.Errorf("stored is %s", got)
	}

	r := s.run(alice, `const [found] = await ctx.find({ name: input });
		ctx.insertSpan({ entity_type: "copy", name: "of the function", content: found.content,
			value: found.value });
		return [found.content, found.value, 0.1 + 0.2, 2 ** 53, -0, 5e-324]`, columns{"input": number["name"]})
	want := "[" + texts + `, "9007199254740993.000000000000000001", 0.30000000000000004, 9007199254740992, 0, 5e-324]`
	sameNumbers(t, r.execution(t).Output, want)
	program.Eventually(t, "the policy's copy", func() bool { return len(s.read("entity_type = 'copy'")) == 2 })
	for _, copied := range s.read("entity_type = 'copy'") {
		sameNumbers(t, copied.Content, texts)
		if *copied.Value != "9007199254740993.000000000000000001" || copied.VerifyHash() != nil {
			t.Errorf("%s: value %s, %v", *copied.Name, *copied.Value, copied.VerifyHash())
		}
	}

	for _, input := range []string{"9007199254740993", `{"a":[{"b":100000000000000000000000000000.1}]}`} {
		refused := s.run(alice, "return input", columns{"input": json.RawMessage(input)}).execution(t)
		if message := failure(t, refused).Message; codeOf(refused) != "not_serializable" ||
			!strings.Contains(message, "no exact double") || !strings.Contains(message, "send it as a string") {
			t.Errorf("input %s: %s", input, refused.Error)
		}
	}
	for _, input := range []string{"0.1", "0.30000000000000004", "9007199254740994", "1e21", `[1.50, 1e-7]`} {
		kept := s.run(alice, "return input", columns{"input": json.RawMessage(input)}).execution(t)
		sameNumbers(t, kept.Output, input)
	}
	s.refused(alice, span.CodeBadSpan, columns{"entity_type": "number", "content": json.RawMessage("1e400")})
	judge(t, s)
}

// sameNumbers compares two documents by their canonical form, which refuses what a double would round.
func sameNumbers(t *testing.T, got json.RawMessage, want string) {
	t.Helper()
	a, b := &span.Span{Output: got}, &span.Span{Output: json.RawMessage(want)}
	first, err := a.Canonical()
	if err != nil {
		t.Errorf("%s: %v", got, err)
		return
	}
	second, err := b.Canonical()
	if err != nil || string(first) != string(second) {
		t.Errorf("got %s, want %s (%v)", got, want, err)
	}
}
