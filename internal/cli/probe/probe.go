// Package probe has the command that counts the packets that targets lose.
package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/lib/fail"
)

// defaultRate is how many packets a second each target gets.
const defaultRate = 10.0

// Command counts the packets that targets lose.
func Command(a *command.App) *cobra.Command {
	o := losses.Order{}
	var file string
	var arp bool
	cmd := &cobra.Command{
		Use:   "probe --targets FILE --for TIME",
		Short: "Count the packets that many addresses lose, and how long",
		Long: `Sends ICMP echo requests to many addresses at a rate, and tells for each how
many were lost, and when and for how long no answer came. First each address is
asked for some seconds whether it answers at all; those that do not are listed
apart. It takes root, or CAP_NET_RAW. While it goes on, a terminal shows where
and when packets are lost. An interrupt ends it earlier, with the result; a
second one at once.

With --arp, IPv4 addresses on a directly connected network that do not answer
are asked by ARP instead. What answers is the machine itself, or whatever
answers ARP for it. --name tells results from several machines apart, which
"probe report" puts together.

FILE has one IPv4 or IPv6 address a line, and perhaps a name after it; what
follows # is a comment. A gap is as long as measured to one interval between two
packets, 1/RATE. Times in which this machine could not send, or could not take
answers in, are told as not watched, and never as loss. See docs/probe.md.

Exit codes: 0 nothing lost, 1 packets were lost, 2 bad input, 3 nothing could be
measured.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := inBounds(cmd, o, file); err != nil {
				return err
			}
			return arpInBounds(cmd, &o, arp)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err == nil {
				o.Name, err = vantage(cmd, o.Name)
			}
			if err == nil {
				o.Targets, err = targets(a, cmd, file)
			}
			if err != nil {
				return err
			}
			return probe(cmd.Context(), a, o, js)
		},
	}
	cmd.Flags().StringVar(&file, "targets", "", "`FILE` with the addresses; -: standard input")
	cmd.Flags().Float64Var(&o.Rate, "rate", defaultRate, "`packets` a second to each target, 0.1 to 1000")
	cmd.Flags().DurationVar(&o.For, "for", 0, "`TIME` that it takes, 1s to 24h")
	cmd.Flags().BoolVar(&arp, "arp", false, "ask silent addresses of connected networks by ARP")
	cmd.Flags().Float64Var(&o.ARPRate, "arp-rate", 0, "`n` questions a second to each by ARP, 0.1 to 10\n(default 1, "+
		"or RATE where that is less)")
	cmd.Flags().StringVar(&o.Name, "name", "", "`NAME` of this vantage point in the result\n(default: this machine's name)")
	cmd.AddCommand(probeReportCmd(a))
	return cmd
}

// arpInBounds looks at how often is asked by ARP, and sets it.
func arpInBounds(cmd *cobra.Command, o *losses.Order, arp bool) error {
	switch given := cmd.Flags().Changed("arp-rate"); {
	case given && !arp:
		return command.Usage(cmd, errors.New("--arp-rate: want --arp with it"))
	case given && !(o.ARPRate >= losses.MinRate && o.ARPRate <= losses.MaxARPRate):
		return command.Usage(cmd,
			fmt.Errorf("--arp-rate %v: want %v to %v questions a second", o.ARPRate, losses.MinRate, losses.MaxARPRate))
	case arp && !given:
		o.ARPRate = min(o.Rate, losses.DefaultARPRate)
	}
	return nil
}

// vantage is the name of the vantage point: as given, or that of this machine.
func vantage(cmd *cobra.Command, name string) (string, error) {
	if cmd.Flags().Changed("name") {
		if err := losses.CheckName(name); err != nil {
			return "", command.Usage(cmd, fmt.Errorf("--%w", err))
		}
		return name, nil
	}
	name, err := os.Hostname()
	if err == nil {
		err = losses.CheckName(name)
	}
	if err != nil {
		return "", fail.Errorf(fail.Invalid, "the name of this machine: %w", err).With("give another with --name")
	}
	return name, nil
}

// inBounds looks for what can not be measured.
func inBounds(cmd *cobra.Command, o losses.Order, file string) error {
	switch {
	case file == "":
		return command.Usage(cmd,
			errors.New("no --targets given; want a file with an address a line, or - for standard input"))
	case !(o.Rate >= losses.MinRate && o.Rate <= losses.MaxRate):
		return command.Usage(cmd,
			fmt.Errorf("--rate %v: want %v to %v packets a second", o.Rate, losses.MinRate, losses.MaxRate))
	case o.For == 0 && !cmd.Flags().Changed("for"):
		return command.Usage(cmd, fmt.Errorf("no --for TIME given; want %s to %s", losses.MinFor, losses.MaxFor))
	case o.For < losses.MinFor || o.For > losses.MaxFor:
		return command.Usage(cmd, fmt.Errorf("--for %s: want %s to %s", o.For, losses.MinFor, losses.MaxFor))
	}
	return nil
}

// targets reads the list.
func targets(a *command.App, cmd *cobra.Command, file string) ([]losses.Address, error) {
	in, name := command.Source(cmd.Context(), a.Env.Stdin), "standard input"
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

func probe(ctx context.Context, a *command.App, o losses.Order, js bool) error {
	shows := newLossMap(a.Env.Stderr)
	r, err := a.Env.Probe(ctx, o, func(p losses.Progress) { shows.show(p, o.For) })
	said := shows.End()
	if r != nil {
		said = errors.Join(said, showLosses(a, r, js))
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
	switch p.Asking {
	case losses.ICMP:
		return "asking which of " + targetsOf(p.Targets) + " answer"
	case losses.ARP:
		return "asking by ARP which of " + targetsOf(p.Targets) + " answer"
	}
	line := fmt.Sprintf("%s of %s  %s  %s sent  %s lost", p.Passed.Round(time.Second), of, targetsOf(p.Targets),
		output.Thousands(p.Sent), output.Thousands(p.Lost))
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
	return fmt.Sprintf("%s.%d", output.Thousands(tenths/10), tenths%10)
}

func showLosses(a *command.App, r *losses.Result, js bool) error {
	if js {
		return output.JSON(a.Env.Stdout, r, false)
	}
	return output.Text(a.Env.Stdout, lossesText(r, output.PainterFor(a.Env.Stdout)))
}

// Shown of a result: targets with losses, and silent ones. JSON has all.
const (
	shownWorst  = 20
	shownSilent = 10
)

// lossesText shows the worst targets, and the sums.
func lossesText(r *losses.Result, p output.Painter) string {
	var b strings.Builder
	worst := r.Worst()
	var rows [][]output.Cell
	for _, t := range worst[:min(len(worst), shownWorst)] {
		g, gaps := t.Longest(), int64(len(t.Gaps))+t.GapsLeftOut
		rows = append(rows, []output.Cell{
			{Text: t.IP.String()}, {Text: output.Or(t.Name, "-")}, {Text: string(t.By)}, {Text: output.Thousands(t.Sent)},
			{Text: output.Thousands(t.Lost), Colour: output.Red}, {Text: millis(t.LongestMS) + " ms", Colour: output.Red},
			{Text: g.At.Local().Format("15:04:05.000")}, {Text: output.Thousands(gaps)},
		})
	}
	if len(rows) > 0 {
		output.Table(&b, p,
			[]output.Column{{Head: "ADDRESS"}, {Head: "NAME", Cut: 1, Least: 6}, {Head: "PROTO"}, {Head: "SENT"},
				{Head: "LOST"}, {Head: "LONGEST GAP"}, {Head: "BEGAN"}, {Head: "GAPS"}}, rows)
		b.WriteByte('\n')
	}
	if more := len(worst) - len(rows); more > 0 {
		output.Say(&b, p, "more", output.Red, fmt.Sprintf("%s more lost packets; -o json has them", targetsOf(more)))
	}
	saySilent(&b, p, r.Silent)
	if r.Total.ByARP > 0 {
		output.Say(&b, p, "arp", output.Plain, fmt.Sprintf("%s asked by ARP, %v a second: the order of answers is not known",
			targetsOf(r.Total.ByARP), r.ARPRate))
	}
	if part := r.Unwatched(); part >= 0.0005 {
		output.Say(&b, p, "unwatched", output.Yellow,
			fmt.Sprintf("%.1f %% of the time, as this machine could not send, or not take answers in", 100*part))
	}
	if r.Total.Reordered > 0 {
		output.Say(&b, p, "order", output.Plain,
			output.Thousands(r.Total.Reordered)+" answers came after the answer to a later packet")
	}
	if r.Interrupted {
		output.Say(&b, p, "note", output.Plain, "interrupted after "+output.Secs(r.Ended.Sub(r.Began.Time)))
	}
	s, c := r.Total, output.Green
	line := fmt.Sprintf("%s of %s packets lost, by %d of %s", output.Thousands(s.Lost), output.Thousands(s.Sent),
		s.Losing, targetsOf(s.Targets))
	if s.Lost > 0 {
		line += fmt.Sprintf("; longest gap %s ms, of %s", millis(s.LongestMS), s.LongestIP)
		c = output.Red
	}
	output.Say(&b, p, "total", c, line)
	return b.String()
}

// saySilent tells which targets did not answer before the start, and by what they were asked.
func saySilent(b *strings.Builder, p output.Painter, silent []losses.Silent) {
	n := len(silent)
	if n == 0 {
		return
	}
	var names []string
	byARP := 0
	for i, s := range silent {
		if slices.Contains(s.AskedBy, losses.ARP) {
			byARP++
		}
		if i < shownSilent {
			names = append(names, output.Clean(s.Address.String()))
		}
	}
	if n > shownSilent {
		names = append(names, "...")
	}
	line := fmt.Sprintf("%s did not answer before the start: %s", targetsOf(n), strings.Join(names, ", "))
	if byARP > 0 {
		line += fmt.Sprintf("; %d of them also asked by ARP", byARP)
	}
	output.Say(b, p, "silent", output.Yellow, line)
}
