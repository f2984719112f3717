package transition

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/job"
)

// Sites is how the transitions of the clusters of a list stand.
type Sites struct {
	File  string      `json:"file"`            // where the list is, or is to be
	Sites []SiteState `json:"sites,omitempty"` // in the order of the file
}

// What a site's transition is like, beside the states and results of jobs.
const (
	SiteNone    = "none"      // no transition was begun
	SiteUnknown = "no answer" // its agents do not answer, or not this caller
)

// SiteState is how the last transition of a cluster stands.
type SiteState struct {
	Site        string    `json:"site"`
	State       string    `json:"state"`          // active, paused, aborting, done, failed, aborted, SiteNone, SiteUnknown
	Needs       bool      `json:"needs_a_person"` // to look at it
	Server      string    `json:"server,omitempty"`
	Job         string    `json:"job,omitempty"`
	Stage       string    `json:"stage,omitempty"` // of the step
	Step        string    `json:"step,omitempty"`  // that runs, or comes next
	Percent     int       `json:"percent"`         // of that step
	Over        int       `json:"steps_over"`      // done or skipped
	Steps       int       `json:"steps"`
	Since       time.Time `json:"since,omitzero"` // the step began, or else the job changed
	Why         string    `json:"why,omitempty"`  // paused, ended or without an answer
	Note        string    `json:"note,omitempty"` // what the step says
	Waits       []string  `json:"waits,omitempty"`
	Lost        *SiteLoss `json:"lost,omitempty"` // nil: the upgrade of its hosts has not begun, or counts nothing
	LostAt      time.Time `json:"lost_at,omitzero"`
	LostUnknown string    `json:"lost_unknown,omitempty"`
	At          time.Time `json:"at,omitzero"` // it was asked, by the clock of who asks; zero: it has not answered yet
}

// SiteLoss sums what the guests of a site have lost in its last upgrade.
type SiteLoss struct {
	Guests    int    `json:"guests"` // that were watched
	Sent      int64  `json:"sent"`   // packets
	Lost      int64  `json:"lost"`   // packets
	LongestMS int64  `json:"longest_gap_ms"`
	Worst     string `json:"worst,omitempty"` // the guest with the longest gap
}

// Take has it say how a transition stands.
func (v *SiteState) Take(j job.View) {
	v.Job, v.State, v.Since, v.Why, v.Waits = j.ID, j.State, j.Changed, j.Because(), j.WaitsFor()
	if j.State == string(job.Ended) {
		v.State = cmp.Or(j.Result, j.State)
	}
	if v.Since.IsZero() {
		v.Since = j.Began
	}
	v.Needs = v.State != string(job.Active) && v.State != string(job.Aborting) && v.State != "done"
	v.Steps = len(j.Steps)
	now := -1
	for i, s := range j.Steps {
		switch {
		case s.Over():
			v.Over++
		case now < 0:
			now = i
		}
	}
	if now < 0 {
		return
	}
	s := j.Steps[now]
	v.Step, v.Percent, v.Note = s.ID, s.Percent, s.Note
	v.Stage, _, _ = strings.Cut(s.ID, "/")
	if !s.Began.IsZero() && s.State == string(job.Running) {
		v.Since = s.Began
	}
}

// Last is the transition that was begun last, of jobs of which the newest is the first.
func Last(jobs []job.View) (j job.View, is bool) {
	i := slices.IndexFunc(jobs, func(j job.View) bool { return j.Kind == string(Job) })
	if i < 0 {
		return j, false
	}
	return jobs[i], true
}
