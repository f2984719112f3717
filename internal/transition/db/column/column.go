// Package column knows the types of columns as MySQL and MariaDB tell them, and
// whether every value of one type is a value of another: what does not fit would be
// cut, rounded or refused in the middle of a copy.
package column

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Column is a column of a table, as information_schema.COLUMNS tells it.
type Column struct {
	Name      string
	Type      Type
	Nullable  bool
	Default   *string // nil: none; the text NULL of MariaDB is none, too
	Auto      bool    // it counts by itself
	Generated bool    // the server makes its values
	Charset   string  // of a text: utf8mb4, utf8mb3 (also told as utf8), latin1, ...
	Collation string
}

// Kind is a family of types.
type Kind string

// Families of types.
const (
	Integer  Kind = "integer"
	Decimal  Kind = "decimal"
	Float    Kind = "float"
	Char     Kind = "char" // CHAR, VARCHAR and the TEXTs
	Bytes    Kind = "bytes"
	Enum     Kind = "enum"
	Set      Kind = "set"
	DateTime Kind = "datetime"
	Stamp    Kind = "timestamp"
	Date     Kind = "date"
	Time     Kind = "time"
	Year     Kind = "year"
	Bit      Kind = "bit"
	JSON     Kind = "json"
	Other    Kind = "other" // only the very same type fits
)

// Type is the type of a column.
type Type struct {
	Text     string // as the server tells it
	Kind     Kind
	Bits     int      // Integer: 8 to 64; Float: 24 or 53 of its precision; Bit: how many
	Unsigned bool     // Integer, Decimal, Float
	Digits   int      // Decimal: all digits
	Scale    int      // Decimal: digits after the point; DateTime, Stamp, Time: of the fraction of a second
	Length   int64    // Char with a length, in characters; Bytes with a length, in bytes; else 0
	Limit    int64    // Char and Bytes without a length: the most bytes
	Words    []string // Enum, Set
}

// sizes of types that have one, bytes; for integers, bits.
var (
	integers = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
	texts    = map[string]int64{"tinytext": 1<<8 - 1, "text": 1<<16 - 1, "mediumtext": 1<<24 - 1, "longtext": 1<<32 - 1}
	blobs    = map[string]int64{"tinyblob": 1<<8 - 1, "blob": 1<<16 - 1, "mediumblob": 1<<24 - 1, "longblob": 1<<32 - 1}
)

// Parse reads COLUMN_TYPE, such as "varchar(255)" or "int(10) unsigned". It knows all
// types; those that it does not understand are Other. An error means text that is no
// type.
func Parse(text string) (Type, error) {
	word, args, rest, err := split(text)
	if err != nil {
		return Type{}, fmt.Errorf("type %.80q: %w", text, err)
	}
	t := Type{Text: text, Kind: Other, Unsigned: slices.Contains(strings.Fields(rest), "unsigned")}
	nums := make([]int, 0, 2)
	for _, a := range args {
		if n, err := strconv.Atoi(strings.TrimSpace(a)); err == nil && n >= 0 {
			nums = append(nums, n)
		}
	}
	first := func(otherwise int) int {
		if len(nums) > 0 {
			return nums[0]
		}
		return otherwise
	}
	switch {
	case integers[word] > 0:
		t.Kind, t.Bits = Integer, integers[word]
	case texts[word] > 0:
		t.Kind, t.Limit = Char, texts[word]
	case blobs[word] > 0:
		t.Kind, t.Limit = Bytes, blobs[word]
	default:
		t.named(word, args, nums, first)
	}
	return t, nil
}

// named fills in a type whose size is not in its name.
func (t *Type) named(word string, args []string, nums []int, first func(int) int) {
	switch word {
	case "char", "varchar":
		t.Kind, t.Length = Char, int64(first(1))
	case "binary", "varbinary":
		t.Kind, t.Length = Bytes, int64(first(1))
	case "decimal", "numeric":
		t.Kind, t.Digits = Decimal, first(10)
		if len(nums) > 1 {
			t.Scale = nums[1]
		}
	case "float":
		t.Kind, t.Bits = Float, 24
	case "double", "real":
		t.Kind, t.Bits = Float, 53
	case "enum", "set":
		t.Kind, t.Words = Kind(word), args
	case "datetime", "timestamp", "time":
		t.Kind, t.Scale = Kind(word), first(0)
	case "date", "year", "json":
		t.Kind = Kind(word)
	case "bit":
		t.Kind, t.Bits = Bit, first(1)
	}
}

// split takes a type apart: its word, what is in brackets, what follows.
func split(text string) (word string, args []string, rest string, err error) {
	text = strings.TrimSpace(text)
	open := strings.IndexByte(text, '(')
	if open < 0 {
		word, rest, _ = strings.Cut(text, " ")
	} else {
		word, text = strings.TrimSpace(text[:open]), text[open+1:]
		if args, rest, err = arguments(text); err != nil {
			return "", nil, "", err
		}
	}
	word = strings.ToLower(word)
	if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_ ") != "" {
		return "", nil, "", fmt.Errorf("want a word and what is in brackets")
	}
	return word, args, strings.ToLower(rest), nil
}

// arguments reads what is in brackets, to the closing one: numbers, or texts in single
// quotes, whose quotes are written twice.
func arguments(text string) (args []string, rest string, err error) {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'' && quoted && i+1 < len(text) && text[i+1] == '\'':
			b.WriteByte(c)
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
			b.WriteByte(c)
		case c == ',' || c == ')':
			args = append(args, b.String())
			b.Reset()
			if c == ')' {
				return args, text[i+1:], nil
			}
		default:
			b.WriteByte(c)
		}
	}
	return nil, "", fmt.Errorf("a bracket is not closed")
}
