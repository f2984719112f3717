package precheck

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/inventory/fact"
)

const gib = 1 << 30

// good is a pair in which everything is right, with a quorum host.
func good() *Input {
	facts := func(name, machine string) Facts {
		return Facts{
			Name: name, Machine: machine, UEFI: true, Speed: 10_000,
			Components: map[string]string{"holdfast": "1.4.0", "mariadb": "10.11.6"},
			Host: fact.Facts{
				OS: fact.OS{ID: "debian", Version: "12"}, Version: "E0730", Status: &fact.Probe{},
			},
			Disks: []Disk{
				{Name: "sda", Size: 500 * gib, System: true,
					Parts: []Part{{1, gib, []string{"/boot/efi"}}, {2, 300 * gib, []string{"/"}}, {3, 50 * gib, []string{"/vms"}}}},
				{Name: "sdb", Size: 800 * gib},
			},
			Volumes: []Volume{{"lvm", 20 * gib, []string{"/var"}}},
			Space:   &Space{Size: 49 * gib, Free: 48 * gib},
			Pools:   []string{"isopool", "defaultpool"},
			VIP:     &VIP{Dev: "eth0", Subnet: "10.0.0.0/24", Length: 24},
		}
	}
	reached := func(addrs ...string) (out []Reached) {
		for _, a := range addrs {
			out = append(out, Reached{Addr: a, Rate: 1_000_000_000})
		}
		return out
	}
	third := &Node{Addr: "10.0.0.3", Facts: facts("n3", "c"), Reached: reached("10.0.0.1", "10.0.0.2")}
	return &Input{
		VIP: "10.0.0.9", Length: 24, Hosts: 4, VMs: 20, Asked: true,
		Nodes: [2]Node{
			{Addr: "10.0.0.1", Facts: facts("n1", "a"), Reached: reached("10.0.0.2", "10.0.0.3")},
			{Addr: "10.0.0.2", Facts: facts("n2", "b"), Reached: reached("10.0.0.1", "10.0.0.3")},
		},
		Arbiters: []Arbiter{{Kind: Quorum, Addrs: []string{"10.0.0.3"}, Node: third}},
	}
}

// bad are the checks that did not pass, with their results, sorted.
func bad(found []Finding) (out []string) {
	for _, f := range found {
		if f.Result != Pass {
			out = append(out, f.Result+" "+f.Check)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestEveryCheckPasses(t *testing.T) {
	found := Judge(*good())
	if b := bad(found); b != nil || Worst(found) != Pass {
		t.Fatalf("did not pass: %q", b)
	}
	var checks []string
	for _, f := range found {
		if f.Finding == "" {
			t.Errorf("%s says nothing", f.Check)
		}
		checks = append(checks, f.Check)
	}
	slices.Sort(checks)
	want := []string{
		"arbiter", "bandwidth", "boot mode", "busy", "clean node", "connect", "database", "disks", "frames", "guarantee", "host name", "machines",
		"managed hosts", "partitions", "reach", "set-up", "software", "space", "system", "system disk", "virtual address", "volumes",
	}
	if got := slices.Compact(checks); !slices.Equal(got, want) {
		t.Errorf("checks: %q, want %q", got, want)
	}
}

// alone gives the pair one other arbiter in place of the quorum host.
func alone(in *Input, a Arbiter) { in.Arbiters = []Arbiter{a} }

func pinged(in *Input, why ...string) {
	alone(in, Arbiter{Kind: Ping, Addrs: []string{"10.0.0.4", "10.0.0.5"}})
	for i := range in.Nodes {
		in.Nodes[i].Facts.Pings = map[string]string{"10.0.0.4": "", "10.0.0.5": why[i]}
	}
}

func votes(in *Input, x, y Device) {
	alone(in, Arbiter{Kind: DiskArbiter, Device: "/dev/sdc"})
	in.Nodes[0].Facts.Device, in.Nodes[1].Facts.Device = &x, &y
}

// partitions has the pair get a partition.
func partitions(in *Input, x, y Device) {
	in.Partition = "/dev/sde"
	in.Nodes[0].Facts.Partition, in.Nodes[1].Facts.Partition = &x, &y
}

// dataDisks has the pair lie on a DRBD device.
func dataDisks(in *Input, x, y Device) {
	in.Disk = "/dev/sdd"
	in.Nodes[0].Facts.Disk, in.Nodes[1].Facts.Disk = &x, &y
}

// second gives the pair a second path in which everything is right.
func second(in *Input) {
	in.Second = []string{"10.0.1.1", "10.0.1.2"}
	for i, addr := range in.Second {
		in.Nodes[i].Facts.Second = &PathEnd{Dev: "eth1", First: "eth0", From: addr}
		in.Nodes[i].Reached = append(in.Nodes[i].Reached, Reached{Addr: in.Second[1-i]})
	}
}

// secondBut is second, with something that is not right.
func secondBut(change func(*Input)) func(*Input) {
	return func(in *Input) {
		second(in)
		change(in)
	}
}

func TestEachCheckFindsWhatItIsFor(t *testing.T) {
	lun := Device{ID: "0x5000", Size: gib}
	for _, c := range []struct {
		name string
		do   func(*Input)
		want string // results with checks, by ", "; "": all pass
		part string // of a finding or remedy
	}{
		{"the other node does not answer", func(in *Input) {
			in.Nodes[1].Trouble = &Trouble{Finding: "no route",
				Remedy: "see"}
		}, "fail connect", "10.0.0.2: no route"},
		{"a set-up is at work", func(in *Input) {
			in.Nodes[1].Trouble = &Trouble{Busy: true, Finding: "x",
				Remedy: "wait"}
		}, "fail busy", "wait"},
		{"a set-up of the other node", func(in *Input) { in.Nodes[1].Facts.Begun = "a set-up is at work: process 7" },
			"fail set-up", "n2 (10.0.0.2): a set-up is at work: process 7 there"},
		{"a set-up that the arbiter has begun", func(in *Input) { in.Arbiters[0].Node.Facts.Begun = "a set-up was begun" }, "fail set-up",
			"go on with it there"},
		{"a pair that is set up", func(in *Input) {
			in.Nodes[0].Facts.Cluster, in.Nodes[1].Facts.Cluster = "hf-1",
				"hf-1"
		}, "fail clean node", "belong to one cluster already: hf-1"},
		{"a pair whose address serves", func(in *Input) {
			in.Nodes[0].Facts.Cluster, in.Nodes[1].Facts.Cluster = "hf-1", "hf-1"
			in.Nodes[0].Facts.Guests = []string{"one"}
		}, "fail clean node", "see holdfast pair status"},
		{"nodes of two clusters", func(in *Input) {
			in.Nodes[0].Facts.Cluster, in.Nodes[1].Facts.Cluster = "hf-1",
				"hf-2"
		}, "fail clean node", "n2 (10.0.0.2) belongs to the cluster hf-2"},
		{"the set-up itself", func(in *Input) { in.Nodes[0].Facts.Begun = "a set-up is at work" }, "", ""},
		{"the arbiter does not answer", func(in *Input) {
			in.Arbiters[0].Node.Trouble = &Trouble{Finding: "no route",
				Remedy: "see"}
		}, "fail arbiter", "10.0.0.3: no route"},
		{"one machine by two addresses", func(in *Input) { in.Nodes[1].Facts.Machine = "a" }, "fail machines", "one and the same"},
		{"machines that can not be told apart by their ids",
			func(in *Input) { in.Nodes[0].Facts.Machine, in.Nodes[1].Facts.Machine = "", "" }, "", ""},
		{"what the installation finds", func(in *Input) {
			in.Nodes[1].Facts.VIP = &VIP{Wrong: "no interface"}
			in.Install = []Finding{{"virtual address", Fail, "n2 (10.0.0.2): no interface", "see"},
				{"database unit", Fail, "n2 (10.0.0.2): mariadb.service is enabled", "see"}}
		}, "fail database unit, fail virtual address", "mariadb.service is enabled"},
		{"a name with a dot", func(in *Input) { in.Nodes[0].Facts.Name = "n1.local" }, "fail host name", `"n1.local"`},
		{"a name with an underscore", func(in *Input) { in.Arbiters[0].Node.Facts.Name = "n_3" }, "fail host name", "hostnamectl"},
		{"a name that ends with a hyphen", func(in *Input) { in.Nodes[0].Facts.Name = "n-" }, "fail host name", "letters"},
		{"one letter and capitals", func(in *Input) { in.Nodes[0].Facts.Name = "N" }, "", ""},
		{"one name twice", func(in *Input) { in.Nodes[1].Facts.Name = "N1" }, "fail host name", "are both called"},
		{"the arbiter has a node's name", func(in *Input) { in.Arbiters[0].Node.Facts.Name = "n2" }, "fail host name", "10.0.0.2 and 10.0.0.3"},
		{"another version", func(in *Input) { in.Nodes[1].Facts.Components["mariadb"] = "10.11.9" }, "fail software",
			"mariadb: n1 (10.0.0.1) has 10.11.6, n2 (10.0.0.2) has 10.11.9"},
		{"a component is not there", func(in *Input) { delete(in.Nodes[0].Facts.Components, "mariadb") }, "fail software", "has none"},
		{"another version of the platform", func(in *Input) { in.Nodes[1].Facts.Host.Version = "E0731" }, "fail software", "E0731"},
		{"the platform's version can not be read",
			func(in *Input) { in.Nodes[1].Facts.Host.Unknown = map[string]string{"version": "no line"} }, "fail software", "--version-file"},
		{"the arbiter has another version of Holdfast",
			func(in *Input) { in.Arbiters[0].Node.Facts.Components = map[string]string{"holdfast": "1.3.0"} },
			"fail arbiter", "has Holdfast 1.3.0, and the nodes have 1.4.0"},
		{"the arbiter has none", func(in *Input) { in.Arbiters[0].Node.Facts.Components = nil }, "fail arbiter", "has Holdfast none"},
		{"another database on the arbiter", func(in *Input) {
			in.Arbiters[0].Node.Facts.Components = map[string]string{"holdfast": "1.4.0", "mariadb": "11"}
		}, "", ""},
		{"another system", func(in *Input) { in.Nodes[1].Facts.Host.OS.Version = "13" }, "fail system", "debian 13"},
		{"another boot mode", func(in *Input) { in.Nodes[1].Facts.UEFI = false }, "fail boot mode", "has BIOS"},
		{"no lsblk", func(in *Input) { in.Nodes[0].Facts.Unknown = map[string]string{"disks": "not found"} }, "fail disks", "util-linux"},
		{"a disk of another size", func(in *Input) { in.Nodes[1].Facts.Disks[1].Size++ }, "fail disks", "disk sdb"},
		{"a disk of another name", func(in *Input) { in.Nodes[1].Facts.Disks[1].Name = "sdc" }, "fail disks", "disk sdc: n1 (10.0.0.1) has none"},
		{"a partition less", func(in *Input) { in.Nodes[1].Facts.Disks[0].Parts = in.Nodes[1].Facts.Disks[0].Parts[:2] }, "fail partitions",
			"partition 3 of sda"},
		{"a partition of another number", func(in *Input) { in.Nodes[1].Facts.Disks[0].Parts[2].Number = 5 },
			"fail partitions", "partition 5 of sda"},
		{"a partition of another size", func(in *Input) { in.Nodes[1].Facts.Disks[0].Parts[1].Size-- }, "fail partitions", "partition 2 of sda"},
		{"another mount point", func(in *Input) { in.Nodes[1].Facts.Disks[0].Parts[2].Mounts = []string{"/data"} },
			"fail partitions", "at /data"},
		{"a disk that is mounted as a whole", func(in *Input) { in.Nodes[1].Facts.Disks[1].Mounts = []string{"/data"} },
			"fail partitions", "sdb as a whole"},
		{"a volume of another size", func(in *Input) { in.Nodes[1].Facts.Volumes[0].Size++ }, "fail volumes", "volume at /var"},
		{"a volume less", func(in *Input) { in.Nodes[1].Facts.Volumes = nil }, "fail volumes", "has none"},
		{"NVMe disks", func(in *Input) {
			for i := range in.Nodes {
				in.Nodes[i].Facts.Disks[0].Name = "nvme0n1"
			}
		}, "", "nvme0n1: every name of a disk works here"},
		{"a node of a cluster", func(in *Input) { in.Nodes[0].Facts.Cluster = "hf-1" }, "fail clean node", "hf-1"},
		{"guests", func(in *Input) { in.Nodes[1].Facts.Guests = []string{"qemu-system-x86 pid 7"} }, "fail clean node", "pid 7"},
		{"guests on the arbiter", func(in *Input) { in.Arbiters[0].Node.Facts.Guests = []string{"qemu-system-x86 pid 7"} }, "", ""},
		{"the arbiter is of a cluster", func(in *Input) { in.Arbiters[0].Node.Facts.Cluster = "hf-1" }, "", ""},
		{"another pool", func(in *Input) { in.Nodes[1].Facts.Pools = []string{"default", "san"} }, "fail clean node", "default ones: san"},
		{"pools are not known", func(in *Input) { in.Nodes[1].Facts.Unknown = map[string]string{"pools": "no libvirtd"} },
			"warn clean node", "no libvirtd"},
		{"processes are not known", func(in *Input) { in.Nodes[1].Facts.Unknown = map[string]string{"guests": "no /proc"} },
			"fail clean node", "no /proc"},
		{"hosts are managed", func(in *Input) { in.Nodes[0].Facts.Host.Status = &fact.Probe{Exit: 1, Text: "2 hosts"} },
			"fail managed hosts", "2 hosts"},
		{"the probe does not run", func(in *Input) {
			in.Nodes[0].Facts.Host.Status, in.Nodes[0].Facts.Host.Unknown = nil, map[string]string{"status": "no such file"}
		}, "fail managed hosts", "no such file"},
		{"no probe", func(in *Input) { in.Asked = false }, "warn managed hosts", "--unmanaged-probe"},
		{"a database that is too small", func(in *Input) { in.Database = 14 }, "fail database", "14 GB: 4 hosts and 20 VMs need 15"},
		{"a database of the least size", func(in *Input) { in.Database = 15 }, "", ""},
		{"no /vms", func(in *Input) { in.Nodes[1].Facts.Space = nil }, "fail space", "no mount point"},
		{"/vms of 29 GB", func(in *Input) { in.Nodes[1].Facts.Space = &Space{29 * gb, 29 * gb} }, "fail space", "29 GB: want at least 30"},
		{"/vms of 30 GB", func(in *Input) { in.Nodes[1].Facts.Space = &Space{30 * gb, 15 * gb} }, "", ""},
		{"/vms is full", func(in *Input) { in.Nodes[1].Facts.Space = &Space{30 * gb, 15*gb - 1} }, "fail space", "14 GB of /vms are free"},
		{"a database that /vms is too small for", func(in *Input) { in.Database = 60 }, "fail space", "want at least 60"},
		{"space is not known", func(in *Input) { in.Nodes[1].Facts.Unknown = map[string]string{"space": "I/O error"} },
			"fail space", "I/O error"},
		{"one direction is cut", func(in *Input) { in.Nodes[0].Reached[0].Ports = map[int]string{7443: "timeout"} },
			"fail reach", "port 7443 of 10.0.0.2 does not answer n1"},
		{"the arbiter does not reach a node", func(in *Input) { in.Arbiters[0].Node.Reached[1].Ports = map[int]string{7443: "timeout"} },
			"fail reach", "does not answer n3"},
		{"full frames get lost", func(in *Input) { in.Nodes[0].Reached[0].Frames = "no answer" }, "warn frames", "MTU"},
		{"a slow direction", func(in *Input) { in.Nodes[1].Reached[0].Rate = 10_000_000 }, "warn bandwidth", "about 80 Mbit/s"},
		{"a slow link", func(in *Input) { in.Nodes[1].Facts.Speed = 100 }, "warn bandwidth", "the slower link has 100 Mbit/s"},
		{"the rate is not measured", func(in *Input) {
			in.Nodes[0].Reached[0].Rate, in.Nodes[0].Reached[0].Unrated = 0,
				"reset"
		}, "", "six tenths of the slower link's speed; it could not be measured: reset"},
		{"nothing of the network is known", func(in *Input) {
			for i := range in.Nodes {
				in.Nodes[i].Facts.Speed, in.Nodes[i].Reached[0].Rate, in.Nodes[i].Reached[0].Unrated = 0, 0, "reset"
			}
		}, "warn bandwidth", "not known: reset"},
		{"a big database on 1 Gbit/s", func(in *Input) {
			in.Database = 201
			for i := range in.Nodes {
				in.Nodes[i].Facts.Speed, in.Nodes[i].Reached[0].Rate, in.Nodes[i].Facts.Space = 1000, 110_000_000, &Space{300 * gb, 300 * gb}
			}
		}, "warn bandwidth", "10 Gbit/s"},
		{"the virtual address is a node's", func(in *Input) { in.VIP = "10.0.0.2" }, "fail virtual address", "a node's own"},
		{"the virtual address is the arbiter's", func(in *Input) { in.VIP = "10.0.0.3" }, "fail arbiter", "has the virtual address"},
		{"the virtual address fits no interface", func(in *Input) { in.Nodes[1].Facts.VIP = &VIP{Wrong: "no interface"} },
			"fail virtual address", "no interface"},
		{"the virtual address is in use", func(in *Input) { in.Nodes[1].Facts.VIP.Taken = "02:00:00:00:00:01" },
			"fail virtual address", "02:00:00:00:00:01"},
		{"nobody could be asked for it", func(in *Input) { in.Nodes[1].Facts.VIP.Silent = "no carrier" }, "fail virtual address", "no carrier"},
		{"another length of the subnet", func(in *Input) { in.Length = 16 }, "fail virtual address", "--vip 10.0.0.9/24"},
		{"nothing is said of it", func(in *Input) { in.Nodes[0].Facts.VIP = nil }, "fail virtual address", "says nothing"},
		{"the arbiter is a node", func(in *Input) { alone(in, Arbiter{Kind: Quorum, Addrs: []string{"10.0.0.2"}}) },
			"fail arbiter", "is a node of the pair"},
		{"pings alone", func(in *Input) { pinged(in, "", "") }, "warn guarantee", "best effort"},
		{"pings and a quorum host", func(in *Input) {
			a := in.Arbiters[0]
			pinged(in, "", "")
			in.Arbiters = append(in.Arbiters, a)
		}, "", ""},
		{"an address does not answer one node", func(in *Input) { pinged(in, "", "silent") },
			"fail arbiter, warn guarantee", "n2 (10.0.0.2) gets no answer from 10.0.0.5: silent"},
		{"one address twice", func(in *Input) {
			pinged(in, "", "")
			in.Arbiters[0].Addrs[1] = "10.0.0.4"
		}, "fail arbiter, warn guarantee", "are the same"},
		{"an address was not tried", func(in *Input) {
			pinged(in, "", "")
			in.Nodes[0].Facts.Pings = nil
		}, "fail arbiter, warn guarantee", "not tried"},
		{"an address to ping is a node", func(in *Input) {
			pinged(in, "", "")
			in.Arbiters[0].Addrs[0] = "10.0.0.1"
			in.Nodes[0].Facts.Pings["10.0.0.1"], in.Nodes[1].Facts.Pings["10.0.0.1"] = "", ""
		}, "fail arbiter, warn guarantee", "is a node of the pair"},
		{"fence devices", func(in *Input) {
			alone(in, Arbiter{Kind: Fence})
			in.Nodes[0].Facts.BMCs = map[string]string{"10.1.0.2": ""}
			in.Nodes[1].Facts.BMCs = map[string]string{"10.1.0.1": ""}
		}, "", "reaches the other's"},
		{"a fence device is silent", func(in *Input) {
			alone(in, Arbiter{Kind: Fence})
			in.Nodes[0].Facts.BMCs = map[string]string{"10.1.0.2": "not reachable"}
		}, "fail arbiter", "controller 10.1.0.2 does not answer n1"},
		{"a node without a fence device", func(in *Input) { alone(in, Arbiter{Kind: Fence, NoBMC: []int{1}}) }, "fail arbiter", "named for n2"},
		{"a shared disk", func(in *Input) { votes(in, lun, lun) }, "", "/dev/sdc is the same on both nodes: 0x5000"},
		{"disks of a device", func(in *Input) {
			dataDisks(in, Device{ID: "1", Size: 15 * gb},
				Device{ID: "2", Size: 15 * gb})
		}, "", "/dev/sdd is free on both nodes"},
		{"a device, and a small /vms", func(in *Input) {
			dataDisks(in, Device{Size: 60 * gb}, Device{Size: 60 * gb})
			in.Database, in.Nodes[1].Facts.Space = 60, &Space{30 * gb, 0}
		}, "", ""},
		{"a disk of the device is in use", func(in *Input) {
			dataDisks(in, Device{Size: 15 * gb},
				Device{Size: 15 * gb, Used: "mounted at /"})
		}, "fail data disk", "n2 (10.0.0.2): /dev/sdd is in use: mounted at /"},
		{"a disk of the device has data", func(in *Input) {
			dataDisks(in, Device{Size: 15 * gb, Error: "has data"},
				Device{Size: 15 * gb})
		}, "fail data disk", "n1 (10.0.0.1): has data"},
		{"a disk of the device is small", func(in *Input) {
			dataDisks(in, Device{Size: 14 * gb},
				Device{Size: 14 * gb})
		}, "fail data disk", "the database 15 GB"},
		{"disks of a device differ", func(in *Input) { dataDisks(in, Device{Size: 15 * gb}, Device{Size: 16 * gb}) },
			"fail data disk", "the same size"},
		{"one disk for a device", func(in *Input) {
			dataDisks(in, Device{ID: "1", Size: 15 * gb},
				Device{ID: "1", Size: 15 * gb})
		}, "fail data disk", "is one disk, 1, that both nodes see"},
		{"nothing is said of a device's disk", func(in *Input) { in.Disk = "/dev/sdd" }, "fail data disk", "says nothing of /dev/sdd"},
		{"a second path", second, "", "10.0.1.1 on eth1 and 10.0.1.2 on eth1 reach each other in both directions"},
		{"a second path without its address on a node",
			secondBut(func(in *Input) { in.Nodes[1].Facts.Second = &PathEnd{First: "eth0"} }), "fail second path",
			"n2 (10.0.0.2): no interface has the address 10.0.1.2"},
		{"a second path over the first one's interface",
			secondBut(func(in *Input) { in.Nodes[0].Facts.Second.Dev = "eth0" }), "fail second path",
			"n1 (10.0.0.1): 10.0.1.1 is on eth0, as the first path is"},
		{"a second path by a VLAN on the first one's card", secondBut(func(in *Input) {
			in.Nodes[1].Facts.Second.Dev, in.Nodes[1].Facts.Second.Cards = "eth0.7", []string{"eth0"}
		}), "warn second path", "n2 (10.0.0.2): eth0 and eth0.7 both lie on eth0"},
		{"a way to the second path that begins on the first one",
			secondBut(func(in *Input) { in.Nodes[0].Facts.Second.From = "10.0.0.1" }), "fail second path",
			"packets to 10.0.1.2 go from 10.0.0.1, not from 10.0.1.1"},
		{"no way to the second path", secondBut(func(in *Input) { in.Nodes[0].Facts.Second.Error = "no route leads there" }),
			"fail second path", "n1 (10.0.0.1): no route leads there"},
		{"a second path that is cut in one direction", secondBut(func(in *Input) {
			in.Nodes[1].Reached[2].Ports = map[int]string{2380: "timeout"}
		}), "fail second path", "port 2380 of 10.0.1.1 does not answer n2 (10.0.0.2): timeout"},
		{"a second path that was not tried", secondBut(func(in *Input) { in.Nodes[0].Reached = in.Nodes[0].Reached[:2] }),
			"fail second path", "has not tried 10.0.1.2"},
		{"nothing is said of a second path", secondBut(func(in *Input) { in.Nodes[0].Facts.Second = nil }),
			"fail second path", "says nothing of 10.0.1.1"},
		{"a second path by the first one's address", secondBut(func(in *Input) { in.Nodes[0].Addr = "10.0.1.1" }),
			"fail second path", "10.0.1.1 is a node's address on the first path"},
		{"a second path by the virtual address", secondBut(func(in *Input) { in.VIP = "10.0.1.2" }), "fail second path",
			"10.0.1.2 is the virtual address"},
		{"a second path by one address", secondBut(func(in *Input) {
			in.Second[1] = "10.0.1.1"
			in.Nodes[0].Reached[2].Addr, in.Nodes[1].Facts.Second.From = "10.0.1.1", "10.0.1.1"
		}), "fail second path", "10.0.1.1 is named for both nodes"},
		{"a second path by the arbiter's address", secondBut(func(in *Input) { in.Arbiters[0].Addrs[0] = "10.0.1.2" }),
			"fail second path", "10.0.1.2 is the arbiter's address"},
		{"a second path by an address that is pinged", secondBut(func(in *Input) {
			pinged(in, "", "")
			in.Arbiters[0].Addrs[1] = "10.0.1.1"
			in.Nodes[0].Facts.Pings["10.0.1.1"], in.Nodes[1].Facts.Pings["10.0.1.1"] = "", ""
		}), "fail second path, warn guarantee", "10.0.1.1 is an address that the nodes ping"},
		{"disks of a partition, of any size", func(in *Input) {
			partitions(in, Device{ID: "1", Size: gb},
				Device{ID: "2", Size: gb})
		}, "", "/dev/sde is free on both nodes"},
		{"disks of a partition differ", func(in *Input) { partitions(in, Device{Size: gb}, Device{Size: 2 * gb}) },
			"fail partition", "the same size"},
		{"a disk of a partition is in use", func(in *Input) {
			partitions(in, Device{Size: gb, Used: "mounted at /"},
				Device{Size: gb})
		}, "fail partition", "n1 (10.0.0.1): /dev/sde is in use: mounted at /"},
		{"two disks of one name", func(in *Input) { votes(in, lun, Device{ID: "0x5001", Size: gib}) }, "fail arbiter", "0x5001"},
		{"a disk without an id", func(in *Input) { votes(in, Device{Size: gib}, Device{Size: gib}) }, "fail arbiter", "neither WWN nor serial"},
		{"a disk that is in use", func(in *Input) {
			votes(in, lun,
				Device{ID: "0x5000", Size: gib, Used: "mounted at /data"})
		}, "fail arbiter", "mounted at /data"},
		{"a disk that is not there", func(in *Input) { votes(in, Device{Error: "no such file"}, lun) }, "fail arbiter", "no such file"},
		{"nothing is said of the disk", func(in *Input) {
			votes(in, lun, lun)
			in.Nodes[1].Facts.Device = nil
		}, "fail arbiter", "says nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := good()
			c.do(in)
			found := Judge(*in)
			if got := strings.Join(bad(found), ", "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			said := ""
			for i, f := range found {
				if f.Result != Pass && (f.Finding == "" || f.Remedy == "") {
					t.Errorf("%s has no finding, or no remedy: %+v", f.Check, f)
				}
				if i > 0 && rank[f.Result] < rank[found[i-1].Result] {
					t.Errorf("%s is behind what is less bad", f.Check)
				}
				if f.Result != Pass || c.want == "" {
					said += f.Finding + " " + f.Remedy + "\n"
				}
			}
			if !strings.Contains(said, c.part) {
				t.Errorf("%q is not in\n%s", c.part, said)
			}
		})
	}
}
