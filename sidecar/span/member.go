package span

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// What the engine reads and sets on each span are single members of JSON that is well-formed already: jsonb,
// or what the sandbox has written. encoding/json makes a map of all members for that, and goes over the
// bytes twice. What is out of the ordinary (an escape in a key, a key that stands twice) is left to it.

// eachMember calls visit with the key and the value of each member of the object raw, as they stand there. It
// reports false where raw has another form than it reads.
func eachMember(raw []byte, visit func(key, value []byte)) bool {
	return eachItem(raw, '{', '}', func(at int) int {
		end := skipText(raw, at)
		colon := skipSpace(raw, end)
		if end < 0 || colon >= len(raw) || raw[colon] != ':' || bytes.IndexByte(raw[at:end], '\\') >= 0 {
			return -1
		}
		value := skipSpace(raw, colon+1)
		last := skipValue(raw, value)
		if last > 0 {
			visit(raw[at+1:end-1], raw[value:last])
		}
		return last
	})
}

// Elements splits a JSON array into its elements as they stand there, none of which it checks. It reports
// false where raw has another form than it reads.
func Elements(raw json.RawMessage) (elements []json.RawMessage, isArray bool) {
	isArray = eachItem(raw, '[', ']', func(at int) int {
		end := skipValue(raw, at)
		if end > 0 {
			elements = append(elements, json.RawMessage(raw[at:end]))
		}
		return end
	})
	return elements, isArray
}

// eachItem goes over what stands between open and shut. item gets the place where one begins, and returns
// that behind it, or -1.
func eachItem(raw []byte, open, shut byte, item func(at int) int) bool {
	at := skipSpace(raw, 0)
	if at >= len(raw) || raw[at] != open {
		return false
	}
	if at = skipSpace(raw, at+1); at < len(raw) && raw[at] == shut {
		return skipSpace(raw, at+1) == len(raw)
	}
	for at < len(raw) {
		if at = item(at); at < 0 {
			return false
		}
		if at = skipSpace(raw, at); at >= len(raw) {
			return false
		}
		if raw[at] == shut {
			return skipSpace(raw, at+1) == len(raw)
		}
		if raw[at] != ',' {
			return false
		}
		at = skipSpace(raw, at+1)
	}
	return false
}

func skipSpace(raw []byte, at int) int {
	for at >= 0 && at < len(raw) && (raw[at] == ' ' || raw[at] == '\n' || raw[at] == '\t' || raw[at] == '\r') {
		at++
	}
	return at
}

// skipText returns the place behind the string that begins at this place, or -1.
func skipText(raw []byte, at int) int {
	if at >= len(raw) || raw[at] != '"' {
		return -1
	}
	for at++; at < len(raw); at++ {
		switch raw[at] {
		case '"':
			return at + 1
		case '\\':
			at++
		}
	}
	return -1
}

// skipValue returns the place behind the value that begins at this place, or -1.
func skipValue(raw []byte, at int) int {
	if at >= len(raw) {
		return -1
	}
	switch raw[at] {
	case '"':
		return skipText(raw, at)
	case '{', '[':
		for depth := 0; at < len(raw); at++ {
			switch raw[at] {
			case '"':
				if at = skipText(raw, at) - 1; at < 0 {
					return -1
				}
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return at + 1
				}
			}
		}
		return -1
	}
	start := at
	for at < len(raw) && bytes.IndexByte([]byte(" \n\t\r,:]}\"{["), raw[at]) < 0 {
		at++
	}
	if at == start {
		return -1
	}
	return at
}

// SetMember returns the object metadata with its member key set to value, which is compact JSON. Null
// metadata becomes an object; a metadata that is no object is refused with a *Refusal.
func SetMember(metadata json.RawMessage, key string, value json.RawMessage) (json.RawMessage, error) {
	type member struct{ key, value []byte }
	var few [8]member
	members := few[:0]
	if !isNullJSON(metadata) && !eachMember(metadata, func(key, value []byte) {
		members = append(members, member{key, value})
	}) {
		return setAnyMember(metadata, key, value)
	}
	own := []byte(key)
	members = slices.DeleteFunc(members, func(m member) bool { return bytes.Equal(m.key, own) })
	members = append(members, member{own, value})
	slices.SortFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	merged := append(make([]byte, 0, len(metadata)+len(key)+len(value)+len(`{"":,}`)), '{')
	for i, m := range members {
		if i > 0 {
			if bytes.Equal(m.key, members[i-1].key) {
				return setAnyMember(metadata, key, value)
			}
			merged = append(merged, ',')
		}
		merged = append(append(append(merged, '"'), m.key...), '"', ':')
		merged = appendCompact(merged, m.value)
	}
	return append(merged, '}'), nil
}

// appendCompact appends value without the space between its tokens.
func appendCompact(out, value []byte) []byte {
	for at := 0; at < len(value); {
		switch value[at] {
		case ' ', '\n', '\t', '\r':
			at++
		case '"':
			end := skipText(value, at)
			if end < 0 {
				end = len(value)
			}
			out = append(out, value[at:end]...)
			at = end
		default:
			out = append(out, value[at])
			at++
		}
	}
	return out
}

// setAnyMember is SetMember for whatever encoding/json reads.
func setAnyMember(metadata json.RawMessage, key string, value json.RawMessage) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(metadata, &members); err != nil {
		return nil, badSpan("metadata: want an object", "put the value under a key of its own")
	}
	if members == nil { // JSON null
		members = map[string]json.RawMessage{}
	}
	members[key] = value
	merged, err := json.Marshal(members)
	if err != nil {
		return nil, badSpan("metadata: "+err.Error(), "send well-formed JSON (RFC 8259)")
	}
	return merged, nil
}

// member returns the last member of this key of an object, nil where there is none. It reports false where
// raw has another form than it reads.
func member(raw json.RawMessage, key string) (value json.RawMessage, isObject bool) {
	isObject = eachMember(raw, func(k, v []byte) {
		if string(k) == key {
			value = v
		}
	})
	return value, isObject
}

// read sets m from the form that the engine and Postgres write. It reports false for any other form.
func (m *EngineMeta) read(raw []byte) bool {
	isPlain := true
	isObject := eachMember(raw, func(key, value []byte) {
		var err error
		switch string(key) {
		case "cause":
			parts, isArray := Elements(value)
			if isPlain = isPlain && isArray && len(parts) == 2 && m.Cause.ID.readJSON(parts[0]); isPlain {
				m.Cause.Seq, err = strconv.Atoi(string(parts[1]))
			}
		case "root":
			isPlain = isPlain && m.Root.readJSON(value)
		case "depth":
			m.Depth, err = strconv.Atoi(string(value))
		case "kind":
			text := bytes.Trim(value, `"`)
			m.Kind = string(text)
			isPlain = isPlain && len(value) == len(text)+2 && bytes.IndexByte(text, '\\') < 0
		default:
			isPlain = false
		}
		isPlain = isPlain && err == nil
	})
	return isObject && isPlain
}

// readJSON sets id from its text form in quotes.
func (id *ID) readJSON(raw []byte) bool {
	if len(raw) != 38 || raw[0] != '"' || raw[37] != '"' {
		return false
	}
	parsed, err := ParseID(string(raw[1:37]))
	*id = parsed
	return err == nil
}
