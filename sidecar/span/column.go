package span

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// timeLayout is the one text form of a time: UTC, six fraction digits, Z (docs/contract.md §3).
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Time is a timestamptz: microseconds, always UTC.
type Time struct{ time.Time }

// NewTime returns t in UTC, cut to the microseconds that Postgres keeps.
func NewTime(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// String returns the canonical form.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// MarshalJSON writes the canonical form.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON reads RFC 3339 and the ISO form that Postgres prints.
func (t *Time) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("decode time: %w", err)
	}
	parsed, err := ParseTime(text)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

// ParseTime reads RFC 3339, or the ISO form that Postgres prints for timestamptz. Digits beyond
// the microsecond are cut.
func ParseTime(text string) (Time, error) {
	layouts := isoLayouts[:1]
	if len(text) > 10 && text[10] == ' ' {
		layouts = isoLayouts[1:]
	}
	for _, layout := range layouts {
		if parsed, err := time.Parse(layout, text); err == nil {
			return NewTime(parsed), nil
		}
	}
	return Time{}, fmt.Errorf("parse time %.40q: want RFC 3339, for example %s", text, timeLayout)
}

// isoLayouts are what ParseTime reads. Postgres prints the second form where the offset is whole hours.
var isoLayouts = [...]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999-07",
	"2006-01-02 15:04:05.999999999Z07:00"}

// Decimal is a numeric column: exact decimal text. JSON carries it as a number and reads it from
// a number or a string; the canonical form writes it as a string (docs/contract.md §3).
type Decimal string

// MarshalJSON writes the number.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(d), nil }

// UnmarshalJSON reads a number or a string that holds one.
func (d *Decimal) UnmarshalJSON(raw []byte) error {
	text := Decimal(strings.Trim(string(raw), `"`))
	if _, err := text.Normal(); err != nil {
		return err
	}
	*d = text
	return nil
}

// Column is one column of ledger.universal_registry.
type Column struct {
	Name string
	// Type is the Postgres type: uuid, integer, text, timestamptz, xid8, boolean, numeric,
	// jsonb, uuid[] or text[].
	Type  string
	field int
}

// Columns lists the 70 columns in table order. It must not be changed.
var Columns = columnsOf(reflect.TypeOf(Span{}))

// ColumnNames maps a column's name to its place in Columns.
var ColumnNames = namesOf(Columns)

func columnsOf(spanType reflect.Type) []Column {
	postgresTypes := map[string]string{
		"ID": "uuid", "Time": "timestamptz", "Decimal": "numeric", "RawMessage": "jsonb",
		"int": "integer", "string": "text", "bool": "boolean",
	}
	columns := make([]Column, spanType.NumField())
	for i := range columns {
		field := spanType.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		base, suffix := field.Type, ""
		switch {
		case base.Name() == "RawMessage" || base.Name() == "ID":
		case base.Kind() == reflect.Slice:
			base, suffix = base.Elem(), "[]"
		case base.Kind() == reflect.Pointer:
			base = base.Elem()
		}
		columns[i] = Column{Name: name, Type: postgresTypes[base.Name()] + suffix, field: i}
		if name == "xact" {
			columns[i].Type = "xid8"
		}
	}
	return columns
}

func namesOf(columns []Column) map[string]int {
	names := make(map[string]int, len(columns))
	for i, column := range columns {
		names[column.Name] = i
	}
	return names
}

// Text returns the value of column c in s in the text form that Postgres reads for the column's
// type, and false where the value is NULL. JSON null is NULL in a jsonb column, as for PostgREST.
func (c Column) Text(s *Span) (string, bool) {
	switch v := c.target(reflect.ValueOf(s).Elem()).(type) {
	case nil:
		return "", false
	case *ID:
		return v.String(), true
	case **ID:
		if *v == nil {
			return "", false
		}
		return (*v).String(), true
	case *string:
		return *v, true
	case **string:
		if *v == nil {
			return "", false
		}
		return **v, true
	case *int:
		return strconv.Itoa(*v), true
	case **int:
		if *v == nil {
			return "", false
		}
		return strconv.Itoa(**v), true
	case *bool:
		return strconv.FormatBool(*v), true
	case *Time:
		return v.String(), true
	case **Time:
		if *v == nil {
			return "", false
		}
		return (*v).String(), true
	case **Decimal:
		if *v == nil {
			return "", false
		}
		return string(**v), true
	case *json.RawMessage:
		return string(*v), !isNullJSON(*v)
	case *[]ID:
		texts := make([]string, len(*v))
		for i, id := range *v {
			texts[i] = id.String()
		}
		return arrayLiteral(texts), *v != nil
	case *[]string:
		return arrayLiteral(*v), *v != nil
	default:
		panic(fmt.Sprintf("column %s has a type that Text does not know: %T", c.Name, v))
	}
}

// SetText sets column c of s from text: the form that Postgres prints, but JSON for array columns
// (select them as to_jsonb(column)).
func (c Column) SetText(s *Span, text string) error {
	target := reflect.ValueOf(s).Elem().Field(c.field).Addr().Interface()
	var err error
	switch v := target.(type) {
	case *ID:
		*v, err = ParseID(text)
	case **ID:
		var id ID
		id, err = ParseID(text)
		*v = &id
	case *string:
		*v = text
	case **string:
		*v = &text
	case *int:
		*v, err = strconv.Atoi(text)
	case **int:
		var n int
		n, err = strconv.Atoi(text)
		*v = &n
	case *bool:
		*v = text == "t" || text == "true"
	case *Time:
		*v, err = ParseTime(text)
	case **Time:
		var at Time
		at, err = ParseTime(text)
		*v = &at
	case **Decimal:
		*v = new(Decimal(text))
	case *json.RawMessage:
		*v = json.RawMessage(text)
	case *[]ID, *[]string:
		err = json.Unmarshal([]byte(text), v)
	default:
		panic(fmt.Sprintf("column %s has a type that SetText does not know: %T", c.Name, v))
	}
	if err != nil {
		return fmt.Errorf("read column %s: %w", c.Name, err)
	}
	return nil
}

// arrayLiteral writes a one-dimensional Postgres array literal
// (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).
func arrayLiteral(elements []string) string {
	var literal strings.Builder
	literal.WriteByte('{')
	for i, element := range elements {
		if i > 0 {
			literal.WriteByte(',')
		}
		literal.WriteByte('"')
		for j := 0; j < len(element); j++ {
			if element[j] == '"' || element[j] == '\\' {
				literal.WriteByte('\\')
			}
			literal.WriteByte(element[j])
		}
		literal.WriteByte('"')
	}
	literal.WriteByte('}')
	return literal.String()
}
