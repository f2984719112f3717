package check

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
)

// next reports whether a host is rebooted next.
func (s *scene) next(h cluster.HostID) bool { return s.When == Between && slices.Contains(s.Next, h) }

// checkSinglePath names the pools of each host and kind in one line, as operators
// know it.
func checkSinglePath(s *scene) []Finding {
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		if f != nil {
			for _, fact := range []string{"maps", "mounts"} {
				if nk, ok := notKnown(h.Name, f, fact, Warn); ok {
					fs = append(fs, nk)
				}
			}
		}
		byKind := singlePath(h, f)
		for _, kind := range keys(byKind) {
			pools := byKind[kind]
			slices.Sort(pools)
			pools = slices.Compact(pools)
			list := strings.Join(pools, " ") + " "
			one := Finding{Scope: ScopePool, Where: strings.Join(pools, " "), Host: h.Name, Level: Warn,
				Text: fmt.Sprintf("The CVK(%s) have single path %s pools: [%s], please remove them, and then add back", h.Name, kind, list),
				Remedy: "when the host is empty: stop and remove these pools, reboot it, add them again by multipath " +
					"and start them; until then a lost path stops their guests",
			}
			fs = append(fs, one)
		}
	})
	return fs
}

// singlePath returns the pools with one path, by kind: what the inventory says,
// and what the host sees of its mounts.
func singlePath(h *inventory.Host, f *fact.Facts) map[string][]string {
	byKind := map[string][]string{}
	for _, p := range h.Pools {
		if p.Shared && p.Paths == 1 {
			byKind[p.Kind] = append(byKind[p.Kind], p.Name)
		}
	}
	if f != nil && f.Unknown["mounts"] == "" {
		for _, m := range f.Mounts {
			if m.Paths == 1 && !slices.ContainsFunc(h.Pools, func(p inventory.Pool) bool { return p.Name == m.Name }) {
				byKind[m.Kind] = append(byKind[m.Kind], m.Name)
			}
		}
	}
	return byKind
}

// checkSessions compares the iSCSI targets in each group, and looks for what is
// down.
func checkSessions(s *scene) []Finding {
	targets := map[string]map[string]bool{} // of a group
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if targets[h.Group] == nil {
			targets[h.Group] = map[string]bool{}
		}
		for _, x := range f.ISCSI {
			targets[h.Group][x.Target] = true
		}
	})
	var fs []Finding
	s.told(func(h *inventory.Host, f *fact.Facts) {
		for _, fact := range []string{"iscsi", "fc"} {
			if nk, ok := notKnown(h.Name, f, fact, Warn); ok {
				fs = append(fs, nk)
			}
		}
		if f.Unknown["iscsi"] == "" && h.Has(inventory.RoleHost) && !s.next(h.Name) {
			fs = append(fs, missingTargets(h, f, targets[h.Group])...)
		}
		for _, p := range f.FC {
			if p.State != "Online" {
				fs = append(fs, onHost(h.Name, Warn, "check the cable, the switch's port and the zoning; a port that "+
					"is unused on purpose may stay as it is", "the Fibre Channel port %s is %s", p.Name, p.State))
			}
		}
		for _, m := range f.Maps {
			fs = append(fs, deadPaths(h, m)...)
		}
	})
	return fs
}

func missingTargets(h *inventory.Host, f *fact.Facts, all map[string]bool) []Finding {
	var missing []string
	for _, t := range keys(all) {
		if !slices.ContainsFunc(f.ISCSI, func(x fact.Session) bool { return x.Target == t }) {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []Finding{onHost(h.Name, Warn, "log in to them (iscsiadm -m node --login); otherwise guests with disks on them can not move here",
		"has no session to iSCSI targets that other hosts of its group use: %s", Names(missing))}
}

func deadPaths(h *inventory.Host, m fact.Map) []Finding {
	var down []string
	for _, p := range m.Paths {
		if !p.Up {
			down = append(down, p.Device+" ("+p.State+")")
		}
	}
	if len(down) == 0 && len(m.Paths) > 0 {
		return nil
	}
	l, text := Warn, fmt.Sprintf("paths are down: %s", Names(down))
	if len(down) == len(m.Paths) {
		l, text = Fail, "no path is up"
	}
	return []Finding{{Scope: ScopePool, Where: m.Name, Host: h.Name, Level: l,
		Text: "multipath device " + m.Name + ": " + text, Remedy: "restore the paths before work on the host or the array begins"}}
}

// checkO2CB wants one threshold everywhere: hosts with different ones refuse each
// other.
func checkO2CB(s *scene) []Finding {
	var fs []Finding
	inUse := map[int][]cluster.HostID{}
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "o2cb", Warn); ok {
			fs = append(fs, nk)
			return
		}
		if !f.O2CB.Present {
			return
		}
		if a := f.O2CB.Active; a != 0 {
			inUse[a] = append(inUse[a], h.Name)
		}
		want := s.Limits.Threshold
		if c := f.O2CB.Configured; c != want {
			fs = append(fs, onHost(h.Name, Warn, s.o2cbRemedy(h), "O2CB_HEARTBEAT_THRESHOLD is %s in the configuration, want %d", orUnset(c), want))
		} else if a := f.O2CB.Active; a != 0 && a != want {
			fs = append(fs, onHost(h.Name, Warn, s.o2cbRemedy(h), "the O2CB heartbeat threshold in use is %d, %d is configured", a, want))
		}
	})
	if len(inUse) > 1 {
		var parts []string
		for _, n := range sortedInts(inUse) {
			parts = append(parts, fmt.Sprintf("%d on %s", n, Names(inUse[n])))
		}
		fs = append(fs, inCluster(Fail, "bring all hosts to the same threshold before a pool is mounted anew",
			"hosts use different O2CB heartbeat thresholds and would refuse each other: %s", strings.Join(parts, "; ")))
	}
	return fs
}

func orUnset(n int) string {
	if n == 0 {
		return "not set"
	}
	return fmt.Sprint(n)
}

func sortedInts(m map[int][]cluster.HostID) []int {
	var ns []int
	for n := range m {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

// o2cbRemedy says how the threshold is changed: with CAS by its own program, from E0306 on while
// pools are in use.
func (s *scene) o2cbRemedy(h *inventory.Host) string {
	if s.Scheme != version.CAS { // the program and its versions are CAS's own
		return fmt.Sprintf("on the host: set O2CB_HEARTBEAT_THRESHOLD=%d in /etc/default/o2cb or "+
			"/etc/sysconfig/o2cb; it is used after the next reboot", s.Limits.Threshold)
	}
	set := fmt.Sprintf("/opt/bin/ocfs2_update_o2cb_params.sh O2CB_HEARTBEAT_THRESHOLD %d on the manager", s.Limits.Threshold)
	if OnlineO2CB(s.version(h)) {
		return set + "; it works while pools are in use"
	}
	return "this version can not change it online: first suspend all shared pools, then " +
		set + ", then resume them; or do it after the upgrade to E0306 or later, which can"
}

// OnlineO2CB reports whether a version can change the O2CB threshold while pools
// are in use. One that is no E number can not, as far as is known.
func OnlineO2CB(v string) bool {
	have, err := version.Parse(version.CAS, v)
	if err != nil {
		return false
	}
	first, err := version.Parse(version.CAS, "E0306")
	if err != nil {
		return false
	}
	c, err := version.Compare(have, first)
	return err == nil && c >= 0
}

// checkTemplate wants template and shared storage off a host before its reboot:
// the umount may hang with it, and the reboot with the umount.
func checkTemplate(s *scene) []Finding {
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		template, shared := attached(h, f)
		switch {
		case s.next(h.Name) && len(template)+len(shared) > 0:
			fs = append(fs, onHost(h.Name, Fail, "suspend and detach these pools before the reboot; otherwise "+
				"umount may hang", "is about to be rebooted with storage pools attached: %s", Names(append(template, shared...))))
		case s.When == Before && len(template) > 0:
			fs = append(fs, onHost(h.Name, Info, "", "template storage is attached; the run detaches it before the "+
				"reboot and attaches it again afterwards: %s", Names(template)))
		case s.When == Before && s.man.RequiresReboot && f != nil && len(f.ISCSI) > 0:
			fs = append(fs, onHost(h.Name, Info, "", "%d iSCSI sessions: the run detaches shared storage before the reboot", len(f.ISCSI)))
		}
		for _, p := range h.Pools {
			if !p.Active && s.done(h.Name) {
				level := Warn // it may have been so before
				if p.Shared || p.Use == "template" {
					level = Fail // the run has detached it
				}
				fs = append(fs, Finding{Scope: ScopePool, Where: p.Name, Host: h.Name, Level: level,
					Text: fmt.Sprintf("the pool %s (%s) is not active after the upgrade", p.Name, p.Kind), Remedy: "attach and start the pool"})
			}
		}
	})
	return fs
}

// attached returns the names of what a host has attached.
func attached(h *inventory.Host, f *fact.Facts) (template, shared []string) {
	for _, p := range h.Pools {
		switch {
		case !p.Active:
		case p.Use == "template":
			template = append(template, p.Name)
		case p.Shared:
			shared = append(shared, p.Name)
		}
	}
	if f != nil {
		for _, m := range f.Mounts {
			name := path.Base(m.Dir)
			if !slices.Contains(template, name) && !slices.Contains(shared, name) {
				shared = append(shared, name)
			}
		}
	}
	return template, shared
}
