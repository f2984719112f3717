package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

func statusCmd(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show hosts, management VM, and what the cluster waits for",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.open(cmd)
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
			return Text(a.env.Stdout, statusText(s, PainterFor(a.env.Stdout)))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// showStatus is for programs.
func showStatus(a *app, s cluster.Status) error {
	return JSON(a.env.Stdout, jsonStatus(s), false)
}

// jsonStatus makes the form for programs: a list is never null, and sorted.
func jsonStatus(s cluster.Status) cluster.Status {
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
func watchStatus(ctx context.Context, a *app, c *api.Client, js bool) error {
	terminal := IsTerminal(a.env.Stdout)
	p := PainterFor(a.env.Stdout)
	last := ""
	for s, err := range c.WatchStatus(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if js {
			if err := JSON(a.env.Stdout, jsonStatus(s), true); err != nil {
				return err
			}
			continue
		}
		text := statusText(s, p)
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
		if err := Text(a.env.Stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// statusText writes a status for people, in at most 80 columns.
func statusText(s cluster.Status, p Painter) string {
	var b strings.Builder
	Say(&b, p, "cluster", Plain, fmt.Sprintf("%s, seen from %s at %s", Or(s.Cluster, "(no id)"), Or(s.Self, "(no name)"), WallClock(s.Time)))
	if s.Connected {
		Say(&b, p, "store", Plain, "connected, "+coordinatorText(s))
	} else {
		age := "; what follows may be old"
		if o := old(s); o != "" {
			age = fmt.Sprintf("; what follows is %s old", o)
		}
		Say(&b, p, "store", Red, "no quorum: "+Or(s.StoreError, "not connected")+age)
	}
	b.WriteByte('\n')
	hostTable(&b, p, s)
	b.WriteByte('\n')
	guestText(&b, p, s)
	// Before the first record nothing is known, also not that nobody has it.
	unread := !s.Connected && s.Owner.State == "" && len(s.Hosts) == 0
	Takeover(&b, p, s.Takeover, unread, silentHolder(s))
	if !unread {
		wantText(&b, p, s)
	}
	if len(s.Pending) > 0 {
		Say(&b, p, "restart", Yellow, "takes effect at the next start of the management VM: "+Clean(strings.Join(s.Pending, ", ")))
	}
	if s.Waiting != "" {
		Say(&b, p, "waiting", Yellow, Clean(s.Waiting))
	}
	return b.String()
}

// old says how old all is that the agent does not see itself, "" for nothing.
func old(s cluster.Status) string {
	if s.Connected || s.AsOf.IsZero() {
		return ""
	}
	return Ago(s.Time.Sub(s.AsOf))
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
	return fmt.Sprintf("coordinator %s (term %d)", Clean(s.Coordinator), s.Term)
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

func hostTable(b *strings.Builder, p Painter, s cluster.Status) {
	hosts := sortedHosts(s)
	cols := []Column{
		{Head: "HOST", Cut: 2, Least: 12}, {Head: "ADDRESS", Cut: 3, Least: addrWidth}, {Head: "STATE"},
		{Head: "ROLE"}, {Head: keptHead(s.OfPair())}, {Head: "WATCHDOG", Cut: 1, Least: 8}, {Head: "G"}, {Head: "ABLE"},
	}
	var rows [][]Cell
	for _, h := range hosts {
		rows = append(rows, hostRow(s, h))
	}
	Table(b, p, cols, rows)
	for _, h := range hosts {
		if h.Unhealthy != "" {
			Say(b, p, "", Red, fmt.Sprintf("%s: %s", Clean(h.Name), Clean(h.Unhealthy)))
		}
		if len(h.Addr) > addrWidth {
			Say(b, p, "", Plain, fmt.Sprintf("%s: address %s", Clean(h.Name), Clean(h.Addr)))
		}
		if !h.Fit && (h.Alive || cutOff(s, h)) || h.Why != "" {
			Say(b, p, "", Yellow, fmt.Sprintf("%s: %s", Clean(h.Name), Or(h.Why, "not able to run it; its agent gives no reason")))
		}
		if inMaintenance(s, h.Name) {
			Say(b, p, "", Yellow, fmt.Sprintf("%s: in maintenance, no guest is started or moved there; end it by: "+
				"holdfast host enable %s", Clean(h.Name), Clean(h.Name)))
		}
		if h.Alive && h.Vote != "" && h.Vote != cluster.Votes && h.Vote != cluster.NoMember {
			Say(b, p, "", Yellow, fmt.Sprintf("%s: %s", Clean(h.Name), Clean(h.Vote)))
		}
		switch {
		case h.Fenced != "":
			Say(b, p, "", Yellow, fmt.Sprintf("%s: switched off by a fence device in epoch %s; power it on", Clean(h.Name), h.Expelled))
		case !h.Expelled.IsZero():
			Say(b, p, "", Yellow, fmt.Sprintf("%s: what it ran before the takeover to epoch %s is proved stopped; it "+
				"takes part again when it has nothing of it", Clean(h.Name), h.Expelled))
		}
	}
	memoryText(b, p, hosts)
}

// memoryText tells between which hosts the guest's memory travels encrypted. Where none
// has certificates for it, there is nothing to tell apart.
func memoryText(b *strings.Builder, p Painter, hosts []cluster.HostStatus) {
	var without []string
	for _, h := range hosts {
		if !h.MigrateTLS {
			without = append(without, Clean(h.Name))
		}
	}
	switch {
	case len(without) == len(hosts):
	case len(without) == 0:
		Say(b, p, "memory", Plain, "by TLS between all hosts")
	default:
		Say(b, p, "memory", Yellow, "in clear to and from "+strings.Join(without, ", ")+", by TLS between the others")
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

func hostRow(s cluster.Status, h cluster.HostStatus) []Cell {
	now := hostState(s, h)
	state := map[string]Cell{hostActive: {Text: "alive", Colour: Green}, hostCut: {Text: "cut " + Ago(h.Silent), Colour: Red},
		hostUnknown: {Text: "unknown", Colour: Yellow}, hostSilent: {Text: "silent " + Ago(h.Silent), Colour: Red}}[now]
	role := "member"
	if h.Coordinator {
		role = "coord"
	}
	guest := Cell{Text: Or(h.Guest, "unknown")}
	switch {
	case !h.Alive && !h.Expelled.IsZero():
		guest.Text = "stopped"
	case h.Guest == cluster.GuestRunning:
		guest.Colour = Green
	}
	dog, guard := Cell{Text: Or(h.Watchdog, "unnamed")}, Secs(h.Guard)
	switch {
	case h.HandsOff:
		dog, guard = Cell{Text: "disarmed", Colour: Yellow}, "-"
	case h.Guard == 0:
		dog, guard = Cell{Text: "none", Colour: Red}, "-"
	}
	fit := Cell{Text: "yes"}
	switch {
	case !h.Fit && !h.Alive && now != hostCut:
		fit = Cell{Text: "-"}
	case !h.Fit || now == hostCut: // it starts nothing without a quorum
		fit = Cell{Text: "no", Colour: Red}
	case inMaintenance(s, h.Name):
		fit = Cell{Text: "no", Colour: Yellow}
	}
	return []Cell{{Text: Clean(h.Name)}, {Text: Clean(h.Addr)}, state, {Text: role}, guest, dog, {Text: guard}, fit}
}

func guestText(b *strings.Builder, p Painter, s cluster.Status) {
	o := s.Owner
	text := p.Lang.Text(Or(ownerState(s), "unknown"))
	if o.Host != "" {
		text += " on " + Clean(o.Host)
	}
	if o.State == cluster.Migrating {
		text += fmt.Sprintf(" -> %s, %d %%", Clean(o.To), s.Percent)
	}
	if !o.Time.IsZero() {
		text += " since " + WallClock(o.Time)
	}
	if !o.Epoch.IsZero() {
		text += ", epoch " + o.Epoch.String()
	}
	if o.Failures > 0 && o.State != cluster.Running {
		text += fmt.Sprintf(", %d failed starts", o.Failures)
	}
	c := Yellow
	if o.State == cluster.Running {
		c = Green
	}
	text = withAge(text, s)
	if h := silentHolder(s); h != nil {
		text, c = text+fmt.Sprintf("; this is %s old: %s is silent", Ago(h.Silent), Clean(h.Name)), Yellow
	}
	if old(s) != "" && o.Holder() == s.Self && hostOf(s, s.Self).Guest == cluster.GuestAbsent { // this host's own line is of now
		text, c = fmt.Sprintf("not on this host any more; where it runs now is not known. What is known: %s", text), Yellow
	}
	Say(b, p, kept(s), c, text)
	if why := ownerReason(o); why != "" {
		Say(b, p, "reason", Plain, Clean(why))
	}
	if o.Proof.Kind != cluster.ProofNone {
		Say(b, p, "proof", Plain, proofText(p, o.Proof))
	}
}

func proofText(p Painter, pr cluster.Proof) string {
	text := p.Lang.Text(Clean(pr.Kind))
	if pr.Host != "" {
		text += " of " + Clean(pr.Host)
	}
	if !pr.Epoch.IsZero() {
		text += ", epoch " + pr.Epoch.String()
	}
	if pr.Wait != 0 {
		text += ", silent for " + Secs(pr.Wait)
	}
	if pr.By != "" {
		text += ", by " + Clean(pr.By)
	}
	if pr.Note != "" {
		text += ": " + Clean(pr.Note)
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

func wantText(b *strings.Builder, p Painter, s cluster.Status) {
	text, c := stoppedText(s), Plain
	switch {
	case s.Want.Run && s.OfPair():
		text = "the services run"
	case s.Want.Run:
		text = "the management VM runs"
	}
	if s.Want.MoveTo != "" {
		text += ", on " + Clean(s.Want.MoveTo)
	}
	if s.Want.HandsOff {
		text, c = text+"; HANDS OFF: nothing is decided", Yellow
	}
	Say(b, p, "wanted", c, withAge(text, s))
}

// ownerReason says why the owner record is as it is.
func ownerReason(o cluster.Owner) string {
	return reason.Said(o.Reason, reason.Reason{Code: o.ReasonCode.Code, Args: o.ReasonCode.Args.Named()})
}
