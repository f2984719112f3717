package guests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/testbed/need"
)

func TestReachableAddresses(t *testing.T) {
	card := func(mac string, addrs ...string) golibvirt.DomainInterface {
		n := golibvirt.DomainInterface{Name: "eth0"}
		if mac != "" {
			n.Hwaddr = golibvirt.OptString{mac}
		}
		for _, a := range addrs {
			n.Addrs = append(n.Addrs, golibvirt.DomainIPAddr{Addr: a})
		}
		return n
	}
	cards := []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}
	for _, c := range []struct {
		name  string
		found []golibvirt.DomainInterface
		want  string
	}{
		{"nothing", nil, "[]"},
		{"in their order", []golibvirt.DomainInterface{card("52:54:00:00:00:02", "2001:db8::2", "10.0.0.2"),
			card("52:54:00:00:00:01", "10.0.0.1")}, "[2001:db8::2 10.0.0.2 10.0.0.1]"},
		{"capitals, and twice", []golibvirt.DomainInterface{card("52:54:00:00:00:01", "10.0.0.1", "::ffff:10.0.0.1"),
			card(strings.ToUpper(cards[0]), "10.0.0.1")}, "[10.0.0.1]"},
		{"a bridge within the guest", []golibvirt.DomainInterface{card("02:42:ac:11:00:01", "172.17.0.1"),
			card("", "127.0.0.1", "10.9.9.9")}, "[]"},
		{"of no use elsewhere", []golibvirt.DomainInterface{card(cards[0], "127.0.0.1", "169.254.3.4", "fe80::1",
			"fe80::1%eth0", "0.0.0.0", "224.0.0.1", "::1")}, "[]"},
		{"no addresses at all", []golibvirt.DomainInterface{card(cards[0], "", "10.0.0", "10.0.0.1/24", "$(reboot)", "10.0.0.1\n")}, "[]"},
	} {
		if got := fmt.Sprint(reachable(c.found, cards)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestFleetFindsAddresses: the host has heard a guest whose agent is not there.
func TestFleetFindsAddresses(t *testing.T) {
	need.Drill(t, "the host has heard the addresses of guests whose agent is not there")
	dir := t.TempDir()
	sim := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	cards := func(n int) string {
		return fmt.Sprintf(`<interface type='bridge'><mac address='52:54:00:98:07:%02X'/><source bridge='br0'/><model type='virtio'/></interface>
			<interface type='bridge'><mac address='52:54:00:98:08:%02x'/><source bridge='br0'/><model type='virtio'/></interface>`, n, n)
	}
	guests := []small{
		{name: "heard", uuid: smallUUID(1), devices: cards(1)},
		{name: "unheard", uuid: smallUUID(2), devices: cards(2)},
		{name: "cardless", uuid: smallUUID(3)},
		{name: "off", uuid: smallUUID(4), devices: cards(4)},
		{name: "protected", uuid: smallUUID(99), devices: cards(99)},
	}
	for i, s := range guests {
		s.disks = diskXML(qcow2(t, filepath.Join(dir, fmt.Sprint(i))), "qcow2")
		sim.setUp("define", fleetRequest{XML: s.xml()})
		if s.name != "off" {
			sim.setUp("start", fleetRequest{UUID: s.uuid})
		}
	}
	for _, n := range []struct{ ip, mac string }{
		{"10.98.7.101", "52:54:00:98:07:01"}, {"10.98.7.102", "52:54:00:98:08:01"},
		{"10.98.7.104", "52:54:00:98:07:04"}, {"10.98.7.199", "52:54:00:98:07:63"},
	} {
		sim.IP("neigh", "replace", n.ip, "lladdr", n.mac, "dev", "br0", "nud", "permanent")
	}
	f, err := New(Options{Socket: "/proc/" + sim.PID() + "/root/run/libvirt/libvirt-sock",
		ProcDir: "/proc/" + sim.PID(), Protected: []string{smallUUID(99)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	ask := func(uuid string) ([]netip.Addr, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		return f.Addresses(ctx, uuid)
	}
	for uuid, want := range map[string]string{smallUUID(1): "[10.98.7.101 10.98.7.102]", smallUUID(2): "[]",
		smallUUID(3): "[]", smallUUID(99): "[10.98.7.199]"} {
		got, err := ask(uuid)
		slices.SortFunc(got, netip.Addr.Compare)
		if fmt.Sprint(got) != want || err != nil {
			t.Errorf("%s: %v, %v, want %s", uuid, got, err, want)
		}
	}
	for _, uuid := range []string{smallUUID(4), smallUUID(77), "x"} {
		if got, err := ask(uuid); err == nil {
			t.Errorf("%s: %v without an error", uuid, got)
		}
	}
	sim.signalQEMU(guests[0], syscall.SIGSTOP) // the host knows all the same
	if got, err := ask(smallUUID(1)); len(got) != 2 || err != nil {
		t.Errorf("of a guest that hangs: %v, %v", got, err)
	}
	sim.signalQEMU(guests[0], syscall.SIGCONT)
}

func TestHeardAddresses(t *testing.T) {
	proc := t.TempDir()
	f, err := New(Options{ProcDir: proc})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it has opened nothing
	if _, err := f.heard(nil); err == nil {
		t.Error("no error without a table")
	}
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := `IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         52:54:00:00:00:01     *        br0
10.0.0.2         0x1         0x0         52:54:00:00:00:01     *        br0
10.0.0.3         0x1         0x6         52:54:00:00:00:01     *        br1
10.0.0.4         0x1         0x2         52:54:00:00:00:09     *        br0
10.0.0.5         0x1         two         52:54:00:00:00:01     *        br0
`
	if err := os.WriteFile(filepath.Join(proc, "net/arp"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := f.heard([]string{"52:54:00:00:00:01"})
	if fmt.Sprint(got) != "[10.0.0.1 10.0.0.3]" || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
