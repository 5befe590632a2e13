package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// runeRange holds both of its ends.
type runeRange struct{ from, to rune }

// derived are the properties that the Unicode Standard makes of others (DerivedCoreProperties.txt).
var derived = map[string]struct{ with, without []string }{
	"Alphabetic": {with: []string{"L", "Nl", "Other_Alphabetic", "Lowercase", "Uppercase"}},
	"Lowercase":  {with: []string{"Ll", "Other_Lowercase"}},
	"Uppercase":  {with: []string{"Lu", "Other_Uppercase"}},
	"Cased":      {with: []string{"Lowercase", "Uppercase", "Lt"}},
	"Math":       {with: []string{"Sm", "Other_Math"}},
	"ID_Start":   {with: []string{"L", "Nl", "Other_ID_Start"}, without: patternMarks},
	"ID_Continue": {with: []string{"ID_Start", "Mn", "Mc", "Nd", "Pc", "Other_ID_Continue"},
		without: patternMarks},
}

var patternMarks = []string{"Pattern_Syntax", "Pattern_White_Space"}

// propertyAliases are the short names of what is no general category; package unicode has the others.
var propertyAliases = map[string]string{
	"Alpha": "Alphabetic", "Lower": "Lowercase", "Upper": "Uppercase", "IDS": "ID_Start", "IDC": "ID_Continue",
	"space": "White_Space", "Ideo": "Ideographic", "Hex": "Hex_Digit", "AHex": "ASCII_Hex_Digit",
	"EPres": "Emoji_Presentation", "EMod": "Emoji_Modifier", "EBase": "Emoji_Modifier_Base",
	"EComp": "Emoji_Component", "ExtPict": "Extended_Pictographic", "RI": "Regional_Indicator",
	"Dia": "Diacritic", "QMark": "Quotation_Mark", "STerm": "Sentence_Terminal", "Term": "Terminal_Punctuation",
	"VS": "Variation_Selector", "NChar": "Noncharacter_Code_Point",
}

// propertyRanges returns the code points of \p{text} in order.
func propertyRanges(text string) ([]runeRange, error) {
	key, name, isPair := strings.Cut(text, "=")
	unknown := fmt.Errorf("no property is called %s", cutTo(text, 60))
	switch {
	case !isPair:
		if ranges, ok := namedRanges(text); ok {
			return ranges, nil
		}
	case key == "General_Category" || key == "gc":
		if ranges, ok := categoryRanges(name); ok {
			return ranges, nil
		}
	case key == "Script" || key == "sc":
		if table := unicode.Scripts[name]; table != nil {
			return rangesOf(table), nil
		}
		unknown = fmt.Errorf("%w: scripts have their long names here", unknown)
	case key == "Script_Extensions" || key == "scx":
		unknown = fmt.Errorf("%w: take Script= for it", unknown)
	}
	return nil, unknown
}

// namedRanges are those of a general category or a binary property.
func namedRanges(name string) ([]runeRange, bool) {
	if ranges, ok := categoryRanges(name); ok {
		return ranges, true
	}
	if long := propertyAliases[name]; long != "" {
		name = long
	}
	if ranges, ok := emojiRanges[name]; ok {
		return parseRanges(ranges), true
	}
	if d, ok := derived[name]; ok {
		return subtract(union(d.with), union(d.without)), true
	}
	// The inputs of derived properties are none that ECMAScript has.
	if table := unicode.Properties[name]; table != nil && !strings.HasPrefix(name, "Other_") {
		return rangesOf(table), true
	}
	switch name {
	case "Any":
		return []runeRange{{0, unicode.MaxRune}}, true
	case "ASCII":
		return []runeRange{{0, utf8.RuneSelf - 1}}, true
	case "Assigned":
		return complement(rangesOf(unicode.Categories["Cn"])), true
	}
	return nil, false
}

func categoryRanges(name string) ([]runeRange, bool) {
	if short := unicode.CategoryAliases[name]; short != "" {
		name = short
	}
	table := unicode.Categories[name]
	return rangesOf(table), table != nil
}

func union(names []string) []runeRange {
	var all []runeRange
	for _, name := range names {
		if table := unicode.Properties[name]; table != nil {
			all = append(all, rangesOf(table)...)
		} else if ranges, ok := namedRanges(name); ok {
			all = append(all, ranges...)
		}
	}
	return ordered(all)
}

func subtract(all, without []runeRange) []runeRange {
	return complement(ordered(append(complement(all), without...)))
}

func rangesOf(table *unicode.RangeTable) []runeRange {
	if table == nil {
		return nil
	}
	var all []runeRange
	add := func(from, to, stride rune) {
		if stride == 1 {
			all = append(all, runeRange{from, to})
			return
		}
		for r := from; r <= to; r += stride {
			all = append(all, runeRange{r, r})
		}
	}
	for _, x := range table.R16 {
		add(rune(x.Lo), rune(x.Hi), rune(x.Stride))
	}
	for _, x := range table.R32 {
		add(rune(x.Lo), rune(x.Hi), rune(x.Stride))
	}
	return ordered(all)
}

// ordered sorts ranges and joins those that touch.
func ordered(all []runeRange) []runeRange {
	slices.SortFunc(all, func(a, b runeRange) int { return int(a.from - b.from) })
	var joined []runeRange
	for _, x := range all {
		if n := len(joined); n > 0 && x.from <= joined[n-1].to+1 {
			joined[n-1].to = max(joined[n-1].to, x.to)
			continue
		}
		joined = append(joined, x)
	}
	return joined
}

// complement takes ordered ranges.
func complement(all []runeRange) []runeRange {
	var rest []runeRange
	next := rune(0)
	for _, x := range all {
		if x.from > next {
			rest = append(rest, runeRange{next, x.from - 1})
		}
		next = x.to + 1
	}
	if next <= unicode.MaxRune {
		rest = append(rest, runeRange{next, unicode.MaxRune})
	}
	return rest
}

// parseRanges reads "23 2a 30-39".
func parseRanges(text string) []runeRange {
	var all []runeRange
	for field := range strings.FieldsSeq(text) {
		from, to, isRange := strings.Cut(field, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseInt(from, 16, 32)
		b, errB := strconv.ParseInt(to, 16, 32)
		if errA == nil && errB == nil {
			all = append(all, runeRange{rune(a), rune(b)})
		}
	}
	return all
}
