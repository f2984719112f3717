package support

import (
	"regexp"
	"slices"
	"strings"
)

var (
	// yamlTag stands before a value in YAML.
	yamlTag   = regexp.MustCompile(`^!!?\w+(?:[ \t]+|$)`)
	startWord = regexp.MustCompile(`^(?:\\+n?\s+)?` + bare) // that may be on a line of its own
	// more is where a value without quotes ends, as another name follows: in a list, in an address, in a line of NAME=VALUE,
	// in a command.
	more   = regexp.MustCompile(`[,;&][ \t]*["'{\[(\\]*[\w.-]+\\*["']?[ \t]*[:=]`)
	spaced = regexp.MustCompile(`[ \t]+(?:--?[A-Za-z]|[\w.-]+=)`)
	// startNested begins a value of several: a list, a table, as programs print them.
	startNested = regexp.MustCompile(`^(?:&|\[\]\w*|map\[[\w.]*\][\w.]*|map|array|list|tuple|set)?[\[{(]`)
	// below says that a value is in the lines that follow.
	below = regexp.MustCompile(`^(?:[|>][+-]?[0-9]*[+-]?(?:[ \t]+#[^\n]*)?|(?:&|\[\]\w*|map\[[\w.]*\][\w.]*|array)?[\[{(]|\\)?$`)
	// ended is what may follow the end of a value.
	ended = regexp.MustCompile(`^(?:$|[\s,:;}\])>/=<|&\\])`)
	// other begins what is no value: another name, or a section.
	other  = regexp.MustCompile(`^(?:[\w.-]+[:=]|\[)`)
	digits = regexp.MustCompile(`[0-9]`)
)

// maxValue bounds a value, maxName a name.
const (
	maxValue = 64 << 10
	maxName  = 128
)

// quotes are those that are open at a place of a text, within its line. They are looked for from the beginning to the end,
// once.
type quotes struct {
	s    string
	at   int
	line int // where it begins
	open []mark
}

type mark struct {
	char        byte
	backslashes int
}

// upTo goes on to a place.
func (q *quotes) upTo(to int) {
	for run := 0; q.at < to; q.at++ {
		switch c := q.s[q.at]; c {
		case '\\':
			run++
			continue
		case '\n':
			q.line, q.open = q.at+1, nil
		case '"', '\'':
			this := mark{c, run}
			begin := q.at - run // an apostrophe is none
			if i := slices.Index(q.open, this); i >= 0 && (c == '"' || ended.MatchString(q.s[q.at+1:min(len(q.s), q.at+2)])) {
				q.open = q.open[:i]
			} else if i < 0 && (c == '"' || begin == q.line || strings.IndexByte(" \t=([{,:<>|", q.s[begin-1]) >= 0) {
				q.open = append(q.open, this)
			}
		}
		run = 0
	}
}

// closes says whether a quote behind some backslashes ends the text around.
func (q *quotes) closes(i, backslashes int) bool {
	return slices.Contains(q.open, mark{q.s[i], backslashes}) && (i+1 == len(q.s) || ended.MatchString(q.s[i+1:i+2]) ||
		q.s[i+1] == '"' || q.s[i+1] == '\'')
}

// names finds the values of the names in a line.
func (q *quotes) names(at, to int, hide func(from, to int)) {
	s := q.s
	further := min(len(s), to+1+len(untilLine(s[min(len(s), to+1):]))) // the argument of a flag may be on the next line
	for at < to {
		m := named.FindStringIndex(s[at:further])
		if m == nil || at+m[0] >= to {
			return
		}
		start, end := at+m[0], at+m[1]
		at = end
		// A quote that is the mark of a value belongs to it.
		from := start + len(strings.TrimRight(strings.TrimRight(s[start:end], `"'`), `\`))
		called := s[start:from]
		if workingDirectory.MatchString(s[start:further]) || isHarmless(called) {
			continue
		}
		from, end = q.value(start, from, aFlag.MatchString(called))
		hide(from, end)
		at = max(at, end-maxName) // a value may end with a name that has a value
	}
}

// value is where the value of a name is: the name begins at name, the value at from or behind what only leads to it.
func (q *quotes) value(name, from int, isFlag bool) (int, int) {
	s := q.s
	from += len(yamlTag.FindString(untilLine(s[from:])))
	q.upTo(from)
	line := untilLine(s[from:min(len(s), from+maxValue)])
	if len(line) == 0 && from > 0 && s[from-1] == '\n' { // the argument of a flag is on the next line
		return from, from
	}
	if below.MatchString(strings.TrimRight(line, " \t\r")) {
		start, to := q.block(name, from+len(line))
		if strings.Contains(line, "#") { // a comment, or a text that goes on
			start, to = from, max(to, from+len(line))
		}
		return start, to
	}
	if strings.HasPrefix(line, removed) && ended.MatchString(line[len(removed):]) {
		return from, from
	}
	to := from
	switch m := startNested.FindString(line); {
	case m != "" && !isFlag:
		to = q.nested(from, from+len(m), from+len(line))
	default:
		begin := from
		for from < len(s) && s[from] == '\\' {
			from++
		}
		if from < len(s) && (s[from] == '"' || s[from] == '\'') {
			from++
			to = closing(s, from, from-1-begin)
			if after := to + from - begin; after <= len(s) && s[after-1] == s[from-1] && // it is closed
				(!ended.MatchString(s[after:min(len(s), after+1)]) || joinedOn(s, from, to, from-begin)) {
				to = max(to, q.bareEnd(after, name, isFlag))
			}
			break
		}
		from = begin
		to = q.bareEnd(from, name, isFlag)
	}
	if strings.HasPrefix(s[from:to], "file:/") && !strings.ContainsAny(s[from:to], " \t") || noSecret.MatchString(s[from:to]) {
		return from, from
	}
	return from, to
}

// joinedOn says whether another text in quotes continues one that ends here: shells have a quote between them, and three
// quotes are one for some.
func joinedOn(s string, from, to, length int) bool {
	end := min(len(s), to+length)
	behind := strings.TrimLeft(s[end:], `\`)
	return length == 1 && len(behind) < len(s)-end && strings.HasPrefix(behind, s[to:end]) ||
		from == to && strings.HasPrefix(s[end:], s[to:end])
}

// bareEnd is the end of a value without quotes: that of its line, or of the text in quotes that it is in, unless it is clear
// that something else begins before.
func (q *quotes) bareEnd(from, name int, isFlag bool) int {
	s := q.s
	to := from + len(untilLine(s[from:min(len(s), from+maxValue)]))
	to = q.inQuotes(from, to)
	if isFlag {
		to = from + len(startWord.FindString(s[from:to]))
	} else if !q.ownLine(name, from) {
		if m := more.FindStringIndex(s[from:to]); m != nil {
			to = from + m[0]
		}
		if strings.ContainsAny(s[name:from], "=") {
			if m := spaced.FindStringIndex(s[from:to]); m != nil && !strings.ContainsAny(s[from:from+m[0]], " \t") {
				to = from + m[0]
			}
		}
	}
	if i := strings.Index(s[from:to], "</"); i >= 0 {
		to = from + i
	}
	return unescaped(s, from, from+len(strings.TrimRight(s[from:to], " \t\r,")))
}

// inQuotes is where the text in quotes ends that is around.
func (q *quotes) inQuotes(from, to int) int {
	run := 0
	for i := from; i < to; i++ {
		switch q.s[i] {
		case '\\':
			run++
			continue
		case '"', '\'':
			if q.closes(i, run) {
				return i - run
			}
		}
		run = 0
	}
	return to
}

// nested is where a list or a table ends, at its last bracket. If that is not in the line, or is not clearly the end, it is the
// line's.
func (q *quotes) nested(from, at, to int) int {
	s := q.s
	depth, run := 1, 0
	var in mark
	for i := at; i < to; i++ {
		c := s[i]
		if c == '\\' {
			run++
			continue
		}
		switch this := (mark{c, run}); {
		case c != '"' && c != '\'':
		case in == this:
			in = mark{}
		case in.char == 0:
			in = this
		}
		switch {
		case in.char != 0:
		case strings.IndexByte("[{(", c) >= 0:
			depth++
		case strings.IndexByte("]})", c) >= 0:
			depth--
		}
		run = 0
		if depth == 0 {
			if after := s[i+1 : min(len(s), i+2)]; ended.MatchString(after) || after == `"` || after == "'" {
				return i + 1
			}
			break
		}
	}
	return q.inQuotes(from, to)
}

// block is where the lines are that have the value of a name: those that are indented more than it, and a list's. They may
// have a prefix like that of the line of the name, as in a log.
func (q *quotes) block(name, end int) (int, int) {
	s := q.s
	before := strings.TrimRight(s[q.line:max(q.line, name)], `"'`)
	prefix := strings.TrimRight(before, " \t-")
	alike := digits.ReplaceAllString(prefix, "0")
	start := min(end+1, len(s))
	to := start
	for at := start; at < len(s) && at-start < maxValue; {
		line := untilLine(s[at:])
		body, column := line, 0
		if len(line) >= len(prefix) && digits.ReplaceAllString(line[:len(prefix)], "0") == alike {
			body, column = line[len(prefix):], len(before)-len(prefix)
		}
		text := strings.TrimLeft(body, " \t")
		indent := len(body) - len(text)
		switch text = strings.TrimSpace(text); {
		case text == "":
		case indent > column, indent == column && strings.HasPrefix(text, "- "):
			to = at + len(line)
		case to == start && !strings.ContainsAny(text, " \t") && !other.MatchString(text): // not indented, but a word alone
			return start, at + len(body)
		default:
			return start, to
		}
		at += len(line) + 1
	}
	return start, to
}

// closing is where a text in quotes ends that begins with a quote behind some backslashes: at one behind as many. Two single
// quotes are one within the text (YAML, SQL).
// Within it a backslash is doubled, and a quote has one more before it, as often as texts are within texts.
func closing(s string, from, backslashes int) int {
	quote, run := s[from-1], 0
	for i := from; i < min(len(s), from+maxValue); i++ {
		switch s[i] {
		case '\\':
			run++
			continue
		case quote:
			if run >= backslashes && run%(2*(backslashes+1)) == backslashes {
				again := strings.Repeat(`\`, backslashes) + "'"
				if quote != '\'' || !strings.HasPrefix(s[i+1:], again) {
					return i - backslashes
				}
				i += len(again)
			}
		}
		run = 0
	}
	return from + len(untilLine(s[from:]))
}

func untilLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// ownLine says whether a name begins its line, and its value is that of a file of settings.
func (q *quotes) ownLine(name, from int) bool {
	assigned := strings.TrimRight(q.s[name:from], " ")
	return strings.Trim(q.s[q.line:max(q.line, name)], " \t-") == "" && len(assigned) < from-name && !strings.Contains(assigned, "\n") &&
		(strings.HasSuffix(assigned, ":") || strings.HasSuffix(assigned, " ="))
}

// unescaped leaves the backslashes before a quote that ends a value to that quote.
func unescaped(s string, from, to int) int {
	if to < len(s) && (s[to] == '"' || s[to] == '\'') {
		for to > from && s[to-1] == '\\' {
			to--
		}
	}
	return to
}
