package upgrade

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

func checkCmd(a *command.App) *cobra.Command {
	var in upgradeInput
	var f planFlags
	var dir string
	var list bool
	cmd := &cobra.Command{
		Annotations: map[string]string{command.MoreForms: "html"},
		Use:         "check",
		Short:       told.Meaning(request.Check),
		Long: `Checks all hosts, and reports each problem with its remedy. Nothing is changed.
With --bundle it also makes the plan, and fails for all that "upgrade run" would
refuse: give it the same options. The modes are described there. Without
--bundle, what needs a bundle is left out. The report is text, JSON or a page
for a browser (-o html); --dir writes all three into a directory.

Exit codes: 0 no check has failed, 1 a check has failed, 2 bad input,
4 agent not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.check(cmd); err != nil {
				return err
			}
			f.keep = f.keep || len(f.pin) > 0 // guests stay where bridges are pinned
			_, err := f.options()
			return command.Usage(cmd, err)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return listChecks(a, cmd)
			}
			o, err := f.options()
			if err != nil {
				return command.Usage(cmd, err)
			}
			return upgradeCheck(a, cmd, &in, o, dir)
		},
	}
	in.flags(a, cmd)
	f.flags(cmd)
	cmd.Flags().StringVar(&dir, "dir", "", "write the report into this `directory`, in all\nforms")
	cmd.Flags().BoolVar(&list, "list", false, "list the checks, without asking an agent")
	return cmd
}

func upgradeCheck(a *command.App, cmd *cobra.Command, in *upgradeInput, o upgrade.Options, dir string) error {
	form, err := a.Format(cmd, "html")
	if err != nil {
		return err
	}
	r, err := in.request(o)
	if err != nil {
		return err
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if in.file != "" {
		f, trust, err := bundleFile(cmd.Context(), a, in)
		if err != nil {
			return err
		}
		defer f.Close()
		sent, err := bring(cmd.Context(), a, c, f, trust)
		if err != nil {
			return err
		}
		r.Bundle = sent.SHA256
	}
	rep, err := c.CheckUpgrade(cmd.Context(), r)
	if err != nil {
		return err
	}
	if err := showReport(a, rep, form, dir); err != nil {
		return err
	}
	if check.Worst(rep.Findings) == check.Fail {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return nil
}

// reportFiles names the files of a report for programs.
type reportFiles struct {
	Text string `json:"text"`
	JSON string `json:"json"`
	HTML string `json:"html"`
}

// showReport writes a report, or all of its forms into a directory.
func showReport(a *command.App, rep check.Report, form, dir string) error {
	if dir == "" {
		raw, _ := lang.Raw(a.Env.Stdout)
		switch form {
		case "json":
			return check.WriteJSON(raw, rep)
		case "html":
			return check.WriteHTML(raw, rep)
		}
		return check.WriteText(a.Env.Stdout, rep)
	}
	files, err := check.WriteAll(dir, rep)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if form == "json" {
		return output.JSON(a.Env.Stdout, reportFiles(files), false)
	}
	n := check.Count(rep.Findings)
	return output.Text(a.Env.Stdout, fmt.Sprintf("%s\n%s\n%s\n%d failed, %d warnings\n",
		output.Clean(files.Text), output.Clean(files.JSON), output.Clean(files.HTML), n[check.Fail], n[check.Warn]))
}

// listedCheck is a check for programs.
type listedCheck struct {
	ID    string       `json:"id"`
	When  []check.When `json:"when"`
	Title string       `json:"title"`
	Doc   string       `json:"doc"`
}

func listChecks(a *command.App, cmd *cobra.Command) error {
	js, err := a.AsJSON(cmd)
	if err != nil {
		return err
	}
	var out []listedCheck
	var b strings.Builder
	p := output.PainterFor(a.Env.Stdout)
	for _, c := range check.List() {
		out = append(out, listedCheck{c.ID, c.When, c.Title, c.Doc})
		var when []string
		for _, w := range c.When {
			when = append(when, string(w))
		}
		b.WriteString(p.Paint(output.Bold, c.ID) + ": " + c.Title + " (" + strings.Join(when, ", ") + ")\n")
		output.Say(&b, p, "", output.Plain, c.Doc)
	}
	if js {
		return output.JSON(a.Env.Stdout, out, false)
	}
	return output.Text(a.Env.Stdout, b.String())
}

// failedChecks writes what has failed.
func failedChecks(b *strings.Builder, p output.Painter, rep *check.Report) {
	for _, f := range rep.Findings {
		if f.Level != check.Fail {
			continue
		}
		output.Say(b, p, "failed", output.Red, told.CheckFinding(f))
	}
}

func reportCmd(a *command.App) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Annotations: map[string]string{command.MoreForms: "html"},
		Use:         "report",
		Short:       told.Meaning(request.Report),
		Long: `Checks all hosts and reports their state after the last upgrade. If lost packets
were measured, the report shows how many each guest lost. The report is text,
JSON or a page for a browser (-o html); --dir writes all three into a directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, err := a.Format(cmd, "html")
			if err != nil {
				return err
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			rep, err := c.ReportUpgrade(cmd.Context())
			if err != nil {
				return err
			}
			return showReport(a, rep, form, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write the report into this `directory`, in all\nforms")
	return cmd
}
