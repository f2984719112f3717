package vip

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want, fault string }{
		{"172.16.60.55/16", "172.16.60.55/16", ""},
		{"fd00::5/64", "fd00::5/64", ""},
		{"  10.0.0.5/24   dev  br-mgmt ", "10.0.0.5/24 dev br-mgmt", ""},
		{"172.16.0.0/12", "", "that is the address of the subnet itself"},
		{"172.16.255.255/16", "", "broadcast"},
		{"172.16.255.255/12", "172.16.255.255/12", ""},
		{"10.0.0.7/29", "", "broadcast"},
		{"fd00::/64", "", "the subnet itself"},
		{"224.0.0.5/24", "", "multicast"},
		{"255.255.255.255/24", "", "broadcast"},
		{"ff02::1/64", "", "multicast"},
		{"127.0.0.5/8", "", "loopback"},
		{"::1/64", "", "loopback"},
		{"0.0.0.0/8", "", "no machine's"},
		{"0.1.2.3/8", "", "no machine's"},
		{"::/64", "", "no machine's"},
		{"fe80::5/64", "", "one link"},
		{"::ffff:10.0.0.5/120", "", "its own form"},
		{"10.0.0.5/31", "", "8 to 30"},
		{"10.0.0.5/7", "", "8 to 30"},
		{"fd00::5/127", "", "16 to 126"},
		{"10.0.0.5/33", "", "prefix length out of range"},
		{"10.0.0.5", "", "no '/'"},
		{"10.0.0.05/24", "", "leading zero"},
		{"fd00::5%eth0/64", "", "zones"},
		{"", "", "other words"},
		{"10.0.0.5/24 eth0", "", "other words"},
		{"10.0.0.5/24 dev", "", "other words"},
		{"10.0.0.5/24 dev eth0 up", "", "other words"},
		{"10.0.0.5/24 dev a-name-of-16-byt", "", "can not be the name of an interface"},
		{"10.0.0.5/24 dev a/b", "", "can not be the name of an interface"},
		{"10.0.0.5/24 dev eth0:1", "", "can not be the name of an interface"},
	} {
		a, err := Parse(c.text)
		switch {
		case c.fault == "" && (err != nil || a.String() != c.want):
			t.Errorf("%q: got %s, %v: want %s", c.text, a, err, c.want)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "allowed:")):
			t.Errorf("%q: got %s, %v: want an error with %q and what is allowed", c.text, a, err, c.fault)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"172.16.60.55/16", "fd00::5/64 dev eth0", "::ffff:1.2.3.4/100", "10.0.0.5/24 dev", "10.255.255.255/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(a.String()); err != nil || again != a {
			t.Errorf("%q is %s, which is read as %s, %v", s, a, again, err)
		}
		if addr := a.Prefix.Addr(); addr.IsMulticast() || addr.IsLoopback() || addr.IsUnspecified() || addr == a.Prefix.Masked().Addr() {
			t.Errorf("%q: %s is no machine's address", s, addr)
		}
	})
}

func TestChoose(t *testing.T) {
	at := func(p string, ours bool) entry {
		x := netip.MustParsePrefix(p)
		return entry{addr: x.Addr(), bits: x.Bits(), ours: ours}
	}
	on := func(name string, flags net.Flags, es ...entry) port {
		return port{net.Interface{Name: name, Flags: flags | net.FlagUp, HardwareAddr: make(net.HardwareAddr, macSize)}, es}
	}
	lo := on("lo", net.FlagLoopback, at("127.0.0.1/8", false), at("10.1.0.9/16", false))
	a, b := on("eth0", 0, at("10.1.0.1/16", false), at("fd00::1/64", false)), on("eth1", 0, at("10.1.9.1/24", false), at("fd00:1::1/64", false))
	tun := on("tun0", 0, at("10.9.0.1/24", false))
	tun.HardwareAddr = nil
	vip := on("eth0", 0, at("10.1.0.1/16", false), at("10.1.9.5/32", true))
	for _, c := range []struct {
		text       string
		ports      []port
		others     string
		want, says string
	}{
		{"10.1.0.5/16", []port{lo, a, b}, "", "eth0", ""},
		{"10.1.9.5/16", []port{lo, a, b}, "", "", "more than one interface has an address in 10.1.0.0/16: eth0, eth1; say which: 10.1.9.5/16 dev eth0"},
		{"10.1.9.5/16 dev eth1", []port{lo, a, b}, "", "eth1", ""},
		{"10.1.9.5/24", []port{lo, a, b}, "", "eth1", ""},
		{"10.1.0.5/16 dev eth1", []port{lo, a, b}, "", "", "eth1 has no address that is in one subnet with it, 10.1.0.0/16"}, // eth1's subnet is smaller
		{"10.1.0.5/16 dev eth7", []port{lo, a, b}, "", "", "no interface eth7"},
		{"10.2.0.5/16", []port{lo, a, b}, "", "", "no interface of this host has an address that is in one subnet with it, 10.2.0.0/16"},
		{"fd00:1::5/64", []port{lo, a, b}, "", "eth1", ""},
		{"10.1.0.1/16", []port{lo, a, b}, "", "", "this host has the address by somebody else, as 10.1.0.1/16 on eth0"},
		{"10.1.0.9/16", []port{lo, a, b}, "", "", "as 10.1.0.9/16 on lo"},
		{"10.1.0.5/16", []port{a}, "10.1.0.5", "", "the other node's own address"},
		{"10.9.0.5/24", []port{tun}, "", "", "no Ethernet"},
		{"10.1.9.5/16", []port{vip}, "", "eth0", ""},
		{"10.1.9.6/32", []port{vip}, "", "", "no interface"}, // never by a virtual address alone
	} {
		p, dev0, _ := strings.Cut(c.text, " dev ")
		x := Address{netip.MustParsePrefix(p), dev0}
		var others []netip.Addr
		if c.others != "" {
			others = append(others, netip.MustParseAddr(c.others))
		}
		dev, err := choose(x, c.ports, others)
		if dev.Name != c.want || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) || c.says == "" && err != nil {
			t.Errorf("%s: got %q, %v: want %q, %q", c.text, dev.Name, err, c.want, c.says)
		}
		if strings.Contains(c.says, "as 10.1.") != errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v: does it wrap %q?", c.text, err, ErrForeign)
		}
	}
}
