package span

import (
	"encoding/json"
	"testing"
)

// textSamples are texts as Postgres prints them (arrays as JSON), by type.
var textSamples = map[string]string{
	"uuid": functionID, "integer": "-41", "text": "a\"b\\c{}é\n",
	"timestamptz": "2026-01-02 03:04:05.123456+00",
	"boolean":     "true", "numeric": "12.50", "jsonb": `{"a": [1, null]}`, "uuid[]": `["` + functionID + `"]`,
	"text[]": `["a\"b", "", "NULL"]`, "xid8": "18446744073709551615",
}

func TestTextRoundTrip(t *testing.T) {
	t.Parallel()
	if len(Columns) != 70 {
		t.Fatalf("there are %d columns, want 70", len(Columns))
	}
	literals := map[string]string{"uuid[]": `{"` + functionID + `"}`, "text[]": `{"a\"b","","NULL"}`,
		"timestamptz": "2026-01-02T03:04:05.123456Z"}
	for _, column := range Columns {
		given, known := textSamples[column.Type]
		if !known {
			t.Fatalf("column %s has the unknown type %q", column.Name, column.Type)
		}
		var s Span
		if err := column.SetText(&s, given); err != nil {
			t.Fatal(err)
		}
		want := given
		if literal, differs := literals[column.Type]; differs {
			want = literal
		}
		if got, present := column.Text(&s); !present || got != want {
			t.Errorf("%s: got %q, %v; want %q", column.Name, got, present, want)
		}
	}
}

func TestTextOfAnEmptySpanIsNull(t *testing.T) {
	t.Parallel()
	always := map[string]bool{"id": true, "seq": true, "entity_type": true, "who": true, "at": true,
		"owner_id": true, "tenant_id": true, "visibility": true, "is_deleted": true}
	for _, column := range Columns {
		if _, present := column.Text(&Span{}); present != always[column.Name] {
			t.Errorf("%s: present is %v", column.Name, present)
		}
	}
	s := Span{Metadata: json.RawMessage("null")}
	if text, present := Columns[ColumnNames["metadata"]].Text(&s); present {
		t.Errorf("JSON null is written as %q", text)
	}
}

// FuzzSetText reads any text into any column; what is taken reads back to the same text.
func FuzzSetText(f *testing.F) {
	for i, column := range Columns {
		f.Add(i, textSamples[column.Type])
	}
	f.Fuzz(func(t *testing.T, place int, text string) {
		if place < 0 || place >= len(Columns) {
			return
		}
		column := Columns[place]
		var s, again Span
		if column.SetText(&s, text) != nil || column.Type == "uuid[]" || column.Type == "text[]" {
			return
		}
		first, present := column.Text(&s)
		if !present {
			return
		}
		if err := column.SetText(&again, first); err != nil {
			t.Fatalf("%s: %q is written as %q, which is refused: %v", column.Name, text, first, err)
		}
		if second, _ := column.Text(&again); second != first {
			t.Fatalf("%s: %q is written as %q, then as %q", column.Name, text, first, second)
		}
	})
}
