package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPairDefaults(t *testing.T) {
	cl, faults, warnings := Parse("pair.json", []byte(fixture(t, "pair.json")), Options{})
	wantFaults(t, faults)
	if len(warnings) > 0 {
		t.Errorf("warnings %v", warnings)
	}
	p := cl.Pair.Full()
	if time.Duration(p.Patience) != 2*time.Second || p.Database.Program != "/usr/sbin/mariadbd" ||
		p.Database.Port != 3306 || p.Database.Datadir != "/var/lib/mysql" {
		t.Errorf("defaults: %+v, %+v", p, p.Database)
	}
	if p.Database.Admin.File() != "/etc/holdfast/database-admin" {
		t.Errorf("the file of a password: %s", p.Database.Admin.File())
	}
	var names []string
	var restarts []int
	for _, m := range p.Group {
		names, restarts = append(names, m.Name), append(restarts, *m.Restarts)
	}
	if !slices.Equal(names, []string{"tomcat.service", "indexer", "webip"}) || !slices.Equal(restarts, []int{2, 0, 2}) {
		t.Errorf("members %v, %v", names, restarts)
	}
	if cl.Pair.Group[0].Name != "" {
		t.Error("Full has changed what it was called on")
	}
	if p.Peer("cvm1") != "cvm2" || p.Peer("cvm2") != "cvm1" || p.Peer("arbiter") != "" {
		t.Error("the peers are wrong")
	}
	again, faults, _ := Parse("written.json", cl.JSON(), Options{})
	wantFaults(t, faults)
	if !reflect.DeepEqual(cl, again) {
		t.Errorf("read back as %s", again.JSON())
	}
}

func TestPairFaults(t *testing.T) {
	const vip = `"VIP": "172.16.60.55/16"`
	runFaultsOf(t, "pair.json", []faultCase{
		one("a VM's size", `"Type": "PairConf",`, `"Type": "PairConf", "CPU": 4, "MemorySizeInGB": 8, "ImageFolder": "/srv/x",`,
			`CPU: allowed only`, `MemorySizeInGB: allowed only with a management VM`, `ImageFolder: allowed only`),
		one("a pair beside a VM", `"Type": "PairConf"`, `"Type": "FileConf"`, `MemorySizeInGB: want`, `CPU: want`,
			`ImageFolder: want`, `DNS: want`, `Network: want`, `Pair: allowed only with Type PairConf`),
		one("a node that is no host", `"Nodes": ["cvm1", "cvm2"]`, `"Nodes": ["cvm1", "cvm9"]`,
			`Pair.Nodes[1]: value "cvm9": want the name of a host of Node`),
		one("one node twice", `"Nodes": ["cvm1", "cvm2"]`, `"Nodes": ["cvm1", "cvm1"]`,
			`Pair.Nodes: value "cvm1 cvm1": want the names of two hosts`),
		one("an address of a node", vip, `"VIP": "172.16.60.52/16"`,
			`Pair.Group[2].VIP: value "172.16.60.52/16": want an address that no host of Node has`),
		one("a network's address", vip, `"VIP": "172.16.0.0/16"`, `Pair.Group[2].VIP: value "172.16.0.0/16": want ADDRESS/LENGTH`),
		one("an address without length", vip, `"VIP": "172.16.60.55"`, `Pair.Group[2].VIP: want ADDRESS/LENGTH`),
		one("two kinds at once", vip, vip+`, "Unit": "x.service"`, `Pair.Group[2]: want one of VIP, Unit`),
		one("no kind", vip, `"Restarts": 1`, `Pair.Group[2]: want one of VIP, Unit`),
		one("a unit without suffix", `"Unit": "tomcat.service"`, `"Unit": "tomcat"`, `Pair.Group[0].Unit: value "tomcat": want the whole name`),
		one("programs without a stop", `"Stop": ["/opt/indexer/ctl", "stop"], `, ``, `Pair.Group[1].Stop: want a program`),
		one("a program that is looked for", `"Start": ["/opt/indexer/ctl"`, `"Start": ["ctl"`,
			`Pair.Group[1].Start[0]: value "ctl": want an absolute path`),
		one("a name twice", `"Name": "webip"`, `"Name": "indexer"`,
			`Pair.Group[2].Name: value "indexer": names must be unique; Pair.Group[1] has the same`),
		one("a password itself", `"file:/etc/holdfast/database-admin"`, `"secret"`,
			`Pair.Database.Admin.Credential: value "(not shown)": want file:/PATH`),
		one("one account for both", `"User": "replication"`, `"User": "holdfast"`,
			`Pair.Database.Replication.User: value "holdfast": want another account`),
		one("little patience", `"Group": [`, `"Patience": "10ms", "Group": [`, `Pair.Patience: value "10ms": want 500ms to 1m`),
		one("a hang that a slow disk is taken for", `"Group": [`, `"HangTimeout": "1999ms", "Group": [`,
			`Pair.HangTimeout: value "1.999s": want 2s to 1m`),
		one("no time for a hang", `"Group": [`, `"HangTimeout": "0s", "Group": [`, `Pair.HangTimeout: value "0s": want a duration above 0`),
		one("a hang that nobody ends", `"Group": [`, `"HangTimeout": "61s", "Group": [`, `Pair.HangTimeout: value "1m1s": want 2s to 1m`),
		one("no database", `"Database": {`, `"Databases": {`, `Pair.Databases: nearest known one is "Database"`),
	})
}

// TestHangTimeout is by the profile, unless it is given.
func TestHangTimeout(t *testing.T) {
	for _, c := range []struct {
		given string
		want  time.Duration
	}{
		{``, 8 * time.Second},
		{`"Timings": {"Profile": "default"}, `, 8 * time.Second},
		{`"Timings": {"Profile": "fast"}, `, 4 * time.Second},
		{`"Timings": {"Profile": "fast"}, "Pair": {"HangTimeout": "2s", `, 2 * time.Second},
		{`"Pair": {"HangTimeout": "1m", `, time.Minute},
	} {
		text := fixture(t, "pair.json")
		timings, pair, _ := strings.Cut(c.given, `"Pair": {`)
		text = strings.Replace(text, `"Type": "PairConf",`, timings+`"Type": "PairConf",`, 1)
		text = strings.Replace(text, `"Pair": {`, `"Pair": {`+pair, 1)
		cl, faults, _ := Parse("pair.json", []byte(text), Options{})
		wantFaults(t, faults)
		if got := cl.HangTimeout(); got != c.want {
			t.Errorf("%s: %s, want %s", c.given, got, c.want)
		}
	}
}

func TestSecondPath(t *testing.T) {
	path := func(v string) []edit { return []edit{{`"Group": [`, `"SecondPath": [` + v + `], "Group": [`}} }
	runFaultsOf(t, "pair.json", []faultCase{
		{"two addresses", path(`"10.0.1.1", "10.0.1.2"`), nil},
		{"IPv6", path(`"fd00::1", "fd00::2"`), nil},
		{"one address", path(`"10.0.1.1"`), []string{`Pair.SecondPath: value "10.0.1.1": want two addresses`}},
		{"a name", path(`"cvm1", "10.0.1.2"`), []string{`Pair.SecondPath[0]: value "cvm1": want an IP address of cvm1 in a second network`}},
		{"a scope", path(`"10.0.1.1", "fe80::1"`), []string{`Pair.SecondPath[1]: value "fe80::1": want an IP address of cvm2`}},
		{"loopback", path(`"127.0.0.1", "10.0.1.2"`), []string{`Pair.SecondPath[0]: value "127.0.0.1": want an IP address`}},
		{"the first path again", path(`"172.16.60.51", "10.0.1.2"`),
			[]string{`Pair.SecondPath[0]: value "172.16.60.51": want an address that is no host's in Node`}},
		{"the third host", path(`"10.0.1.1", "172.16.60.53"`),
			[]string{`Pair.SecondPath[1]: value "172.16.60.53": want an address that is no host's`}},
		{"the virtual address", path(`"10.0.1.1", "172.16.60.55"`),
			[]string{`Pair.SecondPath[1]: value "172.16.60.55": want an address that is no host's in Node, not virtual`}},
		{"one for both", path(`"10.0.1.1", "10.0.1.1"`), []string{`Pair.SecondPath[1]: value "10.0.1.1": want an address`}},
		{"two kinds", path(`"10.0.1.1", "fd00::2"`), []string{`Pair.SecondPath: value "10.0.1.1 fd00::2": want both IPv4 or both IPv6`}},
		{"a pinged one", []edit{twoNodes, {`"Group": [`,
			`"SecondPath": ["172.16.0.1", "10.0.1.2"], "Arbiter": {"Ping": ["172.16.0.1", "172.16.0.2"]}, "Group": [`}},
			[]string{`Pair.SecondPath[0]: value "172.16.0.1": want an address`}},
	})
	p := Pair{Nodes: []string{"a", "b"}, SecondPath: []string{"10.0.1.1", "10.0.1.2"}}
	if own, there, ok := p.Second("b"); !ok || own.String() != "10.0.1.2" || there.String() != "10.0.1.1" {
		t.Errorf("of b: %s, %s, %v", own, there, ok)
	}
	if _, _, ok := p.Second("voter"); ok {
		t.Error("a host that is no node has a second path")
	}
}

// twoNodes takes the third voter off.
var twoNodes = edit{`, "172.16.60.53 arbiter"]`, `]`}

const fencedNodes = `"Type": "PairConf", "Fencing": {
    "cvm1": {"Devices": [{"Type": "ipmi", "Address": "172.16.61.1", "User": "u", "Credential": "file:/etc/holdfast/bmc"}]},
    "cvm2": {"Devices": [{"Type": "ipmi", "Address": "172.16.61.2", "User": "u", "Credential": "file:/etc/holdfast/bmc"}]}},`

func TestPairArbiter(t *testing.T) {
	fencing := edit{`"Type": "PairConf",`, fencedNodes}
	fence := func(v string) edit { return edit{`"Group": [`, `"Arbiter": {"Fence": ` + v + `}, "Group": [`} }
	pings := func(v string) edit { return edit{`"Group": [`, `"Arbiter": {"Ping": [` + v + `]}, "Group": [`} }
	split := func(v string) edit { return edit{`"Group": [`, `"SplitBrain": "` + v + `", "Group": [`} }
	disk := func(v string) edit { return edit{`"Group": [`, `"Arbiter": {"Disk": ` + v + `}, "Group": [`} }
	runFaultsOf(t, "pair.json", []faultCase{
		{"two nodes and their fence devices", []edit{twoNodes, fencing, fence("true")}, nil},
		{"two nodes without an arbiter", []edit{twoNodes, fencing},
			[]string{`Pair.Arbiter: want {"Fence": true}, {"Disk": "PATH"}, {"Ping": ["IP", "IP"]}, or a third host`}},
		{"an arbiter that is none", []edit{twoNodes, fencing, fence("false")},
			[]string{`Pair.Arbiter: want one of Fence, true, and Disk and Ping`}},
		{"two addresses", []edit{twoNodes, pings(`"172.16.0.1", "172.16.0.2"`)}, nil},
		{"pings and fence devices", []edit{twoNodes, fencing,
			{`"Group": [`, `"Arbiter": {"Fence": true, "Ping": ["172.16.0.1", "172.16.0.2"]}, "Group": [`}}, []string{`Pair.Arbiter: want one of`}},
		{"a disk", []edit{twoNodes, disk(`"/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"`)}, nil},
		{"a disk by a way that is no path", []edit{twoNodes, disk(`"votes"`)},
			[]string{`Pair.Arbiter.Disk: value "votes": want an absolute path`}},
		{"a person decides", []edit{twoNodes, split("manual"), pings(`"172.16.0.1", "172.16.0.2"`)}, nil},
		{"somebody decides", []edit{twoNodes, split("ask"), pings(`"172.16.0.1", "172.16.0.2"`)},
			[]string{`Pair.SplitBrain: value "ask": want auto or manual`}},
		{"a split that can not be", []edit{split("auto")},
			[]string{`Pair.SplitBrain: value "auto": allowed only where Node has exactly the two nodes`}},
		{"one address", []edit{twoNodes, pings(`"172.16.0.1"`)}, []string{`Pair.Arbiter.Ping: value "1 addresses": want two`}},
		{"the same twice", []edit{twoNodes, pings(`"172.16.0.1", "172.16.0.1"`)},
			[]string{`Pair.Arbiter.Ping[1]: value "172.16.0.1": want the IP address of another machine`}},
		{"a node and the virtual address", []edit{twoNodes, pings(`"172.16.60.51", "172.16.60.55"`)},
			[]string{`Pair.Arbiter.Ping[0]: value "172.16.60.51": want`, `Pair.Arbiter.Ping[1]: value "172.16.60.55": want`}},
		{"two nodes without devices", []edit{twoNodes, fence("true")},
			[]string{`Fencing.cvm1.Devices: want a device`, `Fencing.cvm2.Devices: want a device`}},
		{"an arbiter beside a third voter", []edit{fencing, fence("true")},
			[]string{`Pair.Arbiter: allowed only where Node has exactly the two nodes`}},
	})
	runFaults(t, []faultCase{one("two nodes of a VM", `, "192.0.2.13 h3"]`, `]`,
		`Node: value "2 nodes": want an odd number`, `Network[1].Ipaddr: value "198.51.102.3@h3": unknown host`,
		`Network[1].Gateway: value "198.51.102.1@h3": unknown host`)})
}

// TestCredentialFiles: a report must know the secrets of all of them.
func TestCredentialFiles(t *testing.T) {
	cl := Cluster{VNC: &VNC{Credential: "file:/a"}, Ceph: Ceph{Credential: "file:/b"}}
	cl.Fencing.Hosts = map[string]HostFencing{"h1": {Devices: []FenceDevice{{Credential: "file:/c"}, {Credential: "file:/a"}}}}
	cl.Pair = &Pair{Device: &PairDevice{Credential: "file:/d"},
		Database: &PairDatabase{Admin: PairAccount{Credential: "file:/e"}, Replication: PairAccount{Credential: "file:/f"}}}
	if got := cl.CredentialFiles(); !slices.Equal(got, []string{"/a", "/b", "/c", "/d", "/e", "/f"}) {
		t.Errorf("%q", got)
	}
}
