package output

import (
	"strings"

	"holdfast/internal/api/told"
)

// tones has the colours of what is told.
var tones = map[told.Tone]Colour{told.Plain: Plain, told.Good: Green, told.Warn: Yellow, told.Bad: Red}

// Line says a line of what is told.
func Line(b *strings.Builder, p Painter, l told.Line) { Say(b, p, l.Label, tones[l.Tone], l.Text) }

// Toned is a field of a table in the colour of what is told.
func Toned(c told.Cell) Cell { return Cell{c.Text, tones[c.Tone]} }
