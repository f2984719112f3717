package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"holdfast/internal/lib/network"
)

var (
	mac0 = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip4  = netip.MustParseAddr("10.0.0.5")
	ip6  = netip.MustParseAddr("fd00::12:3456")
)

func TestFramesAreReadAsTheyWereMade(t *testing.T) {
	for _, addr := range []netip.Addr{ip4, ip6} {
		c, ok := read(probe(mac0, addr))
		if !ok || c.addr != addr || !bytes.Equal(c.mac, mac0) || !c.asks {
			t.Errorf("the probe for %s is read as %+v, %v", addr, c, ok)
		}
		for i, f := range announcements(mac0, addr) {
			padded := append(bytes.Clone(f), make([]byte, 60)...) // Ethernet's shortest frame is padded
			c, ok := read(padded)
			if !ok || c.addr != addr || !bytes.Equal(c.mac, mac0) || c.asks {
				t.Errorf("announcement %d of %s is read as %+v, %v", i, addr, c, ok)
			}
		}
	}
	if n := len(announcements(mac0, ip4)); n != 2 {
		t.Errorf("%d announcements of an address of IPv4: want a request and a reply", n)
	}
}

// TestFramesOfTheStandards compares with frames that were composed by hand from the RFCs.
func TestFramesOfTheStandards(t *testing.T) {
	want := []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" +
		"\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x05")
	if got := probe(mac0, ip4); !bytes.Equal(got, want) {
		t.Errorf("ARP probe: got %x: want %x", got, want)
	}
	ns := probe(mac0, ip6)
	if dst := netip.AddrFrom16([16]byte(ns[38:54])); dst != netip.MustParseAddr("ff02::1:ff12:3456") ||
		!bytes.Equal(ns[:6], []byte{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}) {
		t.Errorf("the solicitation goes to %s, %x", dst, ns[:6])
	}
	na := announcements(mac0, ip6)[0]
	if dst := netip.AddrFrom16([16]byte(na[38:54])); dst != netip.MustParseAddr("ff02::1") ||
		!bytes.Equal(na[:6], []byte{0x33, 0x33, 0, 0, 0, 1}) || na[54+4] != 0x20 || len(na) != 54+32 {
		t.Errorf("the advertisement goes to %s: %x", dst, na)
	}
}

func TestFramesThatSayNothing(t *testing.T) {
	ask, tell, ns, na := probe(mac0, ip4), announcements(mac0, ip4)[1], probe(mac0, ip6), announcements(mac0, ip6)[0]
	change := func(f []byte, at int, with ...byte) []byte {
		f = bytes.Clone(f)
		copy(f[at:], with)
		return f
	}
	// summed makes the checksum right again.
	summed := func(f []byte) []byte {
		m := f[54 : 54+int(binary.BigEndian.Uint16(f[18:]))]
		m[2], m[3] = 0, 0
		binary.BigEndian.PutUint16(m[2:], checksum(netip.AddrFrom16([16]byte(f[22:38])), netip.AddrFrom16([16]byte(f[38:54])), m))
		return f
	}
	if _, ok := read(summed(bytes.Clone(na))); !ok {
		t.Fatal("this test breaks what it changes")
	}
	for what, f := range map[string][]byte{
		"nothing":                    nil,
		"a cut header":               ask[:13],
		"another protocol":           change(ask, 12, 0x08, 0x00),
		"ARP, cut":                   ask[:len(ask)-1],
		"ARP of another hardware":    change(ask, 14, 0, 6),
		"ARP of another protocol":    change(ask, 16, 0x86, 0xdd),
		"ARP with other lengths":     change(ask, 18, 8),
		"RARP":                       change(ask, 20, 0, 3),
		"an answer of nobody":        change(tell, 28, 0, 0, 0, 0),
		"a question for nobody":      change(ask, 38, 0, 0, 0, 0),
		"ARP from everybody":         change(tell, 22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"ARP from MAC zero":          change(tell, 22, 0, 0, 0, 0, 0, 0),
		"ND, cut":                    na[:len(na)-1],
		"ND that was routed":         change(na, 21, 254),
		"no ICMP":                    change(na, 20, 17),
		"a wrong checksum":           change(na, 56, na[56]^1),
		"another code":               summed(change(na, 55, 1)),
		"a router's advertisement":   summed(change(na, 54, 134)),
		"a multicast target":         summed(change(na, 62, 0xff)),
		"an option without a length": summed(change(na, 54+24+1, 0)),
		"an option that is too long": summed(change(na, 54+24+1, 2)),
		"solicited, to all":          summed(change(na, 58, 0x60)),
		"a length that is too small": change(ns, 18, 0, 23),
		"version 4":                  change(na, 14, 0x40),
	} {
		if c, ok := read(f); ok {
			t.Errorf("%s is read as %+v", what, c)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, addr := range []netip.Addr{ip4, ip6} {
		f.Add(probe(mac0, addr))
		for _, a := range announcements(mac0, addr) {
			f.Add(a)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		c, ok := read(b)
		if !bytes.Equal(was, b) {
			t.Error("it changes what it reads")
		}
		if ok && (len(c.mac) != network.MACSize || c.mac[0]&1 != 0 || !c.addr.IsValid() || c.addr.IsUnspecified()) {
			t.Errorf("%x is read as %+v", b, c)
		}
		clear(b)
		if ok && bytes.Equal(c.mac, make([]byte, network.MACSize)) {
			t.Error("the claim lies in the frame's buffer")
		}
	})
}
