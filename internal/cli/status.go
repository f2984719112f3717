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
			return writeText(a.env.Stdout, statusText(s, painterFor(a.env.Stdout)))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// showStatus is for programs.
func showStatus(a *app, s cluster.Status) error {
	return writeJSON(a.env.Stdout, jsonStatus(s), false)
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
	terminal := isTerminal(a.env.Stdout)
	p := painterFor(a.env.Stdout)
	last := ""
	for s, err := range c.WatchStatus(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if js {
			if err := writeJSON(a.env.Stdout, jsonStatus(s), true); err != nil {
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
		if err := writeText(a.env.Stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// statusText writes a status for people, in at most 80 columns.
func statusText(s cluster.Status, p painter) string {
	var b strings.Builder
	say(&b, p, "cluster", plain, fmt.Sprintf("%s, seen from %s at %s", or(s.Cluster, "(no id)"), or(s.Self, "(no name)"), wallClock(s.Time)))
	if s.Connected {
		say(&b, p, "store", plain, "connected, "+coordinatorText(s))
	} else {
		age := "; what follows may be old"
		if o := old(s); o != "" {
			age = fmt.Sprintf("; what follows is %s old", o)
		}
		say(&b, p, "store", red, "no quorum: "+or(s.StoreError, "not connected")+age)
	}
	b.WriteByte('\n')
	hostTable(&b, p, s)
	b.WriteByte('\n')
	guestText(&b, p, s)
	// Before the first record nothing is known, also not that nobody has it.
	unread := !s.Connected && s.Owner.State == "" && len(s.Hosts) == 0
	takeoverText(&b, p, s.Takeover, unread, silentHolder(s))
	if !unread {
		wantText(&b, p, s)
	}
	if len(s.Pending) > 0 {
		say(&b, p, "restart", yellow, "takes effect at the next start of the management VM: "+clean(strings.Join(s.Pending, ", ")))
	}
	if s.Waiting != "" {
		say(&b, p, "waiting", yellow, clean(s.Waiting))
	}
	return b.String()
}

// old says how old all is that the agent does not see itself, "" for nothing.
func old(s cluster.Status) string {
	if s.Connected || s.AsOf.IsZero() {
		return ""
	}
	return ago(s.Time.Sub(s.AsOf))
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
	return fmt.Sprintf("coordinator %s (term %d)", clean(s.Coordinator), s.Term)
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

func hostTable(b *strings.Builder, p painter, s cluster.Status) {
	hosts := sortedHosts(s)
	cols := []column{
		{head: "HOST", cut: 2, least: 12}, {head: "ADDRESS", cut: 3, least: addrWidth}, {head: "STATE"},
		{head: "ROLE"}, {head: keptHead(s.OfPair())}, {head: "WATCHDOG", cut: 1, least: 8}, {head: "G"}, {head: "ABLE"},
	}
	var rows [][]cell
	for _, h := range hosts {
		rows = append(rows, hostRow(s, h))
	}
	table(b, p, cols, rows)
	for _, h := range hosts {
		if h.Unhealthy != "" {
			say(b, p, "", red, fmt.Sprintf("%s: %s", clean(h.Name), clean(h.Unhealthy)))
		}
		if len(h.Addr) > addrWidth {
			say(b, p, "", plain, fmt.Sprintf("%s: address %s", clean(h.Name), clean(h.Addr)))
		}
		if !h.Fit && (h.Alive || cutOff(s, h)) || h.Why != "" {
			say(b, p, "", yellow, fmt.Sprintf("%s: %s", clean(h.Name), or(h.Why, "not able to run it; its agent gives no reason")))
		}
		if inMaintenance(s, h.Name) {
			say(b, p, "", yellow, fmt.Sprintf("%s: in maintenance, no guest is started or moved there; end it by: "+
				"holdfast host enable %s", clean(h.Name), clean(h.Name)))
		}
		if h.Alive && h.Vote != "" && h.Vote != cluster.Votes && h.Vote != cluster.NoMember {
			say(b, p, "", yellow, fmt.Sprintf("%s: %s", clean(h.Name), clean(h.Vote)))
		}
		switch {
		case h.Fenced != "":
			say(b, p, "", yellow, fmt.Sprintf("%s: switched off by a fence device in epoch %s; power it on", clean(h.Name), h.Expelled))
		case !h.Expelled.IsZero():
			say(b, p, "", yellow, fmt.Sprintf("%s: what it ran before the takeover to epoch %s is proved stopped; it "+
				"takes part again when it has nothing of it", clean(h.Name), h.Expelled))
		}
	}
	memoryText(b, p, hosts)
}

// memoryText tells between which hosts the guest's memory travels encrypted. Where none
// has certificates for it, there is nothing to tell apart.
func memoryText(b *strings.Builder, p painter, hosts []cluster.HostStatus) {
	var without []string
	for _, h := range hosts {
		if !h.MigrateTLS {
			without = append(without, clean(h.Name))
		}
	}
	switch {
	case len(without) == len(hosts):
	case len(without) == 0:
		say(b, p, "memory", plain, "by TLS between all hosts")
	default:
		say(b, p, "memory", yellow, "in clear to and from "+strings.Join(without, ", ")+", by TLS between the others")
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

func hostRow(s cluster.Status, h cluster.HostStatus) []cell {
	now := hostState(s, h)
	state := map[string]cell{hostActive: {"alive", green}, hostCut: {"cut " + ago(h.Silent), red},
		hostUnknown: {"unknown", yellow}, hostSilent: {"silent " + ago(h.Silent), red}}[now]
	role := "member"
	if h.Coordinator {
		role = "coord"
	}
	guest := cell{or(h.Guest, "unknown"), plain}
	switch {
	case !h.Alive && !h.Expelled.IsZero():
		guest.text = "stopped"
	case h.Guest == cluster.GuestRunning:
		guest.c = green
	}
	dog, guard := cell{or(h.Watchdog, "unnamed"), plain}, secs(h.Guard)
	switch {
	case h.HandsOff:
		dog, guard = cell{"disarmed", yellow}, "-"
	case h.Guard == 0:
		dog, guard = cell{"none", red}, "-"
	}
	fit := cell{"yes", plain}
	switch {
	case !h.Fit && !h.Alive && now != hostCut:
		fit = cell{"-", plain}
	case !h.Fit || now == hostCut: // it starts nothing without a quorum
		fit = cell{"no", red}
	case inMaintenance(s, h.Name):
		fit = cell{"no", yellow}
	}
	return []cell{{clean(h.Name), plain}, {clean(h.Addr), plain}, state, {role, plain}, guest, dog, {guard, plain}, fit}
}

func guestText(b *strings.Builder, p painter, s cluster.Status) {
	o := s.Owner
	text := p.lang.Text(or(ownerState(s), "unknown"))
	if o.Host != "" {
		text += " on " + clean(o.Host)
	}
	if o.State == cluster.Migrating {
		text += fmt.Sprintf(" -> %s, %d %%", clean(o.To), s.Percent)
	}
	if !o.Time.IsZero() {
		text += " since " + wallClock(o.Time)
	}
	if !o.Epoch.IsZero() {
		text += ", epoch " + o.Epoch.String()
	}
	if o.Failures > 0 && o.State != cluster.Running {
		text += fmt.Sprintf(", %d failed starts", o.Failures)
	}
	c := yellow
	if o.State == cluster.Running {
		c = green
	}
	text = withAge(text, s)
	if h := silentHolder(s); h != nil {
		text, c = text+fmt.Sprintf("; this is %s old: %s is silent", ago(h.Silent), clean(h.Name)), yellow
	}
	if old(s) != "" && o.Holder() == s.Self && hostOf(s, s.Self).Guest == cluster.GuestAbsent { // this host's own line is of now
		text, c = fmt.Sprintf("not on this host any more; where it runs now is not known. What is known: %s", text), yellow
	}
	say(b, p, kept(s), c, text)
	if why := ownerReason(o); why != "" {
		say(b, p, "reason", plain, clean(why))
	}
	if o.Proof.Kind != cluster.ProofNone {
		say(b, p, "proof", plain, proofText(p, o.Proof))
	}
}

func proofText(p painter, pr cluster.Proof) string {
	text := p.lang.Text(clean(pr.Kind))
	if pr.Host != "" {
		text += " of " + clean(pr.Host)
	}
	if !pr.Epoch.IsZero() {
		text += ", epoch " + pr.Epoch.String()
	}
	if pr.Wait != 0 {
		text += ", silent for " + secs(pr.Wait)
	}
	if pr.By != "" {
		text += ", by " + clean(pr.By)
	}
	if pr.Note != "" {
		text += ": " + clean(pr.Note)
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

func wantText(b *strings.Builder, p painter, s cluster.Status) {
	text, c := stoppedText(s), plain
	switch {
	case s.Want.Run && s.OfPair():
		text = "the services run"
	case s.Want.Run:
		text = "the management VM runs"
	}
	if s.Want.MoveTo != "" {
		text += ", on " + clean(s.Want.MoveTo)
	}
	if s.Want.HandsOff {
		text, c = text+"; HANDS OFF: nothing is decided", yellow
	}
	say(b, p, "wanted", c, withAge(text, s))
}

// ownerReason says why the owner record is as it is.
func ownerReason(o cluster.Owner) string {
	return reason.Said(o.Reason, reason.Reason{Code: o.ReasonCode.Code, Args: o.ReasonCode.Args.Named()})
}
