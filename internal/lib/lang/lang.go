// Package lang says in another language what the program says in English. Messages are
// made in English everywhere, also those that are stored or come from another host: what
// people read is translated where it is shown, by the formats that the messages were made
// of. What the catalogue does not have, such as a message of a later version, stays English.
// See docs/adr/0039.
package lang

import (
	"cmp"
	_ "embed" // the catalogue
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// Env names the language.
const Env = "HOLDFAST_LANG"

//go:embed zh.json
var chinese []byte

// Catalogue has the texts of one language. The nil Catalogue is English. It may be used by
// several goroutines.
type Catalogue struct {
	texts     map[string]string // by the English text or format
	templates []*template       // those of texts that have holes

	mu   sync.Mutex
	said map[string]said // what was translated before, by the English text
}

// said is a translation. missed counts the words that stayed English.
type said struct {
	to     string
	missed int
}

// remembered is how many texts a Catalogue remembers: those of a display that is repeated.
const remembered = 4096

// For returns the catalogue of a language: en (also "") or zh.
func For(name string) (*Catalogue, error) {
	switch name {
	case "", "en":
		return nil, nil
	case "zh":
		return parse(chinese)
	}
	return nil, fmt.Errorf("%s: value %q: want en or zh", Env, name)
}

// parse reads a JSON object of texts by their English ones.
func parse(text []byte) (*Catalogue, error) {
	c := &Catalogue{said: map[string]said{}}
	if err := json.Unmarshal(text, &c.texts); err != nil {
		return nil, fmt.Errorf("catalogue of messages: %w", err)
	}
	for from, to := range c.texts {
		if from == to || to == "" {
			delete(c.texts, from) // it stays as it is
			continue
		}
		if t := newTemplate(from, to); t != nil {
			c.templates = append(c.templates, t)
		}
	}
	return c, nil
}

// control is what is no text in what is written to a terminal.
var control = regexp.MustCompile(`[\r\n]|\x1b\[[0-9;]*[A-Za-z]`)

// Text translates a text, line by line, unless it is known as a whole.
func (c *Catalogue) Text(s string) string {
	if c == nil {
		return s
	}
	if to, ok := c.texts[s]; ok {
		return to
	}
	return eachLine(s, c.line)
}

// eachLine puts a text together again of its lines, changed.
func eachLine(s string, change func(string) string) string {
	var b strings.Builder
	at := 0
	for _, m := range control.FindAllStringIndex(s, -1) {
		b.WriteString(change(s[at:m[0]]) + s[m[0]:m[1]])
		at = m[1]
	}
	return b.String() + change(s[at:])
}

// line translates a line; what is indented stays so.
func (c *Catalogue) line(s string) string {
	text := strings.TrimSpace(s)
	if text == "" {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.say(text, c.templates, 0).to
	before, after, _ := strings.Cut(s, text)
	return before + to + after
}

// deepest bounds how many messages may be in one another.
const deepest = 8

// separator stands between messages that were put together.
var separator = regexp.MustCompile(`[;:,.] +|  +| \(|\) |[.)]$`)

// most bounds how many parts are looked at as one message.
const most = 12

// say translates a text: as one message, or cut at separators into messages, so that as
// little as possible stays English.
func (c *Catalogue) say(s string, among []*template, depth int) said {
	if before, ok := c.said[s]; ok {
		return before
	}
	var fit []*template
	for _, t := range among {
		if strings.Contains(s, t.anchor) {
			fit = append(fit, t)
		}
	}
	cuts := append(separator.FindAllStringIndex(s, -1), []int{len(s), len(s)})
	best := make([]said, len(cuts)+1) // of the text from the part of that number on
	for i := len(cuts) - 1; i >= 0; i-- {
		from := 0
		if i > 0 {
			from = cuts[i-1][1]
		}
		for j := min(i+most, len(cuts)) - 1; j >= i; j-- { // the longest message first
			one := c.message(s[from:cuts[j][0]], fit, depth)
			if all := one.missed + best[j+1].missed; j == min(i+most, len(cuts))-1 || all < best[i].missed {
				next := ""
				if j+1 < len(cuts) {
					next = s[cuts[j][1]:cuts[j+1][0]]
				}
				best[i] = said{one.to + c.joiner(s[from:cuts[j][0]], s[cuts[j][0]:cuts[j][1]], next) + best[j+1].to, all}
			}
			if best[i].missed == 0 {
				break
			}
		}
	}
	if len(c.said) >= remembered {
		clear(c.said)
	}
	c.said[s] = best[0]
	return best[0]
}

// quoted is what came from outside, and a time.
var quoted = regexp.MustCompile(`\A\s*(?:"[^"]*"|'[^']*'|\([^ ]*\)|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+(?: [A-Z]+)?)\s*\z`)

// message translates one message: as the catalogue has it, or by its format.
func (c *Catalogue) message(s string, among []*template, depth int) said {
	if to, ok := c.texts[s]; ok {
		return said{to, 0}
	}
	words := strings.Count(strings.TrimSpace(s), " ") + 1
	if words == 1 || quoted.MatchString(s) {
		return said{s, 0} // a name, or a number
	}
	best := said{s, words}
	if depth == deepest {
		return best
	}
	for _, f := range find(s, among) {
		if now, sure := c.fill(f, among, depth); sure && now.missed < best.missed {
			best = now
		}
		if best.missed == 0 {
			break
		}
	}
	return best
}

// word is what may be a name, and may be English.
var word = regexp.MustCompile(`\A[A-Z]?[a-z]+\z`)

// plenty is how many characters of its own make a format known beyond doubt.
const plenty = 8

// found is a format with the values that make it a message.
type found struct {
	*template
	in []string
}

// find returns the formats that a message may be made of, those first that say most of it.
func find(s string, among []*template) (out []found) {
	for _, t := range among {
		if !strings.Contains(s, t.anchor) {
			continue
		}
		if in := t.match(s); in != nil {
			out = append(out, found{t, in})
		}
	}
	slices.SortFunc(out, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.letters, a.letters), cmp.Compare(len(a.in), len(b.in)), cmp.Compare(a.from, b.from))
	})
	return out[:min(len(out), 8)]
}

// list is one of names, and between two of them what joins them. Names stay as they are typed, whatever they mean.
var (
	list = regexp.MustCompile(`\A` + name + `(?:(?:, | or )` + name + `)+\z`)
	join = regexp.MustCompile(`, | or `)
)

const name = `[^\s,;:()"']+`

// What joins the names of a list in Chinese.
const (
	comma = "、"
	or    = " 或 "
)

// names joins the names of a list, as the language does.
func names(s string) string {
	all := join.Split(s, -1)
	last := comma
	if strings.HasSuffix(s, " or "+all[len(all)-1]) {
		last = or
	}
	return strings.Join(all[:len(all)-1], comma) + last + all[len(all)-1]
}

// joiner is what stands between two parts of a line: where both are names, what joins names.
func (c *Catalogue) joiner(before, between, after string) string {
	if i := strings.LastIndex(before, ", "); i >= 0 { // a list that is longer than what is looked at as one message
		before = before[i+len(", "):]
	}
	if between == ", " && c.texts[before] == "" && c.texts[after] == "" && single.MatchString(before) && single.MatchString(after) {
		return comma
	}
	return between
}

var single = regexp.MustCompile(`\A` + name + `\z`)

// fill translates a message by its format; the values may be messages. sure is false where one of them is not understood, but for
// what the message was caused by, and where a short format says too little itself.
func (c *Catalogue) fill(f found, among []*template, depth int) (out said, sure bool) {
	sure = true
	spoken := make([]bool, len(f.in)) // the values that are said in the language
	for i, in := range f.in {
		text := strings.TrimSpace(in)
		one := said{text, 0}
		switch {
		case c.texts[text] == "" && list.MatchString(text):
			one.to = names(text)
		case hasHan(text): // it was translated before
		case strings.Contains(text, " "): // else it is a name, whatever it means
			one = c.say(text, among, depth+1)
		}
		switch cause := f.wraps && i == len(f.in)-1; {
		case one.missed > 0: // a sentence is not half of one language, and half of another
			sure = sure && cause
		case word.MatchString(text) || separator.MatchString(text+" "):
			sure = sure && (f.letters >= plenty || cause)
		}
		spoken[i] = one.to != text || hasHan(text)
		f.in[i] = strings.Replace(in, text, one.to, 1)
		out.missed += one.missed
	}
	out.to = f.template.fill(f.in, spoken)
	return out, sure
}

func hasHan(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
}

// hole is where a format takes a value: a verb of package fmt, or an argument of a reason.
var hole = regexp.MustCompile(`%(?:\[(\d+)\])?[-+# 0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?([a-zA-Z%])|\{([a-z]+)\}`)

// template is a format with its translation.
type template struct {
	from, to string
	anchor   string   // the longest part that stands in every message of this format
	letters  int      // of all such parts
	holes    []string // of from: a number in the order of the values, or a name
	wraps    bool     // it ends with what it was caused by: any text
	pattern  func() *regexp.Regexp
}

// newTemplate returns nil for a text without holes, or without a letter beside them.
func newTemplate(from, to string) *template {
	t := &template{from: from, to: to, wraps: strings.HasSuffix(from, ": %w") || strings.HasSuffix(from, ": %v") ||
		strings.HasSuffix(from, ": %s")}
	var p strings.Builder
	p.WriteString(`(?s)\A`)
	at := 0
	part := func(s string) {
		p.WriteString(regexp.QuoteMeta(s))
		if len(s) > len(t.anchor) {
			t.anchor = s
		}
		for _, r := range s {
			if r != ' ' {
				t.letters++
			}
		}
	}
	for _, h := range hole.FindAllStringSubmatchIndex(from, -1) {
		part(from[at:h[0]])
		at = h[1]
		if h[6] >= 0 {
			t.holes = append(t.holes, from[h[6]:h[7]])
			p.WriteString(value('v'))
			continue
		}
		if verb := from[h[4]]; verb == '%' {
			p.WriteByte('%')
		} else {
			t.holes = append(t.holes, strconv.Itoa(len(t.holes)+1))
			p.WriteString(value(verb))
		}
	}
	part(from[at:])
	if len(t.holes) == 0 || t.letters == 0 {
		return nil
	}
	p.WriteString(`\z`)
	t.pattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(p.String()) })
	return t
}

// value is what a verb writes.
func value(verb byte) string {
	switch verb {
	case 'd':
		return `( *[-+]?[0-9]+ *)`
	case 'f', 'g', 'e':
		return `( *[-+]?[0-9.]+(?:e[-+][0-9]+)? *)`
	case 'x', 'X':
		return `([0-9a-fA-F]+)`
	case 'q':
		return `("(?:[^"\\]|\\.)*"|'.+?'|\[.*?\]|` + "`.*?`" + `)`
	case 't':
		return `(true|false)`
	}
	return `(.*?)`
}

func (t *template) match(s string) []string {
	if m := t.pattern().FindStringSubmatch(s); m != nil {
		return m[1:]
	}
	return nil
}

// Where a space stands beside Chinese, and a text begins or ends with it.
var (
	hanBefore = regexp.MustCompile(`\p{Han} \z`)
	hanAfter  = regexp.MustCompile(`\A \p{Han}`)
	hanFirst  = regexp.MustCompile(`\A\p{Han}`)
	hanLast   = regexp.MustCompile(`\p{Han}\z`)
)

// fill puts values into the translation: in the order of its verbs, or as these say by
// number ("%[2]s"), or by name. Between Chinese and a value that is Chinese, too, as said has it, no space stays.
func (t *template) fill(in []string, said []bool) string {
	next, out, at := 0, "", 0
	for _, i := range hole.FindAllStringIndex(t.to, -1) {
		h, between := t.to[i[0]:i[1]], t.to[at:i[0]]
		at = i[1]
		m := hole.FindStringSubmatch(h)
		name := m[1] + m[3]
		switch {
		case m[2] == "%":
			out += between + "%"
			continue
		case name == "":
			next++
			name = strconv.Itoa(next)
		}
		value, han := h, false
		if i := slices.Index(t.holes, name); i >= 0 {
			value, han = in[i], said[i]
		}
		out += between
		if han && hanBefore.MatchString(out) && hanFirst.MatchString(value) {
			out = strings.TrimSuffix(out, " ")
		}
		out += value
		if han && hanLast.MatchString(value) && hanAfter.MatchString(t.to[at:]) {
			at++ // the space
		}
	}
	return out + t.to[at:]
}
