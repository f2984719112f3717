package told

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// Standing says how the last upgrade stands, in lines. tr translates the few words that stand inside a sentence.
func Standing(u request.Standing, tr func(string) string) []Line {
	var out []Line
	tone := Warn
	if u.ClusterState == upgrade.Normal || u.ClusterState == upgrade.Prepared {
		tone = Good
	}
	state := Or(u.ClusterState, "unknown")
	if u.ClusterState == upgrade.Normal && len(u.Undone) > 0 {
		tone, state = Warn, state+" but for what is undone"
	}
	text := tr(state) + ", version " + Or(u.Version, "unknown: no upgrade has told it yet")
	under := u.ClusterState != upgrade.Normal || u.Job != nil && u.Job.State != "ended"
	if under && u.To != "" && u.To != u.Version {
		text += " -> " + Clean(u.To)
	}
	if u.Committed {
		text += "; it is committed"
	}
	if u.NoQuorum {
		tone = Bad
		out = append(out, Line{"store", Bad, fmt.Sprintf("it has no quorum: what follows was last known at %s", WallClock(u.AsOf))})
	}
	out = append(out, Line{"cluster", tone, text})
	if u.Bundle != nil {
		out = append(out, bundleLine(u.Bundle))
	}
	j := u.Job
	if j == nil {
		out = append(out, Line{"run", Plain, "none yet"})
		return out
	}
	text = Clean(j.ID) + ": " + Or(u.Purpose, j.Kind)
	if u.Mode != "" {
		text += ", " + Clean(u.Mode)
	}
	out = append(out, Line{"run", Plain, text + ", by " + Or(j.User, "an unknown user") + " since " + WallClock(j.Began)})
	ends := JobState(*j)
	text = ends.Text
	if why := j.Because(); why != "" {
		text += ": " + Clean(why)
	}
	out = append(out, Line{"state", ends.Tone, text})
	if u.Stage != "" && j.State != "ended" {
		out = append(out, Line{"stage", Plain, Clean(u.Stage)})
	}
	out = append(out, Line{"progress", Plain, Progress(u.Steps)})
	return out
}

// Progress counts steps.
func Progress(n request.StepCount) string {
	text := fmt.Sprintf("%d of %d steps", n.Over, n.Total)
	if n.Failed > 0 {
		text += fmt.Sprintf(", %d failed", n.Failed)
	}
	if n.Dropped > 0 {
		text += fmt.Sprintf(", %d dropped with their hosts", n.Dropped)
	}
	return text
}

func bundleLine(x *request.BundleInfo) Line {
	text := Clean(x.Name) + " " + Clean(x.Version)
	if x.Unsigned {
		return Line{"bundle", Bad, text + ", UNSIGNED: anybody may have made it"}
	}
	if x.KeyID != "" {
		text += ", signed by key " + Clean(x.KeyID)
	}
	return Line{"bundle", Plain, text}
}

// Found is what programs have said of trouble, failures first, the remedy behind the last line of each fault.
func Found(found []request.Found) []Line {
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(x, y request.Found) int { return strings.Compare(x.Level, y.Level) }) // fail, warn
	var out []Line
	for i, f := range found {
		tone := Warn
		if f.Level == "fail" {
			tone = Bad
		}
		text := f.Step + ": " + f.Text
		if f.File != "" {
			text += " (" + f.File + ")"
		}
		out = append(out, Line{"found", tone, Clean(text)})
		if f.Remedy != "" && (i+1 == len(found) || found[i+1].Fault != f.Fault) {
			out = append(out, Line{"", Plain, Clean(f.Remedy)})
		}
	}
	return out
}

// LeftOut says which hosts the plan does not change, and why.
func LeftOut(left []upgrade.LeftHost) (out []string) {
	for _, l := range left {
		out = append(out, string(l.Name)+": "+l.Because())
	}
	return out
}

// LeftBehind says what is known of hosts that have not the version of the cluster.
func LeftBehind(hosts []request.Behind) (out []string) {
	for _, h := range hosts {
		text := "not upgraded: %s before the commit of %s, not read since"
		if h.Halfway {
			text = "left between %s and the new version by the commit of %s, not read since"
		}
		out = append(out, string(h.Name)+": "+fmt.Sprintf(text, Or(h.Version, "version not known"), WallClock(h.At)))
	}
	return out
}

// UpgradeHeads are the columns of UpgradeHosts.
var UpgradeHeads = []string{"HOST", "WAVE", "STATE", "NOW"}

// UpgradeHosts are the hosts of an upgrade, those with trouble first.
func UpgradeHosts(u request.Standing) []Host {
	stuck := map[cluster.HostID]bool{}
	if u.Job != nil {
		for _, s := range StuckSteps(*u.Job) {
			stuck[s.Host] = true
		}
	}
	hosts := slices.Clone(u.Hosts)
	slices.SortStableFunc(hosts, func(x, y request.HostStanding) int { return trouble(x, stuck) - trouble(y, stuck) })
	var out []Host
	for _, h := range hosts {
		out = append(out, Host{Name: h.Name, Cells: upgradeRow(h, stuck[h.Name])})
	}
	return out
}

// trouble ranks a host: the lower, the earlier it is shown.
func trouble(h request.HostStanding, stuck map[cluster.HostID]bool) int {
	switch {
	case stuck[h.Name]:
		return 0
	case h.Mixed:
		return 1
	case h.Dropped != "":
		return 2
	case h.State == upgrade.HostRollup || h.State == upgrade.HostRolldown:
		return 3
	case h.Now != "":
		return 4
	}
	return 5
}

func upgradeRow(h request.HostStanding, stuck bool) []Cell {
	state := Cell{Text: Or(h.State, "-")}
	switch h.State {
	case upgrade.HostRollup, upgrade.HostRolldown:
		state.Tone = Warn
	case upgrade.HostRollupDone, upgrade.HostRolldownDone:
		state.Tone = Good
	}
	var notes []string
	switch {
	case h.Dropped != "":
		notes = append(notes, "left out by "+Clean(h.Dropped))
	case h.Approved != "":
		notes = append(notes, "approved by "+Clean(h.Approved))
	}
	if h.Mixed {
		notes = append(notes, "left half-way")
		state.Tone = Bad
	}
	if h.Now != "" {
		notes = append(notes, Clean(h.Now))
	}
	if stuck {
		state.Tone = Bad
	}
	wave := "-"
	if h.Wave > 0 {
		wave = fmt.Sprint(h.Wave)
	}
	return []Cell{{Text: Clean(h.Name)}, {Text: wave}, state, {Text: Or(strings.Join(notes, "; "), "-")}}
}

// Meaning says what a command of an upgrade, or of a job, does.
func Meaning(v request.Verb) string {
	switch v {
	case request.Pause:
		return "Begin no further steps; running steps continue"
	case request.Resume:
		return "End a pause"
	case request.Abort:
		return "Stop the running steps, and run only steps that restore order"
	case request.Retry:
		return "Repeat a step that failed, or that is unknown"
	case request.Skip:
		return "Skip a step that failed, or that is unknown"
	case request.Approve:
		return "Approve hosts, so that they may begin"
	case request.Drop:
		return "Leave out hosts that are away"
	case request.Commit:
		return "Make an upgrade final, without a way back"
	case request.Rollback:
		return "Roll hosts back to the previous version"
	case request.Run:
		return "Upgrade the hosts of the cluster"
	case request.Check:
		return "Check whether all hosts are ready for an upgrade"
	case request.Report:
		return "Report on the last upgrade"
	}
	return ""
}
