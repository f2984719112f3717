package strictyaml

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// words are the texts of YAML 1.1 that are no strings without quotes.
var words = map[string]struct {
	kind Kind
	text string
}{
	"": {Null, ""}, "~": {Null, ""}, "null": {Null, ""}, "Null": {Null, ""}, "NULL": {Null, ""},
	"y": {Bool, "true"}, "Y": {Bool, "true"}, "yes": {Bool, "true"}, "Yes": {Bool, "true"}, "YES": {Bool, "true"},
	"true": {Bool, "true"}, "True": {Bool, "true"}, "TRUE": {Bool, "true"}, "on": {Bool, "true"}, "On": {Bool, "true"}, "ON": {Bool, "true"},
	"n": {Bool, "false"}, "N": {Bool, "false"}, "no": {Bool, "false"}, "No": {Bool, "false"}, "NO": {Bool, "false"},
	"false": {Bool, "false"}, "False": {Bool, "false"}, "FALSE": {Bool, "false"}, "off": {Bool, "false"},
	"Off": {Bool, "false"}, "OFF": {Bool, "false"},
	".nan": {Number, "NaN"}, ".NaN": {Number, "NaN"}, ".NAN": {Number, "NaN"},
	".inf": {Number, "+Inf"}, ".Inf": {Number, "+Inf"}, ".INF": {Number, "+Inf"},
	"+.inf": {Number, "+Inf"}, "+.Inf": {Number, "+Inf"}, "+.INF": {Number, "+Inf"},
	"-.inf": {Number, "-Inf"}, "-.Inf": {Number, "-Inf"}, "-.INF": {Number, "-Inf"},
}

const tagNull, tagBool, tagInt, tagFloat, tagString, tagTime, tagBinary = "!!null", "!!bool", "!!int", "!!float",
	"!!str", "!!timestamp", "!!binary"

// resolve tells what a text without quotes, or with a tag, means in YAML 1.1; ok is
// false for a text that the tag does not take. The rules are those that the library
// had in its second version: its third reads yes and no as strings.
func resolve(tag, s string) (kind Kind, text string, ok bool) {
	switch tag {
	case tagBinary:
		b, err := base64.StdEncoding.DecodeString(s)
		return String, string(b), err == nil
	case "", tagNull, tagBool, tagInt, tagFloat, tagTime:
	default:
		return String, s, true
	}
	kind, text, found := untagged(tag, s)
	if tag == tagFloat && found == tagInt {
		i, err := strconv.ParseInt(text, 10, 64)
		return Number, number(float64(i)), err == nil
	}
	return kind, text, tag == "" || tag == found
}

// untagged does it for a text without a tag, and tells the tag that it would have. Only
// a text without one, or with that of dates, may be a date.
func untagged(tag, s string) (kind Kind, text, found string) {
	if w, ok := words[s]; ok {
		return w.kind, w.text, [...]string{Null: tagNull, Bool: tagBool, Number: tagFloat}[w.kind]
	}
	switch c := s[0]; {
	case c == '.':
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return Number, number(f), tagFloat
		}
	case c == '+' || c == '-' || '0' <= c && c <= '9':
		if (tag == "" || tag == tagTime) && isTime(s) {
			return String, s, tagTime
		}
		return numeric(s)
	}
	return String, s, tagString
}

var decimal = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

func numeric(s string) (kind Kind, text, found string) {
	plain := strings.ReplaceAll(s, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return Number, strconv.FormatInt(i, 10), tagInt
	}
	if u, err := strconv.ParseUint(plain, 0, 64); err == nil {
		return Number, strconv.FormatUint(u, 10), tagInt
	}
	if decimal.MatchString(plain) {
		if f, err := strconv.ParseFloat(plain, 64); err == nil {
			return Number, number(f), tagFloat
		}
	}
	if bits, ok := strings.CutPrefix(plain, "0b"); ok { // with a sign after it, too
		if i, err := strconv.ParseInt(bits, 2, 64); err == nil {
			return Number, strconv.FormatInt(i, 10), tagInt
		}
	}
	return String, s, tagString
}

// number writes one that may have a fraction.
func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// isTime reports whether a text is a date to YAML, which is a string here.
func isTime(s string) bool {
	if len(s) < 5 || s[4] != '-' {
		return false
	}
	for _, form := range [...]string{"2006-1-2T15:4:5.999999999Z07:00", "2006-1-2t15:4:5.999999999Z07:00",
		"2006-1-2 15:4:5.999999999", "2006-1-2"} {
		if _, err := time.Parse(form, s); err == nil {
			return true
		}
	}
	return false
}
