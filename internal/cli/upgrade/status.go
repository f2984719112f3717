package upgrade

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/request"
)

// upgradeEvery is the time between two looks of upgrade status --watch.
const upgradeEvery = time.Second

// What upgrade status shows at most; JSON has all of it.
const (
	maxHostRows = 40
	maxStepRows = 20
)

func statusCmd(a *command.App) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the upgrade, and the next commands",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return watchUpgrade(cmd.Context(), a, c, js)
			}
			if js {
				return showUpgradeNow(cmd.Context(), a, c)
			}
			u, err := c.Upgrade(cmd.Context())
			if err != nil {
				return err
			}
			return output.Text(a.Env.Stdout, upgradeText(u, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// watchUpgrade shows how the upgrade stands until the user ends it, which is no
// error. On a terminal it stays in place; elsewhere only changed text is written
// again. An agent that has answered once may go away: upgrades start agents again.
func watchUpgrade(ctx context.Context, a *command.App, c *api.Client, js bool) error {
	tick := time.NewTicker(upgradeEvery)
	defer tick.Stop()
	v := &upgradeView{app: a, js: js, terminal: output.IsTerminal(a.Env.Stdout)}
	for {
		u, err := c.Upgrade(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := v.show(u, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// upgradeView shows the same thing again and again.
type upgradeView struct {
	app      *command.App
	js       bool
	terminal bool
	last     string // that the agent said
	said     string // that was written
}

// show writes what is new. err is how asking has ended.
func (v *upgradeView) show(u request.Standing, err error) error {
	text := ""
	switch {
	case err != nil && (v.last == "" || !progress.Away(err)):
		return err
	case err != nil && v.js:
		return nil
	case err != nil:
		text = v.last + "\nagent     gives no answer and is asked again; the above may be old\n"
	case v.js:
		v.last = "answered"
		return output.JSON(v.app.Env.Stdout, u, true)
	default:
		text = upgradeText(u, output.PainterFor(v.app.Env.Stdout))
		v.last = text
	}
	before := v.said
	v.said = text
	switch {
	case v.terminal:
		text = "\x1b[H\x1b[2J" + text
	case text == before:
		return nil
	case before != "":
		text = "\n" + text
	}
	return output.Text(v.app.Env.Stdout, text)
}

// upgradeText writes how an upgrade stands for people, in at most 80 columns.
func upgradeText(u request.Standing, p output.Painter) string {
	var b strings.Builder
	for _, l := range told.Standing(u, p.Lang.Text) {
		output.Line(&b, p, l)
	}
	if j := u.Job; j != nil {
		for _, s := range told.StuckSteps(*j) {
			progress.StuckText(&b, p, s, progress.FewLines)
		}
		sayAll(&b, p, "waits", output.Yellow, j.WaitsFor())
	}
	saidOf(&b, p, u.Found)
	sayAll(&b, p, "undone", output.Yellow, u.Undone)
	sayAll(&b, p, "left out", output.Plain, told.LeftOut(u.Left))
	sayAll(&b, p, "behind", output.Yellow, told.LeftBehind(u.Behind))
	sayAll(&b, p, "blocked", output.Yellow, u.Blocked)
	sayAll(&b, p, "next", output.Bold, u.Next)
	if len(u.Hosts) > 0 {
		b.WriteByte('\n')
		upgradeHosts(&b, p, u)
	}
	if u.Job != nil {
		runningSteps(&b, p, u.Job)
	}
	return b.String()
}

// sayAll writes texts below each other, at most maxStepRows of them.
func sayAll(b *strings.Builder, p output.Painter, label string, c output.Colour, texts []string) {
	texts = told.Together(texts)
	for i, t := range texts {
		if i == maxStepRows {
			output.Say(b, p, "", output.Plain, fmt.Sprintf("and %d more", len(texts)-i))
			return
		}
		output.Say(b, p, label, c, output.Clean(t))
		label = ""
	}
}

// saidOf shows what programs have said of trouble, failures first.
func saidOf(b *strings.Builder, p output.Painter, found []request.Found) {
	shown := 0
	for _, l := range told.Found(found) {
		if l.Label != "" {
			if shown++; shown > maxStepRows {
				output.Say(b, p, "", output.Plain, fmt.Sprintf("and %d more", len(found)-maxStepRows))
				return
			}
		}
		if shown > 1 {
			l.Label = ""
		}
		output.Line(b, p, l)
	}
}

func upgradeHosts(b *strings.Builder, p output.Painter, u request.Standing) {
	hosts := told.UpgradeHosts(u)
	var rows [][]output.Cell
	for _, h := range hosts[:min(len(hosts), maxHostRows)] {
		var row []output.Cell
		for _, c := range h.Cells {
			row = append(row, output.Toned(c))
		}
		rows = append(rows, row)
	}
	cols := []output.Column{{Cut: 2, Least: 12}, {}, {}, {Cut: 1, Least: 12}}
	for i := range cols {
		cols[i].Head = told.UpgradeHeads[i]
	}
	output.Table(b, p, cols, rows)
	if more := len(hosts) - len(rows); more > 0 {
		fmt.Fprintf(b, "and %d more hosts; all of them: holdfast upgrade status -o json\n", more)
	}
}

func runningSteps(b *strings.Builder, p output.Painter, j *job.View) {
	var rows [][]output.Cell
	more := 0
	for _, s := range j.Steps {
		switch {
		case s.State != "running" && s.State != "granted":
		case len(rows) == maxStepRows:
			more++
		default:
			rows = append(rows, []output.Cell{{Text: output.Clean(s.ID)}, output.Toned(told.StepState(s)), {Text: output.Or(s.Note, "-")}})
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteByte('\n')
	output.Table(b, p,
		[]output.Column{{Head: "STEP", Cut: 2, Least: 12}, {Head: "STATE"}, {Head: "NOTE", Cut: 1, Least: 12}}, rows)
	if more > 0 {
		fmt.Fprintf(b, "and %d more steps\n", more)
	}
	saidLately(b, j)
}

// maxSaying bounds the steps of which the last lines are shown while they run.
const maxSaying = 3

// saidLately shows the last lines of steps that run, and for how long they have said nothing more.
func saidLately(b *strings.Builder, j *job.View) {
	speaking := told.Speaking(*j)
	for _, s := range speaking[:min(len(speaking), maxSaying)] {
		head := output.Clean(s.ID) + ", last output " + output.WallClock(s.Said)
		if quiet := time.Since(s.Said).Truncate(time.Minute); quiet > 0 { // whole minutes: --watch writes what is new
			head += fmt.Sprintf(", quiet for %d min", quiet/time.Minute)
		}
		b.WriteString("\n" + head + "\n")
		for _, l := range told.LastLines(s.Tail, progress.FewLines) {
			b.WriteString("          | " + l + "\n")
		}
	}
}
