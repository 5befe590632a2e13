package span

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func published() *Published {
	return &Published{
		ID: MustID(functionID), Seq: 3, EntityType: "function", Status: new("scheduled"), OwnerID: "alice",
		TenantID: "acme", Visibility: "private", ParentID: new(RunCodeID), At: NewTime(time.UnixMilli(1000)),
		AcceptedAt: NewTime(time.UnixMilli(2000)), Xact: 1 << 63,
	}
}

func TestWhenMatches(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		``:                                  true,
		`null`:                              true,
		`{}`:                                true,
		`{"entity_type":"function"}`:        true,
		`{"entity_type":["a","function"]}`:  true,
		`{"entity_type":"request"}`:         false,
		`{"not_entity_type":"request"}`:     true,
		`{"not_entity_type":["function"]}`:  false,
		`{"status":"scheduled","seq":[3]}`:  true,
		`{"status":"scheduled","seq":2}`:    false,
		`{"status":null}`:                   false,
		`{"not_status":null}`:               true,
		`{"trace_id":null}`:                 true,
		`{"trace_id":[null,"x"]}`:           true,
		`{"not_trace_id":"x"}`:              true,
		`{"not_trace_id":[null,"x"]}`:       false,
		`{"id":"` + functionID + `"}`:       true,
		`{"not_id":["` + functionID + `"]}`: false,
		`{"parent_id":"00000000-0000-4000-8000-000000000001"}`: true,
		`{"parent_id":null}`:                                        false,
		`{"owner_id":"alice","tenant_id":"acme"}`:                   true,
		`{"owner_id":"bob"}`:                                        false,
		`{"visibility":["tenant","public"]}`:                        false,
		`{"is_deleted":false}`:                                      true,
		`{"not_is_deleted":[false,true]}`:                           false,
		`{"at":"1970-01-01T00:00:01Z"}`:                             true,
		`{"accepted_at":"1970-01-01 00:00:02+00"}`:                  true,
		`{"scheduled_at":null}`:                                     true,
		`{"scheduled_at":"1970-01-01T00:00:01Z"}`:                   false,
		`{"xact":"9223372036854775808"}`:                            true,
		`{"curr_hash":null,"prev_hash":null}`:                       true,
		`{"entity_type":"<engine-written types>"}`:                  false,
		`{"not_entity_type":"<engine-written types>"}`:              true,
		`{"not_entity_type":["<engine-written types>","function"]}`: false,
	} {
		when, err := ParseWhen(json.RawMessage(raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := when.Matches(published()); got != want {
			t.Errorf("%s: got %v", raw, got)
		}
	}
}

func TestEngineTypesAreLeftOut(t *testing.T) {
	t.Parallel()
	when, err := ParseWhen(json.RawMessage(`{"not_entity_type":"<engine-written types>"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, entityType := range EngineTypes {
		if when.Matches(&Published{EntityType: entityType}) {
			t.Errorf("%s matches", entityType)
		}
	}
}

func TestParseWhenRefuses(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`1`:                            "when: want an object",
		`{"status":`:                   "want a value",
		`{"status":1}`:                 "when.status: 1 is not of the type of status",
		`{"status":[]}`:                "when.status: the list is empty",
		`{"status":{"a":1}}`:           "is not of the type",
		`{"entity_type":null}`:         "is not of the type",
		`{"metadata":"x"}`:             "when.metadata: is no published column",
		`{"not_not_status":"x"}`:       "is no published column",
		`{"id":"x"}`:                   "is not of the type",
		`{"seq":-1}`:                   "is not of the type",
		`{"is_deleted":"false"}`:       "is not of the type",
		`{"at":"yesterday"}`:           "is not of the type",
		`{"Status":"x","Entity":null}`: "when.Status: is no published column",
	} {
		_, err := ParseWhen(json.RawMessage(raw))
		refusalOf(t, err)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", raw, err, want)
		}
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	m, row := contractExample(t), published()
	row.EntityType = "note"
	allocations := testing.AllocsPerRun(100, func() {
		for i := range m.Triggers {
			m.Triggers[i].When.Matches(row)
		}
		m.Allows("policy_agent", ActionInsert, "note")
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestPublishedSpan(t *testing.T) {
	t.Parallel()
	p := published()
	s := p.Span()
	if s.Key() != p.Key() || s.StatusText() != "scheduled" || *s.Xact != "9223372036854775808" ||
		*s.AcceptedAt != p.AcceptedAt || s.OwnerID != "alice" || s.TraceID != nil {
		t.Errorf("got %+v", s)
	}
	for _, name := range PublishedColumns {
		if _, known := ColumnNames[name]; !known {
			t.Errorf("%s is no column", name)
		}
	}
}

func FuzzParseWhen(f *testing.F) {
	f.Add([]byte(`{"entity_type":["<engine-written types>"],"not_status":[null,"a"],"seq":1}`))
	f.Add([]byte(`{"id":"` + functionID + `","is_deleted":[true],"at":"1970-01-01T00:00:01Z","xact":"1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		when, err := ParseWhen(raw)
		if err != nil {
			refusalOf(t, err)
			return
		}
		when.Matches(published())
		when.Matches(&Published{})
	})
}

func BenchmarkMatches(b *testing.B) {
	m, row := contractExample(b), published()
	row.EntityType = "note"
	b.ReportAllocs()
	for b.Loop() {
		for i := range m.Triggers {
			m.Triggers[i].When.Matches(row)
		}
	}
}
