package network

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
)

// TestRouteTo: on a host with a cable and a router at its end.
func TestRouteTo(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	here, _ := nettest.Cable(t)
	here.IP(t, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
	here.IP(t, "route", "add", "unreachable", "203.0.113.0/24")
	on := func(addr string) (r Route, err error) {
		err = here.Do(func() error { r, err = RouteTo(netip.MustParseAddr(addr)); return err })
		return r, err
	}
	var eth0 *net.Interface
	if err := here.Do(func() (err error) { eth0, err = net.InterfaceByName("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	source := netip.MustParseAddr("192.0.2.1")
	for addr, direct := range map[string]bool{"192.0.2.77": true, "198.51.100.7": false} {
		if r, err := on(addr); err != nil || r != (Route{eth0.Index, direct, source}) {
			t.Errorf("%s: %+v, %v", addr, r, err)
		}
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.255", "203.0.113.1", "8.8.8.8", "127.0.0.1"} {
		r, err := on(addr)
		var no unix.Errno
		if !errors.As(err, &no) {
			t.Errorf("%s: %+v, %v: want no way", addr, r, err)
		}
	}
	if r, err := on("2001:db8::2"); err == nil {
		t.Errorf("an address of IPv6: %+v", r)
	}
}

func FuzzReadRoute(f *testing.F) {
	rtmsg := append([]byte{unix.AF_INET, 32}, make([]byte, unix.SizeofRtMsg-2)...)
	rtmsg[7] = unix.RTN_UNICAST
	f.Add(Attribute(Attribute(rtmsg, unix.RTA_OIF, []byte{1, 0, 0, 0}), unix.RTA_PREFSRC, []byte{10, 0, 0, 1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRoute(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWROUTE}, Data: b})
		if err == nil && (r.Index == 0 || !r.Source.Is4()) {
			t.Errorf("%x is read as %+v", b, r)
		}
	})
}
