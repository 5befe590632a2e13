package sandbox

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What the parent hands over is a number where a double is exactly it, else the text of the number.
func TestNumbersFromTheParentAreNeverRounded(t *testing.T) {
	t.Parallel()
	vm := goja.New()
	for text, isExactly := range map[string]bool{
		"0": true, "-0": true, "0.0": true, "1.50": true, "-12.5e-3": true, "0e999999999999": true,
		"9007199254740991": true, "9007199254740992": true, "9007199254740993": false, "-9007199254740993": false,
		"9007199254740994": true, "9223372036854775807": false, "18446744073709551616": false,
		"18446744073709552000": true, "0.1": true,
		"0.30000000000000004": true, "0.3": true, "0.300000000000000000": true,
		"0.1000000000000000055": false, "3.14159265358979323846": false, "3.141592653589793": true,
		"1e21": true, "1E+2": true, "1e400": false, "-1e400": false, "1e-400": false, "5e-324": true,
		"4e-324":                  false,
		"2.2250738585072014e-308": true, "1.7976931348623157e308": true, "1.7976931348623159e308": false,
		"100000000000000000000000000000.1": false, "1000000000000000000000": true, "333333333.33333329": false,
		"1e99999999999999999999": false,
	} {
		got, err := parseJSON(vm, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if isExactly {
			want, _ := strconv.ParseFloat(text, 64) // the grammar is known
			if goja.IsString(got) || got.ToFloat() != want {
				t.Errorf("%s arrives as %v, want the number", text, got)
			}
		} else if !goja.IsString(got) || got.String() != text {
			t.Errorf("%s arrives as %v, want its text", text, got)
		}
	}
}

// The text reaches the script wherever a number does, and goes out again as it came.
func TestInexactNumbersPassThroughARun(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	r := run(`const [found] = await ctx.find(); return [input.n, typeof input.n, found.n, input.list, 0.1 + 0.2, 1e21]`,
		host(func(_ context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`[{"n":100000000000000000000000000000.1}]`), nil
		}))
	r.Data = json.RawMessage(`{"input":{"n":9007199254740993,"list":[1.0,0.1]}}`)
	r.Limits.Timeout = time.Second
	result := pool.RunCode(t.Context(), r)
	const want = `["9007199254740993","string","100000000000000000000000000000.1",[1,0.1],0.30000000000000004,1e+21]`
	if result.Err != nil || string(result.Output) != want {
		t.Errorf("got %s, %v", result.Output, result.Err)
	}
}

// FuzzExactNumbers holds the child's rule against the one by which spans are hashed.
func FuzzExactNumbers(f *testing.F) {
	for _, seed := range []string{"0", "-0.0", "9007199254740993", "1e-400", "4e-324", "0.10",
		"123456789012345678e3", "0.00000000000000000000000000012", "1e22", "1e23", "99999999999999999999999.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		isNumber := text != "" && strings.Trim(text, "0123456789+-.eE") == "" && json.Valid([]byte(text))
		if !isNumber || len(text) > 60 {
			return
		}
		value, _ := strconv.ParseFloat(text, 64) // out of range is an infinity
		if want := span.CheckJSON(json.RawMessage(text)) == nil; isExact(text, value) != want && !isFar(text) {
			t.Errorf("%s is exact: %v, want %v", text, !want, want)
		}
	})
}

// isFar is where the ledger takes no number any more, not even a zero.
func isFar(text string) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	n, err := strconv.Atoi(exponent)
	return exponent != "" && (err != nil || n > 300 || n < -300)
}
