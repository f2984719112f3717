package hostports

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// rig is a real switch with the ports of a document's host as Nova and Neutron leave them there.
type rig struct {
	*ovstest.Switch
	d *net.Document
}

// newRig makes three ports of cmp00: of a guest whose tap is on br-int, of one that has a Linux bridge of its own, and
// of DHCP. Numbers of OpenFlow are 1 to 3.
func newRig(t *testing.T) *rig {
	r := &rig{ovstest.New(t), nettest.Platform(1, 6)}
	r.d.Ports = []net.Port{r.d.Ports[0], r.d.Ports[2], r.d.Ports[4]}
	yes, no := true, false
	for i := range r.d.Ports {
		p := &r.d.Ports[i]
		p.ID = fmt.Sprintf("6%d%s", i, p.ID[2:])
	}
	r.d.Ports[0].VIFDetails.HybridPlug, r.d.Ports[1].VIFDetails.HybridPlug = &no, &yes
	r.d.Ports[2].DeviceOwner, r.d.Ports[2].PortSecurity, r.d.Ports[2].Groups = "network:dhcp", false, nil
	r.Bridge(t, "br-int", "OpenFlow10,OpenFlow13,OpenFlow14")
	direct, hybrid, own := r.d.Ports[0], r.d.Ports[1], r.d.Ports[2]
	r.tap(t, r.name("tap", 0))
	r.port(t, direct, r.name("tap", 0), 1, "")
	r.IP(t, "link", "add", r.name("qbr", 1), "type", "bridge")
	r.IP(t, "link", "add", r.name("qvb", 1), "type", "veth", "peer", "name", r.name("qvo", 1))
	r.tap(t, r.name("tap", 1))
	for _, l := range []string{"qvb", "tap"} {
		r.IP(t, "link", "set", r.name(l, 1), "master", r.name("qbr", 1))
	}
	for _, l := range []string{"qvb", "qvo", "qbr"} {
		r.IP(t, "link", "set", r.name(l, 1), "up")
	}
	r.port(t, hybrid, r.name("qvo", 1), 2, "")
	r.port(t, own, r.name("tap", 2), 3, "internal")
	r.Add(t, "br-int", 1,
		"table=0,priority=9,in_port=1 actions=resubmit(,25)", "table=60,priority=100,in_port=1 actions=set_field:0x1->reg5,resubmit(,71)",
		"table=71,priority=95,arp,reg5=0x1,in_port=1 actions=resubmit(,94)", "table=81,priority=100,arp,reg5=0x1 actions=output:1",
		"table=0,priority=9,in_port=2 actions=resubmit(,25)", "table=0,priority=3 actions=NORMAL",
		"table=60,priority=100,in_port=11 actions=output:12")
	return r
}

func (r *rig) name(prefix string, port int) string { return prefix + r.d.Ports[port].ID[:11] }

func (r *rig) tap(t *testing.T, name string) {
	r.IP(t, "tuntap", "add", "dev", name, "mode", "tap")
	r.IP(t, "link", "set", name, "up")
}

// port adds an interface to br-int, as libvirt, Nova and Neutron's agents do, and notes what its agent notes.
func (r *rig) port(t *testing.T, p net.Port, name string, number int, kind string) {
	r.Run(t, "ovs-vsctl", "--timeout=15", "add-port", "br-int", name, "tag=1", "other_config:net_uuid="+p.NetworkID,
		"other_config:network_type=vlan",
		"other_config:physical_network=physnet1", "other_config:segmentation_id=200", "other_config:tag=1",
		"--", "set", "interface", name, `type="`+kind+`"`, fmt.Sprintf("ofport_request=%d", number),
		"external_ids:iface-id="+p.ID, "external_ids:iface-status=active",
		`external_ids:attached-mac="`+p.MACAddress+`"`, "external_ids:vm-uuid="+p.DeviceID)
}

// guest starts a process that looks like the QEMU of a guest.
func guest(t *testing.T, uuid string) {
	cmd := exec.Command("sh", "-c", "read -r x", "sh", "-name", "guest=x", "-uuid", uuid)
	cmd.Args[0] = "qemu-system-x86_64"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	try.Must(t, err)
	try.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // it ends by that
		_ = cmd.Wait() // with 1, as it read no line
	})
}

// compared is what is told of the host as it is, a difference a word: the port's first two characters, field and severity.
func (r *rig) compared(t *testing.T) string {
	t.Helper()
	var h *net.Host
	try.Must(t, r.Inside(func() (err error) { h, err = Look(try.Context(t), "cmp00"); return err }))
	var out []string
	for _, d := range net.CompareHost(r.d, h) {
		out = append(out, d.ID[:2]+"/"+d.Field+"/"+d.Severity)
	}
	return strings.Join(out, " ")
}

// iptables has the chains of the agent for the hybrid port, or skips.
func (r *rig) iptables(t *testing.T) {
	for _, way := range []string{"i", "o", "s"} {
		try.Must(t, r.Inside(func() error {
			out, err := exec.Command("iptables", "-N", "neutron-openvswi-"+way+r.d.Ports[1].ID[:10]).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("iptables: %w: %s", err, out)
			}
			return err
		}))
	}
}

// TestRealHost: a host that is as the document has it is told to be so; what is changed on a real switch and in the
// kernel is told.
func TestRealHost(t *testing.T) {
	need.Drill(t, "360, network: what differs on a host of Neutron's, on a real switch and in the kernel, is told",
		need.Root, need.Programs("iptables", "iptables", "iptables-save"))
	r := newRig(t)
	guest(t, r.d.Ports[0].DeviceID)
	guest(t, r.d.Ports[1].DeviceID)
	// A tap that no process has open has no carrier.
	const off = "60/link_state/warning"
	if got := r.compared(t); got != off+" 61/firewall/error" {
		t.Fatalf("without iptables' chains: %s", got)
	}
	r.iptables(t)
	if got := r.compared(t); got != off {
		t.Fatalf("a host as the document has it: %s", got)
	}
	vsctl := func(args ...string) { t.Helper(); r.Run(t, append([]string{"ovs-vsctl", "--timeout=15"}, args...)...) }
	for _, c := range []struct {
		name     string
		do, undo func()
		want     string
	}{
		{"Neutron says hybrid of all", func() { *r.d.Ports[0].VIFDetails.HybridPlug = true },
			func() { *r.d.Ports[0].VIFDetails.HybridPlug = false }, off + " 60/binding:vif_details/error"},
		{"the dead VLAN", func() {
			vsctl("set", "port", r.name("qvo", 1), "tag=4095")
			r.Add(t, "br-int", 7, "table=0,priority=2,in_port=2 actions=drop")
		}, func() { vsctl("set", "port", r.name("qvo", 1), "tag=1"); r.Delete(t, "br-int", 7) }, off + " 61/tag/error 61/flows/error"},
		{"no tag", func() { vsctl("clear", "port", r.name("tap", 2), "tag") },
			func() { vsctl("set", "port", r.name("tap", 2), "tag=1") }, off + " 62/tag/error"},
		{"another guest's MAC address", func() { vsctl("set", "interface", r.name("tap", 0), `external_ids:attached-mac="fa:16:3e:00:00:99"`) },
			func() {
				vsctl("set", "interface", r.name("tap", 0), `external_ids:attached-mac="`+r.d.Ports[0].MACAddress+`"`)
			}, "60/mac_address/error " + off},
		{"the pair is off the bridge", func() { r.IP(t, "link", "set", r.name("qvb", 1), "nomaster") },
			func() { r.IP(t, "link", "set", r.name("qvb", 1), "master", r.name("qbr", 1)) }, off + " 61/qvb/error"},
		{"the guest's tap is off the bridge", func() { r.IP(t, "link", "set", r.name("tap", 1), "nomaster") },
			func() { r.IP(t, "link", "set", r.name("tap", 1), "master", r.name("qbr", 1)) }, off + " 61/tap/error"},
		{"no flows of the firewall", func() {
			r.Run(t, "ovs-ofctl", "del-flows", "br-int", "table=60")
			r.Run(t, "ovs-ofctl", "del-flows", "br-int", "table=71")
			r.Run(t, "ovs-ofctl", "del-flows", "br-int", "table=81")
		},
			func() {
				r.Add(t, "br-int", 1, "table=60,priority=100,in_port=1 actions=set_field:0x1->reg5,resubmit(,71)")
			}, off + " 60/firewall/warning"},
		{"qvo and tap on br-int at once", func() {
			r.IP(t, "link", "add", r.name("qvb", 0), "type", "veth", "peer", "name", r.name("qvo", 0))
			r.port(t, r.d.Ports[0], r.name("qvo", 0), 9, "")
		}, func() { vsctl("del-port", r.name("qvo", 0)); r.IP(t, "link", "del", r.name("qvb", 0)) }, "60/interface/error " + off},
		{"an interface of no port", func() {
			p := r.d.Ports[0]
			p.ID = "6f" +
				p.ID[2:]
			r.port(t, p, "tapx", 8, "internal")
		}, func() { vsctl("del-port", "tapx") }, off + " 6f/object/error"},
		{"no interface", func() { vsctl("del-port", r.name("tap", 2)) },
			func() { r.port(t, r.d.Ports[2], r.name("tap", 2), 3, "internal") }, off + " 62/object/error"},
	} {
		c.do()
		if got := r.compared(t); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		c.undo()
		if got := r.compared(t); got != off {
			t.Fatalf("%s: afterwards: %s", c.name, got)
		}
	}
}

// TestNoSwitch: without Open vSwitch the error says so.
func TestNoSwitch(t *testing.T) {
	t.Setenv("OVS_RUNDIR", t.TempDir())
	if _, err := Look(try.Context(t), "cmp00"); fail.ExitCode(err) != fail.ExitUnavailable {
		t.Errorf("%v: want it not reachable", err)
	}
}
