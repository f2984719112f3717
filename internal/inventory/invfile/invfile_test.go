package invfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
)

const whole = `
format: 1
cluster: east
version: "1.4.0"
at: "2026-01-02T15:04:05Z"
running: ""
hosts:
- name: h1
  roles: [manager, host]
  labels: [tier=web, empty=]
  group: g
  memoryMiB: 65536
  cpus: 64
  cpuModel: skylake
  version: "1.4.0"
  kernel: "5.1"
  nextKernel: "6.1"
  boot: b
  install: i
  down: true
  maintenance: true
  pools: [{name: p, kind: iscsi, shared: true, paths: 1, active: true, use: template}]
  freeBytes: 10
  commands: [tree]
  skewMillis: -5
  linkMiBps: 1100
  member: true
- name: h2
  memoryMiB: 1
vms:
- {name: db, uuid: u, host: h1, memoryMiB: 8192, cpus: 2, running: true, dirty: 5, system: centos6.5, fixed: [a device], busy: backup, protected: true, addresses: [192.0.2.7, "2001:db8::7"], policy: stop}
pair: {nodes: [h1, h2], active: h2, switch: [s, x], stop: [a], start: [b], status: [c]}
ha: {switchOff: [x], switchOn: [on-program], status: [z]}
apart: [{name: g, vms: [db, h1/db]}]
backups:
- {name: web, provider: files, settings: {paths: [/srv/web], missing: true, maxBytes: 5}}
- {name: db, provider: mariadb}
status: {cluster: [/c, x], replication: [[/r], [/s, -v]], versionFile: /etc/v, backupDir: /b}
`

func TestParse(t *testing.T) {
	inv, faults := Parse([]byte(whole))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	h := inv.Hosts[0]
	want := inventory.Host{
		Name: "h1", Roles: []inventory.Role{"manager", "host"}, Labels: map[string]string{"tier": "web", "empty": ""},
		Group: "g", MemoryMiB: 65536, CPUs: 64,
		CPUModel: "skylake", Version: "1.4.0", Kernel: "5.1", NextKernel: "6.1", Boot: "b", Install: "i", Down: true, Maintenance: true,
		Pools:     []inventory.Pool{{Name: "p", Kind: "iscsi", Shared: true, Paths: 1, Active: true, Use: "template"}},
		FreeBytes: 10, Commands: []string{"tree"}, SkewMillis: -5, LinkMiBps: 1100, Member: true,
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("host %+v", h)
	}
	v := inventory.VM{
		Name: "db", UUID: "u", Host: "h1", MemoryMiB: 8192, CPUs: 2, Running: true, Dirty: 5, System: "centos6.5",
		Fixed: []string{"a device"}, Busy: "backup",
		Protected: true, Addresses: []string{"192.0.2.7", "2001:db8::7"}, Policy: "stop",
	}
	if !reflect.DeepEqual(inv.VMs, []inventory.VM{v}) {
		t.Errorf("VMs %+v", inv.VMs)
	}
	p := &inventory.Pair{Nodes: []cluster.HostID{"h1", "h2"}, Active: "h2", Switch: []string{"s", "x"},
		Stop: []string{"a"}, Start: []string{"b"}, Status: []string{"c"}}
	ha := &inventory.Switch{Off: []string{"x"}, On: []string{"on-program"}, Status: []string{"z"}}
	if !reflect.DeepEqual(inv.Pair, p) || !reflect.DeepEqual(inv.HA, ha) || inv.Cluster != "east" ||
		inv.Version != "1.4.0" || inv.At.Year() != 2026 {
		t.Errorf("inventory %+v", inv)
	}
	backups := map[string]inventory.BackupPlan{
		"web": {Provider: "files", Settings: json.RawMessage(`{"maxBytes":5,"missing":true,"paths":["/srv/web"]}`)}, "db": {Provider: "mariadb"},
	}
	status := inventory.Watched{Cluster: []string{"/c", "x"}, Replication: [][]string{{"/r"}, {"/s", "-v"}},
		VersionFile: "/etc/v", BackupDir: "/b"}
	if !reflect.DeepEqual(inv.Apart, []inventory.Apart{{Name: "g", VMs: []string{"db", "h1/db"}}}) {
		t.Errorf("apart %+v", inv.Apart)
	}
	if !reflect.DeepEqual(inv.Backups, backups) || !reflect.DeepEqual(inv.Status, status) {
		t.Errorf("backups %+v, status %+v", inv.Backups, inv.Status)
	}
}

// An overlay may leave out what agents report, and name hosts that are not in it.
func TestParseOverlay(t *testing.T) {
	if whole, faults := ParseOverlay([]byte(whole)); len(faults) > 0 || len(whole.Hosts) != 2 {
		t.Errorf("a whole inventory is no overlay: %v", faults)
	}
	inv, faults := ParseOverlay([]byte("format: 1\nhosts: [{name: h2, labels: [a=b]}]\nvms: [{name: v, policy: " +
		"stop}, {name: w, host: h9}]\npair: {nodes: [h1, h2], active: h1, switch: [/s]}"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if inv.Hosts[0].Labels["a"] != "b" || inv.VMs[0].Policy != inventory.PolicyStop || inv.Pair == nil || inv.Version != "" {
		t.Errorf("%+v", inv)
	}
	if inv, faults := ParseOverlay([]byte("format: 1\nvms: [{name: v, host: a}, {name: v, host: b}, {name: v, uuid: " +
		"u}, {name: v, uuid: w, host: c}]")); len(faults) > 0 || len(inv.VMs) != 4 {
		t.Errorf("guests of one name: %+v, %v", inv, faults)
	}
	if inv, faults := ParseOverlay([]byte("format: 1")); len(faults) > 0 || !reflect.DeepEqual(inv, inventory.Inventory{}) {
		t.Errorf("%+v, %v", inv, faults)
	}
	for text, want := range map[string]string{
		"x: 1":                                 `2:1: x: value "x": unknown field`,
		"running: v":                           `2:10: running: value "v": want none: the cluster knows it`,
		"hosts: [{name: a}, {name: a}]":        `2:27: hosts[1].name: value "a": want a name that no other host has`,
		"vms: [{name: v, policy: x}]":          `2:25: vms[0].policy: value "x": want ask`,
		"vms: [{name: v}, {name: v}]":          `2:25: vms[1].name: value "v": want a name that no other VM has, or tell them apart by uuid or host`,
		"vms: [{name: v}, {name: v, uuid: u}]": `2:25: vms[1].name: value "v": want a name that no other VM has, or`,
		"vms: [{name: v, host: a}, {name: v}]": `2:34: vms[1].name: value "v": want a name that no other VM has, or`,
		`pair: {nodes: [a, ""], active: a}`:    `2:19: pair.nodes[1]: value "": want the name of a host`,
	} {
		if _, faults := ParseOverlay([]byte("format: 1\n" + text)); len(faults) == 0 || !strings.HasPrefix(fmt.Sprint(faults[0]), want) {
			t.Errorf("%s: %v, want %s", text, faults, want)
		}
	}
}

// Every field of the inventory can be given: one that is added there must be added here.
func TestEveryFieldIsThere(t *testing.T) {
	for _, pair := range [][2]any{{inventory.Inventory{}, doc{}}, {inventory.Host{}, host{}}, {inventory.VM{}, vm{}}} {
		names := func(x any) map[string]bool {
			out := map[string]bool{}
			for _, f := range reflect.VisibleFields(reflect.TypeOf(x)) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name != "-" { // what is not of a file
					out[name] = true
				}
			}
			return out
		}
		have := names(pair[1])
		for n := range names(pair[0]) {
			if !have[n] {
				t.Errorf("%T: the file has no field %s", pair[0], n)
			}
		}
	}
}

func TestFaults(t *testing.T) {
	base := "format: 1\nversion: v\nhosts:\n- {name: a, memoryMiB: 1}\n"
	for text, want := range map[string]string{
		"":                    `(file): value "": want fields such as format, version, hosts: there are none in the file`,
		base + "x: 1\n":       `x: value "x": unknown field`,
		base + "version: w\n": `version: value "w": duplicate key`,
		base + "vms: [{name: v, host: a, addresses: [192.0.2.1, here]}]\n":    `vms[0].addresses[1]: value "here": want an IP address at which other hosts reach it`,
		base + "vms: [{name: v, host: a, addresses: [127.0.0.1]}]\n":          `vms[0].addresses[0]: value "127.0.0.1": want an IP address`,
		base + "apart: [{name: g, vms: [x]}]\n":                               `apart[0].vms: value "x": want two VMs at least`,
		base + "apart: [{name: g, vms: [x, z]}]\n":                            `apart[0].vms[0]: value "x": want the UUID, the place (HOST/NAME) or the name of a VM of this file`,
		base + "vms: [{name: v, host: a}]\napart: [{name: g, vms: [v, v]}]\n": `apart[0].vms[1]: value "v": want each VM once`,
		base + "vms: [{name: v, host: a}]\napart: [{vms: [v, a/v]}]\n":        `apart[0].name: value "": want a name that no other group has`,
		base + "- {name: a}\n":                                                     `hosts[1].name: value "a": want a name that no other host has`,
		base + "- {name: 5}\n":                                                     `hosts[1].name: value "5": want a string`,
		base + "- {name: -x}\n":                                                    `hosts[1].name: value "-x": want a host name`,
		base + "- {name: b, memoryMiB: -1}\n":                                      `hosts[1].memoryMiB: value "-1": want 0 or more`,
		base + "- {name: b, memoryMiB: 1.5}\n":                                     `hosts[1].memoryMiB: value "1.5": want a whole number`,
		base + "- {name: b, roles: [king]}\n":                                      `hosts[1].roles[0]: value "king": want manager or host`,
		base + "- {name: b, labels: [x]}\n":                                        `hosts[1].labels[0]: value "x": want KEY=VALUE`,
		base + "- {name: b, labels: [x=1, x=2]}\n":                                 `hosts[1].labels[1]: value "x=2": want KEY=VALUE, each key once`,
		base + "- {name: b, pools: [{kind: x}]}\n":                                 `hosts[1].pools[0].name: value "": want a name`,
		base + "vms: [{name: v, host: z}]\n":                                       `vms[0].host: value "z": want the name of a host`,
		base + "vms: [{name: v, host: a}, {name: v, host: a}]\n":                   `vms[1].name: value "v": want a name that no other VM of the host has`,
		base + "vms: [{name: v, uuid: u, host: a}, {name: w, uuid: u, host: a}]\n": `vms[1].uuid: value "u": want a UUID that no other VM has`,
		base + "vms: [{name: v, host: a, policy: never}]\n":                        `vms[0].policy: value "never"`,
		base + "pair: {nodes: [a], active: b}\n":                                   `pair.nodes: value "[a]": want two hosts`,
		base + "ha: {switchOff: [x]}\n":                                            `ha.switchOn: value "": want a program`,
		base + "components: [a, a]\n":                                              `components[1]: value "a": want the name of a component`,
		base + "backups: [{provider: x}]\n":                                        `backups[0].name: value "": want a name`,
		base + "backups: [{name: a, provider: x}, {name: a, provider: x}]\n":       `backups[1].name: value "a": want a name that no other backup has`,
		base + "backups: [{name: a}]\n":                                            `backups[0].provider: value "": want files`,
		base + "backups: [{name: a, provider: x, settings: [1]}]\n":                `backups[0].settings: value "[1]": want names with values`,
		base + "backups: [{name: a, provider: x, settings: {b: 1, b: 2}}]\n":       `backups[0].settings.b: value "2": duplicate key`,
		base + "status: {cluster: [c]}\n":                                          `status.cluster: value "[c]": want the absolute path`,
		base + "status: {replication: [[/a], []]}\n":                               `status.replication[1]: value "[]": want the absolute path`,
		base + "status: {versionFile: v}\n":                                        `status.versionFile: value "v": want an absolute path`,
		"format: 2\nversion: v\nhosts: []\n":                                       `hosts: value "": want at least one host`,
		"a: [":                                                                     `malformed YAML`,
	} {
		_, faults := Parse([]byte(text))
		var all []string
		for _, f := range faults {
			all = append(all, fmt.Sprintf("%s: value %q: %s", f.Path, f.Value, f.Want))
		}
		if got := strings.Join(all, "\n"); !strings.Contains(got, want) {
			t.Errorf("%q: faults %q, want %q", text, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inv.yaml")
	if _, err := Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if inv, err := Load(file); err != nil || len(inv.Hosts) != 2 {
		t.Errorf("%v, %d hosts", err, len(inv.Hosts))
	}
	if inv, err := LoadOverlay(file); err != nil || len(inv.Hosts) != 2 {
		t.Errorf("overlay: %v, %d hosts", err, len(inv.Hosts))
	}
	if err := os.WriteFile(file, []byte("format: 9"), 0o600); err != nil {
		t.Fatal(err)
	}
	var faults *Faults
	if _, err := Load(file); !errors.As(err, &faults) || len(faults.Faults) != 3 ||
		!strings.HasPrefix(err.Error(), file+`:1:9: format: value "9"`) {
		t.Errorf("faults: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("format: 1\nhosts: [{name: a}]\nvms: [{name: x, host: a}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if over, faults := ParseOverlay(text); len(faults) == 0 {
			if inv, err := upgrade.Overlay(inventory.Inventory{Hosts: over.Hosts}, over); err == nil && len(inv.Hosts) != len(over.Hosts) {
				t.Errorf("%d hosts of %d", len(inv.Hosts), len(over.Hosts))
			}
		}
		inv, faults := Parse(text)
		if len(faults) > 0 {
			return
		}
		// What is accepted can be planned with, or is refused with a reason.
		m := manifest.Manifest{Name: "x", Version: "2",
			Modules: []manifest.Module{{Name: "m", Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"x"}}}}}}
		for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Reboot, manifest.Offline} {
			p, err := upgrade.Build(m, inv, upgrade.Options{Mode: mode})
			if err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			if _, err := p.Encode(); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		}
	})
}

// TestPage looks up every field in docs/inventory.md.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []any{doc{}, host{}, vm{}, inventory.Apart{}, inventory.Pool{}, inventory.Pair{}, ha{},
		backupPlan{}, inventory.Watched{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(part)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !regexp.MustCompile("[`.]" + name + "(\\[\\])?`").Match(page) {
				t.Errorf("docs/inventory.md does not name %s of %T", name, part)
			}
		}
	}
}
