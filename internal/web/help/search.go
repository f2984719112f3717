package help

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Hit is a section that a search has found.
type Hit struct {
	*Page
	Section
	Head    []Piece // its heading, or the title of its page
	Excerpt []Piece // of its text
	points  int
}

// Piece is a part of a text; Marked is one that was searched for.
type Piece struct {
	Text   string
	Marked bool
}

// Bounds of a search.
const (
	maxQuery = 200 // bytes that are looked at
	maxWords = 8
	around   = 110 // bytes of an excerpt on either side of the first word
	// Points of a word where it stands; in the text by how often, up to most.
	inTitle, inHeading, most = 8, 12, 6
)

// words are those of a query, in small letters.
func words(q string) []string {
	if len(q) > maxQuery {
		q = strings.ToValidUTF8(q[:maxQuery], "")
	}
	all := strings.Fields(strings.ToLower(strings.ToValidUTF8(q, "")))
	return all[:min(len(all), maxWords)]
}

// Search finds the sections that have all words of a query, in their text, their heading or the title of their page: of each
// page in a language, or in English where there is no other. The best come first.
func (l *Library) Search(query, lang string) (hits []Hit) {
	all := words(query)
	if len(all) == 0 {
		return nil
	}
	for _, name := range l.names {
		p := l.Page(name, lang)
		title := strings.ToLower(p.Title)
		for _, s := range p.Sections {
			if n := points(all, title, strings.ToLower(s.Heading), s.lower); n > 0 {
				hits = append(hits, Hit{Page: p, Section: s, points: n})
			}
		}
	}
	slices.SortStableFunc(hits, func(a, b Hit) int { return cmp.Compare(b.points, a.points) })
	quoted := make([]string, len(all))
	for i, w := range all {
		quoted[i] = regexp.QuoteMeta(w)
	}
	mark := regexp.MustCompile("(?i)" + strings.Join(quoted, "|"))
	for i := range hits {
		h := &hits[i]
		h.Head = pieces(cmp.Or(h.Heading, h.Title), mark)
		h.Excerpt = pieces(excerpt(h.text, mark), mark)
	}
	return hits
}

// points are none unless each word stands somewhere.
func points(words []string, title, heading, text string) (sum int) {
	for _, w := range words {
		n := min(strings.Count(text, w), most)
		if strings.Contains(heading, w) {
			n += inHeading
		}
		if strings.Contains(title, w) {
			n += inTitle
		}
		if n == 0 {
			return 0
		}
		sum += n
	}
	if heading == "" {
		sum++ // of two the same, the one at the beginning of a page
	}
	return sum
}

// excerpt is a part of a text with the first word in it, else its beginning.
func excerpt(text string, mark *regexp.Regexp) string {
	at := []int{0, 0}
	if found := mark.FindStringIndex(text); found != nil {
		at = found
	}
	from, to := max(0, at[0]-around), min(len(text), at[1]+around)
	for from > 0 && !utf8.RuneStart(text[from]) {
		from--
	}
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	out := text[from:to]
	if from > 0 {
		if i := strings.IndexByte(out, ' '); i >= 0 && i < at[0]-from {
			out = out[i+1:]
		}
		out = "… " + out
	}
	if to < len(text) {
		if i := strings.LastIndexByte(out, ' '); i > len(out)-around/2 {
			out = out[:i]
		}
		out += " …"
	}
	return out
}

// pieces cuts a text at what is marked in it.
func pieces(text string, mark *regexp.Regexp) (out []Piece) {
	at := 0
	for _, m := range mark.FindAllStringIndex(text, -1) {
		if m[0] > at {
			out = append(out, Piece{Text: text[at:m[0]]})
		}
		out = append(out, Piece{text[m[0]:m[1]], true})
		at = m[1]
	}
	if at < len(text) {
		out = append(out, Piece{Text: text[at:]})
	}
	return out
}
