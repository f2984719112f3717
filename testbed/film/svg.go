package film

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Measures of the picture, in pixels.
const (
	svgFont   = 14
	svgColumn = 8.4 // width of a character, which the text is made to have in any font
	svgRow    = 19
	svgMargin = 14
)

// kept is a space that is not taken together with its neighbours.
const kept = "\u00a0"

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]g" height="%[2]d" viewBox="0 0 %[1]g %[2]d">
<title>%[3]s</title>
<style>
text { font: %[4]dpx ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d7dde5 }
.typed { fill: #7fd88f; font-weight: bold }
.bad { fill: #ff8a80 }
.gone { visibility: hidden }
@media (prefers-reduced-motion: no-preference) {
`

// SVG is the film as a picture that moves: each line is seen in its time, again and again.
// Who wants no motion, or can show none, sees the last frame, which stands still.
func (f *Film) SVG() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b bytes.Buffer
	rows, columns := 0, 0
	for _, fr := range f.frames {
		rows = max(rows, len(fr.lines))
		for _, l := range fr.lines {
			columns = max(columns, utf8.RuneCountInString(l))
		}
	}
	fmt.Fprintf(&b, svgHead, float64(columns)*svgColumn+2*svgMargin, rows*svgRow+2*svgMargin, escaped(f.frames[0].lines[0]), svgFont)
	shots := f.shots(rows)
	begins, whole := f.times()
	last, known := len(f.frames)-1, map[string]bool{}
	for _, s := range shots {
		name := s.name(last)
		if name == "" || known[name] {
			continue
		}
		known[name] = true
		// Each has the whole round as its time, and is seen for a part of it.
		end := "100% { visibility: hidden }"
		if s.to < last {
			end = percent(begins[s.to+1], whole) + ", " + end
		} else {
			end = "100% { visibility: visible }"
		}
		fmt.Fprintf(&b, "@keyframes %s { 0%% { visibility: hidden } %s { visibility: visible } %s }\n", name, percent(begins[s.from], whole), end)
		fmt.Fprintf(&b, ".%s { animation: %[1]s %.1[2]fs step-end infinite }\n", name, whole.Seconds())
	}
	b.WriteString("}\n</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#161b22\"/>\n")
	for _, s := range shots {
		s.write(&b, last)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// shot is a line that stands in a row from one frame to another.
type shot struct {
	row, from, to int
	line          string
}

// shots are the lines of all frames; one that stays is one shot.
func (f *Film) shots(rows int) (all []shot) {
	for row := range rows {
		now := shot{row: row}
		for i := range f.frames {
			line := ""
			if row < len(f.frames[i].lines) {
				line = strings.TrimRight(f.frames[i].lines[row], " ")
			}
			if line != now.line {
				all = append(all, now)
				now = shot{row: row, from: i, line: line}
			}
			now.to = i
		}
		all = append(all, now)
	}
	return slices.DeleteFunc(all, func(s shot) bool { return s.line == "" })
}

// name is that of its time; "" for all the time.
func (s shot) name(last int) string {
	if s.from == 0 && s.to == last {
		return ""
	}
	return fmt.Sprintf("t%d-%d", s.from, s.to)
}

// write places the line, whose characters are as wide as a column each.
func (s shot) write(b *bytes.Buffer, last int) {
	text := strings.TrimLeft(s.line, " ")
	indent := len(s.line) - len(text)
	var classes []string
	switch {
	case strings.HasPrefix(s.line, "$ "):
		classes = append(classes, "typed")
	case strings.Contains(s.line, "NO ANSWER") || strings.Contains(s.line, "FAULT:") || strings.Contains(s.line, "NOT A SUCCESS"):
		classes = append(classes, "bad")
	}
	if s.to < last {
		classes = append(classes, "gone")
	}
	if name := s.name(last); name != "" {
		classes = append(classes, name)
	}
	class := ""
	if len(classes) > 0 {
		class = fmt.Sprintf(" class=%q", strings.Join(classes, " "))
	}
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\"%s>%s</text>\n",
		svgMargin+float64(indent)*svgColumn, svgMargin+(s.row+1)*svgRow-5,
		float64(utf8.RuneCountInString(text))*svgColumn, class, escaped(strings.ReplaceAll(text, " ", kept)))
}

// times are when each frame begins, from the film's begin, and how long all of it takes.
func (f *Film) times() (begins []time.Duration, whole time.Duration) {
	for i, fr := range f.frames {
		if i > 0 {
			whole += min(fr.at.Sub(f.frames[i-1].at), longest)
		}
		begins = append(begins, whole)
	}
	return begins, whole + ending
}

func percent(part, whole time.Duration) string {
	return fmt.Sprintf("%.2f%%", 100*part.Seconds()/whole.Seconds())
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
