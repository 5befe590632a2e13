package span

import (
	"encoding/json"
	"reflect"
	"testing"
)

func FuzzMembersAreWhatEncodingJSONReads(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, ` { } `, `{"a":1}`, `{"a": "x\"}", "b" : [1, {"c": "]"}] , "engine":{}}`, `{"a":1,"a":2}`,
		`{"engi\u006ee":{"depth":1}}`, `{"a":1}x`, `[1]`, `{"a" 1}`, `{"a":}`, `{"a":1,}`, `{"z":tru}`, `{"a":"`,
		`{"engine":{"cause":["0190b5f8-0000-7000-8000-000000000001", 4],"root":` +
			`"0190b5f8-0000-7000-8000-000000000002","depth":2,"kind":"request"}}`,
		`{"engine": {"kind": "policy", "root": "0190b5f8-0000-7000-8000-000000000002", "cause": ` +
			`["0190b5f8-0000-7000-8000-000000000001", 4], "depth": 2}, "note": "a"}`,
		`{"engine":{"Cause":["0190b5f8-0000-7000-8000-000000000001",1],"kind":"a\n"}}`,
		`{"engine":{"cause":["0190b5f8-0000-7000-8000-000000000001",1.0]}}`,
		`{"engine":{"cause":null,"kind":null}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw := json.RawMessage(text)
		if !json.Valid(raw) || CheckJSON(raw) != nil {
			eachMember(raw, func(_, _ []byte) {}) // it ends, and no more is asked
			Elements(raw)
			return
		}
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(raw, &want)
		merged, err := SetMember(raw, "own", json.RawMessage(`[1]`))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: got %v, encoding/json says %v", text, err, wantErr)
		}
		if err != nil {
			return
		}
		if want == nil {
			want = map[string]json.RawMessage{}
		}
		meta, found := (&Span{Metadata: raw}).Engine()
		var wantMeta EngineMeta
		isMeta := want["engine"] != nil && json.Unmarshal(want["engine"], &wantMeta) == nil &&
			!wantMeta.Cause.ID.IsZero()
		if found != isMeta || found && *meta != wantMeta {
			t.Errorf("%s: engine is %+v, encoding/json reads %+v", text, meta, wantMeta)
		}
		want["own"] = json.RawMessage(`[1]`)
		encoded, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var gotValue, wantValue any
		if json.Unmarshal(merged, &gotValue) != nil || json.Unmarshal(encoded, &wantValue) != nil ||
			!reflect.DeepEqual(gotValue, wantValue) {
			t.Errorf("%s: got %s, want %s", text, merged, encoded)
		}
	})
}

func FuzzElementsAreWhatEncodingJSONReads(f *testing.F) {
	for _, seed := range []string{`[]`, ` [ ] `, `[1, "a,]", {"b": [2]}]`, `{}`, `[1,]`, `[`, `[[[]]]`,
		`["\\"]`, `null`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		elements, isArray := Elements(json.RawMessage(text))
		if !json.Valid([]byte(text)) {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil || want == nil {
			if isArray {
				t.Errorf("%s is no array, and was split", text)
			}
			return
		}
		if !isArray || len(elements) != len(want) {
			t.Fatalf("%s: got %q, %v, want %q", text, elements, isArray, want)
		}
		for i := range want {
			if string(elements[i]) != string(want[i]) {
				t.Errorf("%s: element %d is %s, want %s", text, i, elements[i], want[i])
			}
		}
	})
}

func BenchmarkEngineMeta(b *testing.B) {
	meta := EngineMeta{Cause: Key{MustID(functionID), 4}, Root: RunCodeID, Depth: 2, Kind: "request"}
	metadata := json.RawMessage(`{"function":{"id":"` + functionID + `","seq":0}}`)
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			if _, err := SetEngine(metadata, meta); err != nil {
				b.Fatal(err)
			}
		}
	})
	set, err := SetEngine(metadata, meta)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, found := (&Span{Metadata: set}).Engine(); !found {
				b.Fatal("not found")
			}
		}
	})
}
