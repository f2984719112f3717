package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Pages of a pair. What is asked or typed stands still.
var (
	pairPage = &page{path: "/pair", title: "Pair", help: "pair#every-day", pair: true, part: pairPart}

	pairSwitchPage = &page{path: "/pair/switch", title: "Switch the services over", least: cluster.Operator, pair: true, still: true,
		in: pairPage, help: "pair#every-day", part: pairSwitchPart}
	pairStopPage = &page{path: "/pair/stop", title: "Stop the services", least: cluster.Operator, pair: true, still: true,
		in: pairPage, help: "pair#every-day", part: pairStopPart}
	pairResolvePage = &page{path: "/pair/resolve", title: "Choose the copy that is kept", least: cluster.Admin, pair: true, still: true,
		in: pairPage, help: "pair#no-copy-can-be-promoted-pair-resolve", part: pairResolvePart}
	pairBeginPage = &page{path: "/pair/begin", title: "Begin the pair", least: cluster.Admin, pair: true, still: true,
		in: pairPage, help: "pair#from-hosts-to-a-pair-pair-setup", part: pairBeginPart}
	pairPartitionPage = &page{path: "/pair/partition", title: "Partition of the pair", least: cluster.Operator, pair: true, still: true,
		in: pairPage, help: "pair#a-file-system-for-templates-pair-partition", part: pairPartitionPart}
	pairSizePage = &page{path: "/pair/size", title: "Space that a pair needs", still: true,
		in: pairPage, help: "pair#how-much-space-it-needs", part: pairSizePart}

	pairPages = []*page{pairSwitchPage, pairStopPage, pairResolvePage, pairBeginPage, pairPartitionPage, pairSizePage}
)

// pairNow is a pair on a page.
type pairNow struct {
	*view
	cluster.PairStatus
	Told          told.Pair
	Master, Slave cluster.PairNode
}

// pairOf asks for the pair.
func pairOf(ctx context.Context, v *view) (*pairNow, error) {
	p, err := v.api.Pair(ctx)
	if err != nil {
		return nil, err
	}
	x := &pairNow{view: v, PairStatus: p, Told: told.PairStatus(p, v.T)}
	x.Master, x.Slave = told.PairSides(p)
	return x, nil
}

// pairPart is how the pair is.
func pairPart(ctx context.Context, v *view) (templ.Component, error) {
	x, err := pairOf(ctx, v)
	if isUnavailable(err) {
		v.Fail(err)
		return pairUnread(v), nil
	}
	if err != nil {
		return nil, err
	}
	return pairStatus(x), nil
}

// isUnavailable reports that the records of the pair can not be read.
func isUnavailable(err error) bool {
	var e *fail.Error
	return errors.As(err, &e) && e.Kind == fail.Unavailable
}

// headline says whether the pair serves.
func (x *pairNow) headline() told.Line {
	l := told.Line{Tone: x.Told.Health[0].Tone}
	switch act := x.Active(); {
	case !x.Set:
		l.Text = x.T("The pair is not set up.")
	case act != nil:
		l.Text = x.T("The services run on " + told.Clean(act.Host) + ".")
	case x.Owner.State == cluster.Migrating || x.Owner.State == cluster.Settling:
		l.Tone, l.Text = told.Warn, x.T("The services switch over to the other node.")
	case !x.Want.Run:
		l.Tone, l.Text = told.Warn, x.T("It is stopped, as somebody has asked for.")
	default:
		l.Text = x.T("The services do not run.")
	}
	return l
}

// unchosen reports that nothing serves, that no node that is there has the group, and that no complete copy can be promoted: a
// person may choose one. The API decides.
func (x *pairNow) unchosen() bool {
	return x.Set && x.Active() == nil && !slices.ContainsFunc(x.Nodes, func(n cluster.PairNode) bool {
		return n.Alive && (n.Host == x.Owner.Holder() || n.Fit && slices.Contains(x.InSync, n.Host))
	})
}

// passing reports that a complete copy is there and tells of no problem: that it can not be promoted may take a moment only.
func (x *pairNow) passing() bool {
	return slices.ContainsFunc(x.Nodes, func(n cluster.PairNode) bool {
		return n.Alive && n.Problem == "" && slices.Contains(x.InSync, n.Host)
	})
}

// switches reports whether a switch makes sense.
func (x *pairNow) switches() bool {
	return x.Set && x.Active() != nil && told.MaySwitch(x.PairStatus) == nil
}

// parted reports that the other node of one that serves is silent, does not come to follow by itself, or has other rows: `pair
// recover` may be what helps.
func (x *pairNow) parted() bool {
	c := x.Compared()
	return x.Active() != nil && (!x.Slave.Alive || x.Slave.Lasting || c != nil && len(c.Differ) > 0)
}

// whyWaits reports that what the cluster waits for is why the pair is not healthy, which is told already.
func (x *pairNow) whyWaits() bool {
	_, why := x.Health()
	return slices.Contains(why, x.Waiting)
}

// because adds a reason to a word, when there is one.
func (x *pairNow) because(word, why string) string {
	if why == "" {
		return word
	}
	return word + colon(x.view) + x.T(told.Clean(why))
}

// recoverCommand makes the other node one of the pair again, on the node that serves.
func (x *pairNow) recoverCommand() string {
	return "holdfast pair recover " + told.Or(told.HostOf(x.Status, x.Slave.Host).Addr, "ADDRESS")
}

// node reports whether this host is one of the two nodes, as far as it is known.
func (x *pairNow) node() bool {
	return len(x.Nodes) == 0 || slices.ContainsFunc(x.Nodes, func(n cluster.PairNode) bool { return string(n.Host) == x.Host })
}

// complete says of a node's copy whether it has every acknowledged write.
func (x *pairNow) complete(n cluster.PairNode) told.Line {
	if slices.Contains(x.InSync, n.Host) {
		return told.Line{Tone: told.Good, Text: x.T("has every acknowledged write")}
	}
	return told.Line{Tone: told.Warn, Text: x.T("does not have every acknowledged write")}
}

// role is a node's part in the pair, in a word.
func (x *pairNow) role(n cluster.PairNode) told.Line {
	switch {
	case n.Off:
		return told.Line{Tone: told.Bad, Text: x.T("switched off")}
	case !n.Alive:
		return told.Line{Tone: told.Bad, Text: x.T("silent")}
	case n.Role == "active":
		return told.Line{Label: "accent", Text: x.T("active node")}
	case n.Role == "standby" && n.Linked:
		return told.Line{Tone: told.Good, Text: x.T("standby node")}
	case n.Role == "standby":
		return told.Line{Tone: told.Warn, Text: x.T("standby node, does not follow")}
	case n.Role == "off":
		return told.Line{Tone: told.Bad, Text: x.T("its copy does not run")}
	}
	return told.Line{Tone: told.Bad, Text: x.T("its database does not answer")}
}

// report says when a node has told what it tells.
func (x *pairNow) report(n cluster.PairNode) string {
	if n.Time.IsZero() {
		return x.T("It has told nothing yet.")
	}
	return clockOf(n.Time, x.Time) + " · " + age(x.view, n.Time, x.Time)
}

// moments are the last times at which the group left a node, and came to it.
func (x *pairNow) moments(n cluster.PairNode) (out []told.Line) {
	t := n.Times
	for _, m := range []struct {
		what string
		at   time.Time
	}{{x.T("asked to hand over"), t.Asked}, {x.T("services stopped"), t.Stopped}, {x.T("all data handed over"), t.Handed},
		{x.T("services taken"), t.Taken}, {x.T("copy promoted"), t.Promoted}, {x.T("services started"), t.Active}} {
		if !m.at.IsZero() {
			out = append(out, told.Line{Label: m.what, Text: m.at.Local().Format("2006-01-02 15:04:05.000")})
		}
	}
	slices.SortStableFunc(out, func(a, b told.Line) int { return strings.Compare(a.Text, b.Text) })
	return out
}

// lastSwitch says how long the last switch took, "" where nobody knows.
func (x *pairNow) lastSwitch() string {
	s, at, known := told.LastSwitch(x.PairStatus)
	if !known {
		return ""
	}
	return clockOf(at, x.Time) + " · " + x.T(s.Text())
}

// member is the state of a member of the group, in the words of the command.
func (x *pairNow) member(state string) told.Line {
	switch state {
	case "up":
		return told.Line{Tone: told.Good, Text: x.T("started")}
	case "down":
		return told.Line{Text: x.T("stopped")}
	case "failed":
		return told.Line{Tone: told.Bad, Text: x.T("failed")}
	}
	return told.Line{Tone: told.Warn, Text: x.T(told.Clean(state))}
}

// partition is the pair's, as the node that serves tells of it, or the other one; nil: there is none.
func (x *pairNow) partition() *cluster.PairPartition {
	if x.Master.Partition != nil {
		return x.Master.Partition
	}
	return x.Slave.Partition
}

// consoleOf is a page of the console of another host, by the port of this one; "": its address is not known.
func consoleOf(v *view, h cluster.HostID, path string) templ.SafeURL {
	addr := told.HostOf(v.Status, h).Addr
	if net.ParseIP(addr) == nil {
		return ""
	}
	_, port, err := net.SplitHostPort(v.r.Host)
	if err != nil {
		port = "443"
	}
	return templ.SafeURL((&url.URL{Scheme: "https", Host: net.JoinHostPort(addr, port), Path: path}).String())
}

// pairSwitchPart says what a switch does, and what it waits for.
func pairSwitchPart(ctx context.Context, v *view) (templ.Component, error) {
	x, err := pairOf(ctx, v)
	if err == nil {
		err = told.MaySwitch(x.PairStatus)
	}
	if err != nil {
		return nil, err
	}
	_, to, why, _ := told.SwitchWaits(x.PairStatus, "")
	q := question{Title: v.Title, Back: "/pair", Action: "/pair/switch",
		Meaning: "Stop the services on the active node, and start them on the other one", Button: v.T("Switch over")}
	if to != "" {
		q.Title = v.T("Switch the services to " + told.Clean(to))
	}
	if why != "" {
		q.Button = ""
		q.About = []string{v.T("It can not begin yet:") + " " + v.T(told.Clean(why))}
	}
	if lost := told.LostBySwitch(x.PairStatus); lost != "" {
		q.Warns = []string{v.T("tables that may lose rows by this switch: " + lost)}
	}
	return confirm(v, q), nil
}

// pairStopPart says what a stop does.
func pairStopPart(_ context.Context, v *view) (templ.Component, error) {
	return confirm(v, question{Title: v.T("Stop the services of the pair"), Meaning: "Stop the services of the pair on both nodes",
		About:  []string{v.T("They stay stopped until somebody starts them, also across reboots.")},
		Action: "/pair/stop", Button: v.T("Stop"), Back: "/pair"}), nil
}

// pairResolvePart shows both sides, and what the choice of each gives up.
func pairResolvePart(ctx context.Context, v *view) (templ.Component, error) {
	x, err := pairOf(ctx, v)
	if isUnavailable(err) { // a node of a pair without a third voter may wait for a person
		v.Fail(err)
		return pairKeepUnread(v), nil
	}
	if err != nil {
		return nil, err
	}
	return pairKeep(x), nil
}

// pairBeginPart asks for the node whose data the pair begins with.
func pairBeginPart(ctx context.Context, v *view) (templ.Component, error) {
	x, err := pairOf(ctx, v)
	if err != nil {
		return nil, err
	}
	return pairBegin(x), nil
}

// pairPartitionPart is the form of a partition, or the question before it is taken away.
func pairPartitionPart(ctx context.Context, v *view) (templ.Component, error) {
	x, err := pairOf(ctx, v)
	if err != nil {
		return nil, err
	}
	return pairPartition(x), nil
}

// space is what was typed of a platform's size, and what a pair for it needs.
type space struct {
	Hosts, VMs string
	Size       *pair.Size
	Wrong      string
}

// pairSizePart reckons the space for so many hosts and VMs.
func pairSizePart(_ context.Context, v *view) (templ.Component, error) {
	s := space{Hosts: v.query("hosts"), VMs: v.query("vms")}
	if s.Hosts == "" || s.VMs == "" {
		return pairSize(v, s), nil
	}
	hosts, err := countOf("hosts", s.Hosts, 1, pair.MostHosts)
	vms, verr := countOf("vms", s.VMs, 0, pair.MostVMs)
	if err = errors.Join(err, verr); err != nil {
		var e *fail.Error
		errors.As(err, &e)
		s.Wrong = v.T(e.Message)
		return pairSize(v, s), nil
	}
	size := pair.SizeFor(hosts, vms)
	s.Size = &size
	return pairSize(v, s), nil
}

// countOf reads a number of a form.
func countOf(name, text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fail.Errorf(fail.Invalid, "%s: value %.20q: want a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

// gb is a size in GB.
func gb(n int) string { return fmt.Sprintf("%d GB", n) }

// onPair carries out an order about the pair that a page has asked for.
func (c *Console) onPair(p *page, do func(r *http.Request, v *view) error) func(http.ResponseWriter, *http.Request, *view) {
	return c.order(p, func(r *http.Request, v *view) (string, error) { return "/pair", do(r, v) })
}
