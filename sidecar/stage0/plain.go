package stage0

import (
	"encoding/json"
	"strconv"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What the kernels say and hear with each request is read and written here, where it is said as plainly as
// they say it; anything else is left to encoding/json.

// readPlain sets k from {"id": "…", "seq": 0}.
func (k *keyText) readPlain(raw json.RawMessage) bool {
	key, isPlain := span.PlainKey(raw)
	*k = keyText{key.ID, key.Seq}
	return isPlain
}

// readPlain sets o from {"cause": {id, seq}}.
func (o *origin) readPlain(raw json.RawMessage) bool {
	return span.EachMember(raw, func(key string, value json.RawMessage) bool {
		o.Cause = &keyText{}
		return key == "cause" && o.Cause.readPlain(value)
	})
}

// readPlain sets t from {"id": "…", "seq": 0, "input": {}, "cause": {id, seq}}.
func (t *runTarget) readPlain(raw json.RawMessage) bool {
	return span.EachMember(raw, func(key string, value json.RawMessage) (isPlain bool) {
		switch key {
		case "id":
			t.ID, isPlain = span.PlainID(value)
		case "seq":
			seq, err := strconv.Atoi(string(value))
			t.Seq, isPlain = &seq, err == nil && strconv.Itoa(seq) == string(value)
		case "input":
			t.Input, isPlain = value, json.Valid(value)
		case "cause":
			t.Cause = &keyText{}
			isPlain = t.Cause.readPlain(value)
		}
		return isPlain
	})
}

func readTarget(raw json.RawMessage) (runTarget, error) {
	var target runTarget
	if target.readPlain(raw) {
		return target, nil
	}
	target = runTarget{}
	if err := json.Unmarshal(raw, &target); err != nil {
		return target, denied("run: want {id, seq, input, cause}")
	}
	return target, nil
}

func readOptions(raw json.RawMessage) (runOptions, error) {
	var options runOptions
	isPlain := raw == nil || span.EachMember(raw, func(key string, value json.RawMessage) bool {
		options.Reserve = value
		return key == "reserve" && string(value) == oneRun
	})
	if isPlain {
		return options, nil
	}
	options = runOptions{}
	if json.Unmarshal(raw, &options) != nil {
		return options, denied("run: the options must be {timeout_ms, reserve}")
	}
	return options, nil
}

// encode is what json.Marshal says of r.
func (r *RunResult) encode() (json.RawMessage, error) {
	out := make([]byte, 0, 256+len(r.Output)+len(r.Input)+1024*len(r.Spans))
	out = strconv.AppendBool(append(out, `{"ok":`...), r.OK)
	out = strconv.AppendInt(append(out, `,"duration_ms":`...), r.DurationMs, 10)
	if len(r.Output) > 0 {
		out = append(append(out, `,"output":`...), r.Output...)
	}
	if len(r.Input) > 0 {
		out = append(append(out, `,"input":`...), r.Input...)
	}
	if r.GivenUp != 0 {
		out = strconv.AppendInt(append(out, `,"given_up":`...), int64(r.GivenUp), 10)
	}
	out = append(out, `,"spans":[`...)
	for i, s := range r.Spans {
		if i > 0 {
			out = append(out, ',')
		}
		out = s.AppendJSON(out)
	}
	out = append(out, ']')
	for _, seldom := range []struct {
		key    string
		value  any
		exists bool
		plain  string
	}{
		{"error", r.Error, r.Error != nil, ""},
		{"reserved", r.Reserved, r.Reserved != nil, r.Reserved.plain()},
		{"settings", r.Settings, r.Settings != nil, r.Settings.plain()},
		{"retry_at", r.RetryAt, r.RetryAt != nil, ""},
	} {
		if !seldom.exists {
			continue
		}
		encoded := []byte(seldom.plain)
		if len(encoded) == 0 {
			var err error
			if encoded, err = json.Marshal(seldom.value); err != nil {
				return nil, err
			}
		}
		out = append(append(out, `,"`+seldom.key+`":`...), encoded...)
	}
	return append(out, '}'), nil
}

// plain is the JSON of the reservation that most have.
func (r *Reservation) plain() string {
	if r != nil && *r == (Reservation{Granted: 1}) {
		return `{"granted":1}`
	}
	return ""
}

// plain is the JSON of the settings that most have.
func (s *settings) plain() string {
	if s != nil && *s == (settings{}) {
		return "{}"
	}
	return ""
}
