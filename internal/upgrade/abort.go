package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// How a step that restores order is tried in an abort, where no operator can
// retry it.
const (
	maxTries   = 5                // when one of them was in the abort
	triesAfter = 10 * time.Second // the one before has ended
	awayFor    = 10 * time.Minute // a host is waited for so long: its agent may be restarting
)

// abort lets what runs end, restores what can be restored, switches the platform's
// HA on again at last, and ends the run.
func (r *run) abort() {
	if r.st.Aborted.IsZero() {
		r.st.Aborted = r.now
	}
	r.waitForLive()
	r.st.Undone = nil
	var last []*Chain
	met := map[cluster.HostID]before{}
	for i := range r.plan.Stages {
		for j := range r.plan.Stages[i].Chains {
			c := &r.plan.Stages[i].Chains[j]
			switch {
			case c.OneOf:
				last = append(last, c)
			case r.chainLive(c):
				met[c.Host] = met[c.Host].busy()
			default:
				met[c.Host] = r.restore(c, met[c.Host])
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
					r.wait(reason.BeingEnded.With().At(step.ID))
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

// before is what an abort has met on a host in its earlier chains.
type before struct {
	wait bool   // a step is under way or granted: those of later chains come after it
	left string // storage is not there, because of this step
}

func (b before) busy() before { return before{true, b.left} }

// restore grants the first step of the chain that makes something good, if one
// is left. They follow one another as in the chain, and none comes after one that
// can not be done. Chains of a host follow one another, too: no guests without
// storage.
func (r *run) restore(c *Chain, b before) before {
	if b.wait {
		return b
	}
	left := b.left
	for i := range c.Steps {
		s := &c.Steps[i]
		if !r.mustRestore(s) {
			continue
		}
		if left != "" && s.Kind != KindPin { // a bridge that forwards by its own flows waits for nothing else
			r.st.Undone = append(r.st.Undone, s.ID+": not tried, because it comes after "+left)
			continue
		}
		if r.comesBack(s.Host) {
			r.wait(reason.ComesBack.With(s.Host).At(s.ID))
			return b.busy()
		}
		if why := r.cannotRestore(s); why != "" {
			left = s.ID
			if s.Kind == KindStorageAttach {
				b.left = s.ID
			}
			r.st.Undone = append(r.st.Undone, s.ID+": "+why)
			continue
		}
		r.tryAgain(s)
		return b.busy()
	}
	return b
}

// mustRestore reports whether a step makes something good that was begun. A soft one
// is a favour, and nothing waits for favours in an abort.
func (r *run) mustRestore(s *Step) bool {
	if s.Soft || r.recs[s.ID].State.Over() {
		return false
	}
	return slices.ContainsFunc(s.Restores, func(id string) bool { return begun(r.recs[id]) })
}

// comesBack reports whether a host is away that may still come back: it has done
// something, or an abort has begun, not long ago.
func (r *run) comesBack(h cluster.HostID) bool {
	if r.up(h) || r.dropped(h) {
		return false
	}
	last := r.st.Aborted // the abort itself goes on changing the job
	for _, s := range r.steps {
		if rec := r.recs[s.ID]; s.Host == h && rec.Ended.After(last) {
			last = rec.Ended
		}
	}
	return r.now.Sub(last) < awayFor
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
	case rec.Undo && rec.State == job.Failed && s.Kind == KindPin: // it has waited for flows, and the pin ends by itself
		return rec.Why
	case rec.Undo && rec.Attempt >= maxTries && rec.State == job.Failed: // one from before the abort says nothing of now
		return "it failed: " + rec.Why
	case s.Kind == evacuate.KindUndrain && !r.sound(s.Host):
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
		r.wait(reason.TriedAgain.With(s.ID, rec.Why))
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
			case KindAction, KindRestore, KindReboot, KindVerify:
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
		r.wait(reason.OneComesBack.With(strings.Join(away, ", ")).At(c.Steps[0].ID))
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

// untouched takes back that hosts are on their way on which nothing was changed but
// what was restored: a host that was only emptied, or that was told to begin and did
// not. When that is all of them, the cluster stands as it did before the run.
func (r *run) untouched() {
	if r.plan.Purpose == ForCommit {
		if !begun(r.recs[r.steps[0].ID]) {
			r.st.Cluster = r.plan.Begin.Cluster // it can still be rolled back
		}
		return
	}
	same := true
	for _, h := range r.plan.Hosts {
		if r.changed(h.Name) {
			same = false
		} else if was := r.plan.Begin.Hosts[h.Name]; was != "" {
			r.st.Hosts[h.Name] = was
		} else {
			delete(r.st.Hosts, h.Name)
		}
	}
	switch {
	case same:
		r.st.Cluster = r.plan.Begin.Cluster
	case r.plan.Purpose == ForRollback:
		r.st.Cluster = r.rolledBack() // nothing may be left to roll back
	}
}

// changed reports whether work on a host was begun that only goes on or is rolled
// back. It is what a rollback asks, too.
func (r *run) changed(h cluster.HostID) bool {
	for _, place := range r.chains[h] {
		for i := range r.all[place].Steps {
			if s := &r.all[place].Steps[i]; s.changes() && begun(r.recs[s.ID]) {
				return true
			}
		}
	}
	return false
}

// changes reports whether a step changes the version of its host.
func (s *Step) changes() bool {
	switch s.Kind {
	case KindRestore, KindReboot:
		return true
	case KindAction:
		var args ActionArgs
		// Build has written them.
		return json.Unmarshal(s.Args, &args) == nil &&
			slices.Contains([]manifest.Phase{manifest.Stop, manifest.Install, manifest.Rollback}, args.Phase)
	}
	return false
}

// endAborted ends the run and says how it leaves the cluster.
func (r *run) endAborted() {
	r.untouched()
	r.keep()
	r.mixed()
	result := resultAborted
	if r.job.Result == resultFailed {
		result = resultFailed
	}
	whys := slices.Clone(r.job.Why)
	if len(r.st.Mixed) > 0 {
		whys = append(whys, reason.Between.With(joinHosts(r.st.Mixed)))
	}
	if undone := r.st.Undone; len(undone) > 0 {
		if more := len(undone) - maxWaits; more > 0 {
			undone = append(slices.Clone(undone[:maxWaits]), fmt.Sprintf("and %d more", more))
		}
		whys = append(whys, reason.NotRestored.With(strings.Join(undone, ", ")))
	}
	r.st.Stage = ""
	r.end(result, whys...)
}
