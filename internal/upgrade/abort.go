package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// How a step that restores order is tried in an abort, where no operator can
// retry it.
const (
	maxTries   = 5
	triesAfter = 10 * time.Second // the one before has ended
)

// abort lets what runs end, restores what can be restored, switches the platform's
// HA on again at last, and ends the run.
func (r *run) abort() {
	r.waitForLive()
	r.st.Undone = nil
	var last []*Chain
	for i := range r.plan.Stages {
		for j := range r.plan.Stages[i].Chains {
			c := &r.plan.Stages[i].Chains[j]
			switch {
			case c.OneOf:
				last = append(last, c)
			case !r.chainLive(c):
				r.restore(c)
			}
		}
	}
	if r.live > 0 || len(r.waits) > 0 {
		return
	}
	for _, c := range last {
		r.restoreOneOf(c)
	}
	if r.live > 0 || len(r.waits) > 0 {
		return
	}
	r.endAborted()
}

// waitForLive counts what is being cancelled, and waits for it. A host that is
// away is waited for as long as its step may take: it may be rebooting.
func (r *run) waitForLive() {
	for _, s := range r.plan.Stages {
		for i := range s.Chains {
			for k := range s.Chains[i].Steps {
				step := &s.Chains[i].Steps[k]
				if r.isLive(step) {
					r.live++
					r.wait(fmt.Sprintf("%s: is being ended", step.ID))
				}
			}
		}
	}
}

// isLive reports whether a step is under way and may still end by itself.
func (r *run) isLive(s *Step) bool {
	rec := r.recs[s.ID]
	switch {
	case rec.State != job.Granted && rec.State != job.Running || r.dropped(s.Host):
		return false
	case rec.State == job.Granted:
		return r.up(s.Host)
	}
	return !r.isDead(s, rec)
}

func (r *run) chainLive(c *Chain) bool {
	for i := range c.Steps {
		if r.isLive(&c.Steps[i]) {
			return true
		}
	}
	return false
}

// restore grants the first step of the chain that makes something good, if one
// is left. They follow one another as in the chain, and none comes after one that
// can not be done: no guests without storage.
func (r *run) restore(c *Chain) {
	left := ""
	for i := range c.Steps {
		s := &c.Steps[i]
		if !r.mustRestore(s) {
			continue
		}
		if left != "" {
			r.st.Undone = append(r.st.Undone, s.ID+": comes after "+left)
			continue
		}
		if why := r.cannotRestore(s); why != "" {
			left = s.ID
			r.st.Undone = append(r.st.Undone, s.ID+": "+why)
			continue
		}
		r.tryAgain(s)
		return
	}
}

// mustRestore reports whether a step makes something good that was begun.
func (r *run) mustRestore(s *Step) bool {
	if r.recs[s.ID].State.Over() {
		return false
	}
	return slices.ContainsFunc(s.Restores, func(id string) bool { return begun(r.recs[id]) })
}

// cannotRestore says why a step that would make something good is left.
func (r *run) cannotRestore(s *Step) string {
	rec := r.recs[s.ID]
	switch {
	case r.dropped(s.Host):
		return "the host was dropped"
	case !r.up(s.Host):
		return "the host is away"
	case rec.State == job.Unknown:
		return "it was begun and may have been done"
	case rec.Attempt >= maxTries && rec.State == job.Failed:
		return "it failed: " + rec.Why
	case s.Kind == KindUndrain && !r.sound(s.Host):
		// Guests must not come to a host that is between two versions.
		return "the host is between two versions"
	}
	return ""
}

// tryAgain grants a step that restores something, unless it failed just now.
// Either way there is something to wait for.
func (r *run) tryAgain(s *Step) {
	rec := r.recs[s.ID]
	if rec.State == job.Failed && r.now.Sub(rec.Ended) < triesAfter {
		r.wait(fmt.Sprintf("%s: is tried again: %s", s.ID, rec.Why))
		return
	}
	r.begin(s)
}

// sound reports whether the work on a host is either not begun or done. Moving
// guests and storage off is no work on the host itself.
func (r *run) sound(h cluster.HostID) bool {
	for _, place := range r.chains[h] {
		c := r.all[place]
		some, all := false, true
		for i := range c.Steps {
			switch s := &c.Steps[i]; s.Kind {
			case KindAction, KindReboot, KindVerify:
				some = some || begun(r.recs[s.ID])
				all = all && r.recs[s.ID].State.Over()
			}
		}
		if some && !all {
			return false
		}
	}
	return true
}

// restoreOneOf grants the alternatives in turn until one is done. While the
// managers are away it waits: HA must not stay off.
func (r *run) restoreOneOf(c *Chain) {
	if !r.oneOfNeeded(c) {
		return
	}
	var whys, away []string
	for i := range c.Steps {
		s := &c.Steps[i]
		switch why := r.cannotRestore(s); {
		case why == "":
			r.tryAgain(s)
			return
		case !r.dropped(s.Host) && !r.up(s.Host):
			away = append(away, string(s.Host))
		default:
			whys = append(whys, s.ID+": "+why)
		}
	}
	if len(away) > 0 {
		r.wait(fmt.Sprintf("%s: waits for one of %s to come back", c.Steps[0].ID, strings.Join(away, ", ")))
		return
	}
	r.st.Undone = append(r.st.Undone, whys...)
	r.job.Result = resultFailed
}

// oneOfNeeded reports whether what the alternatives make good was begun, and
// none of them is done.
func (r *run) oneOfNeeded(c *Chain) bool {
	if slices.ContainsFunc(c.Steps, func(s Step) bool { return r.recs[s.ID].State.Over() }) {
		return false
	}
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return r.mustRestore(&s) })
}

// endAborted ends the run and says how it leaves the cluster.
func (r *run) endAborted() {
	r.mixed()
	result := resultAborted
	if r.job.Result == resultFailed {
		result = resultFailed
	}
	parts := []string{r.job.Why}
	if len(r.st.Mixed) > 0 {
		parts = append(parts, "between two versions: "+joinHosts(r.st.Mixed))
	}
	if undone := r.st.Undone; len(undone) > 0 {
		if more := len(undone) - maxWaits; more > 0 {
			undone = append(slices.Clone(undone[:maxWaits]), fmt.Sprintf("and %d more", more))
		}
		parts = append(parts, "not restored: "+strings.Join(undone, ", "))
	}
	r.st.Stage = ""
	r.end(result, strings.Join(parts, "; "))
}
