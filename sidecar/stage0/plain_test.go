package stage0

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestARunsAnswerIsWhatEncodingJSONSays(t *testing.T) {
	t.Parallel()
	at := span.NewTime(time.Unix(1, 0))
	full := RunResult{OK: true, Output: json.RawMessage(`{"sum": 42}`), Input: json.RawMessage(`"<é>"`),
		DurationMs: 7, Error: &span.RunError{Code: span.RunDenied, Message: "a\nb"},
		Spans: []*span.Span{{}, {EntityType: "note"}}, Reserved: &Reservation{Reason: "rate", RetryAt: &at},
		Settings: &settings{Quota: "drop", Retry: &retry{3, 5}}, RetryAt: &at, GivenUp: 2}
	for i, fields := 0, reflect.ValueOf(full); i < fields.NumField(); i++ {
		if fields.Field(i).IsZero() {
			t.Fatalf("%s is not set here: encode may not know it", fields.Type().Field(i).Name)
		}
	}
	usual := RunResult{Spans: []*span.Span{}, Reserved: &Reservation{Granted: 1}, Settings: &settings{}}
	empty := RunResult{Spans: []*span.Span{}}
	for name, result := range map[string]*RunResult{"full": &full, "usual": &usual, "empty": &empty} {
		encoded, err := result.encode()
		if err != nil {
			t.Fatal(err)
		}
		stated, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(encoded, &got); err != nil {
			t.Fatalf("%s: %s: %v", name, encoded, err)
		}
		if err := json.Unmarshal(stated, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s, want %s", name, encoded, stated)
		}
	}
}

// What is read plainly of a run's target and origin, encoding/json reads too, and as the same.
func FuzzTargetsAreWhatEncodingJSONReads(f *testing.F) {
	const id = `"0190b5f8-0000-7000-8000-000000000001"`
	for _, seed := range []string{
		`{"id":` + id + `,"seq":3,"input":{"a": 1},"cause":{"id":` + id + `,"seq":0}}`,
		`{"id":` + id + `,"causes":[{"id":` + id + `,"seq":0}]}`, `{"ID":` + id + `}`,
		`{"id":` + id + `,"input":tru}`, `{"id":` + id + `,"seq":-1}`, `{"id":` + id + `,"seq":null}`,
		`{"id":` + id + `,"seq":1,"seq":2}`, `{"id":` + id + `,"seq":01}`, `{}`, `null`,
		`{"cause":{"id":` + id + `,"seq":0}}`, `{"cause":null}`, `{"reserve":{"name":"exec","n":1}}`,
		`{"timeout_ms":3}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw := json.RawMessage(text)
		same := func(got, want any) {
			if json.Unmarshal(raw, want) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %+v, want %+v", text, got, want)
			}
		}
		var target runTarget
		if target.readPlain(raw) {
			same(&target, &runTarget{})
		}
		var from origin
		if from.readPlain(raw) {
			same(&from, &origin{})
		}
		var wantOptions runOptions
		options, err := readOptions(raw)
		if (json.Unmarshal(raw, &wantOptions) == nil) != (err == nil) && len(raw) > 0 ||
			err == nil && !reflect.DeepEqual(options, wantOptions) {
			t.Errorf("options %q: got %+v, %v; want %+v", text, options, err, wantOptions)
		}
	})
}
