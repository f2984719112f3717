package config

import (
	"reflect"
	"testing"
)

func TestPairDeviceDefaults(t *testing.T) {
	cl, faults, warnings := Parse("pair_device.json", []byte(fixture(t, "pair_device.json")), Options{})
	wantFaults(t, faults)
	if len(warnings) > 0 {
		t.Errorf("warnings %v", warnings)
	}
	p := cl.Pair.Full()
	want := PairDevice{Disk: "/dev/vg/pair", Mount: "/srv/pair", FileSystem: "ext4", Port: 7789}
	if !reflect.DeepEqual(*p.Device, want) || p.Database.Datadir != "/srv/pair/mysql" || p.Device.SecretFile() != "" {
		t.Errorf("defaults: %+v, %+v", p.Device, p.Database)
	}
	if cl.Pair.Device.Port != 0 {
		t.Error("Full has changed what it was called on")
	}
	again, faults, _ := Parse("written.json", cl.JSON(), Options{})
	wantFaults(t, faults)
	if !reflect.DeepEqual(cl, again) {
		t.Errorf("read back as %s", again.JSON())
	}
}

func TestPairDeviceFaults(t *testing.T) {
	const disk, mount = `"Disk": "/dev/vg/pair"`, `"Mount": "/srv/pair"`
	for _, tc := range []faultCase{
		one("a relative disk", disk, `"Disk": "vdb"`, `Pair.Device.Disk: value "vdb": want an absolute path`),
		one("a disk with a blank", disk, `"Disk": "/dev/v b"`, `Pair.Device.Disk: value "/dev/v b": want letters`),
		one("DRBD on itself", disk, `"Disk": "/dev/drbd1"`, `Pair.Device.Disk: value "/dev/drbd1": want the device below`),
		one("no mount point", ", "+mount, ``, `Pair.Device.Mount: value "": want an absolute path`),
		one("the root", mount, `"Mount": "/"`, `Pair.Device.Mount: value "/": want a directory of its own`),
		one("a file system", mount, mount+`, "FileSystem": "vfat"`, `Pair.Device.FileSystem: value "vfat": want ext4 or xfs`),
		one("a minor", mount, mount+`, "Minor": -1`, `Pair.Device.Minor: value "-1": want 0 to 1048575`),
		one("a port", mount, mount+`, "Port": 70000`, `Pair.Device.Port: value "70000": want 1 to 65535`),
		one("a secret itself", mount, mount+`, "Credential": "secret"`, `Pair.Device.Credential: value "(not shown)": want file:/PATH`),
		one("one address", mount, mount+`, "Addresses": ["10.0.0.1"]`, `Pair.Device.Addresses: value "10.0.0.1": want two addresses`),
		one("an address twice", mount, mount+`, "Addresses": ["10.0.0.1", "10.0.0.1"]`,
			`Pair.Device.Addresses[1]: value "10.0.0.1": want the IP address of one node`),
		one("a name", mount, mount+`, "Addresses": ["10.0.0.1", "cvm2"]`, `Pair.Device.Addresses[1]: value "cvm2": want the IP address`),
		one("accounts of replication", `"Database": {}`,
			`"Database": {"Admin": {"User": "a", "Credential": "file:/a"}, "Replication": {"User": "r", "Credential": "file:/r"}}`,
			`Pair.Database.Admin: allowed only without Pair.Device`, `Pair.Database.Replication: allowed only without Pair.Device`),
		one("data elsewhere", `"Database": {}`, `"Database": {"Datadir": "/var/lib/mysql"}`,
			`Pair.Database.Datadir: value "/var/lib/mysql": want a directory below Pair.Device.Mount, /srv/pair`),
		one("data on the mount point", `"Database": {}`, `"Database": {"Datadir": "/srv/pair"}`,
			`Pair.Database.Datadir: value "/srv/pair": want a directory below`),
		one("no database", `"Database": {}`, `"Patience": "3s"`, `Pair.Database: want the database of the group`),
	} {
		text := change(t, fixture(t, "pair_device.json"), tc.edits[0].old, tc.edits[0].with)
		_, faults, _ := Parse("c.json", []byte(text), Options{AllowUndersized: true})
		wantFaults(t, faults, tc.want...)
	}
}

// TestNoPingsWithADisk: two nodes that both go on would write different things to it.
func TestNoPingsWithADisk(t *testing.T) {
	const device = `"Device": {"Disk": "/dev/vg/pair", "Mount": "/srv/pair"}`
	two := change(t, fixture(t, "pair_device.json"), `, "172.16.60.53 arbiter"`, "")
	two = change(t, two, device, device+`, "Arbiter": {"Ping": ["172.16.0.1", "172.16.0.2"]}`)
	_, faults, _ := Parse("c.json", []byte(two), Options{AllowUndersized: true})
	wantFaults(t, faults, "Pair.Arbiter.Ping: allowed only without Pair.Device")
	_, faults, _ = Parse("c.json", []byte(change(t, two, `{"Ping": ["172.16.0.1", "172.16.0.2"]}`,
		`{"Disk": "/dev/disk/by-id/wwn-0x2"}`)), Options{AllowUndersized: true})
	wantFaults(t, faults)
	_, faults, _ = Parse("c.json", []byte(change(t, two, `{"Ping": ["172.16.0.1", "172.16.0.2"]}`, `{"Disk": "/dev/vg/pair"}`)), Options{})
	wantFaults(t, faults, `Pair.Arbiter.Disk: value "/dev/vg/pair": want another disk than Pair.Device.Disk`)
}
