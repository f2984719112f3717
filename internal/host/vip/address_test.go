package vip

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"holdfast/internal/lib/network"
)

func TestChoose(t *testing.T) {
	at := func(p string, ours bool) entry {
		x := netip.MustParsePrefix(p)
		return entry{addr: x.Addr(), bits: x.Bits(), ours: ours}
	}
	on := func(name string, flags net.Flags, es ...entry) port {
		return port{net.Interface{Name: name, Flags: flags | net.FlagUp, HardwareAddr: make(net.HardwareAddr, network.MACSize)}, es}
	}
	lo := on("lo", net.FlagLoopback, at("127.0.0.1/8", false), at("10.1.0.9/16", false))
	a, b := on("eth0", 0, at("10.1.0.1/16", false), at("fd00::1/64", false)),
		on("eth1", 0, at("10.1.9.1/24", false), at("fd00:1::1/64", false))
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
		{"10.1.9.5/16", []port{lo, a, b}, "", "", "more than one interface has an address in 10.1.0.0/16: eth0, " +
			"eth1; say which: 10.1.9.5/16 dev eth0"},
		{"10.1.9.5/16 dev eth1", []port{lo, a, b}, "", "eth1", ""},
		{"10.1.9.5/24", []port{lo, a, b}, "", "eth1", ""},
		// eth1's subnet is smaller
		{"10.1.0.5/16 dev eth1", []port{lo, a, b}, "", "", "eth1 has no address that is in one subnet with it, 10.1.0.0/16"},
		{"10.1.0.5/16 dev eth7", []port{lo, a, b}, "", "", "no interface eth7"},
		{"10.2.0.5/16", []port{lo, a, b}, "", "", "no interface of this host has an address that is in one subnet with it, 10.2.0.0/16"},
		{"fd00:1::5/64", []port{lo, a, b}, "", "eth1", ""},
		{"10.1.0.1/16", []port{lo, a, b}, "", "", "something else has set the address on this host, as 10.1.0.1/16 on eth0"},
		{"10.1.0.9/16", []port{lo, a, b}, "", "", "as 10.1.0.9/16 on lo"},
		{"10.1.0.5/16", []port{a}, "10.1.0.5", "", "the other node's own address"},
		{"10.9.0.5/24", []port{tun}, "", "", "no Ethernet"},
		{"10.1.9.5/16", []port{vip}, "", "eth0", ""},
		{"10.1.9.6/32", []port{vip}, "", "", "no interface"}, // never by a virtual address alone
	} {
		p, dev0, _ := strings.Cut(c.text, " dev ")
		x := network.VIP{Prefix: netip.MustParsePrefix(p), Dev: dev0}
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
