package align

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/align/column"
	"holdfast/internal/align/sqlexpr"
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
	Load    string   // what LOAD DATA has after its lines: the columns, and how they are made of what it read
}

// Export gives the rows as they travel; more as for Select. What the text protocol would
// round or what is no text travels in another form: a FLOAT is written with six digits
// only, as a DOUBLE with all that it has.
func (p *Planned) Export(more string) Export {
	e := Export{Columns: p.Columns, Into: p.into}
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

// OnSource gives the names that the source's server has for the database and the table.
func (p *Planned) OnSource() (database, table string) { return p.planner.source.split(p.Source) }

// OnTarget gives the names that the target's server has for the database and the table.
func (p *Planned) OnTarget() (database, table string) { return p.planner.target.split(p.Table) }

func (s Side) split(t string) (database, table string) {
	db, table, _ := strings.Cut(t, ".")
	return cmp.Or(s.Databases[db], db), table
}
