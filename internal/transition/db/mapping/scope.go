package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/sqlexpr"
)

// scope says what names mean in the expressions of a table.
type scope struct {
	*planner
	find   *Join  // its expression alone may name it
	column string // of the target, whose value it is; "" for a condition
	bare   bool   // what is looked up is written as it was
}

// table is the schema behind a name, nil when there is none.
func (s *scope) table(as string) *Schema {
	if as == "" || as == Main {
		return s.from
	}
	if s.find != nil && s.find.As == as {
		return s.source.Tables[s.find.Table]
	}
	if i := slices.IndexFunc(s.t.Join, func(j Join) bool { return j.As == as }); i >= 0 {
		return s.source.Tables[s.t.Join[i].Table]
	}
	return nil
}

// Column implements sqlexpr.Names.
func (s *scope) Column(c sqlexpr.Column) (string, error) {
	t := s.table(c.Table)
	if t == nil {
		return "", fmt.Errorf("%s: %s is no table of this mapping's: want %s, or the name of a join", c, c.Table, Main)
	}
	if _, ok := t.column(c.Name); !ok {
		return "", fmt.Errorf("%s: there is no such column", c)
	}
	if c.Table == "" || c.Table == Main {
		s.used[c.Name] = true
	}
	return sqlexpr.Quote(cmp.Or(c.Table, Main)) + "." + sqlexpr.Quote(c.Name), nil
}

// Call implements sqlexpr.Names: the functions of mappings.
func (s *scope) Call(name string, args []string) (string, bool, error) {
	switch name {
	case "BOOL": // JSON's true or false: the server would write a number, or a text
		if len(args) != 1 {
			return "", false, errors.New("function BOOL: want one condition")
		}
		return "JSON_EXTRACT(IF(" + args[0] + ", 'true', 'false'), '$')", true, nil
	case "FOUND":
		sql, err := s.found(args)
		return sql, true, err
	case "GATHERED":
		sql, err := s.gathered(args)
		return sql, true, err
	case "MAPPED":
		sql, err := s.mapped(args)
		return sql, true, err
	case "NAMED_UUID":
		if len(args) == 0 {
			return "", false, errors.New("function NAMED_UUID: want what it is made of")
		}
		if n := len(strings.Join(args, "")); n > maxNamed {
			return "", false, fmt.Errorf("function NAMED_UUID: what it is made of has %d bytes of SQL: want at most %d", n, maxNamed)
		}
		return namedUUID(s.t.Name(), args), true, nil
	}
	return "", false, nil
}

// found is whether there is a row of another table.
func (s *scope) found(args []string) (string, error) {
	i := slices.IndexFunc(s.t.Find, func(j Join) bool { return len(args) == 1 && args[0] == sqlexpr.Literal(j.As) })
	if i < 0 || s.find != nil {
		return "", errors.New("function FOUND: want one of find, as a text")
	}
	j := &s.t.Find[i]
	on, err := j.on.SQL(&scope{planner: s.planner, find: j})
	return "EXISTS (SELECT 1 FROM " + s.source.Name(j.Table) + " AS " + sqlexpr.Quote(j.As) + " WHERE " + on + ")", err
}

// gathered is a text of the values of all rows of another table that belong to one, in the
// order of its primary key with ", " between them; NULL where there is none.
func (s *scope) gathered(args []string) (string, error) {
	i := slices.IndexFunc(s.t.Find, func(j Join) bool { return len(args) == 1 && args[0] == sqlexpr.Literal(j.As) && j.value != nil })
	if i < 0 || s.find != nil || s.column == "" {
		return "", errors.New("function GATHERED: want one of find that has a value, as a text, and want it in the value of a column")
	}
	j := &s.t.Find[i]
	key := s.source.Tables[j.Table].Key
	if len(key) == 0 {
		return "", fmt.Errorf("function GATHERED: table %s of the source has no primary key, by which its values could be put in order", j.Table)
	}
	within := &scope{planner: s.planner, find: j}
	value, err := j.value.SQL(within)
	if err != nil {
		return "", err
	}
	on, err := j.on.SQL(within)
	order := make([]string, 0, len(key))
	for _, k := range key {
		order = append(order, sqlexpr.Quote(j.As)+"."+sqlexpr.Quote(k))
	}
	return "(SELECT GROUP_CONCAT(" + value + " ORDER BY " + strings.Join(order, ", ") + " SEPARATOR ', ') FROM " +
		s.source.Name(j.Table) + " AS " + sqlexpr.Quote(j.As) + " WHERE " + on + ")", err
}

// mapped is a value that is looked up within an expression, as map does it for a whole
// column.
func (s *scope) mapped(args []string) (string, error) {
	i := slices.IndexFunc(s.kinds, func(k string) bool { return len(args) == 2 && args[0] == sqlexpr.Literal(k) })
	switch {
	case i < 0:
		return "", fmt.Errorf("function MAPPED: want one of ids (%s), as a text, and a value", strings.Join(s.kinds, ", "))
	case s.column == "":
		return "", errors.New("function MAPPED: want it in the value of a column, not in a condition")
	case s.bare || !s.ids[s.kinds[i]].Given:
		return args[1], nil
	case slices.ContainsFunc(slices.Concat(s.out.Lookups, s.out.Others), func(l Lookup) bool { return strings.Contains(args[1], l.found) }):
		return "", errors.New("function MAPPED: want a value that is not looked up itself")
	}
	return s.lookup(Lookup{Kind: s.kinds[i], Column: s.column, Within: true, value: args[1]}), nil
}

// maxNamed is how many bytes of SQL the values of a UUID have: they are written six times,
// so that some within each other would fill the memory.
const maxNamed = 64 << 10

// namedUUID makes a UUID of version 3 (RFC 9562) of a table and values: the same for a
// row each time, so that a copy may be repeated and compared.
func namedUUID(target string, args []string) string {
	h := "MD5(CONCAT_WS(':', " + sqlexpr.Literal("holdfast "+target) + ", " + strings.Join(args, ", ") + "))"
	part := func(from, n int) string { return fmt.Sprintf("SUBSTRING(%s, %d, %d)", h, from, n) }
	variant := "SUBSTRING('89ab', 1 + (INSTR('0123456789abcdef', " + part(17, 1) + ") - 1) % 4, 1)"
	return "CONCAT(" + strings.Join([]string{part(1, 8), "'-'", part(9, 4), "'-3'", part(14, 3), "'-'", variant,
		part(18, 3), "'-'", part(21, 12)}, ", ") + ")"
}

// own writes a column of the mapping's own source.
func own(name string) string { return sqlexpr.Quote(Main) + "." + sqlexpr.Quote(name) }

// owns writes several of them.
func owns(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, own(n))
	}
	return out
}
