package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
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
	upgradeHead(&b, p, u)
	if j := u.Job; j != nil {
		for _, s := range progress.StuckSteps(*j) {
			progress.StuckText(&b, p, s, progress.FewLines)
		}
		sayAll(&b, p, "waits", output.Yellow, j.WaitsFor())
	}
	saidOf(&b, p, u.Found)
	sayAll(&b, p, "undone", output.Yellow, u.Undone)
	var left []string
	for _, l := range u.Left {
		left = append(left, string(l.Name)+": "+l.Because())
	}
	sayAll(&b, p, "left out", output.Plain, left)
	sayAll(&b, p, "behind", output.Yellow, leftBehind(u.Behind))
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

// together makes one text of those that say the same of several hosts, or of steps: "h1, h2: it is down" of
// "h1: it is down" and "h2: it is down". The name is before the first colon, or, behind a command, before the second.
func together(texts []string) []string {
	type group struct {
		parts []string // of the first text, at colons
		at    int      // part that has the names; -1: none differed yet
		names []string
	}
	var groups []*group
	for _, t := range texts {
		parts := strings.SplitN(t, ": ", 3)
		found := false
		for _, g := range groups {
			if len(g.parts) != len(parts) {
				continue
			}
			var differ []int
			for i := range parts {
				if parts[i] != g.parts[i] {
					differ = append(differ, i)
				}
			}
			last := len(parts) - 1
			switch {
			case len(differ) == 0:
				found = true
			case len(differ) == 1 && differ[0] < last && !strings.Contains(parts[differ[0]], " ") && (g.at < 0 || g.at == differ[0]):
				found, g.at = true, differ[0]
				if len(g.names) == 0 {
					g.names = []string{g.parts[g.at]}
				}
				if !slices.Contains(g.names, parts[g.at]) {
					g.names = append(g.names, parts[g.at])
				}
			}
			if found {
				break
			}
		}
		if !found {
			groups = append(groups, &group{parts: parts, at: -1})
		}
	}
	out := make([]string, len(groups))
	for i, g := range groups {
		if g.at >= 0 {
			if more := len(g.names) - maxStepRows; more > 0 {
				g.names = append(g.names[:maxStepRows], fmt.Sprintf("and %d more", more))
			}
			g.parts[g.at] = strings.Join(g.names, ", ")
		}
		out[i] = strings.Join(g.parts, ": ")
	}
	return out
}

// sayAll writes texts below each other, at most maxStepRows of them.
func sayAll(b *strings.Builder, p output.Painter, label string, c output.Colour, texts []string) {
	texts = together(texts)
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
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(x, y request.Found) int { return strings.Compare(x.Level, y.Level) }) // fail, warn
	label := "found"
	for i, f := range found {
		if i == maxStepRows {
			output.Say(b, p, "", output.Plain, fmt.Sprintf("and %d more", len(found)-i))
			return
		}
		c := output.Yellow
		if f.Level == "fail" {
			c = output.Red
		}
		text := f.Step + ": " + f.Text
		if f.File != "" {
			text += " (" + f.File + ")"
		}
		output.Say(b, p, label, c, output.Clean(text))
		if f.Remedy != "" && (i+1 == len(found) || found[i+1].Fault != f.Fault) {
			output.Say(b, p, "", output.Plain, output.Clean(f.Remedy))
		}
		label = ""
	}
}

// leftBehind says what is known of hosts that have not the version of the cluster.
func leftBehind(hosts []request.Behind) (out []string) {
	for _, h := range hosts {
		text := "not upgraded: %s before the commit of %s, not read since"
		if h.Halfway {
			text = "left between %s and the new version by the commit of %s, not read since"
		}
		out = append(out,
			string(h.Name)+": "+fmt.Sprintf(text, output.Or(h.Version, "version not known"), output.WallClock(h.At)))
	}
	return out
}

func upgradeHead(b *strings.Builder, p output.Painter, u request.Standing) {
	c := map[upgrade.ClusterState]output.Colour{upgrade.Normal: output.Green,
		upgrade.Prepared: output.Green}[u.ClusterState]
	if c == output.Plain {
		c = output.Yellow
	}
	state := output.Or(u.ClusterState, "unknown")
	if u.ClusterState == upgrade.Normal && len(u.Undone) > 0 {
		c, state = output.Yellow, state+" but for what is undone"
	}
	text := p.Lang.Text(state) + ", version " + output.Or(u.Version, "unknown: no upgrade has told it yet")
	under := u.ClusterState != upgrade.Normal || u.Job != nil && u.Job.State != "ended"
	if under && u.To != "" && u.To != u.Version {
		text += " -> " + output.Clean(u.To)
	}
	if u.Committed {
		text += ", committed"
	}
	if u.NoQuorum {
		c = output.Red
		output.Say(b, p, "store", output.Red,
			fmt.Sprintf("it has no quorum: what follows was last known at %s", output.WallClock(u.AsOf)))
	}
	output.Say(b, p, "cluster", c, text)
	if u.Bundle != nil {
		bundleLine(b, p, u.Bundle)
	}
	j := u.Job
	if j == nil {
		output.Say(b, p, "run", output.Plain, "none yet")
		return
	}
	ends := progress.JobState(*j)
	text = output.Clean(j.ID) + ": " + output.Or(u.Purpose, j.Kind)
	if u.Mode != "" {
		text += ", " + output.Clean(u.Mode)
	}
	output.Say(b, p, "run", output.Plain,
		text+", by "+output.Or(j.User, "an unknown user")+" since "+output.WallClock(j.Began))
	text = ends.Text
	if why := j.Because(); why != "" {
		text += ": " + output.Clean(why)
	}
	output.Say(b, p, "state", ends.Colour, text)
	if u.Stage != "" && j.State != "ended" {
		output.Say(b, p, "stage", output.Plain, output.Clean(u.Stage))
	}
	text = fmt.Sprintf("%d of %d steps", u.Steps.Over, u.Steps.Total)
	if u.Steps.Failed > 0 {
		text += fmt.Sprintf(", %d failed", u.Steps.Failed)
	}
	if u.Steps.Dropped > 0 {
		text += fmt.Sprintf(", %d dropped with their hosts", u.Steps.Dropped)
	}
	output.Say(b, p, "progress", output.Plain, text)
}

func bundleLine(b *strings.Builder, p output.Painter, x *request.BundleInfo) {
	text := output.Clean(x.Name) + " " + output.Clean(x.Version)
	switch {
	case x.Unsigned:
		output.Say(b, p, "bundle", output.Red, text+", UNSIGNED: anybody may have made it")
		return
	case x.KeyID != "":
		text += ", signed by key " + output.Clean(x.KeyID)
	}
	output.Say(b, p, "bundle", output.Plain, text)
}

// trouble ranks a host: the lower, the earlier it is shown.
func trouble(h request.HostStanding, stuck map[cluster.HostID]bool) int {
	switch {
	case stuck[h.Name]:
		return 0
	case h.Mixed:
		return 1
	case h.Dropped != "":
		return 2
	case h.State == upgrade.HostRollup || h.State == upgrade.HostRolldown:
		return 3
	case h.Now != "":
		return 4
	}
	return 5
}

func upgradeHosts(b *strings.Builder, p output.Painter, u request.Standing) {
	stuck := map[cluster.HostID]bool{}
	if u.Job != nil {
		for _, s := range progress.StuckSteps(*u.Job) {
			stuck[s.Host] = true
		}
	}
	hosts := slices.Clone(u.Hosts)
	slices.SortStableFunc(hosts, func(x, y request.HostStanding) int { return trouble(x, stuck) - trouble(y, stuck) })
	var rows [][]output.Cell
	for _, h := range hosts[:min(len(hosts), maxHostRows)] {
		rows = append(rows, upgradeRow(h, stuck[h.Name]))
	}
	output.Table(b, p,
		[]output.Column{{Head: "HOST", Cut: 2, Least: 12}, {Head: "WAVE"}, {Head: "STATE"},
			{Head: "NOW", Cut: 1, Least: 12}}, rows)
	if more := len(hosts) - len(rows); more > 0 {
		fmt.Fprintf(b, "and %d more hosts; all of them: holdfast upgrade status -o json\n", more)
	}
}

func upgradeRow(h request.HostStanding, stuck bool) []output.Cell {
	state := output.Cell{Text: output.Or(h.State, "-")}
	switch h.State {
	case upgrade.HostRollup, upgrade.HostRolldown:
		state.Colour = output.Yellow
	case upgrade.HostRollupDone, upgrade.HostRolldownDone:
		state.Colour = output.Green
	}
	var notes []string
	switch {
	case h.Dropped != "":
		notes = append(notes, "left out by "+output.Clean(h.Dropped))
	case h.Approved != "":
		notes = append(notes, "approved by "+output.Clean(h.Approved))
	}
	if h.Mixed {
		notes = append(notes, "left half-way")
		state.Colour = output.Red
	}
	if h.Now != "" {
		notes = append(notes, output.Clean(h.Now))
	}
	if stuck {
		state.Colour = output.Red
	}
	wave := "-"
	if h.Wave > 0 {
		wave = fmt.Sprint(h.Wave)
	}
	return []output.Cell{{Text: output.Clean(h.Name)}, {Text: wave}, state,
		{Text: output.Or(strings.Join(notes, "; "), "-")}}
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
			rows = append(rows, []output.Cell{{Text: output.Clean(s.ID)}, progress.StepState(s), {Text: output.Or(s.Note, "-")}})
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
	shown := 0
	for _, s := range j.Steps {
		if s.State != "running" || s.Said.IsZero() || strings.TrimSpace(s.Tail) == "" {
			continue
		}
		if shown++; shown > maxSaying {
			return
		}
		head := output.Clean(s.ID) + ", last output " + output.WallClock(s.Said)
		if quiet := time.Since(s.Said).Truncate(time.Minute); quiet > 0 { // whole minutes: --watch writes what is new
			head += fmt.Sprintf(", quiet for %d min", quiet/time.Minute)
		}
		b.WriteString("\n" + head + "\n")
		log := strings.Split(strings.TrimRight(s.Tail, "\n"), "\n")
		for _, l := range log[max(0, len(log)-progress.FewLines):] {
			if l != "" {
				b.WriteString("          | " + output.Clean(l) + "\n")
			}
		}
	}
}
