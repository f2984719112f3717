package protected

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// lacking are changes of the operator's domain that this host can not have, what the host says, and what
// mends that on the host; nil: nothing but another domain. folder is what hosts share, dir is the host's.
func lacking(t *testing.T, h *host, folder, dir string) []struct {
	name, old, new, want string
	spoil, mend          func()
} {
	t.Helper()
	file := func(name string) func() {
		return func() {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask := func(op, text string) func() { return func() { h.must(request{Op: op, Text: text}) } }
	screen := "<graphics type='vnc' port='5917' autoport='no' listen='127.0.0.1'/><sound"
	serial := "<serial type='unix'><source mode='bind' path='" + dir + "/serial.sock'/></serial><sound"
	return []struct {
		name, old, new, want string
		spoil, mend          func()
	}{
		{"a file for the guest", "<on_poweroff>", "<sysinfo type='fwcfg'><entry name='opt/org.test/a' file='" +
			dir + "/fw'/></sysinfo><on_poweroff>", "/domain/sysinfo/entry/@file " + dir + "/fw does not exist on this host", nil, file("fw")},
		{"a table of ACPI", "<bootmenu", "<acpi><table type='slic'>" + dir + "/slic</table></acpi><bootmenu",
			"/domain/os/acpi/table " + dir + "/slic does not exist", nil, file("slic")},
		{"a ROM", "<sound", "<interface type='user'><model type='virtio'/><rom file='" +
			dir + "/rom'/></interface><sound", "/domain/devices/interface/rom/@file " + dir + "/rom does not exist", nil, file("rom")},
		{"a log", "<sound", "<serial type='pty'><log file='" + dir + "/logs/a'/></serial><sound", dir + "/logs/a can not be made", nil, func() {
			if err := os.Mkdir(filepath.Join(dir, "logs"), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"a port", "<sound", screen, `/domain/devices/graphics/@port: value "5917": somebody listens at 127.0.0.1:5917`,
			ask("listen", "tcp 127.0.0.1:5917"), ask("hush", "")},
		{"a port at any address", "<sound", screen, `value "5917": somebody listens at [::]:5917`, ask("listen", "tcp :5917"), ask("hush", "")},
		{"a Unix socket", "<sound", serial, "somebody listens on " + dir + "/serial.sock",
			ask("listen", "unix "+dir+"/serial.sock"), ask("hush", "")},
		{"a peer", "<sound", strings.Replace(serial, "mode='bind'", "mode='connect'", 1),
			"nobody listens on " + dir + "/serial.sock", nil, ask("listen", "unix "+dir+"/serial.sock")},
		{"a network filter", "<sound", "<interface type='bridge'><source bridge='br0'/><filterref " +
			"filter='ours'/></interface><sound", "/domain/devices/interface/filterref/@filter: ask libvirtd for what " +
			"DomainXML needs: libvirt on this host has no network filter ours", nil, ask("filter", "<filter name='ours' chain='root'/>")},
		{"a bridge", "<sound", "<interface type='bridge'><source bridge='br7'/></interface><sound",
			"bridge br7 does not exist", nil, func() { h.IP("link", "add", "br7", "type", "bridge") }},
		{"a card", "<sound", "<interface type='direct'><source dev='dummy7' mode='bridge'/></interface><sound",
			"no network interface dummy7", nil, nil},
		{"a tap device", "<sound", "<interface type='ethernet'><target dev='mine7'/></interface><sound",
			"a network interface mine7 already", func() { h.IP("link", "add", "mine7", "type", "bridge") }, func() { h.IP("link", "del", "mine7") }},
		{"what lies behind a disk", "data.img", "top.img", dir + "/base.img does not exist on this host", func() {
			virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", dir+"/base.img", "4M")
			virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", dir+"/base.img", "-F", "qcow2", filepath.Join(folder, "top.img"))
			if err := os.Remove(dir + "/base.img"); err != nil {
				t.Fatal(err)
			}
		}, func() { virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", dir+"/base.img", "4M") }},
		{"variables of a firmware", "<bootmenu", "<loader readonly='yes' type='pflash'>" +
			dir + "/fw</loader><bootmenu", "libvirt on this host knows no variables for the firmware " + dir + "/fw", nil, func() {
			if err := os.WriteFile(filepath.Join(folder, testName+"_VARS.fd"), make([]byte, 1<<20), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"a processor", "cpuset='0'", "cpuset='4095'", `/domain/vcpu/@cpuset: value "4095": this host has the numbers 0`, nil, nil},
		{"a processor for a thread", "<on_poweroff>", "<cputune><vcpupin vcpu='0' " +
			"cpuset='4095'/></cputune><on_poweroff>", `/domain/cputune/vcpupin/@cpuset: value "4095"`, nil, nil},
		{"a NUMA node", "<on_poweroff>", "<numatune><memory mode='strict' nodeset='77'/></numatune><on_poweroff>",
			`/domain/numatune/memory/@nodeset: value "77": this host has the numbers 0`, nil, nil},
		{"huge pages", "<on_poweroff>", "<memoryBacking><hugepages><page size='3' " +
			"unit='MiB'/></hugepages></memoryBacking><on_poweroff>", "no huge pages of 3072 KiB", nil, nil},
		{"a secret", "data.img'/>", "data.img'><encryption format='luks'><secret type='passphrase' " +
			"uuid='0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'/></encryption></source>", "libvirt on this host has no secret 0a81f5b2", nil, nil},
		{"a network", "<sound", "<interface type='network'><source network='nowhere'/></interface><sound",
			"libvirt on this host has no network nowhere", nil, nil},
		{"a security model", "<on_poweroff>", "<seclabel type='dynamic' model='selinux' relabel='yes'/><on_poweroff>",
			"no security model selinux", nil, nil},
		{"a keymap", "<sound", "<graphics type='vnc' keymap='zz'/><sound", `no keymap "zz"`, nil, nil},
		{"randomness", "<sound", "<rng model='virtio'><backend model='random'>/dev/hwrng7</backend></rng><sound",
			"/domain/devices/rng/backend: this host has no such device", nil, nil},
		{"a vsock", "<sound", "<vsock model='virtio'><cid auto='yes'/></vsock><sound",
			"/domain/devices/vsock: this host has no such device: stat /dev/vhost-vsock", nil, nil},
	}
}

// TestOwnDomainNeeds: a host that lacks what the operator's domain names, or where somebody has what one alone
// can have, is not fit, with that word, and does not start it; once mended it is fit and starts it.
func TestOwnDomainNeeds(t *testing.T) {
	h := newHosts(t, 1)[0]
	h.IP("link", "set", "lo", "up")
	good := ownGuest(t)
	dir := t.TempDir()
	for _, c := range lacking(t, h, good.Folder, dir) {
		spec := good
		if spec.Domain = strings.Replace(good.Domain, c.old, c.new, 1); spec.Domain == good.Domain {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		if c.spoil != nil {
			c.spoil()
		}
		try.Until(t, "the host says "+c.want, func() bool { // libvirtd may ask all emulators first
			_, err := h.do(request{Op: "check", Spec: spec})
			return err != nil && strings.Contains(err.Error(), c.want)
		})
		_, err := h.do(request{Op: "start", Spec: spec})
		if !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), c.want) &&
			!strings.Contains(err.Error(), "libvirtd refused") {
			t.Errorf("%s: start says %v, want %q", c.name, err, c.want)
		}
		if c.mend == nil {
			continue
		}
		c.mend()
		if _, err := h.do(request{Op: "check", Spec: spec}); err != nil {
			t.Errorf("%s: mended, check says %v", c.name, err)
		}
	}
	h.must(request{Op: "hush"}) // the peer

	// The number of a vsock, as another guest's command line has it.
	spec := good
	spec.Domain = strings.Replace(good.Domain, "<sound", "<vsock model='virtio'><cid auto='no' address='77'/></vsock><sound", 1)
	h.must(request{Op: "sleep", Text: `{"driver":"vhost-vsock-pci","id":"vsock0","guest-cid":77,"vhostfd":"27"}`})
	says := func() string {
		_, err := h.do(request{Op: "check", Spec: spec})
		if err == nil {
			return ""
		}
		return err.Error()
	}
	try.Until(t, "the other guest is seen", func() bool {
		return strings.Contains(says(), `/domain/devices/vsock/cid/@address: value "77": process`)
	})
	h.must(request{Op: "wake-up"})
	try.Until(t, "the other guest is gone", func() bool { return !strings.Contains(says(), `value "77"`) })

	// What the guest itself has is not taken; what another process has is, also beside the guest.
	const one = "<graphics type='vnc' port='5917' autoport='no' listen='127.0.0.1'/><sound"
	wants := func(more string) { spec.Domain = strings.Replace(good.Domain, "<sound", more, 1) }
	wants("<serial type='unix'><source mode='bind' path='" +
		dir + "/mine.sock'/></serial><interface type='ethernet'><target dev='mine7'/></interface>" + one)
	h.must(request{Op: "start", Spec: spec})
	h.must(request{Op: "check", Spec: spec})
	for _, c := range []struct {
		more, want   string
		spoil, again func()
	}{
		{strings.Replace(one, "5917", "5918", 1), "somebody listens at 127.0.0.1:5918",
			func() { h.must(request{Op: "listen", Text: "tcp 127.0.0.1:5918"}) }, func() { h.must(request{Op: "hush"}) }},
		{"<serial type='unix'><source mode='bind' path='" + dir + "/other.sock'/></serial>" + one,
			"somebody listens on " + dir + "/other.sock",
			func() { h.must(request{Op: "listen", Text: "unix " + dir + "/other.sock"}) }, func() { h.must(request{Op: "hush"}) }},
		{"<interface type='ethernet'><target dev='other7'/></interface>" + one, "a network interface other7 already",
			func() { h.IP("link", "add", "other7", "type", "bridge") }, func() { h.IP("link", "del", "other7") }},
	} {
		wants(c.more)
		h.must(request{Op: "check", Spec: spec})
		c.spoil()
		if got := says(); !strings.Contains(got, c.want) {
			t.Errorf("beside the guest: %q, want %q", got, c.want)
		}
		c.again()
		h.must(request{Op: "check", Spec: spec})
	}
	h.must(request{Op: "kill"})
	h.must(request{Op: "check", Spec: spec})
}

// TestLooks: what can be told without libvirt.
func TestLooks(t *testing.T) {
	sys := t.TempDir()
	for file, text := range map[string]string{
		"devices/system/cpu/online": "0-3,8\n", "devices/system/node/has_memory": "0,2\n",
		"fs/cgroup/cgroup.controllers":                                 "cpuset cpu memory\n",
		"kernel/mm/hugepages/hugepages-2048kB/free_hugepages":          "100\n",
		"kernel/mm/hugepages/hugepages-2048kB/resv_hugepages":          "4\n",
		"kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages": "0\n",
		"kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages":       "0\n",
	} {
		path := filepath.Join(sys, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &Driver{opt: Options{SysDir: sys, ProcDir: "/proc"}, procs: procTable{dir: proc.Here}}
	for _, c := range []struct {
		need domainxml.Need
		want string // of the error; "": none
	}{
		{need: domainxml.Need{Kind: domainxml.CPUs, Value: "0-2,8"}},
		{need: domainxml.Need{Kind: domainxml.CPUs, Value: "3,4"}, want: "this host has the numbers 0-3,8 only"},
		{need: domainxml.Need{Kind: domainxml.CPUs, Value: "99999"}, want: "want numbers below 8192"},
		{need: domainxml.Need{Kind: domainxml.Nodes, Value: "2"}},
		{need: domainxml.Need{Kind: domainxml.Nodes, Value: "0-2"}, want: "this host has the numbers 0,2 only"},
		{need: domainxml.Need{Kind: domainxml.Cgroup, Value: "memory"}},
		{need: domainxml.Need{Kind: domainxml.Cgroup, Value: "io"}, want: `no controller "io"`},
		{need: domainxml.Need{Kind: domainxml.Hugepages, Value: "2048", MiB: 192}},
		{need: domainxml.Need{Kind: domainxml.Hugepages, Value: "2048", MiB: 193},
			want: "192 MiB of this host's huge pages of 2048 KiB are free, and 193 MiB are wanted"},
		{need: domainxml.Need{Kind: domainxml.Hugepages, Value: "1048576"}, want: "no huge pages of 1048576 KiB"},
		{need: domainxml.Need{Kind: domainxml.Program, Value: "sh"}},
		{need: domainxml.Need{Kind: domainxml.Program, Value: sys + "/devices/system/cpu/online"}, want: "can not be run"},
		{need: domainxml.Need{Kind: domainxml.Device, Value: "/dev/null"}},
		{need: domainxml.Need{Kind: domainxml.Device, Value: sys}, want: "is no device"},
		{need: domainxml.Need{Kind: domainxml.Made, Value: sys + "/a"}},
		{need: domainxml.Need{Kind: domainxml.Made, Value: sys + "/a/b"}, want: "can not be made"},
		{need: domainxml.Need{Kind: domainxml.Interface, Value: "../x"}, want: "want the name"},
		{need: domainxml.Need{Kind: "quantum", Value: "x"}, want: "can not look at"},
	} {
		err := d.lookAt(c.need, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.need, err, c.want)
		}
	}
	if err := os.Remove(filepath.Join(sys, "fs/cgroup/cgroup.controllers")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"blkio", "cpu,cpuacct"} {
		if err := os.Mkdir(filepath.Join(sys, "fs/cgroup", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, ok := range map[string]bool{"io": true, "cpu": true, "memory": false} {
		if err := d.checkController(name); (err == nil) != ok {
			t.Errorf("version 1, %s: %v", name, err)
		}
	}
}
