package transition

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// What a site's transition is like, beside the states and results of jobs.
const (
	siteNone    = "none"      // no transition was begun
	siteUnknown = "no answer" // its agents do not answer, or not this caller
)

// siteTime bounds the questions to one agent.
const siteTime = 30 * time.Second

// siteView is how a site stands.
type siteView struct {
	Site    string        `json:"site"`
	State   string        `json:"state"` // active, paused, aborting, done, failed, aborted, none, "no answer"
	Needs   bool          `json:"needs_a_person"`
	Server  string        `json:"server,omitempty"` // that has answered
	Job     string        `json:"job,omitempty"`
	Stage   string        `json:"stage,omitempty"` // of the step
	Step    string        `json:"step,omitempty"`  // that runs, or comes next
	Percent int           `json:"percent"`         // of that step
	Over    int           `json:"steps_over"`      // done or skipped
	Steps   int           `json:"steps"`
	Since   time.Time     `json:"since,omitzero"` // the step began, or else the job changed
	Why     string        `json:"why,omitempty"`  // paused, ended or without an answer
	Note    string        `json:"note,omitempty"` // what the step says
	Waits   []string      `json:"waits,omitempty"`
	Lost    *siteLoss     `json:"lost,omitempty"` // nil: the upgrade of its hosts has not begun, or counts nothing
	LostWhy string        `json:"lost_unknown,omitempty"`
	ask     []*api.Client // of one site, in the order in which they are asked
}

// siteLoss sums what the guests of a site have lost in its last upgrade.
type siteLoss struct {
	Guests    int    `json:"guests"` // that were watched
	Sent      int64  `json:"sent"`   // packets
	Lost      int64  `json:"lost"`   // packets
	LongestMS int64  `json:"longest_gap_ms"`
	Worst     string `json:"worst,omitempty"` // the guest with the longest gap
}

func sitesCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "sites FILE",
		Short: "Show how the transitions of several clusters stand",
		Long: `Asks each cluster of a list for its last transition, all at once, and shows the
step that it is at, why it is paused, and what guests have lost in the upgrade
of its hosts. A cluster that does not answer is shown as such. - as FILE is
standard input. See docs/transition.md for the file.

Exit codes: 0 all go on, are done or have not begun; 1 one needs a person; 2 bad
input; 4 one does not answer, whatever the others say.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			return sites(cmd.Context(), a, args[0], js)
		},
	}
}

func sites(ctx context.Context, a *command.App, file string, js bool) error {
	name, text, err := a.ReadInput(ctx, file, transition.MaxFile+1)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	list, faults := transition.ParseSites(text)
	if len(faults) > 0 {
		return fail.Errorf(fail.Invalid, "%s", strictyaml.Lines(name, faults))
	}
	views, err := dialSites(list)
	for _, v := range views {
		for _, c := range v.ask {
			defer c.Close()
		}
	}
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, v := range views {
		all.Go(func() { v.look(ctx) })
	}
	all.Wait()
	if js {
		err = output.JSON(a.Env.Stdout, views, false)
	} else {
		err = output.Text(a.Env.Stdout, sitesText(views, output.PainterFor(a.Env.Stdout)))
	}
	if err != nil {
		return err
	}
	return sitesVerdict(views)
}

// dialSites prepares clients; nothing is asked yet.
func dialSites(list *transition.SitesFile) (views []*siteView, err error) {
	for _, s := range list.Sites {
		v := &siteView{Site: s.Name}
		views = append(views, v)
		targets, conf := s.Servers, (*tls.Config)(nil)
		if s.Socket != "" {
			targets = []string{"unix:" + s.Socket}
		} else if conf, err = command.LoadTLS(s.CA, s.Cert, s.Key); err != nil {
			return views, fail.Errorf(fail.Invalid, "site %s: %w", s.Name, err)
		}
		for _, t := range targets {
			c, err := api.Dial(t, conf)
			if err != nil {
				return views, fail.Errorf(fail.Invalid, "site %s: %w", s.Name, err)
			}
			v.ask = append(v.ask, c)
		}
	}
	return views, nil
}

// look asks the agents of a site until one answers.
func (v *siteView) look(ctx context.Context) {
	var errs []error
	for _, c := range v.ask {
		err := v.from(ctx, c)
		if err == nil {
			v.Server = c.Target()
			return
		}
		errs = append(errs, err)
	}
	v.State, v.Needs, v.Why = siteUnknown, true, errors.Join(errs...).Error()
}

// from asks one agent.
func (v *siteView) from(ctx context.Context, c *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, siteTime)
	defer cancel()
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return err
	}
	v.State = siteNone
	for _, j := range jobs { // the newest first
		if j.Kind != string(transition.Job) {
			continue
		}
		if j, err = c.Job(ctx, j.ID); err != nil {
			return err
		}
		v.take(j)
		return v.losses(ctx, c, j)
	}
	return nil
}

// take says how a transition stands.
func (v *siteView) take(j job.View) {
	v.Job, v.State, v.Since, v.Why, v.Waits = j.ID, j.State, j.Changed, j.Because(), j.WaitsFor()
	if j.State == string(job.Ended) {
		v.State = output.Or(j.Result, j.State)
	}
	if v.Since.IsZero() {
		v.Since = j.Began
	}
	v.Needs = v.State != string(job.Active) && v.State != string(job.Aborting) && v.State != "done"
	v.Steps = len(j.Steps)
	now := -1
	for i, s := range j.Steps {
		switch {
		case s.State == string(job.Done) || s.State == string(job.Skipped):
			v.Over++
		case now < 0:
			now = i
		}
	}
	if now < 0 {
		return
	}
	s := j.Steps[now]
	v.Step, v.Percent, v.Note = s.ID, s.Percent, s.Note
	v.Stage, _, _ = strings.Cut(s.ID, "/")
	if !s.Began.IsZero() && s.State == string(job.Running) {
		v.Since = s.Began
	}
}

// losses asks what guests have lost in an upgrade that has begun with the transition.
func (v *siteView) losses(ctx context.Context, c *api.Client, j job.View) error {
	u, err := c.Upgrade(ctx)
	if err != nil {
		return err
	}
	if u.Job == nil || u.Purpose != upgrade.ForUpgrade || u.Job.Began.Before(j.Began) {
		return nil
	}
	r, err := c.ReportUpgrade(ctx)
	if err != nil {
		v.LostWhy = err.Error() // the rest is known all the same
		return nil
	}
	v.Lost = sumLosses(r.Losses)
	return nil
}

func sumLosses(all []check.Loss) *siteLoss {
	if len(all) == 0 {
		return nil
	}
	sum := &siteLoss{Guests: len(all)}
	for _, l := range all {
		sum.Sent += l.Sent
		sum.Lost += l.Lost
		if l.LongestMS > sum.LongestMS {
			sum.LongestMS, sum.Worst = l.LongestMS, l.Guest
		}
	}
	return sum
}

// sitesVerdict is the end of the command: all is said already.
func sitesVerdict(views []*siteView) error {
	kind := fail.Kind("")
	for _, v := range views {
		switch {
		case v.State == siteUnknown:
			kind = fail.Unavailable
		case v.Needs && kind == "":
			kind = fail.Failed
		}
	}
	if kind == "" {
		return nil
	}
	return fail.Errorf(kind, "")
}

func sitesText(views []*siteView, p output.Painter) string {
	var b strings.Builder
	cols := []output.Column{{Head: "SITE"}, {Head: "STATE"}, {Head: "STEP", Cut: 2, Least: 12}, {Head: "OVER"},
		{Head: "SINCE"}, {Head: "NOTE", Cut: 1, Least: 12}}
	var rows [][]output.Cell
	for _, v := range views {
		c, over, since := output.Yellow, "", ""
		switch {
		case v.Needs:
			c = output.Red
		case v.State == "done":
			c = output.Green
		case v.State == siteNone:
			c = output.Plain
		}
		if v.Steps > 0 {
			over = fmt.Sprintf("%d/%d", v.Over, v.Steps)
		}
		if !v.Since.IsZero() {
			since = v.Since.UTC().Format(time.DateTime)
		}
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(v.Site)}, {Text: output.Clean(v.State), Colour: c}, {Text: output.Clean(v.Step)},
				{Text: over}, {Text: since}, {Text: v.said()}})
	}
	output.Table(&b, p, cols, rows)
	for _, v := range views {
		switch {
		case v.LostWhy != "":
			output.Say(&b, p, output.Clean(v.Site), output.Yellow,
				"what guests have lost is not known: "+output.Clean(v.LostWhy))
		case v.Lost != nil:
			output.Say(&b, p, output.Clean(v.Site), output.Plain, lostText(v.Lost))
		}
	}
	return b.String()
}

// said is what a row says of a site in words.
func (v *siteView) said() string {
	var parts []string
	if v.Percent > 0 {
		parts = append(parts, fmt.Sprintf("%d %%", v.Percent))
	}
	for _, s := range append([]string{v.Why, v.Note}, v.Waits...) {
		if s != "" {
			parts = append(parts, output.Clean(s))
		}
	}
	return strings.Join(parts, "; ")
}

func lostText(l *siteLoss) string {
	text := fmt.Sprintf("%s of %s packets lost by %s", output.Thousands(l.Lost), output.Thousands(l.Sent),
		plural(l.Guests, "guest"))
	if l.Worst != "" {
		text += fmt.Sprintf(", longest gap %d ms: %s", l.LongestMS, output.Clean(l.Worst))
	}
	return text
}
