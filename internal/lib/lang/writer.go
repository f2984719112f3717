package lang

import (
	"io"
)

// Writer translates what is written to it, line by line; a prompt, which has no end of a
// line, too. A line that is Chinese in part stays: it was translated before it was wrapped
// or made a row of a table.
type Writer struct {
	io.Writer
	Catalogue *Catalogue
}

// Write reports as written all of p, or nothing.
func (w Writer) Write(p []byte) (int, error) {
	text := eachLine(string(p), func(line string) string {
		if hasHan(line) {
			return line
		}
		return w.Catalogue.line(line)
	})
	if _, err := io.WriteString(w.Writer, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Raw returns what w writes to, for what is no text for people, and the language of w.
func Raw(w io.Writer) (io.Writer, *Catalogue) {
	if l, ok := w.(Writer); ok {
		return l.Writer, l.Catalogue
	}
	return w, nil
}
