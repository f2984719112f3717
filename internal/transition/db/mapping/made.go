package mapping

import (
	"slices"
	"strings"

	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file asks the source what a check asks of the target: about the rows that the mapping
// will make.

var (
	// a table, and what may be its name in the statement
	named = text.Pattern(`\{([a-z][a-z0-9_]*)\}\.([A-Za-z0-9_]+)(\s+(?:[Aa][Ss]\s+)?([A-Za-z_][A-Za-z0-9_]*))?`)
	words = text.Pattern(`[A-Za-z_][A-Za-z0-9_]*`)
	every = text.Pattern(`(?i)(?:SELECT|DISTINCT|,|\.)\s*\*`)
)

// follows are words that come after a table without being its name.
var follows = []string{"CROSS", "EXCEPT", "FOR", "FORCE", "GROUP", "HAVING", "IGNORE", "INNER", "INTERSECT", "JOIN",
	"LEFT", "LIMIT", "NATURAL", "ON", "ORDER", "RIGHT", "STRAIGHT_JOIN", "UNION", "USE", "USING", "WHERE", "WINDOW"}

// Made writes a statement about the target's rows for the source, before there are any: each
// table is the rows that the mapping makes for it. It needs no staged IDs: values that are
// looked up are as the source has them, and those that become one are the same. "": the
// source's rows alone do not tell, as it asks for a table that the mapping does not fill, or
// for values that only the server makes.
func (p *Plan) Made(query string, m Merged) string {
	told, asks := true, asked(query)
	text := named().ReplaceAllStringFunc(query, func(found string) string {
		f := named().FindStringSubmatch(found)
		parts := p.parts(f[1] + "." + f[2])
		selects := make([]string, 0, len(parts))
		for _, t := range parts {
			made, ok := t.made(asks, m)
			if told = told && ok; len(parts) > 1 {
				made = "(" + made + ")" // it may have a LIMIT
			}
			selects = append(selects, made)
		}
		if told = told && len(parts) > 0; slices.Contains(follows, strings.ToUpper(f[4])) || f[4] == "" {
			f[3] = " AS " + sqlexpr.Quote(f[2]) + f[3]
		}
		return "(" + strings.Join(selects, " UNION ALL ") + ")" + f[3]
	})
	if !told || braces().MatchString(text) {
		return ""
	}
	return text
}

// asked are the words of a statement, some of which are the columns that it asks for; "*": all.
func asked(query string) map[string]bool {
	asks := map[string]bool{}
	for _, w := range words().FindAllString(query, -1) {
		asks[strings.ToLower(w)] = true
	}
	if every().MatchString(query) {
		asks["*"] = true
	}
	return asks
}

// Faulty are the tables of the target that a statement asks for and whose rows, or columns that it
// asks for, are not known: the plan has errors of them.
func (p *Plan) Faulty(query string) (out []string) {
	asks := asked(query)
	for _, f := range named().FindAllStringSubmatch(query, -1) {
		table := f[1] + "." + f[2]
		faulty := slices.Contains(p.unplanned, table) || slices.ContainsFunc(p.parts(table), func(t *Planned) bool {
			return t.Unclear || slices.ContainsFunc(t.lost, func(c string) bool { return asks["*"] || asks[strings.ToLower(c)] })
		})
		if faulty && !slices.Contains(out, table) {
			out = append(out, table)
		}
	}
	return out
}

// Absent are the tables that a statement about the source asks for, which the mapping reads and
// the source does not have: the plan has errors of them.
func (m *Mapping) Absent(query string, source Side) (out []string) {
	reads := m.Reads()
	for _, f := range named().FindAllStringSubmatch(query, -1) {
		if table := f[1] + "." + f[2]; source.Tables[table] == nil && slices.Contains(reads, table) && !slices.Contains(out, table) {
			out = append(out, table)
		}
	}
	return out
}

// About is the table of the target that a check is about: the first that it names, where it
// does not say.
func (c *Check) About() string {
	if c.Table != "" {
		return c.Table
	}
	if f := named().FindStringSubmatch(c.Rows + c.Target); f != nil {
		return f[1] + "." + f[2]
	}
	return ""
}

// made is the statement for the rows of a table with the columns that are asked for.
func (p *Planned) made(asks map[string]bool, m Merged) (query string, ok bool) {
	var list []string
	once := ""
	for _, c := range p.planner.to.Columns {
		if !asks["*"] && !asks[strings.ToLower(c.Name)] {
			continue
		}
		v, kind, why := p.planner.gets(c.Name)
		switch {
		case p.within(c.Name):
			v = p.bares[c.Name]
		case why != "":
			return "", false
		case v == "":
			v = "NULL"
		case kind != "":
			v = old(v, kind, folds(&c), m)
		}
		if strings.Contains(v, "SELECT") { // it is dear: the server is not to make it anew for each use
			once = " LIMIT 18446744073709551615"
		}
		list = append(list, v+" AS "+sqlexpr.Quote(c.Name))
	}
	if len(list) == 0 {
		list = []string{"1"}
	}
	return "SELECT " + strings.Join(list, ", ") + p.unstaged() + once, !p.Unclear
}
