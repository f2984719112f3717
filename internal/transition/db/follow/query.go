package follow

import (
	"slices"
	"strings"
)

// This file reads the statements of a binary log: most change no mapped row, those that
// do and are no row events end what can be followed.

// spoils tells which mapped table (DATABASE.TABLE as on the server) a statement changes
// in a way that no row event tells, and how; "" for none. schema is the session's
// database. behind are views, and tables with triggers, by which rows of mapped ones change.
// A statement that is not understood changes none: what it does to rows is told in row
// events.
func spoils(schema, query string, mapped, behind func(db, table string) bool) (table, how string) {
	s := read(schema, query, mapped)
	word := s.word()
	switch word {
	case "ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE":
		return s.definition(word)
	case "INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH", "MERGE":
		all := s.tokens
		if t := s.mention(); t != "" {
			return t, "changes rows by a statement, not by row events" + notRow
		}
		s.tokens, s.mapped = all, behind
		return s.mention(), "changes rows of mapped tables by a trigger or a view, not by row events" + notRow
	}
	return "", ""
}

const notRow = " (binlog_format was not ROW in its session)"

const changed = "changes the table itself"

// token is a word, a quoted name, or a sign.
type token struct {
	text   string
	quoted bool
}

type statement struct {
	tokens []token
	schema string
	mapped func(db, table string) bool
}

// read takes a statement apart, without what MariaDB lets come before one and logs with
// it: SET STATEMENT name=value, ... FOR, and ANALYZE FORMAT=name. EXPLAIN is never logged.
func read(schema, query string, mapped func(db, table string) bool) *statement {
	s := &statement{tokens: tokens(query), schema: schema, mapped: mapped}
	for {
		switch {
		case s.begins("SET", "STATEMENT"):
			s.outside("FOR")
		case s.begins("ANALYZE"):
			s.word()
			if s.begins("FORMAT", "=") {
				s.tokens = s.tokens[2:]
				if s.skip("JSON", "TRADITIONAL") == "" && len(s.tokens) > 0 && s.tokens[0].quoted {
					s.tokens = s.tokens[1:] // in quotes; a text in others is no token
				}
			}
		default:
			return s
		}
	}
}

// begins tells whether some words, or signs, come next.
func (s *statement) begins(words ...string) bool {
	if len(s.tokens) < len(words) {
		return false
	}
	for i, w := range words {
		if t := s.tokens[i]; t.quoted || !strings.EqualFold(t.text, w) {
			return false
		}
	}
	return true
}

// outside takes all up to a word that is not in parentheses, and that too.
func (s *statement) outside(word string) {
	for depth := 0; len(s.tokens) > 0; {
		if depth <= 0 && s.skip(word) != "" {
			return
		}
		switch s.tokens[0] {
		case token{text: "("}:
			depth++
		case token{text: ")"}:
			depth--
		}
		s.tokens = s.tokens[1:]
	}
}

// word takes the next word, in capitals; "" when there is no bare word.
func (s *statement) word() string {
	if len(s.tokens) == 0 || s.tokens[0].quoted {
		return ""
	}
	w := strings.ToUpper(s.tokens[0].text)
	s.tokens = s.tokens[1:]
	return w
}

// skip takes the next words while they are among some.
func (s *statement) skip(words ...string) (last string) {
	for len(s.tokens) > 0 && !s.tokens[0].quoted && slices.Contains(words, strings.ToUpper(s.tokens[0].text)) {
		last = s.word()
	}
	return last
}

// name takes the name of a table.
func (s *statement) name() (db, table string) {
	if len(s.tokens) == 0 {
		return "", ""
	}
	db, table = s.schema, s.tokens[0].text
	s.tokens = s.tokens[1:]
	if len(s.tokens) > 1 && s.tokens[0] == (token{text: "."}) {
		db, table = table, s.tokens[1].text
		s.tokens = s.tokens[2:]
	}
	return db, table
}

func (s *statement) definition(verb string) (table, how string) {
	or := verb == "CREATE" && s.skip("OR", "REPLACE") == "REPLACE"
	s.skip("ONLINE", "IGNORE")
	if s.skip("TEMPORARY") != "" {
		return "", ""
	}
	what := s.skip("TABLE", "TABLES", "DATABASE", "SCHEMA")
	existing := s.skip("IF", "NOT", "EXISTS", "WAIT", "NOWAIT")
	switch {
	case what == "DATABASE" || what == "SCHEMA":
		if _, db := s.name(); verb == "DROP" && db != "" && s.mapped(db, "") {
			return db, "drops the database"
		}
		return "", ""
	case what == "" && verb != "TRUNCATE", verb == "CREATE" && (!or || existing != ""):
		return "", ""
	case verb == "RENAME", verb == "DROP":
		return s.any(), changed
	}
	if db, t := s.name(); t != "" && s.mapped(db, t) {
		return db + "." + t, changed
	}
	if verb == "ALTER" {
		return s.after("TABLE", "TO"), changed
	}
	return "", ""
}

// through is the view that a statement makes, or the table on which it makes a trigger,
// when rows of a table change by that: db and table as on the server, "" for none.
func through(schema, query string, concerns func(db, table string) bool) (db, table string) {
	s := read(schema, query, concerns)
	if w := s.word(); w != "CREATE" && w != "ALTER" {
		return "", ""
	}
	switch what := s.until("VIEW", "TRIGGER", "TABLE", "PROCEDURE", "FUNCTION", "EVENT", "AS"); what {
	case "VIEW":
		s.skip("IF", "NOT", "EXISTS")
		db, table = s.name()
	case "TRIGGER":
		s.until("ON")
		db, table = s.name()
		if slices.ContainsFunc(s.tokens, func(t token) bool { return !t.quoted && strings.EqualFold(t.text, "CALL") }) {
			return db, table // what a procedure changes is not looked at
		}
	default:
		return "", ""
	}
	if s.mention() == "" {
		return "", ""
	}
	return db, table
}

// renamed are the old and the new names of the tables, or views, that a statement renames.
func renamed(schema, query string) (out [][2][2]string) {
	s := read(schema, query, nil)
	verb := s.word()
	s.skip("ONLINE", "IGNORE")
	if verb != "RENAME" && verb != "ALTER" || s.skip("TABLE", "TABLES") == "" {
		return nil
	}
	for more := true; more; more = verb == "RENAME" && s.skip(",") != "" {
		s.skip("IF", "EXISTS")
		var old, now [2]string
		old[0], old[1] = s.name()
		if verb == "ALTER" {
			for part := "RENAME"; part != ""; part = s.skip("COLUMN", "INDEX", "KEY") {
				s.until("RENAME")
			}
			s.skip("TO", "AS", "=")
		} else {
			s.until("TO")
		}
		if now[0], now[1] = s.name(); now[1] != "" {
			out = append(out, [2][2]string{old, now})
		}
	}
	return out
}

// until takes all up to the first of some words, and that too.
func (s *statement) until(words ...string) string {
	for len(s.tokens) > 0 {
		if w := s.skip(words...); w != "" {
			return w
		}
		s.tokens = s.tokens[1:]
	}
	return ""
}

// any is the first mapped table of a list of names.
func (s *statement) any() string {
	for len(s.tokens) > 0 {
		if db, t := s.name(); t != "" && s.mapped(db, t) {
			return db + "." + t
		}
		for len(s.tokens) > 0 && !s.tokens[0].quoted && (s.tokens[0].text == "," || strings.EqualFold(s.tokens[0].text, "TO")) {
			s.tokens = s.tokens[1:]
		}
	}
	return ""
}

// after is the first mapped table that comes after one of some words: an ALTER of
// another table that takes rows of it, or its name.
func (s *statement) after(words ...string) string {
	for len(s.tokens) > 0 {
		if s.skip(words...) == "" {
			s.tokens = s.tokens[1:]
			continue
		}
		if db, t := s.name(); t != "" && s.mapped(db, t) {
			return db + "." + t
		}
	}
	return ""
}

// mention is the first mapped table that is named anywhere.
func (s *statement) mention() string {
	for len(s.tokens) > 0 {
		if db, t := s.name(); t != "" && s.mapped(db, t) {
			return db + "." + t
		}
	}
	return ""
}

// tokens takes a statement apart. Comments are left out but for those that servers
// execute. It does not go further than a table's names can be: 64 KiB.
func tokens(query string) (out []token) {
	q := query[:min(len(query), 64<<10)]
	for i := 0; i < len(q); {
		c := q[i]
		switch {
		case c == '/' && strings.HasPrefix(q[i:], "/*"):
			i = comment(q, i)
		case c == '*' && strings.HasPrefix(q[i:], "*/"): // of a comment that is executed
			i += 2
		case c == '#', strings.HasPrefix(q[i:], "-- "), strings.HasPrefix(q[i:], "--\n"):
			n := strings.IndexByte(q[i:], '\n')
			if n < 0 {
				return out
			}
			i += n + 1
		case c == '`' || c == '"' || c == '\'':
			text, n := quoted(q[i:], c)
			if c == '`' || c == '"' { // with ANSI_QUOTES, a name
				out = append(out, token{text, true})
			}
			i += n
		case wordly(c):
			n := i
			for n < len(q) && wordly(q[n]) {
				n++
			}
			out = append(out, token{text: q[i:n]})
			i = n
		default:
			if c > ' ' {
				out = append(out, token{text: string(c)})
			}
			i++
		}
	}
	return out
}

func wordly(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// comment is where a comment ends; of one that servers execute, where its text begins.
func comment(q string, i int) int {
	rest := q[i+2:]
	if rest = strings.TrimPrefix(rest, "M"); strings.HasPrefix(rest, "!") {
		rest = strings.TrimLeft(rest[1:], "0123456789")
		return len(q) - len(rest)
	}
	n := strings.Index(q[i+2:], "*/")
	if n < 0 {
		return len(q)
	}
	return i + 2 + n + 2
}

// quoted reads what is between quotes, and how long it is with them.
func quoted(q string, quote byte) (string, int) {
	var b strings.Builder
	for i := 1; i < len(q); i++ {
		switch {
		case q[i] == '\\' && quote != '`' && i+1 < len(q):
			i++
			b.WriteByte(q[i])
		case q[i] == quote && i+1 < len(q) && q[i+1] == quote:
			i++
			b.WriteByte(quote)
		case q[i] == quote:
			return b.String(), i + 1
		default:
			b.WriteByte(q[i])
		}
	}
	return b.String(), len(q)
}
