package span

import (
	"encoding/json"
	"testing"
)

func TestSetEngineAndEngine(t *testing.T) {
	t.Parallel()
	meta := EngineMeta{Cause: Key{MustID(functionID), 4}, Root: RunCodeID, Depth: 2, Kind: "request"}
	const engine = `"engine":{"cause":["` + functionID + `",4],"root":"00000000-0000-4000-8000-000000000001",` +
		`"depth":2,"kind":"request"}`
	for given, want := range map[string]string{
		``:                        `{` + engine + `}`,
		`null`:                    `{` + engine + `}`,
		`{}`:                      `{` + engine + `}`,
		`{"z": [1, 2.50], "a":1}`: `{"a":1,` + engine + `,"z":[1,2.50]}`,
		`{"engine": "forged"}`:    `{` + engine + `}`,
	} {
		var metadata json.RawMessage
		if given != "" {
			metadata = json.RawMessage(given)
		}
		merged, err := SetEngine(metadata, meta)
		if err != nil || string(merged) != want {
			t.Errorf("%s: got %s, %v; want %s", given, merged, err, want)
		}
		got, found := (&Span{Metadata: merged}).Engine()
		if !found || *got != meta {
			t.Errorf("%s: read back as %+v", given, got)
		}
	}
	_, err := SetEngine(json.RawMessage(`[1]`), meta)
	refusalOf(t, err)
}

func TestEngineIsAbsent(t *testing.T) {
	t.Parallel()
	for _, metadata := range []string{``, `null`, `{}`, `[]`, `{"Engine":{"cause":["` + functionID + `",0]}}`,
		`{"note":"engine"}`, `{"engine":1}`, `{"engine":null}`, `{"engine":{}}`, `{"engine":{"cause":[1,2,3]}}`,
		`{"a":{"engine":{"cause":["` + functionID + `",0]}}}`} {
		if meta, found := (&Span{Metadata: json.RawMessage(metadata)}).Engine(); found {
			t.Errorf("%s: found %+v", metadata, meta)
		}
	}
}
