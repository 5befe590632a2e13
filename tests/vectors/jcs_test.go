package vectors_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// canonicalJSON returns raw as the canonical form of a span writes it, or why it is refused.
func canonicalJSON(raw []byte) (string, error) {
	text := func(content string) (string, error) {
		canonical, err := (&span.Span{Content: json.RawMessage(content)}).Canonical()
		return string(canonical), err
	}
	frame, err := text("0")
	if err != nil {
		return "", err
	}
	head, tail, _ := strings.Cut(frame, `"content":0`)
	whole, err := text(string(raw))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimPrefix(whole, head+`"content":`), tail), nil
}

// These differ from plain RFC 8785 by the exact-number rule (docs/contract.md §3), and in nothing else:
// what is refused here stands with the reason.
func TestRFC8785Files(t *testing.T) {
	t.Parallel()
	refused := map[string][2]string{ // the number that no double is exactly, and its double
		"values": {"333333333.33333329", "333333333.3333333"},
	}
	for _, name := range []string{"arrays", "french", "structures", "unicode", "values", "weird"} {
		input, want := readFile(t, name+".in.json"), readFile(t, name+".out.json")
		if number, isRefused := refused[name]; isRefused {
			if _, err := canonicalJSON(input); err == nil || !strings.Contains(err.Error(), number[0]) {
				t.Errorf("%s: got %v, want a refusal that names %s", name, err, number[0])
			}
			input = bytes.Replace(input, []byte(number[0]), []byte(number[1]), 1)
		}
		got, err := canonicalJSON(input)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\ngot  %q\nwant %q", name, err, got, want)
		}
		if again, err := canonicalJSON([]byte(got)); err != nil || again != got {
			t.Errorf("%s: the canonical form of the canonical form is another: %q, %v", name, again, err)
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("public/jcs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Appendix B of RFC 8785: the bits of a double, and how it is written.
func TestRFC8785AppendixB(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0", 0x8000000000000000: "0",
		0x0000000000000001: "5e-324", 0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308", 0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992", 0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000", 0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23", 0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000", 0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21", 0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001", 0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325", 0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334", 0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333", 0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		checkNumber(t, math.Float64frombits(bits), want)
	}
	for _, name := range []string{"NaN", "Infinity", "-Infinity"} {
		if got, err := canonicalJSON([]byte(name)); err == nil {
			t.Errorf("%s is written as %s, want a refusal", name, got)
		}
	}
}

// checkNumber holds one double against its shortest form, however it is stated.
func checkNumber(t *testing.T, value float64, want string) {
	t.Helper()
	for _, format := range []byte{'e', 'f', 'g'} {
		stated := strconv.FormatFloat(value, format, -1, 64)
		if got, err := canonicalJSON([]byte(stated)); err != nil || got != want {
			t.Fatalf("%s: got %q, %v, want %q", stated, got, err, want)
		}
	}
}

// es6Hash is what the authors publish for the first 10,000 lines of their file.
const es6Hash = "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892"

func TestES6NumberFile(t *testing.T) {
	t.Parallel()
	raw := unpack(t, "es6_numbers.txt.gz")
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != es6Hash {
		t.Fatalf("the file has the SHA-256 %x, want %s", sum, es6Hash)
	}
	count := 0
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); count++ {
		digits, want, _ := strings.Cut(lines.Text(), ",")
		bits, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		checkNumber(t, math.Float64frombits(bits), want)
	}
	if count != 10_000 {
		t.Errorf("got %d lines, want 10,000", count)
	}
}
