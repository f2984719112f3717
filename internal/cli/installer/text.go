package installer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/install"
)

// WriteFinding writes what a check found, and below it what to do.
func WriteFinding(b *strings.Builder, p output.Painter, result, host, said, remedy string) {
	colours := map[string]output.Colour{install.Pass: output.Green, install.Warn: output.Yellow, install.Fail: output.Red}
	word := p.Lang.Text(result)
	line := p.Folded(word+strings.Repeat(" ", max(0, 4-output.Columns(word))+2)+host, said, 6)
	b.WriteString(p.Tint(colours[result], word) + strings.TrimPrefix(line, word))
	if remedy != "" {
		b.WriteString(p.Folded("      ", p.Lang.Text(output.Clean(remedy)), 6))
	}
}

// CheckSaid is a check with what it found, in the reader's language.
func CheckSaid(p output.Painter, check, finding string) string {
	return told.CheckName(p.Lang.Text, check) + ": " + p.Lang.Text(output.Clean(finding))
}

// failing is 1 for what failed, else 0.
func failing(f install.Finding) int {
	if f.Result == install.Fail {
		return 1
	}
	return 0
}

// ResultText is the report of an installation for people; whole shows also what
// passed.
func ResultText(res install.Result, whole bool, p output.Painter) string {
	var b strings.Builder
	// What failed comes last: it is what people see when all the rest has gone by.
	all := slices.Clone(res.Findings)
	slices.SortStableFunc(all, func(x, y install.Finding) int {
		return cmp.Compare(failing(x), failing(y))
	})
	for _, f := range all {
		if f.Result == install.Pass && !whole {
			continue
		}
		WriteFinding(&b, p, f.Result, fmt.Sprintf("%-10s ", output.Or(f.Node, "all")), CheckSaid(p, f.Check, f.Finding),
			f.Remedy)
	}
	if res.Seconds.Copy == 0 {
		return b.String()
	}
	for _, host := range slices.Sorted(maps.Keys(res.Changed)) {
		fmt.Fprintf(&b, "%-10s %d files placed\n", output.Clean(host), len(res.Changed[host]))
	}
	s := res.Seconds
	fmt.Fprintf(&b, "cluster %s: checks %.1f s, files %.1f s, cluster %.1f s, start %.1f s\n", output.Clean(res.Cluster),
		s.Checks, s.Copy, s.Cluster, s.Start)
	if res.Running != "" {
		fmt.Fprintf(&b, "the management VM runs on %s; see: holdfast status\n", output.Clean(res.Running))
	}
	b.WriteString(ConsoleText(res.Console, p))
	for _, w := range res.Wrong {
		output.Say(&b, p, "wrong", output.Yellow, output.Clean(w))
	}
	return b.String()
}

// ConsoleText says where the console is, and how to log in for the first time; nil: nothing.
func ConsoleText(c *install.Console, p output.Painter) string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	for _, at := range c.Addresses {
		fmt.Fprintf(&b, "the console answers at %s\n", output.Clean(at))
	}
	fmt.Fprintf(&b, "browsers are to reach that port, and to trust the authority in %s\n", install.CAFile)
	if c.Password != "" {
		fmt.Fprintf(&b, "log in as %s, one-time password %s\nit is not shown again\n", output.Clean(c.User), output.Clean(c.Password))
	}
	if c.Wrong != "" {
		output.Say(&b, p, "wrong", output.Yellow, output.Clean(c.Wrong))
	}
	return b.String()
}
