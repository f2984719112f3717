package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file says how rows travel from one server to another, as texts.

// Form is how a value travels.
type Form string

// Forms of values. NULL is NULL in each.
const (
	AsText   Form = "text"   // as the server writes it
	AsHex    Form = "hex"    // bytes: as they are from the source, and in hexadecimal to the target
	AsNumber Form = "number" // bits and years, as a decimal number
)

// Export is a planned table's rows on their way to another server.
type Export struct {
	Select  string   // statement of the source: the rows, in Forms
	Forms   []Form   // of each value
	Columns []string // of the target, as Forms
	Into    string   // the target's table, as SQL
	Charset string   // as what LOAD DATA reads the lines: utf8mb4, or binary where that is the same, and faster
	Load    string   // what LOAD DATA has after its lines: the columns, and how they are made of what it read
}

// Export gives the rows as they travel; more as for Select. What the text protocol would
// round or what is no text travels in another form: a FLOAT is written with six digits
// only, as a DOUBLE with all that it has.
func (p *Planned) Export(more string) Export {
	e := Export{Columns: p.Columns, Into: p.into, Charset: "binary"}
	values := make([]string, 0, len(p.Values))
	var list, set []string
	for i, v := range p.Values {
		form, name := AsText, sqlexpr.Quote(p.Columns[i])
		at := fmt.Sprintf("@v%d", i)
		read := name // into this
		switch kind := p.kinds[i].Type.Kind; {
		case kind == column.Bytes:
			form, v = AsHex, "CAST("+v+" AS BINARY)" // of a text, the bytes that its column has
			read, set = at, append(set, name+" = UNHEX("+at+")")
		case kind == column.Bit, kind == column.Year: // of a year, the text 0 means 2000, and the number 0 is 0000
			form, v = AsNumber, "("+v+") + 0"
			read, set = at, append(set, name+" = CAST("+at+" AS UNSIGNED)")
		case kind == column.Float:
			v = "(" + v + ") + 0e0"
		case p.kinds[i].Auto:
			// Where there is a SET, MariaDB forgets of other columns that they were given: 0
			// would become the next number although the session wants it to stay.
			read, set = at, append(set, name+" = "+at)
		}
		if form == AsText && !taken(p.kinds[i]) {
			e.Charset = "utf8mb4"
		}
		list = append(list, read)
		e.Forms, values = append(e.Forms, form), append(values, v)
	}
	e.Select = "SELECT " + strings.Join(values, ", ") + p.rows(more)
	e.Load = "(" + strings.Join(list, ", ") + ")"
	if len(set) > 0 {
		e.Load += " SET " + strings.Join(set, ", ")
	}
	return e
}

// taken reports that a column makes of bytes what it makes of the same bytes as utf8mb4:
// its texts are UTF-8, which it checks, or it takes digits. Others would store the bytes.
func taken(c column.Column) bool {
	switch c.Type.Kind {
	case column.Char, column.Enum, column.Set:
		return c.Charset == "utf8mb4" || c.Charset == "utf8mb3" || c.Charset == "utf8"
	case column.Integer, column.Decimal, column.Float, column.DateTime, column.Stamp, column.Date, column.Time:
		return true
	}
	return false
}

// KeyColumns are the columns of Key, as the source has them.
func (p *Planned) KeyColumns() []column.Column {
	out := make([]column.Column, 0, len(p.Key))
	for _, k := range p.Key {
		c, _ := p.planner.from.column(k)
		out = append(out, c)
	}
	return out
}

// Parents are the tables of the target (as in the mapping) that must have a row before
// this one may have it, by its foreign keys; itself may be one of them.
func (p *Planned) Parents() (out []string) {
	for _, ref := range p.planner.to.Refs {
		if !slices.Contains(out, ref.Table) {
			out = append(out, ref.Table)
		}
	}
	return out
}

// After are the targets that the mapping wants to be filled before this one.
func (p *Planned) After() []string { return p.planner.t.After }

// Counts reports that the target's table has a column of AUTO_INCREMENT.
func (p *Planned) Counts() bool {
	return slices.ContainsFunc(p.planner.to.Columns, func(c column.Column) bool { return c.Auto })
}

// Unknown asks whether any of MissingIn gives a row, by one statement: a row if so. "":
// no value is looked up.
func (p *Planned) Unknown(more string) string {
	if len(p.Lookups) == 0 {
		return ""
	}
	var conds []string
	for _, l := range p.Lookups {
		conds = append(conds, l.value+" IS NOT NULL AND "+l.found+" IS NULL")
	}
	return "SELECT 1" + p.rows("("+strings.Join(conds, " OR ")+")", more) + " LIMIT 1"
}

// OnSource gives the names that the source's server has for the database and the table.
func (p *Planned) OnSource() (database, table string) { return p.planner.source.split(p.Source) }

// OnTarget gives the names that the target's server has for the database and the table.
func (p *Planned) OnTarget() (database, table string) { return p.planner.target.split(p.Table) }

func (s Side) split(t string) (database, table string) {
	db, table, _ := strings.Cut(t, ".")
	return cmp.Or(s.Databases[db], db), table
}
