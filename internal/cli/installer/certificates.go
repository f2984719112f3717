package installer

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
	"holdfast/internal/install"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
)

// certLine is a certificate as `certificates` shows it to programs.
type certLine struct {
	Host string `json:"host"`
	inventory.Certificate
}

func certificatesCmd(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certificates",
		Short: "List the certificates of all hosts, or renew them",
		Long: `Lists the certificates of all hosts: "agent" for the agent and the store,
"memory" with which QEMU encrypts guests' memory, "libvirt" for libvirtd.

States: valid; due, the agent renews it now; ends soon, it should have been
renewed; expired. What prevents a renewal stands below the table. An agent
renews by itself when a third of a certificate's life is left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hosts, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) ([]inventory.Summary, error) { return c.GuestHosts(ctx) })
			if err != nil {
				return err
			}
			lines := certLines(hosts, time.Now())
			if js {
				return output.JSON(a.Env.Stdout, lines, false)
			}
			return output.Text(a.Env.Stdout, certText(lines, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.AddCommand(certificatesRenewCmd(a))
	return cmd
}

// certLines has those first that have ended.
func certLines(hosts []inventory.Summary, now time.Time) []certLine {
	out := []certLine{}
	for _, h := range hosts {
		for _, c := range h.Certificates {
			out = append(out, certLine{string(h.Name), c.At(now)})
		}
		if len(h.Certificates) == 0 {
			out = append(out, certLine{Host: string(h.Name),
				Certificate: inventory.Certificate{State: "not told",
					Problem: "its agent tells of no certificates: it has none, or does not know them"}})
		}
	}
	urgency := []string{inventory.CertExpired, inventory.CertSoon}
	rank := func(l certLine) int {
		if i := slices.Index(urgency, l.State); i >= 0 {
			return i
		}
		return len(urgency)
	}
	slices.SortStableFunc(out, func(x, y certLine) int { return rank(x) - rank(y) })
	return out
}

func certText(lines []certLine, p output.Painter) string {
	var b strings.Builder
	cols := []output.Column{{Head: "HOST", Cut: 2, Least: 12}, {Head: "CERTIFICATE"}, {Head: "SERIAL", Cut: 1, Least: 12},
		{Head: "ENDS"}, {Head: "STATE"}}
	var rows [][]output.Cell
	for _, l := range lines {
		state := output.Cell{Text: output.Clean(l.State)}
		switch l.State {
		case inventory.CertValid:
			state.Colour = output.Green
		case inventory.CertExpired:
			state.Colour = output.Red
		case inventory.CertSoon, inventory.CertDue:
			state.Colour = output.Yellow
		}
		ends := "-"
		if !l.Ends.IsZero() {
			ends = l.Ends.UTC().Format("2006-01-02 15:04 MST")
		}
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(l.Host)}, {Text: output.Or(l.Which, "-")}, {Text: output.Or(l.Serial, "-")},
				{Text: ends}, state})
	}
	output.Table(&b, p, cols, rows)
	for _, l := range lines {
		if l.Problem != "" {
			output.Say(&b, p, "", output.Yellow,
				strings.TrimSpace(output.Clean(l.Host)+" "+output.Clean(l.Which))+": "+output.Clean(l.Problem))
		}
	}
	return b.String()
}

func certificatesRenewCmd(a *command.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "renew {HOST...|--all}",
		Short: "Renew the certificates of hosts now, with new keys",
		Long: `Renews all certificates of each host now, one host after the other, with new
keys. Each is read back from where the host presents it. Guests, agents and the
store go on. A host that fails keeps what it has; the others are renewed, and
the exit code is 1.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if all == (len(hosts) > 0) {
				return fail.Errorf(fail.Invalid, "which hosts? want HOST... or --all, and not both")
			}
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if hosts, err = certHosts(cmd.Context(), c, hosts); err != nil {
				return err
			}
			lines := []certLine{}
			var failed []string
			for _, h := range hosts {
				certs, err := c.RenewCertificates(cmd.Context(), h)
				if err != nil {
					failed = append(failed, h)
					if werr := output.Text(a.Env.Stderr, "holdfast: "+output.CleanLines(err.Error())+"\n"); werr != nil {
						return werr
					}
					continue
				}
				for _, x := range certs {
					lines = append(lines, certLine{h, x})
				}
			}
			if js {
				err = output.JSON(a.Env.Stdout, lines, false)
			} else if len(lines) > 0 {
				err = output.Text(a.Env.Stdout, certText(lines, output.PainterFor(a.Env.Stdout)))
			}
			if err == nil && len(failed) > 0 {
				return fail.Errorf(fail.Failed, "not renewed, or not all: %s",
					output.Clean(strings.Join(failed, ", "))).With("holdfast certificates; the same command again is safe")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all hosts")
	return cmd
}

// certHosts are the hosts that are named, or all, without doubles.
func certHosts(ctx context.Context, c *api.Client, named []string) ([]string, error) {
	known, err := c.GuestHosts(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range known {
		out = append(out, string(h.Name))
	}
	if len(named) == 0 {
		return out, nil
	}
	for _, h := range named {
		if !slices.Contains(out, h) {
			return nil, fail.Errorf(fail.Invalid, "host %q: want one of %s", h, strings.Join(out, ", "))
		}
	}
	slices.Sort(named)
	return slices.Compact(named), nil
}

// OfCertificates are the problems of a host's certificates. Those that have ended are
// found on the host itself.
func OfCertificates(hosts []inventory.Summary, name string) (out []install.Finding) {
	for _, h := range hosts {
		for _, c := range h.Certificates {
			if string(h.Name) == name && c.Problem != "" {
				out = append(out, install.Finding{Node: name, Check: "certificate", Result: install.Warn,
					Finding: fmt.Sprintf("%q: %s", c.Which, c.Problem), Remedy: "holdfast certificates renew " + name})
			}
		}
	}
	return out
}
