package span

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
)

func TestCheckJSONTakes(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`null`, ` true `, "\t[]\r\n", `{}`, `0`, `-0`, `-0.0e5`, `1`, `9007199254740992`, `-9007199254740992`,
		`0.1`, `1e308`, `1E+2`, `1.50`, `5e-324`, `1.7976931348623157e308`, `999999999999999`, `-12345678901234`,
		`12300000000000000000000`, `0.30000000000000004`, `"\ud83d\ude00"`, `"é😀\/"`, `{"a":{"a":1},"b":1}`,
		"1" + strings.Repeat("0", 308), strings.Repeat("[", 64) + strings.Repeat("]", 64),
	} {
		if err := CheckJSON(json.RawMessage(raw)); err != nil {
			t.Errorf("%.80s: %v", raw, err)
		}
	}
}

func TestCheckJSONRefuses(t *testing.T) {
	t.Parallel()
	const inexact = "is no exact double"
	for raw, want := range map[string]string{
		`9007199254740993`:             inexact,
		`-9007199254740993`:            inexact,
		`1e400`:                        inexact,
		`1e-400`:                       inexact,
		`0.1000000000000000055`:        inexact,
		`3.141592653589793238`:         inexact,
		`0e-20000`:                     inexact,
		`1e99999999999999999999`:       inexact,
		strings.Repeat("1", 1200):      inexact,
		`{"a":[1,{"b":123456789e-99}]`: "want ',' or '}', found the end",
		`{"a":[1,{"b":1e400}]}`:        `JSON.a[1].b at byte 13:`,
		`{"a":1,"a":2}`:                "the key stands twice",
		`{"b":1,"a":1,"b":2}`:          "the key stands twice",
		`{"a":1,"\u0061":2}`:           "the key stands twice",
		`"\u0000"`:                     "U+0000",
		`{"\u0000":1}`:                 "U+0000",
		`"\ud800"`:                     "lone surrogate",
		`"\udc00"`:                     "lone surrogate",
		`"\ud800\ud800"`:               "lone surrogate",
		`"\ud800\n"`:                   "lone surrogate",
		"\"\xff\"":                     "JSON at byte 1: the bytes are not UTF-8",
		"\"\xed\xa0\x80\"":             "not UTF-8",
		"\"\n\"":                       "control character",
		"\"\x00\"":                     "control character",
		`"\x"`:                         "an escape of RFC 8259",
		`"\u12G4"`:                     "an escape of RFC 8259",
		`"abc`:                         "the closing",
		`"abc\`:                        "the closing",
		``:                             "want a value, found the end",
		`nul`:                          "want a value",
		`01`:                           "without a leading zero",
		`-`:                            "without a leading zero",
		`1.`:                           "a digit",
		`1e`:                           "a digit",
		`.5`:                           "want a value",
		`+1`:                           "want a value",
		`[1,]`:                         "want a value",
		`{"a":1,}`:                     "a key",
		`{a:1}`:                        "a key",
		`{"a" 1}`:                      "':'",
		`[1 2]`:                        "',' or ']'",
		`1 2`:                          "want the end",
		"\ufeff1":                      "want a value",
		strings.Repeat("[", 65) + strings.Repeat("]", 65): "nested deeper than 64",
	} {
		refusal := refusalOf(t, CheckJSON(json.RawMessage(raw)))
		if !strings.Contains(refusal.Message, want) || refusal.Hint == "" || refusal.Code != CodeBadSpan {
			t.Errorf("%.80q: got %v, want %s", raw, refusal, want)
		}
	}
}

func TestObjectsSortByUTF16(t *testing.T) {
	t.Parallel()
	const given = `{"€":1,"\r":2,"\ufb33":3,"1":4,"😀":5,"\u0080":6,"ö":7,"a":{"z":1,"B":2,"":3}}`
	const want = `{"\r":2,"1":4,"a":{"":3,"B":2,"z":1},"` + "\u0080" + `":6,"ö":7,"€":1,"😀":5,"` +
		"\ufb33" + `":3}`
	var w jsonWriter
	if fault := w.document([]byte(given)); fault != nil || string(w.out) != want {
		t.Fatalf("got %s, %v", w.out, fault)
	}
}

// FuzzJSON holds the writer against gowebpki/jcs: what we take, it takes, with the same text; and
// our own output is a fixed point.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"b":[1,2.50,{"z":null,"a":"\u001f\"\\😀"}],"a":1e21}`, `-0`,
		`"\ud83d\ude00"`, `{"\uffff":1,"😀":2}`, `[1e-7,123456789012345678]`, ` {"a" : [ ] } `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var w jsonWriter
		if fault := w.document(raw); fault != nil {
			if fault.offset > len(raw) || fault.problem == "" || fault.mend == "" {
				t.Fatalf("the fault is incomplete: %+v", fault)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("taken, but no JSON: %q", raw)
		}
		oracle, err := jcs.Transform(raw)
		if err != nil || string(oracle) != string(w.out) {
			t.Fatalf("jcs writes %q, %v; we write %q", oracle, err, w.out)
		}
		var again jsonWriter
		if fault := again.document(w.out); fault != nil || string(again.out) != string(w.out) {
			t.Fatalf("not a fixed point: %q becomes %q, %+v", w.out, again.out, fault)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	raw := sample().Output
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(raw); err != nil {
			b.Fatal(err)
		}
	}
}
