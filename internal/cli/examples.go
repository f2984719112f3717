package cli

import (
	_ "embed"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/output"
)

// examples are how commands are called: a line "WORDS: CALL" each. Those without words are of the program itself.
// Help and manual pages have them.
//
//go:embed examples.txt
var examples string

// addExamples gives a command and those below it their examples. words are its name below the program's.
func addExamples(c *cobra.Command, words string) {
	var lines []string
	for l := range strings.Lines(examples) {
		if of, call, _ := strings.Cut(l, ": "); of == words {
			lines = append(lines, continued(call))
		}
	}
	if len(lines) > 0 {
		c.Example = strings.Join(lines, "\n")
	}
	for _, sub := range c.Commands() {
		addExamples(sub, strings.TrimSpace(words+" "+sub.Name()))
	}
}

// continued is an example in lines for a terminal, as a shell reads them.
func continued(line string) string {
	const first, next, end = "  ", "    ", ` \`
	out := first
	for i, w := range strings.Fields(line) {
		switch at := out[strings.LastIndexByte(out, '\n')+1:]; {
		case i == 0:
		case len(at)+1+len(w)+len(end) > output.Width:
			out += end + "\n" + next
		default:
			out += " "
		}
		out += w
	}
	return out
}
