package span

import (
	"fmt"
	"strconv"
	"strings"
)

// The digits that a Postgres numeric holds before and after the point
// (https://www.postgresql.org/docs/current/datatype-numeric.html).
const (
	maxDecimalWhole    = 131072
	maxDecimalFraction = 16383
)

// Normal returns the one text form of d's value: plain digits without exponent, no leading zeros,
// no zeros at the end of the fraction, no point without fraction, no "-0". It is what Postgres
// prints for trim_scale(column).
//
// The display scale is left out on purpose: 1.50 and 1.5 are equal in SQL, and a client that reads
// a row with JSON.parse cannot tell them apart, so they must hash alike. NaN, infinities and what
// numeric cannot hold are refused.
func (d Decimal) Normal() (Decimal, error) {
	parsed, ok := parseDecimal(string(d))
	if !ok {
		return "", fmt.Errorf("read decimal %.40q: want digits, for example -12.5", string(d))
	}
	v := parsed.value()
	// The value is 0.digits × 10^point; count what stands on each side of the point, as stated.
	if v.point > maxDecimalWhole || parsed.fraction-parsed.exponent > maxDecimalFraction ||
		len(v.digits)-v.point > maxDecimalFraction {
		return "", fmt.Errorf("read decimal %.40q: Postgres holds %d digits before the point and %d after",
			string(d), maxDecimalWhole, maxDecimalFraction)
	}
	var text strings.Builder
	if v.negative {
		text.WriteByte('-')
	}
	switch count := len(v.digits); {
	case count == 0:
		text.WriteByte('0')
	case v.point <= 0:
		text.WriteString("0.")
		text.WriteString(strings.Repeat("0", -v.point))
		text.WriteString(v.digits)
	case v.point >= count:
		text.WriteString(v.digits)
		text.WriteString(strings.Repeat("0", v.point-count))
	default:
		text.WriteString(v.digits[:v.point])
		text.WriteByte('.')
		text.WriteString(v.digits[v.point:])
	}
	return Decimal(text.String()), nil
}

// decimal is a number's text taken apart: the digits, of which the last fraction ones stand after
// the point, times 10^exponent.
type decimal struct {
	negative bool
	digits   string
	fraction int
	exponent int
}

// decimalValue is 0.digits × 10^point with neither leading nor trailing zeros: equal for equal
// values. Zero has no digits.
type decimalValue struct {
	negative bool
	digits   string
	point    int
}

// parseDecimal reads the number grammar of JSON, leading zeros allowed.
func parseDecimal(text string) (decimal, bool) {
	var d decimal
	text, d.negative = strings.CutPrefix(text, "-")
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		var err error
		if d.exponent, err = strconv.Atoi(text[e+1:]); err != nil || max(d.exponent, -d.exponent) > 1<<20 {
			return d, false
		}
		text = text[:e]
	}
	whole, fraction, hasPoint := strings.Cut(text, ".")
	if !onlyDigits(whole) || hasPoint && !onlyDigits(fraction) {
		return d, false
	}
	d.digits, d.fraction = whole+fraction, len(fraction)
	return d, true
}

func onlyDigits(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}

func (d decimal) value() decimalValue {
	significant := strings.TrimLeft(d.digits, "0")
	point := len(significant) - d.fraction + d.exponent
	v := decimalValue{d.negative, strings.TrimRight(significant, "0"), point}
	if v.digits == "" {
		return decimalValue{}
	}
	return v
}

// printedBytes is how long Postgres prints a number of JSON's grammar, at most: digits without exponent,
// with all decimals that were stated. What does not parse has 0.
func printedBytes(number string) int {
	d, ok := parseDecimal(number)
	if !ok {
		return 0
	}
	size := 1 + max(1, d.value().point) // its sign
	if decimals := d.fraction - d.exponent; decimals > 0 {
		size += 1 + decimals
	}
	return size
}
