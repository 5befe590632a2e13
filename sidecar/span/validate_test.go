package span

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestValidateTakesAFilledSpan(t *testing.T) {
	t.Parallel()
	s := sample()
	s.Name, s.Code = new(strings.Repeat("é", 1000)), new(strings.Repeat("x", MaxCodeBytes))
	s.Priority, s.Confidence, s.Value = new(-5), new(Decimal("1.0")), new(Decimal("-12.5e3"))
	s.Links = json.RawMessage(" null ")
	if err := s.Seal(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	manyNumbers := json.RawMessage("[" + strings.Repeat("1,", 350_000) + "1]")
	manyInObject := json.RawMessage(`{"a":[` + strings.Repeat("1e300,", 900) + "1]}")
	for want, change := range map[string]func(*Span){
		"id is the nil or the max UUID":    func(s *Span) { s.ID = ID{} },
		"at: the time is not set":          func(s *Span) { s.At = Time{} },
		"owner_id or tenant_id is empty":   func(s *Span) { s.TenantID = "" },
		"seq: -1 is out of range":          func(s *Span) { s.Seq = -1 },
		"entity_type is empty":             func(s *Span) { s.EntityType = "" },
		`entity_type: found "Function"`:    func(s *Span) { s.EntityType = "Function" },
		"who is empty":                     func(s *Span) { s.Who = "" },
		`visibility: found "all"`:          func(s *Span) { s.Visibility = "all" },
		`status: found "1"`:                func(s *Span) { s.Status = new("1") },
		"status has 64 characters":         func(s *Span) { s.Status = new(strings.Repeat("a", 64)) },
		"name has 1001 characters":         func(s *Span) { s.Name = new(strings.Repeat("é", 1001)) },
		"name: the text is not UTF-8":      func(s *Span) { s.Name = new("\xed\xa0\x80") },
		"description: the text holds a":    func(s *Span) { s.Description = new("a\x00") },
		"trace_id is empty":                func(s *Span) { s.TraceID = new("") },
		"code has 262145 bytes":            func(s *Span) { s.Code = new(strings.Repeat("x", MaxCodeBytes+1)) },
		"attempt: 2147483648 is out":       func(s *Span) { s.Attempt = new(1 << 31) },
		"timeout_ms: 0 is out":             func(s *Span) { s.TimeoutMs = new(0) },
		"tags: the text holds a NUL":       func(s *Span) { s.Tags = []string{"a", "\x00"} },
		"scopes has 1001 elements":         func(s *Span) { s.Scopes = make([]string, 1001) },
		"related_to has 1001 elements":     func(s *Span) { s.RelatedTo = make([]ID, 1001) },
		"tags has 80041 bytes":             func(s *Span) { s.Tags = []string{strings.Repeat("x", 80036)} },
		"confidence: 1.01 is not of":       func(s *Span) { s.Confidence = new(Decimal("1.01")) },
		"confidence: -0.5 is not of":       func(s *Span) { s.Confidence = new(Decimal("-0.5")) },
		"cost: 0.":                         func(s *Span) { s.Cost = new(Decimal("1e-39")) },
		"value: 1":                         func(s *Span) { s.Value = new(Decimal("1e38")) },
		"metadata: want an object":         func(s *Span) { s.Metadata = json.RawMessage(`[1]`) },
		"metadata has 273610 bytes":        func(s *Span) { s.Metadata = manyInObject },
		"output has 1050003 bytes of text": func(s *Span) { s.Output = manyNumbers },
		"input at byte 0: 0e-401 is":       func(s *Span) { s.Input = json.RawMessage(`0e-401`) },
		"input.a at byte 6: the string":    func(s *Span) { s.Input = json.RawMessage(`{"a":"\u0000"}`) },
		"curr_hash: found":                 func(s *Span) { s.CurrHash = new(strings.Repeat("A", 64)) },
		"prev_hash is empty":               func(s *Span) { s.PrevHash = new("") },
		"signature stands without":         func(s *Span) { s.Signature = new(strings.Repeat("a", 128)) },
		"at: the year 20000 is not":        func(s *Span) { s.At = year(20000) },
		"the span has 1":                   func(s *Span) { s.Input, s.Content = wide(), wide() },
		"sensitivity: found":               func(s *Span) { s.Sensitivity = new("high") },
		"xact: found":                      func(s *Span) { s.Xact = new("x") },
		"public_key: found":                func(s *Span) { s.PublicKey = new(strings.Repeat("z", 64)) },
		"priority: -2147483649 is out":     func(s *Span) { s.Priority = new(-1<<31 - 1) },
		"sig_alg has 129 characters":       func(s *Span) { s.SigAlg = new(strings.Repeat("x", 129)) },
		"error at byte 0: want a value, f": func(s *Span) { s.Error = json.RawMessage("x") },
	} {
		s := sample()
		change(s)
		refusal := refusalOf(t, s.Validate())
		if !strings.Contains(refusal.Message, want) || refusal.Hint == "" {
			t.Errorf("got %v, want %s", refusal, want)
		}
	}
}

func wide() json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", 600<<10) + `"`) }

// TestLimitsAreTheTables reads the function of the ledger that checks shapes, so that a limit changed
// there is changed here.
func TestLimitsAreTheTables(t *testing.T) {
	t.Parallel()
	sql, err := os.ReadFile("../../sql/src/35_shape.sql")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	length := regexp.MustCompile(`char_length\(p_span\.(\w+)\) (?:> (\d+)|not between (\d+) and (\d+))`)
	for _, match := range length.FindAllSubmatch(sql, -1) {
		name, least, most := string(match[1]), string(match[3]), string(match[2])+string(match[4])
		rule := textRules[name]
		if strconv.Itoa(rule.most) != most || least != "" && strconv.Itoa(rule.least) != least {
			t.Errorf("%s: the table takes %s to %s characters, Validate %d to %d",
				name, least, most, rule.least, rule.most)
		}
		found++
	}
	hash := regexp.MustCompile(`p_span\.(\w+) !~ '\^\[0-9a-f\]\{(\d+)\}\$'`)
	for _, match := range hash.FindAllSubmatch(sql, -1) {
		if rule := textRules[string(match[1])]; strconv.Itoa(rule.least) != string(match[2]) {
			t.Errorf("%s: the table takes %s characters, Validate %d", match[1], match[2], rule.least)
		}
		found++
	}
	size := regexp.MustCompile(`octet_length\(p_span\.(\w+)(?:::text)?\) > (\d+)`)
	limits := map[string]int{"code": MaxCodeBytes, "metadata": MaxMetadataBytes, "links": MaxMetadataBytes,
		"error": MaxMetadataBytes, "scopes": maxArrayBytes, "tags": maxArrayBytes}
	for _, match := range size.FindAllSubmatch(sql, -1) {
		if strconv.Itoa(limits[string(match[1])]) != string(match[2]) {
			t.Errorf("%s: the table takes %s bytes, Validate %d", match[1], match[2], limits[string(match[1])])
		}
		found++
	}
	for _, column := range Columns {
		_, ruled := textRules[column.Name]
		if (column.Type == "text" || column.Type == "xid8") && !ruled {
			t.Errorf("the text column %s has no rule", column.Name)
		}
	}
	if found < 38 {
		t.Errorf("read %d limits of the table, want at least 38", found)
	}
}
