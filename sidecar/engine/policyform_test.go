package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
)

// What the author of a policy states is read, or he is told.
func TestNothingOfAPolicyIsPassedOverInSilence(t *testing.T) {
	t.Parallel()
	const looks = "looks like "
	for _, c := range []struct{ metadata, system, user string }{ // what each is told
		{`null`, "", ""},
		{`{}`, "", ""},
		{`{"then":{},"who":1,"notes":"mine","ttl":1,"where":"x","a":1,"et":2,"win":1}`, "", ""},
		{`{"when":{"entity_type":"note"}}`, "", ""},
		{`{"when":null,"every":null,"at":null}`, "", ""},
		{`{"every":"hour"}`, "names entity_type", ""},
		{`{"every":"day","at":"02:00"}`, "names entity_type", ""},
		{`{"every":"hour","per":"owner","window":"none","when":{"entity_type":"note"}}`, "", "of the system's"},
		{`{"every":"hour","when":{"entity_type":"note"}}`, "", "when beside every"},
		{`{"every":"hour","per":"owner"}`, "names entity_type", "per beside every"},
		{`{"every":"hour","window":"at"}`, "names entity_type", "window beside every"},
		{`{"whne":{"entity_type":"note"}}`, looks + "when", looks + "when"},
		{`{"hwen":{}}`, looks + "when", looks + "when"},
		{`{"wen":{}}`, looks + "when", looks + "when"},
		{`{"wheen":{}}`, looks + "when", looks + "when"},
		{`{"whem":{}}`, looks + "when", looks + "when"},
		{`{"When":{}}`, looks + "when", looks + "when"},
		{`{"evrey":"hour"}`, looks + "every", looks + "every"},
		{`{"ever":"hour"}`, looks + "every", looks + "every"},
		{`{"every":"hour","windw":"at"}`, looks + "window", looks + "window"},
		{`{"every":"day","AT":"02:00"}`, looks + "at", looks + "at"},
		{`{"at":"02:00"}`, "state every", "state every"},
		{`{"per":"owner"}`, "state every", "state every"},
		{`{"window":"none"}`, "state every", "state every"},
		{`{"fill":"all"}`, "state every", "state every"},
		{`{"every":"hour","fill":"all","fill_max":5}`, "names entity_type", ""},
		{`{"every":"hour","fill":"some"}`, "want none, last or all", "want none, last or all"},
		{`{"every":"hour","fill_max":5}`, "is of fill all", "is of fill all"},
		{`{"every":"hour","fill":"all","fill_max":0}`, "want 1 to 1000", "want 1 to 1000"},
		{`{"every":"hour","fil":"all"}`, looks + "fill", looks + "fill"},
		{`{"every":""}`, "want minute", "want minute"},
		{`[]`, "decode", "decode"},
	} {
		for owner, want := range map[string]string{"system": c.system, "alice": c.user} {
			row := &span.Span{OwnerID: owner, TenantID: owner, Metadata: json.RawMessage(c.metadata)}
			_, err := readPolicy(row)
			if want == "" && err != nil {
				t.Errorf("%s of %s: %v", c.metadata, owner, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s of %s: got %v, want %q", c.metadata, owner, err, want)
			}
		}
	}
}
