package install

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
)

func testConfig() config.Cluster {
	return config.Cluster{
		Node: []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.3 c"}, MemorySizeInGB: 8, CPU: 4, Type: config.FileConf, ImageFolder: "/srv/vm",
		Network: []config.Network{{Bridge: "br0", IsMgmt: true}},
	}
}

// good are three hosts on which nothing is wrong.
func good() (out []sight) {
	for _, h := range Members(testConfig()) {
		out = append(out, sight{host: h, facts: Facts{
			Arch: "amd64", Machine: "uuid-" + h.Name, Root: true, Systemd: true, KVM: true, Libvirt: "9.0.0", QEMU: "7.2.0",
			Memory: 32 << 10, CPUs: 8, Watchdogs: []string{"/dev/watchdog0"}, Link: &Link{Name: "bond0", MTU: 9000},
			Bridges: map[string]Bridge{"br0": {Exists: true, Carrier: true}},
			Mount:   &Mount{Dir: "/srv/vm", Kind: "nfs4", Source: "nas:/vm", AtBoot: true},
			Image:   &Image{Format: "qcow2", Size: 1 << 30}, Space: map[string]int64{"/opt/holdfast/bin": 10 << 10, "/var/lib/holdfast": 10 << 10},
			Clock: Clock{Synced: true, By: "chrony"},
		}})
	}
	return out
}

// inPool puts the image into a pool, and edits what the second host sees of it.
func inPool(edit func(*Pool)) func(*config.Cluster, *config.Node, []sight) {
	return func(cfg *config.Cluster, _ *config.Node, all []sight) {
		cfg.Type, cfg.PoolName, cfg.ImageFolder = config.CephConf, "mngt", ""
		for i := range all {
			all[i].facts.Mount, all[i].facts.Image = nil, nil
			all[i].facts.Pool = &Pool{ID: "cluster/image", Size: 1 << 30, Format: "raw"}
			if i == 1 && edit != nil {
				edit(all[i].facts.Pool)
			}
		}
	}
}

func bad(f []Finding) (out []string) {
	for _, f := range f {
		if f.Result != Pass {
			out = append(out, f.Result+" "+f.Node+" "+f.Check)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*config.Cluster, *config.Node, []sight)
		want []string
		say  string // in a finding
	}{
		{"all well", func(*config.Cluster, *config.Node, []sight) {}, nil, ""},
		{"a pool", inPool(nil), nil, ""},
		{"a pool that can not be used", inPool(func(p *Pool) { p.Error = "no monitor" }), []string{"fail b image"}, "no monitor"},
		{"another pool", inPool(func(p *Pool) { p.ID = "other" }), []string{"fail  image"}, "differs"},
		{"no raw image in a pool", inPool(func(p *Pool) { p.Format = "qcow2" }), []string{"fail b image"}, "qcow2"},
		{"an image in a pool that somebody has open", inPool(func(p *Pool) { p.Open = []string{"192.0.2.9:0/1"} }),
			[]string{"fail b image"}, "192.0.2.9:0/1"},
		{"not root", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Root = false }, []string{"fail b rights"}, "root"},
		{"no systemd", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Systemd = false }, []string{"fail b systemd"}, ""},
		{"little memory", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Memory = 8 << 10 }, []string{"fail b memory"}, "9216"},
		{"few processors", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.CPUs = 2 }, []string{"warn b cpus"}, ""},
		{"no room", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Space["/var/lib/holdfast"] = 100 },
			[]string{"fail b space"}, "100 MiB"},
		{"a clock behind", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].skew = -2 * time.Second }, []string{"fail b clock"}, "-2s"},
		{"the installer's clock", func(_ *config.Cluster, _ *config.Node, s []sight) {
			for i := range s {
				s[i].skew = time.Hour
			}
		}, nil, ""},
		{"no time server", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Clock.Synced = false },
			[]string{"warn b time server"}, ""},
		{"its own time server", func(c *config.Cluster, _ *config.Node, s []sight) {
			c.ChronyServers = []string{"192.0.2.2"}
			s[1].facts.Clock.Servers = []string{"192.0.2.2"}
		}, []string{"fail b time source"}, "itself"},
		{"a time server of others", func(c *config.Cluster, _ *config.Node, s []sight) {
			c.ChronyServers = []string{"192.0.2.2"}
			s[1].facts.Clock.Servers = []string{"time.example"}
		}, nil, ""},
		{"no watchdog", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Watchdogs = nil
			s[1].facts.Softdog = true
		}, []string{"warn b watchdog"}, "nothing is started elsewhere"},
		{"no libvirt", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Unknown = map[string]string{"libvirt": "no such file"}
			s[1].facts.Libvirt, s[1].facts.QEMU = "", ""
		}, []string{"fail b libvirt"}, "no such file"},
		{"emulation", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.KVM = false }, []string{"warn b kvm"}, ""},
		{"a guest that runs", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Domain = "running" },
			[]string{"fail b guest"}, "running"},
		{"another address", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Link = nil },
			[]string{"fail b address"}, "192.0.2.2"},
		{"no bridge", func(_ *config.Cluster, _ *config.Node, s []sight) { delete(s[1].facts.Bridges, "br0") }, []string{"fail b bridge"}, "br0"},
		{"no link", func(_ *config.Cluster, _ *config.Node,
			s []sight) {
			s[1].facts.Bridges["br0"] = Bridge{Exists: true}
		}, []string{"fail b link"}, "br0"},
		{"a bond", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Link.Bond = []string{"p1 of bond0 is down"}
		}, []string{"warn b bond"}, "p1"},
		{"a taken port", func(_ *config.Cluster, _ *config.Node,
			s []sight) {
			s[1].facts.Ports = map[int]string{2379: "in use"}
		}, []string{"fail b ports"}, "2379"},
		{"a firewall", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].reached = []Reached{{Host: "c", Ports: map[int]string{7443: "timeout"}}}
		}, []string{"fail b reach"}, "7443"},
		{"a firewall that is opened", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].reached = []Reached{{Host: "c", Ports: map[int]string{7443: "timeout"}}}
			s[2].facts.Firewall, s[2].opens = &Firewall{Kinds: []string{"ufw"}, Where: []string{"ufw"}}, &Openings{}
		}, []string{"warn b reach"}, "does not answer yet"},
		{"a firewall that is left alone", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].reached = []Reached{{Host: "c", Ports: map[int]string{7443: "timeout"}}}
			s[2].facts.Firewall = &Firewall{Kinds: []string{"ufw"}, Where: []string{"ufw"}}
		}, []string{"fail b reach"}, "7443"},
		{"a firewall that says nothing", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Unknown = map[string]string{"firewall": "nft: no such file"}
		}, []string{"warn b firewall"}, "no such file"},
		{"small frames", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].reached = []Reached{{Host: "c", Frames: "frames of 9000 bytes get no answer"}}
		}, []string{"warn b mtu"}, "9000"},
		{"another MTU", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Link.MTU = 1500 }, []string{"warn  mtu"}, "1500 on b"},
		{"another directory", func(_ *config.Cluster, _ *config.Node,
			s []sight) {
			s[1].nonce = errors.New("not the same directory")
		}, []string{"fail b shared directory"}, "not the same"},
		{"a local directory", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Mount.Kind = "ext4" },
			[]string{"warn b shared directory"}, "ext4"},
		{"a directory that is shared by word", func(_ *config.Cluster, n *config.Node, s []sight) {
			n.Libvirt.Shared = []string{"/srv"}
			s[1].facts.Mount.Kind = "ext4"
		}, nil, ""},
		{"mounted by hand", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Mount.AtBoot = false },
			[]string{"warn b mounted at boot"}, ""},
		{"no image", func(_ *config.Cluster, _ *config.Node,
			s []sight) {
			s[1].facts.Image = &Image{Error: "no such file"}
		}, []string{"fail b image"}, "no such file"},
		{"an image in use", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Image.InUse = true },
			[]string{"fail b image"}, "uses it"},
		{"an image in use by our guest", func(c *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Image.InUse = true
			s[2].facts.Installed = &Installed{Cluster: "x", Host: "c", Members: c.Node}
		}, nil, ""},
		{"another tool", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Other = "zsha" },
			[]string{"fail b other tools"}, "zsha"},
		{"one machine twice", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Machine = "uuid-a" },
			[]string{"fail  hosts"}, "same machine"},
		{"another architecture", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Arch = "arm64" },
			[]string{"fail  architecture"}, "arm64 on b"},
		{"another libvirt", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Libvirt = "8.0.0" },
			[]string{"warn  libvirt"}, "8.0.0 on b"},
		{"one network", func(_ *config.Cluster, _ *config.Node, s []sight) { s[1].facts.Link.Name = "br0" }, []string{"warn  networks"}, "br0"},
		{"half installed", func(c *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Installed = &Installed{Cluster: "x", Host: "b", Members: c.Node}
		}, nil, ""},
		{"a foreign cluster", func(_ *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Installed = &Installed{Cluster: "x", Host: "b", Members: []string{"192.0.2.2 b", "192.0.2.8 y", "192.0.2.9 z"}}
		}, []string{"fail b cluster"}, "192.0.2.8 y"},
		{"two clusters", func(c *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Installed = &Installed{Cluster: "x", Host: "b", Members: c.Node}
			s[2].facts.Installed = &Installed{Cluster: "y", Host: "c", Members: c.Node}
		}, []string{"fail  cluster"}, "x on b; y on c"},
		{"another name", func(c *config.Cluster, _ *config.Node, s []sight) {
			s[1].facts.Installed = &Installed{Cluster: "x", Host: "z", Members: c.Node}
		}, []string{"fail b installed"}, `"z"`},
	} {
		cfg, base, all := testConfig(), config.Node{}, good()
		c.edit(&cfg, &base, all)
		got := judge(cfg, base, all, nil, nil)
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

// TestSettings lets what an installation writes pass through the agent's parser.
func TestSettings(t *testing.T) {
	cfg := testConfig()
	cfg.Fencing.Hosts = map[string]config.HostFencing{"b": {Watchdog: "/dev/watchdog1"}}
	for _, h := range append(Members(cfg), Host{Name: "d", Addr: "192.0.2.4", Guests: true}) {
		n := Settings(cfg, h, "hf-1", config.Node{DataDir: "/data"})
		raw, err := indented(n)
		if err != nil {
			t.Fatal(err)
		}
		got, faults := config.ParseNode("agent.json", raw)
		if len(faults) > 0 {
			t.Errorf("%s: %v", h.Name, config.Faults(faults))
		}
		if got.DataDir != "/data" || got.GuestsOnly != h.Guests || len(got.Store.Endpoints) != 3 {
			t.Errorf("%s: %+v", h.Name, got)
		}
		if want := map[string]string{"a": "/dev/watchdog0", "b": "/dev/watchdog1", "c": "/dev/watchdog0",
			"d": config.NoWatchdog}[h.Name]; got.Watchdog.Device != want {
			t.Errorf("%s: watchdog %q, want %q", h.Name, got.Watchdog.Device, want)
		}
	}
}

// TestAuthorities makes certificates, and those that a host has stay.
func TestAuthorities(t *testing.T) {
	a, err := NewAuthorities("hf-1")
	if err != nil {
		t.Fatal(err)
	}
	h := Host{Name: "a", Addr: "192.0.2.1"}
	files, err := a.files(h, Facts{}, true)
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]File{}
	for _, f := range files {
		byPath[f.Path] = f
		if f.Mode&0o007 != 0 {
			t.Errorf("%s: mode %o: others may read it", f.Path, f.Mode)
		}
	}
	keys := map[string][]byte{}
	for _, name := range AuthorityFiles() {
		keys[name] = byPath[KeyDir+"/"+name].Data
	}
	if _, err := ReadAuthorities("a", keys); err != nil {
		t.Errorf("what a member keeps is not what the next installation needs: %v", err)
	}
	have := Facts{Certificates: map[string]string{}}
	for _, path := range CertificateFiles() {
		have.Certificates[path] = string(byPath[path].Data)
	}
	again, err := a.files(h, have, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range again {
		if strings.Contains(f.Path, "host") || strings.Contains(f.Path, "server") {
			t.Errorf("%s is made anew", f.Path)
		}
	}
	moved, err := a.files(Host{Name: "a", Addr: "192.0.2.9"}, have, true)
	if err != nil || !slices.ContainsFunc(moved, func(f File) bool { return f.Path == KeyDir+"/host.pem" }) {
		t.Errorf("another address: %v, want a new certificate", err)
	}
	guest, err := a.files(Host{Name: "g", Addr: "192.0.2.4", Guests: true}, Facts{}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range guest {
		if strings.HasSuffix(f.Path, "ca.key") {
			t.Errorf("a host that runs guests only gets %s", f.Path)
		}
	}
	have.Certificates["/etc/pki/qemu/ca-cert.pem"] = "theirs"
	for _, f := range must(a.files(h, have, true)) {
		if strings.HasPrefix(f.Path, "/etc/pki/qemu") {
			t.Errorf("%s of somebody else is replaced", f.Path)
		}
	}
}

func must(f []File, err error) []File {
	if err != nil {
		panic(err)
	}
	return f
}

// TestReportIsSorted: what failed comes first, and the form is the documented one.
func TestReportIsSorted(t *testing.T) {
	r := report([]Finding{{"a", "x", Pass, "", ""}, {"b", "y", Fail, "why", "what"}, {"a", "z", Warn, "", ""}})
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ok":false,"findings":[{"node":"b","check":"y","result":"fail","finding":"why","remedy":"what"},`
	if !strings.HasPrefix(string(raw), want) {
		t.Errorf("%s, want it to begin with %s", raw, want)
	}
	if raw, err := json.Marshal(report(nil)); err != nil || string(raw) != `{"ok":true,"findings":[]}` {
		t.Errorf("nothing found: %s, %v", raw, err)
	}
}

// TestDiagnoseAlone: of a host that has the program only, what needs no configuration is judged, and all that is not
// well has a remedy.
func TestDiagnoseAlone(t *testing.T) {
	q := QueryAlone("guest")
	if q.Socket != config.LibvirtSocket || len(q.Ports) != 4 || q.Image != "" || q.RBD != nil || q.Pair != nil {
		t.Errorf("%+v", q)
	}
	if q := QueryFor(testConfig(), config.Node{}, Host{Name: "a"}, "guest"); q.Socket != config.LibvirtSocket {
		t.Errorf("without settings it asks no libvirt: %+v", q)
	}
	process := config.Node{Driver: "process"}
	if q := QueryFor(testConfig(), process, Host{Name: "a"}, "guest"); q.Socket != "" {
		t.Errorf("the process driver needs no libvirt: %+v", q)
	}
	for _, f := range Diagnose(testConfig(), process, Host{Name: "a"}, Facts{}, time.Now(), nil).Findings {
		if f.Check == "libvirt" || f.Check == "kvm" {
			t.Errorf("the process driver needs no libvirt: %+v", f)
		}
	}
	r := DiagnoseAlone("h", Facts{
		Unknown: map[string]string{"libvirt": "no socket", "memory": "no", "space": "no", "firewall": "no"},
		Ports:   map[int]string{APIPort: "taken"},
		Space:   map[string]int64{"/var": 1}, Other: "Pacemaker",
	})
	bad := map[string]bool{}
	for _, f := range r.Findings {
		if bad[f.Check] = bad[f.Check] || f.Result != Pass; f.Result != Pass && f.Remedy == "" {
			t.Errorf("no remedy: %+v", f)
		}
		if f.Check == "image" || f.Check == "address" || f.Check == "certificate" {
			t.Errorf("a host without a configuration can not have this: %+v", f)
		}
	}
	for _, check := range []string{"rights", "systemd", "memory", "space", "time server", "watchdog", "libvirt",
		"ports", "firewall", "other tools", "settings"} {
		if !bad[check] {
			t.Errorf("%s is not told: %+v", check, r.Findings)
		}
	}
	well := DiagnoseAlone("h", Facts{Root: true, Systemd: true, Memory: 1 << 20, CPUs: 8, KVM: true,
		Clock: Clock{Synced: true}, Watchdogs: []string{"/dev/watchdog0"}, Firewall: &Firewall{}})
	if !well.OK || len(well.Findings) == 0 || well.Findings[0].Check != "settings" || well.Findings[1].Result != Pass {
		t.Errorf("%+v", well)
	}
}
