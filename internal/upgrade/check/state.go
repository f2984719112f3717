package check

import (
	"fmt"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// checkStatus asks the product's own word, on each host that has one.
func checkStatus(s *scene) []Finding {
	var fs []Finding
	asked := false
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "status", Fail); ok {
			fs, asked = append(fs, nk), true
			return
		}
		if f.Status == nil {
			return
		}
		asked = true
		if f.Status.Exit != 0 {
			fs = append(fs, onHost(h.Name, Fail, "start the services that are stopped, with the product's own tools; then repeat the check",
				"%s reports that the cluster is not healthy (exit code %d)%s", f.Status.Name, f.Status.Exit, said(f.Status.Text)))
		}
	})
	if !asked {
		fs = append(fs, inCluster(Info, "", "no program is known that reports the status of the product"))
	}
	return fs
}

// said adds what a program has said, when it has.
func said(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// checkHA wants the platform's HA off during the run, and afterwards as before: it
// would start guests of a host that is rebooted a second time.
func checkHA(s *scene) []Finding {
	if s.inv.HA == nil {
		return []Finding{inCluster(Info, "", "the platform has no HA of its own")}
	}
	var fs []Finding
	known := false
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "ha", Warn); ok {
			fs, known = append(fs, nk), true
			return
		}
		if f.HA == nil {
			return
		}
		known = true
		switch {
		case f.HA.Exit > 1 || f.HA.Exit < 0:
			fs = append(fs, onHost(h.Name, Warn, "check HA with the platform's own tools",
				"the state of the platform's HA is not known (exit code %d)%s", f.HA.Exit, said(f.HA.Text)))
		default:
			fs = append(fs, s.judgeHA(h, f.HA.Exit == 0)...)
		}
	})
	if !known {
		fs = append(fs, inCluster(Warn, "check HA with the platform's own tools", "no host has reported whether the platform's HA is on"))
	}
	return fs
}

func (s *scene) judgeHA(h *inventory.Host, on bool) []Finding {
	switch {
	case s.When == Before && !on:
		return []Finding{onHost(h.Name, Info, "", "the platform's HA is off, and stays off")}
	case s.When == Between && on && s.Mode == manifest.Rolling:
		if !s.man.RequiresReboot {
			return nil // a rolling run leaves it as it is
		}
		return []Finding{onHost(h.Name, Warn, "switch HA off during the upgrade, or choose the mode reboot, which "+
			"switches it off", "the platform's HA is on while hosts are rebooted: it may start guests a second time")}
	case s.When == Between && on:
		return []Finding{onHost(h.Name, Fail, "switch HA off before hosts are upgraded", "the platform's HA is on in the middle of the upgrade")}
	case s.When == After && s.HABefore == nil && !on:
		return []Finding{onHost(h.Name, Warn, "switch HA on if you want it on",
			"the platform's HA is off, and its state before the upgrade is not known")}
	case s.When == After && s.HABefore != nil && on != *s.HABefore:
		return []Finding{onHost(h.Name, Fail, "switch HA "+onOff(*s.HABefore),
			"the platform's HA is %s, it was %s before the upgrade", onOff(on), onOff(*s.HABefore))}
	}
	return nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// checkQuorum wants a store that can lose the host that is rebooted.
func checkQuorum(s *scene) []Finding {
	q := s.Store
	if q == nil {
		q = &Quorum{}
	}
	if q.Voters <= 0 {
		return []Finding{inCluster(Warn, "look at the `store` line of `holdfast status`", "the state of the store is not known%s", said(q.Why))}
	}
	need := q.Voters/2 + 1
	text := fmt.Sprintf("%d of %d members of the store are healthy, %d are needed", q.Healthy, q.Voters, need)
	switch {
	case q.Healthy < need:
		return []Finding{inCluster(Fail, "bring the other members back first", "%s: there is no quorum", text)}
	case q.Healthy == need && (s.When == After || !s.man.RequiresReboot):
		return []Finding{inCluster(Warn, "bring the other members back, or add members", "%s: the loss of one more costs the quorum", text)}
	case q.Healthy == need:
		return []Finding{inCluster(Fail, "bring the other members back first, or add members",
			"%s: the loss of one costs the quorum, so no host with a member can be rebooted", text)}
	}
	return nil
}

// checkReplication asks every probe that a host has.
func checkReplication(s *scene) []Finding {
	var fs []Finding
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "replication", Warn); ok {
			fs = append(fs, nk)
			return
		}
		for _, p := range f.Replication {
			if p.Exit != 0 {
				fs = append(fs, onHost(h.Name, Fail, "wait until the replicas have caught up, or repair them",
					"%s is not healthy (exit code %d)%s", p.Name, p.Exit, said(p.Text)))
			}
		}
	})
	return fs
}

// checkBackup wants one backup of the cluster, on whichever host.
func checkBackup(s *scene) []Finding {
	var last time.Time
	var fs []Finding
	asked := false
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "lastBackup", Warn); ok {
			fs = append(fs, nk)
			return
		}
		asked = true
		if f.LastBackup.After(last) {
			last = f.LastBackup
		}
	})
	age := s.Now.Sub(last)
	switch {
	case !asked:
	case last.IsZero():
		fs = append(fs, inCluster(Warn, "make a backup before the upgrade", "no host has a backup"))
	case age > s.Limits.BackupAge:
		fs = append(fs, inCluster(Warn, "make a new backup before the upgrade",
			"the last backup was made at %s, %s ago", last.UTC().Format(time.DateTime), age.Round(time.Minute)))
	}
	return fs
}

// failSkew is by how much more than the limit clocks may differ at most: beyond
// it, logs, certificates and leases of other software go wrong.
const failSkew = 30

// checkClocks wants clocks that agree and are kept so.
func checkClocks(s *scene) []Finding {
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		const remedy = "set the clock, and let it follow the same time server as the other hosts"
		skew := time.Duration(h.SkewMillis) * time.Millisecond
		switch d := skew.Abs(); {
		case d > failSkew*s.Limits.Skew:
			fs = append(fs, onHost(h.Name, Fail, remedy, "the clock is off by %s against other hosts", skew))
		case d > s.Limits.Skew:
			fs = append(fs, onHost(h.Name, Warn, remedy, "the clock is off by %s against other hosts", skew))
		}
		if f == nil {
			return
		}
		offset := time.Duration(f.Clock.OffsetMS * float64(time.Millisecond)).Round(time.Millisecond)
		if nk, ok := notKnown(h.Name, f, "clock", Warn); ok {
			fs = append(fs, nk)
		} else if !f.Clock.Synced {
			fs = append(fs, onHost(h.Name, Warn, remedy, "the clock follows no time server (%s says so)", f.Clock.By))
		} else if offset.Abs() > s.Limits.Skew {
			fs = append(fs, onHost(h.Name, Warn, remedy, "the clock is %s off its time server (%s says so)", offset, f.Clock.By))
		}
	})
	return fs
}

// checkKernel wants the kernel of the bundle on hosts that are done, and where it
// is about to be rebooted.
func checkKernel(s *scene) []Finding {
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		if f != nil {
			if nk, ok := notKnown(h.Name, f, "kernel", Warn); ok {
				fs = append(fs, nk)
				return
			}
		}
		running, next := s.kernels(h)
		fs = append(fs, s.judgeKernel(h, running, next)...)
	})
	return fs
}

func (s *scene) judgeKernel(h *inventory.Host, running, next string) []Finding {
	want := s.kernel()
	switch {
	case want != "" && running != "" && s.done(h.Name) && running != want:
		return []Finding{onHost(h.Name, Fail, "reboot the host; if it has the same kernel afterwards, check what the "+
			"boot loader starts", "runs the kernel %s, want %s", running, want)}
	case want != "" && next != "" && s.next(h.Name) && next != want:
		return []Finding{onHost(h.Name, Fail, "set the boot loader's default before the reboot",
			"a reboot would start the kernel %s, want %s", next, want)}
	case next != "" && running != "" && next != running && s.When == Before:
		return []Finding{onHost(h.Name, Warn, "find out who installed it: the next reboot changes the kernel, with "+
			"or without this bundle", "runs the kernel %s, a reboot would start %s", running, next)}
	case next != "" && running != "" && next != running && s.When == After:
		return []Finding{onHost(h.Name, Warn, "reboot the host when it is empty",
			"the kernel %s is installed, but %s runs: the host needs a reboot", next, running)}
	}
	return nil
}
