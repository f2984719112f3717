package command

import (
	"errors"
	"io"
	"strings"

	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
)

// Report prints an error after who or what it is, and its remedy, for a terminal folded. A command
// that has said everything already ends with an empty message.
func Report(w io.Writer, name string, err error, e *fail.Error) {
	if err.Error() == "" {
		return
	}
	p := output.PainterFor(w)
	if raw, l := lang.Raw(w); isReworded(raw) {
		p = output.Painter{Lang: l}
	}
	var list choices
	if !p.Cuts && errors.As(err, &list) {
		p.Cuts, p.Columns = true, 0
	}
	var b strings.Builder
	begin := name + ": "
	for line := range strings.SplitSeq(output.CleanLines(err.Error()), "\n") {
		b.WriteString(p.Folded(begin, p.Lang.Text(line), 2))
		begin = ""
	}
	if begin = "  "; e.Remedy != "" {
		for line := range strings.SplitSeq(output.CleanLines(e.Remedy), "\n") {
			b.WriteString(p.Folded(begin, p.Lang.Text(line), 4))
			begin = ""
		}
	}
	// Nothing is left to be done when stderr is gone; the exit code still tells.
	_, _ = io.WriteString(w, b.String())
}

func isReworded(w io.Writer) bool {
	_, is := w.(output.Reworded)
	return is
}
