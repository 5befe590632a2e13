package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dop251/goja"
)

// frames returns one frame of every kind, as an honest side sends it.
func frames() [][]byte {
	var list [][]byte
	add := func(write func(e *encoder)) {
		var e encoder
		write(&e)
		list = append(list, e.buf)
	}
	r := run("return 1", host(nil))
	r.Globals = map[string]json.RawMessage{"b": json.RawMessage(`1`), "a": json.RawMessage(`"x"`)}
	_ = r.prepare()
	key := keyOf(r.Program, r.Entry)
	add(func(e *encoder) { appendStart(e, 1, key, &r, true) })
	add(func(e *encoder) { appendStart(e, 2, key, &r, false) })
	add(func(e *encoder) { appendCall(e, 3, call{id: 1, name: "find", args: []byte(`[1]`)}) })
	add(func(e *encoder) { appendReply(e, 4, reply{id: 1, value: []byte(`{}`)}) })
	add(func(e *encoder) { appendReply(e, 5, reply{id: 2, failed: &HostError{Code: "c", Message: "m"}}) })
	add(func(e *encoder) { appendPark(e, 6, park{seen: 3, used: time.Second, lends: true}) })
	add(func(e *encoder) { appendOutcome(e, 7, outcome{worn: true, used: 5, output: []byte(`null`)}) })
	add(func(e *encoder) {
		appendOutcome(e, 8, outcome{failed: &Error{"exception", "x", 3, 4, "at f (3:4)"},
			logs: []Log{{"warn", "w", 9}, {}}})
	})
	add(func(e *encoder) { e.begin(frameHello, 0); e.text("rlimits"); e.end() })
	return list
}

func TestMessagesSurviveTheWire(t *testing.T) {
	t.Parallel()
	r := run("return 1", host(nil))
	r.Globals = map[string]json.RawMessage{"b": json.RawMessage(`1`), "a": json.RawMessage(`"x"`)}
	if e := r.prepare(); e != nil {
		t.Fatal(e)
	}
	list := frames()
	body := func(i int) []byte { return list[i][frameHead:] }
	got, ok := decodeStart(body(0))
	if !ok || got.program.Source != "return 1" || !got.now.Equal(r.Now) || got.limits.HostCalls != 1000 ||
		!reflect.DeepEqual(got.globalNames, []string{"a", "b"}) || string(got.data) != string(r.Data) ||
		!reflect.DeepEqual(got.async, r.AsyncCalls) || got.key != keyOf(r.Program, r.Entry) {
		t.Errorf("start: %+v", got)
	}
	if got, ok := decodeReply(body(4)); !ok || got.failed == nil || got.failed.Message != "m" {
		t.Errorf("reply: %+v", got)
	}
	if got, ok := decodePark(body(5)); !ok || got != (park{seen: 3, used: time.Second, lends: true}) {
		t.Errorf("park: %+v", got)
	}
	want := outcome{failed: &Error{"exception", "x", 3, 4, "at f (3:4)"}, logs: []Log{{"warn", "w", 9}, {}},
		output: []byte{}}
	if got, ok := decodeOutcome(body(7)); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("outcome: %+v", got)
	}
}

func TestReaderRefusesFramesOutOfBounds(t *testing.T) {
	t.Parallel()
	for name, head := range map[string][]byte{
		"too long":  {0xff, 0xff, 0xff, 0xff, 'd', 1, 0, 0, 0},
		"too short": {4, 0, 0, 0, 'd', 1, 0, 0, 0},
		"one over":  {5 + 11, 0, 0, 0, 'd', 1, 0, 0, 0},
	} {
		_, err := readFrame(bufio.NewReader(bytes.NewReader(append(head, make([]byte, 64)...))),
			func() int { return 10 })
		if !errors.Is(err, errFrameSize) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFrame feeds bytes to everything that decodes what the other side wrote: it must neither panic nor
// allocate more than the input deserves, and what it accepts must survive another trip.
func FuzzFrame(f *testing.F) {
	for _, seed := range frames() {
		f.Add(seed)
	}
	f.Add([]byte{14, 0, 0, 0, 'd', 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readFrame(bufio.NewReader(bytes.NewReader(data)), func() int { return 1 << 20 })
		if err != nil {
			return
		}
		decodeStart(m.body)
		decodePark(m.body)
		decodeCall(m.body)
		if r, ok := decodeReply(m.body); ok {
			var e encoder
			appendReply(&e, m.run, r)
			if again, ok := decodeReply(e.buf[frameHead:]); !ok || !reflect.DeepEqual(again, r) {
				t.Errorf("reply %+v became %+v", r, again)
			}
		}
		if o, ok := decodeOutcome(m.body); ok {
			var e encoder
			appendOutcome(&e, m.run, o)
			if again, ok := decodeOutcome(e.buf[frameHead:]); !ok || !reflect.DeepEqual(again, o) {
				t.Errorf("outcome %+v became %+v", o, again)
			}
		}
	})
}

// doubles is value with its numbers as a script sees them: a text where no double is the number.
func doubles(value any) any {
	switch v := value.(type) {
	case json.Number:
		d, err := v.Float64()
		stated, _ := new(big.Float).SetPrec(5000).SetString(v.String())
		shortest, _ := new(big.Float).SetPrec(5000).SetString(strconv.FormatFloat(d, 'g', -1, 64))
		if err != nil || stated == nil || stated.Cmp(shortest) != 0 {
			return v.String()
		}
		return d
	case []any:
		for i := range v {
			v[i] = doubles(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = doubles(v[key])
		}
	}
	return value
}

// FuzzJSON holds the reader and the writer against encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0,1.5e3,true,false,null,"\u00e9\ud83d\ude00\n"],"":{}}`, `[]`,
		`"\ud800"`, `01`, `-`,
		`[1,]`, `{"a":1,"a":2}`, `{"__proto__":{"x":1}}`, " \t\r\n1e400 ", `9007199254740993`, "\"\x7f\"",
		`"\x"`, `[`, `nul`, `1.`, `"\u00"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vm := goja.New()
		value, err := parseJSON(vm, text)
		if !json.Valid([]byte(text)) {
			return // the reader trusts the parent: it may accept a little more, but never panic
		}
		if err != nil {
			var deep [maxDepthIn]byte
			for i := range deep {
				deep[i] = '['
			}
			if bytes.Contains([]byte(text), deep[:]) {
				return
			}
			t.Fatalf("refuses %q: %v", text, err)
		}
		w := jsonWriter{vm: vm, limit: math.MaxInt32, stopped: new(atomic.Pointer[Error]), what: "it"}
		if w.write(value) != nil {
			return // too deep, or \u0000
		}
		var before, after any
		exact := json.NewDecoder(strings.NewReader(text))
		exact.UseNumber()
		if err := exact.Decode(&before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(w.buf, &after); err != nil || !reflect.DeepEqual(doubles(before), after) {
			t.Errorf("%q became %q (%v)", text, w.buf, err)
		}
	})
}
