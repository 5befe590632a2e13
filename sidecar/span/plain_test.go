package span

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestAppendJSONIsWhatEncodingJSONSays(t *testing.T) {
	t.Parallel()
	var full Span
	for _, column := range Columns {
		if err := column.SetText(&full, textSamples[column.Type]); err != nil {
			t.Fatal(err)
		}
	}
	empty := Span{RelatedTo: []ID{}, Tags: []string{}, Metadata: json.RawMessage("null"),
		Links: json.RawMessage{}}
	for name, s := range map[string]*Span{"every column": &full, "no column": {}, "empty columns": &empty} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := json.Compact(&got, s.AppendJSON(nil)); err != nil || got.String() != string(want) {
			t.Errorf("%s: got %s, %v\nwant %s", name, got.String(), err, want)
		}
	}
}

// FuzzReadPlainIsWhatEncodingJSONReads: what is read plainly, encoding/json reads too, and as the same.
func FuzzReadPlainIsWhatEncodingJSONReads(f *testing.F) {
	for _, seed := range []string{
		`{"entity_type":"execution","did":"executed","status":"complete","parent_id":"` + functionID +
			`","related_to":["` + functionID + `"],"input":{"a": 41},"duration_ms":0,"trace_id":"é<&>"}`,
		`{"Entity_Type":"note"}`, `{"did":null}`, `{"did":"a\n"}`, `{"did":"` + "\n" + `"}`, `{"seq":01}`,
		`{"seq":-1}`, `{"seq":1.0}`, `{"seq":99999999999999999999}`, `{"input":{]}`, `{"input":tru}`,
		`{"related_to":null}`, `{"related_to":[]}`, `{"parent_id":"x"}`, `{"did":"a","did":"b"}`, `{"nothing":1}`,
		`{"when":"2026-01-02T03:04:05Z"}`,
		`{"did":"` + "\xff" + `"}`, `{"did":"a""b"}`, `{"did":"a"}x`, `{}`, `[]`, `{"is_deleted":true}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got, want Span
		if !got.ReadPlain(json.RawMessage(text)) {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("%q is read as %+v; encoding/json says %v", text, got, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	})
}

func TestWhatKernelsSayIsPlain(t *testing.T) {
	t.Parallel()
	var s Span
	if !s.ReadPlain(json.RawMessage(`{"entity_type":"execution","did":"executed","status":"complete",` +
		`"parent_id":"` + functionID + `","related_to":["` + functionID + `"],"input":{"a":41},"duration_ms":0}`)) {
		t.Error("an execution is left to encoding/json")
	}
	key, isPlain := PlainKey(json.RawMessage(`{"id":"` + functionID + `","seq":3}`))
	if want := (Key{MustID(functionID), 3}); !isPlain || key != want {
		t.Errorf("got %v, %v; want %v", key, isPlain, want)
	}
	for _, other := range []string{`{"id":"` + functionID + `"}`, `{"id":"` + functionID + `","seq":3,"a":1}`,
		`{"id":"x","seq":3}`, `{"id":"` + functionID + `","seq":"3"}`, `null`, ``} {
		if _, isPlain := PlainKey(json.RawMessage(other)); isPlain {
			t.Errorf("%s is plain", other)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	s := Span{ID: MustID(functionID), EntityType: "request", Who: "user:alice", OwnerID: "alice",
		TenantID: "acme", Visibility: "private",
		ParentID: new(MustID(functionID)), Status: new("scheduled"), TraceID: new("load"),
		Input: json.RawMessage(`{"a": 41}`), CurrHash: new(functionID)}
	b.Run("AppendJSON", func(b *testing.B) {
		for b.Loop() {
			s.AppendJSON(make([]byte, 0, 1024))
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			_, _ = json.Marshal(&s)
		}
	})
}
