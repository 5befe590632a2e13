package span

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"lukechampine.com/blake3"
)

// canonName versions the canonical form; it opens every canonical text.
const canonName = "ll-span/1"

// hashedColumns are the columns of the canonical form in the order of RFC 8785: all but
// curr_hash, signature, accepted_at and xact.
var hashedColumns = sortedHashedColumns()

type hashedColumn struct {
	*Column
	prefix string // ,"name":
}

func sortedHashedColumns() []hashedColumn {
	var hashed []hashedColumn
	for i := range Columns {
		switch column := &Columns[i]; column.Name {
		case "curr_hash", "signature", "accepted_at", "xact":
		default:
			hashed = append(hashed, hashedColumn{column, `,"` + column.Name + `":`})
		}
	}
	slices.SortFunc(hashed, func(a, b hashedColumn) int { return strings.Compare(a.Name, b.Name) })
	return hashed
}

// Canonical returns the bytes that are hashed (docs/contract.md §3): the RFC 8785 form of an object
// with "$canon" and every column that is not null, but curr_hash, signature, accepted_at and xact.
//
//   - uuid: 36 lower case characters. Arrays in order; an empty array is not null.
//   - text: as stored, no Unicode normalization.
//   - timestamptz: UTC, six fraction digits, Z; years 0001 to 9999.
//   - numeric: a string, Decimal.Normal of it.
//   - integer, boolean: JSON.
//   - jsonb: RFC 8785, refused where CheckJSON refuses it. A column that holds JSON null counts
//     as null, because no JSON view of a row (to_jsonb, PostgREST) tells the two apart.
//
// The error is a *Refusal.
func (s *Span) Canonical() ([]byte, error) {
	size := 1024 + len(s.Links) + len(s.Content) + len(s.Input) + len(s.Output) + len(s.Error) + len(s.Metadata)
	if s.Code != nil {
		size += len(*s.Code)
	}
	w := jsonWriter{out: make([]byte, 0, size)}
	w.out = append(w.out, `{"$canon":"`+canonName+`"`...)
	fields := reflect.ValueOf(s).Elem()
	for i := range hashedColumns {
		column := &hashedColumns[i]
		target := column.target(fields)
		if target == nil {
			continue
		}
		mark := len(w.out)
		w.out = append(w.out, column.prefix...)
		present, refusal := w.column(column.Name, target)
		if refusal != nil {
			return nil, refusal
		}
		if !present {
			w.out = w.out[:mark]
		}
	}
	return append(w.out, '}'), nil
}

// column appends the value at target, a pointer to a field of Span. It returns false for null.
func (w *jsonWriter) column(name string, target any) (bool, *Refusal) {
	switch v := target.(type) {
	case *ID:
		w.id(*v)
	case **ID:
		if *v == nil {
			return false, nil
		}
		w.id(**v)
	case *string:
		return true, w.textColumn(name, *v)
	case **string:
		if *v == nil {
			return false, nil
		}
		return true, w.textColumn(name, **v)
	case *int:
		w.out = strconv.AppendInt(w.out, int64(*v), 10)
	case **int:
		if *v == nil {
			return false, nil
		}
		w.out = strconv.AppendInt(w.out, int64(**v), 10)
	case *bool:
		w.out = strconv.AppendBool(w.out, *v)
	case *Time:
		return true, w.time(name, *v)
	case **Time:
		if *v == nil {
			return false, nil
		}
		return true, w.time(name, **v)
	case **Decimal:
		if *v == nil {
			return false, nil
		}
		normal, err := (*v).Normal()
		if err != nil {
			return false, badSpan(name+": "+err.Error(), "send a number of JSON's grammar")
		}
		w.out = append(append(append(w.out, '"'), normal...), '"')
	case *json.RawMessage:
		return w.jsonColumn(name, *v)
	case *[]ID:
		return *v != nil, w.elements(len(*v), func(i int) *Refusal { w.id((*v)[i]); return nil })
	case *[]string:
		return *v != nil, w.elements(len(*v), func(i int) *Refusal { return w.textColumn(name, (*v)[i]) })
	default:
		panic(fmt.Sprintf("column %s has a type that Canonical does not know: %T", name, v))
	}
	return true, nil
}

func (w *jsonWriter) elements(count int, element func(int) *Refusal) *Refusal {
	w.out = append(w.out, '[')
	for i := range count {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if refusal := element(i); refusal != nil {
			return refusal
		}
	}
	w.out = append(w.out, ']')
	return nil
}

func (w *jsonWriter) id(id ID) {
	w.out = append(w.out, '"')
	w.out = id.appendText(w.out)
	w.out = append(w.out, '"')
}

func (id ID) appendText(out []byte) []byte {
	for i, part := range [...][]byte{id[0:4], id[4:6], id[6:8], id[8:10], id[10:16]} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, part)
	}
	return out
}

func (w *jsonWriter) time(name string, at Time) *Refusal {
	if refusal := checkYear(name, at); refusal != nil {
		return refusal
	}
	w.moment(at)
	return nil
}

func (w *jsonWriter) textColumn(name, text string) *Refusal {
	if refusal := checkText(name, text); refusal != nil {
		return refusal
	}
	w.out = appendString(w.out, text)
	return nil
}

func (w *jsonWriter) jsonColumn(name string, raw json.RawMessage) (bool, *Refusal) {
	if isNullJSON(raw) {
		return false, nil
	}
	if fault := w.document(raw); fault != nil {
		return false, fault.refusal(name)
	}
	return true, nil
}

// Hash returns the BLAKE3-256 of the canonical form, 64 characters of lower case hex.
func (s *Span) Hash() (string, error) {
	canonical, err := s.Canonical()
	if err != nil {
		return "", err
	}
	sum := blake3.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// Seal sets prev_hash, then curr_hash. prevHash is the curr_hash of version seq-1, nil where that
// one has none. Everything that is hashed, public_key, sig_alg and sig_key_id among it, must be
// set before; signature is void by it, and is set after.
func (s *Span) Seal(prevHash *string) error {
	if s.Seq == 0 && prevHash != nil {
		return &Refusal{CodePrevHash, "seq 0 has no version before it, but a prev_hash", "seal seq 0 with nil"}
	}
	s.PrevHash = prevHash
	hash, err := s.Hash()
	if err != nil {
		return err
	}
	s.CurrHash, s.Signature = &hash, nil
	return nil
}

// VerifyHash returns nil where curr_hash is the hash of s, else an error: a *RunError with
// RunHashMismatch where curr_hash is absent or another, a *Refusal where s has no canonical form.
func (s *Span) VerifyHash() error {
	if s.CurrHash == nil {
		return &RunError{Code: RunHashMismatch, Message: fmt.Sprintf("span %s seq %d has no curr_hash",
			s.ID, s.Seq)}
	}
	hash, err := s.Hash()
	if err != nil {
		return err
	}
	if hash != *s.CurrHash {
		return &RunError{Code: RunHashMismatch, Message: fmt.Sprintf(
			"span %s seq %d states curr_hash %.64s, its content has %s", s.ID, s.Seq, *s.CurrHash, hash)}
	}
	return nil
}
