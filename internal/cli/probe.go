package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/fail"
	"holdfast/internal/losses"
)

// defaultRate is how many packets a second each target gets.
const defaultRate = 10.0

func (a *app) probeCmd() *cobra.Command {
	o := losses.Order{}
	var file string
	cmd := &cobra.Command{
		Use:   "probe --targets FILE --for TIME",
		Short: "Count the packets that many addresses lose, and how long",
		Long: `Sends ICMP echo requests to many addresses at a rate, and tells for each how
many were lost, and when and for how long no answer came. First each address is
asked for some seconds whether it answers at all; those that do not are listed
apart. It takes root, or CAP_NET_RAW. An interrupt ends it earlier, with the
result; a second one at once.

FILE has one IPv4 or IPv6 address a line, and perhaps a name after it; what
follows # is a comment. A gap is as long as measured to one interval between two
packets, 1/RATE. Times in which this machine could not send, or could not take
answers in, are told as not watched, and never as loss. See docs/probe.md.

Exit codes: 0 nothing lost, 1 packets were lost, 2 bad input, 3 nothing could be
measured.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.asJSON(cmd)
			if err == nil {
				err = inBounds(cmd, o, file)
			}
			if err == nil {
				o.Targets, err = a.targets(cmd, file)
			}
			if err != nil {
				return err
			}
			return a.probe(cmd.Context(), o, js)
		},
	}
	cmd.Flags().StringVar(&file, "targets", "", "`FILE` with the addresses; -: standard input")
	cmd.Flags().Float64Var(&o.Rate, "rate", defaultRate, "`packets` a second to each target, 0.1 to 1000")
	cmd.Flags().DurationVar(&o.For, "for", 0, "`TIME` that it takes, 1s to 24h")
	cmd.AddCommand(a.probeReportCmd())
	return cmd
}

// inBounds looks for what can not be measured.
func inBounds(cmd *cobra.Command, o losses.Order, file string) error {
	switch {
	case file == "":
		return usage(cmd, errors.New("no --targets FILE given"))
	case !(o.Rate >= losses.MinRate && o.Rate <= losses.MaxRate):
		return usage(cmd, fmt.Errorf("--rate %v: want %v to %v packets a second", o.Rate, losses.MinRate, losses.MaxRate))
	case o.For == 0 && !cmd.Flags().Changed("for"):
		return usage(cmd, fmt.Errorf("no --for TIME given; want %s to %s", losses.MinFor, losses.MaxFor))
	case o.For < losses.MinFor || o.For > losses.MaxFor:
		return usage(cmd, fmt.Errorf("--for %s: want %s to %s", o.For, losses.MinFor, losses.MaxFor))
	}
	return nil
}

// targets reads the list.
func (a *app) targets(cmd *cobra.Command, file string) ([]losses.Address, error) {
	in, name := source(cmd.Context(), a.env.Stdin), "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fail.Errorf(fail.Invalid, "--targets: %w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	list, err := losses.ReadTargets(name, in)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "--targets: %w", err)
	}
	return list, nil
}

func (a *app) probe(ctx context.Context, o losses.Order, js bool) error {
	shows := newTicker(a.env.Stderr)
	r, err := a.env.Probe(ctx, o, func(p losses.Progress) { shows.show(probeLine(p, o.For)) })
	said := shows.end()
	if r != nil {
		said = errors.Join(said, a.showLosses(r, js))
	}
	if err = errors.Join(err, said); err != nil {
		return err
	}
	if r.Total.Lost > 0 {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return nil
}

// probeLine is how far a measurement is, in a line.
func probeLine(p losses.Progress, of time.Duration) string {
	if p.Asking {
		return "asking which of " + targetsOf(p.Targets) + " answer"
	}
	line := fmt.Sprintf("%s of %s  %s  %s sent  %s lost", p.Passed.Round(time.Second), of, targetsOf(p.Targets), thousands(p.Sent), thousands(p.Lost))
	if p.LongestMS > 0 {
		line += fmt.Sprintf("  longest gap %s ms: %s", millis(p.LongestMS), p.Longest)
	}
	return line
}

func targetsOf(n int) string {
	if n == 1 {
		return fmt.Sprintf("%d target", n)
	}
	return fmt.Sprintf("%d targets", n)
}

// millis writes a time in milliseconds to a tenth.
func millis(ms float64) string {
	tenths := int64(math.Round(ms * 10))
	return fmt.Sprintf("%s.%d", thousands(tenths/10), tenths%10)
}

func (a *app) showLosses(r *losses.Result, js bool) error {
	if js {
		return writeJSON(a.env.Stdout, r, false)
	}
	return writeText(a.env.Stdout, lossesText(r, painterFor(a.env.Stdout)))
}

// Shown of a result: targets with losses, and silent ones. JSON has all.
const (
	shownWorst  = 20
	shownSilent = 10
)

// lossesText shows the worst targets, and the sums.
func lossesText(r *losses.Result, p painter) string {
	var b strings.Builder
	worst := r.Worst()
	var rows [][]cell
	for _, t := range worst[:min(len(worst), shownWorst)] {
		g, gaps := t.Longest(), int64(len(t.Gaps))+t.GapsLeftOut
		rows = append(rows, []cell{
			{t.IP.String(), plain}, {or(t.Name, "-"), plain}, {thousands(t.Sent), plain}, {thousands(t.Lost), red},
			{millis(t.LongestMS) + " ms", red}, {g.At.Local().Format("15:04:05.000"), plain}, {thousands(gaps), plain},
		})
	}
	if len(rows) > 0 {
		table(&b, p, []column{{head: "ADDRESS"}, {head: "NAME", cut: 1, least: 6}, {head: "SENT"}, {head: "LOST"}, {head: "LONGEST GAP"}, {head: "BEGAN"}, {head: "GAPS"}}, rows)
		b.WriteByte('\n')
	}
	if more := len(worst) - len(rows); more > 0 {
		say(&b, p, "more", red, fmt.Sprintf("%s more lost packets; -o json has them", targetsOf(more)))
	}
	if n := len(r.Silent); n > 0 {
		var names []string
		for _, s := range r.Silent[:min(n, shownSilent)] {
			names = append(names, clean(s.String()))
		}
		if n > shownSilent {
			names = append(names, "...")
		}
		say(&b, p, "silent", yellow, fmt.Sprintf("%s did not answer before the start: %s", targetsOf(n), strings.Join(names, ", ")))
	}
	if part := r.Unwatched(); part >= 0.0005 {
		say(&b, p, "unwatched", yellow, fmt.Sprintf("%.1f %% of the time, as this machine could not send, or not take answers in", 100*part))
	}
	if r.Total.Reordered > 0 {
		say(&b, p, "order", plain, thousands(r.Total.Reordered)+" answers came after the answer to a later packet")
	}
	if r.Interrupted {
		say(&b, p, "note", plain, "interrupted after "+secs(r.Ended.Sub(r.Began.Time)))
	}
	s, c := r.Total, green
	line := fmt.Sprintf("%s of %s packets lost, by %d of %s", thousands(s.Lost), thousands(s.Sent), s.Losing, targetsOf(s.Targets))
	if s.Lost > 0 {
		line += fmt.Sprintf("; longest gap %s ms, of %s", millis(s.LongestMS), s.LongestIP)
		c = red
	}
	say(&b, p, "total", c, line)
	return b.String()
}

func (a *app) probeReportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report FILE",
		Short: "Show a saved result again, also as a page for a browser",
		Long: `Shows the result that "probe -o json" has written: as text, as JSON, or with
-o html as one page with the gaps over the time, which needs no other file.
FILE may be -, standard input. The exit code is 0 also where packets were lost.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := a.format(cmd, "html")
			if err != nil {
				return err
			}
			in, name := source(cmd.Context(), a.env.Stdin), "standard input"
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fail.Errorf(fail.Invalid, "%w", err)
				}
				defer f.Close()
				in, name = io.Reader(f), args[0]
			}
			r, err := losses.Read(in)
			switch {
			case err != nil:
				return fail.Errorf(fail.Invalid, "%s: %w", name, err)
			case form == "html":
				var b strings.Builder
				if err := r.WriteHTML(&b); err != nil {
					return err
				}
				return writeFile(a.env.Stdout, b.String())
			}
			return a.showLosses(r, form == "json")
		},
	}
	return cmd
}
