package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

// tidies makes the stage in which what runs have left on hosts goes. Hosts that may
// still need their backups keep all.
func (b *builder) tidies(hosts []*inventory.Host, staged bool) {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h *inventory.Host) bool { return b.plan.Begin.Retained[h.Name] != "" })
	b.add(Stage{Name: "tidy", Kind: Quiet, Limit: quietAtOnce, Chains: perHost(hosts, func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.tidy(staged)
		return c.Chain
	})})
}

// keptFindings names the hosts that keep what earlier upgrades have left.
func (b *builder) keptFindings() {
	for _, h := range slices.Sorted(maps.Keys(b.plan.Begin.Retained)) {
		if b.hosts[h] == nil {
			continue
		}
		b.find(Finding{
			Rule: "backups-kept", Level: Warn, Host: h,
			Text: fmt.Sprintf("The backups of earlier upgrades stay on the host, in upgrade/backups of its data "+
				"directory: %s.", b.plan.Begin.Retained[h]),
			Remedy: "check the host, and restore by hand what is broken; the backups may be removed after the host " +
				"was upgraded and the upgrade committed",
		})
	}
}

// tidy removes what the upgrade has left when all hosts are back and well: nobody goes
// back on it then. It looks at all hosts of the upgrade, since the bundle was brought to
// those that were not touched, too.
func (r *rollback) tidy() {
	for h, s := range r.plan.Begin.Hosts {
		if s != HostRolldownDone && !slices.ContainsFunc(r.part, func(p *inventory.Host) bool { return p.Name == h }) {
			return
		}
	}
	var hosts []*inventory.Host
	for _, p := range r.upgrade.Hosts {
		if h := r.hosts[p.Name]; h != nil && !r.lost[p.Name] {
			hosts = append(hosts, h)
		}
	}
	r.keptFindings()
	r.tidies(hosts, false)
}

// skippedBack says for each host which step of its way back an operator has skipped:
// what its backups hold may be all that is left of the version before. A skipped step
// that looks at the whole cluster is below "".
func (r *run) skippedBack() map[cluster.HostID]string {
	if r.skipped != nil {
		return r.skipped
	}
	r.skipped = map[cluster.HostID]string{}
	if r.plan.Purpose != ForRollback {
		return r.skipped
	}
	for i := range r.steps {
		switch s := &r.steps[i]; s.Kind {
		case KindRestore, KindAction, KindReboot, KindVerify, KindCheck:
			if r.recs[s.ID].State == job.Skipped && r.skipped[s.Host] == "" {
				r.skipped[s.Host] = s.ID
			}
		}
	}
	return r.skipped
}

// notBack returns the skipped step because of which a host is not tidied, "" for none.
func (r *run) notBack(h cluster.HostID) string {
	all := r.skippedBack()
	if all[h] != "" {
		return all[h]
	}
	return all[""]
}

// untidy says on which hosts something stays that was to be removed, and why.
func (r *run) untidy() (whys []reason.Reason) {
	var late []cluster.HostID
	var kept []string
	for i := range r.steps {
		s := &r.steps[i]
		if s.Kind != KindTidy || r.recs[s.ID].State.Over() || r.dropped(s.Host) {
			continue
		}
		if step := r.notBack(s.Host); step != "" {
			kept = append(kept, fmt.Sprintf("%s (%s)", s.Host, step))
		} else {
			late = append(late, s.Host)
		}
	}
	if len(kept) > 0 {
		whys = append(whys, reason.BackupsStay.With(strings.Join(kept, ", ")))
	}
	if len(late) > 0 {
		whys = append(whys, reason.NotTidied.With(joinHosts(late)))
	}
	return whys
}

// whyGivenUp is why a host that is lost keeps its backups; the upgrade's name follows.
const whyGivenUp = "the host was given up as lost after "

// givenUp reports whether a host was given up as lost after this upgrade: a rollback of that one
// may still bring the host back.
func (r *run) givenUp(h cluster.HostID) bool {
	run, known := r.st.GivenUp[h]
	return known && run == r.plan.Options.Run
}

// keep notes, at the end of a rollback or a commit, which hosts later runs must not
// tidy: those that are left between two versions, or may be. One that was upgraded and
// committed, or was given up and is rolled back after all, is well again.
func (r *run) keep() {
	kept := r.st.Retained
	over := r.plan.Purpose == ForCommit && r.st.Committed || r.plan.Purpose == ForRollback && r.st.Cluster == Normal
	for h, s := range r.st.Hosts {
		switch step := r.skippedBack()[h]; {
		case s == HostRolldownDone && step != "":
			kept[h] = step + " was skipped in its rollback"
		case over && (s == HostRollup || s == HostRolldown):
			kept[h] = "the host was left between two versions"
		case over && s == HostRollupDone, s == HostRolldownDone && r.givenUp(h):
			delete(kept, h)
		default:
			continue
		}
		delete(r.st.GivenUp, h)
	}
	for _, l := range r.plan.Left {
		if (over || r.plan.Purpose == ForRollback) && l.lost() { // the status has forgotten the host
			kept[l.Name], r.st.GivenUp[l.Name] = whyGivenUp+r.plan.Options.Run, r.plan.Options.Run
		}
	}
}
