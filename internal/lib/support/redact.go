package support

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// removed stands where a secret was.
const removed = "[removed]"

// Redactor removes secrets from texts.
type Redactor struct {
	known *strings.Replacer // puts as much of something else in place of each
	short *regexp.Regexp    // nil: none
}

// NewRedactor makes one that also knows some secrets.
func NewRedactor(known []Secret) *Redactor {
	var long, short []string
	for _, k := range known {
		if len(k) >= shortest {
			long = append(long, forms(string(k))...)
		} else {
			short = append(short, regexp.QuoteMeta(string(k)))
		}
	}
	// The longest first: a secret may contain another.
	slices.SortFunc(long, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range slices.Compact(long) {
		pairs = append(pairs, s, flip(s))
	}
	r := &Redactor{known: strings.NewReplacer(pairs...)}
	if len(short) > 0 {
		r.short = regexp.MustCompile(`(?:^|[^0-9A-Za-z])(` + strings.Join(short, "|") + `)(?:$|[^0-9A-Za-z])`)
	}
	return r
}

// flip makes a text of the same length with another byte in each place.
func flip(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= 0xff
	}
	return string(b)
}

// forms are the ways in which texts and documents write a secret.
func forms(s string) []string {
	out := []string{s, html.EscapeString(s), url.QueryEscape(s), url.PathEscape(s), hex.EncodeToString([]byte(s))}
	if quoted, err := json.Marshal(s); err == nil {
		out = append(out, string(quoted[1:len(quoted)-1]))
	}
	// What stands at the beginning of something longer ends on another boundary.
	whole := []byte(s)[:len(s)/3*3]
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		out = append(out, enc.EncodeToString([]byte(s)))
		if len(whole) >= 6 {
			out = append(out, enc.EncodeToString(whole))
		}
	}
	return out
}

// Pass returns the text without secrets. Each way to find some looks at the text as it was: what one of them
// removes hides nothing from another.
func (r *Redactor) Pass(text []byte) []byte {
	s := string(text)
	hidden := []byte(r.known.Replace(s)) // where it differs there is a secret
	hide := func(from, to int) {
		for ; from < to; from++ {
			hidden[from] = s[from] ^ 0xff
		}
	}
	r.look(s, hide)
	if entity.MatchString(s) { // a text within XML
		plain, was := unentitled(s)
		r.look(plain, func(from, to int) { hide(was(from), was(to)) })
	}
	var out bytes.Buffer
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && hidden[i] == s[i] {
			i++
		}
		out.WriteString(s[start:i])
		for start = i; i < len(s) && hidden[i] != s[i]; {
			i++
		}
		if i > start {
			out.WriteString(removed)
		}
	}
	return out.Bytes()
}

// look finds what is a secret by its look or its name, and what is a short known one.
func (r *Redactor) look(s string, hide func(from, to int)) {
	// The rest of a key whose beginning is not here.
	i := strings.Index(s, "-----END ")
	if i >= 0 && restOfKey.MatchString(s[i:min(len(s), i+64)]) && !strings.Contains(s[:i], "-----BEGIN ") {
		hide(0, i)
	}
	if r.short != nil {
		for at := 0; ; { // what ends one may begin the next
			m := r.short.FindStringSubmatchIndex(s[at:])
			if m == nil {
				break
			}
			hide(at+m[2], at+m[3])
			at += m[3]
		}
	}
	lower := small(s)
	for _, p := range patterns {
		found := func(from, to int) {
			for _, m := range p.FindAllStringSubmatchIndex(s[from:to], -1) {
				for g := 2; g < len(m); g += 2 {
					if m[g] >= 0 {
						hide(from+m[g], unescaped(s, from+m[g], from+m[g+1]))
					}
				}
			}
		}
		if len(p.words) == 0 {
			found(0, len(s))
		} else {
			linesWith(lower, p.words, found)
		}
	}
	q := quotes{s: s}
	linesWith(lower, sounds, func(from, to int) { q.names(from, to, hide) })
}

// entity is how XML writes what has a meaning for it.
var entity = regexp.MustCompile(`&(?:#[0-9]{1,3}|#x[0-9A-Fa-f]{1,2}|quot|apos|lt|gt|amp);`)

// unentitled returns a text without entities, and where in s a place of it was.
func unentitled(s string) (plain string, was func(int) int) {
	var b strings.Builder
	var ends, lost []int // ends of what stands for an entity, and by how much the text is shorter up to there
	i := 0
	for _, m := range entity.FindAllStringIndex(s, -1) {
		b.WriteString(s[i:m[0]])
		b.WriteString(html.UnescapeString(s[m[0]:m[1]]))
		i = m[1]
		ends, lost = append(ends, b.Len()), append(lost, i-b.Len())
	}
	b.WriteString(s[i:])
	return b.String(), func(at int) int {
		n, found := slices.BinarySearch(ends, at)
		if found {
			n++
		}
		if n == 0 {
			return at
		}
		return at + lost[n-1]
	}
}
