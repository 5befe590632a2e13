package ledger

import (
	"errors"
	"fmt"
	"strings"
)

// ErrStatement is returned by Query for a statement that is no plain read.
var ErrStatement = errors.New("ctx.sql runs one select")

// The settings that say for whom a statement reads (app.user_id, role) can be set by anybody who may call a
// function: set_config, and what runs a text as SQL, such as query_to_xml. No privilege takes those from one
// role. So a statement may call what is named here and nothing else: what it can not name it can not call.
//
// readTokens splits a statement as Postgres does (its scanner, scan.l), for the part of the language that is
// allowed: where Postgres would go on reading in another way, such as E'…', $$…$$ and U&"…", it refuses.

// callable are functions and type names that may stand before a parenthesis. None runs a text as SQL, waits,
// takes a lock, reads a file or a setting, or makes much of little.
var callable = words(`
	count sum avg min max every bool_and bool_or stddev stddev_pop stddev_samp variance var_pop
	var_samp corr percentile_cont percentile_disc mode string_agg array_agg json_agg jsonb_agg
	json_object_agg jsonb_object_agg row_number rank dense_rank percent_rank ntile lag lead
	first_value last_value nth_value coalesce nullif greatest least abs ceil ceiling floor round trunc
	mod power sqrt ln log exp sign div random lower upper initcap length char_length octet_length trim
	btrim ltrim rtrim substring substr left right position strpos replace translate split_part concat
	concat_ws reverse starts_with ascii chr md5 sha256 encode decode regexp_replace regexp_match
	regexp_matches regexp_split_to_array string_to_array now date_trunc date_part extract age
	make_interval make_date make_timestamptz to_char to_date to_timestamp to_number clock_timestamp
	statement_timestamp transaction_timestamp hashtext gen_random_uuid to_json to_jsonb row_to_json
	json_build_object json_build_array jsonb_build_object jsonb_build_array json_array_elements
	json_array_elements_text jsonb_array_elements jsonb_array_elements_text json_array_length
	jsonb_array_length json_each json_each_text jsonb_each jsonb_each_text json_object_keys
	jsonb_object_keys json_typeof jsonb_typeof json_extract_path json_extract_path_text
	jsonb_extract_path jsonb_extract_path_text jsonb_path_query jsonb_path_query_first
	jsonb_path_query_array jsonb_path_exists jsonb_strip_nulls jsonb_set array_length array_position
	array_to_string array_append array_remove cardinality unnest generate_series current_user_id
	current_tenant_id as_of text char character varchar bit numeric decimal float time timestamp
	timestamptz timetz interval date`)

// bracketed are reserved words, which can name no function, after which a parenthesis may stand.
var bracketed = words(`
	all and any array as asc between by case cast cross current_time current_timestamp desc distinct
	else except exists fetch filter for from full group grouping sets cube rollup having ilike in
	inner intersect is join lateral left like limit localtime localtimestamp materialized natural not
	offset on or order over partition recursive right row select similar some symmetric then to union
	using values varying when where window with within xor`)

// naming are the words after which a name with a parenthesis lists columns, or is a type.
var naming = words("as with recursive materialized")

// qualifying are the schemas whose functions and relations a statement may name.
const qualifying = "ledger"

func words(list string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(list) {
		set[word] = true
	}
	return set
}

type tokenKind byte

const (
	tokenWord   tokenKind = 'w' // an unquoted name or key word, in lower case
	tokenName   tokenKind = 'n' // a quoted name
	tokenText   tokenKind = 't'
	tokenNumber tokenKind = '0'
	tokenValue  tokenKind = '$' // a parameter
	tokenSign   tokenKind = 's' // one character of anything else
)

type token struct {
	kind tokenKind
	text string
}

func (t token) is(sign string) bool { return t.kind == tokenSign && t.text == sign }

// named reports whether the token is a name, which a function could have.
func (t token) named() bool { return t.kind == tokenWord || t.kind == tokenName }

// boundedStatement returns the statement that runs in the place of text: the same, but it fails where a row
// is larger than ResultBytesMax, before the row is sent. The error joins ErrStatement.
func boundedStatement(text string) (string, error) {
	text = strings.TrimRight(text, " \t\r\n;")
	if err := checkStatement(text); err != nil {
		return "", err
	}
	// The cast fails with its own text, in which the size stands.
	return fmt.Sprintf("select q.* from (%s\n) as q where pg_column_size(q.*) <= %d or "+
		"('a row has ' || pg_column_size(q.*) || ' bytes, the limit is %[2]d')::boolean", text, ResultBytesMax), nil
}

// checkStatement refuses what is no single select of what a kernel may call.
func checkStatement(text string) error {
	tokens, err := readTokens(text)
	if err != nil {
		return err
	}
	if len(tokens) == 0 || !tokens[0].is("(") && !(tokens[0].kind == tokenWord &&
		(tokens[0].text == "select" || tokens[0].text == "with" || tokens[0].text == "values")) {
		return refuseStatement("it begins with select, with or values")
	}
	depth := 0
	for i, t := range tokens {
		switch {
		case t.is(";"):
			return refuseStatement("it is one statement")
		case t.is("("):
			depth++
			if err := checkCall(tokens[:i]); err != nil {
				return err
			}
		case t.is(")"):
			if depth--; depth < 0 {
				return refuseStatement("a parenthesis closes that was not opened")
			}
		case t.kind == tokenWord && t.text == "into":
			return refuseStatement("it makes no table")
		case t.is(".") && (i == 0 || !tokens[i-1].named()):
			return refuseStatement("a point stands behind a name only, since (value).name calls a function")
		case t.named() && (strings.HasPrefix(t.text, "pg_") || t.text == "information_schema"):
			return refuseStatement("%.60s is the system's: read the ledger", t.text)
		}
	}
	if depth != 0 {
		return refuseStatement("a parenthesis is not closed")
	}
	return nil
}

// checkCall decides on a parenthesis by what stands before it.
func checkCall(before []token) error {
	n := len(before)
	if n == 0 || !before[n-1].named() {
		return nil
	}
	name := before[n-1]
	if n > 1 && before[n-2].is(".") {
		if n > 2 && before[n-3].named() && before[n-3].text == qualifying && (n == 3 || !before[n-4].is(".")) &&
			callable[name.text] {
			return nil
		}
		return refuseStatement("it may not call %.60s", name.text)
	}
	if callable[name.text] || name.kind == tokenWord && bracketed[name.text] {
		return nil
	}
	if n > 1 && before[n-2].kind == tokenWord && naming[before[n-2].text] {
		return nil
	}
	return refuseStatement("it may not call %.60s", name.text)
}

func refuseStatement(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrStatement, fmt.Sprintf(format, args...))
}

// readTokens splits text, or refuses it.
func readTokens(text string) ([]token, error) {
	var tokens []token
	for at := 0; at < len(text); {
		rest := text[at:]
		c := rest[0]
		length, kind := 1, tokenSign
		switch {
		case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
			at++
			continue
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "/*"):
			if length = commentLength(rest); length == 0 {
				return nil, refuseStatement("a comment does not end")
			}
			at += length
			continue
		case c == '\'', c == '"':
			if kind = tokenText; c == '"' {
				kind = tokenName
			}
			if length = quotedLength(rest); length == 0 {
				return nil, refuseStatement("a quotation does not end")
			}
		case c == '$':
			for kind = tokenValue; length < len(rest) && isDigit(rest[length]); length++ {
			}
			if length == 1 {
				return nil, refuseStatement("write texts as '…', not as $$…$$")
			}
		case isDigit(c):
			for kind = tokenNumber; length < len(rest) && (isDigit(rest[length]) || rest[length] == '.' &&
				length+1 < len(rest) && isDigit(rest[length+1])); length++ {
			}
		case isLetter(c):
			for kind = tokenWord; length < len(rest) && (isLetter(rest[length]) || isDigit(rest[length]) ||
				rest[length] == '$'); length++ {
			}
			if err := checkPrefix(rest[:length], rest[length:]); err != nil {
				return nil, err
			}
		case c < ' ', c > '~', c == '\\', c == '`':
			return nil, refuseStatement("%q may stand in quotation marks only", rest[:1])
		}
		tokens = append(tokens, token{kind, unquoted(kind, rest[:length])})
		at += length
	}
	return tokens, nil
}

// checkPrefix refuses the forms of a quotation that are read by other rules.
func checkPrefix(word, rest string) error {
	quoted := strings.HasPrefix(rest, "'") || strings.HasPrefix(rest, "&'") || strings.HasPrefix(rest, `&"`)
	if len(word) == 1 && quoted {
		return refuseStatement("write texts as '…', without %s before", word)
	}
	return nil
}

// commentLength is the length of the comment at the begin of text, 0 where it does not end.
func commentLength(text string) int {
	if strings.HasPrefix(text, "--") {
		if end := strings.IndexAny(text, "\n\r"); end >= 0 {
			return end
		}
		return len(text)
	}
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			if depth--; depth == 0 {
				return i + 2
			}
			i++
		}
	}
	return 0
}

// quotedLength is the length of the quotation at the begin of text; its mark is doubled inside.
func quotedLength(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != text[0] {
			continue
		}
		if i+1 < len(text) && text[i+1] == text[0] {
			i++
			continue
		}
		return i + 1
	}
	return 0
}

func unquoted(kind tokenKind, text string) string {
	switch kind {
	case tokenWord:
		return strings.ToLower(text)
	case tokenName:
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	return text
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }
