package replicate

import (
	"regexp"
	"slices"
	"strings"
)

// This file reads the statements of a binary log: those that change rows of mapped
// databases and are no row events, and those that change mapped tables themselves, end
// what can be followed.

// spoils tells which mapped table, or database, as on the server, a statement changes
// in a way that no row event tells, and how; "" for none. schema is the session's
// database. What a statement changes by triggers, views and functions is in the database of
// its session, or in one that it names, or is not noticed. A statement that is not
// understood changes no rows: what it does to them is told in row events.
func spoils(schema, query string, mapped func(db, table string) bool) (what, how string) {
	s := &statement{tokens: tokens(query), schema: schema, mapped: mapped}
	switch verb := s.verb(); verb {
	case "ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE":
		return s.definition(verb)
	case "":
		return "", ""
	}
	for _, t := range append(s.tokens, token{text: schema}) {
		if mapped(t.text, "") {
			return "database " + t.text, "may change rows, and is no row event (binlog_format was not ROW in its session)"
		}
	}
	return "", ""
}

const changed = "changes the table itself"

// verbs are the words that say that a statement changes rows, or tables. A SELECT is
// logged for the functions that it calls.
var verbs = []string{"ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD",
	"WITH", "MERGE", "SELECT", "VALUES", "DO", "CALL", "("}

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

// verb takes the word that says what a statement does, in capitals; "" for one that changes
// nothing. MariaDB lets SET STATEMENT name=value, ... FOR, and ANALYZE FORMAT=name come
// before it, and logs them with it.
func (s *statement) verb() string {
	prefixed := s.skip("SET", "ANALYZE")
	if prefixed == "SET" && s.skip("STATEMENT") == "" || prefixed == "ANALYZE" &&
		s.skip("NO_WRITE_TO_BINLOG", "LOCAL", "TABLE", "TABLES") != "" {
		return ""
	}
	for ; len(s.tokens) > 0; s.tokens = s.tokens[1:] {
		if i := slices.Index(verbs, s.tokens[0].word()); i >= 0 && (prefixed == "" || verbs[i] != "(") {
			s.tokens = s.tokens[1:]
			return verbs[i]
		}
		if prefixed == "" {
			break
		}
	}
	return ""
}

// word is a token in capitals, "" for a quoted name.
func (t token) word() string {
	if t.quoted {
		return ""
	}
	return strings.ToUpper(t.text)
}

// skip takes the next words while they are among some, and gives the last.
func (s *statement) skip(words ...string) (last string) {
	for len(s.tokens) > 0 && slices.Contains(words, s.tokens[0].word()) {
		last = s.tokens[0].word()
		s.tokens = s.tokens[1:]
	}
	return last
}

// definition tells which mapped table or database a statement changes. Of one that makes
// or empties a table, it is the first that it names.
func (s *statement) definition(verb string) (what, how string) {
	if verb == "CREATE" && s.skip("OR", "REPLACE") == "" {
		return "", ""
	}
	s.skip("ONLINE", "IGNORE")
	if s.skip("TEMPORARY") != "" {
		return "", ""
	}
	kind := s.skip("TABLE", "TABLES", "DATABASE", "SCHEMA")
	s.skip("IF", "EXISTS", "WAIT", "NOWAIT")
	switch {
	case kind == "" && verb != "TRUNCATE":
		return "", ""
	case kind == "DATABASE" || kind == "SCHEMA":
		if verb == "DROP" && len(s.tokens) > 0 && s.mapped(s.tokens[0].text, "") {
			return "database " + s.tokens[0].text, "drops the database"
		}
		return "", ""
	}
	for len(s.tokens) > 0 {
		if db, t := s.name(); s.mapped(db, t) {
			return "table " + db + "." + t, changed
		}
		if verb == "CREATE" || verb == "TRUNCATE" {
			break
		}
	}
	return "", ""
}

// name takes the name of a table.
func (s *statement) name() (db, table string) {
	db, table = s.schema, s.tokens[0].text
	s.tokens = s.tokens[1:]
	if len(s.tokens) > 1 && s.tokens[0] == (token{text: "."}) {
		db, table = table, s.tokens[1].text
		s.tokens = s.tokens[2:]
	}
	return db, table
}

// lexical are the parts of a statement: comments, but for the text of those that servers
// execute; names in quotes, which may be " with ANSI_QUOTES; texts; words; signs.
var lexical = regexp.MustCompile("(?s)/\\*M?![0-9]*|\\*/|/\\*.*?(?:\\*/|$)|(?:#|--\\s)[^\n]*" +
	"|`((?:[^`]|``)*)`|\"((?:[^\"\\\\]|\"\"|\\\\.)*)\"|'(?:[^'\\\\]|''|\\\\.)*'|([0-9A-Za-z_$\\x{80}-\\x{10FFFF}]+)|([^\\s\\x00-\\x1F])")

var unescape = strings.NewReplacer("``", "`", `""`, `"`)

// tokens takes a statement apart, without comments and texts. It does not go further than
// a table's names can be: 64 KiB.
func tokens(query string) (out []token) {
	for _, m := range lexical.FindAllStringSubmatch(query[:min(len(query), 64<<10)], -1) {
		if name := m[1] + m[2]; name != "" {
			out = append(out, token{unescape.Replace(name), true})
		} else if m[3]+m[4] != "" {
			out = append(out, token{text: m[3] + m[4]})
		}
	}
	return out
}
