package request

import (
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/upgrade"
)

// Verb is what can be asked of an upgrade, as the command line calls it.
type Verb string

// Verbs. What is said of Run, Next says of Check, too.
const (
	Run      Verb = "run"
	Check    Verb = "check"
	Commit   Verb = "commit"
	Rollback Verb = "rollback"
	Report   Verb = "report"
	Pause    Verb = "pause"
	Resume   Verb = "resume"
	Abort    Verb = "abort"
	Retry    Verb = "retry"   // a step
	Skip     Verb = "skip"    // a step
	Drop     Verb = "drop"    // a host
	Approve  Verb = "approve" // a host
)

// Bounds of what is named.
const (
	maxNext  = 3  // steps or hosts with commands of their own
	maxHosts = 20 // of one command
)

// Next names the commands that make sense as an upgrade stands, of those that may be given: may
// says what would be accepted, of which step or host.
func Next(u *Standing, may func(v Verb, what string) bool) []string {
	j := u.Job
	var out []string
	name := func(v Verb, what, rest string) {
		if !may(v, what) {
			return
		}
		text := "holdfast upgrade " + string(v)
		if what != "" {
			text += " " + what
		}
		out = append(out, text+rest)
	}
	switch {
	case j == nil:
		bundle := " --bundle FILE --key KEY"
		if u.Version == "" {
			bundle += " --version VERSION"
		}
		name("check", "", bundle)
		name(Run, "", bundle)
		return out
	case j.State == "ended":
		for _, v := range afterEnd(u) {
			rest := ""
			if v == Run {
				rest = " --bundle FILE --key KEY"
			}
			name(v, "", rest)
		}
		return out
	}
	steps := 0
	for _, s := range j.Steps {
		if (s.State == "failed" || s.State == "unknown") && steps < maxNext {
			steps++
			name(Retry, s.ID, "")
			name(Skip, s.ID, " --reason WHY")
		}
	}
	if j.State == "paused" {
		for _, h := range about(j.WhyCodes, reason.HostGone, maxNext) {
			name(Drop, h, "")
		}
		name(Resume, "", "")
		name(Abort, "", "")
		return out
	}
	waits := slices.DeleteFunc(about(j.WaitCodes, reason.NotApproved, maxHosts), func(h string) bool { return !may(Approve, h) })
	if len(waits) > 0 {
		out = append(out, "holdfast upgrade approve "+strings.Join(waits, " "))
	}
	return out
}

// Offered is what commands of a verb that Next has named are about: steps or hosts, none for one that is about the whole
// upgrade. is: there is such a command.
func Offered(next []string, v Verb) (what []string, is bool) {
	for _, text := range next {
		words, named := strings.CutPrefix(text+" ", "holdfast upgrade "+string(v)+" ")
		if !named {
			continue
		}
		is = true
		for _, w := range strings.Fields(words) {
			if strings.HasPrefix(w, "--") {
				break
			}
			what = append(what, w)
		}
	}
	return what, is
}

// about are the hosts of reasons of a code, not more than a few.
func about(whys []reason.Reason, code *reason.Code, most int) (out []string) {
	for _, r := range whys {
		if h := r.Args["host"]; r.Is(code) && len(out) < most && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// afterEnd is what makes sense when a job has ended.
func afterEnd(u *Standing) []Verb {
	switch u.ClusterState {
	case upgrade.Prepared:
		return []Verb{Commit, Rollback}
	case upgrade.Rollup:
		return []Verb{Run, Rollback}
	case upgrade.Rolldown:
		return []Verb{Rollback}
	case upgrade.Committing:
		return []Verb{Commit}
	}
	if slices.ContainsFunc(u.Behind, func(b Behind) bool { return b.Up }) {
		return []Verb{Run, Report}
	}
	return []Verb{Report}
}

// Behind is a host that was left out of a commit, and that no run has brought to the version of
// the cluster since.
type Behind struct {
	Name    cluster.HostID `json:"name"`
	Version string         `json:"version"`           // that it had by what was known then
	Halfway bool           `json:"halfway,omitempty"` // it was left between that one and the new one
	At      time.Time      `json:"at,omitzero"`       // of the commit
	Up      bool           `json:"up,omitempty"`      // its agent answers
}
