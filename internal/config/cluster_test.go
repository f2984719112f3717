package config

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"holdfast/internal/lib/strictyaml"
)

// edit is one replacement in a fixture.
type edit struct{ old, with string }

// faultCase changes the valid base configuration and names the faults it then has.
type faultCase struct {
	name  string
	edits []edit
	want  []string
}

func one(name, old, with string, want ...string) faultCase {
	return faultCase{name, []edit{{old, with}}, want}
}

func runFaults(t *testing.T, cases []faultCase) { runFaultsOf(t, "base.json", cases) }

// runFaultsOf changes a fixture.
func runFaultsOf(t *testing.T, name string, cases []faultCase) {
	base := fixture(t, name)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			text := base
			for _, e := range tc.edits {
				text = change(t, text, e.old, e.with)
			}
			_, faults, _ := Parse("c.json", []byte(text), Options{})
			wantFaults(t, faults, tc.want...)
		})
	}
}

func TestTheBaseConfigurationHasNoFaults(t *testing.T) {
	_, faults, warnings := Parse("c.json", []byte(fixture(t, "base.json")), Options{})
	wantFaults(t, faults)
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), "fewer than 100 hosts and 1,000 VMs") {
		t.Errorf("warnings %v, want the one of the sizing table", warnings)
	}
}

func TestTextThatIsNotTheFormIsRefused(t *testing.T) {
	runFaults(t, []faultCase{
		one("a missing colon is named with line and column", `"CPU": 4`, `"CPU" 4`, `4:9: value "4": want ':'`),
		one("a missing comma without a comment is refused", `"CPU": 4,`, `"CPU": 4`, `5:3: want ',' or '}'`),
		one("a missing comma in a list is refused even before a comment", `["192.0.2.11 h1",`,
			"[\"192.0.2.11 h1\" // c\n", `3:2: want ',' or ']'`),
		one("a comma too many is refused", `"ConsoleProxyOverriddenIP": ""`, `"ConsoleProxyOverriddenIP": "",`, `16:1: want a field name`),
		one("a block comment is refused", `"CPU": 4,`, `/* x */ "CPU": 4,`, `4:3: want a field name`),
		one("NaN is refused", `"CPU": 4`, `"CPU": NaN`, `4:10: value "NaN": want a JSON value`),
		one("a leading zero is refused", `"CPU": 4`, `"CPU": 04`, `4:10: want a JSON number`),
		one("a raw line break in a string is refused", `"FileConf"`, "\"File\nConf\"", `5:16: a string must end`),
		one("half a surrogate pair is refused", `"FileConf"`, `"\ud800x"`, `5:12: want an escape sequence`),
		one("bytes that are not UTF-8 are refused", `"FileConf"`, "\"\xff\"", `5:12: must be UTF-8`),
		one("an unknown field names the nearest one, and that one is not missing as well", `"CPU"`, `"Cpus"`,
			`Cpus: value "Cpus": unknown field; the nearest known one is "CPU"`),
		one("an unknown field in a network is found", `"Bridge": "br1"`, `"Bridge": "br1", "Mtu": 9000`, `Network[1].Mtu: unknown field`),
		one("a duplicate key is found at the top", `"CPU": 4`, `"CPU": 4, "CPU": 5`, `CPU: duplicate key`),
		one("a duplicate key is found below", `"Bridge": "br1"`, `"Bridge": "br1", "Bridge": "br2"`, `Network[1].Bridge: duplicate key`),
		one("a string for a number is refused once", `"CPU": 4`, `"CPU": "4"`, `CPU: value "4": want a whole number, not a string`),
		one("a number for a bool is refused once", `"IsMgmt": true`, `"IsMgmt": 1`, `Network[0].IsMgmt: want true or false, not a number`),
		one("an object for a list is refused once", `"DNS": ["192.0.2.1"]`, `"DNS": {}`, `DNS: want a list, not an object`),
		one("a number too large is refused", `"CPU": 4`, `"CPU": 99999999999999999999`, `CPU: want a whole number`),
		one("a fraction of a CPU is refused", `"CPU": 4`, `"CPU": 4.5`, `CPU: want a whole number`),
		one("control characters in a value are refused", `"/srv/shared"`, `"/srv\u0000/shared"`, `ImageFolder: without control characters`),
	})
}

func TestWholeFilesThatCanNotBeRead(t *testing.T) {
	base := fixture(t, "base.json")
	for _, tc := range []struct{ name, file, text, want string }{
		{"an empty file", "c.json", "", "1:1: end of file"},
		{"a list", "c.json", "[]", "(file): want an object"},
		{"a second document", "c.json", base + "{}", "17:1: nothing may follow"},
		{"a file of more than 1 MiB", "c.json", base + strings.Repeat(" ", maxFile), "(file): at most 1048576 bytes"},
		{"deep nesting", "c.json", strings.Repeat("[", 1000), "1:34: at most 32 levels"},
		{"malformed YAML", "c.yaml", "a: [1", "1:5: malformed YAML"},
		{"a YAML scalar", "c.yaml", "hello", "(file): want an object"},
		{"two YAML documents", "c.yml", "a: 1\n---\nb: 2\n", "(file): want one YAML document"},
		{"a YAML merge key", "c.yml", "a: &x {b: 1}\nc:\n  <<: *x\n", "3:3: merge keys are not supported"},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			_, faults, _ := Parse(tc.file, []byte(tc.text), Options{})
			wantFaults(t, faults, tc.want)
		})
	}
}

func TestNodesAndSize(t *testing.T) {
	runFaults(t, []faultCase{
		one("an even number of nodes is refused", `, "192.0.2.13 h3"]`, `]`, `Node: value "2 nodes": want an odd number`,
			`Network[1].Ipaddr: unknown host`, `Network[1].Gateway: unknown host`),
		one("an empty list of nodes is refused", `["192.0.2.11 h1", "192.0.2.12 h2", "192.0.2.13 h3"]`, `[]`, `Node: value "0 nodes"`),
		one("an entry without a name is refused", `"192.0.2.12 h2"`, `"192.0.2.12"`, `Node[1]: want "IP HOSTNAME"`),
		one("a doubled address is refused", `192.0.2.12 h2`, `192.0.2.11 h2`, `Node[1]: value "192.0.2.11": addresses must be unique`),
		one("host names that differ only in case are doubled", `"192.0.2.13 h3"`, `"192.0.2.13 h3", "192.0.2.14 h4", "192.0.2.15 H4"`,
			`Node[4]: Node[3] has the same`, `Network[1].Ipaddr: missing: h4, H4`, `Network[1].Gateway: missing: h4, H4`),
		one("an underscore in a host name is refused", `"192.0.2.13 h3"`, `"192.0.2.13 h_3"`, `Node[2]: value "h_3": want an RFC 1123`,
			`Network[1].Ipaddr: most similar name in Node is "h1"`, `Network[1].Ipaddr: missing: h_3`,
			`Network[1].Gateway: unknown host`, `Network[1].Gateway: missing: h_3`),
		one("an IPv6 node is refused", `192.0.2.12 h2`, `2001:db8::1 h2`, `Node[1]: not IPv6`),
		one("a multicast node is refused", `192.0.2.12 h2`, `224.0.0.1 h2`, `Node[1]: unicast address`),
		one("an octet with a leading zero is refused", `192.0.2.12 h2`, `192.0.2.012 h2`, `Node[1]: want an IPv4 address`),
		one("too little memory is refused", `"MemorySizeInGB": 8`, `"MemorySizeInGB": 7`, `MemorySizeInGB: value "7": want 8 to 16384`),
		one("too much memory is refused", `"MemorySizeInGB": 8`, `"MemorySizeInGB": 16385`, `MemorySizeInGB: want 8 to 16384`),
		one("too few CPUs are refused", `"CPU": 4`, `"CPU": 3`, `CPU: want 4 to 1024`),
		one("a missing size is refused", `"MemorySizeInGB": 8,`, ``, `MemorySizeInGB: value "0": want 8`),
		one("megabytes need --allow-undersized", `"CPU": 4`, `"CPU": 4, "MemorySizeInMB": 128`, `MemorySizeInMB: --allow-undersized`),
	})
}

func TestStorageAndServers(t *testing.T) {
	runFaults(t, []faultCase{
		one("an unknown type is refused", `"FileConf"`, `"NfsConf"`, `Type: want FileConf, CephConf or PairConf`),
		one("a pool with FileConf is refused", `"PoolName": ""`, `"PoolName": "p"`, `PoolName: must be empty`),
		one("monitors with FileConf are refused", `"MonAddrs": null`, `"MonAddrs": ["192.0.2.1"]`, `MonAddrs: must be null or empty`),
		one("CephConf needs monitors and a pool", `"FileConf"`, `"CephConf"`, `MonAddrs: at least one`, `PoolName: the name of a Ceph pool`),
		{"a Ceph user is a name, and its key is on the hosts",
			[]edit{{`"FileConf"`, `"CephConf"`}, {`"MonAddrs": null`,
				`"MonAddrs": ["192.0.2.1:6789"], "Ceph": {"User": "client.x", "Credential": "AQDHVrVo"}, "LockManager": {"Type": "virtlockd", "Lockspace": "/srv/locks"}`}, {`"PoolName": ""`, `"PoolName": "p"`}},
			[]string{`Ceph.User: want the name of a Ceph user without "client."`, `Ceph.Credential: want file:/PATH`,
				`LockManager.Type: want none with Type CephConf`}},
		one("a Ceph user needs CephConf", `"MonAddrs": null`, `"MonAddrs": null, "Ceph": {"User": "x"}`, `Ceph: allowed only with Type CephConf`),
		{"a monitor must be an address", []edit{{`"FileConf"`, `"CephConf"`},
			{`"MonAddrs": null`, `"MonAddrs": ["192.0.2.1:6789", "x y"]`}, {`"PoolName": ""`, `"PoolName": "a/b"`}},
			[]string{`MonAddrs[1]: want an IP address`, `PoolName: the name of a Ceph pool`}},
		one("a relative folder is refused", `"/srv/shared"`, `"srv/shared"`, `ImageFolder: absolute`),
		one("a folder with a way up is refused", `"/srv/shared"`, `"/srv/../etc"`, `ImageFolder: absolute`),
		one("the root as folder is refused", `"/srv/shared"`, `"//"`, `ImageFolder: not the root`),
		one("a missing time server is refused", `"ChronyServers": ["192.0.2.1"]`, `"ChronyServers": []`, `ChronyServers: at least one`),
		one("the management VM is not its own time server", `"ChronyServers": ["192.0.2.1"]`,
			`"ChronyServers": ["192.0.2.1", "198.51.101.3"]`, `ChronyServers[1]: is the management VM's own address`),
		one("a time server must be a name or an address", `"ChronyServers": ["192.0.2.1"]`, `"ChronyServers": ["a b"]`,
			`ChronyServers[0]: want an IP address`),
		one("a missing name server is refused", `"DNS": ["192.0.2.1"],`, ``, `DNS: at least one`),
		one("a name server must be an address", `"DNS": ["192.0.2.1"]`, `"DNS": ["2001:db8::1", "dns.example.org"]`,
			`DNS[1]: want an IP address`),
	})
}

func TestNetworks(t *testing.T) {
	runFaults(t, []faultCase{
		one("a bridge name too long is refused", `"br0"`, `"br0123456789abcde"`, `Network[0].Bridge: 1 to 15`),
		one("a multicast MAC is refused", `02:00:5e:10:00:02`, `03:00:5e:10:00:02`, `Network[1].MacAddress: not a multicast`),
		one("the broadcast MAC is refused", `02:00:5e:10:00:02`, `FF:ff:ff:ff:ff:ff`, `Network[1].MacAddress: not the broadcast`),
		one("the zero MAC is refused", `02:00:5e:10:00:02`, `00:00:00:00:00:00`, `Network[1].MacAddress: not all zero`),
		one("a MAC with dashes is refused", `02:00:5e:10:00:02`, `02-00-5e-10-00-02`, `Network[1].MacAddress: want a unicast MAC`),
		{"MACs that differ only in case are doubled", []edit{{`02:00:5e:10:00:01`, `02:00:5e:10:00:AB`},
			{`02:00:5e:10:00:02`, `02:00:5e:10:00:ab`}}, []string{`Network[1].MacAddress: Network[0] has the same`}},
		one("IPv6 is refused", `"192.0.2.20"`, `"2001:db8::20"`, `Network[0].Ipaddr: not IPv6`),
		one("a node's address is refused", `"192.0.2.20"`, `"192.0.2.12"`, `Network[0].Ipaddr: is a node's address`),
		one("a node's address in the per-node form is refused", `198.51.101.3@h2`, `192.0.2.12@h2`,
			`Network[1].Ipaddr: value "192.0.2.12@h2": is a node's address`),
		one("the network address is refused", `"192.0.2.20"`, `"192.0.2.0"`, `Network[0].Ipaddr: is the network address of 192.0.2.0/24`),
		one("the broadcast address is refused", `"192.0.2.20"`, `"192.0.2.255"`, `Network[0].Ipaddr: is the broadcast address of 192.0.2.0/24`),
		one("a netmask with a hole is refused", `"Ipaddr": "192.0.2.20", "Netmask": "255.255.255.0"`,
			`"Ipaddr": "192.0.2.20", "Netmask": "255.0.255.0"`, `Network[0].Netmask: contiguous`),
		one("a netmask without room for a gateway is refused", `"Ipaddr": "192.0.2.20", "Netmask": "255.255.255.0"`,
			`"Ipaddr": "192.0.2.20", "Netmask": "255.255.255.255"`, `Network[0].Netmask: 255.255.255.252`),
		one("a gateway outside the subnet is refused", `"Gateway": "192.0.2.1"`, `"Gateway": "192.0.3.1"`,
			`Network[0].Gateway: inside the subnet 192.0.2.0/24`),
		one("a gateway outside one host's subnet is refused", `198.51.101.1@h2`, `198.51.100.1@h2`,
			`Network[1].Gateway: value "198.51.100.1@h2": want an address inside the subnet 198.51.101.0/24`),
		one("the own address as gateway is refused", `"Gateway": "192.0.2.1"`, `"Gateway": "192.0.2.20"`, `Network[0].Gateway: own address`),
		one("the broadcast address as gateway is refused", `"Gateway": "192.0.2.1"`, `"Gateway": "192.0.2.255"`,
			`Network[0].Gateway: is the broadcast address`),
		one("a missing address is refused", `"Ipaddr": "192.0.2.20", `, ``, `Network[0].Ipaddr: value "": want an IPv4 address`),
		one("two cards with one address are refused", `198.51.101.3@h2`, `192.0.2.20@h2`,
			`Network[1].Ipaddr: Network[0].Ipaddr has the same`, `Network[1].Gateway: inside the subnet 192.0.2.0/24`),
		one("an unknown host is refused", `198.51.102.3@h3`, `198.51.102.3@h33`,
			`Network[1].Ipaddr: value "198.51.102.3@h33": unknown host; the most similar name in Node is "h3"`, `Network[1].Ipaddr: missing: h3`),
		one("a missing host is refused", `, 198.51.102.3@h3`, ``, `Network[1].Ipaddr: missing: h3`),
		one("a doubled host is refused", `198.51.102.3@h3`, `198.51.102.3@h3, 198.51.102.4@h3`,
			`Network[1].Ipaddr: value "198.51.102.4@h3": the per-node form must name every host once`),
		one("an entry without a host is refused", `198.51.102.3@h3`, `198.51.102.3@h3, 198.51.102.4`,
			`Network[1].Ipaddr: value "198.51.102.4": want one value`),
		one("no management network is refused", `"IsMgmt": true`, `"IsMgmt": false`, `Network: value "no IsMgmt": exactly one`),
		one("two management networks are refused", `"IsMgmt": false`, `"IsMgmt": true`, `Network[1].IsMgmt: exactly one`),
		one("no default route is refused", `"IsDefRoute": true`, `"IsDefRoute": false`, `Network: value "no IsDefRoute": exactly one`),
		one("two default routes are refused", `"IsDefRoute": false`, `"IsDefRoute": true`, `Network[1].IsDefRoute: exactly one`),
		one("a console address must be IPv4", `"ConsoleProxyOverriddenIP": ""`, `"ConsoleProxyOverriddenIP": "console"`,
			`ConsoleProxyOverriddenIP: want an IPv4`),
		one("a console address must name all hosts or none", `"ConsoleProxyOverriddenIP": ""`,
			`"ConsoleProxyOverriddenIP": "192.0.2.9@h1"`, `ConsoleProxyOverriddenIP: missing: h2, h3`),
	})
}

func TestHoldfastsOwnFields(t *testing.T) {
	const last = `"ConsoleProxyOverriddenIP": ""`
	own := func(name, fields string, want ...string) faultCase { return one(name, last, last+", "+fields, want...) }
	runFaults(t, []faultCase{
		own("everything in its right form is accepted", `"Fencing": {"h1": {"Watchdog": "/dev/watchdog1", "Devices": [{"Type": "ipmi", "Address": "192.0.2.101:623", "User": "op", "Credential": "file:/etc/bmc"},
			{"Type": "redfish", "Address": "https://bmc.example.org", "User": "op", "Credential": "file:/etc/bmc", "System": "1", "Machine": "4c4c4544-0042-3010-8044-b5c04f4d3233", "Fingerprint": "`+strings.Repeat("ab:", 31)+`ab"}]}, "h2": {"Unsafe": false}, "Unsafe": false},
			"Timings": {"Lease": "9s", "Keepalive": "3s", "Election": "6s", "Drift": 0.005}, "HealthCheck": {"Type": "http", "Port": 8080, "Path": "/ok", "Interval": "20s"},
			"LockManager": {"Type": "virtlockd", "Lockspace": "/srv/shared/locks"}, "SharedStorageProbe": {"Interval": "5s"}, "Labels": {"site": "north"},
			"DirectBoot": {"Kernel": "/boot/vmlinuz", "Cmdline": "console=ttyS0"}, "AllowResetRootPassword": true`),
		own("fencing of an unknown host is refused", `"Fencing": {"h9": {}}`, `Fencing.h9: unknown host`),
		own("an unknown field of a host is refused", `"Fencing": {"h1": {"Watchdogs": "none"}}`,
			`Fencing.h1.Watchdogs: nearest known one is "Watchdog"`),
		own("a doubled host in fencing is refused", `"Fencing": {"h1": {}, "h1": {}}`, `Fencing.h1: duplicate key`),
		own("a takeover without proof is refused", `"Fencing": {"Unsafe": true, "h2": {"Unsafe": true}}`,
			`Fencing.Unsafe: value "true": want false: a takeover without proof`, `Fencing.h2.Unsafe: want false`),
		own("a doubled Unsafe is refused", `"Fencing": {"Unsafe": false, "Unsafe": false}`, `Fencing.Unsafe: duplicate key`),
		own("a watchdog that is no device is refused", `"Fencing": {"h1": {"Watchdog": "softdog"}}`, `Fencing.h1.Watchdog: want a device`),
		own("a fence device is checked in full and its password not shown",
			`"Fencing": {"h1": {"Devices": [{"Type": "ilo", "Credential": "secret"}, {"Type": "ipmi", "Address": "https://x", "User": "u", "Credential": "file:/x"}]}}`,
			`Fencing.h1.Devices[0].User: name of an account`, `Fencing.h1.Devices[0].Type: ipmi or redfish`,
			`Fencing.h1.Devices[0].Credential: value "(not shown)": want file:`, `Fencing.h1.Devices[1].Address: want an IP`),
		own("what a device must show is checked", `"Fencing": {"h1": {"Devices": [{"Type": "ipmi", "Address": "192.0.2.1", "User": "u", "Credential": "file:/x", "Machine": "abc", "Fingerprint": "00", "System": "1"},
			{"Type": "redfish", "Address": "192.0.2.1", "User": "u", "Credential": "file:/x", "Fingerprint": "zz"}]}}`,
			`Fencing.h1.Devices[0].Machine: UUID`, `Fencing.h1.Devices[0].Fingerprint: allowed only with Type redfish`,
			`Fencing.h1.Devices[0].System: allowed only with Type redfish`, `Fencing.h1.Devices[1].Fingerprint: 64 hexadecimal`),
		own("the restart policy is checked",
			`"Restart": {"InPlace": -1, "Limit": -1, "Window": "0s"}, "OnPanic": "reboot", "ImageURL": "http://x/y"`,
			`Restart.InPlace: 0 to 100`, `Restart.Limit: never give up`, `Restart.Window: above 0`,
			`OnPanic: restart, coredump`, `ImageURL: nbd://HOST`),
		own("a policy in its right form is accepted",
			`"Restart": {"InPlace": 0, "Limit": 5, "Window": "30m"}, "OnPanic": "preserve", "ImageURL": "nbd://192.0.2.30:10809/mnvm"`),
		own("an image by TLS is accepted", `"ImageURL": "nbds://192.0.2.30:10809/mnvm"`),
		own("an image by TLS is checked", `"ImageURL": "nbds://192.0.2.30/mnvm"`, `ImageURL: by TLS nbds://HOST:PORT`),
		own("an image has no parameters", `"ImageURL": "nbds://192.0.2.30:1/mnvm?tls-hostname=x"`, `ImageURL: by TLS nbds://HOST:PORT`),
		own("a health check is checked", `"HealthCheck": {"Type": "icmp", "Port": 0, "Failures": 0}`,
			`HealthCheck.Type: tcp or http`, `HealthCheck.Port: 1 to 65535`, `HealthCheck.Failures: 1 to 100`),
		own("a path without http is refused", `"HealthCheck": {"Type": "tcp", "Port": 1, "Path": "/x"}`, `HealthCheck.Path: must be empty`),
		own("a lockspace must be absolute", `"LockManager": {"Type": "virtlockd", "Lockspace": "x"}`, `LockManager.Lockspace: absolute`),
		own("an unknown lock manager is refused", `"LockManager": {"Type": "flock"}`, `LockManager.Type: none or virtlockd`),
		own("a duration must be a string", `"SharedStorageProbe": {"Timeout": 5}`, `SharedStorageProbe.Timeout: want a duration above 0`),
		own("a label name with a blank is refused", `"Labels": {"a b": "x"}`, `Labels["a b"]: label name`),
		own("a relative kernel is refused", `"DirectBoot": {"Kernel": "vmlinuz", "Initrd": "x"}`,
			`DirectBoot.Kernel: absolute`, `DirectBoot.Initrd: absolute`),
	})
}

func TestLongListsOfHostsAreCutShort(t *testing.T) {
	base := fixture(t, "base.json")
	many := func(entry, sep string) string {
		list := make([]string, maxNodes+2)
		for i := range list {
			list[i] = strings.ReplaceAll(entry, "#", strconv.Itoa(i))
		}
		return strings.Join(list, sep)
	}
	for _, tc := range []struct{ name, old, with, want string }{
		{"nodes", `"192.0.2.11 h1", "192.0.2.12 h2", "192.0.2.13 h3"`, many(`"192.0.3.# n#"`, ","),
			`Node: value "101 nodes": want an odd number of nodes from 3 to 99`},
		{"per-node entries", `198.51.100.3@h1, 198.51.101.3@h2, 198.51.102.3@h3`, many("198.51.100.3@n#", ","),
			`Network[1].Ipaddr: at most 99 entries`},
		{"hosts in fencing", `"CPU": 4`, `"CPU": 4, "Fencing": {` + many(`"n#": {}`, ",") + `}`, `Fencing: value "101 hosts": want at most 99`},
	} {
		t.Run("too many "+tc.name+" give one fault", func(t *testing.T) {
			_, faults, _ := Parse("c.json", []byte(change(t, base, tc.old, tc.with)), Options{})
			wantFaults(t, faults, tc.want)
		})
	}
}

func TestAllFaultsComeAtOnceInDocumentOrder(t *testing.T) {
	text := fixture(t, "base.json")
	for _, e := range []edit{{`"CPU": 4`, `"CPU": 1`}, {`192.0.2.12 h2`, `192.0.2.11 h2`}, {`"br1"`, `""`},
		{`"DNS": ["192.0.2.1"]`, `"Dns": ["192.0.2.1"]`}, {`"FileConf"`, `5`}} {
		text = change(t, text, e.old, e.with)
	}
	want := []string{"Node[1]: unique", "CPU: want", "Type: want a string", "Dns: nearest", "Network[1].Bridge: want"}
	_, faults, _ := Parse("c.json", []byte(text), Options{})
	wantFaults(t, faults, want...)
	// YAML keeps the order of the document too: sort the keys of the text backwards.
	_, faults, _ = Parse("c.yaml", []byte("Type: 5\nZ: 1\nLabels: {'': x}\nCPU: 4\nMemorySizeInGB: 8\n"), Options{AllowUndersized: true})
	wantFaults(t, faults, "Node: odd number", "Network: at least", "Type: want a string", "Z: unknown", `Labels[""]: label name`)
}

func TestAYAMLKeyThatIsANumberIsRefused(t *testing.T) {
	_, faults, _ := Parse("c.yml", []byte("Node: []\nDirectBoot: {1: 2}\n"), Options{})
	for _, f := range faults {
		if f.Error() == `c.yml:2:14: DirectBoot: value "1": a field name must be a string, quote it` {
			return
		}
	}
	t.Errorf("faults:\n%v", Faults(faults))
}

func TestAFaultIsOneLine(t *testing.T) {
	f := Fault{"c.json", strictyaml.Fault{Place: strictyaml.Place{Line: 3, Column: 7}, Path: "Network[1].Gateway",
		Value: "a\nb", Want: "want an address"}}
	if got, want := f.Error(), `c.json:3:7: Network[1].Gateway: value "a\nb": want an address`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTheSourcesOwnSampleLoads(t *testing.T) {
	cl, faults, warnings := Parse("source-form.json", []byte(fixture(t, "source-form.json")), Options{})
	wantFaults(t, faults)
	got, err := json.MarshalIndent(cl, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if want := fixture(t, "source-form.golden.json"); string(got)+"\n" != want {
		t.Errorf("exported:\n%s\nwant:\n%s", got, want)
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0].String(), "source-form.json:41:31: a comma is missing") {
		t.Errorf("warnings %v, want the missing comma and the sizing table", warnings)
	}
}

func TestYAMLGivesTheSameConfiguration(t *testing.T) {
	text := fixture(t, "base.json")
	var doc any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	want, faults, _ := Parse("c.json", []byte(text), Options{})
	wantFaults(t, faults)
	got, faults, _ := Parse("c.yaml", asYAML, Options{})
	wantFaults(t, faults)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	twice := append(asYAML, []byte("CPU: 5\n")...)
	_, faults, _ = Parse("c.yaml", twice, Options{})
	wantFaults(t, faults, "CPU: duplicate key")
}

func TestTestGuestsMayBeSmall(t *testing.T) {
	text := change(t, fixture(t, "base.json"), `"MemorySizeInGB": 8`, `"MemorySizeInMB": 128`)
	text = change(t, text, `"CPU": 4`, `"CPU": 1`)
	text = change(t, text, `"ChronyServers": ["192.0.2.1"],`, ``)
	cl, faults, warnings := Parse("c.json", []byte(text), Options{AllowUndersized: true})
	wantFaults(t, faults)
	if cl.MemoryMiB() != 128 {
		t.Errorf("memory %d MiB, want 128", cl.MemoryMiB())
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].Text, "for tests only") {
		t.Errorf("warnings %v, want that it is for tests only", warnings)
	}
	_, faults, _ = Parse("c.json", []byte(text), Options{})
	wantFaults(t, faults, "MemorySizeInGB: want 8", "ChronyServers: at least", "MemorySizeInMB: --allow-undersized", "CPU: want 4")
}

func TestTheSizingTableIsNamed(t *testing.T) {
	for _, tc := range []struct {
		name, gb, cpu, want string
	}{
		{"the small row", "15", "8", "fewer than 100 hosts and 1,000 VMs"},
		{"the middle row", "16", "8", "up to 1,000 hosts and 10,000 VMs"},
		{"the large row needs no warning", "32", "12", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := change(t, fixture(t, "base.json"), `"MemorySizeInGB": 8`, `"MemorySizeInGB": `+tc.gb)
			text = change(t, text, `"CPU": 4`, `"CPU": `+tc.cpu)
			_, faults, warnings := Parse("c.json", []byte(text), Options{})
			wantFaults(t, faults)
			got := ""
			if len(warnings) > 0 {
				got = warnings[0].Text
			}
			if (tc.want == "") != (got == "") || !strings.Contains(got, "enough for "+tc.want) && tc.want != "" {
				t.Errorf("warning %q, want %q", got, tc.want)
			}
		})
	}
}

// TestFencingThroughTheStore: what an earlier version has allowed is still read.
func TestFencingThroughTheStore(t *testing.T) {
	want := Cluster{Fencing: Fencing{Unsafe: true, Hosts: map[string]HostFencing{"h2": {Unsafe: true}, "h1": {Watchdog: "none"}}}}
	var back Cluster
	if err := json.Unmarshal(want.JSON(), &back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("through encoding/json: %+v, want %+v; %v", back, want, err)
	}
}

func TestPerNodeFormsAreResolved(t *testing.T) {
	text := change(t, fixture(t, "base.json"), `"ConsoleProxyOverriddenIP": ""`,
		`"ConsoleProxyOverriddenIP": "203.0.113.1@h1,203.0.113.2@h2 , 203.0.113.3@h3", "Timings": {"Grace": "3s"}`)
	cl, faults, _ := Parse("c.json", []byte(text), Options{})
	wantFaults(t, faults)
	nics, console := cl.For("h2")
	want := []NICAddr{
		{"br0", "02:00:5e:10:00:01", "192.0.2.20", "255.255.255.0", "192.0.2.1", false, true},
		{"br1", "02:00:5e:10:00:02", "198.51.101.3", "255.255.255.0", "198.51.101.1", true, false},
	}
	if !reflect.DeepEqual(nics, want) || console != "203.0.113.2" {
		t.Errorf("on h2: %+v console %q, want %+v", nics, console, want)
	}
	if nics, console := cl.For("h9"); nics != nil || console != "" {
		t.Errorf("an unknown host got %v %q", nics, console)
	}
	if got := cl.Nodes(); len(got) != 3 || got[1] != (NodeAddr{"192.0.2.12", "h2"}) {
		t.Errorf("nodes %v", got)
	}
	if got := cl.Timings(); got.Grace != 3*time.Second || got.Lease != 6*time.Second {
		t.Errorf("timings %+v, want Grace 3s and the default Lease", got)
	}
	if got := cl.ImagePath(); got != "/srv/shared/mnvm.img" {
		t.Errorf("image %s", got)
	}
}

func TestSamplesAreValid(t *testing.T) {
	for kind, image := range map[string]string{FileConf: "/srv/shared/mngt/mnvm.img", CephConf: "rbd:mngt/mnvm.img"} {
		t.Run(kind, func(t *testing.T) {
			data, err := Sample(kind, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			cl, faults, _ := Parse("s.json", data, Options{})
			wantFaults(t, faults)
			if cl.ImagePath() != image {
				t.Errorf("image %s, want %s", cl.ImagePath(), image)
			}
		})
	}
	// The worst random source still gives valid and distinct addresses.
	data, err := Sample(FileConf, bytes.NewReader(bytes.Repeat([]byte{0xff}, 12)))
	if err != nil {
		t.Fatal(err)
	}
	cl, faults, _ := Parse("s.json", data, Options{})
	wantFaults(t, faults)
	for _, n := range cl.Network {
		if hw, err := net.ParseMAC(n.MacAddress); err != nil || hw[0]&3 != 2 {
			t.Errorf("%s: not unicast and locally administered (%v)", n.MacAddress, err)
		}
	}
	if _, err := Sample("NfsConf", rand.Reader); err == nil {
		t.Error("an unknown kind was accepted")
	}
	if _, err := Sample(FileConf, strings.NewReader("x")); err == nil {
		t.Error("a random source that ends was accepted")
	}
}
