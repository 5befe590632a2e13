package span

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The sizes that the ledger takes.
const (
	MaxCodeBytes  = 256 << 10 // code
	MaxSpanBytes  = 1 << 20   // all columns in text form
	MaxNameRunes  = 1000      // name
	maxLabelBytes = 1000      // other short texts: some are indexed, and a B-tree entry holds 2704 bytes
)

// Validate refuses a span whose shape the database would refuse, so that one bad row never spoils
// the statement that inserts it with others: sizes, ranges of integers, visibility, texts that
// Postgres cannot hold, JSON that CheckJSON refuses. It expects a span that is filled in: id, at,
// who, owner and tenant. Who may write what is the database's own decision. The error is the first
// *Refusal in column order.
func (s *Span) Validate() error {
	switch {
	case s.ID.IsZero():
		return &Refusal{CodeReservedID, "id is the nil UUID", "state a UUID, or leave id to ledger.append"}
	case s.Seq < 0:
		return badSpan(fmt.Sprintf("seq: %d is negative", s.Seq), "count versions from 0")
	case s.At.IsZero():
		return badSpan("at: the time is not set", "state the time of the event")
	case s.OwnerID == "" || s.TenantID == "":
		return &Refusal{CodeNoIdentity, "owner_id or tenant_id is empty", "fill both from the cause or the claims"}
	case s.EntityType == "" || s.Who == "":
		return badSpan("entity_type or who is empty", "say what the span is and who made it")
	case s.Visibility != "private" && s.Visibility != "tenant" && s.Visibility != "public":
		return badSpan(fmt.Sprintf("visibility: %.40q is unknown", s.Visibility), "use private, tenant or public")
	}
	fields, total := reflect.ValueOf(s).Elem(), 0
	for i := range Columns {
		size, refusal := checkColumn(Columns[i].Name, fields.Field(Columns[i].field).Addr().Interface())
		if refusal != nil {
			return refusal
		}
		total += size
	}
	if total > MaxSpanBytes {
		return badSpan(fmt.Sprintf("the span has %d bytes, the limit is %d", total, MaxSpanBytes),
			"keep large bodies elsewhere and store their hash")
	}
	return nil
}

// checkColumn returns the size of the value at target, a pointer to a field of Span, in bytes.
func checkColumn(name string, target any) (int, *Refusal) {
	switch v := target.(type) {
	case *string:
		return len(*v), checkSize(name, *v)
	case **string:
		if *v == nil {
			return 0, nil
		}
		return len(**v), checkSize(name, **v)
	case *int:
		return 4, checkInteger(name, *v)
	case **int:
		if *v == nil {
			return 0, nil
		}
		return 4, checkInteger(name, **v)
	case *Time:
		return 8, checkYear(name, *v)
	case **Time:
		if *v == nil {
			return 0, nil
		}
		return 8, checkYear(name, **v)
	case **Decimal:
		if *v == nil {
			return 0, nil
		}
		return len(**v), checkDecimal(name, **v)
	case *json.RawMessage:
		if *v == nil {
			return 0, nil
		}
		writer := jsonWriter{out: make([]byte, 0, len(*v))}
		if fault := writer.document(*v); fault != nil {
			return 0, fault.refusal(name)
		}
		return len(*v), nil
	case *[]string:
		total := 0
		for _, element := range *v {
			if refusal := checkSize(name, element); refusal != nil {
				return 0, refusal
			}
			total += len(element)
		}
		return total, nil
	case *[]ID:
		return 16 * len(*v), nil
	default:
		return 16, nil
	}
}

func checkSize(name, text string) *Refusal {
	size, limit, unit := len(text), maxLabelBytes, "bytes"
	switch name {
	case "code":
		limit = MaxCodeBytes
	case "name":
		size, limit, unit = utf8.RuneCountInString(text), MaxNameRunes, "characters"
	case "description", "this", "reason", "confirmed_by", "if_ok", "if_doubt", "if_not":
		limit = MaxSpanBytes
	case "curr_hash", "prev_hash", "public_key":
		return checkHex(name, text, 64)
	case "signature":
		return checkHex(name, text, 128)
	case "xact":
		if _, err := strconv.ParseUint(text, 10, 64); err != nil {
			return badSpan("xact: want a transaction id", "leave xact to the database")
		}
	}
	if size > limit {
		return badSpan(fmt.Sprintf("%s has %d %s, the limit is %d", name, size, unit, limit), "shorten it")
	}
	return checkText(name, text)
}

func checkHex(name, text string, length int) *Refusal {
	if len(text) != length || strings.Trim(text, "0123456789abcdef") != "" {
		return badSpan(fmt.Sprintf("%s: want %d characters of lower case hex", name, length), "leave it out, or encode it so")
	}
	return nil
}

func checkInteger(name string, n int) *Refusal {
	if n > math.MaxInt32 || n < math.MinInt32 || n < 0 && name != "priority" {
		return badSpan(fmt.Sprintf("%s: %d is out of range", name, n), "state a whole number below 2147483648")
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
	if name == "confidence" && normal != "1" && normal != "0" && !strings.HasPrefix(string(normal), "0.") {
		return badSpan(fmt.Sprintf("confidence: %.40s is not of 0 to 1", normal), "state a share of 1")
	}
	return nil
}
