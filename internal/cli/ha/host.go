package ha

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

func hostCmd(a *command.App) *cobra.Command {
	return command.Group("host", "List the hosts, put one into maintenance, drain it, or look at it", hostListCmd(a), hostDrainCmd(a),
		hostMaintenanceCmd(a), hostEnableCmd(a), hostForgetCmd(a), hostCertificatesCmd(a), hostLogCmd(a), hostFenceTestCmd(a))
}

// hostLine is a host as `host list` shows it to programs.
type hostLine struct {
	Name cluster.HostID `json:"name"`
	Addr string         `json:"addr"`
	// active, silent, unknown (nothing new was heard, by less than a lease), cut (the asked one, without a quorum),
	// unregistered
	State       string             `json:"state"`
	Silent      time.Duration      `json:"silent,omitzero"` // since it was heard last
	Maintenance bool               `json:"maintenance"`
	Fit         bool               `json:"fit"`
	Why         string             `json:"why,omitempty"` // not fit
	Guest       cluster.GuestState `json:"guest"`         // the management VM
	Version     string             `json:"version"`
	GuestsOnly  bool               `json:"guests_only,omitempty"` // it runs guests, and never the management VM
	Guests      *int               `json:"guests,omitempty"`      // other guests that run there; absent: not told
	Problem     string             `json:"problem,omitempty"`     // what it can not find out about them
}

func hostListCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the hosts of the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			guests, unread := c.GuestHosts(cmd.Context())
			rows := hostLines(s, guests) // that of the members is worth something by itself
			if js {
				err = output.JSON(a.Env.Stdout, rows, false)
			} else {
				err = output.Text(a.Env.Stdout, hostsText(rows, s.OfPair(), output.PainterFor(a.Env.Stdout)))
			}
			if err == nil && unread != nil {
				return fmt.Errorf("what the hosts report is not known: %w", unread)
			}
			return err
		},
	}
}

func hostsText(rows []hostLine, pair bool, p output.Painter) string {
	var b strings.Builder
	cols := []output.Column{{Head: "HOST", Cut: 2, Least: 12}, {Head: "ADDRESS", Cut: 4, Least: told.AddrWidth},
		{Head: "STATE"}, {Head: told.KeptHead(pair)}, {Head: "GUESTS"}, {Head: "VERSION", Cut: 3, Least: 5}, {Head: "ABLE"}}
	if pair { // its hosts have no guests
		cols = slices.Delete(cols, 4, 5)
	}
	var cells [][]output.Cell
	var below strings.Builder // sentences, on a terminal
	for _, r := range rows {
		row := r.cells()
		if pair {
			row = slices.Delete(row, 4, 5)
		}
		able := &row[len(row)-1]
		short, why, has := strings.Cut(able.Text, ": ")
		if p.Cuts && has {
			output.Say(&below, p, "", able.Colour, output.Clean(r.Name)+": "+why)
			able.Text = short
		}
		if p.Cuts && len(r.Addr) > told.AddrWidth {
			output.Say(&below, p, "", output.Plain, fmt.Sprintf("%s: address %s", output.Clean(r.Name), output.Clean(r.Addr)))
		}
		cells = append(cells, row)
	}
	output.Table(&b, p, cols, cells)
	return b.String() + below.String()
}

func hostLines(s cluster.Status, guests []inventory.Summary) []hostLine {
	rows := []hostLine{}
	known := map[cluster.HostID]bool{}
	for _, h := range told.Hosts(s) {
		known[h.Name] = true
		r := hostLine{Name: h.Name, Addr: h.Addr, State: told.HostState(s, h), Fit: h.Fit, Why: h.Why, Guest: h.Guest, Version: h.Version}
		switch r.State {
		case told.Cut:
			r.Why = cmp.Or(r.Why, "its agent reaches no quorum of the store")
		case told.Silent:
			r.Version, r.Silent = "", h.Silent
		}
		rows = append(rows, r)
	}
	for _, m := range s.Members {
		if !known[m] {
			rows = append(rows, hostLine{Name: m, State: "unregistered", Guest: cluster.GuestUnknown})
		}
	}
	for _, g := range guests {
		i := slices.IndexFunc(rows, func(r hostLine) bool { return r.Name == g.Name })
		if i < 0 {
			i = len(rows)
			rows = append(rows, hostLine{Name: g.Name, Addr: g.Addr, State: told.Active, GuestsOnly: true,
				Guest: cluster.GuestAbsent, Version: g.Agent})
			if !g.Up {
				rows[i].State, rows[i].Silent = told.Silent, g.Silent
			}
		}
		if rows[i].Problem = g.Problem; g.Up && rows[i].State == told.Active {
			rows[i].Guests = &g.Guests
		}
	}
	for i := range rows {
		rows[i].Maintenance = told.InMaintenance(s, rows[i].Name)
	}
	return rows
}

func (r hostLine) cells() []output.Cell {
	state := output.Cell{Text: r.State, Colour: output.Green}
	switch {
	case r.State == told.Cut:
		state = output.Cell{Text: "cut off", Colour: output.Red}
	case r.State == told.Unknown:
		state.Colour = output.Yellow
	case r.State == told.Silent && r.Silent > 0:
		state = output.Cell{Text: "silent " + output.Ago(r.Silent), Colour: output.Red}
	case r.State != told.Active:
		state.Colour = output.Red
	case r.Maintenance:
		state = output.Cell{Text: "maintenance", Colour: output.Yellow}
	}
	able := output.Cell{Text: "yes"}
	if !r.Fit || r.State == told.Cut {
		able = output.Cell{Text: "no: " + output.Clean(output.Or(r.Why, "not known")), Colour: output.Yellow}
	}
	switch {
	case r.GuestsOnly:
		able = output.Cell{Text: "guests only"}
	case (r.State == told.Silent || r.State == told.Unknown) && r.Why == "":
		able = output.Cell{Text: "-"}
	}
	if r.Problem != "" {
		sep := "; "
		if !strings.Contains(able.Text, ": ") {
			sep = ": "
		}
		able = output.Cell{Text: able.Text + sep + output.Clean(r.Problem), Colour: output.Yellow}
	}
	guests := "-"
	if r.Guests != nil {
		guests = fmt.Sprint(*r.Guests)
	}
	mgmt := output.Clean(r.Guest)
	if r.GuestsOnly || r.State == told.Silent && r.Guest == cluster.GuestAbsent { // that it has stopped is proved; the host is silent
		mgmt = "-"
	}
	return []output.Cell{{Text: output.Clean(r.Name)}, {Text: output.Or(output.Clean(r.Addr), "-")}, state, {Text: mgmt},
		{Text: guests}, {Text: output.Or(output.Clean(r.Version), "-")}, able}
}

func hostMaintenanceCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "maintenance HOST",
		Short: "Let a host take no guests, and move the management VM off it",
		Long: `Puts a host into maintenance: it takes no guests until "host enable". If the
management VM is there, it is moved to another host, live, and the command waits
for that. When no other host is able to run it, the management VM stays where it
is, and "status" says why. All other guests stay on the host: "host drain" moves
them, too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host := cluster.HostID(args[0])
			return pursue(a, cmd, timeout, Goal{
				Name:    "maintenance",
				Request: func(ctx context.Context, c *api.Client) error { return c.SetMaintenance(ctx, args[0], true, "") },
				Reached: func(s cluster.Status) bool {
					return told.InMaintenance(s, host) && s.Owner.Holder() != host && s.Owner.To != host
				},
				Result: func(s cluster.Status) string {
					h := output.Clean(host)
					if s.OfPair() {
						return fmt.Sprintf("host %s is in maintenance: the services are not on it. To end the maintenance: holdfast host enable %s", h, h)
					}
					return fmt.Sprintf("host %s is in maintenance: it takes no guests, and the management VM is not "+
						"on it. Its other guests stay; to move them: holdfast host drain %s. To end the maintenance: holdfast host enable %s", h, h, h)
				},
			})
		},
	}
	timeoutFlag(cmd, &timeout)
	return cmd
}

func hostDrainCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain HOST",
		Short: "Put a host into maintenance, and move all guests off it, live",
		Long: `Puts a host into maintenance and moves every guest off it, live, the management
VM among them. The other guests go to hosts that have room. The host takes no
guests until "host enable".

The command shows the progress, and which guest waits for what. When it is
interrupted, the work goes on: "jobs watch" shows it, "jobs abort" ends it. If a
guest can not move, the others still leave; then the job fails.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runJob(a, cmd, timeout,
				func(ctx context.Context, c *api.Client) (job.View, error) { return c.DrainHost(ctx, args[0]) })
		},
	}
	jobTimeout(cmd, &timeout)
	return cmd
}

func hostEnableCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "enable HOST",
		Short: "End the maintenance of a host: it takes guests again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ordered(a, cmd, "the maintenance of host "+output.Clean(args[0])+" has ended",
				func(ctx context.Context, c *api.Client) error {
					return c.SetMaintenance(ctx, args[0], false, "")
				})
		},
	}
}

func hostForgetCmd(a *command.App) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "forget HOST",
		Short: "Remove what is known of a host that is gone for good",
		Long: `Removes a host that is gone for good. Until then it is listed as silent, and
plans expect that it returns. If it reports again, it is listed again.

Refused for a host that still reports, for a host of the configuration, and
while an upgrade is not over. Also refused without --force when a guest was
moved from or to the host and it is not known whether that guest runs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ordered(a, cmd, "host "+output.Clean(args[0])+" is forgotten",
				func(ctx context.Context, c *api.Client) error {
					return c.ForgetHost(ctx, args[0], force)
				})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "you have checked that each guest that moved from or to it\nruns exactly once")
	return cmd
}

// ordered has an agent do something, and then says so, or shows the status as JSON.
func ordered(a *command.App, cmd *cobra.Command, said string, do func(context.Context, *api.Client) error) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := do(cmd.Context(), c); err != nil {
		return err
	}
	if js {
		return showNow(cmd.Context(), a, c)
	}
	return output.Text(a.Env.Stdout, said+"\n")
}
