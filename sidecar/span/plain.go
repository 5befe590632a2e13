package span

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Most spans that cross a pipe hold texts without escapes, whole numbers and JSON that stays as it is.
// What is said so plainly is read and written here, column by column; the rest is left to encoding/json, so
// that there is one meaning and one list of faults.

// target returns a pointer to the column's field, nil where that is a nil pointer or slice: SQL NULL. Most
// of 70 columns are; asking for the pointer costs more than to know that.
func (c *Column) target(fields reflect.Value) any {
	field := fields.Field(c.field)
	if kind := field.Kind(); (kind == reflect.Pointer || kind == reflect.Slice) && field.IsNil() {
		return nil
	}
	return field.Addr().Interface()
}

// ReadPlain sets the columns that the object raw states. It reports false, and leaves s as it may be by then,
// where raw is not said so plainly that this decides it: a key that is no column, an escape, a null where the
// column has none, a fault.
func (s *Span) ReadPlain(raw json.RawMessage) bool {
	if !utf8.Valid(raw) {
		return false
	}
	fields, isPlain := reflect.ValueOf(s).Elem(), true
	isObject := eachMember(raw, func(key, value []byte) {
		at, isColumn := ColumnNames[string(key)]
		isPlain = isPlain && isColumn && readPlain(fields.Field(Columns[at].field).Addr().Interface(), value)
	})
	return isObject && isPlain
}

// readPlain sets the field of Span at target.
func readPlain(target any, value []byte) bool {
	switch v := target.(type) {
	case *string:
		return plainText(value, v)
	case **string:
		*v = new(string)
		return plainText(value, *v)
	case *int:
		return plainInt(value, v)
	case **int:
		*v = new(int)
		return plainInt(value, *v)
	case *ID:
		return v.readJSON(value)
	case **ID:
		*v = new(ID)
		return (*v).readJSON(value)
	case *[]ID:
		return plainIDs(value, v)
	case *json.RawMessage:
		*v = slices.Clone(value)
		return json.Valid(value)
	}
	return false
}

// plainText reads a string without escapes.
func plainText(value []byte, text *string) bool {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return false
	}
	inner := value[1 : len(value)-1]
	for _, c := range inner {
		if c < 0x20 || c == '"' || c == '\\' {
			return false
		}
	}
	*text = string(inner)
	return true
}

// plainInt reads a whole number that is not negative.
func plainInt(value []byte, n *int) bool {
	if len(value) == 0 || len(value) > 15 || value[0] == '0' && len(value) > 1 {
		return false
	}
	*n = 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		*n = *n*10 + int(c-'0')
	}
	return true
}

func plainIDs(value []byte, ids *[]ID) bool {
	elements, isArray := Elements(value)
	list := make([]ID, len(elements))
	for i, element := range elements {
		isArray = isArray && list[i].readJSON(element)
	}
	*ids = list
	return isArray
}

// PlainKey reads {"id": "…", "seq": 0}, and nothing else.
func PlainKey(raw json.RawMessage) (key Key, isPlain bool) {
	found := 0
	isPlain = EachMember(raw, func(name string, value json.RawMessage) bool {
		found++
		switch name {
		case "id":
			return key.ID.readJSON(value)
		case "seq":
			return plainInt(value, &key.Seq)
		}
		return false
	})
	return key, isPlain && found == 2
}

// PlainID reads a UUID in quotes.
func PlainID(raw json.RawMessage) (id ID, isPlain bool) {
	isPlain = id.readJSON(raw)
	return id, isPlain
}

// EachMember calls visit with each member of an object of JSON, none of which it checks, until one says
// false. It reports false then, and where raw has another form than it reads.
func EachMember(raw json.RawMessage, visit func(key string, value json.RawMessage) bool) bool {
	goesOn := true
	isObject := eachMember(raw, func(key, value []byte) {
		goesOn = goesOn && visit(string(key), value)
	})
	return isObject && goesOn
}

// AppendJSON appends what json.Marshal(s) says, but for the space within JSON columns, which stand as they
// are, and for <, > and &, which need no escape. s must be one that the ledger would take.
func (s *Span) AppendJSON(out []byte) []byte {
	w := jsonWriter{out: append(out, '{')}
	fields := reflect.ValueOf(s).Elem()
	for i := range Columns {
		target := Columns[i].target(fields)
		if target == nil {
			continue
		}
		mark := len(w.out)
		w.out = append(append(append(w.out, '"'), Columns[i].Name...), '"', ':')
		if !w.plain(target) {
			w.out = w.out[:mark]
			continue
		}
		w.out = append(w.out, ',')
	}
	w.out[len(w.out)-1] = '}' // id and others are never absent
	return w.out
}

// plain appends the value at target, a pointer to a field of Span. It returns false for what JSON leaves out.
func (w *jsonWriter) plain(target any) bool {
	switch v := target.(type) {
	case *ID:
		w.id(*v)
	case **ID:
		w.id(**v)
	case *string:
		w.out = appendString(w.out, *v)
	case **string:
		w.out = appendString(w.out, **v)
	case *int:
		w.out = strconv.AppendInt(w.out, int64(*v), 10)
	case **int:
		w.out = strconv.AppendInt(w.out, int64(**v), 10)
	case *bool:
		w.out = strconv.AppendBool(w.out, *v)
	case *Time:
		w.moment(*v)
	case **Time:
		w.moment(**v)
	case **Decimal:
		w.out = append(w.out, **v...)
	case *json.RawMessage:
		w.out = append(w.out, *v...)
		return len(*v) > 0
	case *[]ID:
		_ = w.elements(len(*v), func(i int) *Refusal { w.id((*v)[i]); return nil }) // nothing to refuse
	case *[]string:
		_ = w.elements(len(*v), func(i int) *Refusal { w.out = appendString(w.out, (*v)[i]); return nil })
	default:
		panic("a column has a type that AppendJSON does not know")
	}
	return true
}

// AppendText appends a string as JSON. text must be UTF-8.
func AppendText(out []byte, text string) []byte { return appendString(out, text) }

func (w *jsonWriter) moment(at Time) {
	w.out = append(w.out, '"')
	w.out = at.UTC().AppendFormat(w.out, timeLayout)
	w.out = append(w.out, '"')
}
