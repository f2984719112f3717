package replicate

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file writes the values of row events as SQL.

// kinds are those whose values are written so that the server finds the same value. Of
// the others a number may be rounded or a form is the server's own.
var kinds = map[column.Kind]bool{
	column.Integer: true, column.Decimal: true, column.Char: true, column.Bytes: true, column.Enum: true, column.Set: true,
	column.DateTime: true, column.Stamp: true, column.Date: true, column.Time: true, column.Year: true, column.Bit: true,
}

// literal writes a value of a row event as SQL. Events tell bits as numbers, whatever
// their sign, words as their places, texts in the charset of their column, and BINARY
// without the zeros at its end.
func literal(c column.Column, v any) (string, error) {
	if v == nil {
		return "NULL", nil
	}
	switch c.Type.Kind {
	case column.Integer, column.Bit, column.Year:
		return number(c, v)
	case column.Enum, column.Set:
		return words(c, v)
	}
	text, ok := bytesOf(v)
	if !ok {
		return "", unexpected(c, v)
	}
	switch c.Type.Kind {
	case column.Char:
		return charLiteral(c.Charset, text), nil
	case column.Bytes:
		if n := c.Type.Length; strings.HasPrefix(strings.ToLower(c.Type.Text), "binary") && int64(len(text)) < n {
			text += strings.Repeat("\x00", int(n)-len(text))
		}
		return fmt.Sprintf("X'%X'", text), nil
	case column.Decimal:
		if text == "" || strings.Trim(text, "-.0123456789") != "" {
			return "", unexpected(c, v)
		}
		return text, nil
	case column.DateTime, column.Stamp, column.Date, column.Time:
		if strings.Trim(text, "-:. 0123456789") != "" {
			return "", unexpected(c, v)
		}
		return "'" + text + "'", nil
	}
	return "", unexpected(c, v)
}

func unexpected(c column.Column, v any) error {
	value := fmt.Sprint(v)
	if text, ok := bytesOf(v); ok {
		value = strconv.Quote(text)
	}
	return fmt.Errorf("column %s of type %s: the binary log has the value %.80s, which is not understood", c.Name, c.Type.Text, value)
}

func bytesOf(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case []byte:
		return string(x), true
	}
	return "", false
}

// charLiteral writes a text that is in a charset of the server's.
func charLiteral(charset, text string) string {
	switch charset {
	case "utf8mb4", "utf8mb3", "utf8", "ascii", "":
		return sqlexpr.Literal(text)
	}
	if strings.Trim(charset, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return sqlexpr.Literal(text) // no charset has such a name
	}
	return fmt.Sprintf("_%s X'%X'", charset, text)
}

func signed(v any) (int64, bool) {
	switch x := v.(type) {
	case int8:
		return int64(x), true
	case int16:
		return int64(x), true
	case int32:
		return int64(x), true
	case int64:
		return x, true
	case int:
		return int64(x), true
	}
	return 0, false
}

func number(c column.Column, v any) (string, error) {
	n, ok := signed(v)
	switch {
	case !ok:
		return "", unexpected(c, v)
	case c.Type.Kind == column.Integer && c.Type.Unsigned && c.Type.Bits < 64:
		return strconv.FormatInt(n&(1<<c.Type.Bits-1), 10), nil
	case c.Type.Kind == column.Integer && c.Type.Unsigned, c.Type.Kind == column.Bit:
		return strconv.FormatUint(uint64(n), 10), nil
	}
	return strconv.FormatInt(n, 10), nil
}

// words writes the words of an ENUM or a SET; 0 is an ENUM's empty text.
func words(c column.Column, v any) (string, error) {
	n, ok := signed(v)
	list := c.Type.Words
	switch {
	case !ok, c.Type.Kind == column.Enum && (n < 0 || n > int64(len(list))):
		return "", unexpected(c, v)
	case c.Type.Kind == column.Enum && n == 0:
		return "''", nil
	case c.Type.Kind == column.Enum:
		return sqlexpr.Literal(list[n-1]), nil
	case len(list) < 64 && uint64(n) > math.MaxUint64>>(64-max(len(list), 1)):
		return "", unexpected(c, v)
	}
	var there []string
	for i, w := range list {
		if uint64(n)&(1<<i) != 0 {
			there = append(there, w)
		}
	}
	return sqlexpr.Literal(strings.Join(there, ",")), nil
}
