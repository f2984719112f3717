package service

import (
	"fmt"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
)

// TestGuestsOf: a guest is where it runs by the word of a host that is heard; of a host that is not, nothing is known.
func TestGuestsOf(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	vm := func(name, host string, running bool) inventory.VM {
		return inventory.VM{Name: name, UUID: "u-" + name, Host: cluster.HostID(host), Running: running, MemoryMiB: 512, CPUs: 1}
	}
	of := func(host string, silent time.Duration, vms ...inventory.VM) report.Seen {
		return report.Seen{Record: report.Record{Host: inventory.Host{Name: cluster.HostID(host)}, VMs: vms}, SeenAt: now.Add(-silent)}
	}
	halted := vm("halted", "h1", true)
	halted.Halted = true
	blind := of("h4", time.Second, vm("hidden", "h4", true))
	blind.Unobservable = true
	all, silent := guestsOf(map[cluster.HostID]report.Seen{
		"h1": of("h1", time.Second, vm("moves", "h1", false), vm("here", "h1", true), halted),
		"h2": of("h2", 2*time.Second, vm("moves", "h2", true), vm("off", "h2", false)),
		"h3": of("h3", time.Minute, vm("here", "h3", true), vm("lost", "h3", true)),
		"h4": blind,
	}, now)
	var got []string
	for _, g := range all {
		got = append(got, fmt.Sprintf("%s/%s %s %s", g.Host, g.Name, g.State, g.Silent))
	}
	want := []string{"h1/halted paused 0s", "h1/here running 0s", "h2/moves running 0s", "h2/off off 0s",
		"h3/lost unknown 1m0s", "h4/hidden unknown 1s"}
	if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(silent) != "[h3 h4]" {
		t.Errorf("%q, silent %s", got, silent)
	}
}
