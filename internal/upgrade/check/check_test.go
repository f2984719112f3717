package check

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

func TestAClusterThatIsWellPassesEverything(t *testing.T) {
	for _, f := range Run(*well()) {
		if f.Level == Warn || f.Level == Fail {
			t.Errorf("%+v", f)
		}
	}
}

// wrong is a change that one check must find, and what it says of it.
type wrong struct {
	check  string
	change func(in *Input)
	want   string // level, where, text
	remedy string // part of it
}

func allWrong() []wrong {
	return []wrong{
		{"facts", func(in *Input) { host(in, "h1").Down = true }, "fail h1: the host is down", "start"},
		{"facts", func(in *Input) { delete(in.Facts, "h1") }, "fail h1: the host has reported no facts", "agent"},
		{"facts", func(in *Input) { in.Facts["h1"] = fact.NoFacts("h1", testNow, "no answer within 1m0s") },
			"fail h1: the host has reported no facts (no answer within 1m0s), so it was not checked", "agent"},
		{"facts", func(in *Input) { host(in, "h1").Down, in.When, in.Left = true, After, []cluster.HostID{"h1"} },
			"warn h1: the host is down; it was left out", "start"},
		{"facts", func(in *Input) { in.Inventory = nil }, "fail : there is no host to check", "holdfast host list"},
		{"facts", func(in *Input) { in.Facts["h1"].Unknown = map[string]string{"os": "no file"} },
			"info h1: can not tell its operating system: no file", "reason"},
		{"facts", func(in *Input) { in.Facts["h1"].At = testNow.Add(-2 * time.Hour) },
			"warn h1: the facts of the host are 2h0m0s old", "restart the agent"},
		{"white-list", func(in *Input) { in.Manifest.UpgradeFrom[0].Version = "E0306" },
			"fail : E0303 is not on the white list of cas E0306, which has E0306", "upgrade path"},
		{"white-list", func(in *Input) { in.Mode = manifest.Offline },
			"fail : from E0303 (3.0) the upgrade is not allowed in the mode offline", "choose --mode rolling"},
		{"white-list", func(in *Input) { in.Manifest, in.From = nil, "" },
			"info : no bundle was given: what a bundle asks of the hosts is not checked", "--bundle FILE"},
		{"white-list", func(in *Input) { in.From, in.Inventory.Version = "", "" },
			"fail : it is not known which version is installed: no upgrade has told it yet", "--version V"},
		{"white-list", func(in *Input) { in.From = "E0306" }, "info : the cluster has E0306 already", ""},
		{"white-list", func(in *Input) { in.From = "what?" },
			`fail : the version "what?" and the patterns of the bundle follow no known version scheme`, "take the bundle"},
		{"white-list", func(in *Input) { in.Manifest.UpgradeFrom[0].ChangeSystemTables = true }, "info : the upgrade changes system tables", ""},
		{"same-version", func(in *Input) { in.Facts["h2"].Version = "E0302" },
			"warn h2: has version E0302, others have E0303; the bundle upgrades both", "why"},
		{"same-version", func(in *Input) { in.Facts["h2"].Version = "E0306" },
			"warn h2: has version E0306 already, others have E0303", "left out"},
		{"same-version", func(in *Input) { in.Facts["h2"].Version = "E0509H01" }, "fail h2: has version E0509H01, want E0303", "same version"},
		{"same-version", func(in *Input) { in.Facts["h2"].Version, in.Manifest.Mixed = "E0302", []string{"E0303"} },
			"fail h2: has version E0302, want E0303", "same version"},
		{"same-version", func(in *Input) { in.Facts["h2"].Version, in.Mode = "E0302", manifest.Offline },
			"fail h2: has version E0302, want E0303", "same version"},
		{"same-version", func(in *Input) { in.When, in.Facts["h2"].Version = Between, "E0509H01" },
			"fail h2: has version E0509H01, want E0303, E0306 or what", "same version"},
		{"same-version", func(in *Input) { in.When = After }, "fail cvm: has version E0303, want E0306", "upgrade the host"},
		{"same-version", func(in *Input) { in.Facts["h2"].Unknown = map[string]string{"version": "no file"} },
			"warn h2: can not tell the installed version: no file", "reason"},
		{"same-version", func(in *Input) { in.When, in.Left = After, []cluster.HostID{"h2"} },
			"warn h2: has version E0303, the others have E0306: it was left out", "by hand"},
		{"same-version", func(in *Input) { in.When, in.Back = After, true; in.Facts["h2"].Version = "E0306" },
			"fail h2: has version E0306, want E0303", "roll the host back"},
		{"same-version", func(in *Input) {
			in.When = After
			for _, f := range in.Facts {
				f.Version = ""
			}
		}, "warn : the current version of these hosts is not known: cvm, h1, h2, h3", "versionFile"},
		{"same-version", func(in *Input) {
			in.When, in.Manifest.Modules[0].Actions.Install, in.Facts["h2"].Version = After, allHosts(), ""
			in.Facts["cvm"].Version, in.Facts["h1"].Version, in.Facts["h3"].Version = "E0306", "E0306", "E0306"
		}, "fail : the current version of these hosts is not known: h2", "versionFile"},
		{"same-version", func(in *Input) {
			in.Manifest.Modules[0].Actions.Install = allHosts()
			in.Facts["h2"].Unknown = map[string]string{"version": "no file"}
		}, "fail h2: can not tell the installed version: no file", "reason"},
		{"same-version", func(in *Input) {
			in.Manifest.Modules[0].Actions.Install, in.Confirmed = allHosts(), []string{manifest.RuleReadBack}
			in.Facts["h2"].Unknown = map[string]string{"version": "no file"}
		}, "warn h2: can not tell the installed version: no file", "reason"},
		{"config-names", func(in *Input) { in.Facts["cvm"].Config[0].Bundle = []string{"a", "c"} },
			"fail cvm: db: the parameter names of /etc/db.json differ; only installed: b; only in the bundle: c", "db/db.json in the bundle"},
		{"config-names", func(in *Input) { in.Facts["cvm"].Config = nil }, "fail cvm: db: /etc/db.json was not compared", "upgrade the agent"},
		{"config-names", func(in *Input) { in.Facts["cvm"].Config[0].NotThere = true }, "fail cvm: db: /etc/db.json is not there", "restore"},
		{"config-names", func(in *Input) { in.Facts["cvm"].Config[0].NotStaged = true },
			"warn cvm: db: db/db.json of the bundle is not", "staged"},
		{"config-names", func(in *Input) { in.Facts["cvm"].Config[0].Why = "malformed JSON" }, "fail cvm: db: malformed JSON", "correct"},
		{"cluster-status", func(in *Input) { in.Facts["cvm"].Status.Exit = 1 },
			"fail cvm: check_status reports that the cluster is not healthy (exit code 1): well", "repeat the check"},
		{"free-space", func(in *Input) { in.Facts["h1"].Space.Free = 4 << 30 }, "fail h1: /opt has 4.0 GiB free, want 5.0 GiB", "free space"},
		{"free-space", func(in *Input) { in.Manifest.Modules[0].Files[0].Size = 11 << 30 },
			"fail h1: /opt has 20.0 GiB free, want 22.0 GiB", "free space"},
		{"free-space", func(in *Input) { delete(in.Facts, "h1"); host(in, "h1").FreeBytes = 1 << 30 },
			"fail h1: the unpack directory has 1.0 GiB free", "free space"},
		{"commands", func(in *Input) { in.Facts["h1"].Commands = nil }, "fail h1: commands are missing: tree", "apt-get install tree;"},
		{"commands", func(in *Input) { in.Facts["h1"].Commands, in.Facts["h1"].OS = nil, fact.OS{ID: "ctyunos"} },
			"fail h1: commands are missing: tree", "yum install tree;"},
		{"commands", func(in *Input) { in.Facts["h1"].Commands, in.Facts["h1"].OS = nil, fact.OS{ID: "x"} },
			"fail h1: commands are missing: tree", "install tree with the system's package manager"},
		{"commands", func(in *Input) { in.Manifest.Requires.Commands = []string{"multipath"} },
			"fail h1: commands are missing: multipath", "apt-get install multipath-tools;"},
		{"commands", func(in *Input) { delete(in.Facts, "h1"); host(in, "h1").Commands = []string{} },
			"fail h1: commands are missing: tree", "install tree"},
		{"python-modules", func(in *Input) { in.Facts["h1"].Python["requests"] = "No module named 'requests'" },
			"fail h1: Python can not import requests: No module named 'requests'", "pip3 install requests, or apt-get install python3-requests"},
		{"module-needs", func(in *Input) {
			in.Manifest.Modules[0].Actions.PreCheck = &manifest.Action{Packages: &manifest.Packages{RPM: []string{"x.rpm"}}}
			in.Facts["cvm"].Met = []fact.Met{{Module: "db", Why: "no package fits"}}
		}, "fail cvm: module db would be refused: no package fits", "correct that on the host"},
		{"module-needs", func(in *Input) {
			in.Manifest.Modules[0].Actions.Install = &manifest.Action{Packages: &manifest.Packages{Deb: []string{"x.deb"}}}
		}, "warn cvm: does not tell whether it has what module db needs", "upgrade its agent"},
		{"python-modules", func(in *Input) { in.Manifest.Requires.PythonModules = []string{"yaml"} },
			"fail h1: Python can not import yaml: the host was not asked about it", "pip3 install PyYAML, or apt-get install python3-yaml"},
		{"ha-state", func(in *Input) { in.When, in.Mode = Between, manifest.Reboot },
			"fail cvm: the platform's HA is on in the middle", "switch HA off"},
		{"ha-state", func(in *Input) { in.When, in.Manifest.RequiresReboot = Between, true },
			"warn cvm: the platform's HA is on while hosts are rebooted", "mode reboot"},
		{"ha-state", func(in *Input) { in.When, in.HABefore, in.Facts["cvm"].HA.Exit = After, new(true), 1 },
			"fail cvm: the platform's HA is off, it was on before", "switch HA on"},
		{"ha-state", func(in *Input) { in.When, in.Facts["cvm"].HA.Exit = After, 1 },
			"warn cvm: the platform's HA is off, and its state before the upgrade is not known", "switch HA on"},
		{"ha-state", func(in *Input) { in.Facts["cvm"].HA.Exit = 5 }, "warn cvm: the state of the platform's HA is not known", "tools"},
		{"ha-state", func(in *Input) { in.Facts["cvm"].HA = nil }, "warn : no host has reported whether the platform's HA is on", "tools"},
		{"ha-state", func(in *Input) { in.Facts["cvm"].HA.Exit = 1 }, "info cvm: the platform's HA is off, and stays off", ""},
		{"store-quorum", func(in *Input) { in.Store.Healthy = 2 },
			"warn : 2 of 3 members of the store are healthy, 2 are needed: the loss of one more costs the quorum", "bring"},
		{"store-quorum", func(in *Input) { in.Store.Healthy, in.Manifest.RequiresReboot = 2, true },
			"fail : 2 of 3 members of the store are healthy, 2 are needed: the loss of one costs the quorum", "bring"},
		{"store-quorum", func(in *Input) { in.Store.Healthy = 1 },
			"fail : 1 of 3 members of the store are healthy, 2 are needed: there is no quorum", "bring"},
		{"store-quorum", func(in *Input) { in.When, in.Store.Healthy = After, 2 }, "warn : 2 of 3", "bring"},
		{"store-quorum", func(in *Input) { in.Store = nil }, "warn : the state of the store is not known", "status"},
		{"replication", func(in *Input) {
			in.Facts["cvm"].Replication[0] = fact.Probe{Name: "slave", Exit: 2,
				Text: "lag 90 s"}
		}, "fail cvm: slave is not healthy (exit code 2): lag 90 s", "caught up"},
		{"last-backup", func(in *Input) { in.Facts["cvm"].LastBackup = testNow.Add(-30 * time.Hour) },
			"warn : the last backup was made at 2026-03-25 04:34:48, 30h0m0s ago", "new backup"},
		{"last-backup", func(in *Input) { in.Facts["cvm"].LastBackup = time.Time{} }, "warn : no host has a backup", "make a backup"},
		{"time-skew", func(in *Input) { host(in, "h1").SkewMillis = -1500 }, "warn h1: the clock is off by -1.5s", "time server"},
		{"time-skew", func(in *Input) { host(in, "h1").SkewMillis = 31000 }, "fail h1: the clock is off by 31s", "time server"},
		{"time-skew", func(in *Input) { in.Facts["h1"].Clock.Synced = false },
			"warn h1: the clock follows no time server (chrony says so)", "time server"},
		{"time-skew", func(in *Input) { in.Facts["h1"].Clock.OffsetMS = 3000 }, "warn h1: the clock is 3s off its time server", "time server"},
		{"kernel", func(in *Input) { in.Facts["h1"].Kernel.Next = "4.14.0" },
			"warn h1: runs the kernel 4.1.0, a reboot would start 4.14.0", "who"},
		{"kernel", func(in *Input) { in.When, in.Next, in.Manifest.Kernel = Between, []cluster.HostID{"h1"}, "4.14.0" },
			"fail h1: a reboot would start the kernel 4.1.0, want 4.14.0", "boot loader"},
		{"kernel", func(in *Input) { in.When, in.Done, in.Manifest.Kernel = Between, []cluster.HostID{"h1"}, "4.14.0" },
			"fail h1: runs the kernel 4.1.0, want 4.14.0", "reboot"},
		{"kernel", func(in *Input) { in.When, in.Facts["h1"].Kernel.Next = After, "4.14.0" },
			"warn h1: the kernel 4.14.0 is installed, but 4.1.0 runs", "reboot"},
		{"kernel", func(in *Input) { delete(in.Facts, "h1"); h := host(in, "h1"); h.Kernel, h.NextKernel = "a", "b" },
			"warn h1: runs the kernel a, a reboot would start b", ""},
		{"capacity", func(in *Input) { in.Inventory.VMs[0].MemoryMiB = 65 << 10 },
			"fail h1: can not be emptied with any placement of guests: a (66560 MiB, 4 CPUs) is larger than every other host", "add a host"},
		{"migratable", func(in *Input) {
			in.Inventory.VMs[0].Fixed = []string{"host device 0000:3b:00.0",
				"local disk"}
		}, "fail a: can not move live: host device 0000:3b:00.0, local disk", "stop, cold or skip"},
		{"migratable", func(in *Input) {
			in.Inventory.VMs[0].Fixed, in.Policies = []string{"x"}, map[string]inventory.Policy{"a": inventory.PolicyStop}
		}, "info a: can not move live (x): it is shut down while", ""},
		{"migratable", func(in *Input) { in.Inventory.VMs[0].Fixed, in.Policy = []string{"x"}, inventory.PolicySkip },
			"warn a: can not move live (x): its host h1 is left out", "by hand"},
		{"migratable", func(in *Input) {
			v := &in.Inventory.VMs[0]
			v.Fixed, v.Policy = []string{"x"},
				inventory.PolicyStop
		}, "info a: can not move live (x): it is shut down while", ""},
		{"migratable", func(in *Input) {
			v := &in.Inventory.VMs[0]
			v.Fixed, v.Policy = []string{"x"},
				inventory.PolicyCold
		}, "info a: can not move live (x): it is shut down and started", ""},
		{"migratable", func(in *Input) { in.From, in.Inventory.VMs[0].System = "E0218H06", "CentOS 6.5" },
			"fail a: can not move live: CentOS 6.5 may hang", "stop, cold or skip"},
		{"migratable", func(in *Input) { in.From, in.Inventory.VMs[0].MemoryMiB = "E0209H11", 32<<10 },
			"warn a: has 32768 MiB: live migrations", "cold"},
		{"migratable", func(in *Input) { host(in, "h3").CPUModel = "Haswell" },
			"info g: hosts of the group g have different CPU models: Haswell, Skylake", ""},
		{"dirty-rate", func(in *Input) { in.Inventory.VMs[0].Dirty = 110 },
			"fail a: changes 110 MiB/s of its memory, the migration network carries 110", "quieter"},
		{"dirty-rate", func(in *Input) {
			in.Inventory.VMs[0].Dirty = 110
			for i := range in.Inventory.Hosts {
				in.Inventory.Hosts[i].LinkMiBps = 200
			}
		}, "warn a: changes 110 MiB/s of its memory, the migration network carries 200", "quieter"},
		{"dirty-rate", func(in *Input) { in.Inventory.VMs[0].Dirty = 60 }, "warn a: changes 60 MiB/s", "quieter"},
		{"busy-guests", func(in *Input) { in.Inventory.VMs[2].Busy = "snapshot" }, "warn off: is busy: snapshot", "wait for its end"},
		{"single-path", func(in *Input) {
			h := host(in, "h1")
			h.Pools = append(h.Pools, inventory.Pool{Name: "iscsi-tt", Kind: "ocfs2", Shared: true, Paths: 1},
				inventory.Pool{Name: "iscsi-t", Kind: "ocfs2", Shared: true, Paths: 1})
		}, "warn iscsi-t iscsi-tt: The CVK(h1) have single path ocfs2 pools: [iscsi-t iscsi-tt ], please remove " +
			"them, and then add back", "multipath"},
		{"single-path", func(in *Input) {
			in.Facts["h1"].Mounts = []fact.Mount{{Name: "x", Dir: "/vms/x", Kind: "ocfs2", Device: "/dev/sdc", Paths: 1}}
		}, "warn x: The CVK(h1) have single path ocfs2 pools: [x ]", "reboot"},
		{"storage-paths", func(in *Input) { in.Facts["h1"].ISCSI = nil },
			"warn h1: has no session to iSCSI targets that other hosts of its group use: iqn.a", "--login"},
		{"storage-paths", func(in *Input) { in.Facts["h1"].FC[0].State = "Linkdown" },
			"warn h1: the Fibre Channel port host1 is Linkdown", "cable"},
		{"storage-paths", func(in *Input) {
			in.Facts["h1"].Maps[0].Paths[1] = fact.Path{Device: "sdb", State: "failed faulty", Up: false}
		}, "warn mpatha: multipath device mpatha: paths are down: sdb (failed faulty)", "restore"},
		{"storage-paths", func(in *Input) { in.Facts["h1"].Maps[0].Paths = nil },
			"fail mpatha: multipath device mpatha: no path is up", "restore"},
		{"o2cb", func(in *Input) { in.Facts["h1"].O2CB.Configured = 31 },
			"warn h1: O2CB_HEARTBEAT_THRESHOLD is 31 in the configuration, want 61", "first suspend all shared pools"},
		{"o2cb", func(in *Input) {
			in.Facts["h1"].O2CB.Configured, in.Scheme = 31, version.SemVer
		}, "warn h1: O2CB_HEARTBEAT_THRESHOLD is 31", "next reboot"},
		{"o2cb", func(in *Input) { in.Facts["h1"].O2CB.Configured = 0 }, "warn h1: O2CB_HEARTBEAT_THRESHOLD is not set", "suspend"},
		{"o2cb", func(in *Input) { in.Facts["h1"].O2CB.Configured, in.Facts["h1"].Version = 31, "E0306" },
			"warn h1: O2CB_HEARTBEAT_THRESHOLD is 31", "while pools are in use"},
		{"o2cb", func(in *Input) { in.Facts["h1"].O2CB.Active = 31 },
			"fail : hosts use different O2CB heartbeat thresholds and would refuse each other: 31 on h1; 61 on cvm, h2, h3", "same threshold"},
		{"pin", func(in *Input) {
			in.Pin = []string{"br-int"}
			in.Facts["h1"].Bridges = []fact.Bridge{{Name: "br-int", Why: "it has a meter"}}
		}, "fail h1: bridge br-int can not be pinned: it has a meter", "leave the bridge out"},
		{"template-storage", func(in *Input) { in.When, in.Next = Between, []cluster.HostID{"h1"} },
			"fail h1: is about to be rebooted with storage pools attached: iso, p", "detach"},
		{"template-storage", func(in *Input) { in.When = After; host(in, "h1").Pools[0].Active = false },
			"fail p: the pool p (ocfs2) is not active after the upgrade", "start the pool"},
		{"template-storage", func(in *Input) {
			in.When = After
			host(in, "h1").Pools[0] = inventory.Pool{Name: "old",
				Kind: "dir"}
		}, "warn old: the pool old (dir) is not active after the upgrade", "start the pool"},
		{"template-storage", func(in *Input) {}, "info h1: template storage is attached; the run detaches it", ""},
		{"template-storage", func(in *Input) { in.Manifest.RequiresReboot = true; host(in, "h1").Pools = nil },
			"info h1: 1 iSCSI sessions: the run detaches shared storage", ""},
	}
}

func TestEachCheckFindsWhatIsWrong(t *testing.T) {
	tried := map[string]bool{}
	for _, w := range allWrong() {
		in := well()
		w.change(in)
		var got []string
		found := false
		for _, f := range only(t, w.check, in) {
			line := fmt.Sprintf("%s %s: %s", f.Level, f.Where, f.Text)
			got = append(got, line+" / "+f.Remedy)
			found = found || strings.HasPrefix(line, w.want) && strings.Contains(f.Remedy, w.remedy) && f.Check == w.check
			if (f.Level == Fail || f.Level == Warn) && f.Remedy == "" {
				t.Errorf("%s: %s: it has no remedy", w.check, line)
			}
		}
		if !found {
			t.Errorf("%s:\ngot  %s\nwant %s / %s", w.check, strings.Join(got, "\n     "), w.want, w.remedy)
		}
		if !strings.HasPrefix(w.want, "info") {
			tried[w.check] = true
		}
	}
	for _, c := range List() {
		if !tried[c.ID] {
			t.Errorf("no test makes %s warn or fail", c.ID)
		}
	}
}

func TestHostsThatAreDownAreNotAskedFor(t *testing.T) {
	in := well()
	host(in, "h1").Down = true
	delete(in.Facts, "h1")
	for _, f := range Run(*in) {
		if f.Host == "h1" && f.Scope == ScopeHost && f.Check != "facts" {
			t.Errorf("%+v", f)
		}
	}
}

func TestWhatIsNotKnownIsNeverOK(t *testing.T) {
	for _, fact := range factNames() {
		in := well()
		in.Facts["cvm"].Unknown = map[string]string{fact: "the tool is broken"}
		if !slices.ContainsFunc(Run(*in), func(f Finding) bool {
			return f.Host == "cvm" && f.Text == "can not tell "+factName(fact)+": the tool is broken" && factName(fact) != fact && f.Level != OK
		}) {
			t.Errorf("nobody says that %q is not known", fact)
		}
	}
}

// factNames are the JSON names of what a host may not know.
func factNames() []string {
	var out []string
	typ := reflect.TypeFor[fact.Facts]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name != "host" && name != "at" && name != "unknown" {
			out = append(out, name)
		}
	}
	return out
}

func TestChecksAreListed(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range List() {
		if ids[c.ID] || c.Title == "" || len(c.When) == 0 || !strings.HasSuffix(c.Doc, ".") ||
			strings.Trim(c.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%+v", c)
		}
		ids[c.ID] = true
	}
}

func TestOnlyChecksOfThatPointRun(t *testing.T) {
	for _, when := range []When{Before, Between, After} {
		in := well()
		in.When = when
		ran := map[string]bool{}
		for _, f := range Run(*in) {
			ran[f.Check] = true
		}
		for _, c := range List() {
			if ran[c.ID] != slices.Contains(c.When, when) {
				t.Errorf("%s %s: ran %v", when, c.ID, ran[c.ID])
			}
		}
	}
}

func TestAnEmptyInputIsNoCrash(t *testing.T) {
	if fs := Run(Input{}); Worst(fs) != Fail {
		t.Errorf("%+v", fs)
	}
}

func TestOnlineO2CB(t *testing.T) {
	for v, want := range map[string]bool{"E0306": true, "E0306H01": true, "E0705": true, "E0303": false, "2.0": false,
		"V500R001": false, "": false, "2.0.0.B086": false} {
		if OnlineO2CB(v) != want {
			t.Errorf("%s: %v", v, !want)
		}
	}
	if n := O2CBThreshold(120 * time.Second); n != 61 {
		t.Errorf("%d", n)
	}
}

func TestMixedVersionsMayRunDuringTheRun(t *testing.T) {
	in := well()
	in.When, in.Scheme, in.Manifest.Mixed = Between, version.CAS, []string{"E0302"}
	in.Facts["h1"].Version, in.Facts["h2"].Version = "E0302", "E0306"
	if fs := only(t, "same-version", in); Worst(fs) != OK {
		t.Errorf("%+v", fs)
	}
}
