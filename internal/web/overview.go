package web

import (
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"slices"
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
