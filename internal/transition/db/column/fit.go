package column

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fit is what is to be said about copying one column into another.
type Fit struct {
	Narrow  []string // values of the one that are none of the other
	Lacks   string   // characters of the one that the other does not have: rows tell whether there are any
	Changes []string // what becomes different, although all values fit
}

// Fits compares two columns. Whether one may be NULL is not looked at: the rows tell
// whether there are any.
func Fits(from, to Column) Fit {
	var f Fit
	if why := narrows(from, to); why != "" {
		f.Narrow = append(f.Narrow, fmt.Sprintf("%s does not fit into %s: %s", from.Type.Text, to.Type.Text, why))
	}
	if !from.isText() || !to.isText() {
		return f
	}
	a, b := charset(from.Charset), charset(to.Charset)
	if a != b && !holds(b, a) {
		f.Lacks = fmt.Sprintf("character set %s does not have all characters of %s", b, a)
	}
	if from.Collation != to.Collation && from.Collation != "" && to.Collation != "" {
		f.Changes = append(f.Changes, fmt.Sprintf("collation %s becomes %s: texts that were different may "+
			"count as equal", from.Collation, to.Collation))
	}
	return f
}

func (c Column) isText() bool {
	return c.Type.Kind == Char || c.Type.Kind == Enum || c.Type.Kind == Set
}

// charset gives the name that is told by all versions.
func charset(name string) string {
	if name == "utf8" {
		return "utf8mb3"
	}
	return name
}

// holds reports whether a character set has all characters of another one.
func holds(set, of string) bool {
	switch {
	case set == "utf8mb4" || of == "ascii":
		return true
	case set == "utf8mb3":
		return of == "latin1"
	}
	return false
}

// maxBytes of one character.
func maxBytes(set string) int64 {
	switch charset(set) {
	case "latin1", "ascii", "binary":
		return 1
	case "utf8mb3":
		return 3
	}
	return 4
}

// narrows says why not every value of one column is one of the other; "" when it is.
func narrows(from, to Column) string {
	a, b := from.Type, to.Type
	switch {
	case a.Text == b.Text && a.Kind != Char:
		return ""
	case b.Kind == Char && a.Kind != Bytes && a.Kind != Other:
		return longer(from, to)
	case a.Kind == Integer && b.Kind == Integer:
		return integer(a, b)
	case a.Kind == Integer && b.Kind == Decimal:
		return decimal(Type{Digits: digitsOf(a), Unsigned: a.Unsigned}, b)
	case a.Kind == Decimal && b.Kind == Decimal:
		return decimal(a, b)
	case a.Kind == Integer && b.Kind == Float && a.Bits <= b.Bits, a.Kind == Float && b.Kind == Float && a.Bits <= b.Bits:
		return signs(a, b)
	case b.Kind == Float:
		return "its digits would be rounded"
	case (a.Kind == Enum || a.Kind == Set) && a.Kind == b.Kind:
		return words(a.Words, b.Words)
	case a.Kind == Bytes && b.Kind == Bytes, a.Kind == Bit && b.Kind == Bit:
		return capacity(bytesOf(from)+int64(a.Bits), bytesOf(to)+int64(b.Bits))
	case timely(a.Kind, b.Kind):
		if a.Scale > b.Scale && a.Kind != Date {
			return fmt.Sprintf("fractions of a second of %d digits would be cut to %d", a.Scale, b.Scale)
		}
		return ""
	case a.Kind == DateTime && b.Kind == Stamp:
		return "it has no times before 1970 and after 2038"
	case b.Kind == JSON && a.Kind == Char:
		return "not every text is JSON"
	case a.Kind == b.Kind && a.Kind != Other:
		return ""
	}
	return "it is another kind of value"
}

// timely reports whether each moment of one kind is one of the other.
func timely(a, b Kind) bool {
	return a == b && (a == DateTime || a == Stamp || a == Time) || b == DateTime && (a == Stamp || a == Date)
}

func integer(a, b Type) string {
	bits := func(t Type) int { // of the largest value
		if t.Unsigned {
			return t.Bits
		}
		return t.Bits - 1
	}
	if why := signs(a, b); why != "" {
		return why
	}
	if bits(a) > bits(b) {
		return "its largest numbers do not fit"
	}
	return ""
}

func signs(a, b Type) string {
	if !a.Unsigned && b.Unsigned {
		return "negative numbers do not fit"
	}
	return ""
}

// digitsOf the largest number of an integer type.
func digitsOf(t Type) int {
	if t.Unsigned {
		return len(strconv.FormatUint(1<<t.Bits-1, 10))
	}
	return len(strconv.FormatUint(1<<(t.Bits-1), 10))
}

func decimal(a, b Type) string {
	switch {
	case signs(a, b) != "":
		return signs(a, b)
	case a.Digits-a.Scale > b.Digits-b.Scale:
		return "its largest numbers do not fit"
	case a.Scale > b.Scale:
		return fmt.Sprintf("%d digits after the point would be rounded to %d", a.Scale, b.Scale)
	}
	return ""
}

func words(a, b []string) string {
	var gone []string
	for _, w := range a {
		if !slices.Contains(b, w) {
			gone = append(gone, w)
		}
	}
	if len(gone) > 0 {
		return "it does not have " + strings.Join(gone, ", ")
	}
	return ""
}

// longer looks whether values, written as text, are too long.
func longer(from, to Column) string {
	chars, bytes := lengthOf(from)
	if to.Type.Length > 0 {
		return capacity(chars, to.Type.Length)
	}
	if from.isText() { // the same text may take more bytes there
		each := perChar(charset(from.Charset), charset(to.Charset))
		if from.Type.Kind == Char && from.Type.Length == 0 {
			bytes = bytes * grows(charset(from.Charset), charset(to.Charset)) / 2
		} else {
			bytes = chars * each
		}
	}
	return capacity(bytes, to.Type.Limit)
}

// grows is how many bytes two bytes of a text in one set take in another at most.
func grows(from, to string) int64 {
	unicode := to == "utf8mb3" || to == "utf8mb4"
	switch {
	case from == to, maxBytes(to) == 1:
		return 2
	case unicode && slices.Contains([]string{"utf8mb3", "utf8mb4", "ascii", "utf32"}, from):
		return 2
	case unicode && slices.Contains([]string{"gbk", "gb2312", "gb18030", "big5", "euckr", "ujis", "eucjpms", "ucs2",
		"utf16", "utf16le"}, from):
		return 3 // two bytes of a character become three
	case unicode:
		return 6 // one byte becomes three, in latin1 the sign of the euro, in sjis kana of half width
	}
	return 8
}

// perChar is how many bytes a character of one set takes in another at most.
func perChar(from, to string) int64 {
	most := maxBytes(to)
	switch from {
	case "ascii":
		most = 1
	case "latin1", "utf8mb3":
		most = min(most, 3)
	}
	return most
}

func capacity(need, has int64) string {
	if need > has {
		return fmt.Sprintf("up to %d instead of %d", need, has)
	}
	return ""
}

// lengthOf the longest value of a column, as text.
func lengthOf(c Column) (chars, bytes int64) {
	switch t := c.Type; {
	case t.Kind == Char && t.Length > 0:
		return t.Length, t.Length * maxBytes(c.Charset)
	case t.Kind == Char:
		return t.Limit, t.Limit
	case t.Kind == JSON:
		return 1<<32 - 1, 1<<32 - 1
	case t.Kind == Enum:
		for _, w := range t.Words {
			chars = max(chars, int64(len([]rune(w))))
		}
		return chars, chars * maxBytes(c.Charset)
	case t.Kind == Set:
		chars = int64(len([]rune(strings.Join(t.Words, ","))))
		return chars, chars * maxBytes(c.Charset)
	case t.Kind == Integer:
		n := int64(digitsOf(t))
		if !t.Unsigned {
			n++ // the sign
		}
		return n, n
	case t.Kind == Decimal:
		return int64(t.Digits) + 2, int64(t.Digits) + 2
	}
	return 32, 32 // numbers with exponents, moments
}

func bytesOf(c Column) int64 {
	if c.Type.Length > 0 {
		return c.Type.Length
	}
	return c.Type.Limit
}
