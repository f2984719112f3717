package setup

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/pair/precheck"
	"holdfast/testbed/try"
)

// TestWhoArbitrates: what the arbiter that was asked for is in the configuration, and the second
// path.
func TestWhoArbitrates(t *testing.T) {
	const device = `{"Type": "ipmi", "Address": "10.0.0.%d", "User": "u", "Credential": "file:/etc/holdfast/bmc"}`
	fencing, err := ReadFencing("fencing.json",
		fmt.Appendf(nil, `{"n1": {"Devices": [`+device+`]}, "n2": {"Devices": [`+device+`]}}`, 21, 22))
	try.Must(t, err)
	third := precheck.Node{Addr: "10.0.0.3", Facts: precheck.Facts{Name: "n3"}}
	for _, c := range []struct {
		arbiter precheck.Arbiter
		fencing config.Fencing
		want    *config.PairArbiter
		voters  int
	}{
		{precheck.Arbiter{Kind: precheck.Quorum, Addrs: []string{third.Addr}, Node: &third}, config.Fencing{}, nil, 3},
		{precheck.Arbiter{Kind: precheck.Fence}, fencing, &config.PairArbiter{Fence: true}, 2},
		{precheck.Arbiter{Kind: precheck.DiskArbiter, Device: "/dev/disk/by-id/votes"}, config.Fencing{},
			&config.PairArbiter{Disk: "/dev/disk/by-id/votes"}, 2},
		{precheck.Arbiter{Kind: precheck.Ping, Addrs: []string{"10.0.0.254", "10.0.0.253"}}, config.Fencing{},
			&config.PairArbiter{Ping: []string{"10.0.0.254", "10.0.0.253"}}, 2},
	} {
		in := precheck.Input{Arbiters: []precheck.Arbiter{c.arbiter}, Second: []string{"10.0.1.1", "10.0.1.2"}, Nodes: [2]precheck.Node{
			{Addr: "10.0.0.1", Facts: precheck.Facts{Name: "n1"}}, {Addr: "10.0.0.2", Facts: precheck.Facts{Name: "n2"}}}}
		cl, err := (&Form{VIP: "10.0.0.9/24", Fencing: c.fencing}).Cluster(in)
		if err != nil || !reflect.DeepEqual(cl.Pair.Arbiter, c.want) || len(cl.Node) != c.voters || !slices.Equal(cl.Pair.SecondPath, in.Second) {
			t.Errorf("%v: arbiter %+v, hosts %v, second path %v, %v", c.arbiter.Kind, cl.Pair.Arbiter, cl.Node, cl.Pair.SecondPath, err)
		}
	}
	alone := precheck.Input{Arbiters: []precheck.Arbiter{{Kind: precheck.Ping,
		Addrs: []string{"10.0.0.1", "10.0.0.9"}}}, Nodes: [2]precheck.Node{
		{Addr: "10.0.0.1", Facts: precheck.Facts{Name: "n1"}}, {Addr: "10.0.0.2", Facts: precheck.Facts{Name: "n2"}}}}
	if _, err := (&Form{VIP: "10.0.0.9/24"}).Cluster(alone); err == nil ||
		!strings.Contains(err.Error(), "Pair.Arbiter.Ping[0]") {
		t.Errorf("the pair's own addresses: %v", err)
	}
}

// TestASetUpOnADevice: what --device and the file of --group say of it is in the configuration.
func TestASetUpOnADevice(t *testing.T) {
	in := precheck.Input{Arbiters: []precheck.Arbiter{{Kind: precheck.DiskArbiter, Device: "/dev/disk/by-id/votes"}}, Nodes: [2]precheck.Node{
		{Addr: "10.0.0.1", Facts: precheck.Facts{Name: "n1"}}, {Addr: "10.0.0.2", Facts: precheck.Facts{Name: "n2"}}}}
	for _, c := range []struct {
		device, group, bad string
		want               *config.PairDevice
	}{
		{"", `{"Group": [{"Unit": "web.service"}]}`, "", nil},
		{"/dev/sdb", `{"Group": [{"Unit": "web.service"}]}`, "",
			&config.PairDevice{Disk: "/dev/sdb", Mount: Mount, Credential: "file:" + DeviceFile}},
		{"/dev/sdb", `{"Device": {"Mount": "/data", "Minor": 3, "Credential": "file:/root/s"}}`, "",
			&config.PairDevice{Disk: "/dev/sdb", Mount: "/data", Minor: 3, Credential: "file:/root/s"}},
		{"", `{"Device": {"Mount": "/data"}}`, "--device is missing", nil},
		{"/dev/sdb", `{"Device": {"Disk": "/dev/sdc"}}`, `--device: value "/dev/sdb": want "/dev/sdc"`, nil},
		{"/dev/sdb", `{"Device": {"Disc": "/dev/sdb"}}`, `Device.Disc`, nil},
		{"/dev/sdb", `{"Nodes": ["a", "b"]}`, `want one of Device, Database, Group, SplitBrain, Patience, HangTimeout, Timings`, nil},
	} {
		f := Form{VIP: "10.0.0.9/24", Device: c.device, Grouped: true}
		var cl config.Cluster
		var err error
		if f.Group, err = ReadGroup("group.json", []byte(c.group)); err == nil {
			cl, err = f.Cluster(in)
		}
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s with --device %q: %v, want %q", c.group, c.device, err, c.bad)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(cl.Pair.Device, c.want) {
			t.Errorf("%s with --device %q: %+v, %v", c.group, c.device, cl.Pair, err)
		}
	}
}
