package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
)

// width is the number of columns that text fits on a terminal; paragraphs are wrapped to it everywhere.
const width = 80

// colour is an SGR parameter.
type colour string

const (
	plain  colour = ""
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	bold   colour = "1"
)

// painter writes text for people: in their language, on a terminal in colours and with tables
// cut to its columns. The zero value does none of it: what goes to a program is whole.
type painter struct {
	colours bool
	cuts    bool
	columns int // of the terminal, where it has more than width
	rows    int // of the terminal; 0: it does not say
	lang    *lang.Catalogue
}

// wide is how many columns a table may have.
func (p painter) wide() int { return max(width, p.columns) }

// paint returns the text in the reader's language, and in a colour.
func (p painter) paint(c colour, s string) string { return p.tint(c, p.lang.Text(s)) }

// tint returns a text as it is, in a colour.
func (p painter) tint(c colour, s string) string {
	if !p.colours || c == plain || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// reworded is a writer for texts in the words of another tool.
type reworded interface {
	io.Writer
	Beneath() io.Writer // where they go
}

// file is what w writes to, where that is a file.
func file(w io.Writer) (*os.File, bool) {
	if z, ok := w.(reworded); ok {
		w = z.Beneath()
	}
	w, _ = lang.Raw(w)
	f, ok := w.(*os.File)
	return f, ok
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := file(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// painterFor colours for a terminal, unless the user does not want it.
func painterFor(w io.Writer) painter {
	_, l := lang.Raw(w)
	p := painter{lang: l}
	if !isTerminal(w) {
		return p
	}
	p.colours, p.cuts = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", true
	if f, ok := file(w); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			p.columns, p.rows = int(size.Col), int(size.Row) // 0: it does not say
		}
	}
	return p
}

// clean makes text of others safe for one line of a terminal, and says what libraries say in plain words.
func clean[S ~string](s S) string { return text.Plain(text.Clean(string(s))) }

// cleanLines is clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}

// or returns s, or what stands for nothing.
func or[S ~string](s S, none string) string {
	if s == "" {
		return none
	}
	return clean(s)
}

// secs writes a duration to a tenth of a second.
func secs(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }

// ago writes a silence in four characters as a rule.
func ago(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// wallClock writes a wall clock time in the zone of the reader.
func wallClock(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// writeText writes text.
func writeText(w io.Writer, s string) error {
	if _, err := io.WriteString(w, s); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// writeFile writes what is read by programs, or is edited and read by this one.
func writeFile(w io.Writer, s string) error {
	w, _ = lang.Raw(w)
	return writeText(w, s)
}

// Columns is how many columns of a terminal a text takes: two for each Chinese character.
func Columns(s string) int { return text.Columns(s) }

// say writes a labelled paragraph, wrapped to the width, later lines indented.
func say(b *strings.Builder, p painter, label string, c colour, text string) {
	const indent = 10
	label = p.lang.Text(label)
	b.WriteString(label + strings.Repeat(" ", max(0, indent-Columns(label))))
	for i, line := range wrapped(p.lang.Text(text), width-indent) {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(p.tint(c, line) + "\n")
	}
}

// cell is one field of a table.
type cell struct {
	text string
	c    colour
}

// column is one column of a table. When the table is too wide, columns are cut
// in the order of cut (1 first, 0 never), not below least. The last one may have
// sentences: then what does not fit goes on below, and nothing of it is lost.
type column struct {
	head  string
	cut   int
	least int
}

// leastText is how many columns a sentence in a table has at least.
const leastText = 24

// table writes rows under a head, for a terminal cut to its columns.
func table(b *strings.Builder, p painter, cols []column, rows [][]cell) {
	head := make([]cell, len(cols))
	for i, col := range cols {
		head[i] = cell{col.head, bold}
	}
	rows = p.translated(append([][]cell{head}, rows...))
	wide := make([]int, len(cols))
	total := 2 * (len(cols) - 1)
	for i := range cols {
		for _, r := range rows {
			wide[i] = max(wide[i], Columns(r[i].text))
		}
		total += wide[i]
	}
	for turn := 1; p.cuts && turn <= len(cols); turn++ {
		for i, col := range cols {
			if over := total - p.wide(); col.cut == turn && over > 0 {
				if i == len(cols)-1 {
					col.least = max(col.least, leastText)
				}
				less := min(over, max(0, wide[i]-col.least))
				wide[i] -= less
				total -= less
			}
		}
	}
	names := cols[0].head == "HOST" || cols[0].head == "MEMBER"
	for _, r := range rows {
		if names {
			r = append([]cell{{shortenName(r[0].text, wide[0]), r[0].c}}, r[1:]...)
		}
		writeRow(b, p, wide, r)
	}
}

// translated is a table in the reader's language, which decides how wide its columns are.
func (p painter) translated(rows [][]cell) [][]cell {
	if p.lang == nil {
		return rows
	}
	out := make([][]cell, len(rows))
	for i, r := range rows {
		out[i] = slices.Clone(r)
		for j := range r {
			out[i][j].text = p.lang.Text(r[j].text)
		}
	}
	return out
}

// shortenName cuts the name of a host so that hosts can be told apart: its domain goes
// first, then the middle of what is left.
func shortenName(s string, n int) string {
	if Columns(s) <= n {
		return s
	}
	label, _, _ := strings.Cut(s, ".")
	r := []rune(label)
	if len(r) < n {
		return label + "~"
	}
	begin := max(0, n-1) / 3
	return string(r[:begin]) + "~" + string(r[len(r)-(n-1-begin):])
}

// writeRow writes one row; the text of its last column goes on in more lines.
func writeRow(b *strings.Builder, p painter, wide []int, row []cell) {
	last, start := len(row)-1, 0
	for i, f := range row[:last] {
		text := shorten(f.text, wide[i])
		b.WriteString(p.tint(f.c, text))
		b.WriteString(strings.Repeat(" ", wide[i]-Columns(text)+2))
		start += wide[i] + 2
	}
	for i, line := range wrapped(row[last].text, wide[last]) {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", start))
		}
		b.WriteString(p.tint(row[last].c, line) + "\n")
	}
}

// wrapped gives the lines of a text of at most n columns, or 2; a longer word goes on in the next line.
func wrapped(s string, n int) []string { return text.Wrap(s, n) }

// folded is a text behind what begins its first line, on a terminal in lines that fit it, the
// later ones indented. It is in the reader's language already: a line of a sentence is none.
func (p painter) folded(begin, s string, indent int) string {
	if !p.cuts {
		return begin + s + "\n"
	}
	return text.Fold(begin, s, p.wide(), indent) + "\n"
}

// fit makes a line of progress that is written over on a terminal: a full line would wrap.
func fit(w io.Writer, s string) string {
	_, l := lang.Raw(w)
	return shorten(l.Text(s), width-1)
}

// shorten cuts text to n columns and shows that it did.
func shorten(s string, n int) string {
	if Columns(s) <= n {
		return s
	}
	return s[:text.Fits(s, n-1)] + "~"
}

// thousands writes a number with its thousands apart.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// bar draws a percentage in 32 columns.
func bar(percent int) string {
	const cells = 30
	n := min(max(percent, 0), 100) * cells / 100
	return "[" + strings.Repeat("#", n) + strings.Repeat("-", cells-n) + "]"
}
