package probe

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/lib/fail"
)

func probeReportCmd(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Annotations: map[string]string{command.MoreForms: "html"},
		Use:         "report FILE...",
		Short:       "Show saved results again, also as a page for a browser",
		Long: `Shows the result that "probe -o json" has written: as text, as JSON, or with
-o html as one page with the gaps over the time, which needs no other file.
FILE may be -, standard input. The exit code is 0 also where packets were lost.

Of several results, made from different machines at the same time, it makes
one. It tells which targets were lost from all vantage points at overlapping
times (the target was dark), and which from some while others had answers (the
path was). Vantage points have names (probe --name), or else that of the file.
The clocks of the machines must agree.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := a.Format(cmd, "html")
			if err != nil {
				return err
			}
			if n := len(args); n > losses.MaxPoints {
				return command.Usage(cmd, fmt.Errorf("%d files: want at most %d", n, losses.MaxPoints))
			}
			var results []*losses.Result
			for i, file := range args {
				if slices.Contains(args[:i], file) {
					return command.Usage(cmd, fmt.Errorf("%s is given twice: want each file once", file))
				}
				r, err := savedLosses(cmd.Context(), a, file)
				if err != nil {
					return err
				}
				results = append(results, r)
			}
			if len(results) == 1 {
				return showSaved(a, form, results[0], results[0].WriteHTML,
					func(p output.Painter) string { return lossesText(results[0], p) })
			}
			return joinedReport(a, form, args, results)
		},
	}
	return cmd
}

// savedLosses reads a result.
func savedLosses(ctx context.Context, a *command.App, file string) (*losses.Result, error) {
	in, name := command.Source(ctx, a.Env.Stdin), "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fail.Errorf(fail.Invalid, "%w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	r, err := losses.Read(in)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%s: %w", name, err)
	}
	return r, nil
}

// showSaved shows a result in a form.
func showSaved(a *command.App, form string, result any, html func(io.Writer) error,
	text func(output.Painter) string) error {
	switch form {
	case "json":
		return output.JSON(a.Env.Stdout, result, false)
	case "html":
		var b strings.Builder
		if err := html(&b); err != nil {
			return err
		}
		return output.File(a.Env.Stdout, b.String())
	}
	return output.Text(a.Env.Stdout, text(output.PainterFor(a.Env.Stdout)))
}

// joinedReport shows one result of several. Results of programs without names are called as
// their files.
func joinedReport(a *command.App, form string, files []string, results []*losses.Result) error {
	for i, r := range results {
		if r.Name == "" {
			r.Name = strings.TrimSuffix(filepath.Base(files[i]), ".json")
		}
		if err := losses.CheckName(r.Name); err != nil {
			return fail.Errorf(fail.Invalid, "%s: %w", files[i], err)
		}
	}
	j, err := losses.Join(results)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%s: %w", strings.Join(files, ", "), err)
	}
	return showSaved(a, form, j, j.WriteHTML, func(p output.Painter) string { return joinedText(j, p) })
}

// joinedText shows the vantage points, the worst targets as each of these saw them, and the sums.
func joinedText(j *losses.Joined, p output.Painter) string {
	var b strings.Builder
	var rows [][]output.Cell
	for _, x := range j.Points {
		rows = append(rows, []output.Cell{
			{Text: x.Name}, {Text: x.Began.Local().Format("15:04:05.000")}, {Text: output.Secs(x.Ended.Sub(x.Began.Time))},
			{Text: output.Thousands(int64(x.Total.Targets))},
			{Text: output.Thousands(int64(x.Total.Silent))}, {Text: output.Thousands(x.Total.Lost)},
			{Text: fmt.Sprintf("%.1f %%", 100*x.UnwatchedPart)},
		})
	}
	output.Table(&b, p, []output.Column{{Head: "VANTAGE POINT", Cut: 1, Least: 13}, {Head: "BEGAN"}, {Head: "TIME"},
		{Head: "TARGETS"}, {Head: "SILENT"}, {Head: "LOST"}, {Head: "UNWATCHED"}}, rows)
	b.WriteByte('\n')
	worst := j.Worst()
	if len(worst) > 0 {
		joinedTable(&b, p, worst[:min(len(worst), shownWorst)])
		b.WriteByte('\n')
	}
	if more := len(worst) - shownWorst; more > 0 {
		output.Say(&b, p, "more", output.Red, fmt.Sprintf("%s more lost packets; -o json has them", targetsOf(more)))
	}
	joinedSums(&b, p, j)
	return b.String()
}

// joinedTable shows targets: of each when it was dark, and what each vantage point saw.
func joinedTable(b *strings.Builder, p output.Painter, targets []losses.JoinedTarget) {
	var rows [][]output.Cell
	for _, t := range targets {
		addr, name := t.IP.String(), output.Or(t.Name, "-")
		add := func(from string, more ...output.Cell) {
			rows = append(rows, append([]output.Cell{{Text: addr}, {Text: name}, {Text: from}}, more...))
			addr, name = "", ""
		}
		if s := t.Longest(losses.Dark); s.MS > 0 {
			add("all", output.Cell{}, output.Cell{}, output.Cell{Text: millis(s.MS) + " ms", Colour: output.Red},
				output.Cell{Text: s.At.Local().Format("15:04:05.000"), Colour: output.Red})
		}
		for _, v := range t.Views {
			switch {
			case v.Silent:
				add(v.Point, output.Cell{}, output.Cell{Text: "silent", Colour: output.Yellow}, output.Cell{}, output.Cell{})
			case v.Lost == 0:
				add(v.Point, output.Cell{Text: string(v.By)}, output.Cell{Text: "0"}, output.Cell{Text: "-"},
					output.Cell{Text: "-"})
			default:
				g := losses.Target{Gaps: v.Gaps}.Longest()
				add(v.Point, output.Cell{Text: string(v.By)}, output.Cell{Text: output.Thousands(v.Lost)},
					output.Cell{Text: millis(v.LongestMS) + " ms"}, output.Cell{Text: g.At.Local().Format("15:04:05.000")})
			}
		}
	}
	output.Table(b, p,
		[]output.Column{{Head: "ADDRESS"}, {Head: "NAME", Cut: 1, Least: 4}, {Head: "FROM", Cut: 2, Least: 6},
			{Head: "PROTO"}, {Head: "LOST"}, {Head: "LONGEST GAP"}, {Head: "BEGAN"}}, rows)
}

// joinedSums tells what was judged.
func joinedSums(b *strings.Builder, p output.Painter, j *losses.Joined) {
	s := j.Total
	all := targetsOf(s.Targets)
	tint := func(n int, c output.Colour) output.Colour {
		if n == 0 {
			return output.Green
		}
		return c
	}
	dark := fmt.Sprintf("%d of %s lost from all vantage points at the same time", s.Dark, all)
	if s.Dark > 0 {
		dark += fmt.Sprintf("; longest %s ms, of %s", millis(s.LongestDarkMS), s.LongestDarkIP)
	}
	output.Say(b, p, "dark", tint(s.Dark, output.Red), dark)
	output.Say(b, p, "path", tint(s.Path, output.Red),
		fmt.Sprintf("%d of %s lost from some, while others had answers", s.Path, all))
	if s.Unclear > 0 {
		output.Say(b, p, "unclear", output.Yellow,
			fmt.Sprintf("%d of %s lost packets, for too short to tell which, or as one "+
				"vantage point alone knows", s.Unclear, all))
	}
	if s.Alone > 0 {
		output.Say(b, p, "alone", output.Yellow, fmt.Sprintf("%d of %s measured from one vantage point only", s.Alone, all))
	}
	if s.NotJudged > 0 {
		output.Say(b, p, "note", output.Yellow,
			output.Thousands(s.NotJudged)+" gaps were not judged: outside of the common time, or not listed in a result")
	}
	var stopped []string
	for _, x := range j.Points {
		if x.Interrupted {
			stopped = append(stopped, x.Name)
		}
	}
	if len(stopped) > 0 {
		output.Say(b, p, "note", output.Plain, "interrupted: "+strings.Join(stopped, ", "))
	}
	output.Say(b, p, "time", output.Plain,
		fmt.Sprintf("%s, in which all of them measured", output.Secs(j.To.Sub(j.From.Time))))
}
