package transition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
)

func dbVerifyCmd(a *command.App) *cobra.Command {
	var m dbMapping
	var parallel int
	var nova novaReader
	cmd := &cobra.Command{
		Use:   "verify --mapping FILE --source DSN --target DSN",
		Short: "Compare every row of the target with the source's, mapped",
		Long: `Compares the rows of the target with the rows that the mapping makes of the
source: how many there are, and a checksum of every chunk of them. Then asks
whether what the mapping's checks want holds, and whether rows have what they
refer to. The source must stand still meanwhile, or a run follow it (run
--follow in another terminal): then rows that are written meanwhile are compared
again until they are equal, so that faults are seen while the old platform still
serves; compare again after the cut-over. With --nova-conf, Nova's own code
reads some of the guests, on a machine that has it (Xena or later).

Exit codes: 0 all is equal and holds, 1 it is not, 2 bad input, 3 refused,
because rows are still being copied, or a copy has neither had its cut-over nor
a run that follows, or was begun otherwise, 4 a server is not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := inRange(cmd, parallel); err != nil {
				return err
			}
			if err := nova.check(cmd); err != nil {
				return err
			}
			return m.check(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			js, err := a.AsJSON(cmd)
			if err == nil {
				err = nova.there(cmd)
			}
			if err != nil {
				return err
			}
			x, err := m.open(cmd, a)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			return verify(cmd.Context(), a, x, parallel, nova, js)
		},
	}
	m.flags(cmd)
	parallelFlag(cmd, &parallel)
	nova.flags(cmd)
	return cmd
}

func verify(ctx context.Context, a *command.App, x *align.Alignment, parallel int, nova novaReader, js bool) error {
	shows := progress.NewTicker(a.Env.Stderr)
	r, err := x.Verify(ctx, parallel, nova.Nova, tellOn(shows))
	if err == nil {
		shows.Parts("compared", compared(r))
	}
	if err = errors.Join(runError(faults(a, err)), shows.End()); err != nil {
		return err
	}
	if js {
		err = output.JSON(a.Env.Stdout, r, false)
	} else {
		err = output.Text(a.Env.Stdout, verifyText(r, output.PainterFor(a.Env.Stdout)))
	}
	if err == nil && !r.Equal {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// shownKeys is how many keys of rows a check's line has; -o json has more.
const shownKeys = 5

// verifyText shows what differs after what does not.
func verifyText(r *align.Verified, p output.Painter) string {
	var b strings.Builder
	var rows [][]output.Cell
	for _, t := range r.Tables {
		is := output.Cell{Text: "equal", Colour: output.Green}
		if !t.ChecksumEqual {
			is = output.Cell{Text: "differs", Colour: output.Red}
		}
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(t.Target)}, {Text: output.Thousands(t.SourceRows)},
				{Text: output.Thousands(t.TargetRows)}, is})
	}
	output.Table(&b, p,
		[]output.Column{{Head: "TABLE", Cut: 1, Least: 20}, {Head: "SOURCE"}, {Head: "TARGET"}, {Head: "ROWS ARE"}}, rows)
	b.WriteByte('\n')
	for _, t := range r.Tables {
		for _, d := range t.Differences {
			output.Say(&b, p, "differs", output.Red,
				output.Clean(fmt.Sprintf("%s %s: %s", t.Target, strings.Join(d.Key, ", "), d.What)))
		}
	}
	for _, t := range r.Tables {
		if len(t.NotCompared) > 0 {
			output.Say(&b, p, "note", output.Plain,
				output.Clean(fmt.Sprintf("%s: not compared, as the mapping gives them no value: %s",
					t.Target, strings.Join(t.NotCompared, ", "))))
		}
	}
	broken := 0
	for _, c := range r.Checks {
		if !c.Holds {
			broken++
			why := c.Error
			if why == "" {
				why = output.Thousands(c.Broken) + " rows break it"
			}
			if len(c.Keys) > 0 {
				why += fmt.Sprintf(" (%s of the first: %s)", strings.Join(c.Columns, ", "), strings.Join(c.Keys[:min(len(c.Keys), shownKeys)], "; "))
				if len(c.Keys) > shownKeys {
					why += "; ..."
				}
			}
			where := ""
			if c.Table != "" {
				where = c.Table + ": "
			}
			output.Say(&b, p, "broken", output.Red, output.Clean(where+c.Name+": "+why))
		}
	}
	output.Say(&b, p, "checks", output.Plain, fmt.Sprintf("%d of %d hold", len(r.Checks)-broken, len(r.Checks)))
	if r.Equal {
		output.Say(&b, p, "equal", output.Green, "all rows are as the mapping makes them, and all checks hold")
		if r.Following {
			output.Say(&b, p, "note", output.Plain,
				"the source is still written to, and a run follows it: compare again after the cut-over")
		}
	} else {
		output.Say(&b, p, "not equal", output.Red, "the target is not as it is to be: do not start the new platform on it")
	}
	return b.String()
}

// novaReader is where Nova's own code is; without conf it is not asked.
type novaReader struct{ align.Nova }

func (n *novaReader) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.Conf, "nova-conf", "", fmt.Sprintf("let Nova's own code read %d guests, too; `FILE` "+
		"has\nits settings, with the new databases' addresses", align.Sampled))
	cmd.Flags().BoolVar(&n.All, "all", false, "let it read all guests that are there, not some")
	cmd.Flags().StringVar(&n.Python, "nova-python", "python3", "`PYTHON` that has Nova's code")
}

// check looks for what can not be meant.
func (n *novaReader) check(cmd *cobra.Command) error {
	for _, f := range []string{"nova-python", "all"} {
		if n.Conf == "" && cmd.Flags().Changed(f) {
			return command.Usage(cmd, fmt.Errorf("--%s: want --nova-conf, too", f))
		}
	}
	return nil
}

// there looks whether what is needed is on this host.
func (n *novaReader) there(cmd *cobra.Command) error {
	if n.Conf == "" {
		return nil
	}
	f, err := os.Open(n.Conf)
	if err != nil {
		return command.Usage(cmd, fmt.Errorf("--nova-conf: %w", err))
	}
	defer f.Close()
	if _, err := exec.LookPath(n.Python); err != nil {
		return command.Usage(cmd, fmt.Errorf("--nova-python: %w", err))
	}
	return nil
}
