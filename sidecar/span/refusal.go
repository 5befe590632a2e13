package span

import "strings"

// Refusal is a span, or a document inside one, that the ledger does not take. It says what is
// wrong, where, and in Hint what to do about it. Find one in an error with errors.As(err,
// **Refusal); several at once arrive joined (errors.Join).
type Refusal struct {
	Code    Code
	Message string // names the column, key or byte offset
	Hint    string // the mend; may be empty
}

// Error returns "LL017: message (hint)".
func (r *Refusal) Error() string {
	var text strings.Builder
	text.WriteString(string(r.Code))
	text.WriteString(": ")
	text.WriteString(r.Message)
	if r.Hint != "" {
		text.WriteString(" (")
		text.WriteString(r.Hint)
		text.WriteByte(')')
	}
	return text.String()
}

func badSpan(message, hint string) *Refusal {
	return &Refusal{Code: CodeBadSpan, Message: message, Hint: hint}
}
