package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file writes the checksums of rows.

// SourceSum is the statement for the number of mapped rows and their checksum (two
// numbers), the same for the same rows in any order; more as for Select.
func (p *Planned) SourceSum(more string) string { return sum(p.sourceDigest(), p.rows(more)) }

// TargetSum is SourceSum of the target's rows; more is a condition on its columns.
func (p *Planned) TargetSum(more string) string { return sum(p.targetDigest(), p.inTarget(more)) }

// SourceRows is the statement for the key of each mapped row and a digest of the row; more
// as for Select.
func (p *Planned) SourceRows(more string) string {
	return "SELECT " + strings.Join(owns(p.Key), ", ") + ", " + p.sourceDigest() + p.rows(more)
}

// TargetRows is SourceRows of the target's rows, with the source's key, of the columns that
// are Kept; more is a condition on its columns.
func (p *Planned) TargetRows(more string) string {
	return "SELECT " + strings.Join(p.here(), ", ") + ", " + p.targetDigest() + p.inTarget(more)
}

// ByChecksum are the conditions, of both sides, on rows whose keys' checksums divided by of
// leave part, for sides that order their keys otherwise. Key must be Kept.
func (p *Planned) ByChecksum(of, part int) (source, target string) {
	cond := func(key []string, columns []column.Column) string {
		texts := make([]string, 0, len(key))
		for i, k := range key {
			if columns[i].Type.Kind == column.Char {
				k = "CONVERT(" + k + " USING utf8mb4)"
			}
			texts = append(texts, "CRC32("+k+")")
		}
		return fmt.Sprintf("(%s) %% %d = %d", strings.Join(texts, " + "), of, part)
	}
	return cond(owns(p.Key), p.KeyColumns()), cond(p.here(), p.KeyColumns())
}

// Unnamed are the columns of the target to which the mapping gives no value: they have
// their defaults, and are not compared.
func (p *Planned) Unnamed() (out []string) {
	for _, c := range p.planner.to.Columns {
		if !slices.Contains(p.Columns, c.Name) {
			out = append(out, c.Name)
		}
	}
	return out
}

func (p *Planned) inTarget(more string) string {
	conds := p.inWindow()
	if more != "" {
		conds = append(conds, more)
	}
	if len(conds) == 0 {
		return " FROM " + p.into
	}
	return " FROM " + p.into + " WHERE " + strings.Join(conds, " AND ")
}

// sum adds digests up, of which each is made once.
func sum(digest, rows string) string {
	return "SELECT COUNT(*), COALESCE(SUM(CAST(CONV(LEFT(h, 15), 16, 10) AS UNSIGNED)), 0), " +
		"COALESCE(BIT_XOR(CAST(CONV(RIGHT(h, 16), 16, 10) AS UNSIGNED)), 0)" +
		" FROM (SELECT " + digest + " AS h" + rows + everyRow + ") AS r"
}

// sourceDigest is the digest of a mapped row. A value is written as the target's type
// stores it, so that the expression that makes it and what was stored give the same text.
func (p *Planned) sourceDigest() string {
	texts := make([]string, 0, len(p.Values))
	for i, v := range p.Values {
		texts = append(texts, written(p.kinds[i], v, p.stands(v)))
	}
	return digest(texts)
}

func (p *Planned) targetDigest() string {
	texts := make([]string, 0, len(p.Columns))
	for i, c := range p.Columns {
		texts = append(texts, written(p.kinds[i], sqlexpr.Quote(c), p.kinds[i]))
	}
	return digest(texts)
}

func digest(texts []string) string { return "MD5(CONCAT_WS(',', " + strings.Join(texts, ", ") + "))" }

// stands is the column of the source that a value is, or one of no type for any other
// expression.
func (p *Planned) stands(value string) column.Column {
	i := slices.IndexFunc(p.planner.from.Columns, func(c column.Column) bool {
		return value == own(c.Name)
	})
	if i < 0 {
		return column.Column{}
	}
	return p.planner.from.Columns[i]
}

// written is the text of a value, told apart from NULL and from what stands beside it. is
// is the column that the value is.
func written(to column.Column, v string, is column.Column) string {
	text, plain := stored(to.Type, v, is)
	if plain { // no comma is in it, and no N
		return "IFNULL(" + text + ", 'N')"
	}
	return "QUOTE(" + text + ")"
}

// long is the length of texts and bytes, from which on a digest takes their place in that
// of the row. Functions that copy give NULL for what is longer than max_allowed_packet.
const long = 1 << 10

// stored writes a value as a type stores it; plain: as a number, a time or in
// hexadecimal.
func stored(t column.Type, v string, is column.Column) (text string, plain bool) {
	if same(t, is.Type) {
		return v, true
	}
	switch t.Kind {
	case column.Integer:
		if t.Unsigned {
			return "CAST(" + v + " AS UNSIGNED)", true
		}
		return "CAST(" + v + " AS SIGNED)", true
	case column.Bytes:
		return bytes(t, v, is.Type), true
	case column.Float:
		return float(t, v, is.Type), true
	case column.Decimal:
		return fmt.Sprintf("CAST(%s AS DECIMAL(%d, %d))", v, t.Digits, t.Scale), true
	case column.Bit:
		return "(" + v + ") + 0", true
	case column.DateTime, column.Stamp:
		return fmt.Sprintf("CAST(%s AS DATETIME(%d))", v, t.Scale), true
	case column.Time:
		return fmt.Sprintf("CAST(%s AS TIME(%d))", v, t.Scale), true
	case column.Date:
		return "CAST(" + v + " AS DATE)", true
	}
	if !strings.HasPrefix(is.Charset, "utf8") { // the sets of Unicode write the same character as the same bytes
		v = "CONVERT(" + v + " USING utf8mb4)"
	}
	switch {
	case t.Kind == column.Char && t.Length > 0 && begins(t, "char"):
		return "RTRIM(" + v + ")", false // blanks at its end are not stored
	case t.Kind == column.JSON, t.Kind == column.Char && (t.Length == 0 || t.Length > long):
		return "MD5(" + v + ")", true
	}
	return v, false
}

// same reports whether two types write each value as the same text, which needs no
// function then.
func same(a, b column.Type) bool {
	switch {
	case a.Kind != b.Kind:
		return false
	case a.Kind == column.Integer:
		return !strings.Contains(strings.ToLower(a.Text+b.Text), "zerofill")
	case a.Kind == column.DateTime, a.Kind == column.Stamp, a.Kind == column.Time, a.Kind == column.Decimal:
		return a.Scale == b.Scale && !strings.Contains(strings.ToLower(a.Text+b.Text), "zerofill")
	}
	return a.Kind == column.Date
}

func begins(t column.Type, word string) bool { return strings.HasPrefix(strings.ToLower(t.Text), word) }

func bytes(t column.Type, v string, is column.Type) string {
	switch {
	case begins(t, "binary") && is.Text != t.Text:
		return fmt.Sprintf("HEX(RPAD(%s, %d, X'00'))", v, t.Length) // as it is stored
	case t.Length == 0 || t.Length > long:
		return "MD5(" + v + ")"
	}
	return "HEX(" + v + ")"
}

// float writes a number with the digits that are stored. What may have more is rounded to
// the 24 bits of the shorter type by G. W. Veltkamp's way to split a double: the
// difference to a product with 2^29+1 keeps its upper 53-29 bits.
func float(t column.Type, v string, is column.Type) string {
	v = "((" + v + ") + 0e0)"
	if t.Bits > 24 || is.Kind == column.Float && is.Bits == 24 {
		return v
	}
	const split = "536870913e0"
	return "(" + v + " * " + split + " - (" + v + " * " + split + " - " + v + "))"
}
