package transition

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
)

func dbPlanCmd(a *command.App) *cobra.Command {
	var m dbMapping
	cmd := &cobra.Command{
		Use:   "plan --mapping FILE --source DSN --target DSN",
		Short: "Say what a run would do, and all that stands in its way",
		Long: `Reads both schemas and asks the rows, and writes nothing. Shows every statement,
the number of rows, and all that stands in the way at once: columns that go
nowhere or get no value, values without an ID, what does not fit, keys that
collide, rows without what they refer to, tables that are not empty.

Exit codes: 0 nothing stands in the way, 2 something does or bad input, 3
refused, because the IDs of a copy that has begun are others now, 4 a server is
not reachable.`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return m.check(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			x, err := m.open(cmd, a)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			r, err := x.Plan(cmd.Context())
			if err != nil {
				return planError(err)
			}
			return showSurvey(a, r, js)
		},
	}
	m.flags(cmd)
	return cmd
}

// showSurvey writes a plan; one with errors is bad input. Of the advice, what is to be
// done before a run is shown.
func showSurvey(a *command.App, r *align.Survey, js bool) error {
	var err error
	if js {
		err = output.JSON(a.Env.Stdout, r, false)
	} else {
		err = output.Text(a.Env.Stdout, surveyText(r, output.PainterFor(a.Env.Stdout)))
	}
	if err == nil && len(r.Errors) > 0 {
		return fail.Errorf(fail.Invalid, "") // all is said
	}
	return err
}

// beforeRun begins an advice for the time before a run.
const beforeRun = "Before: "

// surveyText writes the statements first: what must be seen is at the end.
func surveyText(r *align.Survey, p output.Painter) string {
	var b strings.Builder
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "%s\n%s;\n\n", p.Paint(output.Bold, "-- "+output.Clean(t.Target)+" from "+output.Clean(t.Source)),
			output.Clean(t.Statement))
	}
	var rows [][]output.Cell
	var total int64
	var seconds float64
	for _, t := range r.Tables {
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(t.Target)}, {Text: output.Clean(t.Source)}, {Text: output.Thousands(t.Rows)},
				{Text: about(t.Seconds)}})
		total, seconds = total+t.Rows, seconds+t.Seconds
	}
	if len(rows) > 1 {
		rows = append(rows,
			[]output.Cell{{}, {}, {Text: output.Thousands(total), Colour: output.Bold},
				{Text: about(seconds), Colour: output.Bold}})
	}
	if len(rows) > 0 {
		output.Table(&b, p,
			[]output.Column{{Head: "TABLE", Cut: 2, Least: 20}, {Head: "FROM", Cut: 1, Least: 20}, {Head: "ROWS"},
				{Head: "ABOUT"}}, rows)
		b.WriteByte('\n')
	}
	for _, adv := range r.Advice {
		if before, ok := strings.CutPrefix(adv, beforeRun); ok {
			output.Say(&b, p, "before", output.Plain, output.Clean(before))
		}
	}
	for _, line := range r.Warned() {
		output.Say(&b, p, "warning", output.Yellow, output.Clean(line))
	}
	for _, f := range r.Errors {
		output.Say(&b, p, "error", output.Red, output.Clean(f.Line()))
		if f.Right { // as they are: people paste them
			for _, v := range f.Values {
				b.WriteString("  " + output.Clean(v) + "\n")
			}
		}
	}
	if len(r.Errors) == 0 {
		output.Say(&b, p, "ok", output.Green, "nothing stands in the way")
	} else {
		what := plural(len(r.Errors), "error") + " to be mended before anything can be copied"
		if r.Begun {
			what = plural(len(r.Errors), "error") + " to be mended before the copy can go on"
		}
		output.Say(&b, p, "refused", output.Red, what)
	}
	return b.String()
}

// numbers are how many things there are, of one and of several: whole messages, which have translations.
var numbers = map[string][2]string{
	"difference": {"%d difference", "%d differences"}, "error": {"%d error", "%d errors"}, "fault": {"%d fault", "%d faults"},
	"file": {"%d file", "%d files"}, "flow": {"%d flow", "%d flows"}, "group": {"%d group", "%d groups"}, "guest": {"%d guest", "%d guests"},
	"port": {"%d port", "%d ports"}, "step": {"%d step", "%d steps"}, "table": {"%d table", "%d tables"},
}

// plural is a number of things that numbers has.
func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf(numbers[what][0], n)
	}
	return fmt.Sprintf(numbers[what][1], n)
}

// about writes an estimate.
func about(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return max(time.Second, time.Duration(seconds*float64(time.Second)).Round(time.Second)).String()
}
