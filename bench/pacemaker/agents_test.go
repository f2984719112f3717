//go:build bench

package pacemaker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/lab"
)

// agentRuns is how often each agent's actions are timed.
const agentRuns = 7

// TestResourceAgents times the actions of both agents for the guest against
// plain virsh, in turn on one host, so that the measurements can take the faster
// one. The cluster keeps its hands off meanwhile.
func TestResourceAgents(t *testing.T) {
	c := up(t, Default(), Guest)
	ctx := t.Context()
	host, err := c.Active(ctx)
	if err != nil {
		t.Fatal(err)
	}
	timed := func(argv ...string) time.Duration {
		t.Helper()
		at := time.Now()
		if _, err := c.Lab().Exec(ctx, host, argv...); err != nil {
			t.Fatal(err)
		}
		return time.Since(at)
	}
	timed("crm_attribute", "--name", "maintenance-mode", "--update", "true")
	virsh := []string{"virsh", "-q", "-c", "qemu:///system"}
	action := func(path, action string) []string {
		return []string{"env", "OCF_ROOT=/usr/lib/ocf", "OCF_RESOURCE_INSTANCE=guest", "OCF_RA_VERSION_MAJOR=1", "OCF_RA_VERSION_MINOR=0",
			"OCF_RESKEY_config=" + guestFile, "OCF_RESKEY_name=" + lab.GuestName, "OCF_RESKEY_hypervisor=qemu:///system",
			"OCF_RESKEY_force_stop=true", "OCF_RESKEY_autoset_utilization_cpu=false", "OCF_RESKEY_autoset_utilization_hv_memory=false",
			"/usr/lib/ocf/resource.d/" + path, action}
	}
	gone := append(slices.Clone(virsh), "destroy", lab.GuestName)
	timed(gone...)
	ways := []struct {
		name                 string
		start, monitor, stop []string
	}{
		{"virsh", append(slices.Clone(virsh), "create", guestFile), append(slices.Clone(virsh), "domstate", lab.GuestName), gone},
		{Minimal, action("bench/guest", "start"), action("bench/guest", "monitor"), action("bench/guest", "stop")},
		{VirtualDomain, action("heartbeat/VirtualDomain", "start"), action("heartbeat/VirtualDomain", "monitor"),
			action("heartbeat/VirtualDomain", "stop")},
	}
	got := map[string][]time.Duration{}
	for range agentRuns {
		for _, w := range ways {
			got[w.name+" start"] = append(got[w.name+" start"], timed(w.start...))
			got[w.name+" monitor"] = append(got[w.name+" monitor"], timed(w.monitor...))
			got[w.name+" stop"] = append(got[w.name+" stop"], timed(w.stop...))
		}
	}
	var parts []string
	for _, w := range ways {
		for _, a := range []string{"start", "monitor", "stop"} {
			d := slices.Sorted(slices.Values(got[w.name+" "+a]))
			parts = append(parts, fmt.Sprintf("%s %s %.3f (%.3f-%.3f)", w.name, a, d[len(d)/2].Seconds(), d[0].Seconds(), d[len(d)-1].Seconds()))
		}
	}
	result(t, fmt.Sprintf("actions on the guest, %d in turn, seconds, median (min-max): %s", agentRuns, strings.Join(parts, ", ")))
}
