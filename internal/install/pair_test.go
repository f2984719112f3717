package install

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
)

func pairConfig() config.Cluster {
	account := func(user string) config.PairAccount {
		return config.PairAccount{User: user, Credential: "file:/etc/holdfast/" + user}
	}
	return config.Cluster{
		Node: testConfig().Node, Type: config.PairConf,
		Pair: &config.Pair{
			Nodes:    []string{"a", "b"},
			Database: &config.PairDatabase{Admin: account("admin"), Replication: account("replication")},
			Group:    []config.PairMember{{Unit: "tomcat.service"}, {VIP: "192.0.2.50/24"}},
		},
	}
}

// goodPair are two nodes and a voter without a hypervisor, on which nothing is wrong.
func goodPair() []sight {
	all := good()
	for i := range all {
		f := &all[i].facts
		f.KVM, f.Libvirt, f.QEMU, f.Memory, f.CPUs, f.Bridges, f.Mount, f.Image = false, "", "", 2<<10, 1, nil, nil, nil
		if i < 2 {
			f.Pair = &PairFacts{Version: "10.11.6", Used: 300, Free: 1000}
		}
	}
	all[2].facts.Watchdogs, all[2].facts.Arch = nil, "arm64" // it only votes
	return all
}

func TestJudgePair(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*config.Cluster, []sight)
		want []string
		say  string // in a finding
	}{
		{"all well", func(*config.Cluster, []sight) {}, nil, ""},
		{"a later database", func(_ *config.Cluster, s []sight) {
			s[0].facts.Pair.Version, s[1].facts.Pair.Version = "11.4.2", "11.4.3"
		}, nil, ""},
		{"an old database", func(_ *config.Cluster, s []sight) {
			s[0].facts.Pair.Version, s[1].facts.Pair.Version = "10.9.9", "10.9.9"
		}, []string{"fail a database", "fail b database"}, "10.11 or later"},
		{"two versions", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.Version = "11.4.2" }, []string{"warn  database"}, "11.4 on b"},
		{"a device", func(cl *config.Cluster, _ []sight) {
			cl.Pair.Device = &config.PairDevice{Disk: "/dev/vdb", Mount: "/srv/pair"}
		}, nil, ""},
		{"a device that can not be", func(cl *config.Cluster, s []sight) {
			cl.Pair.Device = &config.PairDevice{Disk: "/dev/vdb", Mount: "/srv/pair"}
			s[0].facts.Pair.Missing = DatabaseTools() // nothing is copied by them
			s[1].facts.Pair.Device = "the kernel has no DRBD"
		}, []string{"fail b device"}, "no DRBD"},
		{"no database", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.Program = "no such file" },
			[]string{"fail b database"}, "no such file"},
		{"no tools", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.Missing = []string{"mbstream"} },
			[]string{"fail b database tools"}, "mbstream"},
		{"a unit that runs", func(_ *config.Cluster, s []sight) {
			s[1].facts.Pair.Running,
				s[1].facts.Pair.Enabled = true, true
		}, []string{"fail b database unit"}, "mariadb.service runs and is enabled"},
		{"a unit that is enabled", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.Enabled = true },
			[]string{"fail b database unit"}, "is enabled"},
		{"no option file", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.OptionFile = "no my.cnf" },
			[]string{"fail b option file"}, "no my.cnf"},
		{"an option file that loses writes", func(_ *config.Cluster, s []sight) {
			s[1].facts.Pair.Lossy = []string{`binlog_ignore_db is "app"`}
		}, []string{"fail b option file"}, `could be lost: binlog_ignore_db is "app"`},
		{"a mount point", func(_ *config.Cluster, s []sight) { s[1].facts.Pair.Datadir = "a mount point" },
			[]string{"fail b data directory"}, "a mount point"},
		{"no room for the other node's data", func(_ *config.Cluster, s []sight) {
			s[0].facts.Pair.Used,
				s[0].facts.Pair.Free = 1001, 2000
		}, []string{"fail b data directory"}, "a second copy needs 1001"},
		{"no password", func(_ *config.Cluster, s []sight) {
			s[1].facts.Pair.Credentials = map[string]string{"/etc/holdfast/admin": "others may read it"}
		}, []string{"fail b credentials"}, "others may read it"},
		{"no interface", func(_ *config.Cluster, s []sight) {
			s[1].facts.Pair.VIPs = map[string]string{"192.0.2.50/24": "no interface is in its subnet"}
		}, []string{"fail b virtual address"}, "no interface"},
		{"a node that says nothing", func(_ *config.Cluster, s []sight) { s[1].facts.Pair = nil },
			[]string{"fail b database"}, "nothing of its database"},
		{"data that can not be read", func(_ *config.Cluster, s []sight) {
			s[1].facts.Unknown = map[string]string{"pair": "input/output error"}
		}, []string{"fail b database"}, "input/output error"},
		{"a node without a watchdog", func(_ *config.Cluster, s []sight) { s[1].facts.Watchdogs = nil }, []string{"warn b watchdog"}, ""},
		{"nodes of two architectures", func(_ *config.Cluster, s []sight) { s[1].facts.Arch = "arm64" },
			[]string{"fail  architecture"}, "arm64 on b"},
	} {
		cfg, all := pairConfig(), goodPair()
		c.edit(&cfg, all)
		got := judge(cfg, config.Node{}, all, nil, nil)
		if b := bad(got); !slices.Equal(b, c.want) {
			t.Errorf("%s: %q, want %q", c.name, b, c.want)
		}
		if c.say != "" && !slices.ContainsFunc(got, func(f Finding) bool { return f.Result != Pass && strings.Contains(f.Finding, c.say) }) {
			t.Errorf("%s: no finding says %q: %+v", c.name, c.say, got)
		}
		for _, f := range got {
			if f.Result == Fail && f.Remedy == "" {
				t.Errorf("%s: %s has no remedy", c.name, f.Check)
			}
		}
	}
}

// TestNodeOfPairStays: another voter may come, and no other node.
func TestNodeOfPairStays(t *testing.T) {
	for left, want := range map[int][]string{1: {"fail  member"}, 2: nil} {
		before, cfg := pairConfig(), pairConfig()
		cfg.Node = slices.Clone(cfg.Node)
		name := []string{"a", "b", "c"}[left]
		cfg.Node[left] = "192.0.2.99 z"
		pair := *cfg.Pair
		pair.Nodes = slices.Clone(pair.Nodes)
		if left < 2 {
			pair.Nodes[left] = "z"
		}
		cfg.Pair = &pair
		all := goodPair()
		all[left].host = Host{Name: "z", Addr: "192.0.2.99"}
		if b := bad(judge(cfg, config.Node{}, all, &before, nil)); !slices.Equal(b, want) {
			t.Errorf("another host in place of %s: %q, want %q", name, b, want)
		}
	}
}

// TestQueryOfPair: nodes are asked of the database, the voter is not, and nobody of libvirt.
func TestQueryOfPair(t *testing.T) {
	cfg := pairConfig()
	for _, h := range Members(cfg) {
		q := QueryFor(cfg, config.Node{}, h, "guest")
		if q.Socket != "" || q.ImageFolder != "" || q.RBD != nil || (q.Pair != nil) != (h.Name != "c") {
			t.Errorf("%s is asked %+v", h.Name, q)
		}
		if q.Pair != nil && (q.Pair.Database.Program != "/usr/sbin/mariadbd" || !slices.Equal(q.Pair.VIPs, []string{"192.0.2.50/24"})) {
			t.Errorf("%s is asked of %+v", h.Name, q.Pair)
		}
	}
	if q := QueryFor(testConfig(), config.Node{Libvirt: config.Libvirt{Socket: "/s"}}, Host{Name: "a"},
		"guest"); q.Socket != "/s" || q.Pair != nil {
		t.Errorf("a host of a management VM is asked %+v", q)
	}
	run := &run{Options: Options{Config: cfg}}
	if run.tls() {
		t.Error("a pair's hosts are to have libvirtd serve TLS")
	}
}
