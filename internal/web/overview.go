package web

import (
	"fmt"
	"slices"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// headline is the largest sentence of the console: is it up?
func headline(v *view) told.Line {
	s, o := v.Status, v.Status.Owner
	name := string(o.Host)
	switch {
	case v.Report.Heads == nil, len(s.Hosts) == 0 && o.State == "":
		return told.Line{Tone: told.Warn, Text: v.T("No record of the store has been read yet.")}
	case !s.Connected:
		return told.Line{Tone: told.Bad, Text: v.T("This host reaches no quorum of the store.")}
	case s.Want.HandsOff:
		return told.Line{Tone: told.Warn, Text: v.T("HA is suspended: nothing is decided.")}
	case o.State == cluster.Running && told.HolderSilent(s) && s.OfPair():
		return told.Line{Tone: told.Bad, Text: v.T("The services were last known on " + name + ", which is silent.")}
	case o.State == cluster.Running && told.HolderSilent(s):
		return told.Line{Tone: told.Bad, Text: v.T("The management VM was last known on " + name + ", which is silent.")}
	case o.State == cluster.Running && s.OfPair():
		return told.Line{Tone: v.Report.Kept.Tone, Text: v.T("The services run on " + name + ".")}
	case o.State == cluster.Running:
		return told.Line{Tone: v.Report.Kept.Tone, Text: v.T("The management VM runs on " + name + ".")}
	case !s.Want.Run:
		return told.Line{Tone: told.Warn, Text: v.T("It is stopped, as somebody has asked for.")}
	}
	return told.Line{Tone: told.Bad, Text: v.T("It does not run: its state is " + told.OwnerState(s) + ".")}
}

// needs are the lines that want somebody to do something.
func needs(v *view) []told.Line {
	var out []told.Line
	for _, l := range append([]told.Line{v.Report.Store, v.Report.Takeover}, slices.Concat(v.Report.Notes, v.Report.Why, v.Report.Rest)...) {
		if l.Tone == told.Warn || l.Tone == told.Bad {
			out = append(out, l)
		}
	}
	return out
}

// role tells what a host is for the cluster, in a word with its tone.
func role(v *view, h cluster.HostStatus) told.Line {
	s := v.Status
	switch state := told.HostState(s, h); {
	case state == told.Cut:
		return told.Line{Tone: told.Bad, Text: v.T("cut off")}
	case state == told.Silent && !h.Expelled.IsZero():
		return told.Line{Tone: told.Bad, Text: v.T("silent, proved stopped")}
	case state == told.Silent:
		return told.Line{Tone: told.Bad, Text: v.T("silent")}
	case state == told.Unknown:
		return told.Line{Tone: told.Warn, Text: v.T("unknown")}
	case s.Owner.Holder() == h.Name && s.OfPair():
		return told.Line{Label: "accent", Text: v.T("runs the services")}
	case s.Owner.Holder() == h.Name:
		return told.Line{Label: "accent", Text: v.T("runs the management VM")}
	case told.InMaintenance(s, h.Name):
		return told.Line{Tone: told.Warn, Text: v.T("in maintenance")}
	case !h.Fit:
		return told.Line{Tone: told.Bad, Text: v.T("not able to run it")}
	}
	return told.Line{Tone: told.Good, Text: v.T("able to take over")}
}

// day is the band of the last 24 hours, and when it begins.
func day(v *view) (blocks []told.Block, since time.Time) {
	since = v.Status.Time.Add(-24 * time.Hour)
	return told.Band(v.Status, v.Events, since), since
}

// bandWidth is that of the band in its own units: minutes.
const bandWidth = 1440

// place is where a block stands in the band; what is short can be seen, too.
func place(b told.Block, since time.Time) (x, width string) {
	from, w := b.From.Sub(since).Minutes(), b.To.Sub(b.From).Minutes()
	if b.State == told.Down && w < 5 {
		w = 5
	}
	from = min(from, bandWidth-w)
	return fmt.Sprintf("%.2f", from), fmt.Sprintf("%.2f", w)
}

// band is the class of a state.
func band(s told.State) string {
	return map[told.State]string{told.NotKnown: "unknown", told.Up: "up", told.Moving: "moving", told.Halted: "halted", told.Down: "down"}[s]
}

// stateWord is a state of the band in a word.
func stateWord(v *view, s told.State) string {
	return map[told.State]string{told.NotKnown: v.T("not known"), told.Up: v.T("up"), told.Moving: v.T("moving"), told.Halted: v.T("stopped"),
		told.Down: v.T("down")}[s]
}

// blockInWords says what a block is.
func blockInWords(v *view, b told.Block) string {
	text := b.From.Local().Format("15:04:05") + " – " + b.To.Local().Format("15:04:05") + " · " + stateWord(v, b.State)
	if b.Host != "" {
		text += " · " + string(b.Host)
	}
	return text + " · " + v.T(told.Secs(b.To.Sub(b.From)))
}

// dayInWords says what the band shows.
func dayInWords(v *view, blocks []told.Block) string {
	n, down, unknown := 0, time.Duration(0), time.Duration(0)
	for _, b := range blocks {
		switch took := b.To.Sub(b.From); b.State {
		case told.Down:
			n, down = n+1, down+took
		case told.NotKnown:
			unknown += took
		}
	}
	text := v.T("no outage")
	if n == 1 {
		text = v.T(fmt.Sprintf("one outage, %s", told.Secs(down)))
	} else if n > 1 {
		text = v.T(fmt.Sprintf("%d outages, %s in all", n, told.Secs(down)))
	}
	if unknown > 0 {
		text += " · " + v.T(fmt.Sprintf("nothing is known of %s", told.Secs(unknown.Round(time.Second))))
	}
	return text
}

// failoverPath is the page of a takeover.
func failoverPath(at time.Time) templ.SafeURL {
	return templ.SafeURL(fmt.Sprintf("/failovers/%d", at.UnixNano()))
}

// phasesInWords says how long each part of a failover took.
func phasesInWords(v *view, f told.Failover) string {
	text := v.T("detection and proof") + " " + told.Secs(f.DecidedIn)
	if f.Started.IsZero() {
		return text
	}
	return text + ", " + v.T("start") + " " + told.Secs(f.StartIn)
}
