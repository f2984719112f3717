package config

import (
	"reflect"
	"testing"
)

func TestPairPartition(t *testing.T) {
	const mount = `"Mount": "/srv/pair"}`
	const part = `, "Partition": {"Name": "r1", "Disk": "/dev/sdc", "Mount": "/srv/templates"}`
	text := change(t, fixture(t, "pair_device.json"), mount, mount+part)
	cl, faults, _ := Parse("c.json", []byte(text), Options{AllowUndersized: true})
	wantFaults(t, faults)
	if p := cl.Pair; p.PartitionMinor() != 1 || p.PartitionPort() != 7790 ||
		!p.Partition.Same(PairPartition{Name: "r1", Disk: "/dev/sdc", Mount: "/srv/templates", State: PartitionLeaving}) {
		t.Errorf("partition %+v, minor %d, port %d", p.Partition, p.PartitionMinor(), p.PartitionPort())
	}
	again, faults, _ := Parse("written.json", cl.JSON(), Options{AllowUndersized: true})
	wantFaults(t, faults)
	if !reflect.DeepEqual(cl, again) {
		t.Errorf("read back as %s", again.JSON())
	}
	without := cl
	p := *cl.Pair
	p.Partition = nil
	without.Pair = &p
	d := Diff(without, cl)
	if len(d) == 0 {
		t.Error("no difference")
	}
	for _, c := range d {
		if c.Effect != ByOrder {
			t.Errorf("%s takes effect %q", c.Path, c.Effect)
		}
	}
	for _, tc := range []faultCase{
		one("no name", `"Name": "r1"`, `"Name": ""`, `Pair.Partition.Name: value "": want 1 to 32`),
		one("a name with a slash", `"Name": "r1"`, `"Name": "r/1"`, `Pair.Partition.Name: value "r/1": want 1 to 32`),
		one("a member's name", `"Name": "r1"`, `"Name": "indexer"`,
			`Pair.Partition.Name: value "indexer": want another name than Pair.Group[1] has`),
		one("a relative disk", `"/dev/sdc"`, `"sdc"`, `Pair.Partition.Disk: value "sdc": want an absolute path`),
		one("DRBD on itself", `"/dev/sdc"`, `"/dev/drbd3"`, `Pair.Partition.Disk: value "/dev/drbd3": want the device below`),
		one("the data's disk", `"/dev/sdc"`, `"/dev/vg/pair"`,
			`Pair.Partition.Disk: value "/dev/vg/pair": want another disk than Pair.Device.Disk`),
		one("in the data", `"/srv/templates"`, `"/srv/pair/templates"`,
			`Pair.Partition.Mount: value "/srv/pair/templates": want a directory that is neither in`),
		one("above the data", `"/srv/templates"`, `"/srv"`, `Pair.Partition.Mount: value "/srv": want a directory that is neither in`),
		one("the root", `"/srv/templates"`, `"/"`, `Pair.Partition.Mount: value "/": want a directory of its own`),
		one("a state", `"/srv/templates"`, `"/srv/templates", "State": "gone"`, `Pair.Partition.State: value "gone": want none`),
	} {
		_, faults, _ := Parse("c.json", []byte(change(t, text, tc.edits[0].old, tc.edits[0].with)), Options{AllowUndersized: true})
		wantFaults(t, faults, tc.want...)
	}
}

// TestNoPartitionWithPings: two nodes that both go on would write different things to it.
func TestNoPartitionWithPings(t *testing.T) {
	p := Pair{Partition: &PairPartition{}, Arbiter: &PairArbiter{Ping: []string{"192.0.2.1", "192.0.2.2"}}}
	if p.MayPart() || !(Pair{Arbiter: &PairArbiter{Fence: true}}).MayPart() {
		t.Error("who may have a partition")
	}
}
