package check

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// onVM is a finding about a guest.
func onVM(vm *inventory.VM, l Level, remedy, format string, args ...any) Finding {
	return Finding{Scope: ScopeVM, Where: vm.Name, Host: vm.Host, Level: l, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// running calls f with each guest that runs on a host that is still to be emptied.
func (s *scene) running(f func(*inventory.VM)) {
	done := map[cluster.HostID]bool{}
	for _, h := range s.Done {
		done[h] = s.When == Between
	}
	for i := range s.inv.VMs {
		if vm := &s.inv.VMs[i]; vm.Running && !done[vm.Host] {
			f(vm)
		}
	}
}

// checkMigratable gives all reasons of a guest at once.
func checkMigratable(s *scene) []Finding {
	if !s.empties() {
		return nil
	}
	var fs []Finding
	large := s.is("2.0")
	s.running(func(vm *inventory.VM) {
		switch why := s.fixed(vm); {
		case len(why) > 0:
			fs = append(fs, s.stuck(vm, why))
		case large && vm.MemoryMiB >= largeGuest:
			fs = append(fs, onVM(vm, Warn, fmt.Sprintf("to move it cold, say in the platform file that it can not "+
				"move live (fixed), and choose its policy: --policy %s=cold", vm.Name),
				"has %d MiB: live migrations of guests with 32 GiB and more may fail on CAS 2.0", vm.MemoryMiB))
		}
	})
	return append(fs, s.models()...)
}

// hangs is the rule that an operator may confirm to move such guests live all the
// same.
const hangs = "centos65-live-migration"

// fixed returns why a guest can not move live, or must not.
func (s *scene) fixed(vm *inventory.VM) []string {
	if isCentOS65(vm.System) && !slices.Contains(s.Confirmed, hangs) && s.is("<=E0218H06") {
		return append(slices.Clip(vm.Fixed), "CentOS 6.5 may hang when it moves live on E0218H06 and before; to move "+
			"it live all the same: --confirmed "+hangs)
	}
	return vm.Fixed
}

// stuck says what becomes of a guest that can not move live.
func (s *scene) stuck(vm *inventory.VM, reasons []string) Finding {
	why := strings.Join(reasons, ", ")
	switch s.policy(vm) {
	case inventory.PolicyStop:
		return onVM(vm, Info, "", "can not move live (%s): it is shut down while its host is worked on, and started again there", why)
	case inventory.PolicyCold:
		return onVM(vm, Info, "", "can not move live (%s): it is shut down and started on another host", why)
	case inventory.PolicySkip:
		return onVM(vm, Warn, "upgrade that host by hand later", "can not move live (%s): its host %s is left out of the upgrade", why, vm.Host)
	default:
		return onVM(vm, Fail, fmt.Sprintf("choose its policy: --policy %s=stop, cold or skip; or remove what "+
			"prevents the move", vm.Name), "can not move live: %s", why)
	}
}

// largeGuest is from which memory on a live migration of 2.0 may fail, MiB.
const largeGuest = 32 << 10

// is reports whether the installed version is one of CAS that a pattern means.
func (s *scene) is(pattern string) bool {
	if s.Scheme != version.CAS {
		return false
	}
	ok, err := manifest.Match(s.Scheme, pattern, s.From)
	return err == nil && ok // the check "white-list" reports a version that can not be read
}

// isCentOS65 knows the ways to write it: centos6.5, CentOS 6.5.
func isCentOS65(system string) bool {
	if system == "" {
		return false
	}
	words := strings.FieldsFunc(strings.ToLower(system), func(r rune) bool { return r == ' ' || r == '-' || r == '_' })
	return strings.Contains(strings.Join(words, ""), "centos6.5")
}

// models tells of groups whose hosts differ in their CPU: a guest may find no way
// back from a newer one.
func (s *scene) models() []Finding {
	by := map[string]map[string]bool{}
	s.up(func(h *inventory.Host, _ *fact.Facts) {
		if h.CPUModel == "" || !h.Has(inventory.RoleHost) {
			return
		}
		if by[h.Group] == nil {
			by[h.Group] = map[string]bool{}
		}
		by[h.Group][h.CPUModel] = true
	})
	var fs []Finding
	for _, g := range keys(by) {
		if len(by[g]) > 1 {
			fs = append(fs, Finding{Scope: ScopeGroup, Where: g, Level: Info,
				Text: fmt.Sprintf("hosts of the group %s have different CPU models: %s; guests that are started on a "+
					"newer one may not move to an older one", groupName(g), Names(keys(by[g])))})
		}
	}
	return fs
}

// checkDirty compares what a guest writes with what the network carries: a live
// migration converges only when the network is faster.
func checkDirty(s *scene) []Finding {
	if !s.empties() {
		return nil
	}
	var fs []Finding
	hosts := map[cluster.HostID]*inventory.Host{}
	for i := range s.inv.Hosts {
		hosts[s.inv.Hosts[i].Name] = &s.inv.Hosts[i]
	}
	s.running(func(vm *inventory.VM) {
		if hosts[vm.Host] == nil {
			return
		}
		limit := hosts[vm.Host].Bandwidth()
		const remedy = "choose a quieter time or a faster network (--migration-network), or say that it can not move " +
			"live (fixed in the platform file) and choose its policy; or accept that: --confirmed dirty-rate"
		switch {
		case len(s.fixed(vm)) > 0:
		case vm.Dirty >= limit:
			fs = append(fs, onVM(vm, Fail, remedy, "changes %.0f MiB/s of its memory, the migration network carries "+
				"%.0f MiB/s: a live migration ends only by slowing the guest down", vm.Dirty, limit))
		case vm.Dirty >= limit/2:
			fs = append(fs, onVM(vm, Warn, remedy, "changes %.0f MiB/s of its memory, the migration network carries "+
				"%.0f MiB/s: a live migration takes long", vm.Dirty, limit))
		}
	})
	return fs
}

// checkBusy names guests that the run waits for.
func checkBusy(s *scene) []Finding {
	var fs []Finding
	for i := range s.inv.VMs {
		if vm := &s.inv.VMs[i]; vm.Busy != "" {
			fs = append(fs, onVM(vm, Warn, "wait for its end, or cancel it; begin no other until the upgrade is over",
				"is busy: %s; its host is not emptied until that has ended", vm.Busy))
		}
	}
	return fs
}
