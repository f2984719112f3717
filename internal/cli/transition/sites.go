package transition

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
)

// siteTime bounds the questions to one agent.
const siteTime = 30 * time.Second

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
	views, err := askSites(ctx, list)
	if err != nil {
		return err
	}
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

// askSites asks all at once, once all can be asked.
func askSites(ctx context.Context, list *transition.SitesFile) ([]transition.SiteState, error) {
	var ask []*api.Site
	defer func() {
		for _, s := range ask {
			s.Close()
		}
	}()
	for _, site := range list.Sites {
		s, err := api.DialSite(site)
		if err != nil {
			return nil, err
		}
		ask = append(ask, s)
	}
	views := make([]transition.SiteState, len(ask))
	var all sync.WaitGroup
	for i, s := range ask {
		all.Go(func() { views[i] = s.Look(ctx, siteTime, true) })
	}
	all.Wait()
	return views, nil
}

// sitesVerdict is the end of the command: all is said already.
func sitesVerdict(views []transition.SiteState) error {
	kind := fail.Kind("")
	for _, v := range views {
		switch {
		case v.State == transition.SiteUnknown:
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

func sitesText(views []transition.SiteState, p output.Painter) string {
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
		case v.State == transition.SiteNone:
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
				{Text: over}, {Text: since}, {Text: siteSaid(v)}})
	}
	output.Table(&b, p, cols, rows)
	for _, v := range views {
		switch {
		case v.LostUnknown != "":
			output.Say(&b, p, output.Clean(v.Site), output.Yellow,
				"what guests have lost is not known: "+output.Clean(v.LostUnknown))
		case v.Lost != nil:
			output.Say(&b, p, output.Clean(v.Site), output.Plain, lostText(v.Lost))
		}
	}
	return b.String()
}

// siteSaid is what a row says of a site in words.
func siteSaid(v transition.SiteState) string {
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

func lostText(l *transition.SiteLoss) string {
	text := fmt.Sprintf("%s of %s packets lost by %s", output.Thousands(l.Lost), output.Thousands(l.Sent),
		plural(l.Guests, "guest"))
	if l.Worst != "" {
		text += fmt.Sprintf(", longest gap %d ms: %s", l.LongestMS, output.Clean(l.Worst))
	}
	return text
}
