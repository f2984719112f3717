package mapping

import (
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file writes the statements by which rows are carried over anew, by their keys.

// AnyOf is the condition that a row's key is one of keys (SQL of each of its columns);
// the columns are those of table as, "" for none. Servers use the index for it.
func AnyOf(as string, key []string, keys [][]string) string {
	if as != "" {
		as = sqlexpr.Quote(as) + "."
	}
	columns := quoted(key)
	for i := range columns {
		columns[i] = as + columns[i]
	}
	return anyOf(columns, keys)
}

func anyOf(columns []string, keys [][]string) string {
	if len(keys) == 0 {
		return "FALSE"
	}
	list := make([]string, 0, len(keys))
	if len(columns) == 1 {
		for _, k := range keys {
			list = append(list, k[0])
		}
		return columns[0] + " IN (" + strings.Join(list, ", ") + ")"
	}
	for _, k := range keys {
		ands := make([]string, 0, len(columns))
		for i, c := range columns {
			ands = append(ands, c+" = "+k[i])
		}
		list = append(list, strings.Join(ands, " AND "))
	}
	return "((" + strings.Join(list, ") OR (") + "))"
}

// Reads are the tables of the source that the rows are made of, as in the mapping, each
// once, Source first.
func (p *Planned) Reads() []string {
	out := []string{p.Source}
	for _, j := range slices.Concat(p.planner.t.Join, p.planner.t.Find) {
		if !slices.Contains(out, j.Table) {
			out = append(out, j.Table)
		}
	}
	for _, r := range p.planner.parents {
		for _, t := range r.parent.Reads() {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// SourceSchema is what the source's server told of a table of Reads, as the plan was made.
func (p *Planned) SourceSchema(table string) *Schema { return p.planner.source.Tables[table] }

// SourceName gives the names that the source's server has for a table of Reads.
func (p *Planned) SourceName(table string) (database, name string) {
	return p.planner.source.split(table)
}

// Delete is the statement that takes the rows of some keys of the source (SQL of each of
// its columns) out of the target. Where the two sides do not compare keys alike, it takes
// those that are written so, and none that the target alone takes for the same.
func (p *Planned) Delete(keys [][]string) string {
	there := make([][]string, 0, len(keys))
	for _, k := range keys {
		there = append(there, p.There(k))
	}
	cond := anyOf(quoted(p.Kept), there)
	if !p.Chunked() {
		cond += " AND " + anyOf(p.exact(), there)
	}
	return "DELETE" + p.inTarget(cond)
}

// exact writes the columns Kept of the target so that texts are compared by all that they
// are, but for blanks at their end.
func (p *Planned) exact() []string {
	out := quoted(p.Kept)
	for i, k := range p.Kept {
		from, _ := p.planner.from.column(p.Key[i])
		switch to, _ := p.planner.to.column(k); {
		case to.Type.Kind == column.Char && from.Type.Kind == column.Bytes:
			out[i] = "CAST(" + out[i] + " AS BINARY)"
		case to.Type.Kind == column.Char:
			out[i] = asID(out[i])
		}
	}
	return out
}

// Spelled reports whether one key of the source can be written in several ways: with other
// letters, accents or blanks at its end.
func (p *Planned) Spelled() bool { return slices.Contains(p.KeyKinds(), column.Char) }

// KeysOf is the statement for those of some keys (SQL of each column) that the source has,
// as it writes them now.
func (p *Planned) KeysOf(keys [][]string) string {
	return "SELECT " + strings.Join(quoted(p.Key), ", ") + " FROM " + p.planner.source.Name(p.Source) + " WHERE " + AnyOf("", p.Key, keys)
}

func quoted(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, sqlexpr.Quote(n))
	}
	return out
}

// Missing is a look at values that have no line among the IDs of their kind.
type Missing struct {
	Kind, Column string
	First        string // statement: the value and the key's columns of one row that has one
}

// MissingIn looks for values without an ID among the rows of a condition; more as for
// Select.
func (p *Planned) MissingIn(more string) []Missing {
	keys := strings.Join(owns(p.Key), ", ")
	var out []Missing
	for _, l := range p.Lookups {
		out = append(out, Missing{l.Kind, l.Column, "SELECT " + l.value + ", " + keys + p.unknown(&l, more) + " LIMIT 1"})
	}
	return out
}

// unknown are the rows whose value has no line among the IDs of its kind.
func (p *Planned) unknown(l *Lookup, more string) string {
	return p.rows(l.value+" IS NOT NULL", l.found+" IS NULL", more)
}
