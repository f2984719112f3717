package ha

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

func statusCmd(a *command.App) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show hosts, management VM, and what the cluster waits for",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return watchStatus(cmd.Context(), a, c, js)
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if js {
				return showStatus(a, s)
			}
			return output.Text(a.Env.Stdout, StatusText(s, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// showStatus is for programs.
func showStatus(a *command.App, s cluster.Status) error {
	return output.JSON(a.Env.Stdout, ForPrograms(s), false)
}

// ForPrograms makes the form for programs: a list is never null, and sorted.
func ForPrograms(s cluster.Status) cluster.Status {
	s.Hosts = sortedHosts(s)
	return s
}

func sortedHosts(s cluster.Status) []cluster.HostStatus {
	hosts := slices.Clone(s.Hosts)
	slices.SortFunc(hosts, func(x, y cluster.HostStatus) int { return cmp.Compare(x.Name, y.Name) })
	if hosts == nil {
		hosts = []cluster.HostStatus{}
	}
	return hosts
}

// watchStatus shows the status until the user ends it, which is no error. On a
// terminal it stays in place; elsewhere only changed text is written again.
func watchStatus(ctx context.Context, a *command.App, c *api.Client, js bool) error {
	terminal := output.IsTerminal(a.Env.Stdout)
	p := output.PainterFor(a.Env.Stdout)
	last := ""
	for s, err := range c.WatchStatus(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if js {
			if err := output.JSON(a.Env.Stdout, ForPrograms(s), true); err != nil {
				return err
			}
			continue
		}
		text := StatusText(s, p)
		switch {
		case terminal:
			text = "\x1b[H\x1b[2J" + text
		case text == last:
			continue
		case last != "":
			last, text = text, "\n"+text
		default:
			last = text
		}
		if err := output.Text(a.Env.Stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// StatusText writes a status for people, in at most 80 columns.
func StatusText(s cluster.Status, p output.Painter) string {
	var b strings.Builder
	output.Say(&b, p, "cluster", output.Plain,
		fmt.Sprintf("%s, seen from %s at %s", output.Or(s.Cluster, "(no id)"), output.Or(s.Self, "(no name)"),
			output.WallClock(s.Time)))
	if s.Connected {
		output.Say(&b, p, "store", output.Plain, "connected, "+coordinatorText(s))
	} else {
		age := "; what follows may be old"
		if o := old(s); o != "" {
			age = fmt.Sprintf("; what follows is %s old", o)
		}
		output.Say(&b, p, "store", output.Red, "no quorum: "+output.Or(s.StoreError, "not connected")+age)
	}
	b.WriteByte('\n')
	hostTable(&b, p, s)
	b.WriteByte('\n')
	guestText(&b, p, s)
	// Before the first record nothing is known, also not that nobody has it.
	unread := !s.Connected && s.Owner.State == "" && len(s.Hosts) == 0
	output.Takeover(&b, p, s.Takeover, unread, silentHolder(s))
	if !unread {
		wantText(&b, p, s)
	}
	if len(s.Pending) > 0 {
		output.Say(&b, p, "restart", output.Yellow,
			"takes effect at the next start of the management VM: "+output.Clean(strings.Join(s.Pending, ", ")))
	}
	if s.Waiting != "" {
		output.Say(&b, p, "waiting", output.Yellow, output.Clean(s.Waiting))
	}
	return b.String()
}

// old says how old all is that the agent does not see itself, "" for nothing.
func old(s cluster.Status) string {
	if s.Connected || s.AsOf.IsZero() {
		return ""
	}
	return output.Ago(s.Time.Sub(s.AsOf))
}

// withAge adds to a text how old it is.
func withAge(text string, s cluster.Status) string {
	if o := old(s); o != "" {
		text += fmt.Sprintf("; this is %s old", o)
	}
	return text
}

func coordinatorText(s cluster.Status) string {
	if s.Coordinator == "" {
		return "no coordinator elected"
	}
	return fmt.Sprintf("coordinator %s (term %d)", output.Clean(s.Coordinator), s.Term)
}

// addrWidth is what every IPv4 address fits; a longer address may be cut in the
// table and is said in full below it.
const addrWidth = 15

// keptHead is the head of the column that says what a host has of what is kept up.
func keptHead(pair bool) string {
	if pair {
		return "SERVICES"
	}
	return "MGMT VM"
}

func hostTable(b *strings.Builder, p output.Painter, s cluster.Status) {
	hosts := sortedHosts(s)
	cols := []output.Column{
		{Head: "HOST", Cut: 2, Least: 12}, {Head: "ADDRESS", Cut: 3, Least: addrWidth}, {Head: "STATE"},
		{Head: "ROLE"}, {Head: keptHead(s.OfPair())}, {Head: "WATCHDOG", Cut: 1, Least: 8}, {Head: "G"}, {Head: "ABLE"},
	}
	var rows [][]output.Cell
	for _, h := range hosts {
		rows = append(rows, hostRow(s, h))
	}
	output.Table(b, p, cols, rows)
	for _, h := range hosts {
		if h.Unhealthy != "" {
			output.Say(b, p, "", output.Red, fmt.Sprintf("%s: %s", output.Clean(h.Name), output.Clean(h.Unhealthy)))
		}
		if len(h.Addr) > addrWidth {
			output.Say(b, p, "", output.Plain, fmt.Sprintf("%s: address %s", output.Clean(h.Name), output.Clean(h.Addr)))
		}
		if !h.Fit && (h.Alive || cutOff(s, h)) || h.Why != "" {
			output.Say(b, p, "", output.Yellow,
				fmt.Sprintf("%s: %s", output.Clean(h.Name), output.Or(h.Why, "not able to run it; its agent gives no reason")))
		}
		if inMaintenance(s, h.Name) {
			output.Say(b, p, "", output.Yellow,
				fmt.Sprintf("%s: in maintenance, no guest is started or moved there; end it by: "+
					"holdfast host enable %s", output.Clean(h.Name), output.Clean(h.Name)))
		}
		if h.Alive && h.Vote != "" && h.Vote != cluster.Votes && h.Vote != cluster.NoMember {
			output.Say(b, p, "", output.Yellow, fmt.Sprintf("%s: %s", output.Clean(h.Name), output.Clean(h.Vote)))
		}
		switch {
		case h.Fenced != "":
			output.Say(b, p, "", output.Yellow,
				fmt.Sprintf("%s: switched off by a fence device in epoch %s; power it on", output.Clean(h.Name), h.Expelled))
		case !h.Expelled.IsZero():
			output.Say(b, p, "", output.Yellow,
				fmt.Sprintf("%s: what it ran before the takeover to epoch %s is proved stopped; it "+
					"takes part again when it has nothing of it", output.Clean(h.Name), h.Expelled))
		}
	}
	memoryText(b, p, hosts)
}

// memoryText tells between which hosts the guest's memory travels encrypted. Where none
// has certificates for it, there is nothing to tell apart.
func memoryText(b *strings.Builder, p output.Painter, hosts []cluster.HostStatus) {
	var without []string
	for _, h := range hosts {
		if !h.MigrateTLS {
			without = append(without, output.Clean(h.Name))
		}
	}
	switch {
	case len(without) == len(hosts):
	case len(without) == 0:
		output.Say(b, p, "memory", output.Plain, "by TLS between all hosts")
	default:
		output.Say(b, p, "memory", output.Yellow,
			"in clear to and from "+strings.Join(without, ", ")+", by TLS between the others")
	}
}

// inMaintenance reports whether a host is in maintenance.
func inMaintenance(s cluster.Status, h cluster.HostID) bool {
	return slices.Contains(s.Want.Maintenance, h)
}

// cutOff reports whether a host is the one that answers, and does not reach the store: it knows itself all the same.
func cutOff(s cluster.Status, h cluster.HostStatus) bool { return h.Name == s.Self && !s.Connected }

// How much is known of a host.
const (
	hostActive  = "active"
	hostCut     = "cut"     // it is the one that answers, without a quorum
	hostUnknown = "unknown" // its record was read, and may be as old as the one before
	hostSilent  = "silent"
)

func hostState(s cluster.Status, h cluster.HostStatus) string {
	switch {
	case cutOff(s, h):
		return hostCut
	case h.Alive:
		return hostActive
	case h.Expelled.IsZero() && h.Silent < s.Timings.Lease:
		return hostUnknown
	}
	return hostSilent
}

func hostRow(s cluster.Status, h cluster.HostStatus) []output.Cell {
	now := hostState(s, h)
	state := map[string]output.Cell{hostActive: {Text: "alive", Colour: output.Green},
		hostCut:     {Text: "cut " + output.Ago(h.Silent), Colour: output.Red},
		hostUnknown: {Text: "unknown", Colour: output.Yellow},
		hostSilent:  {Text: "silent " + output.Ago(h.Silent), Colour: output.Red}}[now]
	role := "member"
	if h.Coordinator {
		role = "coord"
	}
	guest := output.Cell{Text: output.Or(h.Guest, "unknown")}
	switch {
	case !h.Alive && !h.Expelled.IsZero():
		guest.Text = "stopped"
	case h.Guest == cluster.GuestRunning:
		guest.Colour = output.Green
	}
	dog, guard := output.Cell{Text: output.Or(h.Watchdog, "unnamed")}, output.Secs(h.Guard)
	switch {
	case h.HandsOff:
		dog, guard = output.Cell{Text: "disarmed", Colour: output.Yellow}, "-"
	case h.Guard == 0:
		dog, guard = output.Cell{Text: "none", Colour: output.Red}, "-"
	}
	fit := output.Cell{Text: "yes"}
	switch {
	case !h.Fit && !h.Alive && now != hostCut:
		fit = output.Cell{Text: "-"}
	case !h.Fit || now == hostCut: // it starts nothing without a quorum
		fit = output.Cell{Text: "no", Colour: output.Red}
	case inMaintenance(s, h.Name):
		fit = output.Cell{Text: "no", Colour: output.Yellow}
	}
	return []output.Cell{{Text: output.Clean(h.Name)}, {Text: output.Clean(h.Addr)}, state, {Text: role}, guest, dog,
		{Text: guard}, fit}
}

func guestText(b *strings.Builder, p output.Painter, s cluster.Status) {
	o := s.Owner
	text := p.Lang.Text(output.Or(ownerState(s), "unknown"))
	if o.Host != "" {
		text += " on " + output.Clean(o.Host)
	}
	if o.State == cluster.Migrating {
		text += fmt.Sprintf(" -> %s, %d %%", output.Clean(o.To), s.Percent)
	}
	if !o.Time.IsZero() {
		text += " since " + output.WallClock(o.Time)
	}
	if !o.Epoch.IsZero() {
		text += ", epoch " + o.Epoch.String()
	}
	if o.Failures > 0 && o.State != cluster.Running {
		text += fmt.Sprintf(", %d failed starts", o.Failures)
	}
	c := output.Yellow
	if o.State == cluster.Running {
		c = output.Green
	}
	text = withAge(text, s)
	if h := silentHolder(s); h != nil {
		text += fmt.Sprintf("; this is %s old: %s is silent", output.Ago(h.Silent), output.Clean(h.Name))
		c = output.Yellow
	}
	if old(s) != "" && o.Holder() == s.Self && hostOf(s, s.Self).Guest == cluster.GuestAbsent { // this host's own line is of now
		text = fmt.Sprintf("not on this host any more; where it runs now is not known. What is known: %s", text)
		c = output.Yellow
	}
	output.Say(b, p, kept(s), c, text)
	if why := ownerReason(o); why != "" {
		output.Say(b, p, "reason", output.Plain, output.Clean(why))
	}
	if o.Proof.Kind != cluster.ProofNone {
		output.Say(b, p, "proof", output.Plain, proofText(p, o.Proof))
	}
}

func proofText(p output.Painter, pr cluster.Proof) string {
	text := p.Lang.Text(output.Clean(pr.Kind))
	if pr.Host != "" {
		text += " of " + output.Clean(pr.Host)
	}
	if !pr.Epoch.IsZero() {
		text += ", epoch " + pr.Epoch.String()
	}
	if pr.Wait != 0 {
		text += ", silent for " + output.Secs(pr.Wait)
	}
	if pr.By != "" {
		text += ", by " + output.Clean(pr.By)
	}
	if pr.Note != "" {
		text += ": " + output.Clean(pr.Note)
	}
	return text
}

// silentHolder is the host that has the VM, or the services, and is silent; nil: there is none, or nothing is known of it.
func silentHolder(s cluster.Status) *cluster.HostStatus {
	h := hostOf(s, s.Owner.Holder())
	if h.Name == "" || !s.Connected || hostState(s, h) != hostSilent || !h.Expelled.IsZero() {
		return nil
	}
	return &h
}

func wantText(b *strings.Builder, p output.Painter, s cluster.Status) {
	text, c := stoppedText(s), output.Plain
	switch {
	case s.Want.Run && s.OfPair():
		text = "the services run"
	case s.Want.Run:
		text = "the management VM runs"
	}
	if s.Want.MoveTo != "" {
		text += ", on " + output.Clean(s.Want.MoveTo)
	}
	if s.Want.HandsOff {
		text, c = text+"; HANDS OFF: nothing is decided", output.Yellow
	}
	output.Say(b, p, "wanted", c, withAge(text, s))
}

// ownerReason says why the owner record is as it is.
func ownerReason(o cluster.Owner) string {
	return reason.Said(o.Reason, reason.Reason{Code: o.ReasonCode.Code, Args: o.ReasonCode.Args.Named()})
}
