package span

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The sizes that the ledger takes.
const (
	MaxSpanBytes     = 1 << 20   // all columns of a span in text form, as Postgres prints them
	MaxCodeBytes     = 256 << 10 // code
	MaxMetadataBytes = 256 << 10 // each of metadata, links and error in text form
	maxArrayElements = 1000      // each of related_to, scopes and tags
	maxArrayBytes    = 64 << 10  // each of scopes and tags in text form
	maxDecimalPoint  = 38        // digits of value and cost on each side of the point
	maxTimeoutMs     = 24 * 3600 * 1000
)

// textRule is what a text column takes. Lengths are in characters, of code in bytes.
type textRule struct {
	least, most int
	form        func(string) bool
	want        string // what form asks for
}

// textRules mirror ledger_private.shape_fault (sql/src/35_shape.sql); a test holds them together.
var textRules = map[string]textRule{
	"entity_type": {1, 63, isTypeName, "a lower case letter, then letters, digits, _ . -"},
	"status":      {1, 63, isStatus, "a letter, then letters, digits, _ . -"},
	"who":         {least: 1, most: 256},
	"owner_id":    {least: 1, most: 200},
	"tenant_id":   {least: 1, most: 200},
	"visibility":  {1, 7, isOneOf("private", "tenant", "public"), "private, tenant or public"},
	"sensitivity": {1, 8, isOneOf("public", "internal", "secret", "pii"), "public, internal, secret or pii"},
	"layer": {1, 9, isOneOf("session", "temporary", "permanent", "shared", "local"),
		"session, temporary, permanent, shared or local"},

	"did": {most: 1000}, "this": {most: 1000}, "confirmed_by": {most: 1000}, "name": {most: 1000},
	"if_ok": {most: 4000}, "if_doubt": {most: 4000}, "if_not": {most: 4000}, "reason": {most: 4000},
	"description": {most: 20000}, "code": {most: MaxCodeBytes},

	"trace_id": {least: 1, most: 256}, "session_id": {least: 1, most: 256}, "model": {least: 1, most: 256},
	"idempotency_key": {least: 1, most: 256}, "app_id": {least: 1, most: 256},
	"device_id": {least: 1, most: 256}, "schema_id": {least: 1, most: 256}, "sig_key_id": {least: 1, most: 256},
	"severity": {least: 1, most: 128}, "kind": {least: 1, most: 128}, "version": {least: 1, most: 128},
	"language": {least: 1, most: 128}, "runtime": {least: 1, most: 128}, "unit": {least: 1, most: 128},
	"sig_alg": {least: 1, most: 128},

	"compiled_hash": hexRule(64), "prev_hash": hexRule(64), "curr_hash": hexRule(64), "public_key": hexRule(64),
	"signature": hexRule(128),
	"xact":      {1, 20, onlyDigits, "digits: it is the database's own"},
}

// Validate refuses a span whose shape the database would refuse, so that one bad row never spoils
// the statement that inserts it with others. It expects a span that is filled in: id, at, who,
// owner and tenant. Who may write what, and when, is the database's own decision. The error is a
// *Refusal, of the first fault in column order.
func (s *Span) Validate() error {
	switch {
	case s.ID.IsZero() || s.ID == maxID:
		return &Refusal{CodeReservedID, "id is the nil or the max UUID",
			"state a UUID, or leave id to ledger.append"}
	case s.At.IsZero():
		return badSpan("at: the time is not set", "state the time of the event")
	case s.OwnerID == "" || s.TenantID == "":
		return &Refusal{CodeNoIdentity, "owner_id or tenant_id is empty", "fill both from the cause or the claims"}
	case s.Signature != nil && (s.CurrHash == nil || s.PublicKey == nil):
		return badSpan("signature stands without curr_hash or public_key", "state all three")
	}
	fields, total := reflect.ValueOf(s).Elem(), 0
	for i := range Columns {
		target := Columns[i].target(fields)
		if target == nil {
			continue
		}
		size, refusal := checkColumn(Columns[i].Name, target)
		if refusal != nil {
			return refusal
		}
		total += size
	}
	if total > MaxSpanBytes {
		return tooLong("the span", total, MaxSpanBytes, "bytes")
	}
	return nil
}

var maxID = MustID("ffffffff-ffff-ffff-ffff-ffffffffffff")

// checkColumn returns the size of the value at target, a pointer to a field of Span, in bytes of its
// text form: at least what the ledger counts.
func checkColumn(name string, target any) (int, *Refusal) {
	switch v := target.(type) {
	case *string:
		return len(*v), checkTextColumn(name, *v)
	case **string:
		if *v == nil {
			return 0, nil
		}
		return len(**v), checkTextColumn(name, **v)
	case *int:
		return 11, checkInteger(name, *v)
	case **int:
		if *v == nil {
			return 0, nil
		}
		return 11, checkInteger(name, **v)
	case *Time:
		return 32, checkYear(name, *v)
	case **Time:
		if *v == nil {
			return 0, nil
		}
		return 32, checkYear(name, **v)
	case **Decimal:
		if *v == nil {
			return 0, nil
		}
		return printedBytes(string(**v)), checkDecimal(name, **v)
	case *json.RawMessage:
		return checkJSONColumn(name, *v)
	case *[]string:
		return checkTextArray(name, *v)
	case *[]ID:
		return 2 + 37*len(*v), checkElements(name, len(*v))
	default:
		return 36, nil
	}
}

func tooLong(name string, size, limit int, unit string) *Refusal {
	return badSpan(fmt.Sprintf("%s has %d %s, the limit is %d", name, size, unit, limit),
		"keep large bodies elsewhere and store their hash")
}

func checkTextColumn(name, text string) *Refusal {
	rule := textRules[name]
	size, unit := len(text), "bytes"
	if name != "code" {
		size, unit = utf8.RuneCountInString(text), "characters"
	}
	switch {
	case size > rule.most:
		return tooLong(name, size, rule.most, unit)
	case size < rule.least:
		return badSpan(name+" is empty", "leave it out, or state it")
	case rule.form != nil && !rule.form(text):
		return badSpan(fmt.Sprintf("%s: found %.60q", name, text), "want "+rule.want)
	}
	return checkText(name, text)
}

// checkText refuses what a text of Postgres cannot hold.
func checkText(name, text string) *Refusal {
	if !utf8.ValidString(text) {
		return badSpan(name+": the text is not UTF-8", "encode the text as UTF-8")
	}
	if strings.IndexByte(text, 0) >= 0 {
		return badSpan(name+": the text holds a NUL byte", "remove it; Postgres cannot store it")
	}
	return nil
}

func checkInteger(name string, n int) *Refusal {
	least, most := 0, math.MaxInt32
	switch name {
	case "priority":
		least = math.MinInt32
	case "timeout_ms":
		least, most = 1, maxTimeoutMs
	}
	if n < least || n > most {
		return badSpan(fmt.Sprintf("%s: %d is out of range", name, n),
			fmt.Sprintf("state a whole number from %d to %d", least, most))
	}
	return nil
}

func checkYear(name string, at Time) *Refusal {
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return badSpan(fmt.Sprintf("%s: the year %d is not of 1 to 9999", name, year), "state a finite time")
	}
	return nil
}

func checkDecimal(name string, d Decimal) *Refusal {
	normal, err := d.Normal()
	if err != nil {
		return badSpan(name+": "+err.Error(), "send a number of JSON's grammar")
	}
	parsed, _ := parseDecimal(string(d))
	if parsed.value().point > maxDecimalPoint || parsed.fraction-parsed.exponent > maxDecimalPoint {
		return badSpan(fmt.Sprintf("%s: %.60s is too long", name, normal),
			fmt.Sprintf("state at most %d digits on each side of the point", maxDecimalPoint))
	}
	if name == "confidence" && normal != "1" && normal != "0" && !strings.HasPrefix(string(normal), "0.") {
		return badSpan(fmt.Sprintf("confidence: %.60s is not of 0 to 1", normal), "state a share of 1")
	}
	return nil
}

func checkJSONColumn(name string, raw json.RawMessage) (int, *Refusal) {
	if isNullJSON(raw) {
		return len("null"), nil
	}
	writer := jsonWriter{out: make([]byte, 0, len(raw))}
	if fault := writer.document(raw); fault != nil {
		return 0, fault.refusal(name)
	}
	limit := MaxSpanBytes
	switch name {
	case "metadata", "links":
		if writer.out[0] != '{' {
			return 0, badSpan(name+": want an object", "put the value under a key of its own")
		}
		limit = MaxMetadataBytes
	case "error":
		limit = MaxMetadataBytes
	}
	size := len(writer.out) + writer.moreBytes
	if size > limit {
		return 0, tooLong(name, size, limit, "bytes of text")
	}
	return size, nil
}

func checkTextArray(name string, elements []string) (int, *Refusal) {
	size := len("{}")
	for _, element := range elements {
		if refusal := checkText(name, element); refusal != nil {
			return 0, refusal
		}
		size += len(`"",`) + len(element) + strings.Count(element, `"`) + strings.Count(element, `\`)
	}
	if size > maxArrayBytes {
		return 0, tooLong(name, size, maxArrayBytes, "bytes of text")
	}
	return size, checkElements(name, len(elements))
}

func checkElements(name string, count int) *Refusal {
	if count > maxArrayElements {
		return tooLong(name, count, maxArrayElements, "elements")
	}
	return nil
}

// isTypeName reports whether name can be an entity type; kernels are named alike.
func isTypeName(name string) bool {
	return name != "" && len(name) <= 63 && 'a' <= name[0] && name[0] <= 'z' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

func isStatus(text string) bool { return isTypeName(strings.ToLower(text)) && isASCII(text) }

func isASCII(text string) bool { return utf8.RuneCountInString(text) == len(text) }

func isOneOf(values ...string) func(string) bool {
	return func(text string) bool { return slices.Contains(values, text) }
}

func hexRule(length int) textRule {
	isHex := func(text string) bool { return strings.Trim(text, "0123456789abcdef") == "" }
	return textRule{length, length, isHex, strconv.Itoa(length) + " characters of lower case hex"}
}
