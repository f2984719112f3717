// Package output writes what people and programs read: tables and labelled paragraphs that fit a terminal, colours,
// times and sizes, and JSON. It asks nobody anything, and knows no command.
package output

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/api/told"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
)

// Width is the number of columns that text fits on a terminal; paragraphs are wrapped to it everywhere.
const Width = 80

// Colour is an SGR parameter.
type Colour string

// The colours, and bold. Plain is none.
const (
	Plain  Colour = ""
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Bold   Colour = "1"
)

// Painter writes text for people: in their language, on a terminal in colours and with tables
// cut to its columns. The zero value does none of it: what goes to a program is whole.
type Painter struct {
	Colours bool
	Cuts    bool
	Columns int // of the terminal, where it has more than Width
	Rows    int // of the terminal; 0: it does not say
	Lang    *lang.Catalogue
}

// Wide is how many columns a table may have.
func (p Painter) Wide() int { return max(Width, p.Columns) }

// Paint returns the text in the reader's language, and in a colour.
func (p Painter) Paint(c Colour, s string) string { return p.Tint(c, p.Lang.Text(s)) }

// Tint returns a text as it is, in a colour.
func (p Painter) Tint(c Colour, s string) string {
	if !p.Colours || c == Plain || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// Reworded is a writer for texts in the words of another tool.
type Reworded interface {
	io.Writer
	Beneath() io.Writer // where they go
}

// file is what w writes to, where that is a file.
func file(w io.Writer) (*os.File, bool) {
	if z, ok := w.(Reworded); ok {
		w = z.Beneath()
	}
	w, _ = lang.Raw(w)
	f, ok := w.(*os.File)
	return f, ok
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := file(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// PainterFor colours for a terminal, unless the user does not want it.
func PainterFor(w io.Writer) Painter {
	_, l := lang.Raw(w)
	p := Painter{Lang: l}
	if !IsTerminal(w) {
		return p
	}
	p.Colours, p.Cuts = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", true
	if f, ok := file(w); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			p.Columns, p.Rows = int(size.Col), int(size.Row) // 0: it does not say
		}
	}
	return p
}

// Clean makes text of others safe for one line of a terminal.
func Clean[S ~string](s S) string { return told.Clean(s) }

// CleanLines is clean for text of several lines.
func CleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = Clean(l)
	}
	return strings.Join(lines, "\n")
}

// Or returns s, or what stands for nothing.
func Or[S ~string](s S, none string) string { return told.Or(s, none) }

// Secs writes a duration to a tenth of a second.
func Secs(d time.Duration) string { return told.Secs(d) }

// Ago writes a silence in four characters as a rule.
func Ago(d time.Duration) string { return told.Ago(d) }

// WallClock writes a wall clock time in the zone of the reader.
func WallClock(t time.Time) string { return told.WallClock(t) }

// Text writes text.
func Text(w io.Writer, s string) error {
	if _, err := io.WriteString(w, s); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// File writes what is read by programs, or is edited and read by this one.
func File(w io.Writer, s string) error {
	w, _ = lang.Raw(w)
	return Text(w, s)
}

// Columns is how many columns of a terminal a text takes: two for each Chinese character.
func Columns(s string) int { return text.Columns(s) }

// Say writes a labelled paragraph, wrapped to the width, later lines indented.
func Say(b *strings.Builder, p Painter, label string, c Colour, text string) {
	const indent = 10
	label = p.Lang.Text(label)
	b.WriteString(label + strings.Repeat(" ", max(0, indent-Columns(label))))
	for i, line := range Wrap(p.Lang.Text(text), Width-indent) {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(p.Tint(c, line) + "\n")
	}
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Column is one column of a table. When the table is too wide, columns are cut
// in the order of cut (1 first, 0 never), not below least. The last one may have
// sentences: then what does not fit goes on below, and nothing of it is lost.
type Column struct {
	Head  string
	Cut   int
	Least int
}

// leastText is how many columns a sentence in a table has at least.
const leastText = 24

// Table writes rows under a head, for a terminal cut to its columns.
func Table(b *strings.Builder, p Painter, cols []Column, rows [][]Cell) {
	head := make([]Cell, len(cols))
	for i, col := range cols {
		head[i] = Cell{Text: col.Head, Colour: Bold}
	}
	rows = p.translated(append([][]Cell{head}, rows...))
	wide := make([]int, len(cols))
	total := 2 * (len(cols) - 1)
	for i := range cols {
		for _, r := range rows {
			wide[i] = max(wide[i], Columns(r[i].Text))
		}
		total += wide[i]
	}
	for turn := 1; p.Cuts && turn <= len(cols); turn++ {
		for i, col := range cols {
			if over := total - p.Wide(); col.Cut == turn && over > 0 {
				if i == len(cols)-1 {
					col.Least = max(col.Least, leastText)
				}
				less := min(over, max(0, wide[i]-col.Least))
				wide[i] -= less
				total -= less
			}
		}
	}
	names := cols[0].Head == "HOST" || cols[0].Head == "MEMBER"
	for _, r := range rows {
		if names {
			r = append([]Cell{{Text: shortenName(r[0].Text, wide[0]), Colour: r[0].Colour}}, r[1:]...)
		}
		writeRow(b, p, wide, r)
	}
}

// translated is a table in the reader's language, which decides how wide its columns are.
func (p Painter) translated(rows [][]Cell) [][]Cell {
	if p.Lang == nil {
		return rows
	}
	out := make([][]Cell, len(rows))
	for i, r := range rows {
		out[i] = slices.Clone(r)
		for j := range r {
			out[i][j].Text = p.Lang.Text(r[j].Text)
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
func writeRow(b *strings.Builder, p Painter, wide []int, row []Cell) {
	last, start := len(row)-1, 0
	for i, f := range row[:last] {
		text := Shorten(f.Text, wide[i])
		b.WriteString(p.Tint(f.Colour, text))
		b.WriteString(strings.Repeat(" ", wide[i]-Columns(text)+2))
		start += wide[i] + 2
	}
	for i, line := range Wrap(row[last].Text, wide[last]) {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", start))
		}
		b.WriteString(p.Tint(row[last].Colour, line) + "\n")
	}
}

// Wrap gives the lines of a text of at most n columns, or 2; a longer word goes on in the next line.
func Wrap(s string, n int) []string { return text.Wrap(s, n) }

// Folded is a text behind what begins its first line, on a terminal in lines that fit it, the
// later ones indented. It is in the reader's language already: a line of a sentence is none.
func (p Painter) Folded(begin, s string, indent int) string {
	if !p.Cuts {
		return begin + s + "\n"
	}
	return text.Fold(begin, s, p.Wide(), indent) + "\n"
}

// Fit makes a line of progress that is written over on a terminal: a full line would wrap.
func Fit(w io.Writer, s string) string {
	_, l := lang.Raw(w)
	return Shorten(l.Text(s), Width-1)
}

// Shorten cuts text to n columns and shows that it did.
func Shorten(s string, n int) string {
	if Columns(s) <= n {
		return s
	}
	return s[:text.Fits(s, n-1)] + "~"
}

// Thousands writes a number with its thousands apart.
func Thousands(n int64) string { return told.Thousands(n) }

// Bar draws a percentage in 32 columns.
func Bar(percent int) string {
	const cells = 30
	n := min(max(percent, 0), 100) * cells / 100
	return "[" + strings.Repeat("#", n) + strings.Repeat("-", cells-n) + "]"
}
