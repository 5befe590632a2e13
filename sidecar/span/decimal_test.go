package span

import (
	"encoding/json"
	"strings"
	"testing"
)

// The right column is what Postgres 15 prints for trim_scale('<left>'::numeric).
func TestDecimalNormal(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"0": "0", "-0": "0", "-0.00": "0", "0e5": "0", "0.000e-9": "0", "1": "1", "1.50": "1.5", "100": "100",
		"1e2": "100", "1E+2": "100", "1.50e1": "15", "12.345e-3": "0.012345", "1e-7": "0.0000001", "007": "7",
		"-12.500": "-12.5", "123456789012345678901234567890.10": "123456789012345678901234567890.1",
		"1e20": "100000000000000000000", "0.00100e2": "0.1", "9.99e2": "999", "1e-10": "0.0000000001",
	} {
		if got, err := Decimal(given).Normal(); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", given, got, err, want)
		}
	}
	for _, given := range []string{"", "-", "NaN", "Infinity", "null", "+1", ".5", "5.", "1e", "1e5.0", "0x1",
		" 1", "1_000", "1e131073", "1e-16384", "1e99999999999999999999", "--1", "1e+-1", "1e 1"} {
		if got, err := Decimal(given).Normal(); err == nil {
			t.Errorf("%q: taken as %s", given, got)
		}
	}
}

func TestDecimalReadsNumberAndString(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{`1.50`: "1.50", `"1.50"`: "1.50", `1e2`: "1e2", `"-3"`: "-3"} {
		var d Decimal
		if err := json.Unmarshal([]byte(raw), &d); err != nil || string(d) != want {
			t.Errorf("%s: got %s, %v", raw, d, err)
		}
	}
	for _, raw := range []string{`"null"`, `"NaN"`, `true`, `[]`, `" 1"`, `""`} {
		var d Decimal
		if err := json.Unmarshal([]byte(raw), &d); err == nil {
			t.Errorf("%s: taken as %q", raw, d)
		}
	}
}

func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{"1.50", "-0e3", "1e-20", "0012.3400E2", "1e131071"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, err := Decimal(text).Normal()
		if err != nil {
			return
		}
		again, err := normal.Normal()
		if err != nil || again != normal {
			t.Fatalf("%q: %q is no fixed point: %q, %v", text, normal, again, err)
		}
		if strings.ContainsAny(string(normal), "eE+") || normal == "-0" {
			t.Fatalf("%q: %q is not normal", text, normal)
		}
	})
}
